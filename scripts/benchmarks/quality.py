"""hfgen's recipes and its peers on the same images, for the same minutes, judged alike.

Each model trains from nothing for `--minutes`: of wall-clock time on an idle machine, which is what is counted of the
peers. Of a recipe the processor time of each core is, so that a busy machine costs it no images. What is
finished in `--out` is judged again and not trained again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

OWN = ("vae", "vaegan", "vqvae", "vqgan", "gan", "ali")
PEERS = ("pythae_vae", "pythae_vqvae", "dcgan")
_TRAIN = str(Path(__file__).parents[1] / "train.py")
_SHOWN = (
    "psnr",
    "hf_ratio_reconstruction",
    "averaging_identity",
    "kid",
    "precision",
    "recall",
    "coverage",
    "hf_ratio_sample",
)

Bar = tuple[str, Callable[[dict[str, dict[str, float]]], bool]]
BARS: list[Bar] = [
    ("vae: PSNR at least pythae's", lambda m: m["vae"]["psnr"] >= m["pythae_vae"]["psnr"]),
    ("vae: KID at most pythae's", lambda m: m["vae"]["kid"] <= m["pythae_vae"]["kid"]),
    ("vqvae: KID below pythae's", lambda m: m["vqvae"]["kid"] < m["pythae_vqvae"]["kid"]),
    ("gan: KID at most half of the DCGAN's", lambda m: m["gan"]["kid"] <= m["dcgan"]["kid"] / 2),
    ("gan: coverage at least the DCGAN's", lambda m: m["gan"]["coverage"] >= m["dcgan"]["coverage"]),
    ("vaegan: PSNR within 2 dB of the VAE's", lambda m: m["vaegan"]["psnr"] >= m["vae"]["psnr"] - 2),
    (
        "vaegan: high-frequency power .7 to 1.3 of real",
        lambda m: 0.7 <= m["vaegan"]["hf_ratio_reconstruction"] <= 1.3,
    ),
]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's settings."""
    parser.add_argument("--data", required=True, help="as `hfgen train` takes it; smaller images are padded to 32 px")
    parser.add_argument("--recipes", default="fashion", help="the recipes' data: vae-NAME, gan-NAME, ... (%(default)s)")
    parser.add_argument("--models", nargs="+", choices=[*OWN, *PEERS], default=[*OWN, *PEERS], help="(all)")
    parser.add_argument("--minutes", type=float, default=10, help="of training, each (%(default)s)")
    parser.add_argument("--n", type=int, default=2000, help="held-out images, and samples (%(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the models")
    parser.add_argument("--check", action="store_true", help="exit 1 where a bar is missed")


def run(arguments: argparse.Namespace) -> int:
    """Train, judge, print the table; returns the exit code."""
    from hfgen.evaluation.held_out import held_out_images
    from hfgen.evaluation.measurement import measure
    from hfgen.evaluation.set_metrics import baseline

    real = held_out_images(arguments.data, n=arguments.n, resolution=32, channels=1, small_images="pad")
    values: dict[str, dict[str, float]] = {}
    print(f"| model | images seen | minutes | {' | '.join(_SHOWN)} |\n|{'---|' * (3 + len(_SHOWN))}")
    for name in arguments.models:
        make = _own if name in OWN else _peer
        samples, reconstructions, facts = make(name, arguments, real.images)
        metrics = measure(real, reconstructions, samples, seed=0).record["metrics"]
        values[name] = {key: metric["value"] for key, metric in metrics.items()}
        cells = [_cell(metrics[key]) if key in metrics else "-" for key in _SHOWN]
        print(f"| {name} | {facts['images']:,} | {facts['seconds'] / 60:.1f} | {' | '.join(cells)} |", flush=True)
    known = baseline(real).estimates
    row = [_cell(estimate.as_dict()) if (estimate := known.get(key)) else "-" for key in _SHOWN]
    print(f"| other real images | | | {' | '.join(row)} |")
    missed = False
    for text, holds in BARS:
        try:
            held = holds(values)
        except KeyError:
            continue
        missed = missed or not held
        print(f"{'held' if held else 'missed'}: {text}")
    return int(arguments.check and missed)


def _cell(metric: dict[str, Any]) -> str:
    return f"{metric['value']:.3g} [{metric['low']:.3g}, {metric['high']:.3g}]"


def _own(name: str, arguments: argparse.Namespace, originals: Tensor) -> tuple[Tensor, Tensor | None, dict[str, Any]]:
    """Samples, reconstructions and the training's facts of one of hfgen's recipes."""
    import hfgen
    from hfgen.evaluation.passes import generate, reconstruct
    from hfgen.seeds import derive_seed

    out = arguments.out / name
    if not (out / "pretrained").is_dir():
        recipe = f"{name}-{arguments.recipes}"
        images = _images_in(recipe, arguments.data, 60 * arguments.minutes)
        _, seconds = _train(recipe, arguments.data, images, out)
        (out / "facts.json").write_text(json.dumps({"images": images, "seconds": seconds}))
    pipeline = hfgen.load(out)
    pipeline.set_progress_bar_config(disable=True)
    samples = generate(pipeline, [derive_seed("sample", 0, index) for index in range(arguments.n)])
    reconstructions = reconstruct(pipeline, originals) if pipeline.can_reconstruct else None
    return samples, reconstructions, json.loads((out / "facts.json").read_text())


def _train(recipe: str, data: str, images: int, out: Path) -> tuple[float, float]:
    """Seconds of the whole command: of wall-clock, and of each core that it keeps busy."""
    command = [sys.executable, _TRAIN, recipe, f"--data={data}", f"--out={out}", f"--max_images={images}"]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    before, started = os.times(), time.perf_counter()
    subprocess.run([*command, "--small_images=pad", "--log_every=500"], check=True, **quiet)
    took, after = time.perf_counter() - started, os.times()
    busy = after.children_user + after.children_system - before.children_user - before.children_system
    return took, busy / torch.get_num_threads()


def _images_in(recipe: str, data: str, seconds: float) -> int:
    """How many images the recipe sees in so many seconds, by a short run with the same shares of its phases."""
    trial = 3000
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        took, whole = _train(recipe, data, trial, out)
        steps = sum(json.loads(line)["seconds"] for line in (out / "speed.jsonl").open()) * whole / took
    return int(trial * (seconds - (whole - steps)) / steps)


def _peer(name: str, arguments: argparse.Namespace, originals: Tensor) -> tuple[Tensor, Tensor | None, dict[str, Any]]:
    """The same of a peer, whose images are kept instead of its networks."""
    from safetensors.torch import load_file, save_file

    from benchmarks.peers import QUALITY
    from hfgen.data import open_store

    folder = arguments.out / name
    if not (folder / "facts.json").is_file():
        store = open_store(arguments.data, split="train", resolution=32, channels=1, small_images="pad")
        folder.mkdir(parents=True, exist_ok=True)
        made = QUALITY[name](store.images, originals, arguments.n, 60 * arguments.minutes, folder)
        pictures = {"samples": made.samples, "reconstructions": made.reconstructions}
        save_file({key: value for key, value in pictures.items() if value is not None}, folder / "images.safetensors")
        (folder / "facts.json").write_text(json.dumps({"images": made.images, "seconds": made.seconds}))
    pictures = load_file(folder / "images.safetensors")
    return pictures["samples"], pictures.get("reconstructions"), json.loads((folder / "facts.json").read_text())
