"""What `hfgen study posterior` found of one model, in words, numbers and one bar, as every page shows it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from hfgen.metrics import Estimate
from hfgen.reporting.numbers import number, percent

TITLE = "What the latent says, exactly"

ROWS = (
    "the real image; the exact mean of all images that its latent may stand for, which no decoder can beat in squared "
    "error; the decoder's image; one of the images that it may stand for"
)
"""Of the sheet of pictures, from above."""

HOW = (
    "The letters are drawn from known factors, so all images that a latent may stand for can be drawn as well, without "
    "any training (hfgen study posterior). Power is that above .25 cycles per pixel; 95 % intervals over images."
)

_TRIAL = "smoke"
# Of a hash.
_DIGITS = 8
_PARTS = {
    "share_latent": "isn't in the latent",
    "share_decoder": "is in the latent, but the decoder doesn't show it",
}
_NUMBERS = {
    "share_latent": "missing power that isn't in the latent",
    "share_decoder": "missing power that is in the latent and not in the decoder's image",
    "power_mean": "power of the exact mean, over real",
    "power_decoder": "power of the decoder's image, over real",
    "power_draw": "power of an exact draw, over real",
    "identity": "check of the exact mean, 1 where it is exact",
    "psnr_mean": "PSNR of the exact mean, dB",
    "psnr_decoder": "PSNR of the decoder's image, dB",
    "psnr_draw": "PSNR of an exact draw, dB",
    "information_bits": "information in the latent, bits",
    "kl_bits": "what the latent costs, bits",
}


def slug(model: str) -> str:
    """What a model's files are called."""
    return re.sub(r"\W+", "-", Path(model).name).strip("-").lower()


def sheet_name(entry: Mapping[str, Any]) -> str:
    """The picture of an entry of a posterior.json, in figures/: a model that was trained anew has another."""
    return f"{slug(entry['name'])}-{entry['weights'][:_DIGITS]}.png"


def sheet_of_entry(folder: Path, entry: Mapping[str, Any]) -> Path | None:
    """The same beside the posterior.json in `folder`; None where it isn't there."""
    path = folder / "figures" / sheet_name(entry)
    return path if path.is_file() else None


class ExactAnswer(NamedTuple):
    """An entry of a posterior.json as a page shows it.

    Attributes:
        budget: Of the study, by name.
        n: Images.
        converged: Those of them whose answer is known to be exact.
        metrics: Of all of them.
    """

    budget: str
    n: int
    converged: int
    metrics: dict[str, Estimate]

    @classmethod
    def of(cls, document: Mapping[str, Any], entry: Mapping[str, Any]) -> ExactAnswer:
        """Of the JSON values of the entry and of its document's budget."""
        metrics = {name: Estimate(**fields) for name, fields in entry["metrics"].items()}
        return cls(document["budget"]["name"], entry["n"], entry["converged"], metrics)

    @property
    def shares(self) -> dict[str, Estimate]:
        """Of the power above .25 cycles per pixel that the decoder's images lack; none where that isn't defined."""
        found = {name: self.metrics[name] for name in _PARTS if name in self.metrics}
        return found if len(found) == len(_PARTS) else {}

    @property
    def sentence(self) -> str:
        """Where the missing detail is lost."""
        if not self.shares:
            return "Which part of the fine detail is lost where isn't defined on these images."
        parts = "; ".join(f"{percent(share)} {_PARTS[name]}" for name, share in self.shares.items())
        return f"Of the fine detail that the decoder lacks: {parts}."

    @property
    def doubt(self) -> str:
        """How many images' answers didn't converge, and that of a trial nothing follows; empty where all is well."""
        lost, said = self.n - self.converged, []
        if lost:
            said.append(f"For {lost} of the {self.n} images the exact answer didn't converge; they stay in.")
        if self.budget == _TRIAL:
            said.append(f"It was a trial (--budget {_TRIAL}), of which nothing follows.")
        return " ".join(said)

    @property
    def rows(self) -> list[tuple[str, str]]:
        """All numbers, each with its 95 % interval over images."""
        return [(_NUMBERS.get(name, name), number(found)) for name, found in self.metrics.items()]

    def bar(self, colour: str, ground: str) -> str:
        """Both shares as inline SVG, filled with `colour` where the decoder loses; empty without shares.

        `colour`, `ground`: as CSS has them.
        """
        if not self.shares:
            return ""
        latent = 100 * min(1.0, max(0.0, self.shares["share_latent"].value))
        return (
            '<svg class="parts" viewBox="0 0 100 6" preserveAspectRatio="none" role="img" '
            f'aria-label="{escape(self.sentence)}"><rect width="100" height="6" fill="{colour}"/>'
            f'<rect width="{latent:.1f}" height="6" fill="{ground}"/></svg>'
        )
