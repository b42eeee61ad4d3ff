"""Which device and numbers are chosen, what is refused, and that a verb is told."""

import logging
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from hfgen import devices, kernels
from hfgen.cli import main
from hfgen.devices import Compute, choose, choose_device
from hfgen.errors import SettingsError
from hfgen.launch import _LOCAL_SIZES


@pytest.fixture(autouse=True)
def _nothing_was_said():
    devices._say.cache_clear()


def _cards(monkeypatch: pytest.MonkeyPatch, count: int, *, mps: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


def test_auto_takes_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch):
    _cards(monkeypatch, 0)
    assert choose_device() == torch.device("cpu")
    _cards(monkeypatch, 0, mps=True)
    assert choose_device() == torch.device("mps")
    _cards(monkeypatch, 2, mps=True)
    assert choose_device() == torch.device("cuda")
    assert choose_device("cuda:1") == torch.device("cuda:1")
    assert choose_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize(
    ("asked", "cards", "said"),
    [
        ("gpu", 1, "'gpu' is unknown; use auto, cpu, cuda, cuda:N or mps"),
        ("xla", 1, "'xla' is unknown"),
        ("CUDA", 1, "'CUDA' is unknown"),
        ("", 1, "'' is unknown"),
        ("cuda:-1", 1, "'cuda:-1' is unknown"),
        ("cpu:3", 1, "cpu:3 isn't available"),
        ("cuda", 0, "cuda isn't available .*; use auto or cpu"),
        ("cuda:1", 1, "cuda:1 isn't available, only cuda:0"),
        ("cuda:7", 2, "cuda:7 isn't available, only cuda:0 to cuda:1"),
        ("mps", 0, "mps isn't available .*; use auto or cpu"),
    ],
)
def test_a_device_that_is_not_there_is_refused_by_name(
    asked: str, cards: int, said: str, monkeypatch: pytest.MonkeyPatch
):
    _cards(monkeypatch, cards)
    with pytest.raises(SettingsError, match=f"^device: {said}"):
        choose(asked)


def test_the_reason_names_what_is_missing(monkeypatch: pytest.MonkeyPatch):
    _cards(monkeypatch, 0)
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(SettingsError, match=r"was built without CUDA; https://pytorch\.org"):
        choose_device("cuda")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with pytest.raises(SettingsError, match="finds no GPU; see `nvidia-smi`"):
        choose_device("cuda")


def test_numbers_are_fp32_unless_asked(monkeypatch: pytest.MonkeyPatch):
    assert choose("cpu").dtype == torch.float32
    assert choose("cpu", "bf16").dtype == choose("cpu", torch.bfloat16).dtype == torch.bfloat16
    assert choose("cpu", "fp16").dtype_name == "fp16"
    for wrong in ("float32", "int8", torch.float64):
        with pytest.raises(SettingsError, match=r"^dtype: .* is unknown; use auto, fp32, bf16, fp16"):
            choose("cpu", wrong)
    _cards(monkeypatch, 0, mps=True)
    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda *_: False)
    with pytest.raises(SettingsError, match=r"^dtype: bf16 isn't supported by Apple's GPU"):
        choose("mps", "bf16")


def test_the_choice_is_said_once(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "hfgen")
    for _ in range(2):
        choose("cpu")
    choose("cpu", "bf16")
    assert [record.message.rpartition(", ")[2] for record in caplog.records] == ["fp32", "bf16"]
    assert caplog.records[0].message.startswith("computing on CPU")


def test_a_training_within_follows(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    with Compute(torch.device("cpu")).training():
        assert os.environ["ACCELERATE_USE_CPU"] == "true"
    assert "ACCELERATE_USE_CPU" not in os.environ
    taken = []
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    with Compute(torch.device("cuda:1")).training():
        assert "ACCELERATE_USE_CPU" not in os.environ
    assert taken == [torch.device("cuda:1")]
    # A launcher gives each of its processes a device.
    monkeypatch.setenv("WORLD_SIZE", "2")
    with Compute(torch.device("cpu")).training():
        assert "ACCELERATE_USE_CPU" not in os.environ


def test_float32_is_not_rounded_within(monkeypatch: pytest.MonkeyPatch):
    before = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic
    with choose("cpu").precise():
        assert not torch.backends.cudnn.allow_tf32 and torch.backends.cudnn.deterministic
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic) == before


@pytest.mark.parametrize(("slow", "chosen"), [(torch.float32, "bf16"), (torch.bfloat16, "fp32")])
def test_auto_takes_bf16_where_a_product_is_faster(monkeypatch: pytest.MonkeyPatch, slow: torch.dtype, chosen: str):
    multiply, whole = torch.mm, torch.ones(64, 64)

    def repeated(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        # In fp32 whatever is asked: a CPU that emulates bf16 takes more than 20 times as long.
        for _ in range(2000 if a.dtype == slow else 100):
            multiply(whole, whole)
        return a

    monkeypatch.setattr(torch, "mm", repeated)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    kernels._cpu_gains_by_bf16.cache_clear()
    try:
        assert kernels.choose_kernels(torch.device("cpu")).precision == chosen
        assert kernels.choose_kernels(torch.device("cpu"), "bf16").precision == "bf16"
    finally:
        kernels._cpu_gains_by_bf16.cache_clear()


def test_every_verb_refuses_a_device_before_its_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    none, data = str(tmp_path / "none"), f"--data={tmp_path / 'nothing'}"
    verbs = [
        ["sample", none],
        ["reconstruct", none, data],
        ["evaluate", none, data, f"--out={tmp_path / 'out'}"],
        ["evaluate", f"--samples={none}", data, f"--out={tmp_path / 'out'}"],
        ["compare", none, data, f"--out={tmp_path / 'out'}"],
        ["diagnose", none, data, f"--out={tmp_path / 'out'}"],
        ["study", data, f"--out={tmp_path / 'out'}"],
        ["quickstart", data, f"--out={tmp_path / 'out'}"],
        ["space", none],
        ["train", "gan-glyphs", data, f"--out={tmp_path / 'out'}"],
    ]
    for verb in verbs:
        assert main([*verb, "--device=cuda"]) == 2, verb
        assert "device: cuda isn't available" in capsys.readouterr().err, verb
    assert not list(tmp_path.iterdir())


def test_what_a_device_or_numbers_have_no_say_in_refuses_them(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    cases = {
        (
            "evaluate",
            "--samples=x",
            "--data=glyphs",
            f"--out={tmp_path / 'out'}",
            "--dtype=bf16",
        ): "dtype: no model runs",
        ("train", "gan-glyphs", "--job=t4-small", "--device=cpu"): "device: cpu is this machine's; a job",
        ("train", "gan-glyphs", "--dry_run", "--device=gpu"): "device: 'gpu' is unknown",
    }
    for arguments, said in cases.items():
        assert main(list(arguments)) == 2
        assert said in capsys.readouterr().err


def test_a_launched_training_takes_no_device(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["train", "gan-glyphs", "--device=cpu"]) == 2
    assert "the launcher gives each process its own" in capsys.readouterr().err


def test_half_precision_is_placed_without_complaint(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture):
    from tiny import tiny_config

    for family in ("vae", "vqvae", "gan", "pix2pix"):
        model = tiny_config(family, Path("none")).model
        pipeline = model.pipeline(model.build(16, 1, 0))
        for dtype in ("bf16", "fp16"):
            compute = choose("cpu", dtype)
            assert compute.place(pipeline) is pipeline
            parts = [part for part in pipeline.components.values() if isinstance(part, nn.Module)]
            assert {part.dtype for part in parts} == {compute.dtype}
            if pipeline.can_sample:
                assert pipeline(batch_size=2, output_type="pt").images.dtype == torch.float32
            if pipeline.can_reconstruct:
                images = torch.rand(2, 1, 16, 16) * 2 - 1
                assert pipeline.reconstruct(images, output_type="pt").images.isfinite().all()
    said = [record.message for record in caplog.records if not record.message.startswith("computing on")]
    assert not said and "float16" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("busy", "threads", "cores", "said"),
    [
        (0.0, 2, 2, None),
        (0.2, 2, 2, None),
        (1.0, 1, 2, None),
        (1.0, 2, 2, "use 1.0 of 2 cores and torch begins 2 threads"),
        (1.9, 2, 2, "OMP_NUM_THREADS=1 gives"),
        (1.0, 16, 16, None),
        (10.0, 16, 16, "OMP_NUM_THREADS=7 gives"),
    ],
)
def test_threads_without_a_core_of_their_own_are_told(busy: float, threads: int, cores: int, said: str | None):
    words = devices._crowded(busy, threads, cores)
    assert (words is None) if said is None else said in str(words)


def test_threads_are_no_more_than_the_cores(monkeypatch: pytest.MonkeyPatch):
    had = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(devices, "usable_cores", lambda processes: 1.5)
    torch.set_num_threads(2)
    try:
        devices.fit_threads.__wrapped__()
        assert torch.get_num_threads() == 1
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        torch.set_num_threads(2)
        devices.fit_threads.__wrapped__()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(had)


ACCELERATE, TORCHRUN = {"ACCELERATE_DYNAMO_BACKEND": "NO"}, {"TORCHELASTIC_RUN_ID": "1"}
AS_LAUNCHED = "threads: 1, as launched, of"


@pytest.mark.parametrize(
    ("variables", "began", "threads", "said"),
    [
        # Nobody asked: a process's part of the eight cores.
        ({}, 16, 8, "threads: 8, not 16: this process may use 8 cores"),
        ({"LOCAL_WORLD_SIZE": "2"}, 8, 4, "threads: 4, not 8: this process may use 4 cores"),
        ({"OMPI_COMM_WORLD_LOCAL_SIZE": "3"}, 8, 2, "threads: 2, not 8: this process may use 2.67 cores"),
        ({"LOCAL_WORLD_SIZE": "16"}, 8, 1, "threads: 1, not 8: this process may use 0.5 cores"),
        ({"LOCAL_WORLD_SIZE": "several"}, 8, 8, None),
        # Set, and more than there are.
        ({"OMP_NUM_THREADS": "16"}, 16, 16, "OMP_NUM_THREADS=16, and this process may use 8 cores: threads wait"),
        ({"OMP_NUM_THREADS": "8", "LOCAL_WORLD_SIZE": "4"}, 8, 8, "OMP_NUM_THREADS=2 gives each a core"),
        # Set, perhaps by a launcher that nobody told.
        ({"OMP_NUM_THREADS": "1"}, 1, 1, None),
        ({"OMP_NUM_THREADS": "1", **ACCELERATE}, 1, 1, f"{AS_LAUNCHED} 8 cores a process; --num_cpu_threads_per_"),
        (
            {"OMP_NUM_THREADS": "1", "LOCAL_WORLD_SIZE": "2", **ACCELERATE, **TORCHRUN},
            1,
            1,
            f"{AS_LAUNCHED} 4 cores a process; --num_cpu_threads_per_process=4 uses them",
        ),
        (
            {"OMP_NUM_THREADS": "1", "LOCAL_WORLD_SIZE": "2", **TORCHRUN},
            1,
            1,
            f"{AS_LAUNCHED} 4 cores a process; OMP_NUM_THREADS=4 uses them",
        ),
        ({"OMP_NUM_THREADS": "1", "LOCAL_WORLD_SIZE": "1", **TORCHRUN}, 1, 1, None),
        ({"OMP_NUM_THREADS": "1", "LOCAL_WORLD_SIZE": "8", **ACCELERATE}, 1, 1, None),
        ({"OMP_NUM_THREADS": "4", **ACCELERATE}, 4, 4, None),
    ],
)
def test_a_process_of_a_launch_has_its_part_of_the_cores(
    variables: dict[str, str],
    began: int,
    threads: int,
    said: str | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    caplog.set_level(logging.INFO, "hfgen")
    for name in ("OMP_NUM_THREADS", *_LOCAL_SIZES, *ACCELERATE, *TORCHRUN):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(devices, "usable_cores", lambda processes: 8.0 / processes)
    monkeypatch.setattr(devices, "busy_cores", lambda: 0.0)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    chosen = [began]
    monkeypatch.setattr(torch, "get_num_threads", lambda: chosen[-1])
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    devices.fit_threads.__wrapped__()
    assert chosen[-1] == threads
    messages = [record.message for record in caplog.records]
    assert len(messages) == (said is not None) and (said or "") in "".join(messages)


@pytest.mark.parametrize(("processes", "told"), [(1, True), (2, False)])
def test_a_crowd_is_told_where_threads_were_asked_for_too_but_not_of_the_same_launch(
    processes: int, told: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(devices, "usable_cores", lambda processes: 8.0 / processes)
    monkeypatch.setattr(devices, "busy_cores", lambda: 6.0)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    devices.fit_threads.__wrapped__()
    assert ["other processes use 6.0 of 8 cores" in record.message for record in caplog.records] == [True] * told
