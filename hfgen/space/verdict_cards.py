"""What studies found, as cards: a sentence, its verdict, one small chart; and what a latent says exactly."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from hfgen.documents import POSTERIOR
from hfgen.errors import UserError
from hfgen.metrics import Estimate
from hfgen.reporting.numbers import number, percent
from hfgen.space import markup
from hfgen.space.interval_chart import interval_chart
from hfgen.space.loaded_models import LoadedModels, folders_of, logger, results_of
from hfgen.space.markup import text
from hfgen.studies.claims import in_words
from hfgen.studies.posterior.answer_figure import slug

_MARKS = {"supported": "✓", "contradicted": "✗", "opposite": "✗", "negligible": "≈"}
_OPEN = ("undecided", "not tested")
_BOUND = re.compile(r" is (above|below) (-?[\d.]+(?:e[-+]?\d+)?)$")


def claims(loaded: LoadedModels) -> list[str]:
    """A card a claim of every study.json, the decided ones first; nothing where there is none."""
    found = [
        (verdict, _tests(study, verdict))
        for study in results_of(loaded, "study.json")
        for verdict in study.get("verdicts", [])
    ]
    if not found:
        return []
    decided = [_claim(*one) for one in found if one[0].get("verdict", _OPEN[0]) not in _OPEN]
    others = [_claim(*one) for one in found if one[0].get("verdict", _OPEN[0]) in _OPEN]
    parts = [markup.heading("The folklore, measured"), *([markup.cards(decided)] if decided else [])]
    return [*parts, markup.details(f"Undecided: {len(others)}", markup.cards(others))] if others else parts


def _tests(study: dict[str, Any], verdict: dict[str, Any]) -> list[dict[str, Any]]:
    """Those that decide on a line of `verdicts`."""
    for one in study.get("studies", []):
        if one["name"] == verdict.get("study"):
            return next((claim["tests"] for claim in one["claims"] if claim["claim"] == verdict.get("claim")), [])
    return []


def _claim(found: dict[str, Any], tests: Sequence[dict[str, Any]]) -> str:
    verdict = str(found.get("verdict", "undecided"))
    mark = _MARKS.get(verdict, "?")
    badge = f'<p class="hf-badge hf-{text(verdict)}"><i aria-hidden="true">{mark}</i> {text(verdict)}</p>'
    claim = f'<p class="hf-claim">“{text(str(found.get("claim", "-")))}”</p>'
    # What the verdict rests on comes first: one test can contradict a claim that the others support.
    ordered = sorted(tests, key=lambda test: test["verdict"] != verdict)
    charts = [_chart(what, ordered) for what in dict.fromkeys(test["what"] for test in ordered)]
    rules = markup.bullets(dict.fromkeys(_rule(test) for test in tests)) if tests else ""
    known = rules or markup.paragraphs(str(found.get("number", "-")))
    folded = markup.details("How we know", *charts[1:], known)
    return f'<article class="hf-card hf-said-{text(verdict)}">{badge}{claim}{"".join(charts[:1])}{folded}</article>'


def _rule(test: dict[str, Any]) -> str:
    second = test.get("second_judge")
    also = f"; by pixels and spectra {in_words(second)}" if second else ""
    return f"{in_words(test)}{also}. Supported if {test['rule']}, with its whole interval over {test['seeds']} seeds."


def _chart(what: str, tests: Sequence[dict[str, Any]]) -> str:
    """One number against all of its bounds; empty where it isn't defined."""
    mine = [test for test in tests if test["what"] == what]
    bounds = [match for test in mine if (match := _BOUND.search(test["rule"]))]
    test = mine[0]
    if test["value"] is None or not bounds:
        return ""
    above, below = ([float(one[2]) for one in bounds if one[1] == side] for side in ("above", "below"))
    wanted = (max(above, default=None), min(below, default=None))
    ends = (test["value"], test["value"]) if test["low"] is None else (test["low"], test["high"])
    found = in_words(test)
    svg = interval_chart(test["value"], ends, wanted, str(test["verdict"]), f"{what}: {found}")
    return f'<figure class="hf-interval">{svg}<figcaption>{text(what)}: <b>{text(found)}</b></figcaption></figure>'


_PARTS = {
    "share_latent": "isn't in the latent",
    "share_decoder": "is in the latent, but the decoder doesn't show it",
}


def posteriors(loaded: LoadedModels) -> list[str]:
    """What `hfgen study posterior` found of each of its models: where the missing detail is lost, exactly."""
    parts = []
    for folder, found in folders_of(loaded, "posterior.json"):
        try:
            POSTERIOR.check(found, folder / "posterior.json")
        except UserError as error:
            logger.warning("%s", error)
            continue
        for model in found["models"]:
            sheet = folder / "figures" / f"{slug(model['name'])}.png"
            parts.append(_posterior(loaded, model, sheet.read_bytes() if sheet.is_file() else None))
    return [markup.heading("What the latent says, exactly"), *parts] if parts else []


def _posterior(loaded: LoadedModels, model: dict[str, Any], sheet: bytes | None) -> str:
    name = slug(model["name"])
    look = next((style for known, style in loaded.styles.items() if slug(known) == name), None)
    mark = f"{look.swatch()} " if look else ""
    shares = {kind: Estimate(**model["metrics"][kind]) for kind in _PARTS if kind in model["metrics"]}
    said = "; ".join(f"{percent(one)} {_PARTS[kind]}" for kind, one in shares.items())
    lost = model["n"] - model["converged"]
    doubt = f" For {lost} of the {model['n']} images the exact answer didn't converge." if lost else ""
    rows = [(kind, number(Estimate(**entry))) for kind, entry in model["metrics"].items()]
    words = (
        f"<div><h4>{mark}{text(name)}</h4>{_bar(shares, look.colour if look else 'currentColor', said)}"
        f'<p class="hf-claim">Of the fine detail that the decoder lacks: {text(said)}.{text(doubt)}</p>'
        f"{markup.details('How we know', markup.table(('number', 'value'), rows, f'{name}, exactly'))}</div>"
    )
    shown = "" if sheet is None else markup.figure(markup.chart(sheet, f"{name}: {_ROWS}"), f"From above: {_ROWS}.")
    colour = f' style="--mark:{look.colour}"' if look else ""
    return f'<article class="hf-card hf-exact"{colour}>{words}{shown}</article>'


_ROWS = (
    "the real image; the exact mean of all images that its latent may stand for, which no decoder can beat in squared "
    "error; the decoder's image; one of the images that it may stand for"
)


def _bar(shares: dict[str, Estimate], colour: str, alt: str) -> str:
    """Both parts on one bar; filled is what the decoder loses."""
    if len(shares) < len(_PARTS):
        return ""
    latent = 100 * min(1.0, max(0.0, shares["share_latent"].value))
    return (
        f'<svg class="hf-parts" viewBox="0 0 100 6" preserveAspectRatio="none" role="img" aria-label="{text(alt)}">'
        f'<rect width="100" height="6" fill="{colour}"/>'
        f'<rect width="{latent:.1f}" height="6" fill="var(--border-color-primary)"/></svg>'
    )
