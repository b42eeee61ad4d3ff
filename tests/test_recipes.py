"""Every recipe: its dry run, and a tiny run of it, saved, loaded, sampled and resumed."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from tiny import COMMON, TINY

import hfgen
from hfgen.configs import load_config
from hfgen.recipes import recipe_names, recipe_path, recipe_summary
from hfgen.training.checkpoints import load_checkpoint
from hfgen.training.dry_run import dry_run
from hfgen.training.train import train


def shrunk(name: str, data: Path, *overrides: str):
    """The recipe with everything that costs time made small, and nothing else."""
    config = load_config(name)
    small = [*COMMON, *TINY[config.family], f"--data={data}", "--channels=1"]
    settings = config.as_dict()["model"]
    if "latent_size" in settings:
        small.append(f"--model.latent_size={min(settings['latent_size'], 4)}")
    if settings.get("discriminator_layers", 0) > 2:
        small.append("--model.discriminator_layers=2")
    if settings.get("perceptual", "none") not in ("none", "embedded"):
        small.append("--model.perceptual=embedded")
    if settings.get("network") in ("dcgan", "r3"):
        small += ["--model.discriminator_width=16"]
    return load_config(name, [*small, *overrides])


@pytest.fixture(scope="module")
def pair_folder(glyph_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The glyphs with a `condition`: themselves upside down."""
    import datasets
    from PIL import Image

    folder = tmp_path_factory.mktemp("pairs")
    for split in ("train", "test"):
        images = [Image.open(path) for path in sorted((glyph_folder / split).rglob("*.png"))]
        columns = {"image": images, "condition": [image.rotate(180) for image in images]}
        features = datasets.Features({name: datasets.Image() for name in columns})
        datasets.Dataset.from_dict(columns, features=features).to_parquet(folder / f"{split}.parquet")
    return folder


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_says_what_it_is_and_can_be_planned(name: str):
    config = load_config(name)
    assert len(recipe_summary(name)) > 20
    findings = dict(dry_run(config))
    assert findings["family"] == config.family in name.split("-")
    assert any("parameters" in finding for finding in findings.values())
    written = recipe_path(name).read_text().splitlines()[1]
    assert written.startswith("# ") and any(word in written for word in ("Time", "minutes")), "no line on its cost"


def test_a_plan_knows_built_in_data_and_says_what_it_assumes_of_others():
    known = dict(dry_run(load_config("vae-glyphs")))
    assert "assumed" not in known and known["steps"].endswith("images of 1 x 32 x 32")
    asked = dict(dry_run(load_config("vae-glyphs", ["--channels=3"])))
    assert asked["steps"].endswith("3 x 32 x 32"), "what is asked is planned"
    other = dict(dry_run(load_config("vae-glyphs", ["--data=org/photographs"])))
    assert other["assumed"].startswith("3 channels, 1,000 classes") and other["steps"].endswith("3 x 32 x 32")
    told = dict(dry_run(load_config("vae-glyphs", ["--data=org/x", "--channels=1", "--label_column=none"])))
    assert told["assumed"].startswith("1 channels, 0 classes") and "1 x 32 x 32" in told["steps"]


OWN = [name for name in recipe_names() if not load_config(name).model.trains_its_start]
"""Fine-tuning has tests of its own: `training/test_finetune.py`."""


@pytest.mark.parametrize("name", [name for name in OWN if name not in {f"{f}-glyphs" for f in TINY}])
def test_a_recipe_trains_saves_loads_samples_and_resumes(
    name: str, glyph_folder: Path, pair_folder: Path, tmp_path: Path
):
    recipe = load_config(name)
    data = pair_folder if recipe.model.paired_with else glyph_folder
    config = shrunk(name, data)
    out = tmp_path / "run"
    train(config, out)
    newest = max((out / "checkpoints").iterdir())
    _, whole = load_checkpoint(newest)
    pipe = hfgen.load(out)
    if pipe.can_sample:
        images = pipe(batch_size=2, generator=torch.Generator().manual_seed(0), output_type="pt").images
        assert images.shape == (2, 1, 16, 16) and images.isfinite().all()
    logged = (out / "log.jsonl").read_text()
    shutil.rmtree(newest)
    shutil.rmtree(out / "pretrained")
    train(config, out)
    _, resumed = load_checkpoint(newest)
    assert whole.keys() == resumed.keys()
    for part in whole:
        assert all(torch.equal(value, resumed[part][key]) for key, value in whole[part].items()), part
    assert (out / "log.jsonl").read_text() == logged and json.loads(logged.splitlines()[-1])["images"] == 96
