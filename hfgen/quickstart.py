"""The main job: a VAE, a VQ-VAE and a GAN with one decoder on the same data, compared."""

from __future__ import annotations

from pathlib import Path

from hfgen.comparison.run import compare
from hfgen.configs import load_config
from hfgen.evaluation.run import evaluate
from hfgen.evaluation.timing import measure_costs
from hfgen.files import read_json
from hfgen.pipelines import load
from hfgen.training.train import train

MODELS = {"vae": "vae-glyphs", "vqvae": "vqvae-glyphs", "gan": "gan-glyphs"}


def quickstart(
    data: str, out: Path, *, max_images: int | None = None, n: int = 2000, skip_damaged: bool = False
) -> Path:
    """Train, evaluate and compare into `out`; return the report.

    Images smaller than 32 px are padded. Repeating the call re-uses what is finished.

    Args:
        data: As `hfgen.data.open_store` takes it.
        out: Folder for everything.
        max_images: Images that each model sees; by default its recipe's.
        n: Held-out images that are measured, and samples.
        skip_damaged: Leave damaged images out.

    Raises:
        UserError: bad data, or `out` holds something else.
        Interrupted: Ctrl-C or SIGTERM during training; the state was saved.
    """
    overrides = [f"--data={data}", "--small_images=pad", f"--skip_damaged={str(skip_damaged).lower()}"]
    if max_images is not None:
        overrides.append(f"--max_images={max_images}")
    report = out / "report.html"
    finished = report.is_file() and read_json(out / "comparison.json")["data"]["n"] == n
    for name, recipe in MODELS.items():
        finished = finished and (out / name / "pretrained").is_dir()
        train(load_config(recipe, overrides), out / name)
    if finished:
        return report
    evaluations = {
        name: evaluate(out / name, data, n=n, small_images="pad", skip_damaged=skip_damaged, out=out / name)
        for name in MODELS
    }
    compare(evaluations, out, costs={name: measure_costs(load(out / name)) for name in MODELS})
    return report
