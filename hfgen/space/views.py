"""What a visitor asks for -> a page, and the same as JSON values: samples, what lies between, neighbours."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hfgen.errors import UserError
from hfgen.images import unit_to_uint8
from hfgen.space import knobs as latent
from hfgen.space import markup
from hfgen.space.loaded_models import LoadedModels, Model

EXAMPLES = 12
MOST_SAMPLES = 36
STEPS = 9
_SMALL = 64
_CALLED = {"class_labels": "class"}
_NEIGHBOURS = 8
_CHUNK = 2048


class View(NamedTuple):
    """A page, and what it shows as JSON values."""

    page: str
    values: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Choices:
    """How samples are drawn. What a model hasn't got, it ignores.

    Attributes:
        seed: Of `torch.Generator().manual_seed(seed)`, from which a model's images draw in turn.
        count: Images a model.
        truncation: A GAN's bound on its latent numbers, in standard deviations; None: none.
        temperature: Of a VQ-VAE's prior.
        label: Class of a conditional model; None: drawn.
        fitted: A VAE's fitted prior, where it has one; else N(0, I).
        steps: Of a decoder that draws in several; None: its own number.
    """

    seed: int = 0
    count: int = 16
    truncation: float | None = None
    temperature: float = 1.0
    label: int | None = None
    fitted: bool = True
    steps: int | None = None


def example(loaded: LoadedModels, size: tuple[int, int], index: int) -> Tensor:
    """Held-out image number `index`, uint8 (1, C, R, R).

    Raises:
        UserError: there are not so many.
    """
    last = last_example(loaded)
    if not 0 <= index <= last:
        raise UserError(f"example: {index} isn't in 0 to {last}; choose another")
    return loaded.images(size)[index : index + 1].contiguous()


def last_example(loaded: LoadedModels) -> int:
    """Examples are numbered from 0."""
    return min(EXAMPLES, *(len(loaded.images(model.size)) for model in loaded.models.values())) - 1


def gallery(loaded: LoadedModels) -> str:
    """The style sheet that gives each of the gallery's radio buttons its example, in the first encoder's size."""
    size = (loaded.encoders or list(loaded.models.values()))[0].size
    shown = markup.pngs(loaded.images(size)[: last_example(loaded) + 1])
    rules = (
        f"#hf-examples label:nth-of-type({place}) {{ background-image: url({source}) }}"
        for place, source in enumerate(shown, 1)
    )
    return f"<style>{''.join(rules)}</style>"


def samples(loaded: LoadedModels, choices: Choices) -> View:
    """The same seed through every model that draws from noise alone.

    Raises:
        UserError: a choice out of range, or no model draws.
    """
    drawn = {model.name: draw(model, choices) for model in generators(loaded)}
    columns = math.ceil(math.sqrt(choices.count))
    figures = [
        markup.named(
            markup.fitted_sheet(images, columns, f"{len(images)} samples of {name}, seed {choices.seed}"),
            name,
            loaded.styles[name],
            _settings(loaded.models[name], choices),
        )
        for name, images in drawn.items()
    ]
    words = "The i-th image of a seed is the same whatever the number of images. The models' images of a seed have "
    words += "only the seed in common: their latents mean different things."
    page = markup.view(markup.columns(figures), markup.paragraphs(words), _generate_link(choices))
    return View(page, {"models": [{"model": name, "images": markup.pngs(images)} for name, images in drawn.items()]})


def interpolation(loaded: LoadedModels, first: int, second: int) -> View:
    """Images between those of two seeds, for every model that draws from noise alone.

    Raises:
        UserError: a seed out of range, or no model draws.
    """
    for seed in (first, second):
        _check_seed(seed)
    drawn = {}
    for model in generators(loaded):
        with model.lock:
            drawn[model.name] = latent.interpolate(model.pipeline, first, second, STEPS)
    figures = [
        markup.named(markup.frames(images, f"{name} from seed {first} to seed {second}"), name, loaded.styles[name], "")
        for name, images in drawn.items()
    ]
    words = "Between the latents of two seeds: on the straight line for a VAE, on the sphere for a GAN; a VQ-VAE's "
    words += (
        "vectors are quantised again on the way, so that it moves in steps. A flow's latent moves on the line, its "
    )
    words += "noise on the sphere."
    link = markup.link("generate", seed=first, second=second)
    page = markup.view(markup.scrubber(STEPS), markup.columns(figures), markup.paragraphs(words), link)
    return View(page, {"models": [{"model": name, "images": markup.pngs(images)} for name, images in drawn.items()]})


def neighbours(loaded: LoadedModels, choices: Choices) -> View:
    """The first samples, and under each the nearest training image by the squared difference of pixels.

    Raises:
        UserError: as `samples`.
    """
    few = dataclasses.replace(choices, count=min(_NEIGHBOURS, choices.count))
    figures, values = [], []
    for model in generators(loaded):
        images = draw(model, few)
        training = loaded.images(model.size, "train")
        nearest, distances = nearest_images(images, training)
        pairs = [
            _neighbour(model.name, place, *pair)
            for place, pair in enumerate(zip(images, nearest, distances, strict=True))
        ]
        said = f"samples, and the nearest of {len(training):,} training images, with its distance"
        figures.append(markup.named(markup.row(pairs), model.name, loaded.styles[model.name], said))
        values.append({"model": model.name, "nearest": markup.pngs(nearest), "rms": distances.tolist()})
    words = "Distances are rms differences of pixels in levels of 255: near 0 is a copy; they see no other likeness."
    page = markup.view(markup.columns(figures), markup.paragraphs(words))
    return View(page, {"models": values})


def _neighbour(name: str, place: int, image: Tensor, nearest: Tensor, distance: Tensor) -> str:
    alts = (f"sample {place} of {name}", f"the training image nearest to sample {place} of {name}")
    sources = markup.pngs(torch.stack([image, nearest]))
    side = max(_SMALL, image.shape[-1])
    shown = "".join(markup.fitted(source, alt, side) for source, alt in zip(sources, alts, strict=True))
    return markup.figure(shown, f"{distance:.1f}")


def nearest_images(images: Tensor, training: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest of uint8 `training` (M, C, R, R) to each of `images` (N, C, R, R), and the rms difference (N,)."""
    queries = images.float().flatten(1)
    best, found = torch.full((len(images),), torch.inf), torch.zeros(len(images), dtype=torch.int64)
    for start in range(0, len(training), _CHUNK):
        squares = torch.cdist(queries, training[start : start + _CHUNK].float().flatten(1)).square()
        least, index = squares.min(1)
        found = torch.where(least < best, index + start, found)
        best = torch.minimum(least, best)
    nearest = training[found]
    return nearest, (images.float() - nearest.float()).square().mean((1, 2, 3)).sqrt()


def generators(loaded: LoadedModels) -> list[Model]:
    """Those that draw from noise alone.

    Raises:
        UserError: there are none.
    """
    if not loaded.generators:
        raise UserError("models: none of them draws from noise alone; look at Reconstruct")
    return loaded.generators


def _check_seed(seed: int) -> None:
    if not 0 <= seed < 2**63:
        raise UserError(f"seed: {seed} is out of range; give 0 or more")


def draw(model: Model, choices: Choices) -> Tensor:
    """The model's images of the choices, uint8 (N, C, R, R).

    Raises:
        UserError: a choice is out of range.
    """
    _check_seed(choices.seed)
    if not 1 <= choices.count <= MOST_SAMPLES:
        raise UserError(f"count: {choices.count} images; give 1 to {MOST_SAMPLES}")
    generator = torch.Generator().manual_seed(choices.seed)
    try:
        with model.lock:
            output = model.pipeline(
                batch_size=choices.count, generator=generator, output_type="pt", **_options(model, choices)
            )
    except ValueError as error:
        raise UserError(f"{model.name}: {error}") from None
    return unit_to_uint8(output.images)


def _options(model: Model, choices: Choices) -> dict[str, Any]:
    """Those of the choices that the model's pipeline takes."""
    given = {
        "truncation": choices.truncation,
        "temperature": choices.temperature,
        "prior": "fitted" if choices.fitted else "normal",
        "class_labels": choices.label if _knows(model, choices.label) else None,
        "steps": choices.steps,
    }
    return {name: value for name, value in given.items() if name in model.pipeline.sampling_options}


def _knows(model: Model, label: int | None) -> bool:
    """Whether a class is one of those that the model draws; models with fewer classes draw one of their own."""
    return label is not None and label < model.pipeline.num_classes


def _settings(model: Model, choices: Choices) -> str:
    given = {name: value for name, value in _options(model, choices).items() if value is not None}
    words = [f"seed {choices.seed}", *(f"{_CALLED.get(name, name)} {value}" for name, value in given.items())]
    classes = model.pipeline.num_classes
    if classes and choices.label is not None and not _knows(model, choices.label):
        words.append(f"drawn of its {classes} classes")
    return ", ".join(words)


def _generate_link(choices: Choices) -> str:
    given = dataclasses.asdict(choices)
    return markup.link("generate", **given)
