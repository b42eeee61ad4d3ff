"""A comparison -> what its page says first: who is the sharpest, why the others are blurred, and a card a model."""

from __future__ import annotations

from typing import Any, NamedTuple

from hfgen.comparison.reading import (
    closest,
    hardly_cover,
    is_under_trained,
    listed,
    most_faithful,
    sharpest,
    those_that_have,
)
from hfgen.metrics import Estimate, calibration
from hfgen.reporting.numbers import Estimates, estimates, short


class Fact(NamedTuple):
    """A line of a card: a number in words, and as a part of what real images have, where that is one."""

    label: str
    value: str
    share: float | None = None


class Headline(NamedTuple):
    """What stands in large, what explains it, and by model the numbers of its card."""

    question: str
    answer: str
    reasons: list[str]
    cards: dict[str, list[Fact]]


def headline(comparison: dict[str, Any]) -> Headline:
    """Sentences without intervals; `hfgen.comparison.reading` has the same with them."""
    models = {name: estimates(model["metrics"]) for name, model in comparison["models"].items()}
    baseline = estimates(comparison["baseline"])
    answer = [_sharpest(models, comparison), _faithful(models, comparison), _variety(models, baseline, comparison)]
    trained = {name: metrics for name, metrics in models.items() if not is_under_trained(metrics)}
    reasons = [*_under_trained(models), *_blurred(trained), *_unlike(models, baseline), *_judges(comparison)]
    cards = {name: _facts(metrics, baseline) for name, metrics in models.items()}
    said = " ".join(filter(None, answer)) or "No metric is defined that would compare sharpness; the notes say why."
    return Headline(_question(models, comparison), said, reasons, cards)


def _question(models: dict[str, Estimates], comparison: dict[str, Any]) -> str:
    if len(comparison["models"]) == 1:
        return "Why blurred?"
    families = {name: model["model"]["family"] for name, model in comparison["models"].items()}
    power = those_that_have("hf_ratio_sample", models)
    gans = [power[name] for name in power if families[name] == "gan"]
    vaes = [power[name] for name in power if families[name] in ("vae", "vqvae")]
    # Of an under-trained or collapsed GAN, and of one whose power is noise, the folklore isn't to be asked.
    blurred = max((vae.high for vae in vaes), default=1)
    if gans and blurred < 1 and all(blurred < gan.low <= 1 for gan in gans):
        return "Why are VAE outputs blurred and GAN outputs crisper?"
    return "Which model is the sharpest, and why are others blurred?"


def _sharpest(models: dict[str, Estimates], comparison: dict[str, Any]) -> str:
    """Noise has as much power as real images: being sharp isn't being like them, so that is said too."""
    kind, ratios, names = sharpest(models)
    if not names:
        return ""
    # Reconstructions are of given images, so what draws none is no candidate.
    only = "Of the models that draw, " if kind == "sample" and 1 < len(ratios) < len(models) else ""
    nearest = closest("kid", those_that_have("kid", models), comparison["differences"].get("kid"))
    if nearest == names:
        return only + _sharper(kind, ratios, names, " and the nearest to real images as a set")
    return only + _sharper(kind, ratios, names, "") + (_nearest(nearest, ratios, names) if nearest else "")


def _nearest(nearest: list[str], ratios: Estimates, names: list[str]) -> str:
    """Others than the sharpest are, or with it."""
    verb = "are" if len(nearest) == 1 else "tie for being"
    but = "The" if set(nearest) & set(names) else "But the"
    sharpness = min(ratios[name].low for name in names)
    blurrier = but != "The" and all(name in ratios and ratios[name].high < sharpness for name in nearest)
    return (
        f" {but} samples of {listed(nearest)} {verb} nearest to real images as a set{', though blurrier' * blurrier}."
    )


def _sharper(kind: str, ratios: Estimates, names: list[str], also: str) -> str:
    # Of equal power isn't the same: detail may be made up.
    power = f"{short(100 * ratios[names[0]].value)} % as much fine detail as real images"
    if len(ratios) == 1:
        return f"The {kind}s of {names[0]} have {power}."
    if len(names) > 1:
        nearest = ", and for being the nearest as a set" if also else ""
        return f"{listed(names)} tie for sharpness closest to real images{nearest}."
    if ratios[names[0]].low > 1:
        nearest = " Its samples are the nearest to real images as a set." if also else ""
        return f"{names[0]} comes closest to real sharpness, with {power}: what is more is noise.{nearest}"
    return f"{names[0]} is the sharpest{also}: its {kind}s have {power}."


def _faithful(models: dict[str, Estimates], comparison: dict[str, Any]) -> str:
    leaders = most_faithful(models, comparison["differences"].get("psnr", []))
    if not leaders:
        return ""
    if len(leaders) > 1:
        return f"{listed(leaders)} tie for the most faithful reconstructions."
    return f"{leaders[0]} reconstructs most faithfully."


def _variety(models: dict[str, Estimates], baseline: Estimates, comparison: dict[str, Any]) -> str:
    """Only where the sharpest covers measurably less than another, and coverage says anything of variety."""
    _, _, names = sharpest(models)
    covered, real = those_that_have("coverage", models), baseline.get("coverage")
    if len(names) != 1 or not covered or (real is not None and hardly_cover(covered, real)):
        return ""
    pairs = comparison["differences"].get("coverage", [])
    richer = [
        other
        for pair in pairs
        if names[0] in (pair["first"], pair["second"]) and not pair["tie"]
        for other in [pair["second"] if pair["first"] == names[0] else pair["first"]]
        if (pair["difference"]["value"] < 0) == (pair["first"] == names[0])
    ]
    verb = "covers" if len(richer) == 1 else "cover"
    return f"{listed(richer)} {verb} more of the real images than {names[0]}." if richer else ""


_MEAN = "a mean of all that {they} can't tell apart would be, and such a mean is blurred"
_DRAWN = {
    "conditional mean": f"what {{they}} draw{{s}} is as {_MEAN}",
    "shrunk": f"what {{they}} draw{{s}} is even fainter than {_MEAN}",
    "made up": "a part of what {they} draw{s} is made up",
    "undecided": "these images are too few to tell whether {they} draw{s} a mean",
}
_ONE = {"are": "is", "they": "it", "their": "its", "s": "s"}
_SEVERAL = {"are": "are", "they": "they", "their": "their", "s": ""}


def _blurred(models: dict[str, Estimates]) -> list[str]:
    """A sentence for each way in which reconstructions are blurred, with the models that are so."""
    sentences = []
    for kind, drawn in _DRAWN.items():
        found = {
            name: metrics["coherence_high"]
            for name, metrics in models.items()
            if "gain_high" in metrics
            and "hf_ratio_reconstruction" in metrics
            and metrics["hf_ratio_reconstruction"].high < 1
            and calibration(metrics["gain_high"]) == kind
        }
        if found:
            words = _ONE if len(found) == 1 else _SEVERAL
            shares = listed(f"{short(100 * coherence.value)} %" for coherence in found.values())
            told = f"From {words['their']} reconstructions {shares} of the real detail can be predicted"
            sentences.append(f"Why {words['are']} {listed(found)} blurred? {told}; {drawn.format(**words)}.")
    return sentences


def _under_trained(models: dict[str, Estimates]) -> list[str]:
    names = [name for name, metrics in models.items() if is_under_trained(metrics)]
    if not names:
        return []
    verb = "is" if len(names) == 1 else "are"
    more = "as many principal components have a higher PSNR, so nothing follows from the blur"
    return [f"{listed(names)} {verb} under-trained: {more}. Train longer first."]


def _unlike(models: dict[str, Estimates], baseline: Estimates) -> list[str]:
    """Where no model's samples come near the real ones, sharpness alone says little."""
    covered, real = those_that_have("coverage", models), baseline.get("coverage")
    if not covered or real is None or not hardly_cover(covered, real):
        return []
    most = max(covered.values(), key=lambda each: each.value)
    whose = "No model's samples" if len(covered) > 1 else f"The samples of {next(iter(covered))} don't"
    few = f"they cover {'at most ' if len(covered) > 1 else ''}{short(100 * most.value)} % of them"
    return [f"{whose} resemble the real images yet: {few}, other real images {short(100 * real.value)} %."]


def _judges(comparison: dict[str, Any]) -> list[str]:
    return ["The two judges disagree about some models; below it says which."] if comparison["disagreements"] else []


def _facts(metrics: Estimates, baseline: Estimates) -> list[Fact]:
    facts = [
        _share("High-frequency power, reconstructions", metrics.get("hf_ratio_reconstruction")),
        _share("High-frequency power, samples", metrics.get("hf_ratio_sample")),
        _share("Real images covered", metrics.get("coverage")),
    ]
    if "psnr" in metrics:
        facts.append(Fact("PSNR of reconstructions", f"{metrics['psnr'].value:.1f} dB"))
    return [fact for fact in facts if fact is not None]


def _share(label: str, estimate: Estimate | None) -> Fact | None:
    if estimate is None:
        return None
    return Fact(label, f"{short(100 * estimate.value)} %", min(1.0, max(0.0, estimate.value)))
