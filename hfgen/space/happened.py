"""What just happened to the pictures, in one sentence: from the numbers with and without the knobs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from hfgen.space.knobs import Knobs
from hfgen.space.markup import share

# Below what the eye sees in pictures side by side.
_SAME_DETAIL, _SAME_PSNR = 1.2, 0.5
_OF_ONE = re.compile(r"\b(turn|stay|change|show)s\b")


class Change(NamedTuple):
    """A model's picture with the knobs and without.

    Attributes:
        name: The model's.
        detail: High-frequency power over the original's; None where the image has none.
        before: The same without the knobs.
        psnr: In dB.
        psnr_before: The same without the knobs.
        changeable: Whether the model's latent can be changed.
    """

    name: str
    detail: float | None
    before: float | None
    psnr: float
    psnr_before: float
    changeable: bool


def sentence(changes: Sequence[Change], knobs: Knobs) -> str:
    """What was done, and what it did to each model's picture."""
    done = _done(knobs)
    if not done:
        return _untouched(changes)
    moved = [one for one in changes if one.changeable]
    if not moved:
        return f"{done}: no model here has a latent that can be changed."
    outcomes: dict[str, list[str]] = {}
    for one in moved:
        outcomes.setdefault(_outcome(one), []).append(one.name)
    return f"{done}: {'; '.join(_listed(names, outcome) for outcome, names in outcomes.items())}."


def _listed(names: list[str], outcome: str) -> str:
    """`vae stays as sharp`, `vae and vqvae stay as sharp`."""
    if len(names) == 1:
        return f"{names[0]} {outcome}"
    several = _OF_ONE.sub(r"\1", outcome)
    return f"{', '.join(names[:-1])} and {names[-1]} {several}"


def _done(knobs: Knobs) -> str:
    """What the knobs do, as the beginning of a sentence; empty where they are untouched."""
    parts = []
    if knobs.keep < 1:
        parts.append(f"{share(knobs.keep) if knobs.keep else 'nothing'} of the latent kept")
    if knobs.posterior:
        parts.append("a sample of the posterior")
    if knobs.noise > 0:
        parts.append(f"noise of {knobs.noise:g} on the latent")
    if knobs.average and knobs.draws:
        parts.append("draws averaged")
    if not knobs.quantise:
        parts.append("no quantiser")
    words = ", ".join(parts)
    return words[:1].upper() + words[1:]


def _untouched(changes: Sequence[Change]) -> str:
    known = [(one.name, one.detail) for one in changes if one.detail is not None]
    if not known:
        return "The image has no fine detail that could be lost."
    if max(detail for _, detail in known) < 1 / _SAME_DETAIL:
        end = "less is blurred."
    elif min(detail for _, detail in known) > _SAME_DETAIL:
        end = "more than there is, so some of it is made up."
    else:
        end = "less is blurred, and more is made up."
    # Of power: how much there is, not whether it is the right detail.
    listed = [f"{name} shows {share(detail)}" for name, detail in known]
    listed[0] += " as much fine detail as this image"
    return f"{', '.join(listed)}: {end}"


def _outcome(one: Change) -> str:
    """`turns blurrier and less faithful`."""
    moved = one.psnr - one.psnr_before
    faithful = "as faithful" if abs(moved) < _SAME_PSNR else f"{'more' if moved > 0 else 'less'} faithful"
    if one.detail is None or not one.before:
        return "stays as faithful" if faithful == "as faithful" else f"turns {faithful}"
    ratio = one.detail / one.before
    if 1 / _SAME_DETAIL < ratio < _SAME_DETAIL:
        if faithful == "as faithful":
            return "hardly changes"
        if faithful == "more faithful":
            return "stays as sharp, and turns more faithful"
        return "stays as sharp, but shows something else"
    sharp = "blurrier" if ratio < 1 else "sharper"
    same = (sharp, faithful) in {("blurrier", "less faithful"), ("sharper", "more faithful")}
    return f"turns {sharp}{' and ' if same else ', but '}{'stays ' * (faithful[:2] == 'as')}{faithful}"
