"""A flow's steps against quality and time, beside the decoder of the VAE whose latents it decodes.

Reconstructions start from the posterior's mean, samples from the fitted prior: the same latents for all rows.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch

from hfgen.errors import UserError
from hfgen.evaluation.evaluate import evaluate
from hfgen.files import write_json
from hfgen.pipelines import ImagePipeline, VAEPipeline, load

METRICS = {
    "psnr": "PSNR, dB",
    "hf_ratio_reconstruction": "power, reconstructions",
    "gain_high": "gain",
    "hf_ratio_sample": "power, samples",
    "kid": "KID",
    "coverage": "coverage",
}
_TIMED = 32


class Row(NamedTuple):
    """`cost`: milliseconds of one core an image drawn, or of the clock on a GPU. `metrics`: as in a record."""

    name: str
    cost: float
    metrics: dict[str, Any]

    def __str__(self) -> str:
        shown = [
            f"{one['value']:.3g} [{one['low']:.3g}, {one['high']:.3g}]"
            for one in map(self.metrics.__getitem__, METRICS)
        ]
        return f"| {' | '.join([self.name, f'{self.cost:.3g}', *shown])} |"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's settings."""
    parser.add_argument("model", metavar="MODEL", help="a trained flow")
    parser.add_argument("--data", default="glyphs", help="as `hfgen evaluate` takes it (%(default)s)")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 5, 10, 20, 50], help="(1 2 5 10 20 50)")
    parser.add_argument("--n", type=int, default=500, help="held-out images, and samples (%(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="folder of flow.json and of the evaluations")


def run(arguments: argparse.Namespace) -> int:
    """Print the table, write flow.json, return the exit code."""
    pipeline: Any = load(arguments.model)
    if pipeline.sampler is None:
        raise UserError(f"model: {arguments.model} is a {pipeline.family}, which draws in one pass; give a flow")
    print(f"| {' | '.join(['decoder', 'ms an image', *METRICS.values()])} |", flush=True)
    print(f"|{'---|' * (2 + len(METRICS))}", flush=True)
    decoder = arguments.out / "vae"
    VAEPipeline(pipeline.vae, pipeline.prior).save_pretrained(decoder / "model")
    rows = [_row("the VAE's", str(decoder / "model"), None, decoder, arguments)]
    for steps in arguments.steps:
        name = f"flow, {steps} step{'s' if steps > 1 else ''}"
        rows.append(_row(name, arguments.model, steps, arguments.out / f"steps-{steps}", arguments))
    write_json(arguments.out / "flow.json", [row._asdict() for row in rows])
    return 0


def _row(name: str, model: str, steps: int | None, out: Path, arguments: argparse.Namespace) -> Row:
    options: dict[str, Any] = {"n": arguments.n, "small_images": "pad", "steps": steps}
    record = evaluate(model, arguments.data, out=out, **options).record
    row = Row(name, _cost(load(model, steps=steps)), {metric: record["metrics"][metric] for metric in METRICS})
    print(row, flush=True)
    return row


def _cost(pipeline: ImagePipeline) -> float:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipeline.to(device)
    now = time.perf_counter if device == "cuda" else time.process_time
    for _ in range(2):
        started = now()
        # To the CPU, which waits for the device.
        pipeline(batch_size=_TIMED, generator=torch.Generator().manual_seed(0), output_type="pt").images.cpu()
    return 1000 * (now() - started) / _TIMED
