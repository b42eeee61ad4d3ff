"""`accelerate launch -m hfgen evaluate`: processes share the images, and the record is that of one."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from trainings import Training

import hfgen
from hfgen.cli import main
from hfgen.evaluation import passes
from hfgen.models import classifier

SIDE, N = 16, 40


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE that reconstructs and draws."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        blocks: dict[str, Any] = {"down_block_types": ("DownEncoderBlock2D",) * 2, "block_out_channels": (8, 8)}
        blocks |= {"up_block_types": ("UpDecoderBlock2D",) * 2, "norm_num_groups": 4, "layers_per_block": 1}
        vae = AutoencoderKL(in_channels=1, out_channels=1, latent_channels=2, sample_size=SIDE, **blocks)
    folder = tmp_path_factory.mktemp("vae") / "vae"
    hfgen.VAEPipeline(vae.eval()).save_pretrained(folder)
    return folder


def small_batches() -> None:
    """Several batches of few images; each writes down which process made it."""
    passes._BATCH, classifier._BATCH_PIXELS = 8, 12 * SIDE**2
    for name in ("_both", "generate"):
        setattr(passes, name, noted(name, getattr(passes, name)))


def noted(name: str, make: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        with Path(os.environ["MARKS"]).open("a") as file:
            file.write(f"{name} {os.environ.get('RANK', 'alone')}\n")
        return make(*arguments)

    return call


def evaluated(model: Path, data: Path, out: Path, processes: int, *more: str) -> Training:
    arguments = [str(model), f"--out={out}", f"--data={data}", f"--n={N}", "--extractor=pixels", *more]
    marks = {"MARKS": f"{out}.marks"}
    return Training(arguments, processes, variables=marks, verb="evaluate", prepare=small_batches)


def test_two_processes_write_the_record_of_one(model: Path, glyph_folder: Path, tmp_path: Path):
    for name, processes in (("one", 1), ("two", 2)):
        evaluated(model, glyph_folder, tmp_path / name, processes).finish()
    one, two = (json.loads((tmp_path / name / "record.json").read_text()) for name in ("one", "two"))
    assert one == two and {"kid", "psnr", "rate_bits"} <= set(one["metrics"])
    (first, second) = (sorted((tmp_path / name / "dataset").rglob("*")) for name in ("one", "two"))
    assert [path.name for path in first] == [path.name for path in second]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(first, second, strict=True) if a.is_file())
    made = (tmp_path / "two.marks").read_text().splitlines()
    assert set(made) == {"_both 0", "_both 1", "generate 0", "generate 1"}


def test_what_fails_in_one_process_fails_in_all(model: Path, glyph_folder: Path, tmp_path: Path):
    broken = AutoencoderKL.from_pretrained(model / "vae")
    with torch.no_grad():
        broken.decoder.conv_out.bias.fill_(torch.nan)
    hfgen.VAEPipeline(broken).save_pretrained(tmp_path / "broken")
    missing = evaluated(tmp_path / "none", glyph_folder, tmp_path / "a", 2)
    nan = evaluated(tmp_path / "broken", glyph_folder, tmp_path / "b", 2)
    for run, words in ((missing, "none isn't a folder"), (nan, "vae.decoder.conv_out gives NaN or infinity")):
        if -signal.SIGSEGV in run.codes():
            run.start()  # As `Training.finish`.
        assert run.codes() == [2, 2], run.tail()
        assert words in run.tail() and "Traceback" not in run.tail()
        assert not run.out.exists()


@pytest.mark.parametrize("verb", [["compare", "a", "--out"], ["diagnose", "a", "--data", "glyphs", "--out"]])
def test_what_runs_in_one_process_is_refused_in_two(
    verb: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main([*verb, str(tmp_path / "out")]) == 2
    words = f"processes: 2 were launched, and `hfgen {verb[0]}` runs in one; start it without a launcher"
    assert words in capsys.readouterr().err
    assert main(["evaluate", "--samples", "a", "--data", "glyphs", "--out", str(tmp_path / "out")]) == 2
    assert "`hfgen evaluate --samples` runs in one" in capsys.readouterr().err
