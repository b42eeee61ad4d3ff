"""Whether every family is ahead of its peers: each bar is held, missed or undecided by 95 % intervals.

Two models are compared by the difference of their values. Its interval joins both (Zou & Donner 2008), as if the sets
had nothing in common; what the shared real images move together makes it rather too wide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from hfgen.metrics import Estimate

Values = dict[str, dict[str, Estimate]]
"""Estimates by model and name."""
Margin = Callable[[Values], Estimate]
"""What is above 0 where a part of a bar is held."""

PAIRS = (
    ("vae", "pythae_vae"),
    ("vae", "diffusers"),
    ("vaegan", "diffusers"),
    ("vqvae", "pythae_vqvae"),
    ("gan", "dcgan"),
    ("gan-dcgan", "dcgan"),
)
"""Each family and a peer of it."""

_ORDER = ("missed", "undecided", "held")


class Bar(NamedTuple):
    """Of the models that it is about: held where all its margins are above 0; missed where one is below."""

    models: frozenset[str]
    text: str
    margins: dict[str, Margin]


def difference(first: Estimate, second: Estimate, factor: float = 1.0, offset: float = 0.0) -> Estimate:
    """`first` - `factor` x `second` + `offset`."""
    value = first.value - factor * second.value + offset
    down = ((first.value - first.low) ** 2 + (factor * (second.high - second.value)) ** 2) ** 0.5
    up = ((first.high - first.value) ** 2 + (factor * (second.value - second.low)) ** 2) ** 0.5
    return Estimate(value, value - down, value + up, min(first.n, second.n))


def within(value: Estimate, low: float, high: float) -> Estimate:
    """How far inside [low, high] a value is."""
    inside = [min(end - low, high - end) for end in (value.low, value.value, value.high)]
    # Where the interval spans the middle, its best point lies between the ends.
    best = (high - low) / 2 if value.low <= (low + high) / 2 <= value.high else max(inside)
    return Estimate(inside[1], min(inside), best, value.n)


def verdict(margin: Estimate) -> str:
    """`held`, `missed` or `undecided`."""
    return "held" if margin.low > 0 else "missed" if margin.high < 0 else "undecided"


def _less(family: str, peer: str, name: str, factor: float = 1.0) -> Margin:
    """How much lower the family's value is than so much of the peer's."""
    return lambda values: _negative(difference(values[family][name], values[peer][name], factor))


def _more(family: str, peer: str, name: str, offset: float = 0.0) -> Margin:
    return lambda values: difference(values[family][name], values[peer][name], offset=offset)


def _negative(margin: Estimate) -> Estimate:
    return Estimate(-margin.value, -margin.high, -margin.low, margin.n)


def _ahead(family: str, peer: str) -> Bar:
    margins = {"KID": _less(family, peer, "kid"), "coverage": _more(family, peer, "coverage")}
    return Bar(frozenset((family, peer)), f"{family}: KID and coverage ahead of {peer}'s", margins)


def _far_ahead(family: str, peer: str) -> Bar:
    margins = {
        "KID": _less(family, peer, "kid", 0.5),
        "coverage": _more(family, peer, "coverage"),
        "recall": _more(family, peer, "recall"),
    }
    text = f"{family}: KID at most half of {peer}'s, coverage and recall at least {peer}'s"
    return Bar(frozenset((family, peer)), text, margins)


def _close(family: str, plain: str) -> Bar:
    margins = {"PSNR": _more(family, plain, "psnr", offset=2.0)}
    return Bar(frozenset((family, plain)), f"{family}: PSNR within 2 dB of the {plain}'s", margins)


def _crisp(family: str) -> Bar:
    margins: dict[str, Margin] = {"power": lambda values: within(values[family]["power"], 0.7, 1.3)}
    return Bar(frozenset((family,)), f"{family}: high-frequency power .7 to 1.3 of the real images'", margins)


BARS = [
    *(_far_ahead(*pair) if pair[1] == "dcgan" else _ahead(*pair) for pair in PAIRS),
    *(bar for pair in (("vaegan", "vae"), ("vqgan", "vqvae")) for bar in (_close(*pair), _crisp(pair[0]))),
]


class Judged(NamedTuple):
    """A bar's verdict, and that of each of its margins with the margin."""

    verdict: str
    parts: dict[str, tuple[str, Estimate]]


def judge_bar(bar: Bar, values: Values) -> Judged | None:
    """None where a model or a value of it isn't there."""
    try:
        margins = {name: margin(values) for name, margin in bar.margins.items()}
    except KeyError:
        return None
    parts = {name: (verdict(margin), margin) for name, margin in margins.items()}
    return Judged(min((part[0] for part in parts.values()), key=_ORDER.index), parts)


def disagreements(independent: Values, own: Values) -> Iterator[str]:
    """A line for each pair that the two judges order differently, beyond the intervals of both."""
    for family, peer in PAIRS:
        for name, margin in (("KID", _less(family, peer, "kid")), ("coverage", _more(family, peer, "coverage"))):
            try:
                found = [verdict(margin(values)) for values in (independent, own)]
            except KeyError:
                continue
            if set(found) == {"held", "missed"}:
                mine, theirs = (family if each == "held" else peer for each in found)
                yield f"the judges disagree: {name} is better of {mine} by the independent, of {theirs} by the own"
