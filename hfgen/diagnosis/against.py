"""Two diagnoses on the same images -> why the models differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hfgen.diagnosis.verdict import called
from hfgen.metrics import Estimate
from hfgen.reporting.numbers import number

_COUNTS = 0.02


def compare(document: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """What is different between a diagnosis and that of `other`, on the same images.

    A difference's interval is that of two independent numbers, which is too wide where the images are the same: what
    is called different is.

    Returns:
        `model`: the other one; `sentences`; `gates` and `causes`: differences, this one's number less the other's.
    """
    causes = _differences(document["causes"], other["causes"])
    gates = _differences(*({each["name"]: each["measured"] for each in d["gates"]} for d in (document, other)))
    return {
        "model": other["model"]["id"],
        "sentences": [*_of_faults(document, other), *_of_causes(causes), *_of_stages(document, other)]
        or ["Nothing that was measured differs by more than chance."],
        "gates": {name: estimate.as_dict() for name, estimate in gates.items()},
        "causes": {name: estimate.as_dict() for name, estimate in causes.items()},
    }


def _differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Estimate]:
    pairs = {name: (Estimate(**first[name]), Estimate(**second[name])) for name in first if name in second}
    return {name: _difference(*pair) for name, pair in pairs.items()}


def _difference(first: Estimate, second: Estimate) -> Estimate:
    value = first.value - second.value
    below = ((first.value - first.low) ** 2 + (second.high - second.value) ** 2) ** 0.5
    above = ((first.high - first.value) ** 2 + (second.value - second.low) ** 2) ** 0.5
    return Estimate(value, value - below, value + above, min(first.n, second.n))


def _of_faults(document: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    ours, theirs = ({e["name"]: e for e in d["gates"] if e["severity"] == "fault"} for d in (document, other))
    found = [f"Only the first model has this: {each['text']}" for name, each in ours.items() if name not in theirs]
    return found + [f"Only the other has this: {each['text']}" for name, each in theirs.items() if name not in ours]


def _of_causes(causes: Mapping[str, Estimate]) -> list[str]:
    """The causes whose shares differ, the largest difference first."""
    clear = {name: each for name, each in causes.items() if each.low > _COUNTS or each.high < -_COUNTS}
    sentences = []
    for name, each in sorted(clear.items(), key=lambda pair: (pair[0] != "missing", -abs(pair[1].value))):
        what = "High-frequency power that is missing" if name == "missing" else f"Missing by {called(name)}"
        sentences.append(f"{what}: {number(each)} {'more' if each.value > 0 else 'less'} than the other, as a share.")
    return sentences


def _of_stages(document: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    sentences = []
    for kind, stage, words in (("psnr", "mean", "PSNR of reconstructions"), ("kid", "prior_sample", "KID of samples")):
        links = [
            next((li for li in d["chain"] if li["stage"] == stage and kind in li), None) for d in (document, other)
        ]
        if links[0] is None or links[1] is None:
            continue
        difference = _difference(Estimate(**links[0][kind]), Estimate(**links[1][kind]))
        if difference.low > 0 or difference.high < 0:
            sentences.append(f"{words}: {number(difference)} {'higher' if difference.value > 0 else 'lower'}.")
    return sentences
