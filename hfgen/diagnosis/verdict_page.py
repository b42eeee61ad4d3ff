"""A diagnosis -> one HTML page: the verdict, the picture that shows it, what to change, then the numbers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from hfgen.diagnosis.figure import missing_gallery, waterfall
from hfgen.diagnosis.spectrum_figure import relative_powers, spectrum_chart
from hfgen.diagnosis.verdict import called
from hfgen.images import to_uint8
from hfgen.metrics import Estimate, Window
from hfgen.reporting.charts import inline
from hfgen.reporting.numbers import number, without_intervals
from hfgen.reporting.pages import fill
from hfgen.reporting.pictures import WHOLE, Strip, blocks, cut_in_words, lossless, most_images

_MOST_FACTOR = 16
_TITLES = {"prior_sample": "samples", "mean": "reconstructions"}


def render(document: Mapping[str, Any], images: Tensor, stages: Mapping[str, Tensor], window: Window) -> str:
    """The page, in the light or the dark as the reader's system has it.

    Args:
        document: What diagnosis.json will hold.
        images: Held-out images, uint8 (n, C, R, R).
        stages: The images of the chain's stages.
        window: Of the spectra.
    """
    made = {title: stages[name] for name, title in _TITLES.items() if name in stages}
    alike = any(entry["cause"] == "fixed_pattern" for entry in document["ranking"])
    caption, groups = _strips(images, stages, alike)
    return fill(
        "diagnosis/report.html",
        document=document,
        verdict=without_intervals(document["verdict"]["sentence"]),
        remedy=without_intervals(document["verdict"]["remedy"]),
        confidence=f"{document['verdict']['confidence']:.0%}",
        pictures=[blocks(group, {}, most=WHOLE) for group in groups],
        caption=caption + cut_in_words(images.shape[-1], WHOLE, "The data"),
        spectrum=_spectrum(images, made, window) if made else None,
        waterfall=_waterfall(document) if document["causes"] else None,
        missing=_missing(document, images),
        findings=[_finding(entry) for entry in document["ranking"]],
        gates=[_gate(each) for each in document["gates"]],
        chain=[_link(link) for link in document["chain"]],
        shares=[_shares(measure, parts) for measure, parts in document["shares"].items()],
    )


def _strips(images: Tensor, stages: Mapping[str, Tensor], alike: bool) -> tuple[str, list[list[Strip]]]:
    """The worst reconstructions beside their originals, with the difference made visible; and samples.

    `alike`: also what all reconstructions have in common.
    """
    groups, words, count = [], [], most_images(images.shape[-1])
    if "mean" in stages:
        made = stages["mean"]
        errors = (made.double() - images.double()).square().flatten(1).mean(1)
        worst = errors.argsort(descending=True, stable=True)[:count]
        difference, factor = _amplified(images[worst], made[worst])
        pairs = [Strip("original", images[worst]), Strip("reconstruction", made[worst])]
        groups.append([*pairs, Strip(f"difference x {factor}, on grey", difference)])
        words.append("The images with the largest error, and what the model adds (bright) and takes away (dark).")
        if alike:
            mean = (made.double() - images.double()).mean(0, keepdim=True)
            common, factor = _amplified(torch.zeros_like(mean), mean)
            groups.append([Strip(f"mean difference of all x {factor}, on grey", common)])
    if "prior_sample" in stages:
        if "mean" not in stages:
            groups.append([Strip("real", images[:count])])
        groups.append([Strip("sample", stages["prior_sample"][:count])])
        words.append("Samples answer to no image.")
    return " ".join(words), groups


def _amplified(originals: Tensor, made: Tensor) -> tuple[Tensor, int]:
    """Their difference, in levels, on mid-grey, enlarged by a whole number until the largest nearly fills the range."""
    difference = (made.float() - originals.float()) / 127.5
    largest = float(difference.abs().flatten().quantile(0.98)) if difference.numel() < 2**24 else 1.0
    factor = max(1, min(_MOST_FACTOR, int(1 / max(largest, 1e-3))))
    return to_uint8(difference * factor), factor


def _spectrum(images: Tensor, made: Mapping[str, Tensor], window: Window) -> dict[str, str]:
    ends = []
    for title, part in made.items():
        frequencies, ratio = relative_powers(images, part, window)
        ends.append(
            f"{title}: {float(ratio[0]):.2f} at {float(frequencies[0]):.2f}, {float(ratio[-1]):.2f} at the corner"
        )
    alt = f"Line chart of power relative to real against frequency; {'; '.join(ends)}."
    return {
        "svg": inline(partial(spectrum_chart, images, dict(made), window), "spectrum", alt),
        "caption": "Power from coarse (left) to fine detail (right), over that of real images. Blue: missing. "
        "Orange: too much. A peak at the right end is a checkerboard; a line that rises there is noise.",
    }


def _waterfall(document: Mapping[str, Any]) -> dict[str, str]:
    shares = [f"{name} {entry['value']:.2f}" for name, entry in document["causes"].items()]
    alt = f"Waterfall of the missing high-frequency power: {', '.join(shares)}."
    return {
        "svg": inline(partial(waterfall, document), "waterfall", alt),
        "caption": "From the power of real images down to the model's, a bar a cause; lines are 95 % intervals.",
    }


def _missing(document: Mapping[str, Any], images: Tensor) -> dict[str, str] | None:
    if not document["variety"] or not document["variety"]["missing"]:
        return None
    names = ", ".join(group["name"] for group in document["variety"]["missing"])
    return {"source": lossless(missing_gallery(document, images)), "alt": f"Held-out images of {names}"}


def _finding(entry: Mapping[str, Any]) -> dict[str, str]:
    return {
        "cause": called(entry["cause"]),
        # A number with a unit of its own is no share.
        "much": f"{entry['score']:.0%}" if entry.get("is_share", True) else f"{entry['score']:.3g}",
        "of": entry["of"],
        "confidence": f"{entry['confidence']:.0%}",
    }


def _gate(found: Mapping[str, Any]) -> dict[str, str]:
    return {
        "name": found["name"].replace("_", " "),
        "severity": found["severity"],
        "measured": number(Estimate(**found["measured"])),
        "threshold": f"{found['threshold']:g}",
        "what": found["what"],
    }


def _link(link: Mapping[str, Any]) -> dict[str, str]:
    cells = {"power": link["power"].get("high"), "psnr": link.get("psnr"), "kid": link.get("kid")}
    shown = {name: number(Estimate(**cell)) if cell else "n/a" for name, cell in cells.items()}
    return {"stage": link["stage"].replace("_", " "), **shown}


def _shares(measure: str, parts: Mapping[str, Any]) -> dict[str, Any]:
    causes = {name: number(Estimate(**estimate)) for name, estimate in sorted(parts.items())}
    return {"measure": measure.replace("_", " "), "causes": causes}
