"""What is published: pipelines that load with plain diffusers."""

from __future__ import annotations

from hfgen.pipelines.autoencoder import AutoencoderPipeline
from hfgen.pipelines.hfgen_pipelines_v1 import (
    ALIPipeline,
    GANPipeline,
    ImagePipeline,
    TranslationPipeline,
    VAEGANPipeline,
    VAEPipeline,
    VQGANPipeline,
    VQVAEPipeline,
)
from hfgen.pipelines.loading import load

__all__ = [
    "ALIPipeline",
    "AutoencoderPipeline",
    "GANPipeline",
    "ImagePipeline",
    "TranslationPipeline",
    "VAEGANPipeline",
    "VAEPipeline",
    "VQGANPipeline",
    "VQVAEPipeline",
    "load",
]
