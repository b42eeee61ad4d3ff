"""The classes that hfgen opens without remote code, by the names that checkpoints call them.

Its own are listed; of diffusers' every one that can encode and decode is opened, and tried.
"""

from __future__ import annotations

from typing import Any

from hfgen.autoencoders import class_fits
from hfgen.models.hfgen_dcgan_v1 import DCGANGenerator
from hfgen.models.hfgen_gan_v1 import GANGenerator
from hfgen.models.hfgen_prior_v1 import LatentPrior
from hfgen.models.hfgen_r3gan_v1 import R3Generator
from hfgen.models.hfgen_translator_v1 import Translator
from hfgen.pipelines import hfgen_pipelines_v1 as pipelines
from hfgen.pipelines.autoencoder import AutoencoderPipeline

PIPELINES: dict[str | None, type[pipelines.ImagePipeline]] = {
    cls.__name__: cls
    for cls in (
        pipelines.VAEPipeline,
        pipelines.VAEGANPipeline,
        pipelines.VQVAEPipeline,
        pipelines.VQGANPipeline,
        pipelines.GANPipeline,
        pipelines.ALIPipeline,
        pipelines.FlowPipeline,
        pipelines.TranslationPipeline,
        AutoencoderPipeline,
    )
}
_WRAPPERS: dict[str | None, type[pipelines.ImagePipeline]] = {
    "DCGANGenerator": pipelines.GANPipeline,
    "GANGenerator": pipelines.GANPipeline,
    "R3Generator": pipelines.GANPipeline,
    "Translator": pipelines.TranslationPipeline,
}
_OWN = {cls.__name__: cls for cls in (DCGANGenerator, GANGenerator, LatentPrior, R3Generator, Translator)}


def class_name(reference: Any) -> str | None:
    """`Class` of what a config or an index calls "Class" or ["library", "Class"]; None: it names none."""
    if isinstance(reference, list):
        reference = reference[-1] if reference else None
    return reference if isinstance(reference, str) else None


def component_names(pipeline: str | None, index: dict[str, Any]) -> list[str]:
    """The networks of a pipeline of hfgen; optional ones only where its model_index.json names them."""
    cls = PIPELINES[pipeline]
    optional = cls._optional_components
    return [part for part in cls.component_names if part not in optional or index.get(part) not in (None, [None, None])]


def network_class(name: str | None) -> Any:
    """The class of a network; None: hfgen doesn't know it."""
    import diffusers
    import transformers

    if name == "GPT2LMHeadModel":
        return transformers.GPT2LMHeadModel
    if name == "UNet2DModel":
        return diffusers.UNet2DModel
    return _OWN.get(name or "") or autoencoder_class(name)


def autoencoder_class(name: str | None) -> Any:
    """The class of diffusers of this name, if it can encode and decode; else None."""
    import diffusers

    cls = getattr(diffusers, name, None) if name else None
    fits = isinstance(cls, type) and issubclass(cls, diffusers.ModelMixin) and class_fits(cls)
    return cls if fits else None


def wrapper(name: str | None) -> type[pipelines.ImagePipeline] | None:
    """The pipeline that a network alone becomes; None: hfgen opens no such network alone."""
    if name in _WRAPPERS:
        return _WRAPPERS[name]
    return AutoencoderPipeline if autoencoder_class(name) is not None else None


def is_autoencoder(name: str | None) -> bool:
    """Whether a class is an autoencoder of diffusers, or is called like one and may be of a newer version."""
    named = name is not None and ("Autoencoder" in name or "VAE" in name or name.startswith("VQ"))
    return named or autoencoder_class(name) is not None


def opened() -> str:
    """What hfgen opens, for errors."""
    import diffusers

    own = ", ".join(filter(None, PIPELINES))
    return f"{own}, and the autoencoders of images in diffusers {diffusers.__version__}: another version may have more"
