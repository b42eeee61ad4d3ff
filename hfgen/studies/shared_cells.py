"""The cells that several studies share: one decoder, one latent of 2x2x4 numbers, one objective each."""

from __future__ import annotations

from hfgen.studies.cells import Cell

_NETWORK = ("--model.max_width=32",)
# 16 numbers as a grid: after few images, decoders still make little of a vector (hfgen/studies/README.md).
_GRID = (*_NETWORK, "--model.latent_size=2", "--model.latent_channels=4")
# That of the studies' verdicts, half as strong as the recipes'.
ADVERSARY = ("--model.adversarial_weight=0.5", "--model.penalty=0")
# That of the studies' verdicts, too; the recipes' has more of the run.
_PRIOR = ("--model.prior_width=64", "--model.prior_layers=2", "--model.prior_init=0.02", "--model.prior_begin=0.5")
# Few images: larger steps than the recipes', which are for longer runs; the penalty is that of the studies' verdicts.
_GAN = ("--model.lr_generator=7e-4", "--model.lr_discriminator=7e-4", "--model.penalty=1")
_ALI_RATES = ("--model.lr=7e-4", "--model.lr_discriminator=7e-4")


def vae(*overrides: str, data: str = "") -> Cell:
    """A VAE, by default with 2x2x4 numbers and a pixel variance of .02."""
    return Cell("vae", (*_GRID, *overrides), data)


def vaegan(*overrides: str) -> Cell:
    """The same with an adversary on its reconstructions."""
    return Cell("vaegan", (*_GRID, *ADVERSARY, *overrides))


def vqvae(*overrides: str, data: str = "") -> Cell:
    """A VQ-VAE with 4x4 codes and a small GPT-2."""
    return Cell("vqvae", (*_NETWORK, *_PRIOR, *overrides), data)


def gan(*overrides: str, data: str = "") -> Cell:
    """A GAN with the VAE's decoder and latent."""
    return Cell("gan", (*_GRID, *_GAN, *overrides), data)


def ali(*overrides: str, data: str = "") -> Cell:
    """Adversarially learned inference with the VAE's networks."""
    return Cell("ali", (*_GRID, *_ALI_RATES, *overrides), data)


L2 = vae()
NOISELESS = vae("--model.kl_weight=0")
GAN = gan()
ALI = ali()
ADVERSARIAL = vaegan()
CODES_256 = vqvae("--model.codes=256")
