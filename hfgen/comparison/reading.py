"""A comparison's numbers -> sentences. Every clause depends on the numbers and their 95 % intervals."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

from hfgen.metrics import Estimate, calibration
from hfgen.reporting.best import Pairs, best, distance_from, tied_with
from hfgen.reporting.exact_answers import ExactAnswer
from hfgen.reporting.numbers import Estimates, estimates, number, overlap, percent

# Power ratios up to this far from 1, though measurable, are called slight.
_SLIGHT = 1.15
# Below this share of what other real images cover, coverage tells fidelity only.
_HARDLY = 0.1


def read(comparison: dict[str, Any]) -> list[str]:
    """Say what a comparison (see `hfgen.comparison.compare`) shows; the last sentence is the answer."""
    models = {name: estimates(model["metrics"]) for name, model in comparison["models"].items()}
    baseline = estimates(comparison["baseline"])
    differences = comparison["differences"]
    return [
        *chain.from_iterable(_model(name, metrics, baseline) for name, metrics in models.items()),
        *_exact(comparison),
        *_kernel_distance("kid", "KID", models, baseline, differences.get("kid")),
        *_second_judge(comparison),
        *map(_psnr_pair, differences.get("psnr", [])),
        _answer(models, baseline, comparison),
    ]


def _model(name: str, metrics: Estimates, baseline: Estimates) -> list[str]:
    """Its reconstructions, where it has an encoder; its samples' sharpness, where it draws; variety and fidelity."""
    sample, reconstruction = metrics.get("hf_ratio_sample"), metrics.get("hf_ratio_reconstruction")
    sentences = []
    if reconstruction is not None:
        clauses = [f"reconstructions {_sharpness(reconstruction)}"]
        gain = metrics.get("gain_high")
        if gain is not None and (reconstruction.high < 1 or calibration(gain) == "made up"):
            clauses.append(_gain(gain, metrics["coherence_high"]))
        sentences.append(clauses)
        if {"psnr", "psnr_linear"} <= metrics.keys():
            sentences.append([_beside_components(metrics)])
    if sample is not None:
        clauses = [f"samples {_sharpness(sample)}"]
        sentences.append(clauses if reconstruction is None else [*clauses, _prior(sample, reconstruction)])
    if "coverage" in metrics:
        sentences.append(_against_real(metrics, baseline))
    return [f"{name}: {'; '.join(clauses)}." for clauses in sentences]


def _exact(comparison: dict[str, Any]) -> list[str]:
    """Where each model's missing detail is lost, of those whose latents were asked for it."""
    found = comparison.get("posterior", {"models": {}})
    answers = {name: ExactAnswer.of(found, entry) for name, entry in found["models"].items()}
    return [f"{name}, exactly: {f'{answer.sentence} {answer.doubt}'.strip()}" for name, answer in answers.items()]


def _beside_components(metrics: Estimates) -> str:
    """Whether it does more than a linear autoencoder of as many numbers."""
    psnr, linear = metrics["psnr"], metrics["psnr_linear"]
    both = f"{number(psnr)} dB against {number(linear)} dB of as many principal components"
    if is_under_trained(metrics):
        return f"under-trained: {both}, so its blur says nothing about its latent"
    return f"its reconstructions have {both}"


def _sharpness(ratio: Estimate) -> str:
    power = f"{percent(ratio)} of the real images' high-frequency power"
    if ratio.high < 1:
        return f"keep {power}: {'' if ratio.value < 1 / _SLIGHT else 'slightly '}blurrier than real"
    if ratio.low > 1 and ratio.value > _SLIGHT:
        return f"have {power}: noise or ringing, not sharpness"
    return f"have {power}: {'slightly more than' if ratio.low > 1 else 'no measurable gap to'} real"


_OF_GAIN = {
    "conditional mean": "their detail is what a mean of all that the model can't tell apart would have",
    "shrunk": "their detail is fainter than a mean of all that the model can't tell apart would have it",
    "made up": "a part of their detail is made up",
    "undecided": "these images are too few to tell whether they average",
}


def _gain(gain: Estimate, coherence: Estimate) -> str:
    """Whether they are what a mean would be, and how much of the detail they know."""
    known = f"{percent(coherence)} of the real images' detail can be predicted from it"
    return f"{_OF_GAIN[calibration(gain)]} (gain {number(gain)}), and {known}"


def _prior(sample: Estimate, reconstruction: Estimate) -> str:
    """The same decoder draws both; only the latents differ."""
    if overlap(sample, reconstruction):
        return f"no measurable gap to its reconstructions ({percent(reconstruction)})"
    direction = "less" if sample.high < reconstruction.low else "more"
    return (
        f"that is {direction} than its reconstructions have ({percent(reconstruction)}), "
        "and the decoder is the same: the difference comes with the prior's latents"
    )


def _against_real(metrics: Estimates, baseline: Estimates) -> list[str]:
    own = metrics["coverage"]
    covered = f"samples cover {percent(own)} of the held-out images"
    if "coverage" not in baseline:
        return [covered]
    real = baseline["coverage"]
    match = "no measurable gap to other real images," if overlap(own, real) else "where other real images cover"
    gaps = [_gap(metric, metrics[metric], baseline[metric]) for metric in ("recall", "precision", "density")]
    return [f"{covered}, {match} {percent(real)}", f"compared with those, {', '.join(gaps)}"]


def _gap(metric: str, own: Estimate, real: Estimate) -> str:
    verdict = "is lower" if own.high < real.low else "is higher" if own.low > real.high else "shows no measurable gap"
    return f"{metric} {verdict} ({number(own)}; theirs {number(real)})"


def _kernel_distance(
    metric: str, called: str, models: dict[str, Estimates], baseline: Estimates, pairs: Pairs | None
) -> list[str]:
    distances = those_that_have(metric, models)
    nearest = closest(metric, distances, pairs)
    if not nearest:
        return []
    tie = "" if len(nearest) == 1 else ", and tie"
    sentence = f"{called}: the samples of {listed(nearest)} are closest to the real images{tie}"
    if metric not in baseline:
        return [f"{sentence}."]
    gap = _gap(f"the KID of {nearest[0]}", distances[nearest[0]], baseline[metric])
    return [f"{sentence}; compared with other real images, {gap}."]


def _second_judge(comparison: dict[str, Any]) -> list[str]:
    """What it says of KID, and a line for each pair of models that the two judges order otherwise."""
    second = comparison.get("second_judge")
    if second is None:
        return []
    models = {name: estimates(metrics) for name, metrics in second["models"].items()}
    pairs = comparison["differences"].get("kid_pixels")
    called = "KID by pixels and spectra, the second judge"
    sentences = _kernel_distance("kid_pixels", called, models, estimates(second["baseline"]), pairs)
    if sentences and not comparison["disagreements"]:
        sentences.append("The two judges agree: no pair of models is ordered otherwise by KID or by coverage.")
    return sentences + [_disagreement(pair) for pair in comparison["disagreements"]]


_NEARER = {"kid": "lie closer to real images", "coverage": "cover more of them"}


def _disagreement(pair: dict[str, Any]) -> str:
    ours, theirs = Estimate(**pair["by_first"]), Estimate(**pair["by_second"])
    nearer, other = pair["first"], pair["second"]
    if (ours.value < 0) != (pair["metric"] == "kid"):
        nearer, other = other, nearer
    called = "KID" if pair["metric"] == "kid" else "coverage"
    return (
        f"The two judges disagree: by {called} the samples of {nearer} {_NEARER[pair['metric']]} in the first's "
        f"features, those of {other} by pixels and spectra "
        f"({pair['first']} - {pair['second']}: {number(ours)} and {number(theirs)})."
    )


def _psnr_pair(pair: dict[str, Any]) -> str:
    difference = Estimate(**pair["difference"])
    first, second = pair["first"], pair["second"]
    if pair["tie"]:
        gap = f"{first} - {second}: {number(difference)} dB"
        return f"PSNR: no measurable gap between the reconstructions of {first} and {second} ({gap})."
    if difference.value < 0:
        first, second = second, first
        difference = Estimate(-difference.value, -difference.high, -difference.low, difference.n)
    gap = f"{number(difference)} dB above those of {second}"
    return f"PSNR: the reconstructions of {first} are {gap}, image by image."


def _answer(models: dict[str, Estimates], baseline: Estimates, comparison: dict[str, Any]) -> str:
    """Which is crispest, by samples where any draws, and nearest to real images; what else it says of both."""
    differences = comparison["differences"]
    kind, ratios, crispest = sharpest(models)
    sentences = [f"On these data {_crispest(crispest, ratios, f'{kind}s')}."] if ratios else []
    # Noise has as much power as real images; being sharp isn't being like them.
    if ratios and (nearest := _nearest(crispest, ratios, models, baseline, comparison)):
        sentences.append(nearest)
    coverages = those_that_have("coverage", models)
    if len(crispest) == 1 and len(coverages) > 1 and crispest[0] in coverages:
        sentences.append(_variety(crispest[0], coverages, baseline.get("coverage"), differences.get("coverage")))
    if leaders := most_faithful(models, differences.get("psnr", [])):
        faithful = _faithful(leaders, those_that_have("psnr", models))
        sentences.append(f"{faithful[0].upper()}{faithful[1:]}." if sentences else f"On these data {faithful}.")
    if not sentences:
        return "On these data no metric is defined that would compare sharpness; the notes say why."
    return " ".join([*_under_trained(models), *sentences])


def _under_trained(models: dict[str, Estimates]) -> list[str]:
    poor = [name for name, metrics in models.items() if is_under_trained(metrics)]
    if not poor:
        return []
    verb = "is" if len(poor) == 1 else "are"
    return [
        f"{listed(poor)} {verb} under-trained: as many principal components have a higher PSNR, so nothing follows "
        "from the blur."
    ]


def is_under_trained(metrics: Estimates) -> bool:
    """Whether principal components of as many numbers do more."""
    return {"psnr", "psnr_linear"} <= metrics.keys() and metrics["psnr"].high < metrics["psnr_linear"].low


def _nearest(
    crispest: list[str],
    ratios: Estimates,
    models: dict[str, Estimates],
    baseline: Estimates,
    comparison: dict[str, Any],
) -> str | None:
    """Whose samples are nearest to real images as a set, by each judge: the crispest, or others."""
    distances = those_that_have("kid", models)
    nearest = closest("kid", distances, comparison["differences"].get("kid"))
    if not nearest:
        return None
    also = " also" if set(nearest) <= set(crispest) else ""
    place = f"are{also} the nearest" if len(nearest) == 1 else f"{also.lstrip()} tie for the nearest".lstrip()
    sentence = f"by KID the samples of {listed(nearest)} {place} to real images as a set"
    if set(nearest).isdisjoint(crispest):
        power = [ratios[name].low for name in crispest]
        blurrier = all(name in ratios and ratios[name].high < min(power) for name in nearest)
        sentence = f"but {sentence}{', though blurrier' if blurrier else ''}"
    values, second = _values(distances, baseline, "kid"), _by_the_other_judge(nearest, comparison)
    return f"{sentence[0].upper()}{sentence[1:]} {values}{second}."


def _by_the_other_judge(nearest: list[str], comparison: dict[str, Any]) -> str:
    second = comparison.get("second_judge")
    if second is None:
        return ""
    models = {name: estimates(metrics) for name, metrics in second["models"].items()}
    distances = those_that_have("kid_pixels", models)
    theirs = closest("kid_pixels", distances, comparison["differences"].get("kid_pixels"))
    if not theirs:
        return ""
    if set(theirs) == set(nearest):
        return "; the second judge, by pixels and spectra, says the same"
    verb = "are" if len(theirs) == 1 else "tie for the nearest"
    values = _values(distances, estimates(second["baseline"]), "kid_pixels")
    return f"; by the second judge, of pixels and spectra, those of {listed(theirs)} {verb} {values}"


def closest(metric: str, distances: Estimates, pairs: Pairs | None) -> list[str]:
    """Of two models or more, that of the lowest distance, and those that tie with it."""
    return best(metric, distances, pairs) if len(distances) > 1 else []


def _values(distances: Estimates, baseline: Estimates, metric: str) -> str:
    """All of them, from the lowest."""
    ranked = sorted(distances, key=lambda name: distances[name].value)
    values = [f"{name} {number(distances[name])}" for name in ranked]
    if metric in baseline:
        values.append(f"other real images {number(baseline[metric])}")
    return f"(KID: {', '.join(values)})"


def sharpest(models: dict[str, Estimates]) -> tuple[str, Estimates, list[str]]:
    """Of samples, where any model draws, else of reconstructions: which, their power ratios, and who is nearest to 1.

    The last are one name, or several that tie.
    """
    kind = "sample" if any("hf_ratio_sample" in metrics for metrics in models.values()) else "reconstruction"
    ratios = those_that_have(f"hf_ratio_{kind}", models)
    return kind, ratios, best(f"hf_ratio_{kind}", ratios)


def most_faithful(models: dict[str, Estimates], pairs: Pairs) -> list[str]:
    """Who has the highest PSNR and who ties with it, in the models' order; nobody, of fewer than two."""
    scores = those_that_have("psnr", models)
    leaders = best("psnr", scores, pairs) if len(scores) > 1 else []
    return [name for name in scores if name in leaders]


def those_that_have(metric: str, models: dict[str, Estimates]) -> Estimates:
    """A metric of the models that have it, by name."""
    return {name: metrics[metric] for name, metrics in models.items() if metric in metrics}


def _crispest(crispest: list[str], ratios: Estimates, images: str) -> str:
    if len(ratios) == 1:
        return f"the {images} of {crispest[0]} {_sharpness(ratios[crispest[0]])}"
    ranked = sorted(ratios, key=lambda name: distance_from(1, ratios[name]).value)
    power = ", ".join(f"{name} {percent(ratios[name])}" for name in ranked)
    verb = "come" if len(crispest) == 1 else "tie for coming"
    return (
        f"the {images} of {listed(crispest)} {verb} closest to the sharpness of real images "
        f"(high-frequency power relative to real: {power})"
    )


def _faithful(leaders: list[str], scores: Estimates) -> str:
    ranked = sorted(scores, key=lambda name: -scores[name].value)
    values = ", ".join(f"{name} {number(scores[name])} dB" for name in ranked)
    tie = ", which tie" if len(leaders) > 1 else ""
    return f"the most faithful reconstructions are those of {listed(leaders)}{tie} (PSNR: {values})"


def hardly_cover(coverages: Estimates, real: Estimate) -> bool:
    """Whether no samples cover a tenth of what other real images do, so that coverage tells fidelity only."""
    return max(each.high for each in coverages.values()) < _HARDLY * real.low


def _variety(crispest: str, coverages: Estimates, real: Estimate | None, pairs: Pairs | None) -> str:
    """Whether others cover more of the held-out images than the crispest, where any covers enough to compare."""
    own, tied = coverages[crispest], tied_with(crispest, coverages, pairs)
    most = max(coverages, key=lambda name: coverages[name].value)
    if real is not None and hardly_cover(coverages, real):
        covered = f"at most {percent(coverages[most])} ({most}), where other real images cover {percent(real)}"
        return (
            f"Variety can't be compared: in these features no samples cover a tenth of what real images do ({covered})."
        )
    richer = [
        f"{name} ({percent(other)})"
        for name, other in coverages.items()
        if other.value > own.value and name not in tied
    ]
    if richer:
        covered = f"The samples of {crispest} cover fewer of the held-out images ({percent(own)})"
        return f"{covered} than those of {listed(richer)}."
    return f"No other model's samples cover measurably more of the held-out images ({crispest} {percent(own)})."


def listed(words: Iterable[str]) -> str:
    """`a, b and c`."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
