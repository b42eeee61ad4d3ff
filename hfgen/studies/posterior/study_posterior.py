"""`hfgen study posterior`: models of glyphs -> what their latents say, what their decoders draw: posterior.json."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout
from torch import Tensor

from hfgen.configs import load_config
from hfgen.data import SPLIT_SIZES
from hfgen.devices import Compute, choose
from hfgen.documents import POSTERIOR, versions
from hfgen.errors import SettingsError, UserError
from hfgen.files import folder_state, write_bytes
from hfgen.pipelines.loading import open_model
from hfgen.pipelines.weight_digest import digest_of_folder
from hfgen.reporting.charts import encode, theme
from hfgen.reporting.exact_answers import sheet_name, slug
from hfgen.seeds import derive_seed
from hfgen.setting_bounds import whole_number
from hfgen.studies.posterior.answer_figure import draw, sheet_of
from hfgen.studies.posterior.exact_answer import Answer, Guess, Size, answer, guess_of
from hfgen.studies.posterior.glyph_channel import COUNTS, GlyphChannel
from hfgen.studies.posterior.latent_regression import LatentRegression
from hfgen.studies.posterior.shares import summary
from hfgen.training.train import train

# Changes whenever the same settings give other answers.
_VERSION = 2
_WAIT_S = 2.0
_FEWEST = 2

CELLS: dict[str, tuple[str, ...]] = {
    "grid": ("vae-glyphs",),
    "vector": ("vae-glyphs", "--model.latent_size=1", "--model.latent_channels=16"),
    "grid, KL weight 10": ("vae-glyphs", "--model.kl_weight=10"),
    "grid, KL weight 100": ("vae-glyphs", "--model.kl_weight=100"),
    "VQ-VAE": ("vqvae-glyphs",),
    "FSQ": ("vqvae-glyphs", "--model.levels=[8,6,5]", "--model.codes=240", "--model.code_channels=3"),
}
"""What is trained where no MODEL is given: a recipe and its settings. The VAEs have 16 numbers, the others 16 codes."""

logger = logging.getLogger("hfgen")


class Budget(NamedTuple):
    """`n` held-out images, how each is answered, and the images that a cell is trained on; None: the recipe's."""

    n: int
    size: Size
    images: int | None


BUDGETS = {
    "smoke": Budget(4, Size(points=12, particles=16, sweeps=8, attempts=1), images=64),
    "full": Budget(200, Size(points=48, particles=64, sweeps=16, attempts=3), images=None),
}


def study_posterior(
    models: Sequence[str],
    out: Path,
    *,
    budget: str = "full",
    n: int | None = None,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "auto",
) -> dict[str, Any]:
    """Answer `n` held-out glyphs for each model, or for `CELLS`, and write posterior.json and figures/ into `out`.

    One draw z of the encoder's posterior of each image; then x given z exactly, by sampling the glyph's known factors.
    Entries of other models that posterior.json has stay. Every image's answer is a file in `out`/answers, named by a
    hash of all that it depends on: a repeated call makes what is missing, and several processes with the same arguments
    share the images.

    Raises:
        UserError: a model can't be loaded, has no Gaussian posterior or colour; an unknown budget, or too few images.
    """
    if budget not in BUDGETS:
        raise SettingsError(f"budget: {budget!r} is none; choose {' or '.join(BUDGETS)}")
    size, images = BUDGETS[budget].size, BUDGETS[budget].images
    n = BUDGETS[budget].n if n is None else whole_number("n", n)
    _check_n(n)
    compute, found = choose(device, dtype), {}
    for name, model in _models(models, out, images, seed, compute):
        channel, folder, answers = answer_model(name, model, out, budget, n, seed, compute)
        facts = {"name": name, "id": str(model), "weights": digest_of_folder(folder), "resolution": channel.resolution}
        found[name] = (facts, answers)
    document: dict[str, Any] = {
        "schema": POSTERIOR.version,
        "budget": {"name": budget, "n": n, **size._asdict()},
        "seed": seed,
        "versions": versions(),
        "models": [{**facts, **summary(answers)} for facts, answers in found.values()],
    }
    for facts, answers in found.values():
        write_bytes(out / "figures" / sheet_name(facts), sheet_of(answers))
    with FileLock(out / ".posterior.lock"), theme("light"):
        document["models"] = [*_kept(out / "posterior.json", document), *document["models"]]
        write_bytes(out / "figures" / "shares.png", encode(draw(document["models"])))
        POSTERIOR.write(out / "posterior.json", document)
    return document


def _kept(path: Path, document: dict[str, Any]) -> list[dict[str, Any]]:
    """The entries of other models in the posterior.json that is there, of those that were answered in the same way."""
    if not path.is_file():
        return []
    try:
        before = POSTERIOR.read(path)
    except UserError as error:
        logger.warning("%s; it is replaced", error)
        return []
    names = {one["name"] for one in document["models"]}
    weights = {(one["weights"], one["resolution"]) for one in document["models"]}
    others = [
        one
        for one in before["models"]
        if one["name"] not in names and (one.get("weights"), one["resolution"]) not in weights
    ]
    kept = [one for one in others if "weights" in one and _way(before) == _way(document)]
    if left := [one["name"] for one in others if one not in kept]:
        logger.warning("%s: %s left out, answered by another version or budget; study again", path, ", ".join(left))
    return kept


def _way(document: dict[str, Any]) -> tuple[Any, ...]:
    """How images are answered, however many."""
    size = {name: number for name, number in document["budget"].items() if name not in ("name", "n")}
    return size, document["seed"], document["versions"]


def answer_model(
    name: str, model: str, out: Path, budget: str, n: int, seed: int, compute: Compute
) -> tuple[GlyphChannel, Path, list[Answer]]:
    """A model's encoder behind the renderer, its folder, and the answers of the first `n` held-out glyphs."""
    _check_n(n)
    size = BUDGETS[budget].size
    pipeline, folder = open_model(model)
    channel = GlyphChannel(compute.place(pipeline))
    facts = {"version": _VERSION, "weights": folder_state(folder), "size": size, "seed": seed}
    return channel, folder, _answers(channel, size, n, seed, named_folder(out / "answers", name, facts))


def _check_n(n: int) -> None:
    most = SPLIT_SIZES["test"]
    if not _FEWEST <= n <= most:
        raise SettingsError(f"n: {n} images asked of the {most} held-out glyphs; give {_FEWEST} to {most}")


def _models(
    models: Sequence[str], out: Path, images: int | None, seed: int, compute: Compute
) -> Iterator[tuple[str, str]]:
    """(name, MODEL): those that are given, or the cells, trained where they aren't yet."""
    if models:
        yield from ((model, model) for model in models)
        return
    for name, (recipe, *overrides) in CELLS.items():
        fewer = [] if images is None else [f"--max_images={images}"]
        config = load_config(recipe, [*overrides, *fewer, f"--seed={seed}", "--sample_every=0"])
        folder = named_folder(out / "cells", name, config.as_dict())
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")), compute.training():
            train(config, folder)
        yield name, str(folder)


def named_folder(parent: Path, name: str, facts: Any) -> Path:
    """Of what depends on some facts alone."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return parent / f"{slug(name)}-{digest[:12]}"


def _answers(channel: GlyphChannel, size: Size, n: int, seed: int, folder: Path) -> list[Answer]:
    """Of the first `n` held-out glyphs; those that another process is at are waited for."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{index:05d}.safetensors" for index in range(n)]
    guess: Guess | None = None
    while missing := [index for index, path in enumerate(paths) if not path.is_file()]:
        made = 0
        for index in missing:
            try:
                with FileLock(folder / f".{index:05d}.lock", blocking=False):
                    if not paths[index].is_file():
                        guess = guess or _guess(channel, size, seed, folder / "encoder.safetensors")
                        _write(paths[index], answer(channel, guess, size, index, seed).tensors())
                        logger.info("%s: image %d of %d", folder.name, index + 1, n)
                    made += 1
            except Timeout:
                continue
        if not made:
            time.sleep(_WAIT_S)
    return [Answer.of_tensors(_read(path)) for path in paths]


def _guess(channel: GlyphChannel, size: Size, seed: int, path: Path) -> Guess:
    """What all images and processes share."""
    with FileLock(path.with_name(f".{path.name}.lock")):
        if not path.is_file():
            made = channel.regression(size.points, derive_seed("points", seed))
            _write(path, {"places": made.places, "statistics": made.statistics})
        found = _read(path)
    return guess_of(LatentRegression(COUNTS, found["places"], found["statistics"]), seed)


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    from safetensors.torch import save

    write_bytes(path, save(tensors))


def _read(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load

    return load(path.read_bytes())
