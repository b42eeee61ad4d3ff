"""What the gates look at: images, reconstructions, latents and samples, each computed once and only if asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from hfgen import metrics
from hfgen.autoencoders import Autoencoder, Encoded
from hfgen.diagnosis.data_quality import DataQuality, data_quality
from hfgen.diagnosis.gates.findings import Finding
from hfgen.diagnosis.interventions import inputs_of
from hfgen.evaluation.held_out import HeldOut
from hfgen.images import to_float, to_uint8
from hfgen.metrics import Estimate
from hfgen.metrics.spectrum import Window, spectral_window
from hfgen.seeds import derive_seed

_PIXELS, _MOST, _FEWEST = 2**18, 192, 12
_BATCH_PIXELS = 2**16
_FEW, _FEW_PIXELS, _FEWEST_FEW = 32, 2**15, 6
_UNSEEN = 4.0
_REC_601 = (0.299, 0.587, 0.114)


def _where_they_are(outputs: Tensor) -> Tensor:
    return outputs


@dataclass
class Context:
    """A model as the gates see it; without a `network`, only its images count.

    Attributes:
        images: Held-out images, uint8 (n, C, R, R).
        network: The autoencoder, if there is one.
        pipeline: What it is a part of.
        made: Reconstructions, uint8, where they come from elsewhere; in the order of `images`.
        samples: uint8 (m, C, R, R), if the model draws any.
        held_out: The images with their judge.
        variety: What was measured of the samples' features, by name.
        baseline: The same of other real images.
        training: Gives training images, uint8.
        model: Its address, for commands that can be pasted.
        data: Likewise.
        seed: Of every draw and all resampling.
        found: What earlier gates found.
        corrections: What undoes it in outputs (N, C, R, R), in order, where a map of all of them does.
        place: Lays outputs that are out of place on the originals, by interpolation, which coarse content bears.
        notes: What was decided about how to look, for the record.
    """

    images: Tensor
    network: Autoencoder | None = None
    pipeline: Any = None
    made: Tensor | None = None
    samples: Tensor | None = None
    held_out: HeldOut | None = None
    variety: dict[str, Estimate] = field(default_factory=dict)
    baseline: dict[str, Estimate] = field(default_factory=dict)
    training: Callable[[], Tensor] | None = None
    model: str = "MODEL"
    data: str = "DATA"
    seed: int = 0
    found: list[Finding] = field(default_factory=list)
    corrections: list[Callable[[Tensor], Tensor]] = field(default_factory=list)
    place: Callable[[Tensor], Tensor] = _where_they_are
    notes: list[str] = field(default_factory=list)

    @property
    def recipe(self) -> str:
        """One that trains such a model further, for commands that can be pasted."""
        family = getattr(self.pipeline, "family", "vae")
        return "vaegan-finetune" if family == "autoencoder" else f"{family}-glyphs"

    @cached_property
    def real(self) -> Tensor:
        """The images that gates run the network on, uint8: 192 of them up to 32 pixels, at least 12."""
        side = self.images.shape[-1]
        return self.images[: max(_FEWEST, min(_MOST, _PIXELS // side**2))]

    @cached_property
    def inputs(self) -> Tensor:
        """The same in [-1, 1], float32, on the CPU."""
        return to_float(self.real)

    @property
    def few(self) -> Tensor:
        """So few of `real` that a further pass through the network costs little."""
        return self.real[: max(_FEWEST_FEW, min(_FEW, _FEW_PIXELS // self.images.shape[-1] ** 2))]

    @property
    def batch(self) -> int:
        """Images that the network is given at once."""
        return max(1, _BATCH_PIXELS // self.images.shape[-1] ** 2)

    @cached_property
    def latents(self) -> Encoded:
        """Of `real`: means and deviations, on the CPU."""
        network = self.codec
        with torch.no_grad():
            parts = [network.encode(inputs_of(network, part)) for part in self.real.split(self.batch)]
        noise = [part.log_variance.cpu() for part in parts if part.log_variance is not None]
        return Encoded(torch.cat([part.mean.cpu() for part in parts]), torch.cat(noise) if noise else None)

    @property
    def codec(self) -> Autoencoder:
        """The network, where there is one."""
        assert self.network is not None, "only of autoencoders"
        return self.network

    def decoded(self, latents: Tensor) -> Tensor:
        """What the network makes of latents: float32 on the CPU, in [-1, 1] and not clipped."""
        network = self.codec
        device = next(network.parameters()).device
        with torch.no_grad():
            return torch.cat([network.decode(part.to(device)).cpu() for part in latents.split(self.batch)])

    def passed(self, inputs: Tensor, network: Autoencoder | None = None, batch: int = 0) -> Tensor:
        """What a network, by default the model's, makes of images (N, C, R, R) as they are; float32 on the CPU."""
        network = network or self.codec
        device = next(network.parameters()).device
        with torch.no_grad():
            parts = [network.reconstruct(part.to(device)).cpu() for part in inputs.split(batch or self.batch)]
        return torch.cat(parts)

    @property
    def reconstructs(self) -> bool:
        """Whether there are pairs to look at."""
        return self.network is not None or self.made is not None

    @cached_property
    def outputs(self) -> Tensor:
        """Reconstructions of `real` from posterior means, float32, not clipped where a network gives them."""
        if self.network is None:
            assert self.made is not None, "only of models that reconstruct"
            return to_float(self.made[: len(self.real)])
        return self.decoded(self.latents.mean)

    def correct(self, outputs: Tensor) -> Tensor:
        """Without the faults that `corrections` undo: what else is wrong is seen beside them."""
        for correction in self.corrections:
            outputs = correction(outputs)
        return outputs

    @cached_property
    def calibrated(self) -> Tensor:
        """Reconstructions that a conditional mean has a gain of 1 in: from posterior samples, where there is noise.

        From means also where the decoder was plainly trained on these: of noise that it never saw it makes anything.
        """
        if self.network is None or self.latents.deviation is None:
            return self.outputs
        sampled = self.decoded(self.drawn("calibrated"))
        of_samples, of_means = (float(errors.mean()) for errors in (squared_error(sampled, self.inputs), self.errors))
        if of_samples <= _UNSEEN * of_means:
            return sampled
        self.notes.append(
            f"gates: posterior samples have a squared error of {of_samples:.3g}, posterior means of {of_means:.3g}: "
            "levels and the strength of detail are read from means: the decoder seems to have been trained on these"
        )
        return self.outputs

    def drawn(self, purpose: str) -> Tensor:
        """Latents of `real`, sampled from their posteriors where there is noise."""
        generator = torch.Generator().manual_seed(derive_seed("gates", purpose, self.seed))
        return self.latents.sample(torch.randn(self.latents.mean.shape, generator=generator))

    @cached_property
    def reconstructions(self) -> Tensor:
        """`outputs` as pixels, uint8."""
        return to_uint8(self.outputs)

    @cached_property
    def errors(self) -> Tensor:
        """Mean squared error of each image of `real` in [-1, 1], float64 (N,)."""
        return squared_error(self.outputs, self.inputs)

    @property
    def window(self) -> Window:
        """That of all spectra."""
        return self.held_out.window if self.held_out else spectral_window(self.images)

    @cached_property
    def spectrum(self) -> metrics.PowerSpectrum:
        """Of `real`."""
        return metrics.power_spectrum(self.real, self.window)

    @cached_property
    def high(self) -> metrics.Band | None:
        """Gain, coherence and power above .25 cycles/pixel; None where one side has no power."""
        measures = metrics.band_measures(self.real, self.reconstructions, self.window)
        if not (measures.real.high.sum() > 0 and measures.reconstruction.high.sum() > 0):
            return None
        return measures.estimates(seed=self.seed)["high"]

    @cached_property
    def quality(self) -> DataQuality:
        """What the images' spectrum says of their past."""
        return data_quality(self.images)

    @cached_property
    def factor(self) -> int:
        """Side of an image over that of its latent; 8 where there is no latent."""
        return self.network.factor if self.network is not None else 8

    def earlier(self, name: str) -> Finding | None:
        """What an earlier gate found under this name."""
        return next((finding for finding in self.found if finding.name == name), None)

    def broken(self, *names: str) -> bool:
        """Whether an earlier gate found a fault of one of these names; of any name, if none is given."""
        return any(each.severity == "fault" and (not names or each.name in names) for each in self.found)


def squared_error(first: Tensor, second: Tensor) -> Tensor:
    """Mean squared difference of each pair of images, float64 (N,)."""
    return (first - second).double().square().flatten(1).mean(1)


def brightness(images: Tensor) -> Tensor:
    """Luma of float images (N, C, R, R), float64 (N, R, R), in the images' own units."""
    weights = torch.tensor(_REC_601 if images.shape[1] == 3 else [1.0], dtype=torch.float64)
    return torch.einsum("nchw,c->nhw", images.double(), weights)


def removed(now: Tensor, then: Tensor, seed: int) -> Estimate:
    """The share of the errors (N,) `now` that a change to `then` removes, by resampling images; negative if it adds."""
    return metrics.bootstrap_ratio(now - then, now, seed=seed, paired=True)
