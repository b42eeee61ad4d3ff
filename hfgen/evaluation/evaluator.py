"""Real images, described once, for a training loop that isn't hfgen's: what it made -> a few numbers, in a second."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from hfgen import metrics
from hfgen.data import as_data, found_once
from hfgen.data_options import SmallImages
from hfgen.devices import choose
from hfgen.errors import DataError, ModelError, SettingsError
from hfgen.evaluation.held_out import EMBEDDED, FEWEST, choose_n, held_out_images
from hfgen.evaluation.passes import batch_size, reconstruct
from hfgen.evaluation.set_metrics import set_metrics
from hfgen.images import Range, is_unit
from hfgen.pipelines.callables import find_callables
from hfgen.pipelines.foreign_images import numbers_to_pixels, to_tensor
from hfgen.pipelines.given import given_name, lent, settle
from hfgen.reporting.estimate_tables import Estimates
from hfgen.setting_bounds import whole_number

logger = logging.getLogger("hfgen")

MOST = 500
"""Real images by default, where there are as many."""

_OF_SAMPLES = ("kid", "coverage", "hf_ratio_sample", "spectral_distance")
_PARTS = ("low", "middle", "high")
_FEWEST_PAIRS = 2

# A network that gives [0, 1] overshoots by less, and nearly every image in [-1, 1] has darker pixels.
_OVERSHOT = -0.25


class LookedAtSamples(NamedTuple):
    """Of N samples: their features (N, D), and the fields of their `hfgen.metrics.PowerSpectrum`."""

    features: Tensor
    bands: Tensor
    corners: Tensor
    corner_bands: Tensor
    low: Tensor
    middle: Tensor
    high: Tensor


class LookedAtPairs(NamedTuple):
    """Of N pairs: features of the real and the made images (N, D), scores (N,), and powers (N, 12).

    Powers are those of the real image, of what was made, of the error and of their product, each in three bands.
    """

    real: Tensor
    made: Tensor
    psnr: Tensor
    ssim: Tensor
    powers: Tensor


class Evaluator:
    """Measures samples and reconstructions against the same held-out images, again and again.

    The real images are decoded and looked at once, when it is made; a call looks at what was made only. It changes
    nothing of the training around it: networks are left in their mode, and torch's generators where they were.

    Args:
        data: DATA, or images, as `hfgen.evaluate` takes them; the train split trains the embedded extractor.
        resolution: Side of the images, in pixels.
        channels: 1 (grey), 3 (RGB) or `auto`, as the data are.
        n: Real images; None: all that there are, up to 500.
        split: Of the real images.
        seed: Chooses them.
        extractor: See `hfgen.evaluate`.
        device: Where the extractor computes, and where a callable gets its images; see `hfgen.evaluate`.
        small_images: See `hfgen.evaluate`.
        skip_damaged: See `hfgen.evaluate`.
        image_column: See `hfgen.evaluate`.
        label_column: See `hfgen.evaluate`.
        config_name: See `hfgen.evaluate`.

    Raises:
        UserError: the data or the extractor can't be loaded, or the split has fewer than `n` images.
    """

    @found_once()
    def __init__(
        self,
        data: Any,
        *,
        resolution: int,
        channels: int | Literal["auto"] = "auto",
        n: int | None = None,
        split: str = "test",
        seed: int = 0,
        extractor: str = EMBEDDED,
        device: str | torch.device = "auto",
        small_images: SmallImages = "refuse",
        skip_damaged: bool = False,
        image_column: str | None = None,
        label_column: str | None = None,
        config_name: str | None = None,
    ) -> None:
        self._compute, self._seed = choose(device), seed
        data = as_data(data)
        n = choose_n(data, split, n, most=MOST, extractor=extractor, config_name=config_name)
        with self._measuring():
            self._real = held_out_images(
                data,
                split=split,
                n=n,
                seed=seed,
                resolution=resolution,
                channels=channels,
                small_images=small_images,
                skip_damaged=skip_damaged,
                image_column=image_column,
                label_column=label_column,
                config_name=config_name,
                extractor=extractor,
                device=self._compute.device,
            )
        self._said: set[str] = set()

    @property
    def images(self) -> Tensor:
        """The real images, uint8 (n, C, R, R)."""
        return self._real.images

    @property
    def notes(self) -> list[str]:
        """What was converted, guessed or left out of the data, a line each."""
        return list(self._real.notes)

    @cached_property
    def baseline(self) -> Estimates:
        """What `samples` says of other real images, of the train split: as good as samples can be."""
        return self.samples(self._real.others)

    def __call__(self, made: Any) -> Estimates:
        """`reconstructions` of a network, a pipeline or functions; `samples` of images."""
        is_images = isinstance(made, (Tensor, np.ndarray)) or hasattr(made, "images") or hasattr(made, "sample")
        takes_images = not is_images and (hasattr(made, "components") or find_callables(made) is not None)
        is_model = takes_images or isinstance(made, (nn.Module, str, Path))
        return self.reconstructions(made) if is_model else self.samples(made)

    def samples(self, images: Any, *, values: Range = "auto") -> Estimates:
        """`kid`, `coverage` (with `precision`, `recall`, `density`), `hf_ratio_sample` and `spectral_distance`.

        Args:
            images: N generated images, 12 or more: a tensor uint8 or float (N, C, R, R), an array (N, R, R, C), PIL
                images, a list of those, or what a pipeline of diffusers returns.
            values: Of floats: `signed` [-1, 1], `unit` [0, 1]; `auto` is signed where any is negative, else unit,
                and says so once.

        Raises:
            UserError: too few images, another size or other channels than the real ones', or NaN.
        """
        return self.samples_of(self.look_at_samples(images, values=values))

    def look_at_samples(self, images: Any, *, values: Range = "auto") -> LookedAtSamples:
        """What `samples_of` needs of images, batch by batch; arguments and errors as `samples`."""
        given = to_tensor(images, self.shape, name="samples")
        if values == "auto" and is_unit(given):
            self._say("samples: no float is negative, so they are taken to be in [0, 1]; give values='signed' if not")
        pixels = self._pixels(given, values, "samples")
        with self._measuring():
            spectrum = metrics.power_spectrum(pixels, self._real.window)
            powers = {name: getattr(spectrum, name) for name in LookedAtSamples._fields[1:]}
            return LookedAtSamples(self._real.extractor.features(pixels), **powers)

    def samples_of(self, looked: LookedAtSamples) -> Estimates:
        """`samples`, of all batches joined."""
        if (count := len(looked.features)) < FEWEST:
            raise DataError(f"samples: {count} images, and the fewest to measure are {FEWEST}; draw more")
        real, found = self._real, _Chosen(_OF_SAMPLES)
        powers = dict(zip(LookedAtSamples._fields[1:], looked[1:], strict=True))
        spectrum = metrics.PowerSpectrum(real.spectrum.frequencies, **powers, window=real.window)
        with self._measuring():
            set_metrics(found, real, None, spectrum, looked.features, self._seed)
        return Estimates(found.estimates, found.notes)

    def reconstructions(self, model: Any, *, batch: int | None = None) -> Estimates:
        """`psnr`, `ssim`, `gain_high`, `coherence_high`, `hf_ratio_reconstruction` and `kid_reconstruction`.

        Args:
            model: An autoencoder of diffusers, wrapped by accelerate or not, a pipeline that has one, a pipeline of
                hfgen; or functions, as `hfgen.evaluate` takes them: float32 (B, C, R, R) in [-1, 1] -> reconstructions
                in the same form. A network is put in evaluation mode; what a function closes over isn't.
            batch: B; None: as many as hfgen's own evaluation takes at once.

        Raises:
            UserError: the model can't take such images, or gives others, or NaN.
        """
        size = batch_size(self.shape[-1]) if batch is None else whole_number("batch", batch)
        if size < 1:
            raise SettingsError(f"batch: {size} images can't be reconstructed; give 1 or more")
        with torch.no_grad():
            pixels = self._through(model, size)
        return self.reconstructions_of(self.look_at_pairs(pixels))

    def look_at_pairs(
        self, reconstructions: Any, originals: Any | None = None, *, values: Literal["signed", "unit"] = "signed"
    ) -> LookedAtPairs:
        """What `reconstructions_of` needs of pairs, batch by batch.

        Args:
            reconstructions: As `samples` takes images.
            originals: Theirs, alike; None: the real images.
            values: Of floats: `signed` [-1, 1], which is said once where no value is negative, or `unit` [0, 1].

        Raises:
            UserError: images of another shape or number, or NaN.
        """
        pixels = self._of_pair(reconstructions, values, "reconstructions")
        real, features = self.images, self._real.features
        with self._measuring():
            if originals is not None:
                real = self._of_pair(originals, values, "originals")
                features = self._real.extractor.features(real)
            if len(real) != len(pixels):
                raise DataError(f"reconstructions: {len(pixels)} of {len(real)} images; give one for each")
            bands = metrics.band_measures(real, pixels, self._real.window)
            spectra = (bands.real, bands.reconstruction, bands.error, bands.product)
            powers = torch.stack([getattr(spectrum, name) for spectrum in spectra for name in _PARTS], 1)
            made = self._real.extractor.features(pixels)
            scores = metrics.capped_psnr(real, pixels).double(), metrics.ssim(real, pixels, 255).double()
            return LookedAtPairs(features, made, *scores, powers)

    def _of_pair(self, images: Any, values: Literal["signed", "unit"], name: str) -> Tensor:
        if values not in ("signed", "unit"):
            raise SettingsError(f"values: {values!r} is unknown; give signed or unit")
        given = to_tensor(images, self.shape, name=name)
        if values == "signed" and is_unit(given):
            self._say(f"{name}: no float is negative; they are taken to be in [-1, 1], give values='unit' if not")
        return self._pixels(given, values, name)

    def _pixels(self, given: Tensor, values: Range, name: str) -> Tensor:
        """uint8 of what `to_tensor` gave; that images of another range are clipped is said."""
        if values == "unit" and given.is_floating_point() and bool((given < _OVERSHOT).any()):
            self._say(f"{name}: floats below 0 are clipped to 0; give values='signed' if they are in [-1, 1]")
        return numbers_to_pixels(given, values, name)

    def reconstructions_of(self, looked: LookedAtPairs) -> Estimates:
        """`reconstructions`, of all batches joined."""
        if (count := len(looked.psnr)) < _FEWEST_PAIRS:
            raise DataError(f"reconstructions: {count} pair, and the fewest to measure are {_FEWEST_PAIRS}; give more")
        found, seed = metrics.Collector(), self._seed
        # Contiguous: sums of strided numbers are rounded otherwise.
        spectra = [metrics.bands_alone(*part) for part in looked.powers.T.contiguous().split(len(_PARTS))]
        bands = metrics.BandMeasures(*spectra)
        power = bands.reconstruction.high, bands.real.high

        def high() -> dict[str, metrics.Estimate]:
            band = bands.estimates(seed=seed)["high"]
            return {"gain_high": band.gain, "coherence_high": band.coherence}

        with self._measuring():
            found.add("psnr", lambda: metrics.bootstrap_mean(looked.psnr, seed=seed))
            found.add("ssim", lambda: metrics.bootstrap_mean(looked.ssim, seed=seed))
            found.add("kid_reconstruction", lambda: metrics.paired_kernel_distance(looked.real, looked.made))
            found.add("hf_ratio_reconstruction", lambda: metrics.bootstrap_ratio(*power, seed=seed, paired=True))
            found.add("gain_high, coherence_high", high)
        return Estimates(found.estimates, found.notes)

    def _through(self, model: Any, size: int) -> Tensor:
        """Reconstructions of the real images, uint8."""
        channels, _, side = self.shape
        if isinstance(model, (str, Path)):
            raise ModelError(f"model: {model} is an address; give hfgen.load({str(model)!r})")
        with lent(model, self._compute, resolution=side) as pipeline:
            settle(pipeline, channels)
            if not pipeline.can_reconstruct:
                name = given_name(model)
                raise ModelError(f"model: {name} reconstructs nothing; give an autoencoder, or images to .samples")
            if pipeline.channels not in (channels, "auto"):
                raise SettingsError(
                    f"channels: the evaluator's images have {channels}, and {given_name(model)} takes "
                    f"{pipeline.channels}; make the evaluator with channels={pipeline.channels}"
                )
            parts = self.images.split(size)
            return torch.cat([reconstruct(pipeline, part, size * index) for index, part in enumerate(parts)])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of an image: channels, height and width."""
        channels, height, width = self._real.images.shape[1:]
        return channels, height, width

    @contextlib.contextmanager
    def _measuring(self) -> Iterator[None]:
        """Within, metrics compute in float32 and more, also where the loop around uses half precision."""
        kinds = {"cpu", self._compute.device.type}
        with contextlib.ExitStack() as held:
            held.enter_context(torch.no_grad())
            held.enter_context(metrics.measuring(self._compute))
            for kind in kinds:
                held.enter_context(torch.autocast(kind, enabled=False))
            yield

    def _say(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            logger.warning("%s", line)


class _Chosen(metrics.Collector):
    """Measures some of what is offered: those of these names, and what comes with them."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self._names = set(names)

    def add(self, name: str, measure: Callable[[], Any]) -> None:
        """See `Collector`."""
        if self._wants(name):
            super().add(name, measure)

    def note(self, line: str, *, of: str = "") -> None:
        """See `Collector`; what is about other metrics alone isn't kept."""
        if not of or self._wants(of):
            super().note(line, of=of)

    def _wants(self, names: str) -> bool:
        return bool(self._names & set(names.split(", ")))
