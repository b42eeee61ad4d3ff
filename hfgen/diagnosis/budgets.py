"""How much a diagnosis may cost."""

from __future__ import annotations

from typing import NamedTuple

_PIXELS = 2**16


class Budget(NamedTuple):
    """`images`: held-out ones. `latent_steps`: of Adam on each image's latent. `refit_steps`: of `refit_batch` images.

    The refits are those of `hfgen.diagnosis.refits.CELLS`, and each of their last quarters is made three times.

    `batch`: images that are decoded at once.
    """

    images: int
    latent_steps: int
    refit_steps: int
    refit_batch: int = 16
    batch: int = 64

    def batch_of(self, side: int) -> int:
        """Images of so many pixels' side that go through a network at once."""
        return max(1, min(self.batch, _PIXELS // side**2))


BUDGETS = {
    # About a minute for a model of 16 px on two cores, and below ten for one of 32 px.
    "small": Budget(images=500, latent_steps=40, refit_steps=340),
    "full": Budget(images=1000, latent_steps=150, refit_steps=1500),
}
