"""The main job: a VAE, a VQ-VAE and a GAN with one decoder on the same data, compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hfgen.comparison.compare import compare
from hfgen.configs import load_config
from hfgen.data import split_size
from hfgen.data_options import SmallImages
from hfgen.devices import choose
from hfgen.evaluation.evaluate import evaluate
from hfgen.evaluation.held_out import choose_n
from hfgen.evaluation.timing import measure_costs
from hfgen.files import read_json
from hfgen.outputs import check_no_evaluation
from hfgen.pipelines import load
from hfgen.training.train import train

# Of so few images a VQ-VAE's autoencoder needs half.
MODELS = {
    "vae": ("vae-glyphs",),
    "vqvae": ("vqvae-glyphs", "--model.prior_begin=0.5"),
    "gan": ("gan-glyphs", "--model.penalty=1", "--ema_half_life=1000"),
}
"""By name: a recipe and its settings, those that the README's numbers are of."""
IMAGES = 16_000
"""That each model sees, the same for all: so a difference isn't that of the training's length."""


def quickstart(
    data: str,
    out: Path,
    *,
    max_images: int | None = None,
    n: int | None = None,
    split: str = "test",
    small_images: SmallImages = "pad",
    skip_damaged: bool = False,
    image_column: str | None = None,
    label_column: str | None = None,
    config_name: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
) -> Path:
    """Train, evaluate and compare into `out`; return the report.

    Repeating the call re-uses what is finished.

    Args:
        data: As `hfgen.data.open_store` takes it.
        out: Folder for everything.
        max_images: Images that each model sees; by default `IMAGES`.
        n: Held-out images that are measured, and samples; by default as many as there are, up to 2000.
        split: Of the held-out images.
        small_images: What to do with images below 32 px.
        skip_damaged: Leave damaged images out.
        image_column: See `hfgen.data.open_store`.
        label_column: See `hfgen.data.open_store`.
        config_name: See `hfgen.data.open_store`.
        device: Where models are trained and run; see `hfgen.devices.choose`.
        dtype: In which numbers they are measured; their training chooses its own.

    Raises:
        UserError: bad data, too few held-out images, which is found before anything is trained, or `out` holds
            something else.
        Interrupted: Ctrl-C or SIGTERM during training; the state was saved.
    """
    check_no_evaluation(out)
    compute = choose(device, dtype)
    count = choose_n(data, split, n, config_name=config_name)
    columns = {"image_column": image_column, "label_column": label_column, "config_name": config_name}
    overrides = [f"--data={data}", f"--small_images={small_images}", f"--skip_damaged={str(skip_damaged).lower()}"]
    overrides += [f"--{name}={value}" for name, value in columns.items() if value is not None]
    overrides.append(f"--max_images={IMAGES if max_images is None else max_images}")
    report = out / "report.html"
    used, _ = split_size(data, split, config_name=config_name)
    finished = (out / "comparison.json").is_file() and _measured(out, used, count, fewer=n is None and skip_damaged)
    with compute.training():
        for name, (recipe, *own) in MODELS.items():
            finished = finished and (out / name / "pretrained").is_dir()
            train(load_config(recipe, [*own, *overrides]), out / name)
    if finished:
        return report
    settings: dict[str, Any] = {"split": split, "n": n, "small_images": small_images, "skip_damaged": skip_damaged}
    settings |= columns
    settings |= {"device": compute.device, "dtype": compute.dtype}
    evaluations = {name: evaluate(out / name, data, out=out / name, **settings) for name in MODELS}
    costs = {name: measure_costs(compute.place(load(out / name))) for name in MODELS}
    compare(evaluations, out, costs=costs, device=compute.device)
    return report


def _measured(out: Path, split: str, count: int, *, fewer: bool) -> bool:
    """Whether the comparison in `out` is of so many images of the split, or of `fewer`, where damaged ones are."""
    data = read_json(out / "comparison.json")["data"]
    return data["split"] == split and (data["n"] == count or (fewer and data["n"] < count))
