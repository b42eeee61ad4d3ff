"""What is published: pipelines that load with plain diffusers."""

from __future__ import annotations

from hfgen.pipelines.autoencoder import AutoencoderPipeline
from hfgen.pipelines.hfgen_pipelines_v1 import (
    ALIPipeline,
    FlowPipeline,
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
    "FlowPipeline",
    "GANPipeline",
    "ImagePipeline",
    "TranslationPipeline",
    "VAEGANPipeline",
    "VAEPipeline",
    "VQGANPipeline",
    "VQVAEPipeline",
    "load",
]
