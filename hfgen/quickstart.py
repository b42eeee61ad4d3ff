"""The main job: a VAE, a VQ-VAE and a GAN with one decoder on the same data, compared."""

from __future__ import annotations

from pathlib import Path

from hfgen.comparison import compare
from hfgen.configs import load_config
from hfgen.evaluation import evaluate
from hfgen.training.loop import train

MODELS = {"vae": "vae-glyphs", "vqvae": "vqvae-glyphs", "gan": "gan-glyphs"}


def quickstart(data: str, out: Path, *, skip_damaged: bool = False) -> Path:
    """Train, evaluate and compare into `out`; return the report.

    Images smaller than 32 px are padded. Repeating the call re-uses what is finished.

    Raises:
        UserError: bad data, or `out` holds something else.
        Interrupted: Ctrl-C or SIGTERM during training; the state was saved.
    """
    overrides = [f"--data={data}", "--small_images=pad", f"--skip_damaged={str(skip_damaged).lower()}"]
    for name, recipe in MODELS.items():
        train(load_config(recipe, overrides), out / name)
    evaluations = {
        name: evaluate(out / name, data, small_images="pad", skip_damaged=skip_damaged, out=out / name)
        for name in MODELS
    }
    compare(evaluations, out)
    return out / "report.html"
