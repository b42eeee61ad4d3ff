"""What a visitor asks for -> a page, and the same as JSON values: reconstructions, samples, neighbours, blind tests."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hfgen import metrics
from hfgen.errors import UserError
from hfgen.images import unit_to_uint8
from hfgen.space import knobs as latent
from hfgen.space import markup
from hfgen.space.knobs import Knobs
from hfgen.space.loaded_models import LoadedModels, Model
from hfgen.space.uploads import Upload

EXAMPLES = 8
MOST_SAMPLES = 36
STEPS = 9
_LARGE, _MIDDLE, _SMALL = 192, 128, 64
_LEAST_SPECTRUM, _LEAST_SSIM = 16, 11
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
    """

    seed: int = 0
    count: int = 16
    truncation: float | None = None
    temperature: float = 1.0
    label: int | None = None
    fitted: bool = True


def reconstructions(loaded: LoadedModels, source: Upload | int, knobs: Knobs) -> View:
    """One image through every model that has an encoder; `source` is an upload or an example's number.

    Raises:
        UserError: the upload can't be decoded, there is no such example, or no model has an encoder.
    """
    if not loaded.encoders:
        raise UserError("models: none of them has an encoder; look at Generate")
    made = [_reconstruct(loaded, model, source, knobs) for model in loaded.encoders]
    top = max(int(one.error.max()) for one in made) or 1
    cards = [_card(one, top) for one in made]
    notes = source.notes if isinstance(source, Upload) else []
    share = {"noise": knobs.noise, "quantise": knobs.quantise, "keep": knobs.channels, "noise_seed": knobs.seed}
    page = markup.view(
        markup.paragraphs(f"Your image: {'; '.join(notes)}.") if notes else "",
        markup.row(cards),
        markup.table(_HEAD, [_numbers(one) for one in made], "the reconstructions in numbers"),
        markup.paragraphs(_LEGEND.format(top=top)),
        markup.link("reconstruct", example=source, **share) if isinstance(source, int) else "",
    )
    return View(page, {"notes": notes, "models": [one.values() for one in made]})


_HEAD = ("model", "PSNR (dB)", "SSIM", "high-frequency power", "rate (bits)", "seconds")
_LEGEND = (
    "Error maps share one scale: black is no error, the brightest yellow is {top} of 255 levels. High-frequency power "
    "is that above 0.25 cycles per pixel over the original's own: below 100 % is blur. The seconds are those of this "
    "image alone, after warm-up. Noise and quantisation act on the models that have them: a VAE decodes its "
    "posterior's mean or a sample of it, a VQ-VAE its codebook's vectors or the encoder's own."
)


@dataclasses.dataclass(frozen=True)
class _Reconstruction:
    name: str
    original: Tensor
    image: Tensor
    rate_bits: float | None
    seconds: float

    @property
    def error(self) -> Tensor:
        """uint8 (R, R): absolute difference, over channels the mean."""
        return (self.original.float() - self.image.float()).abs().mean(1)[0].round().byte()

    def values(self) -> dict[str, Any]:
        """Numbers and pictures; None where an image is too small or too even for a number."""
        side = self.image.shape[-1]
        power = []
        if side >= _LEAST_SPECTRUM:
            window = metrics.spectral_window(self.original)
            power = [float(metrics.power_spectrum(x, window).high) for x in (self.image, self.original)]
        return {
            "model": self.name,
            "psnr": float(metrics.capped_psnr(self.original, self.image)),
            "ssim": float(metrics.ssim(self.original, self.image, 255)) if side >= _LEAST_SSIM else None,
            "high_frequency_power": power[0] / power[1] if power and power[1] > 0 else None,
            "rate_bits": self.rate_bits,
            "seconds": self.seconds,
            "original": markup.pngs(self.original)[0],
            "reconstruction": markup.pngs(self.image)[0],
        }


def _reconstruct(loaded: LoadedModels, model: Model, source: Upload | int, knobs: Knobs) -> _Reconstruction:
    original = source.pixels(*model.size) if isinstance(source, Upload) else example(loaded, model.size, source)
    start = time.perf_counter()
    turned = latent.reconstruct(model.pipeline, original, knobs)
    seconds = time.perf_counter() - start
    rate = None if turned.rate_bits is None else float(turned.rate_bits[0])
    return _Reconstruction(model.name, original, turned.images, rate, seconds)


def _card(one: _Reconstruction, top: int) -> str:
    slider = markup.slider(one.original[0], one.image[0], one.name, _LARGE)
    difference = markup.picture(_heat(one.error, top), f"error map of {one.name}", _LARGE)
    return markup.figure(
        markup.row([slider, difference]), f"{one.name}: original over reconstruction (move the edge), and the error"
    )


def _numbers(one: _Reconstruction) -> list[str]:
    values = one.values()
    shown = {"psnr": "{:.2f}", "ssim": "{:.3f}", "high_frequency_power": "{:.1%}", "rate_bits": "{:.1f}"}
    return [one.name, *(_show(values[name], form) for name, form in shown.items()), f"{one.seconds:.3f}"]


def _show(value: float | None, form: str) -> str:
    return "-" if value is None or not math.isfinite(value) else form.format(value)


def _heat(error: Tensor, top: int) -> Tensor:
    """uint8 (R, R) -> RGB (3, R, R) from black over red to yellow, `top` the brightest."""
    import matplotlib

    colours = matplotlib.colormaps["inferno"](error.float().div(top).clamp(0, 1).numpy(), bytes=True)
    return torch.from_numpy(colours[..., :3].copy()).permute(2, 0, 1)


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


def examples(loaded: LoadedModels) -> str:
    """The examples in a row, in the first encoder's size."""
    size = (loaded.encoders or list(loaded.models.values()))[0].size
    last = last_example(loaded)
    shown = loaded.images(size)[: last + 1]
    alt = f"examples 0 to {last}, held-out images"
    return markup.view(markup.figure(markup.sheet(shown, last + 1, alt, 40), f"Examples 0 to {last}, left to right."))


def samples(loaded: LoadedModels, choices: Choices) -> View:
    """The same seed through every model that draws from noise alone.

    Raises:
        UserError: a choice out of range, or no model draws.
    """
    drawn = {model.name: _draw(model, choices) for model in _generators(loaded)}
    columns = math.ceil(math.sqrt(choices.count))
    figures = [
        markup.figure(
            markup.sheet(images, columns, f"{len(images)} samples of {name}, seed {choices.seed}", _SMALL),
            f"{name}: {_settings(loaded.models[name], choices)}",
        )
        for name, images in drawn.items()
    ]
    words = "The i-th image of a seed is the same whatever the number of images. The models' images of a seed have "
    words += "only the seed in common: their latents mean different things."
    page = markup.view(markup.row(figures), markup.paragraphs(words), _generate_link(choices))
    return View(page, {"models": [{"model": name, "images": markup.pngs(images)} for name, images in drawn.items()]})


def interpolation(loaded: LoadedModels, first: int, second: int) -> View:
    """Images between those of two seeds, for every model that draws from noise alone.

    Raises:
        UserError: a seed out of range, or no model draws.
    """
    for seed in (first, second):
        _check_seed(seed)
    drawn = {model.name: latent.interpolate(model.pipeline, first, second, STEPS) for model in _generators(loaded)}
    figures = [
        markup.figure(markup.sheet(images, STEPS, f"{name} from seed {first} to seed {second}", _SMALL), name)
        for name, images in drawn.items()
    ]
    words = "Between the latents of two seeds: on the straight line for a VAE, on the sphere for a GAN; a VQ-VAE's "
    words += "vectors are quantised again on the way, so that it moves in steps."
    page = markup.view(*figures, markup.paragraphs(words), markup.link("generate", seed=first, second=second))
    return View(page, {"models": [{"model": name, "images": markup.pngs(images)} for name, images in drawn.items()]})


def neighbours(loaded: LoadedModels, choices: Choices) -> View:
    """The first samples, and under each the nearest training image by the squared difference of pixels.

    Raises:
        UserError: as `samples`.
    """
    few = dataclasses.replace(choices, count=min(_NEIGHBOURS, choices.count))
    figures, values = [], []
    for model in _generators(loaded):
        images = _draw(model, few)
        training = loaded.images(model.size, "train")
        nearest, distances = nearest_images(images, training)
        alt = f"samples of {model.name}, and under each the nearest training image"
        words = ", ".join(f"{distance:.1f}" for distance in distances.tolist())
        pair = markup.sheet(torch.cat([images, nearest]), len(images), alt, _SMALL)
        caption = f"{model.name}: samples, and the nearest of {len(training):,} training images; rms: {words}"
        figures.append(markup.figure(pair, caption))
        values.append({"model": model.name, "nearest": markup.pngs(nearest), "rms": distances.tolist()})
    words = "Distances are rms differences of pixels in levels of 255: near 0 is a copy; they see no other likeness."
    return View(markup.view(*figures, markup.paragraphs(words)), {"models": values})


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


def _generators(loaded: LoadedModels) -> list[Model]:
    if not loaded.generators:
        raise UserError("models: none of them draws from noise alone; look at Reconstruct")
    return loaded.generators


def _check_seed(seed: int) -> None:
    if not 0 <= seed < 2**63:
        raise UserError(f"seed: {seed} is out of range; give 0 or more")


def _draw(model: Model, choices: Choices) -> Tensor:
    _check_seed(choices.seed)
    if not 1 <= choices.count <= MOST_SAMPLES:
        raise UserError(f"count: {choices.count} images; give 1 to {MOST_SAMPLES}")
    generator = torch.Generator().manual_seed(choices.seed)
    try:
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
        "class_labels": choices.label,
    }
    return {name: value for name, value in given.items() if name in model.pipeline.sampling_options}


def _settings(model: Model, choices: Choices) -> str:
    given = {name: value for name, value in _options(model, choices).items() if value is not None}
    return ", ".join([f"seed {choices.seed}", *(f"{name} {value}" for name, value in given.items())])


def _generate_link(choices: Choices) -> str:
    given = dataclasses.asdict(choices)
    return markup.link("generate", **given)


def blind_pair(loaded: LoadedModels, name: str, seed: int, right: bool) -> View:
    """A held-out image and a sample of the model side by side, the real one at the left or the `right`.

    Raises:
        UserError: no such model, or it doesn't draw.
    """
    model = next((model for model in _generators(loaded) if model.name == name), None)
    if model is None:
        raise UserError(f"model: {name} isn't one of {', '.join(one.name for one in loaded.generators)}")
    held_out = loaded.images(model.size)
    real = held_out[seed % len(held_out)][None]
    fake = _draw(model, Choices(seed=seed, count=1))
    pair = torch.cat([fake, real] if right else [real, fake])
    shown = (
        markup.figure(markup.picture(image, f"the {side} image", _MIDDLE), side)
        for image, side in zip(pair, ("left", "right"), strict=True)
    )
    return View(markup.view(markup.pair(*shown)), {"images": markup.pngs(pair)})
