"""The parts of `benchmark.py gpu`: each gives its rows one by one, a name and the work that measures it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.gpu_settings import FAMILIES, LeftOut, Part, Row, Settings, Value, fields, made_once, make_trainer
from benchmarks.gpu_speed import compiling, compiling_others, sizes, speed

_ROOT = Path(__file__).parents[2]
_CIFAR = ["--resolution=32", "--model.latent_size=8"]


# Correctness.


def _tests(settings: Settings) -> Iterator[Row]:
    """The tests marked `cuda`: resume, evaluation and diagnosis like the CPU's, compiled like eager, two processes."""
    yield "tests marked cuda", partial(_pytest, settings)


def _pytest(settings: Settings) -> dict[str, Value]:
    from importlib.util import find_spec

    if missing := [name for name in ("pytest", "hypothesis") if find_spec(name) is None]:
        raise LeftOut(f"no {' or '.join(missing)}; pip install -e '.[test]'")
    report = settings.out / "tests.xml"
    chosen = ["-k", "test_batches_reach_the_device"] if settings.device == "cpu" else ["-m", "cuda"]
    workers = min(8, (os.cpu_count() or 1) // 2)
    parallel = ["-n", str(workers)] if find_spec("xdist") and workers > 1 and not settings.toy else []
    command = [sys.executable, "-m", "pytest", "-q", *chosen, *parallel, f"--junitxml={report}", "tests/test_cuda.py"]
    report.unlink(missing_ok=True)
    # Some of them compare with the CPU, where threads of many processes would wait for each other.
    subprocess.run(command, cwd=_ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if not report.is_file():
        raise RuntimeError("pytest wrote no report")
    cases = list(ElementTree.parse(report).iter("testcase"))
    bad = [case for case in cases if {child.tag for child in case} & {"failure", "error"}]
    skipped = sum(case.find("skipped") is not None for case in cases)
    if bad:
        raise RuntimeError(f"{len(bad)} of {len(cases)} failed: {', '.join(case.get('name', '') for case in bad)}")
    return {"passed": len(cases) - skipped, "skipped": skipped}


def _numbers(settings: Settings) -> Iterator[Row]:
    """Gradients of the first batch against those of fp32 without a compiler, as shares of their norms."""
    for family in FAMILIES:
        yield f"{family}: gradients", partial(_gradient_errors, settings, family)


def _gradient_errors(settings: Settings, family: str) -> dict[str, Value]:
    import torch

    from hfgen.devices import Compute

    found: dict[str, Value] = {}
    with Compute(torch.device(settings.device)).precise():
        exact = make_trainer(settings, family, 32, 64, "--precision=fp32", "--compiled=off")
        expected = exact.gradients("off")
        variants = {"bf16": ("--precision=bf16", "off")}
        if settings.device == "cuda":
            variants["compiled"] = ("--precision=fp32", "default")
        for name, (precision, mode) in variants.items():
            other = make_trainer(settings, family, 32, 64, precision, f"--compiled={mode}")
            for phase, gradient in other.gradients(mode).items():
                error = (gradient - expected[phase]).norm() / expected[phase].norm()
                found[f"{name}, {phase}"] = float(error)
    return found


# Evaluation.


def _evaluation(settings: Settings) -> Iterator[Row]:
    """`hfgen.evaluate` at 256 px with an autoencoder of SD's size, and 50,000 images of 32 px."""
    side, few, many = (16, 20, 40) if settings.toy else (256, 64, 512)
    first, count, dtypes = (20, 40, ["fp32"]) if settings.toy else (100, 50_000, ["bf16", "fp32"])
    yield f"{count:,} images of 32 px", partial(_evaluate_many, settings, first, count)
    for dtype in dtypes:
        yield f"SD's autoencoder at {side} px, {dtype}", partial(_evaluate_large, settings, side, few, many, dtype)


def _evaluate_large(settings: Settings, side: int, few: int, many: int, dtype: str) -> dict[str, Value]:
    """Seconds with few and with many images: what lies between is the images' own."""
    data = fields(settings, f"evaluation-{side}", many, side)
    model = _sd_autoencoder(settings)
    # The judge and the reader are trained once, and kept: not a part of the difference.
    _evaluate(settings, model, data, few, side, dtype)
    first = _evaluate(settings, model, data, few, side, dtype)
    last = _evaluate(settings, model, data, many, side, dtype)
    each = (last - first) / (many - few)
    return {"images/s": 1 / each, "seconds at n = 0": first - few * each, "minutes for 50,000": 50_000 * each / 60}


def _sd_autoencoder(settings: Settings) -> Path:
    """An AutoencoderKL with the widths of Stable Diffusion's, 83.7 M parameters, and random weights."""
    import torch
    from diffusers import AutoencoderKL

    def make(folder: Path) -> None:
        torch.manual_seed(0)
        widths = (32, 32) if settings.toy else (128, 256, 512, 512)
        AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * len(widths),
            up_block_types=("UpDecoderBlock2D",) * len(widths),
            block_out_channels=widths,
            layers_per_block=2,
            sample_size=256,
        ).save_pretrained(folder)

    return made_once(settings.out / "sd-autoencoder", make)


def _evaluate_many(settings: Settings, few: int, count: int) -> dict[str, Value]:
    """Seconds of all, and of a few before, for which all are decoded and the judge is trained."""
    from hfgen.configs import load_config

    def make(folder: Path) -> None:
        family = load_config("vae-glyphs").model
        family.pipeline(family.build(32, 3)).save_pretrained(folder)

    data, model = fields(settings, "many-32", count, 32), made_once(settings.out / "small-vae", make)
    first, seconds = (_evaluate(settings, model, data, n, 32, "fp32") for n in (few, count))
    found: dict[str, Value] = {"seconds": seconds, f"seconds of a call with {few} before": first}
    return found if settings.toy else {**found, "goal": 60, "goal held": seconds < 60}


def _evaluate(settings: Settings, model: Path, data: Path, n: int, side: int, dtype: str) -> float:
    import hfgen

    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        hfgen.evaluate(model, str(data), n=n, resolution=side, device=settings.device, dtype=dtype, out=out)
    return time.perf_counter() - started


# Training.


def _training(recipe: str, overrides: list[str], settings: Settings) -> Iterator[Row]:
    """A model of CIFAR's size, some minutes, and what it reaches."""
    if settings.toy:
        recipe = f"{recipe.partition('-')[0]}-glyphs"
        overrides = ["--resolution=16", "--model.width=16", "--model.max_width=16"]
    yield f"{recipe}, {settings.training_minutes:g} minutes", partial(_train, settings, recipe, overrides)


def _train(settings: Settings, recipe: str, overrides: list[str]) -> dict[str, Value]:
    """As many images as the minutes take, by the rate of a trial, and some measures of the model."""
    import hfgen
    from hfgen.files import read_json

    minutes = 0 if settings.toy else settings.training_minutes
    out = settings.out / "runs" / f"{recipe}, {minutes:g} minutes"
    common = [recipe, f"--data={settings.data}", "--channels=auto", "--small_images=pad", *overrides]
    # A run that was ended goes on with as many images; another trial would have another rate.
    if (out / "run.json").is_file():
        images = read_json(out / "run.json")["config"]["max_images"]
    else:
        images = _images_in(60 * minutes, settings, common)
    if not (out / "pretrained").is_dir():
        _launch(settings, [*common, f"--max_images={images}"], out)
    shown = ("psnr", "gain_high", "hf_ratio_reconstruction", "hf_ratio_sample", "kid", "coverage", "recall")
    n = 20 if settings.toy else 2000
    record = hfgen.evaluate(out, settings.data, n=n, small_images="pad", device=settings.device).record
    found = {name: metric["value"] for name, metric in record["metrics"].items() if name in shown}
    return {"images": images, **found}


def _images_in(seconds: float, settings: Settings, common: list[str]) -> int:
    """How many are seen in so long, by a trial; those of the trial at least."""
    trial = 32 if settings.toy else 5_000
    with tempfile.TemporaryDirectory() as folder:
        more = [f"--max_images={trial}", "--sample_every=0", f"--log_every={max(1, trial // 20)}"]
        _launch(settings, [*common, *more], Path(folder) / "run")
        lines = [json.loads(line) for line in (Path(folder) / "run" / "speed.jsonl").open()]
    return max(trial, int(seconds * _rate(lines)))


def _rate(lines: list[dict[str, float]]) -> float:
    """Images a second in the last half of a run's `speed.jsonl`: the compiler's seconds lie before it."""
    half = lines[len(lines) // 2 :]
    before = lines[len(lines) // 2 - 1]["images"] if len(lines) > 1 else 0
    return (half[-1]["images"] - before) / sum(line["seconds"] for line in half)


def _launch(settings: Settings, arguments: list[str], out: Path) -> None:
    """A training run in a process of its own."""
    command = [sys.executable, str(_ROOT / "scripts" / "train.py"), *arguments, f"--out={out}"]
    variables = {"ACCELERATE_USE_CPU": "true" if settings.device == "cpu" else "false"}
    subprocess.run(command, env={**os.environ, **variables}, check=True)


# Studies.


def _cells(settings: Settings) -> Iterator[Row]:
    """Runs of a study's size, one alone and many at once on the same card."""
    for count in (1, 2) if settings.toy else (1, 4, 16):
        yield f"{count} runs of 16 px at once", partial(_at_once, settings, count)


def _at_once(settings: Settings, count: int) -> dict[str, Value]:
    from concurrent.futures import ThreadPoolExecutor

    images = 32 if settings.toy else 16_000
    arguments = ["vae-glyphs", "--resolution=16", f"--max_images={images}", "--compiled=off", "--batch_size=32"]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(count) as pool:
        started = time.perf_counter()
        places = [Path(folder) / str(index) for index in range(count)]
        list(pool.map(partial(_launch, settings, arguments), places))
        seconds = time.perf_counter() - started
    return {"seconds": seconds, "runs a minute": 60 * count / seconds}


PARTS = {
    "tests": Part(_tests, 5, alone=False),
    "numbers": Part(_numbers, 5, alone=False),
    "compiling": Part(compiling, 5, alone=False),
    "speed": Part(speed, 4),
    "evaluation": Part(_evaluation, 4),
    "gan": Part(partial(_training, "gan-cifar10", []), 5, alone=False, trains=True),
    "vaegan": Part(partial(_training, "vaegan-photos64", _CIFAR), 5, alone=False, trains=True),
    "compiling_others": Part(compiling_others, 5, alone=False),
    "studies": Part(_cells, 3),
    "sizes": Part(sizes, 9),
}
"""In the order of their value."""
