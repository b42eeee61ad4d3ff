"""The rule that decides on a sentence: one contrast, a least effect that counts, models from several seeds, Holm.

The draws are the seeds: each arm of a contrast has one number a seed. All models are held against the same held-out
images, whose error no seed shows; its variance is added, and without it the tests are Welch's and the paired t test.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from hfgen.errors import UserError

Side = Literal["above", "below", "within"]
"""Where a sentence says that the effect lies: beyond the least effect above or below 0, or within it on both sides."""

Verdict = Literal["supported", "opposite", "negligible", "not tested", "undecided"]
VERDICTS: tuple[Verdict, ...] = ("supported", "opposite", "negligible", "not tested", "undecided")

LEVEL = 0.05


class Currency(NamedTuple):
    """What an effect is counted in, and the least that counts."""

    name: str
    least: float


POWER = Currency("high-frequency power, relative to real images", 0.05)
OWN_POWER = Currency("high-frequency power that is the image's own, relative to real images", 0.05)
PSNR = Currency("dB of PSNR", 0.25)
GAIN = Currency("gain above .25 cycles per pixel", 0.05)
MODES = Currency("modes of 1000", 25.0)
MODES_KL = Currency("KL of modes, nats", 0.05)
KID = Currency("KID, in units of what a blur of .5 px adds", 1.0)
ACCURACY = Currency("share of decisions", 0.05)
VENDI = Currency("logarithm of the Vendi score (5 %)", math.log(1.05))


class Arms(NamedTuple):
    """The numbers behind an effect.

    Attributes:
        values: Of one arm, effects, one a seed; of two, the numbers of models that are compared, which needn't be as
            many: the effect is the first's mean minus the second's.
        shared: The variance of the effect by the held-out images that all models share.
    """

    values: tuple[Sequence[float], ...]
    shared: float = 0.0


class Effect(NamedTuple):
    """An effect with its tests.

    Attributes:
        value: The estimate.
        low: Of the 95 % interval, which is None, as are all that follow, where one seed can't give it.
        high: Its upper end.
        low_90: Of the 90 % interval.
        high_90: Its upper end.
        freedom: Degrees of freedom of Student's t; None where seeds don't differ, and the error is the images'.
        p_beyond: Two-sided, of an effect no larger than the least one: below .05 where the 95 % interval lies beyond.
        p_within: Of an effect at least as large: below .05 where the 90 % interval lies within, on both sides.
    """

    value: float
    low: float | None
    high: float | None
    low_90: float | None
    high_90: float | None
    freedom: float | None
    p_beyond: float | None
    p_within: float | None

    @property
    def p(self) -> float | None:
        """The smaller of the two, which Holm's correction takes: at most one of them can be small."""
        if self.p_beyond is None or self.p_within is None:
            return None
        return min(self.p_beyond, self.p_within)


def effect_of(arms: Arms, least: float) -> Effect:
    """Test an effect against the least one that counts.

    Two arms: Welch's t with the degrees of freedom of Welch and Satterthwaite. One arm: Student's t of its numbers,
    which is the paired t test where they are differences. Two one-sided tests (Schuirmann 1987) decide that an effect
    is smaller than the least one. `shared` adds to the variance, with no loss of freedom.

    Raises:
        UserError: no number, one that isn't finite, a negative `shared`, or a least effect that isn't above 0.
    """
    if not 0 < least < math.inf:
        raise UserError(f"least: {least} isn't a least effect; give a number above 0")
    if not arms.values or not all(arms.values) or not 0 <= arms.shared < math.inf:
        raise UserError(f"arms: {arms} has an empty arm or a negative variance; give numbers of one model or more")
    if not all(map(math.isfinite, (number for arm in arms.values for number in arm))):
        raise UserError(f"arms: {arms} has a non-finite number; leave such a model out by name")
    means = [sum(arm) / len(arm) for arm in arms.values]
    value = means[0] - sum(means[1:])
    if any(len(arm) < 2 for arm in arms.values):
        return Effect(value, *[None] * 7)
    parts = [_variance(arm, mean) / len(arm) for arm, mean in zip(arms.values, means, strict=True)]
    variance = sum(parts) + arms.shared
    spread = sum(part**2 / (len(arm) - 1) for part, arm in zip(parts, arms.values, strict=True))
    freedom = variance**2 / spread if spread > 0 else math.inf
    return _tested(value, math.sqrt(variance), freedom, least)


def _tested(value: float, error: float, freedom: float, least: float) -> Effect:
    """Intervals and p-values of an estimate with Student's distribution."""
    from scipy.stats import t

    reach, reach_90 = (float(t.ppf(1 - tail, freedom)) * error for tail in (0.025, 0.05))

    def upper(distance: float) -> float:
        """The chance of an estimate so far above its bound."""
        if error > 0:
            return float(t.sf(distance / error, freedom))
        return 0.0 if distance > 0 else 1.0

    beyond = min(1.0, 2 * min(upper(value - least), upper(-value - least)))
    within = max(upper(least - value), upper(value + least))
    return Effect(
        value,
        value - reach,
        value + reach,
        value - reach_90,
        value + reach_90,
        freedom if math.isfinite(freedom) else None,
        beyond,
        within,
    )


def _variance(values: Sequence[float], mean: float) -> float:
    """Unbiased; of equal values exactly 0, whatever the rounding of their mean."""
    if min(values) == max(values):
        return 0.0
    return sum((value - mean) ** 2 for value in values) / (len(values) - 1)


def decide(effect: Effect, least: float, side: Side) -> Verdict:
    """What an effect says of a sentence, before the correction for many sentences.

    Beyond the least effect (the whole 95 % interval): supported on the sentence's side, opposite on the other. Within
    it (the 90 % interval): negligible. A sentence that says "as much" (`within`) is supported within, and opposite
    beyond on any side. All else is undecided.
    """
    if effect.low is None or effect.high is None or effect.low_90 is None or effect.high_90 is None:
        return "undecided"
    above, below = effect.low > least, effect.high < -least
    negligible = -least < effect.low_90 and effect.high_90 < least
    if side == "within":
        return "supported" if negligible else "opposite" if above or below else "undecided"
    if negligible:
        return "negligible"
    if above or below:
        return "supported" if above == (side == "above") else "opposite"
    return "undecided"


def corrected(verdict: Verdict, p_holm: float | None) -> Verdict:
    """The verdict that is left after Holm's correction: undecided where its p-value isn't below .05 any more."""
    if verdict in ("undecided", "not tested") or (p_holm is not None and p_holm < LEVEL):
        return verdict
    return "undecided"


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P-values corrected for their number (Holm 1979), in their order.

    All that were to be tested count, whether they were or not: None stands for 1, and stays None.

    Raises:
        UserError: a p-value beyond [0, 1].
    """
    if wrong := [p for p in p_values if p is not None and not 0 <= p <= 1]:
        raise UserError(f"p_values: {wrong[0]} isn't within [0, 1]")
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    found: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(known):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p))
        found[place] = largest
    return found
