"""How much a diagnosis may cost."""

from __future__ import annotations

from typing import NamedTuple


class Budget(NamedTuple):
    """`images`: held-out ones. `latent_steps`: of Adam on each image's latent. `refit_steps`: of `refit_batch` images.

    `batch`: images that are decoded at once.
    """

    images: int
    latent_steps: int
    refit_steps: int
    refit_batch: int = 32
    batch: int = 64


BUDGETS = {
    # About a minute for a model of 16 px on two cores, and below ten for one of 32 px.
    "small": Budget(images=500, latent_steps=40, refit_steps=500),
    "full": Budget(images=1000, latent_steps=150, refit_steps=2000),
}
