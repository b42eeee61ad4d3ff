"""From a glyph's unknowns to what an encoder says of it: what the sampler's likelihood is made of."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hfgen.data import CLASSES, FACTORS, FONTS, glyph_unknowns, render
from hfgen.errors import ModelError
from hfgen.pipelines import ImagePipeline
from hfgen.studies.posterior.encoders import encoder_of
from hfgen.studies.posterior.latent_regression import LatentRegression, spread_places
from hfgen.studies.posterior.tempered_sampler import LogLikelihood, Unknowns

COUNTS = (len(CLASSES), len(FONTS))
"""Values of the choices: class and font."""
PLACES = len(FACTORS) - 1
"""Size, x, y and tilt, each as its place in its range."""
_LETTERS = 64


class GlyphChannel:
    """A model's encoder behind the renderer of glyphs.

    Args:
        pipeline: With a Gaussian posterior or codes, of grey images.

    Raises:
        ModelError: it has neither, or its images are in colour.
    """

    def __init__(self, pipeline: ImagePipeline) -> None:
        # On CPUs the encoder is twice as fast with channels last.
        for name in pipeline.component_names:
            if isinstance(network := getattr(pipeline, name), torch.nn.Module):
                network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.resolution = pipeline.sample_size
        if pipeline.channels != 1:
            raise ModelError(f"model: its images have {pipeline.channels} channels; glyphs are grey")
        self.encoder = encoder_of(pipeline)

    def truth(self, index: int) -> Unknowns:
        """What held-out glyph `index` was drawn from."""
        row = glyph_unknowns("test", index, 1)
        choices = torch.tensor([[int(share * values) for share, values in zip(row[0], COUNTS, strict=False)]])
        return Unknowns(choices, torch.from_numpy(row[:, len(COUNTS) :].copy()))

    def images(self, unknowns: Unknowns) -> Tensor:
        """Glyphs, uint8 (N, 1, R, R)."""
        shares = (unknowns.choices.double() + 0.5) / torch.tensor(COUNTS)
        return render(np.concatenate([shares.numpy(), unknowns.places.numpy()], 1), self.resolution)

    def statistics(self, unknowns: Unknowns) -> Tensor:
        """The encoder's, of glyphs: (N, F)."""
        return self.encoder.statistics(self.images(unknowns))

    def log_likelihood(self, latent: Tensor) -> LogLikelihood:
        """Of a latent, as a function of the unknowns."""
        return lambda unknowns: self.encoder.log_density(self.statistics(unknowns), latent)

    def regression(self, points: int, seed: int) -> LatentRegression:
        """Guess the statistics from `points` glyphs of each class and font."""
        places = spread_places(points, PLACES, seed)
        combinations = torch.cartesian_prod(*(torch.arange(count) for count in COUNTS))
        choices = combinations.repeat_interleave(points, 0)
        # No more images at once than memory should hold.
        parts = [
            self.statistics(Unknowns(part, places.repeat(len(part) // points, 1))).float()
            for part in choices.split(points * _LETTERS)
        ]
        return LatentRegression(COUNTS, places, torch.cat(parts).unflatten(0, (len(combinations), points)))
