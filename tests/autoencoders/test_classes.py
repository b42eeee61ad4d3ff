"""Every class of the field is opened by what it can do, and does then what its own encode and decode do."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from classes import SMALL, make, photographs, save
from torch import Tensor, nn

import hfgen
from hfgen.autoencoders import Autoencoder, Traits, find_traits
from hfgen.errors import ModelError

USUAL = {"channels": 3, "frames": False, "unit_range": False, "side": None, "gaussian": True, "quantised": False}
USUAL |= {"draws": False, "batches": True}


def by_hand(network, images: Tensor, *, frames: bool) -> Tensor:
    """What the class's own documentation says: encode, take the mode, decode."""
    given = images[:, :, None] if frames else images
    output = network.encode(given, return_dict=True)
    if hasattr(output, "latent_dist"):
        latents = output.latent_dist.mode()
    else:
        latents = output.latent if hasattr(output, "latent") else output.latents
    options = {"num_frames": 1} if type(network).__name__ == "AutoencoderKLTemporalDecoder" else {}
    decoded = network.decode(latents, **options).sample
    return decoded[:, :, 0] if frames else decoded


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_a_class_opens_by_what_it_can_do(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "hfgen")
    small, network = SMALL[name], make(name)
    network.save_pretrained(tmp_path)
    pipe = hfgen.load(tmp_path)
    expected = {**USUAL, **small.differs, "factor": small.factor, "latent_channels": small.latent_channels}
    assert pipe.codec.traits == Traits(**expected)
    assert type(pipe).__name__ == "AutoencoderPipeline" and not pipe.can_sample and pipe.can_reconstruct
    images = photographs(2, expected["side"] or (16, 32))
    made = pipe.reconstruct(images, output_type="pt").images
    assert made.shape == images.shape and made.std() > 0
    one = pipe.reconstruct(images[1:], output_type="pt").images
    torch.testing.assert_close(made[1:], one, atol=1e-3, rtol=0)
    if not expected["draws"]:
        given = torch.cat([images, torch.ones_like(images[:, :1])], 1) if expected["channels"] == 4 else images
        given = given / 2 + 0.5 if expected["unit_range"] else given
        wanted = by_hand(network, given, frames=expected["frames"])[:, :3]
        wanted = wanted if expected["unit_range"] else wanted / 2 + 0.5
        torch.testing.assert_close(made, wanted.clamp(0, 1), atol=1e-3, rtol=0)
    mean = pipe.codec.encode(images).mean
    assert mean.shape == (2, small.latent_channels, images.shape[2] // small.factor, images.shape[3] // small.factor)
    assert (pipe.posterior(images) is not None) == expected["gaussian"]
    assert (pipe.codes(images) is not None) == expected["quantised"]


def test_a_decoder_that_draws_gives_the_same_image_again_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "hfgen")
    pipe = hfgen.load(save("ConsistencyDecoderVAE", tmp_path))
    state = torch.get_rng_state()
    images = photographs(1)
    first, second = (pipe.reconstruct(images, output_type="pt").images for _ in range(2))
    assert torch.equal(first, second) and torch.equal(torch.get_rng_state(), state)
    assert any("draws noise: that of seed 0" in record.message for record in caplog.records)


REFUSED = {
    "AutoencoderVidTok": ({"ch": 32, "ch_mult": [1, 1], "num_res_blocks": 1}, "one frame of 3 x 32 x 64: RuntimeError"),
    "AutoencoderKLAllegro": (
        {"block_out_channels": (8,) * 4, "layers_per_block": 1, "norm_num_groups": 4},
        "Encoding without tiling has not been implemented",
    ),
    "AutoencoderOobleck": (
        {"encoder_hidden_size": 4, "downsampling_ratios": [2], "channel_multiples": [1], "decoder_channels": 4},
        "images of 3 x 32 x 64: ",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_gives_no_image_back_is_refused_with_what_failed(name: str, tmp_path: Path):
    import diffusers

    arguments, words = REFUSED[name]
    getattr(diffusers, name)(**arguments).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=f"{name} can't be used as an autoencoder of images: .*{words}") as error:
        hfgen.load(tmp_path)
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)


class Module(nn.Module):
    """A known autoencoder: `encode` and `decode` are given."""

    def __init__(self, encode, decode) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.config: dict[str, int] = {}
        self._encode, self._decode = encode, decode

    def encode(self, images: Tensor):
        return SimpleNamespace(latent=self._encode(images))

    def decode(self, latents: Tensor):
        return SimpleNamespace(sample=self._decode(latents))


def shuffled(side: int) -> Module:
    return Module(lambda x: nn.functional.pixel_unshuffle(x, side), lambda z: nn.functional.pixel_shuffle(z, side))


def test_known_networks_are_what_they_are():
    identity = Autoencoder(shuffled(4))
    assert identity.factor == 4 and identity.latent_channels == 48 and identity.any_size
    images = photographs(2, (20, 12))
    assert torch.equal(identity.reconstruct(images), images)
    assert find_traits(shuffled(64)).factor == 64  # 32 pixels give it no latent
    fixed = Module(lambda x: nn.functional.interpolate(x, (8, 8)), lambda z: nn.functional.interpolate(z, (32, 32)))
    assert find_traits(fixed)[3:5] == (4, 32)
    doubled = Module(lambda x: x, lambda z: nn.functional.interpolate(z, scale_factor=2))
    with pytest.raises(ModelError, match="64 x 128 pixels come back as 128 x 256"):
        find_traits(doubled)
    with pytest.raises(ModelError, match=r"its latents have the shape \(1, 6144\), which is no grid"):
        find_traits(Module(lambda x: x.flatten(1), lambda z: z))
    with pytest.raises(ModelError, match="Linear can't be used as an autoencoder of images: it has no encode"):
        find_traits(nn.Linear(1, 1))


@torch.no_grad()
def test_one_image_at_a_time_where_a_network_takes_no_more():
    def single(x: Tensor) -> Tensor:
        if len(x) != 1:
            raise RuntimeError("one only")
        return x

    codec = Autoencoder(Module(single, single))
    images = photographs(3, 8)
    assert not codec.traits.batches and torch.equal(codec.reconstruct(images), images)


@torch.no_grad()
def test_latents_are_seen_as_the_pipelines_see_them():
    from diffusers.pipelines.flux2.pipeline_flux2 import Flux2Pipeline

    latents = photographs(2, (4, 6), channels=4)
    assert torch.equal(Autoencoder(make("AutoencoderTiny")).normalise(latents), latents)
    flux = Autoencoder(make("AutoencoderKL", scaling_factor=0.5, shift_factor=0.25))
    torch.testing.assert_close(flux.normalise(latents), (latents - 0.25) * 0.5)
    mean, deviation = torch.tensor([0.0, 1, 2, 3]), torch.tensor([1.0, 2, 4, 8])
    settings = {"scaling_factor": 0.5, "latents_mean": mean.tolist(), "latents_std": deviation.tolist()}
    expected = (latents - mean[:, None, None]) * 0.5 / deviation[:, None, None]
    sdxl = Autoencoder(make("AutoencoderKL", **settings))
    torch.testing.assert_close(sdxl.normalise(latents), expected)
    torch.testing.assert_close(sdxl.statistics.denormalise(expected), latents)
    wan = Autoencoder(make("AutoencoderKLWan"))
    torch.testing.assert_close(wan.normalise(latents), (latents - 0.5) / 2)
    ltx = make("AutoencoderKLLTXVideo")
    ltx.latents_mean += 0.5
    wide = photographs(1, (4, 4), channels=8)
    torch.testing.assert_close(Autoencoder(ltx).normalise(wide), wide - 0.5)
    network = make("AutoencoderKLFlux2")
    network.bn.running_mean.copy_(torch.linspace(-1, 1, 32))
    network.bn.running_var.copy_(torch.linspace(0.5, 2, 32))
    patches = Flux2Pipeline._patchify_latents(wide)
    shape = (1, 32, 1, 1)
    seen = (patches - network.bn.running_mean.view(shape)) / (network.bn.running_var.view(shape) + 1e-4).sqrt()
    normalised = Autoencoder(network).normalise(wide)
    torch.testing.assert_close(Flux2Pipeline._patchify_latents(normalised), seen)


@pytest.mark.parametrize("name", ["AutoencoderKL", "AutoencoderKLFlux2", "AutoencoderTiny", "VQModel", "AutoencoderDC"])
def test_the_decoders_weights_are_those_that_its_images_depend_on(name: str):
    codec = Autoencoder(make(name))
    with torch.no_grad():
        latents = codec.encode(photographs(1)).mean
    mine = set(codec.decoder_parameters(latents))
    start = {name for name, _ in codec.named_parameters() if name.startswith(("network.encoder.", "network.quant"))}
    assert mine and start and mine.isdisjoint(start)
    assert mine | start == {name for name, _ in codec.named_parameters()}
    assert any(codec.last_weight(latents) is weight for weight in codec.network.decoder.parameters())
    assert codec.last_weight(latents).shape[0] == 3
