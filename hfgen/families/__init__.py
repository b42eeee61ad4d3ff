"""The families by name. A family is one file: networks, phases, pipeline."""

from __future__ import annotations

from hfgen.families.ali import ALI
from hfgen.families.finetune import FineTune
from hfgen.families.flow import Flow
from hfgen.families.gan import GAN
from hfgen.families.pix2pix import Pix2Pix
from hfgen.families.vae import VAE
from hfgen.families.vaegan import VAEGAN
from hfgen.families.vqgan import VQGAN
from hfgen.families.vqvae import VQVAE

FAMILIES: dict[str, type] = {
    "vae": VAE,
    "vaegan": VAEGAN,
    "vqvae": VQVAE,
    "vqgan": VQGAN,
    "gan": GAN,
    "ali": ALI,
    "flow": Flow,
    "pix2pix": Pix2Pix,
    "finetune": FineTune,
}
