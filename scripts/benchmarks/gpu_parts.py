"""The parts of `benchmark.py gpu`: each gives its rows one by one, a name and the work that measures it."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

Value = float | int | str | bool
Row = tuple[str, Callable[[], dict[str, Value]]]

_ROOT = Path(__file__).parents[2]
_FAMILIES = ("vae", "vaegan", "vqvae", "gan")
_BATCHES = {32: 1024, 64: 512, 256: 32}
_MODES = {"eager": "off", "compiled": "default", "CUDA graphs": "reduce-overhead"}


class LeftOut(Exception):
    """Something that the row needs isn't on this machine."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """Where, on what, into which folder; `toy` is the smallest size of everything."""

    device: str
    data: str
    out: Path
    toy: bool
    training_minutes: float = 4


@dataclasses.dataclass(frozen=True)
class Part:
    """A part's rows, and the minutes after which it is ended."""

    rows: Callable[[Settings], Iterator[Row]]
    minutes: float


# Correctness.


def _tests(settings: Settings) -> Iterator[Row]:
    """The tests marked `cuda`: resume, evaluation and diagnosis like the CPU's, compiled like eager, two processes."""
    yield "tests marked cuda", partial(_pytest, settings)


def _pytest(settings: Settings) -> dict[str, Value]:
    from importlib.util import find_spec

    if find_spec("pytest") is None:
        raise LeftOut("no pytest; pip install -e '.[test]'")
    report = settings.out / "tests.xml"
    chosen = ["-k", "test_batches_reach_the_device"] if settings.device == "cpu" else ["-m", "cuda"]
    workers = min(8, (os.cpu_count() or 1) // 2)
    parallel = ["-n", str(workers)] if find_spec("xdist") and workers > 1 and not settings.toy else []
    command = [sys.executable, "-m", "pytest", "-q", *chosen, *parallel, f"--junitxml={report}", "tests/test_cuda.py"]
    report.unlink(missing_ok=True)
    subprocess.run(command, cwd=_ROOT)
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
    for family in _FAMILIES:
        yield f"{family}: gradients", partial(_gradient_errors, settings, family)


def _gradient_errors(settings: Settings, family: str) -> dict[str, Value]:
    import torch

    from hfgen.devices import Compute

    found: dict[str, Value] = {}
    with Compute(torch.device(settings.device)).precise():
        exact = _trainer(settings, family, 32, 64, "--precision=fp32", "--compiled=off")
        expected = exact.gradients("off")
        variants = {"bf16": ("--precision=bf16", "off")}
        if settings.device == "cuda":
            variants["compiled"] = ("--precision=fp32", "default")
        for name, (precision, mode) in variants.items():
            other = _trainer(settings, family, 32, 64, precision, f"--compiled={mode}")
            for phase, gradient in other.gradients(mode).items():
                error = (gradient - expected[phase]).norm() / expected[phase].norm()
                found[f"{name}, {phase}"] = float(error)
    return found


# Speed.

_GOALS = [("vaegan-imagenet256", 256), *((family, 32) for family in _FAMILIES)]
_OTHERS = [*((family, 64) for family in _FAMILIES), ("vqgan-imagenet256", 256)]
_TOYS = [("vae", 16), ("gan", 16)]


def _compiling(settings: Settings) -> Iterator[Row]:
    """Networks of what `_speed` measures first, compiled by many processes at once: the compiler keeps what it made."""
    recipes = _TOYS if settings.toy else _GOALS
    yield f"{len(recipes)} recipes at once", partial(_compile_all, settings, recipes)


def _compile_all(settings: Settings, recipes: list[tuple[str, int]]) -> dict[str, Value]:
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    if settings.device != "cuda":
        raise LeftOut("networks are compiled by default on a GPU only")
    with ProcessPoolExecutor(len(recipes), get_context("spawn")) as pool:
        futures = {recipe: pool.submit(_compile, settings, recipe, side) for recipe, side in recipes}
        return {f"{recipe}, s": future.result() for recipe, future in futures.items()}


def _compile(settings: Settings, recipe: str, side: int) -> float:
    """Seconds until four steps are done."""
    started = time.perf_counter()
    trainer = _trainer(settings, recipe, side, _BATCHES.get(side, 8), "--compiled=default")
    for _ in range(4):
        trainer.step()
    return time.perf_counter() - started


def _speed(settings: Settings) -> Iterator[Row]:
    """Images a second of each family, eager, compiled and with CUDA graphs, beside a bare loop."""
    modes = _MODES if settings.device == "cuda" else {"eager": "off"}
    for sizes in [_TOYS] if settings.toy else [_GOALS, _OTHERS]:
        for name, mode in modes.items():
            for recipe, side in sizes:
                if mode == "reduce-overhead" and side == 256:
                    # Its kernels are long: nothing is bound by launches.
                    continue
                yield f"{recipe} at {side} px, {name}", partial(_rate, settings, recipe, side, mode)


def _rate(settings: Settings, recipe: str, side: int, mode: str) -> dict[str, Value]:
    """The largest batch of a few that fits."""
    import torch

    batch = 8 if settings.toy else _BATCHES[side]
    while True:
        try:
            return _rate_of_batch(settings, recipe, side, mode, batch)
        except torch.OutOfMemoryError:
            if batch < 16:
                raise
            batch //= 2
            torch.cuda.empty_cache()


def _rate_of_batch(settings: Settings, recipe: str, side: int, mode: str, batch: int) -> dict[str, Value]:
    import statistics

    import torch

    from benchmarks.bare import LOSSES, BareLoop
    from benchmarks.timing import flops_of, matmul_rate, paired_rounds, repeated, steps_for
    from hfgen.images import to_float

    torch._dynamo.reset()
    trainer = _trainer(settings, recipe, side, batch, f"--compiled={mode}")
    device, loops = trainer.device, {"hfgen": repeated(trainer.step)}
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    count = steps_for(0.05 if settings.toy else 0.7, trainer.step, device)
    memory = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0.0
    bare = None
    if trainer.config.family in LOSSES:
        kernels = trainer.kernels
        images = to_float(trainer.store.images[:]).to(device)
        bare = BareLoop(trainer.config, images, kernels.precision, kernels.memory_format)
        loops["bare"] = repeated(bare.step)
    seconds = paired_rounds(loops, count, 3, device)
    rate = count * batch / statistics.median(seconds["hfgen"])
    found: dict[str, Value] = {"batch": batch, "images/s": rate, "peak GiB": memory}
    if bare is not None:
        pairs = zip(seconds["bare"], seconds["hfgen"], strict=True)
        found["of the bare loop"] = statistics.median(theirs / own for theirs, own in pairs)
        found["of the matmul rate"] = flops_of(bare.step) / batch * rate / matmul_rate(device)
    goal = {"vaegan-imagenet256": 111}.get(recipe, 85_000 if side == 32 else None)
    if goal is not None and not settings.toy:
        found |= {"goal": goal, "goal held": rate >= goal}
    return found


def _trainer(settings: Settings, recipe: str, side: int, batch: int, *more: str) -> Any:
    """The trainer of a recipe on colour fields of that size, with every phase's terms from the first step on."""
    from accelerate import Accelerator

    from benchmarks.evaluate import make_data
    from hfgen.configs import load_config
    from hfgen.data import open_store
    from hfgen.training.trainer import Trainer

    data = settings.out / "fields" / str(side)
    if not data.is_dir():
        make_data(data, 8, side)
    overrides = [f"--data={data}", f"--resolution={side}", "--channels=3", "--max_images=100000000", *more]
    overrides.append(f"--batch_size={8 if settings.toy else batch}")
    name = recipe if "-" in recipe else f"{recipe}-glyphs"
    if name.startswith(("vaegan", "vqgan")):
        overrides += ["--model.adversarial_begin=0", "--model.adversarial_warmup=0", "--model.perceptual=none"]
    if name.startswith("vqgan"):
        # The fields have no classes.
        overrides.append("--model.conditional=false")
    config = load_config(name, overrides)
    store = open_store(config.data, split="train", resolution=side, channels=3)
    return Trainer(config, store, Accelerator(cpu=settings.device == "cpu"))


# Evaluation.


def _evaluation(settings: Settings) -> Iterator[Row]:
    """`hfgen.evaluate` at 256 px with an autoencoder of SD's size, and 50,000 images of 32 px."""
    side, few, many = (16, 20, 40) if settings.toy else (256, 128, 1024)
    count, dtypes = (40, ["fp32"]) if settings.toy else (50_000, ["bf16", "fp32"])
    large = [(f"SD's autoencoder at {side} px, {dtype}", dtype) for dtype in dtypes]
    rows = [(name, partial(_evaluate_large, settings, side, few, many, dtype)) for name, dtype in large]
    rows.insert(1, (f"{count:,} images of 32 px", partial(_evaluate_many, settings, count)))
    yield from rows


def _evaluate_large(settings: Settings, side: int, few: int, many: int, dtype: str) -> dict[str, Value]:
    """Seconds with few and with many images: what lies between is the images' own."""
    from benchmarks.evaluate import make_data

    data = settings.out / "fields" / f"evaluation-{side}"
    if not data.is_dir():
        make_data(data, many, side)
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

    folder = settings.out / "sd-autoencoder"
    if not folder.is_dir():
        torch.manual_seed(0)
        widths = (32, 32) if settings.toy else (128, 256, 512, 512)
        AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * len(widths),
            up_block_types=("UpDecoderBlock2D",) * len(widths),
            block_out_channels=widths,
            layers_per_block=2,
            sample_size=256,
        ).save_pretrained(folder)
    return folder


def _evaluate_many(settings: Settings, count: int) -> dict[str, Value]:
    from benchmarks.evaluate import make_data
    from hfgen.configs import load_config

    data, model = settings.out / "fields" / "many-32", settings.out / "small-vae"
    if not data.is_dir():
        make_data(data, count, 32)
    if not model.is_dir():
        family = load_config("vae-glyphs").model
        family.pipeline(family.build(32, 3)).save_pretrained(model)
    seconds = _evaluate(settings, model, data, count, 32, "fp32")
    return {"seconds": seconds} if settings.toy else {"seconds": seconds, "goal": 60, "goal held": seconds < 60}


def _evaluate(settings: Settings, model: Path, data: Path, n: int, side: int, dtype: str) -> float:
    import hfgen

    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        hfgen.evaluate(model, str(data), n=n, resolution=side, device=settings.device, dtype=dtype, out=out)
    return time.perf_counter() - started


# Training.


def _training(settings: Settings) -> Iterator[Row]:
    """A GAN and a VAE-GAN of CIFAR's size, some minutes each, and what they reach."""
    if settings.toy:
        recipes = {"vaegan-glyphs": ["--resolution=16", "--model.width=16", "--model.max_width=16"]}
    else:
        spatial = ["--resolution=32", "--model.latent_size=8"]
        recipes = {"gan-r3-cifar10": [], "vaegan-photos64": spatial}
    for recipe, overrides in recipes.items():
        yield f"{recipe}, {settings.training_minutes:g} minutes", partial(_train, settings, recipe, overrides)


def _train(settings: Settings, recipe: str, overrides: list[str]) -> dict[str, Value]:
    import hfgen

    out = settings.out / "runs" / recipe
    trial, minutes = (32, 0) if settings.toy else (20_000, settings.training_minutes)
    common = [recipe, f"--data={settings.data}", "--small_images=pad", *overrides]
    images = trial
    if not (out / "pretrained").is_dir():
        with tempfile.TemporaryDirectory() as folder:
            _launch(settings, [*common, f"--max_images={trial}"], Path(folder) / "run")
            lines = [json.loads(line) for line in (Path(folder) / "run" / "speed.jsonl").open()]
        # The first line's seconds hold the compiler's.
        seen = lines[-1]["images"] - lines[0]["images"] or lines[0]["images"]
        seconds = sum(line["seconds"] for line in lines[1:]) or lines[0]["seconds"]
        images = max(trial, int(60 * minutes * seen / seconds))
        _launch(settings, [*common, f"--max_images={images}"], out)
    shown = ("psnr", "gain_high", "hf_ratio_reconstruction", "hf_ratio_sample", "kid", "coverage")
    n = 20 if settings.toy else 2000
    record = hfgen.evaluate(out, settings.data, n=n, small_images="pad", device=settings.device).record
    found = {name: metric["value"] for name, metric in record["metrics"].items() if name in shown}
    return {"images": images, **found}


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
    "tests": Part(_tests, 2.5),
    "numbers": Part(_numbers, 1.5),
    "compiling": Part(_compiling, 3),
    "speed": Part(_speed, 4),
    "evaluation": Part(_evaluation, 3),
    "training": Part(_training, 9),
    "studies": Part(_cells, 3),
}
"""In the order of their value."""
