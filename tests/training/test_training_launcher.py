"""What the launcher asks is what the run does, or is refused by name before any work."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import tiny_config
from trainings import FEW_STEPS, Training, tiny_arguments

from hfgen.errors import SettingsError
from hfgen.training.launcher import agree_with_launcher
from hfgen.training.run_folder import record_computed

# What `accelerate launch` sets where nobody chose anything.
PLAIN = {
    "ACCELERATE_MIXED_PRECISION": "no",
    "ACCELERATE_DYNAMO_BACKEND": "NO",
    "ACCELERATE_DYNAMO_MODE": "default",
    "ACCELERATE_DYNAMO_USE_FULLGRAPH": "False",
    "ACCELERATE_DYNAMO_USE_DYNAMIC": "False",
    "ACCELERATE_DYNAMO_USE_REGIONAL_COMPILATION": "False",
}
INDUCTOR = {"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"}
FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_RESHARD_AFTER_FORWARD": "true"}


@pytest.mark.parametrize(
    ("settings", "variables", "agreed"),
    [
        ([], {}, ("auto", "auto")),
        (["--precision=bf16", "--compiled=off"], {}, ("bf16", "off")),
        (["--precision=auto"], {"ACCELERATE_MIXED_PRECISION": "bf16"}, ("bf16", "auto")),
        (["--precision=bf16"], {"ACCELERATE_MIXED_PRECISION": "BF16"}, ("bf16", "auto")),
        ([], INDUCTOR, ("auto", "default")),
        ([], {**INDUCTOR, "ACCELERATE_DYNAMO_MODE": "reduce-overhead"}, ("auto", "reduce-overhead")),
        ([], {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "1", "ACCELERATE_USE_DEEPSPEED": "false"}, ("auto", "auto")),
        ([], FSDP, ("auto", "auto")),
    ],
)
def test_what_is_agreed(settings: list[str], variables: dict[str, str], agreed: tuple[str, str]):
    assert agree_with_launcher(tiny_config("vae", Path(), *settings), {**PLAIN, **variables}) == agreed


@pytest.mark.parametrize(
    ("settings", "variables", "words"),
    [
        ([], {"ACCELERATE_MIXED_PRECISION": "fp16"}, "mixed_precision: fp16 .* isn't supported"),
        ([], {"ACCELERATE_MIXED_PRECISION": "fp8"}, "mixed_precision: fp8 .* isn't supported"),
        (["--precision=fp32"], {"ACCELERATE_MIXED_PRECISION": "bf16"}, "bf16 .* contradicts precision fp32"),
        ([], {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"}, "gradient_accumulation_steps: 4 "),
        ([], {"ACCELERATE_GRADIENT_CLIPPING": "1.0"}, "gradient_clipping: 1.0 "),
        ([], {"ACCELERATE_DYNAMO_BACKEND": "EAGER"}, "dynamo_backend: EAGER "),
        (["--compiled=off"], INDUCTOR, "dynamo_backend: INDUCTOR default .* contradicts compiled off"),
        ([], {**INDUCTOR, "ACCELERATE_DYNAMO_MODE": "max-autotune"}, "dynamo_mode: max-autotune "),
        ([], {**INDUCTOR, "ACCELERATE_DYNAMO_USE_FULLGRAPH": "True"}, "dynamo_use_fullgraph: "),
        ([], {**INDUCTOR, **FSDP}, "doesn't go with FSDP"),
        ([], {"ACCELERATE_USE_DEEPSPEED": "true"}, "use_deepspeed: "),
        ([], {"ACCELERATE_USE_MEGATRON_LM": "true"}, "use_megatron_lm: "),
        ([], {"ACCELERATE_USE_PARALLELISM_CONFIG": "true"}, "use_parallelism_config: "),
        ([], {"PJRT_DEVICE": "TPU"}, "tpu: "),
        ([], {"ACCELERATE_IN_TPU_POD": "1"}, "tpu_use_cluster: "),
        ([], {**FSDP, "FSDP_VERSION": "1"}, "fsdp_version: 1 isn't supported; launch with --fsdp_version 2"),
        ([], {**FSDP, "FSDP_OFFLOAD_PARAMS": "true"}, "fsdp_offload_params: true isn't supported; launch without it"),
        ([], {**FSDP, "FSDP_RESHARD_AFTER_FORWARD": "false"}, "fsdp_reshard_after_forward: false "),
    ],
)
def test_what_is_refused(settings: list[str], variables: dict[str, str], words: str):
    with pytest.raises(SettingsError, match=words):
        agree_with_launcher(tiny_config("vae", Path(), *settings), {**PLAIN, **variables})


def test_the_launchers_bf16_is_the_runs(glyph_folder: Path, tmp_path: Path):
    """The same bits as --precision=bf16 gives, and the log and the record say so."""
    runs = {"launcher": ("auto", {"ACCELERATE_MIXED_PRECISION": "bf16"}), "run": ("bf16", {})}
    few = ("--max_images=32", "--sample_every=0", "--checkpoint_every=0")
    for name, (precision, variables) in runs.items():
        arguments = tiny_arguments("vae", glyph_folder, tmp_path / name, *few, f"--precision={precision}")
        training = Training(arguments, variables={**PLAIN, **variables})
        training.finish()
        assert "bf16 autocast over fp32 weights" in training.tail()
        (computed,) = json.loads((tmp_path / name / "run.json").read_text())["computed"]
        assert computed["precision"] == "bf16" and computed["from"] == 0
    one, other = (
        load_file(tmp_path / name / "pretrained" / "vae" / "diffusion_pytorch_model.safetensors") for name in runs
    )
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("ACCELERATE_MIXED_PRECISION", "fp16"), ("ACCELERATE_USE_DEEPSPEED", "true")],
)
def test_a_refusal_comes_before_the_data_and_leaves_no_trace(variable: str, value: str, tmp_path: Path):
    arguments = tiny_arguments("vae", tmp_path / "nothing", tmp_path / "run", *FEW_STEPS)
    training = Training(arguments, variables={variable: value})
    assert training.codes() == [2]
    assert f"{variable}" in training.tail() and "Traceback" not in training.tail()
    assert not (tmp_path / "run").exists()


def test_a_file_of_accelerate_config_is_heeded(tmp_path: Path):
    settings = {"compute_environment": "LOCAL_MACHINE", "distributed_type": "NO", "mixed_precision": "bf16"}
    settings |= {"num_processes": 1, "num_machines": 1, "use_cpu": True}
    (tmp_path / "accelerate.yaml").write_text(json.dumps(settings))
    script = str(Path(__file__).parents[2] / "scripts" / "train.py")
    launch = ["-m", "accelerate.commands.launch", f"--config_file={tmp_path / 'accelerate.yaml'}", script]
    arguments = tiny_arguments("vae", tmp_path / "nothing", tmp_path / "run", "--precision=fp32")
    done = subprocess.run([sys.executable, *launch, *arguments], capture_output=True, text=True)
    assert "mixed_precision: bf16 (ACCELERATE_MIXED_PRECISION) contradicts precision fp32" in done.stderr, done.stderr
    assert not (tmp_path / "run").exists()


def test_how_a_run_computes_is_recorded_once_and_a_change_told(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "run.json").write_text("{}")
    fp32, bf16 = ({"device": "CPU", "precision": precision} for precision in ("fp32", "bf16"))
    for images, how in ((0, fp32), (32, fp32), (64, bf16), (64, bf16)):
        record_computed(tmp_path, images, how)
    entries = json.loads((tmp_path / "run.json").read_text())["computed"]
    assert entries == [{"from": 0, **fp32}, {"from": 64, **bf16}]
    told = [record.getMessage() for record in caplog.records]
    assert told == ["from image 64 on the run computes otherwise: precision fp32 before, bf16 now"] * 2
    record_computed(tmp_path, 32, fp32)  # its last checkpoint was damaged
    assert json.loads((tmp_path / "run.json").read_text())["computed"] == [{"from": 0, **fp32}]
