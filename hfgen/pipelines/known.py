"""The classes that hfgen opens without remote code, by the names that checkpoints call them."""

from __future__ import annotations

from typing import Any

from hfgen.models.hfgen_gan_v1 import GANGenerator
from hfgen.models.hfgen_prior_v1 import LatentPrior
from hfgen.models.hfgen_r3gan_v1 import R3Generator
from hfgen.models.hfgen_translator_v1 import Translator
from hfgen.pipelines import hfgen_pipelines_v1 as pipelines

PIPELINES: dict[str | None, type[pipelines.ImagePipeline]] = {
    cls.__name__: cls
    for cls in (
        pipelines.VAEPipeline,
        pipelines.VAEGANPipeline,
        pipelines.VQVAEPipeline,
        pipelines.VQGANPipeline,
        pipelines.GANPipeline,
        pipelines.ALIPipeline,
        pipelines.TranslationPipeline,
        pipelines.AutoencoderPipeline,
    )
}
AUTOENCODERS = ("AutoencoderKL", "VQModel", "AutoencoderTiny", "AutoencoderDC", "AsymmetricAutoencoderKL")
WRAPPERS: dict[str | None, type[pipelines.ImagePipeline]] = {
    **dict.fromkeys(AUTOENCODERS, pipelines.AutoencoderPipeline),
    "AutoencoderKL": pipelines.VAEPipeline,
    "GANGenerator": pipelines.GANPipeline,
    "R3Generator": pipelines.GANPipeline,
    "Translator": pipelines.TranslationPipeline,
}
"""The pipeline that a network alone becomes."""
_OWN = {cls.__name__: cls for cls in (GANGenerator, LatentPrior, R3Generator, Translator)}


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

    if name in AUTOENCODERS:
        return getattr(diffusers, name)
    return transformers.GPT2LMHeadModel if name == "GPT2LMHeadModel" else _OWN.get(name or "")


def is_autoencoder(name: str | None) -> bool:
    """Whether a class of diffusers is called like an autoencoder, known here or not."""
    return name is not None and ("Autoencoder" in name or "VAE" in name or name.startswith("VQ"))


def opened() -> str:
    """What hfgen opens, for errors."""
    return f"{', '.join(filter(None, PIPELINES))}, and diffusers' {', '.join(AUTOENCODERS)}"
