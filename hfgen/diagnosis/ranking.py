"""The order of the causes of missing detail, and of what is wrong with samples that aren't smooth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from hfgen.metrics import Estimate
from hfgen.reporting.numbers import overlap

SHARP = 0.3
"""Images that lack, or have too much of, less than this share of the high-frequency power are called sharp."""

WORTH_NAMING = 0.1
"""A cause of a smaller share isn't advised on."""

_TELLING = 0.5


def rank(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The causes, the first one first, each with its `score`, a share `of` something; `sharp` where there is none.

    Causes of blur by the share of the high-frequency power that is missing by them. After them, or before them where
    images are sharp, what needn't be smooth: by the share of the samples' KID that is saved, where the intervals are
    apart, `prior_training` by learning on and the `prior` by a fitted density; `modes` by the share of the real images
    whose class or cluster is left out, unless half of the power is missing: what blurred images show can't be told; and
    `generator_training` by the KID that learning on saves. What no cause was found for comes last, as `unexplained`.
    """
    if document.get("non_finite"):
        return [_Cause("non_finite", 1.0, "images")._asdict()]
    causes = {name: Estimate(**entry) for name, entry in document["causes"].items()}
    lack = causes.pop("missing")
    missing = lack.value
    unexplained = causes.pop("unexplained", None)
    scores = {name: estimate.value for name, estimate in causes.items() if estimate.low > 0}
    for part in ("prior", "generator"):
        training = causes.get(f"{part}_training")
        if training is not None and part in scores:
            # What learning on makes worse isn't missing as it is.
            scores[part] += min(0.0, training.value)
        if _is_worse(document, f"{part}_refit"):
            scores.pop(f"{part}_training", None)
    blurred = is_blurred(lack)
    if not blurred:
        # What little is missing of sharp images has no cause worth a name.
        scores = {name: score for name, score in scores.items() if score > SHARP}
    left_out = (document["variety"] or {}).get("missing_share", 0.0)
    of_blur = [_Cause(name, score, "high-frequency power") for name, score in scores.items()]
    others = [
        _Cause("prior_training", _saved(document, "prior_refit"), "samples' KID"),
        _Cause("prior", _saved(document, "fitted_density"), "samples' KID"),
        _Cause("modes", left_out if missing <= _TELLING else 0.0, "real images"),
    ]
    # After kinds of images that are left out, which say more.
    later = [_Cause("generator_training", _saved(document, "generator_refit"), "samples' KID")]
    named: dict[str, _Cause] = {}
    for group in (of_blur, others, later) if blurred else (others, of_blur, later):
        for cause in sorted(group, key=lambda cause: -cause.score):
            if cause.score > WORTH_NAMING:
                named.setdefault(cause.cause, cause)
    if blurred and unexplained is not None and unexplained.low > 0 and unexplained.value > WORTH_NAMING:
        named["unexplained"] = _Cause("unexplained", unexplained.value, "high-frequency power")
    found = list(named.values()) or [_Cause("unknown" if blurred or has_too_much(lack) else "sharp", 1.0, "images")]
    return [cause._asdict() for cause in found]


def is_blurred(missing: Estimate) -> bool:
    """Whether more than `SHARP` of the power is missing by the whole interval, as gates ask of a fault."""
    return missing.low > SHARP


def has_too_much(missing: Estimate) -> bool:
    """Likewise of power that real images don't have."""
    return missing.high < -SHARP


class _Cause(NamedTuple):
    """An entry of the ranking."""

    cause: str
    score: float
    of: str


def _is_worse(document: Mapping[str, Any], stage: str) -> bool:
    """Whether samples are farther from real images there: what they gain in power is then no detail."""
    links = {link["stage"]: Estimate(**link["kid"]) for link in document["chain"] if "kid" in link}
    if stage not in links or "prior_sample" not in links:
        return False
    changed, own = links[stage], links["prior_sample"]
    return changed.value > own.value and not overlap(changed, own)


def _saved(document: Mapping[str, Any], stage: str) -> float:
    """Share of the samples' KID beyond that of real images that a better prior or generator saves, where it counts.

    It does where the intervals are apart and the KID saved is at least what a slight blur of real images adds
    (`kid_of_blur`): KIDs are on another scale for each judge and for each data set.
    """
    links = {link["stage"]: Estimate(**link["kid"]) for link in document["chain"] if "kid" in link}
    if stage not in links or "prior_sample" not in links:
        return 0.0
    better, own = links[stage], links["prior_sample"]
    real = max(document.get("baseline", {}).get("kid", {}).get("value", 0.0), 0.0)
    saved = own.value - max(better.value, real)
    if overlap(better, own) or saved <= 0 or saved < document.get("kid_of_blur", 0.0):
        return 0.0
    return saved / (own.value - real)
