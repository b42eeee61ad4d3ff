"""Processor time that a peer may spend, what it is given, and what it made."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Given:
    """What a peer may use.

    Attributes:
        train: The training images, uint8 (N, C, R, R).
        originals: Held-out images to reconstruct, uint8 (n, C, R, R).
        n: How many samples to draw.
        seconds: Of processor time.
        folder: For what it writes.
        numbers: How many numbers a latent vector has: as many as the latent of hfgen's VAE.
        network: hfgen's own VAE as a config of diffusers' `AutoencoderKL`.
        seed: Of its weights and draws.
    """

    train: Tensor
    originals: Tensor
    n: int
    seconds: float
    folder: Path
    numbers: int
    network: dict[str, Any]
    seed: int = 0


@dataclass(frozen=True)
class Made:
    """What a model made of so many training images in so many seconds of processor time.

    Attributes:
        images: Training images that it saw.
        seconds: That it took.
        samples: uint8 (n, C, R, R).
        reconstructions: Of the held-out images, uint8 (n, C, R, R), where it has an encoder.
        note: What was adapted.
        wanted: The classes (n,) that were asked of its samples, where it has classes.
        precision: fp32 or bf16.
    """

    images: int
    seconds: float
    samples: Tensor
    reconstructions: Tensor | None
    note: str = ""
    wanted: Tensor | None = None
    precision: str = "fp32"

    @property
    def facts(self) -> dict[str, Any]:
        """What isn't pictures, for JSON."""
        return {name: value for name, value in vars(self).items() if name not in _PICTURES}

    @property
    def pictures(self) -> dict[str, Tensor]:
        """The others, where there are such."""
        return {name: value.contiguous() for name in _PICTURES if (value := getattr(self, name)) is not None}


_PICTURES = ("samples", "reconstructions", "wanted")


def spend(seconds: float, steps: Callable[[float], int]) -> tuple[int, float]:
    """Repeat `steps` for so much processor time of this process, all threads together.

    `steps` takes the share of the time that is over, and returns the images that it saw. Returns the images in all,
    and the seconds.
    """
    images, started = 0, time.process_time()
    while (took := time.process_time() - started) < seconds:
        images += steps(took / seconds)
    return images, took


@torch.no_grad()
def in_batches(call: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """What `call` makes of inputs (N, ...), 250 at a time."""
    return torch.cat([call(batch) for batch in inputs.split(250)])
