"""A number of images or a generator that can't be is refused by its name, before anything is drawn."""

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import hfgen
from hfgen.families.vae import VAE


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("count", [0, -1])
def test_a_batch_without_images_is_refused(trained: Path, count: int):
    pipe = hfgen.load(trained)
    if pipe.can_sample:
        with pytest.raises(ValueError, match=f"batch_size: {count} images can't be drawn"):
            pipe(batch_size=count)


def test_what_is_no_number_of_images_and_no_generator_is_refused_by_name():
    family = VAE(latent_channels=4, max_width=16, prior="normal")
    torch.manual_seed(0)
    pipe = family.pipeline(family.build(16, 1))
    for count in ("3", 2.0, None, [1]):
        with pytest.raises(ValueError, match=f"batch_size: {re.escape(repr(count))} images can't be drawn"):
            pipe(batch_size=count)
    for call in (pipe, partial(pipe.reconstruct, torch.zeros(1, 1, 16, 16))):
        for generator in (3, [3], "cpu"):
            with pytest.raises(ValueError, match=r"generator: .* is none; give torch.Generator\(\).manual_seed\(N\)"):
                call(generator=generator)
        with pytest.raises(ValueError, match="generator: 2 generators for 1 images; give one an image"):
            call(generator=[seeded(1), seeded(2)])
    assert len(pipe(batch_size=np.int64(2), generator=seeded()).images) == 2
