"""What the gates found first, then the causes of missing detail: one order, one sentence, how sure it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hfgen.diagnosis.advice import advise
from hfgen.diagnosis.commands import command, look_closer
from hfgen.diagnosis.ranking import SHARP, WORTH_NAMING, rank
from hfgen.metrics import Estimate
from hfgen.reporting.numbers import number

_HEALTHY = ("sharp",)
_OF_POWER = "high-frequency power"
_UNSHARED = 0.5
_HIDING = ("pattern", "white_noise")


def conclude(document: Mapping[str, Any]) -> dict[str, Any]:
    """`ranking`, `advice` and `verdict` of a document that has everything else.

    Faults that a gate found come first, the one with the largest share before the others; then the causes of missing
    power, and after them faults that have less of the power than the largest of these. `verdict` has the one sentence,
    and `confidence`: of a gate's fault, that its number lies beyond the threshold; of the cause that comes first, the
    share of resamples of the images in which it is the largest, of others, that their share is worth naming; of a
    healthy model, that no more than `SHARP` of the power is missing or too much.
    """
    faults = _faults(document)
    named = [each["name"] for each in faults]
    causes = [each for each in rank(document) if each["cause"] not in named]
    most = max(
        (each["score"] for each in causes if each["of"] == _OF_POWER and each["cause"] != "unexplained"), default=0.0
    )
    first, later = ([each for each in faults if _is_less(each, most) is less] for less in (False, True))
    entries = [
        *map(_entry, first),
        *(
            {**each, "confidence": _confidence(document, each, not (first or place))}
            for place, each in enumerate(causes)
            if not (faults and each["cause"] in ("sharp", "unknown"))
        ),
        *map(_entry, later),
    ]
    sentences = advise({**document, "ranking": rank(document)})
    found = [_sentence(each) for each in [*first, *later, *_warnings(document)]]
    advice = [*found, *sentences] if first else [*sentences[:1], *found, *sentences[1:]]
    if any(each["cause"] == "unexplained" for each in causes):
        advice += _used(document)
    return {"ranking": entries, "advice": advice, "verdict": _verdict(document, first, entries, advice)}


def _faults(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What gates call a fault, the largest share first; NaN has its own sentences."""
    if document.get("non_finite"):
        return []
    found = [each for each in document["gates"] if each["severity"] == "fault"]
    modes = (document["variety"] or {}).get("missing_share", 0.0)
    if modes > 0:
        # Which kinds are missing says more than how many images.
        found = [each for each in found if each["name"] != "coverage" or each["share"] > 2 * modes]
    once = {each["name"]: each for each in found}
    shares = {name: min(_UNSHARED if each["share"] is None else each["share"], 1) for name, each in once.items()}
    if "masked_blur" in shares:
        # What hides it is seen first, and told first.
        shares["masked_blur"] = min(shares["masked_blur"], max(shares.get(name, 0.0) for name in _HIDING))
    # Of shares that are alike the earlier gate's comes first: what follows may follow from it.
    return sorted(once.values(), key=lambda each: -round(shares[each["name"]], 1))


def _is_less(found: Mapping[str, Any], most: float) -> bool:
    """Whether a fault's share of the power is below that of a cause: it is then a trace of it, or a small matter."""
    return found["of"] == _OF_POWER and found["share"] is not None and found["share"] < most


def _entry(found: Mapping[str, Any]) -> dict[str, Any]:
    """Of the ranking."""
    return {
        "cause": found["name"],
        "score": found["measured"]["value"] if found["share"] is None else found["share"],
        "of": found["of"] or found["what"],
        "confidence": found["confidence"],
        "is_share": found["share"] is not None,
    }


def _warnings(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [each for each in document["gates"] if each["severity"] == "warning"]


def _sentence(found: Mapping[str, Any]) -> str:
    measured = number(Estimate(**found["measured"]))
    return f"{found['text']} {measured} is the {found['what']}. What to do: {found['remedy']}."


def _used(document: Mapping[str, Any]) -> list[str]:
    """Where nothing was tried: that the network isn't behind the bound of its latent, if that is clear."""
    found = [each for each in document["gates"] if each["name"] == "under_trained" and each["measured"]["high"] < 0]
    if not found or document.get("protocol", {}).get("refits", True):
        return []
    measured = number(Estimate(**found[0]["measured"]))
    return [
        f"The network does use its latent: {measured} is the {found[0]['what']}, and below 0 it is better than these. "
        "A larger latent (--model.latent_channels, --model.latent_size) or a lower KL weight would be the next to try."
    ]


def _confidence(document: Mapping[str, Any], entry: Mapping[str, Any], leads: bool) -> float:
    cause = entry["cause"]
    if cause == "non_finite":
        return 1.0
    if cause in _HEALTHY or cause == "unknown":
        missing = document["causes"].get("missing")
        return _within(Estimate(**missing), SHARP) if missing else 1.0
    if entry["of"] != _OF_POWER:
        return 0.95  # Named only where 95 % intervals are apart.
    if cause == "unexplained" or not leads:
        return round(1 - _within(Estimate(**document["causes"][cause]), WORTH_NAMING), 4)
    return round(float(document["leads"].get(cause, 0.0)), 4)


def _within(estimate: Estimate, bound: float) -> float:
    """Chance that a number lies within a bound on both sides."""
    error = (estimate.high - estimate.low) / 3.92
    if error <= 0:
        return float(abs(estimate.value) <= bound)
    below = [0.5 * (1 + math.erf((end - estimate.value) / error / math.sqrt(2))) for end in (-bound, bound)]
    return round(below[1] - below[0], 4)


def _verdict(
    document: Mapping[str, Any], faults: list[dict[str, Any]], entries: list[dict[str, Any]], advice: list[str]
) -> dict[str, Any]:
    first = entries[0]
    if faults:
        sentence, remedy = faults[0]["text"], _command(document, first["cause"]) or faults[0]["remedy"]
        if len(entries) > 1:
            others = ", ".join(called(entry["cause"]) for entry in entries[1:4])
            sentence = f"{sentence} Beside it: {others}."
    elif first["cause"] in _HEALTHY:
        smooth = any(each["name"] == "smooth_data" for each in _warnings(document))
        subject = "the images are smooth, and " if smooth else ""
        sentence, remedy = f"Nothing is wrong that these checks can see: {subject}{_lower(advice[0])}", ""
    else:
        sentence, remedy = advice[0], _command(document, first["cause"]) or (advice[1] if len(advice) > 1 else "")
    return {"sentence": sentence, "cause": first["cause"], "confidence": first["confidence"], "remedy": remedy}


def _command(document: Mapping[str, Any], cause: str) -> str | None:
    model, data = document["model"], document["data"]
    if cause == "unexplained" and "protocol" in document:
        tried = document["protocol"].get("refits", True)
        return look_closer(model["id"], data["id"], *(("--budget", "full") if tried else ("--refits",)))
    images = {name: data[name] for name in ("resolution", "channels") if name in data}
    return command(cause, model["id"], data["id"], model["family"], images) if "family" in model else None


def called(cause: str) -> str:
    """A cause in words: there is white noise in images as well."""
    return "posterior noise" if cause == "noise" else cause.replace("_", " ")


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
