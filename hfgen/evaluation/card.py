"""The evaluation dataset's card, from its record alone."""

from __future__ import annotations

import json
from typing import Any

from hfgen.metrics import JudgePower

_COLUMNS = {
    "original": "held-out image, lossless",
    "reconstruction": "the model's reconstruction of it",
    "sample": "generated image, not paired with the original",
    "other": "training image, for the baseline",
    "seed": "`torch.Generator().manual_seed(seed)` draws the sample again",
    "label": "class of the original",
    "psnr": "of the reconstruction, dB",
    "ssim": "of the reconstruction",
    "ms_ssim": "of the reconstruction",
    "perceptual": "1 - cosine of the extractor's features of original and reconstruction",
    "training_distance_original": "of the original to the nearest image of the whole train split, in features",
    "training_distance_sample": "of the sample, likewise; 0 is a copy",
    "ciede2000": "of the reconstruction: mean colour difference over its pixels",
    "clipped": "share of values at black or white in the reconstruction alone",
    "lpips": "of the reconstruction, AlexNet",
    "dists": "of the reconstruction",
    "rate_bits": "KL(q(z given x) || N(0, I)) in bits",
    "posterior_mean": "mean of q(z given x)",
    "codes": "codes of the original",
}


def dataset_card(record: dict[str, Any], columns: list[str]) -> str:
    """Markdown with the protocol, the metrics and what each column holds."""
    model, data, protocol = record["model"], record["data"], record["protocol"]
    extractor = protocol["extractor"]
    revision = f" at {model['revision']}" if model["revision"] else ""
    accuracy = "" if extractor["accuracy"] is None else f", accuracy {extractor['accuracy']:.3f}"
    rows = [
        f"| {name} | {_number(entry)} | {_number(record['baseline'][name]) if name in record['baseline'] else ''} |"
        for name, entry in record["metrics"].items()
    ]
    return "\n".join(
        [
            "---",
            "configs:",
            "- config_name: default",
            "  data_files:",
            "  - split: test",
            "    path: test-*.parquet",
            "tags: [hfgen, evaluation]",
            "---",
            f"# {model['id']} on {data['id']}",
            "",
            f"`{model['id']}`{revision} ({model['family']}) measured on {data['n']} held-out images of `{data['id']}`, "
            f"split {data['split']}, {data['resolution']} px, by hfgen {protocol['versions'].get('hfgen', '')}.",
            "",
            "## Columns",
            *(f"- `{name}`: {_COLUMNS[name]}" for name in columns),
            "",
            "## Protocol",
            f"- seed {protocol['seed']}; {protocol['neighbours']} nearest neighbours; "
            f"pixels' fingerprint `{data['fingerprint']}`",
            f"- extractor `{extractor['id']}`{accuracy}, sha256 `{extractor['sha256']}`",
            f"- its preprocessing: `{json.dumps(extractor['preprocessing'])}`",
            *([f"- {JudgePower(**record['judge_power'])}"] if "judge_power" in record else []),
            f"- {', '.join(f'{name} {number}' for name, number in protocol['versions'].items())}",
            "",
            "## Metrics",
            "95 % intervals; the baseline compares training images with the same held-out ones.",
            "",
            "| metric | value | other real images |",
            "|---|---|---|",
            *rows,
            "",
            *(f"- {note}" for note in record.get("notes", [])),
            *([""] if record.get("notes") else []),
            "`hfgen evaluate --verify .` in this folder measures the images again and compares bit for bit.",
            "",
        ]
    )


def _number(entry: dict[str, Any]) -> str:
    return f"{entry['value']:.4g} [{entry['low']:.4g}, {entry['high']:.4g}]"
