"""An L2 decoder of a frozen encoder's latents, trained on glyphs that are never seen twice, and kept at milestones."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hfgen.data import SPLIT_SIZES, draw
from hfgen.files import write_bytes
from hfgen.images import to_float
from hfgen.kernels import choose_kernels
from hfgen.limits import usable_cores
from hfgen.models.decoder import decoder_arguments
from hfgen.models.initialise import initialise
from hfgen.seeds import derive_seed
from hfgen.studies.posterior.encoders import GaussianEncoder
from hfgen.training.ema import EMA, make_averages

BATCH = 64
_LR, _WARM_UP, _CLIP, _HALF_LIFE = 1e-3, 2_000, 1.0, 2_000
# What a GPU waits for is the drawing of glyphs, of which a core makes some 5,000 a second.
_DRAWERS = 12


class Decoder(nn.Module):
    """The stock decoder from latents (N, c, h, h) to images (N, 1, R, R) in [-1, 1], `width` channels at full size."""

    def __init__(self, latent_shape: tuple[int, ...], resolution: int, width: int) -> None:
        from diffusers import AutoencoderKL

        super().__init__()
        channels, side, _ = latent_shape
        vae = AutoencoderKL(**decoder_arguments(resolution, 1, channels, side, width, 4 * width))
        initialise(vae)
        self.inner, self.decoder = vae.post_quant_conv, vae.decoder

    def forward(self, latents: Tensor) -> Tensor:
        """Decode."""
        return self.decoder(self.inner(latents))


class _State:
    """Of a training run: the network, its average, the optimiser, and the images seen."""

    def __init__(self, network: Decoder) -> None:
        self.network, self.seen = network, 0
        self.average = make_averages({"decoder": network})["decoder"]
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=_LR, betas=(0.9, 0.99), weight_decay=0)
        self.ema = EMA(self.average, network)

    def tensors(self) -> dict[str, Tensor]:
        """All of it, to be stored."""
        found = {f"average.{name}": value for name, value in self.average.state_dict().items()}
        found |= {f"network.{name}": value for name, value in self.network.state_dict().items()}
        for number, entry in self.optimizer.state_dict()["state"].items():
            found |= {f"optimizer.{number}.{name}": value for name, value in entry.items()}
        found["seen"] = torch.tensor(self.seen)
        return {name: value.detach().cpu().contiguous() for name, value in found.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """What was stored."""
        self.average.load_state_dict(_part(tensors, "average."))
        self.network.load_state_dict(_part(tensors, "network."))
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in _part(tensors, "optimizer.").items():
            number, field = name.split(".")
            state.setdefault(int(number), {})[field] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        self.seen = int(tensors["seen"])


def train_decoder(
    encoder: GaussianEncoder, resolution: int, width: int, milestones: tuple[int, ...], seed: int, folder: Path
) -> Iterator[tuple[int, nn.Module]]:
    """(images seen, averaged decoder) at each milestone, a multiple of `BATCH`.

    What `folder` holds isn't trained again; a milestone's file holds all that the next one goes on from.
    """
    device = encoder.pipeline.device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed("decoder", seed, width))
        state = _State(Decoder(encoder.latent_shape, resolution, width).to(device))
    for milestone in milestones:
        path = folder / f"{milestone:08d}.safetensors"
        if path.is_file():
            from safetensors.torch import load

            state.restore(load(path.read_bytes()))
        else:
            _train(state, encoder, resolution, milestone, seed)
            from safetensors.torch import save

            folder.mkdir(parents=True, exist_ok=True)
            write_bytes(path, save(state.tensors()))
        yield milestone, state.average


def _train(state: _State, encoder: GaussianEncoder, resolution: int, until: int, seed: int) -> None:
    device = encoder.pipeline.device
    bf16 = choose_kernels(device).precision == "bf16"
    state.network.train()
    for images in _fresh(state.seen, until, resolution, device):
        latents = _latents(encoder, images, derive_seed("latents", seed, state.seen))
        for group in state.optimizer.param_groups:
            group["lr"] = _LR * min(1.0, (state.seen + BATCH) / _WARM_UP)
        target = to_float(images)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            decoded = state.network(latents)
        loss = (decoded.float() - target).square().mean()
        state.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(state.network.parameters(), _CLIP)
        state.optimizer.step()
        state.seen += BATCH
        state.ema.update(BATCH, state.seen, _HALF_LIFE)


@torch.no_grad()
def _latents(encoder: GaussianEncoder, images: Tensor, seed: int) -> Tensor:
    """One draw of each image's posterior, (N, c, h, h)."""
    mean, log_variance = encoder.pipeline.posterior(to_float(images))
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(seed)).to(mean)
    return mean + (log_variance / 2).exp() * noise


class _Glyphs(torch.utils.data.Dataset[Tensor]):
    """Batches of the endless stream, past what counts as the data set."""

    def __init__(self, resolution: int) -> None:
        self.resolution = resolution

    def __getitem__(self, batch: int) -> Tensor:
        return draw("glyphs", "train", SPLIT_SIZES["train"] + batch * BATCH, BATCH, self.resolution).images


def _fresh(seen: int, until: int, resolution: int, device: torch.device) -> Iterator[Tensor]:
    """Glyphs `seen` to `until` of the stream, drawn by other processes where a GPU computes."""
    count = 0 if device.type == "cpu" else min(_DRAWERS, max(1, int(usable_cores()) - 1))
    loader: Any = torch.utils.data.DataLoader(
        _Glyphs(resolution), batch_size=None, sampler=range(seen // BATCH, math.ceil(until / BATCH)), num_workers=count
    )
    for images in loader:
        yield images.to(device)


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
