"""The command as a user meets it: real processes, real files, one-line errors."""

import gc
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sized
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from commands import forked, here, hfgen, refused
from PIL import Image
from tiny import COMMON, TINY

from hfgen.cli.command import exit_code
from hfgen.configs import load_config
from hfgen.imports import without_collector
from hfgen.training.checkpoints import load_checkpoint


def train_tiny_vae(data: Path, out: Path) -> list[str]:
    return ["train", "vae-glyphs", *COMMON, *TINY["vae"], f"--data={data}", f"--out={out}"]


def test_help_takes_less_than_half_a_second_and_imports_no_package():
    """Half a second of a core: how long that takes depends on who else has work for it."""
    seconds = []
    for _ in range(3):
        before = psutil.Process().cpu_times()
        assert "quickstart" in hfgen("--help").stdout
        after = psutil.Process().cpu_times()
        seconds.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert min(seconds) < 0.5
    code = "import sys; from hfgen.cli.command import _parser; _parser().format_help(); "
    code += "print(*{name.partition('.')[0] for name in sys.modules} & {*sys.argv[1:]})"
    heavy = ("torch", "numpy", "diffusers", "datasets", "huggingface_hub", "PIL", "jsonargparse", "yaml")
    assert subprocess.check_output([sys.executable, "-c", code, *heavy, "argparse"], text=True) == "argparse\n"


def test_a_wrong_out_is_refused_before_any_package_is_imported(tmp_path: Path):
    (tmp_path / "record.json").write_text("{}")
    (tmp_path / "file").write_text("")
    code = "import sys; from hfgen.cli.command import main; status = main(sys.argv[1:]); "
    code += "print(status, *{'torch', 'numpy', 'diffusers'} & {*sys.modules})"
    for out, words in ((tmp_path, "holds an evaluation"), (tmp_path / "file", "is a file")):
        command = [sys.executable, "-c", code, "compare", "a", f"--out={out}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert words in done.stderr and done.stdout == "2\n"


COLLECTOR = """
import gc, sys
from hfgen.imports import without_collector
with without_collector(freeze=sys.argv[1] == "command"):
    assert not gc.isenabled()
assert gc.isenabled()
print(gc.get_freeze_count() > 0)
"""


def test_the_collector_waits_for_imports_and_a_command_freezes_them():
    for whose, frozen in (("command", "True"), ("library", "False")):
        assert subprocess.check_output([sys.executable, "-c", COLLECTOR, whose], text=True).strip() == frozen
    import diffusers  # noqa: F401

    before = gc.get_freeze_count()
    with without_collector(freeze=True):
        assert not gc.isenabled()
    # The objects of whoever imported it before are still walked.
    assert gc.isenabled() and gc.get_freeze_count() == before


def test_train_help_lists_recipes_and_a_recipes_help_its_settings():
    listed = hfgen("train", "--help").stdout
    assert all(f"{family}-{data} " in listed for family in TINY for data in ("glyphs", "fashion"))
    assert "--model.kl_weight" in forked("train", "vae-glyphs", "--help").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["smple"], "invalid choice: 'smple'"),
        (["sample"], "the following arguments are required: MODEL"),
        (["sample", "x", "--colour"], "--colour: no such argument"),
        (["sample", "/nowhere"], "model: /nowhere isn't a folder"),
        (["sample", "/nowhere", "--n=0"], "n: 0 images can't be drawn"),
        (["train"], "recipe: give a recipe's name or --config FILE"),
        (["train", "vae-glyps"], "recipe: 'vae-glyps' is unknown (did you mean vae-glyphs?)"),
        (["train", "--config=/nowhere.yaml"], "config: /nowhere.yaml can't be read"),
        (["train", "vae-glyphs", "--max_imags=5"], "max_imags: no such setting (did you mean max_images?)"),
        (["train", "vae-glyphs", "--model.lrr=5"], "model.lrr: no such setting (did you mean model.lr?)"),
        (["train", "vae-glyphs", "--max_images=many"], "max_images: Expected a int. Got value: many"),
        (["train", "vae-glyphs", "--max_images=0"], "max_images: 0 is too small"),
        (["train", "vae-glyphs", "--data=./nowhere"], "./nowhere"),
    ],
)
def test_a_mistake_is_one_line_that_names_field_value_and_remedy(arguments: list[str], message: str, tmp_path: Path):
    if arguments[0] == "train" and len(arguments) > 2:
        arguments = [*arguments, f"--out={tmp_path / 'run'}"]
    assert message in refused(*arguments, run=here)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("family: vea\n", "family: 'vea' in"),
        ("family: vae\nmax_imags: 3\n", "max_imags: no such setting"),
        ("family: vae\nmodel: {lrr: 3}\n", "lrr: no such setting"),
        ("family: [\n", "isn't YAML"),
    ],
)
def test_a_wrong_config_file_is_one_line(yaml: str, message: str, tmp_path: Path):
    (tmp_path / "run.yaml").write_text(yaml)
    assert message in refused("train", "--config", tmp_path / "run.yaml", "--out", tmp_path / "run", run=here)


def test_a_resolution_out_of_reach_leaves_nothing_behind(glyph_folder: Path, tmp_path: Path):
    out = tmp_path / "run"
    line = refused("train", "vae-glyphs", f"--data={glyph_folder}", "--resolution=12", f"--out={out}", run=forked)
    assert "resolution: 12 can't be reached from a latent of side 2" in line
    assert not out.exists()


@pytest.fixture
def damaged_folder(glyph_folder: Path, tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(glyph_folder, tmp_path / "data"))
    (folder / "train" / "a" / "broken.png").write_bytes(b"\x89PNG, but not for long")
    return folder


def test_a_damaged_image_is_named_or_skipped_and_counted(damaged_folder: Path, tmp_path: Path):
    arguments = train_tiny_vae(damaged_folder, tmp_path / "run")
    line = refused(*arguments, run=forked)
    assert "broken.png" in line and "--skip_damaged" in line
    assert not (tmp_path / "run").exists()
    done = forked(*arguments, "--skip_damaged=true")
    assert done.returncode == 0 and "damaged images left out of train: 1" in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("flags", "skipped"), [([], False), (["--skip_damaged"], True), (["--skip_damaged=false"], False)]
)
def test_the_remedy_for_damaged_images_works_as_it_is_written(flags: list[str], skipped: bool):
    assert load_config("vae-glyphs", flags).skip_damaged is skipped


def test_small_images_are_refused_with_the_remedy_and_padded_on_demand(glyph_folder: Path, tmp_path: Path):
    arguments = train_tiny_vae(glyph_folder, tmp_path / "run")
    line = refused(*arguments, "--resolution=32", run=forked)
    assert "16" in line and "--small_images" in line
    assert forked(*arguments, "--resolution=32", "--small_images=pad", "--max_images=16").returncode == 0


def test_a_full_disk_is_one_line_and_leaves_the_last_checkpoint(glyph_folder: Path, tmp_path: Path):
    """A real file system of 3.5 MB, mounted in a namespace of its own, holds one checkpoint but not two."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=3500k tmpfs {disk}"
    if subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("this machine allows no user namespaces, so no small disk can be mounted")
    train = shlex.join([sys.executable, "-m", "hfgen", *train_tiny_vae(glyph_folder, disk / "run")])
    script = f"{mount} && {train} 2>{tmp_path}/errors; echo $? >{tmp_path}/code; cp -a {disk} {tmp_path}/copy"
    subprocess.run(["unshare", "-rm", "sh", "-c", script], check=True, capture_output=True)
    errors = (tmp_path / "errors").read_text()
    assert (tmp_path / "code").read_text().strip() == "2", errors
    assert "the disk is full" in errors.splitlines()[-1] and "Traceback" not in errors
    (checkpoint,) = (tmp_path / "copy" / "run" / "checkpoints").iterdir()
    assert load_checkpoint(checkpoint)[0] == 48


@pytest.mark.parametrize("allocate", [torch.empty, np.ones, lambda count: [None] * count])
def test_too_little_memory_is_one_line_with_a_remedy(
    allocate: Callable[[int], Sized], capsys: pytest.CaptureFixture[str]
):
    """Torch's own error, numpy's, and Python's, which says nothing."""
    assert exit_code(lambda: len(allocate(2**55)), "hfgen") == 2
    said = capsys.readouterr().err
    assert said.startswith("hfgen: error: memory: there is too little of it") and said.count("\n") == 1
    assert "--n, --batch_size, --resolution and --tile" in said


def test_another_error_of_torch_keeps_its_traceback():
    with pytest.raises(RuntimeError, match="size of tensor"):
        exit_code(lambda: len(torch.ones(2) + torch.ones(3)), "hfgen")


def test_sample_and_reconstruct_write_the_grids(
    trained: Path, family: str, glyph_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    arguments = ["sample", trained, "--n=10", "--seed=3", "--out", tmp_path / "samples.png"]
    if family == "pix2pix":
        assert "is a pix2pix, which draws nothing without a condition; use `hfgen reconstruct" in refused(
            *arguments, run=here
        )
    else:
        done = here(*arguments)
        assert done.returncode == 0, done.stderr
        assert Image.open(tmp_path / "samples.png").size == (8 * 130 - 2, 2 * 130 - 2)
        for name, kind in (("grid.jpg", "JPEG"), ("grid.JPEG", "JPEG"), ("grid.webp", "WEBP")):
            done = here(*arguments[:-1], tmp_path / name)
            assert done.returncode == 0, done.stderr
            written = Image.open(tmp_path / name)
            assert written.format == kind
            if kind == "WEBP":
                assert written.convert("RGB").tobytes() == Image.open(tmp_path / "samples.png").convert("RGB").tobytes()
    arguments = ["reconstruct", trained, "--data", glyph_folder, "--n=8", "--out", tmp_path / "pairs.png"]
    if family == "gan":
        assert "is a gan without encoder" in refused(*arguments, run=here)
        return
    assert here(*arguments).returncode == 0 and "in the split test" not in caplog.text
    assert Image.open(tmp_path / "pairs.png").size == (8 * 130 - 2, 2 * 130 - 2)
    assert here(*arguments[:3], glyph_folder, "--n=5000", *arguments[-2:]).returncode == 0
    assert f"n: 100, all the images that {glyph_folder} has in the split test" in caplog.text


def test_reconstruct_counts_the_images_that_it_used(
    trained_of: Callable[[str], Path], glyph_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    folder = Path(shutil.copytree(glyph_folder / "test" / "a", tmp_path / "data"))
    count = len(list(folder.iterdir()))
    (folder / "empty.png").touch()
    arguments = ["reconstruct", trained_of("vae"), "--data", folder, "--split=all", "--skip_damaged", "--n=100"]
    assert here(*arguments, "--out", tmp_path / "pairs.png").returncode == 0
    assert f"n: {count}, all the images that {folder} has in the split all" in caplog.text


def test_images_are_made_in_batches_and_a_picture_without_room_is_refused_before(
    trained_of: Callable[[str], Path], glyph_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    sample = ["sample", trained_of("vae"), "--n=10", "--out"]
    reconstruct = ["reconstruct", trained_of("vae"), "--data", glyph_folder, "--n=10", "--out"]
    for arguments in (sample, reconstruct):
        assert here(*arguments, tmp_path / "whole.png").returncode == 0
        with monkeypatch.context() as patch:
            patch.setattr("hfgen.evaluation.passes._BATCH", 4)
            assert here(*arguments, tmp_path / "parts.png").returncode == 0
        # The number of images in a batch changes the order of sums.
        whole, parts = (np.asarray(Image.open(tmp_path / name)).astype(int) for name in ("whole.png", "parts.png"))
        assert whole.std() > 10 and abs(whole - parts).max() <= 1
    monkeypatch.setattr("hfgen.pipelines.hfgen_pipelines_v1.VAEPipeline.__call__", None)
    arguments = [*sample[:2], "--n=8000", "--out", tmp_path / "big.webp"]
    said = refused(*arguments, run=here)
    assert "out: WEBP holds 16383 pixels a side, not 1038 x 129998; give a name in .png" in said
    said = refused(*sample[:2], f"--n={10**8}", "--out", tmp_path / "big.png", run=here)
    told = "a picture of 1038 x 1624999998 pixels needs 3,217,220 MiB of memory, more than there is; show fewer images"
    assert f"out: {told}" in said


def test_evaluate_and_compare_from_the_command_line(trained: Path, glyph_folder: Path, tmp_path: Path):
    options = ["--data", glyph_folder, "--n=24"]
    done = here("evaluate", trained, *options, "--out", tmp_path / "evaluation")
    assert done.returncode == 0 and "hf_ratio_sample" in done.stdout, done.stderr
    assert (tmp_path / "evaluation" / "record.json").is_file()
    done = here("compare", f"my model={trained}", *options, "--out", tmp_path / "comparison")
    assert done.returncode == 0 and "report.html" in done.stdout, done.stderr
    assert list(json.loads((tmp_path / "comparison" / "comparison.json").read_text())["models"]) == ["my model"]
    assert (tmp_path / "comparison" / "my model" / "record.json").is_file()
    assert (tmp_path / "comparison" / "report.html").is_file()
    assert "give 12 to 100" in refused(
        "evaluate", trained, "--data", glyph_folder, "--n=101", "--out", tmp_path / "x", run=here
    )


def test_evaluate_others_images_and_verify_from_the_command_line(glyph_folder: Path, tmp_path: Path):
    options = ["--data", glyph_folder, "--n=40", "--out", tmp_path / "others"]
    done = forked("evaluate", "--samples", glyph_folder, "--samples_split=train", *options)
    assert done.returncode == 0 and "training_distance" in done.stdout and "psnr" not in done.stdout, done.stderr
    done = forked("evaluate", "--verify", tmp_path / "others")
    assert done.returncode == 0 and "numbers are the same, bit for bit" in done.stdout, done.stderr
    record = tmp_path / "others" / "record.json"
    record.write_text(record.read_text().replace('"seed": 0', '"seed": 1'))
    assert "verify: " in refused("evaluate", "--verify", tmp_path / "others", run=forked)
    record.write_text(record.read_text().replace('"schema": 2', '"schema": 1'))
    assert "schema: 2 was expected" in refused("evaluate", "--verify", tmp_path / "others", run=forked)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "model: give MODEL, --samples DATA or --verify DIR, only one of them"),
        (["x", "--samples", "y"], "model: give MODEL, --samples DATA or --verify DIR, only one of them"),
        (["/nowhere"], "data: evaluate needs --data"),
        (["/nowhere", "--data=glyphs"], "out: evaluate needs --out"),
        (["--samples=./nowhere", "--data=glyphs", "--out=x"], "samples: no such folder ./nowhere"),
        (
            ["--samples=glyphs", "--samples_split=x", "--data=glyphs", "--out=x"],
            "samples_split: glyphs has no",
        ),
        (["--verify=/nowhere"], "record: there is no /nowhere/record.json"),
    ],
)
def test_a_wrong_evaluate_is_one_line(arguments: list[str], message: str):
    assert message in refused("evaluate", *arguments, run=here)


def test_a_wrong_extractor_is_one_line(glyph_folder: Path, tmp_path: Path):
    options = ["--samples", glyph_folder, "--samples_split=train", "--data", glyph_folder, "--n=40"]
    line = refused("evaluate", *options, "--out", tmp_path, "--extractor=./nowhere", run=forked)
    assert line.startswith("extractor: ./nowhere isn't a folder")


def test_debug_shows_the_traceback():
    assert "Traceback" in forked("sample", "/nowhere", HFGEN_DEBUG="1").stderr


def test_a_dry_run_says_what_would_be_trained_and_leaves_no_trace(tmp_path: Path):
    done = forked("train", "gan-glyphs", "--max_images=1000", "--dry_run", f"--out={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    found = dict(line.split(None, 1) for line in done.stdout.splitlines() if len(line.split(None, 1)) == 2)
    assert "GANGenerator" in found["gan"] and "parameters" in found["discriminator"]
    assert found["max_images"] == "1000" and found["steps"].startswith("32 of 32 images")
    assert not (tmp_path / "run").exists()


def test_a_reader_that_has_seen_enough_ends_the_command_quietly():
    done = subprocess.run(
        f"{sys.executable} -m hfgen train gan-glyphs --dry_run | head -n 1", shell=True, capture_output=True, text=True
    )
    assert done.stdout.startswith("gan ") and "Traceback" not in done.stderr


def test_a_command_says_what_it_found_once(tmp_path: Path):
    import logging

    from hfgen.cli import command

    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("hfgen")
    logger.addHandler(handler)
    try:
        for _ in range(2):
            once = command._Once()
            logger.addFilter(once)
            for line in ("grey images became RGB", "grey images became RGB", "9 damaged images left out"):
                logger.warning(line)
            logger.removeFilter(once)
    finally:
        logger.removeHandler(handler)
    assert said == 2 * ["grey images became RGB", "9 damaged images left out"]
