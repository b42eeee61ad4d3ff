"""Real images, described once, for a training loop that isn't hfgen's: what it made -> a few numbers, in a second."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hfgen import metrics
from hfgen.autoencoders import class_fits
from hfgen.data_options import SmallImages
from hfgen.devices import choose
from hfgen.errors import DataError, ModelError, SettingsError
from hfgen.evaluation.foreign_images import Range, is_unit, to_pixels
from hfgen.evaluation.held_out import EMBEDDED, FEWEST, choose_n, held_out_images
from hfgen.evaluation.pair_metrics import pair_metrics
from hfgen.evaluation.passes import batch_size, reconstruct
from hfgen.evaluation.set_metrics import set_metrics
from hfgen.images import to_float
from hfgen.pipelines.given import as_it_was, lent, unwrapped
from hfgen.pipelines.hfgen_pipelines_v1 import ImagePipeline
from hfgen.reporting.estimate_tables import Estimates

logger = logging.getLogger("hfgen")

MOST = 500
"""Real images by default, where there are as many."""

_OF_SAMPLES = ("kid", "coverage", "hf_ratio_sample", "spectral_distance")
_OF_PAIRS = ("psnr", "ssim", "gain_high", "coherence_high", "hf_ratio_reconstruction", "kid_reconstruction")


class Evaluator:
    """Measures samples and reconstructions against the same held-out images, again and again.

    The real images are decoded and looked at once, when it is made; a call looks at what was made only. It changes
    nothing of the training around it: networks are left in their mode, and torch's generators where they were.

    Args:
        data: DATA, as `hfgen.evaluate` takes it; its train split trains the embedded extractor.
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

    def __init__(
        self,
        data: str,
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
        n = choose_n(str(data), split, n, most=MOST, extractor=extractor, config_name=config_name)
        with self._measuring():
            self._real = held_out_images(
                str(data),
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
        """`reconstructions` of a network, a pipeline or a callable; `samples` of images."""
        takes_images = callable(made) or isinstance(made, (nn.Module, ImagePipeline))
        return self.reconstructions(made) if takes_images else self.samples(made)

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
        if values == "auto" and isinstance(images, Tensor) and is_unit(images):
            self._say("samples: no float is negative, so they are taken to be in [0, 1]; give values='signed' if not")
        pixels = to_pixels(images, self._shape, values=values, name="samples")
        if len(pixels) < FEWEST:
            raise DataError(f"samples: {len(pixels)} images, and the fewest to measure are {FEWEST}; draw more")
        found = _Chosen(_OF_SAMPLES)
        with self._measuring():
            spectrum = metrics.power_spectrum(pixels, self._real.window)
            features = self._real.extractor.features(pixels)
            set_metrics(found, self._real, pixels, spectrum, features, self._seed)
        return Estimates(found.estimates, found.notes)

    def reconstructions(self, model: Any, *, batch: int | None = None) -> Estimates:
        """`psnr`, `ssim`, `gain_high`, `coherence_high`, `hf_ratio_reconstruction` and `kid_reconstruction`.

        Args:
            model: An autoencoder of diffusers, wrapped by accelerate or not, a pipeline that has one, a pipeline of
                hfgen; or a callable, float32 (B, C, R, R) in [-1, 1] -> reconstructions in the same form, which is
                called without gradients. A network is put in evaluation mode; what a callable closes over isn't.
            batch: B; None: as many as hfgen's own evaluation takes at once.

        Raises:
            UserError: the model can't take such images, or gives others, or NaN.
        """
        size = batch_size(self._shape[-1]) if batch is None else batch
        if size < 1:
            raise SettingsError(f"batch: {size} images can't be reconstructed; give 1 or more")
        with torch.no_grad():
            pixels = self._through(model, size)
        found = _Chosen(_OF_PAIRS)
        with self._measuring():
            pair_metrics(found, self._real, pixels, self._seed)
        return Estimates(found.estimates, found.notes)

    def _through(self, model: Any, size: int) -> Tensor:
        """Reconstructions of the real images, uint8."""
        network = unwrapped(model)
        has_network = isinstance(network, nn.Module) and class_fits(type(network))
        if has_network or hasattr(model, "components"):
            with lent(model, resolution=self._shape[-1]) as pipeline:
                return torch.cat([reconstruct(pipeline, part) for part in self.images.split(size)])
        if not callable(model):
            given = type(model).__name__
            raise ModelError(
                f"model: {given} reconstructs nothing; give an autoencoder, or a callable: images -> images"
            )
        with as_it_was([model] if isinstance(model, nn.Module) else [], self._compute.device):
            return torch.cat([self._called(model, part) for part in self.images.split(size)])

    def _called(self, model: Callable[[Tensor], Any], part: Tensor) -> Tensor:
        images = to_float(part.to(self._compute.device))
        shape, name = (len(part), *self._shape), "reconstructions"
        made = to_pixels(model(images), self._shape, values="signed", name=name)
        if made.shape != shape:
            raise DataError(f"{name}: {len(made)} of {len(part)} images; return one for each")
        if float(made.min()) >= 127 and float(part.float().mean()) < 127:
            self._say(
                "reconstructions: no value is negative, though those of the images are; return [-1, 1], not [0, 1]"
            )
        return made

    @property
    def _shape(self) -> tuple[int, int, int]:
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
