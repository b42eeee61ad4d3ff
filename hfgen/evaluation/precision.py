"""What half precision changes of an autoencoder's reconstructions: error against fp32, and images lost to overflow."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hfgen import metrics
from hfgen.autoencoders import Autoencoder
from hfgen.devices import DTYPES
from hfgen.images import to_float, to_uint8
from hfgen.metrics import Collector

_IMAGES = 4


def dtypes_of(device: torch.device) -> dict[str, torch.dtype]:
    """Those of half precision that the device computes in, by name: fp16 on GPUs alone, bf16 nearly everywhere."""
    has_bf16 = device.type != "cuda" or torch.cuda.is_bf16_supported()
    names = (["bf16"] if has_bf16 else []) + (["fp16"] if device.type != "cpu" else [])
    return {name: DTYPES[name] for name in names}


@torch.no_grad()
def precision_section(
    coder: Autoencoder, images: Tensor, *, device: torch.device, seed: int, found: Collector
) -> dict[str, Any]:
    """The record's `precision`, by dtype: `psnr` in dB of its reconstructions against those in fp32, over a few of
    the uint8 images (n, C, R, R), `images`, and `non_finite`, how many of them have NaN or infinity.

    A copy of the network is converted: the model stays as it is.
    """
    pictures = images[:_IMAGES]

    def run(dtype: torch.dtype) -> Tensor:
        # Not the network's own `to`, which warns of what was asked for: half precision.
        network = nn.Module.to(copy.deepcopy(coder.network), device, dtype)
        other = Autoencoder(network, coder.traits)
        parts = [other.reconstruct(to_float(image.to(device))).cpu() for image in pictures.split(1)]
        return torch.cat(parts)

    exact, section = run(torch.float32), dict[str, Any]()
    for name, dtype in dtypes_of(device).items():
        try:
            made = run(dtype)
        except RuntimeError as error:
            # Some devices lack some operations, as the CPU a codebook's distances in bf16.
            found.note(f"precision: {name} left out ({str(error).strip().splitlines()[0]})")
            continue
        finite = made.isfinite().flatten(1).all(1)
        entry: dict[str, Any] = {"images": len(pictures), "non_finite": int((~finite).sum())}
        section[name] = entry
        if not finite.all():
            found.note(f"precision: {name} gives NaN or infinity for {int((~finite).sum())} of {len(pictures)} images")
        if finite.sum() > 1:
            scores = metrics.capped_psnr(to_uint8(exact[finite]), to_uint8(made[finite])).double()
            estimate = found.attempt(f"precision.{name}", partial(metrics.bootstrap_mean, scores, seed=seed))
            entry |= {} if estimate is None else {"psnr": estimate.as_dict()}
    return section
