"""hfgen: train, compare and diagnose image autoencoders and generators on the Hugging Face Hub."""

from __future__ import annotations

import importlib
from typing import Any

from hfgen.imports import without_collector

__version__ = "0.2.0"

# Resolved on first use: diffusers takes seconds to import.
_LAZY = {
    "load": "hfgen.pipelines",
    "VAEPipeline": "hfgen.pipelines",
    "VAEGANPipeline": "hfgen.pipelines",
    "VQVAEPipeline": "hfgen.pipelines",
    "VQGANPipeline": "hfgen.pipelines",
    "GANPipeline": "hfgen.pipelines",
    "ALIPipeline": "hfgen.pipelines",
    "FlowPipeline": "hfgen.pipelines",
    "TranslationPipeline": "hfgen.pipelines",
    "metrics": "hfgen.metrics",
    "evaluate": "hfgen.evaluation.evaluate",
    "diagnose": "hfgen.library",
    "compare": "hfgen.library",
    "train": "hfgen.library",
    "Evaluator": "hfgen.evaluation.evaluator",
    "EvaluatorCallback": "hfgen.evaluation.callback",
    "ReconstructionsMetric": "hfgen.evaluation.training_metrics",
    "SamplesMetric": "hfgen.evaluation.training_metrics",
}

__all__ = [
    "ALIPipeline",
    "Evaluator",
    "EvaluatorCallback",
    "FlowPipeline",
    "GANPipeline",
    "ReconstructionsMetric",
    "SamplesMetric",
    "TranslationPipeline",
    "VAEGANPipeline",
    "VAEPipeline",
    "VQGANPipeline",
    "VQVAEPipeline",
    "__version__",
    "compare",
    "diagnose",
    "evaluate",
    "load",
    "metrics",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with without_collector():
        module = importlib.import_module(_LAZY[name])
    return module if name == "metrics" else getattr(module, name)
