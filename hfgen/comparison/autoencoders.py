"""Autoencoders beside each other, as a paper's table has them: one column a model, what it costs and what it keeps."""

from __future__ import annotations

from typing import Any

from hfgen.reporting.metric_table import Cell, Row, metric_row

_SCORES = ("psnr", "ssim", "lpips", "dists", "rfid", "fd_reconstruction", "kid_reconstruction", "reading_height")
_MORE = ("ciede2000", "coherence_high")


def autoencoder_table(comparison: dict[str, Any]) -> tuple[list[str], list[Row]]:
    """The models that have a latent, and the table's rows; none where there are fewer than one."""
    models = {name: model for name, model in comparison["models"].items() if "latent" in model}
    if not models:
        return [], []
    rows = [
        _facts("Factor", [str(model["latent"]["factor"]) for model in models.values()]),
        _facts("Latent channels", [str(model["latent"]["shape"][0]) for model in models.values()]),
        _facts("Latent numbers a pixel", [_numbers(model, comparison) for model in models.values()]),
        _facts("Bits a pixel", [_bits(model) for model in models.values()]),
        _facts("Parameters", [_count(model["model"]["parameters"]) for model in models.values()]),
    ]
    for name in (*_SCORES, *_MORE):
        if any(name in model["metrics"] for model in models.values()):
            columns = {model: entry["metrics"] for model, entry in models.items()}
            rows.append(metric_row(name, columns, pairs=comparison["differences"].get(name)))
    costs = [comparison["costs"].get(name, {}).get("reconstruction") for name in models]
    if any(costs):
        speeds = [cost and 1000 / cost["milliseconds_per_image"]["median"] for cost in costs]
        rows.append(_facts("Images a second", [_short(speed) for speed in speeds]))
        # Beyond what was held before: the process's peak would be that of whatever ran in it earlier.
        memories = [cost and cost["bytes_per_image"]["median"] / 1e6 for cost in costs]
        rows.append(_facts("Memory an image (MB)", [_short(memory) for memory in memories]))
    errors = [model.get("precision", {}).get("bf16", {}).get("psnr") for model in models.values()]
    if any(errors):
        rows.append(_facts("bf16 against fp32 (PSNR, dB)", [error and _short(error["value"]) for error in errors]))
    return list(models), [row for row in rows if any(row.cells)]


def _facts(label: str, values: list[str | None]) -> Row:
    return Row(label, "", "", [None if value is None else Cell(value) for value in values])


def _numbers(model: dict[str, Any], comparison: dict[str, Any]) -> str:
    channels, height, width = model["latent"]["shape"]
    return f"{channels * height * width / comparison['data']['resolution'] ** 2:.3g}"


def _bits(model: dict[str, Any]) -> str | None:
    return _short(model["latent"].get("bits_per_pixel"))


def _short(value: float | None) -> str | None:
    return None if value is None else f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _count(parameters: int | None) -> str | None:
    if parameters is None:
        return None
    return f"{parameters / 1e6:.3g} M" if parameters >= 1e6 else f"{parameters / 1e3:.3g} k"
