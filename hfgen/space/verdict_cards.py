"""What studies found, as cards: a sentence, its verdict, one small chart; and what a latent says exactly."""

from __future__ import annotations

from typing import Any

from hfgen.documents import POSTERIOR, STUDY
from hfgen.errors import UserError
from hfgen.reporting.exact_answers import HOW, ROWS, TITLE, ExactAnswer, sheet_of_entry, slug
from hfgen.space import markup
from hfgen.space.interval_chart import interval_chart
from hfgen.space.loaded_models import LoadedModels, folders_of, logger, results_of
from hfgen.space.markup import text
from hfgen.studies.effects import in_words

_VERDICTS = {"supported": "✓", "opposite": "✗", "negligible": "≈", "not tested": "-", "undecided": "?"}
_DECIDED = ("supported", "opposite", "negligible")


def claims(loaded: LoadedModels) -> list[str]:
    """A card a claim of every study.json, the decided ones first; nothing where there is none."""
    found = []
    for study in results_of(loaded, "study.json"):
        if (schema := study.get("schema")) != STUDY.version:
            logger.warning("study.json: schema %s isn't %d, left out; `hfgen study` again", schema, STUDY.version)
            continue
        found += [(verdict, _decided(study, verdict)) for verdict in study.get("verdicts", [])]
    if not found:
        return []
    decided = [_claim(*one) for one in found if one[0].get("verdict") in _DECIDED]
    others = [_claim(*one) for one in found if one[0].get("verdict") not in _DECIDED]
    parts = [markup.heading("What people say, measured"), *([markup.cards(decided)] if decided else [])]
    if not others:
        return parts
    return [*parts, markup.details(f"Undecided or not tested: {len(others)}", markup.cards(others))]


def _decided(study: dict[str, Any], verdict: dict[str, Any]) -> dict[str, Any]:
    """The sentence that a line of `verdicts` is of; empty where the file has lines alone."""
    for one in study.get("studies", []):
        for claim in one["claims"]:
            if f"{one['name']}/{claim['id']}" == verdict.get("id"):
                return dict(claim)
    return {}


def _claim(found: dict[str, Any], decided: dict[str, Any]) -> str:
    verdict = str(found.get("verdict", "undecided"))
    mark, kind = _VERDICTS.get(verdict, "?"), text(verdict.replace(" ", "-"))
    badge = f'<p class="hf-badge hf-{kind}"><i aria-hidden="true">{mark}</i> {text(verdict)}</p>'
    claim = f'<p class="hf-claim">“{text(str(found.get("claim", "-")))}”</p>'
    known = [str(found.get("number", "-")), *([str(decided["rule"])] if decided else [])]
    folded = markup.details("How we know", markup.bullets(known))
    return f'<article class="hf-card hf-said-{kind}">{badge}{claim}{_chart(decided)}{folded}</article>'


def _chart(decided: dict[str, Any]) -> str:
    """The effect and its 95 % interval against the least that counts; empty where it isn't defined."""
    effect = decided.get("effect")
    if not effect:
        return ""
    least, side = decided["least"], decided["side"]
    wanted = {"above": (least, None), "below": (None, -least), "within": (-least, least)}[side]
    ends = (effect["value"], effect["value"]) if effect["low"] is None else (effect["low"], effect["high"])
    what, said = decided["what"], in_words(effect)
    svg = interval_chart(effect["value"], ends, wanted, f"{what}: {said}")
    return f'<figure class="hf-interval">{svg}<figcaption>{text(what)}: <b>{text(said)}</b></figcaption></figure>'


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
            sheet = sheet_of_entry(folder, model) if "weights" in model else None
            parts.append(_posterior(loaded, found, model, None if sheet is None else sheet.read_bytes()))
    return [markup.heading(TITLE), *parts] if parts else []


def _posterior(loaded: LoadedModels, found: dict[str, Any], model: dict[str, Any], sheet: bytes | None) -> str:
    answer = ExactAnswer.of(found, model)
    # A model that is only called alike, such as one that was trained anew, isn't the one that was answered.
    weights = model.get("weights")
    shown = (each.name for each in loaded.models.values() if weights and loaded.weights(each) == weights)
    known = next(shown, None)
    name, look = known or slug(model["name"]), loaded.styles.get(known or "")
    mark = f"{look.swatch()} " if look else ""
    bar = answer.bar(look.colour if look else "currentColor", "var(--border-color-primary)")
    table = markup.table(("number", "value"), answer.rows, f"{name}, exactly")
    words = (
        f'<div><h3>{mark}{text(name)}</h3>{bar}<p class="hf-claim">{text(answer.sentence)} {text(answer.doubt)}</p>'
        f"{markup.details('How we know', markup.paragraphs(HOW), table)}</div>"
    )
    picture = "" if sheet is None else markup.figure(markup.chart(sheet, f"{name}: {ROWS}"), f"From above: {ROWS}.")
    colour = f' style="--mark:{look.colour}"' if look else ""
    return f'<article class="hf-card hf-exact"{colour}>{words}{picture}</article>'
