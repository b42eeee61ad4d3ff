"""Shared by all tests: a cache of their own, and tiny runs that are trained once."""

import os
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"

TINY = {
    "vae": ["--model.latent_channels=4"],
    "vqvae": [
        "--model.codes=16",
        "--model.prior_width=16",
        "--model.prior_layers=1",
        "--model.prior_heads=2",
    ],
    "gan": [
        "--model.latent_channels=4",
        "--model.discriminator_width=8",
        "--model.discriminator_max_width=16",
    ],
}
"""Overrides that make a family's recipe tiny; a new family adds its row."""

COMMON = ["--resolution=16", "--max_images=96", "--batch_size=16", "--warmup_images=16", "--log_every=32"]
COMMON += ["--model.width=16", "--model.max_width=16", "--sample_every=48", "--checkpoint_every=48"]


@pytest.fixture(scope="session", autouse=True)
def hfgen_cache(tmp_path_factory: pytest.TempPathFactory):
    """Decoded data and extractors of this session, kept apart from the user's."""
    old = os.environ.get("HFGEN_CACHE")
    os.environ["HFGEN_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    os.environ.pop("HFGEN_CACHE")
    if old is not None:
        os.environ["HFGEN_CACHE"] = old


@pytest.fixture(scope="session")
def glyph_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 200 glyphs of 16 px, half of them for testing, in three classes."""
    from hfgen.data import draw
    from hfgen.images import to_pil

    folder = tmp_path_factory.mktemp("glyphs")
    for split in ("train", "test"):
        for index, image in enumerate(to_pil(draw("glyphs", split, 0, 100, 16).images)):
            path = folder / split / "abc"[index % 3] / f"{index:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
    return folder


@pytest.fixture(scope="session", params=sorted(TINY))
def family(request: pytest.FixtureRequest) -> str:
    """Each family in turn."""
    return request.param


def tiny_config(family: str, data: Path, *overrides: str):
    """The tiny run of a family on a folder."""
    from hfgen.configs import load_config

    return load_config(f"{family}-glyphs", [*COMMON, *TINY[family], f"--data={data}", *overrides])


@pytest.fixture(scope="session")
def trained(family: str, glyph_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished tiny run."""
    from hfgen.training.loop import train

    out = tmp_path_factory.mktemp("runs") / family
    train(tiny_config(family, glyph_folder), out)
    return out
