"""Who asks, how, and what is published."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

TOKEN = "hf_" + "Writer" * 6
READER = "hf_" + "Reader" * 6

ESTIMATE = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 12}
RECORD = {
    "schema": 2,
    "model": {"id": "/nowhere/runs/vae", "revision": None, "family": "vae", "parameters": 7},
    "data": {
        "id": "/nowhere/glyphs",
        "revision": None,
        "split": "test",
        "n": 12,
        "resolution": 8,
        "fingerprint": "f" * 64,
    },
    "protocol": {
        "seed": 0,
        "neighbours": 5,
        "window": "none",
        "extractor": {"id": "hfgen-classifier-v1/f", "sha256": "e" * 64, "accuracy": 0.9},
        "versions": {"hfgen": "0.1.0", "torch": "2.13.0"},
    },
    "metrics": {"hf_ratio_sample": {**ESTIMATE, "value": 0.5}, "coverage": ESTIMATE, "psnr": ESTIMATE},
    "baseline": {"hf_ratio_sample": ESTIMATE, "coverage": {**ESTIMATE, "value": 0.95, "low": 0.9, "high": 0.99}},
    "spectrum": {"frequencies": [0.1], "real": [1.0]},
}

Command = Callable[..., subprocess.CompletedProcess[str]]


def diagnosed(model: dict[str, Any]) -> dict[str, Any]:
    """A diagnosis of a model that draws from too few of its data's kinds, of a place on this machine."""
    estimate = {"value": 0.1, "low": 0.0, "high": 0.2, "n": 12}
    return {
        "schema": 3,
        "model": {name: model[name] for name in ("id", "family", "parameters")},
        "data": {"id": "/nowhere/glyphs", "split": "test", "n": 1200, "fingerprint": "f" * 64},
        "protocol": {"seed": 0, "budget": {"name": "small"}, "extractor": {}, "versions": {}},
        "chain": [],
        "causes": {"data": estimate, "missing": estimate},
        "identity": None,
        "data_quality": {"blur": 0, "blurred": False, "kept": 1, "cutoff": None, "repeated": False, "jpeg": False},
        "latent": {"numbers": 4, "codebook_size": None},
        "variety": None,
        "baseline": {},
        "shares": {},
        "ranking": [
            {"cause": "bottleneck", "score": 0.25, "of": "high-frequency power", "confidence": 0.9},
            {"cause": "prior", "score": 0.9, "of": "samples' KID", "confidence": 0.95},
        ],
        "gates": [],
        "verdict": {"sentence": "They are blurred.", "cause": "bottleneck", "confidence": 0.9, "remedy": ""},
        "advice": ["The samples are blurred: they have 30 %.", "Raise something."],
    }
