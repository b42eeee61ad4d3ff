"""Which one is real? Ten rounds of a held-out image beside a sample, and what the eye was fooled by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from hfgen.errors import UserError
from hfgen.space import markup
from hfgen.space.loaded_models import LoadedModels
from hfgen.space.views import Choices, View, draw, generators

ROUNDS = 10
ANY = "all of them"
_SIDE = 288
Game = dict[str, Any]
"""`model`: its name or `ANY`; `rounds`: those that are over; `asked`: the one that is shown, or None."""


def new_game(model: str = ANY) -> Game:
    """Before the first round."""
    return {"model": model, "rounds": [], "asked": None}


def ask(loaded: LoadedModels, game: Game, chance: Callable[[int], int]) -> Game:
    """The game with another pair, or as it is where ten rounds are over; `chance(n)` gives a number below n.

    Raises:
        UserError: no such model, or it doesn't draw.
    """
    if len(game["rounds"]) >= ROUNDS:
        return {**game, "asked": None}
    names = [model.name for model in generators(loaded)]
    name = names[chance(len(names))] if game["model"] == ANY else game["model"]
    seed, right = chance(2**31), bool(chance(2))
    shown = blind_pair(loaded, name, seed, right).values["images"]
    return {**game, "asked": {"model": name, "answer": "right" if right else "left", "images": shown}}


def answer(game: Game, guess: str) -> Game:
    """The game with the round over that was asked for.

    Raises:
        UserError: there is none, or the guess is neither `left` nor `right`.
    """
    if game["asked"] is None:
        raise UserError("guess: no pair is shown; begin a game first")
    if guess not in ("left", "right"):
        raise UserError(f"guess: {guess} is neither left nor right")
    return {**game, "rounds": [*game["rounds"], {**game["asked"], "guess": guess}], "asked": None}


def score(game: Game) -> str:
    """How it stands, in a line."""
    rounds = game["rounds"]
    right = sum(one["guess"] == one["answer"] for one in rounds)
    return f"Right so far: {right} of {len(rounds)}; guessing gives half."


def page(loaded: LoadedModels, game: Game) -> str:
    """The pair that is asked for under the rounds so far; after the last the result."""
    if game["asked"] is not None:
        return markup.view(_so_far(loaded, game), _pair(game["asked"]["images"]))
    return markup.view(_so_far(loaded, game), *_result(loaded, game))


def blind_pair(loaded: LoadedModels, name: str, seed: int, right: bool) -> View:
    """A held-out image and a sample of the model side by side, the real one at the left or the `right`.

    Raises:
        UserError: no such model, or it doesn't draw.
    """
    model = next((model for model in generators(loaded) if model.name == name), None)
    if model is None:
        raise UserError(f"model: {name} isn't one of {', '.join(one.name for one in loaded.generators)}")
    held_out = loaded.images(model.size)
    real = held_out[seed % len(held_out)][None]
    fake = draw(model, Choices(seed=seed, count=1))
    images = markup.pngs(torch.cat([fake, real] if right else [real, fake]))
    return View(markup.view(_pair(images)), {"images": images})


def _pair(images: list[str]) -> str:
    """`interface.js` takes a click on a picture as one on the button below it."""
    shown = "".join(
        f'<figure data-hf-guess="{side}">{markup.fitted(image, f"the {side} image", _SIDE)}'
        f"<figcaption>{side}</figcaption></figure>"
        for image, side in zip(images, ("left", "right"), strict=True)
    )
    return f'<div class="hf-row hf-pair">{shown}</div>'


def _so_far(loaded: LoadedModels, game: Game) -> str:
    """The last round's answer, and a mark for every round."""
    rounds = game["rounds"]
    marks = "".join(f'<i class="hf-{_won(one)}"></i>' for one in rounds)
    left = "<i></i>" * (ROUNDS - len(rounds))
    words = f"Round {len(rounds) + 1} of {ROUNDS}: which one is real?" if game["asked"] else ""
    if rounds:
        last = rounds[-1]
        verdict = "Right" if _won(last) == "right" else "No"
        words = f"{verdict}: the {last['answer']} one was real, the other is {last['model']}'s. {words}"
    told = f'<p class="hf-told" aria-live="polite">{markup.text(words)}</p>'
    label = f"{sum(_won(one) == 'right' for one in rounds)} right of {len(rounds)}"
    return f'{told}<div class="hf-rounds" role="img" aria-label="{label}">{marks}{left}</div>'


def _won(one: dict[str, Any]) -> str:
    return "right" if one["guess"] == one["answer"] else "wrong"


def _result(loaded: LoadedModels, game: Game) -> list[str]:
    rounds = game["rounds"]
    right = sum(_won(one) == "right" for one in rounds)
    lines = [_against_the_classifier(loaded, name, rounds) for name in dict.fromkeys(one["model"] for one in rounds)]
    fooled = [one for one in rounds if _won(one) == "wrong"]
    parts = [f'<p class="hf-score"><b>{right}</b> of {len(rounds)}</p>', markup.bullets(lines)]
    if fooled:
        shown = "".join(
            f"<figure>{markup.fitted(one['images'][one['answer'] == 'left'], _fake(one), 96)}"
            f"<figcaption>{loaded.styles[one['model']].swatch()} {markup.text(one['model'])}</figcaption></figure>"
            for one in fooled
        )
        parts += [markup.heading("These fooled you: none of them is real"), f'<div class="hf-row">{shown}</div>']
    return parts


def _fake(one: dict[str, Any]) -> str:
    return f"a sample of {one['model']} that was taken for real"


def _against_the_classifier(loaded: LoadedModels, name: str, rounds: list[dict[str, Any]]) -> str:
    """The visitor's share for one model's samples beside the record's two-sample test of the same task."""
    mine = [one for one in rounds if one["model"] == name]
    right = sum(_won(one) == "right" for one in mine)
    yours = f"{name}: you were right in {right} of {len(mine)}"
    record = loaded.models[name].record
    entry = None if record is None else record["metrics"].get("two_sample")
    if entry is None:
        return f"{yours}; its record has no classifier's share to compare with."
    return f"{yours}; a classifier of the images' features is right in {markup.share(entry['value'])} of all."
