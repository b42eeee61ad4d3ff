"""The cells that several studies share: one decoder, one latent of 16 numbers, one objective each."""

from __future__ import annotations

from hfgen.studies.cells import Cell

_DECODER = ("--model.max_width=32",)
# Few steps of 32 images: larger ones than the recipes', which are for longer runs.
_GAN_RATES = ("--model.lr_generator=1e-3", "--model.lr_discriminator=1e-3")
_ALI_RATES = ("--model.lr=1e-3", "--model.lr_discriminator=1e-3")


def vae(*overrides: str, data: str = "") -> Cell:
    """A VAE, by default with a vector of 16 numbers and a pixel variance of .02."""
    return Cell("vae", (*_DECODER, *overrides), data)


def vaegan(*overrides: str) -> Cell:
    """The same with an adversary on its reconstructions."""
    return Cell("vaegan", (*_DECODER, *overrides))


def vqvae(*overrides: str, data: str = "") -> Cell:
    """A VQ-VAE with 4x4 codes and a small GPT-2."""
    prior = ("--model.prior_width=64", "--model.prior_layers=2")
    return Cell("vqvae", (*_DECODER, *prior, *overrides), data)


def gan(*overrides: str, data: str = "") -> Cell:
    """A GAN with the VAE's decoder and latent."""
    return Cell("gan", (*_DECODER, *_GAN_RATES, *overrides), data)


def ali(*overrides: str, data: str = "") -> Cell:
    """Adversarially learned inference with the VAE's networks."""
    return Cell("ali", (*_DECODER, *_ALI_RATES, *overrides), data)


L2 = vae()
NOISELESS = vae("--model.kl_weight=0")
GAN = gan()
ALI = ali()
ADVERSARIAL = vaegan()
CODES_256 = vqvae("--model.codes=256")
