"""Who asks, how, and what is published."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

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
