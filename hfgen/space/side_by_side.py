"""One image through every model -> the pictures side by side, their spectra, what just happened, and JSON values."""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Callable
from typing import Any

from torch import Tensor

from hfgen import metrics
from hfgen.errors import UserError
from hfgen.reporting.colours import Style
from hfgen.reporting.pictures import error_levels, error_maps
from hfgen.space import knobs as latent
from hfgen.space import markup, stage
from hfgen.space.happened import Change, sentence
from hfgen.space.knobs import Knobs
from hfgen.space.loaded_models import LoadedModels, Model
from hfgen.space.spectrum_chart import Line, spectrum_chart
from hfgen.space.uploads import Upload
from hfgen.space.views import View, example

_LEAST_SPECTRUM, _LEAST_SSIM = 16, 11


def reconstructions(
    loaded: LoadedModels, source: Upload | int, knobs: Knobs, watch: Callable[[int, int, str], None] | None = None
) -> View:
    """One image through every model that has an encoder; `source` is an upload or an example's number.

    `watch` is told before each model: how many are done, of how many, and its name.

    Raises:
        UserError: the upload can't be decoded, there is no such example, or no model has an encoder.
    """
    if not loaded.encoders:
        raise UserError("models: none of them has an encoder; look at Generate")
    if not 0 <= knobs.keep <= 1 or not 0 <= knobs.noise <= 4:
        raise UserError(f"keep, noise: {knobs.keep:g}, {knobs.noise:g}; give 0 to 100 per cent, and 0 to 4 deviations")
    made = []
    for done, model in enumerate(loaded.encoders):
        if watch is not None:
            watch(done, len(loaded.encoders), model.name)
        with model.lock:
            made.append(_reconstruct(loaded, model, source, knobs))
    notes = source.notes if isinstance(source, Upload) else []
    happened = sentence([one.change for one in made], knobs)
    words = [f"Your image: {'; '.join(notes)}."] if notes else []
    page = markup.view(
        '<div class="hf-look">',
        f'<div class="hf-happened" aria-live="polite">{markup.paragraphs(happened, *words)}</div>',
        _stage(loaded, made),
        f'<div class="hf-beside">{_chart(made)}</div>',
        "</div>",
        markup.details("The numbers, and what they mean", _table(made), markup.paragraphs(*_LEGEND)),
        _link(source, knobs),
    )
    return View(page, {"happened": happened, "notes": notes, "models": [one.values for one in made]})


_HEAD = ("model", "PSNR (dB)", "SSIM", "fine detail", "components", "rate (bits)", "seconds")
_LEGEND = (
    "Fine detail is the power above 0.25 cycles per pixel over the original's own: below 100 % is blur, above it noise "
    "or detail that isn't there. PSNR is how near the pixels are to the original's. The seconds are those of this "
    "image alone, after warm-up.",
    "Components are the directions in which a model's latents differ most over the held-out images, found for each "
    "model by itself; what is taken away gets its mean. Noise is added in standard deviations of the latent, so that "
    "it is alike for all models. A VQ-VAE's latent is quantised afterwards.",
)


@dataclasses.dataclass(frozen=True)
class _Reconstruction:
    """A model's picture of `original`, with the knobs and (`untouched`) without; all uint8 (1, C, R, R)."""

    name: str
    style: Style
    original: Tensor
    image: Tensor
    untouched: Tensor
    components: tuple[int, int] | None
    rate_bits: float | None
    seconds: float

    @functools.cached_property
    def spectra(self) -> tuple[metrics.PowerSpectrum, ...] | None:
        """Of the original, the image and the untouched one; None where they are too small."""
        if self.image.shape[-1] < _LEAST_SPECTRUM:
            return None
        window = metrics.spectral_window(self.original)
        return tuple(metrics.power_spectrum(x, window) for x in (self.original, self.image, self.untouched))

    @functools.cached_property
    def change(self) -> Change:
        """Fine detail and PSNR, now and without the knobs."""
        detail: list[float | None] = [None, None]
        if self.spectra is not None and float(self.spectra[0].high) > 0:
            detail = [float(one.high) / float(self.spectra[0].high) for one in self.spectra[1:]]
        psnr = [float(metrics.capped_psnr(self.original, x)) for x in (self.image, self.untouched)]
        return Change(self.name, detail[0], detail[1], psnr[0], psnr[1], self.components is not None)

    @functools.cached_property
    def values(self) -> dict[str, Any]:
        """Numbers and pictures; None where an image is too small or too even for a number."""
        ssim = None
        if self.image.shape[-1] >= _LEAST_SSIM:
            ssim = float(metrics.ssim(self.original, self.image, 255))
        return {
            "model": self.name,
            "psnr": self.change.psnr,
            "ssim": ssim,
            "high_frequency_power": self.change.detail,
            "components": self.components,
            "rate_bits": self.rate_bits,
            "seconds": self.seconds,
            "original": markup.pngs(self.original)[0],
            "reconstruction": markup.pngs(self.image)[0],
        }


def _reconstruct(loaded: LoadedModels, model: Model, source: Upload | int, knobs: Knobs) -> _Reconstruction:
    original = source.pixels(*model.size) if isinstance(source, Upload) else example(loaded, model.size, source)
    changed = knobs.keep < 1 or knobs.noise > 0
    found = loaded.components(model) if changed else None
    start = time.perf_counter()
    turned = latent.reconstruct(model.pipeline, original, knobs, found)
    seconds = time.perf_counter() - start
    untouched = turned if knobs == Knobs() else latent.reconstruct(model.pipeline, original, Knobs())
    # Untouched latents need no components, which take a moment to find.
    inputs = loaded.decoder_inputs(model)
    count = 0 if inputs is None else latent.component_count(inputs)
    kept = None if inputs is None else (count if found is None else found.kept(knobs.keep), count)
    rate = None if turned.rate_bits is None else float(turned.rate_bits[0])
    style = loaded.styles[model.name]
    return _Reconstruction(model.name, style, original, turned.images, untouched.images, kept, rate, seconds)


def _stage(loaded: LoadedModels, made: list[_Reconstruction]) -> str:
    levels = [error_levels(one.original, one.image) for one in made]
    top = max(float(level.max()) for level in levels)
    largest = max(made, key=lambda one: one.original.shape[-1])
    cells = [stage.original(largest.original)]
    others = {one.name: loaded.next_decoder(loaded.models[one.name]) for one in made}
    for one, level in zip(made, levels, strict=True):
        name = others[one.name]
        other = None if name is None else (name, loaded.styles[name])
        cells.append(stage.cell(one.name, one.style, one.image, error_maps(level, top), _caption(one), other))
    missing = {name: _NO_ENCODER for name in loaded.models if name not in others}
    missing |= {name: f"Can't be opened: {why}" for name, why in loaded.failed.items()}
    absent = [stage.absent(name, loaded.styles[name], why) for name, why in missing.items()]
    legend = f"Error: dark blue is none, the brightest yellow {top:.0f} of 255 levels, alike for all models."
    return stage.stage(cells, absent, legend, _switched(others))


def _switched(others: dict[str, str | None]) -> str:
    there = [f"that of {name} through {other}'s" for name, other in others.items() if other is not None]
    return f"One latent, another decoder: {', '.join(there)}. They have one encoder." if there else ""


_NO_ENCODER = "It has no encoder, so that it can't show this image; look at Generate."


def _caption(one: _Reconstruction) -> list[str]:
    change = one.change
    psnr = _moved(f"{change.psnr_before:.1f}", f"{change.psnr:.1f}") + " dB"
    if change.detail is None or change.before is None:
        return [psnr]
    return ["fine detail " + _moved(markup.share(change.before), markup.share(change.detail)), psnr]


def _moved(before: str, now: str) -> str:
    return now if before == now else f"{before} → {now}"


def _chart(made: list[_Reconstruction]) -> str:
    lines = []
    for one in made:
        if one.spectra is not None:
            real, now, before = one.spectra
            ratios = [(part.bands[0] / real.bands[0].clamp_min(1e-12)).tolist() for part in (now, before)]
            lines.append(Line(one.name, one.style, now.frequencies.tolist(), ratios[0], ratios[1]))
    dotted = "; dotted: before" if any(line.before != line.now for line in lines) else ""
    return spectrum_chart(lines, f"{_SPECTRA}{dotted}.") if lines else ""


_SPECTRA = "Power over that of the original. What falls below the line of real images at the right is blur"


def _table(made: list[_Reconstruction]) -> str:
    return markup.table(_HEAD, [_numbers(one) for one in made], "the reconstructions in numbers")


def _numbers(one: _Reconstruction) -> list[str]:
    shown = {"psnr": "{:.2f}", "ssim": "{:.3f}", "high_frequency_power": "{:.1%}"}
    kept = "-" if one.components is None else "{} of {}".format(*one.components)
    numbers = [_show(one.values[name], form) for name, form in shown.items()]
    return [one.name, *numbers, kept, _show(one.rate_bits, "{:.1f}"), f"{one.seconds:.3f}"]


def _show(value: float | None, form: str) -> str:
    return "-" if value is None or not math.isfinite(value) else form.format(value)


def _link(source: Upload | int, knobs: Knobs) -> str:
    if isinstance(source, Upload):
        return ""
    share = {**dataclasses.asdict(knobs), "keep": round(100 * knobs.keep)}
    share["noise_seed"] = share.pop("seed")
    return markup.link("reconstruct", example=source, **share)
