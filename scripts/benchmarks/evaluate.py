"""What `hfgen evaluate` costs over a bare loop: encode, decode, and the judge's features of both, of the same images.

The model is an AutoencoderKL of widths 32 to 64 with random weights, the data are random fields like photographs; both
are timed in CPU seconds of this process, the judge having been trained before. Each image is encoded and decoded once
by either.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

BAR = 1.3
_WIDTHS = (32, 64, 64, 64)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's settings."""
    parser.add_argument("--n", type=int, default=500, help="held-out images (%(default)s)")
    parser.add_argument("--resolution", type=int, default=256, help="in pixels (%(default)s)")
    parser.add_argument("--check", action="store_true", help=f"exit 1 above a ratio of {BAR}")


def run(arguments: argparse.Namespace) -> int:
    """Time both, print the ratio, return the exit code."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        model, data = make_model(place / "model"), make_data(place / "data", arguments.n, arguments.resolution)
        settings: dict[str, Any] = {"n": arguments.n, "resolution": arguments.resolution}
        judge = _prepare(data, arguments.resolution)
        bare = _seconds(lambda: bare_loop(model, data, judge, **settings))
        print(f"bare loop: {bare:.1f} s, {1000 * bare / arguments.n:.0f} ms an image", flush=True)
        ours = _seconds(lambda: _evaluate(model, data, place / "out", **settings))
    ratio = ours / bare
    print(f"hfgen evaluate: {ours:.1f} s, {1000 * ours / arguments.n:.0f} ms an image")
    size = f"{arguments.n} images of {arguments.resolution} px"
    print(f"{'held' if ratio <= BAR else 'missed'}: evaluate / bare loop {ratio:.2f}, bar {BAR} ({size})")
    return int(arguments.check and ratio > BAR)


def make_model(folder: Path) -> Path:
    """A small AutoencoderKL with a factor of 8."""
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    blocks = len(_WIDTHS)
    network = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        block_out_channels=_WIDTHS,
        layers_per_block=1,
        norm_num_groups=16,
        sample_size=256,
    )
    network.save_pretrained(folder)
    return folder


def make_data(folder: Path, n: int, resolution: int) -> Path:
    """`n` test images and 100 training images: colour fields whose power falls with the square of the frequency."""
    from hfgen.images import to_pil, to_uint8

    frequencies = torch.hypot(torch.fft.fftfreq(resolution)[:, None], torch.fft.rfftfreq(resolution))
    weights = 1 / frequencies.clamp_min(1 / resolution)
    generator = torch.Generator().manual_seed(0)
    for split, count in (("train", 100), ("test", n)):
        (folder / split).mkdir(parents=True)
        for first in range(0, count, 64):
            noise = torch.randn(min(64, count - first), 3, resolution, resolution, generator=generator)
            fields = torch.fft.irfft2(torch.fft.rfft2(noise) * weights, s=(resolution, resolution))
            fields = 0.4 * (fields - fields.mean((1, 2, 3), keepdim=True)) / fields.std((1, 2, 3), keepdim=True)
            for index, image in enumerate(to_pil(to_uint8(fields)), first):
                image.save(folder / split / f"{index:05d}.png", compress_level=1)
    return folder


def bare_loop(model: Path, data: Path, judge: Any, n: int, resolution: int) -> None:
    """What anybody would write: the images, once through the model, and the features of both."""
    from diffusers import AutoencoderKL

    from hfgen.data import open_store
    from hfgen.images import to_float, to_uint8

    network = AutoencoderKL.from_pretrained(model).eval()
    images = open_store(str(data), split="test", resolution=resolution, channels=3).images[:n]
    for part in torch.as_tensor(images).split(4):
        with torch.no_grad():
            made = network.decode(network.encode(to_float(part)).latent_dist.mode()).sample
        judge.features(part)
        judge.features(to_uint8(made))


def _evaluate(model: Path, data: Path, out: Path, n: int, resolution: int) -> None:
    from hfgen.evaluation.evaluate import evaluate

    evaluate(model, str(data), n=n, resolution=resolution, out=out, device="cpu")


def _prepare(data: Path, resolution: int) -> Any:
    """Decode the images, and train the judge and the reader, which are cached for all models."""
    from hfgen import metrics
    from hfgen.data import open_store
    from hfgen.metrics.reader import reader

    options: dict[str, Any] = {"resolution": resolution, "channels": 3}
    training = open_store(str(data), split="train", **options)
    open_store(str(data), split="test", **options)
    reader()
    return metrics.embedded_extractor(training.targets, training.labels, training.fingerprint)


def _seconds(work: Any) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started
