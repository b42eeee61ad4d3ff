"""The rule against scipy's tests, by hand, and by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from hfgen.errors import UserError
from hfgen.studies.verdicts import (
    ACCURACY,
    GAIN,
    MODES,
    MODES_KL,
    POWER,
    PSNR,
    VENDI,
    Arms,
    Effect,
    corrected,
    decide,
    effect_of,
    holm,
)

DRAWS = np.random.default_rng(0)
FIRST, SECOND = DRAWS.normal(0.3, 0.1, 8), DRAWS.normal(0.1, 0.03, 5)
LEAST = 0.05


def two_sided_beyond(tests: dict[str, float]) -> float:
    return min(1.0, 2 * min(tests.values()))


@pytest.mark.parametrize("offset", [0.0, -0.12, -0.2, -0.5])
def test_two_arms_are_welchs_test(offset: float):
    first = FIRST + offset
    found = effect_of(Arms((first.tolist(), SECOND.tolist())), LEAST)
    welch = stats.ttest_ind(first, SECOND, equal_var=False)
    assert found.freedom == pytest.approx(welch.df)
    for level, low, high in ((0.95, found.low, found.high), (0.9, found.low_90, found.high_90)):
        interval = welch.confidence_interval(level)
        assert (low, high) == pytest.approx((interval.low, interval.high))
    sides = {
        side: stats.ttest_ind(
            first + (-LEAST if side == "greater" else LEAST), SECOND, equal_var=False, alternative=side
        )
        for side in ("greater", "less")
    }
    assert found.p_beyond == pytest.approx(two_sided_beyond({side: test.pvalue for side, test in sides.items()}))
    one_sided = (
        stats.ttest_ind(first + LEAST, SECOND, equal_var=False, alternative="greater").pvalue,
        stats.ttest_ind(first - LEAST, SECOND, equal_var=False, alternative="less").pvalue,
    )
    assert found.p_within == pytest.approx(max(one_sided))


@pytest.mark.parametrize("offset", [0.0, 0.2, -0.3])
def test_differences_are_the_paired_t_test(offset: float):
    pairs = FIRST[:5] + offset, SECOND
    found = effect_of(Arms(((pairs[0] - pairs[1]).tolist(),)), LEAST)
    paired = stats.ttest_rel(*pairs)
    assert found.freedom == pytest.approx(4) and found.value == pytest.approx((pairs[0] - pairs[1]).mean())
    interval = paired.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    sides = {
        "greater": stats.ttest_rel(pairs[0] - LEAST, pairs[1], alternative="greater").pvalue,
        "less": stats.ttest_rel(pairs[0] + LEAST, pairs[1], alternative="less").pvalue,
    }
    assert found.p_beyond == pytest.approx(two_sided_beyond(sides))
    within = (
        stats.ttest_rel(pairs[0] + LEAST, pairs[1], alternative="greater").pvalue,
        stats.ttest_rel(pairs[0] - LEAST, pairs[1], alternative="less").pvalue,
    )
    assert found.p_within == pytest.approx(max(within))


def test_the_images_error_widens_the_interval_and_costs_no_freedom():
    arms = Arms((FIRST.tolist(), SECOND.tolist()))
    alone, both = effect_of(arms, LEAST), effect_of(arms._replace(shared=0.01), LEAST)
    assert both.freedom > alone.freedom and both.high - both.low > alone.high - alone.low
    # Seeds that don't differ: the images' error alone, and a normal distribution.
    same = effect_of(Arms(([0.2, 0.2, 0.2],), 0.01), LEAST)
    assert same.freedom is None and same.high == pytest.approx(0.2 + 0.1 * stats.norm.ppf(0.975))
    assert effect_of(Arms(([0.2, 0.2],)), LEAST).p_beyond == 0
    assert effect_of(Arms(([0.0, 0.0],)), LEAST)[-2:] == (1.0, 0.0)


def effect(value: float, reach: float) -> Effect:
    """With a 90 % interval of .8 of the reach of that of 95 %."""
    return Effect(value, value - reach, value + reach, value - 0.8 * reach, value + 0.8 * reach, 7.0, 0.01, 0.01)


@pytest.mark.parametrize(
    ("value", "reach", "above", "below", "within"),
    [
        (0.2, 0.1, "supported", "opposite", "opposite"),
        (-0.2, 0.1, "opposite", "supported", "opposite"),
        (0.2, 0.16, "undecided", "undecided", "undecided"),
        (0.01, 0.03, "negligible", "negligible", "supported"),
        # Not 0, and yet too small to count; and the 90 % interval within where that of 95 % isn't.
        (0.03, 0.01, "negligible", "negligible", "supported"),
        (0.0, 0.06, "negligible", "negligible", "supported"),
        (0.0, 0.07, "undecided", "undecided", "undecided"),
        (0.05, 0.01, "undecided", "undecided", "undecided"),
    ],
)
def test_the_five_outcomes(value: float, reach: float, above: str, below: str, within: str):
    found = effect(value, reach)
    assert (decide(found, LEAST, "above"), decide(found, LEAST, "below")) == (above, below)
    assert decide(found, LEAST, "within") == within


def test_one_seed_decides_nothing():
    found = effect_of(Arms(([0.9], [0.1, 0.2])), LEAST)
    assert found.value == pytest.approx(0.75) and found.low is None and found.p is None
    assert decide(found, LEAST, "above") == "undecided"


def test_holm_by_hand():
    # 4 x .01, 3 x .012 (raised to the one before), 2 x .03, 1 x .04 (raised).
    assert holm([0.03, 0.01, 0.04, 0.012]) == pytest.approx([0.06, 0.04, 0.06, 0.04])
    assert holm([0.5, 0.6]) == pytest.approx([1.0, 1.0])
    # One that wasn't tested counts all the same.
    assert holm([0.02, None, 0.02]) == [pytest.approx(0.06), None, pytest.approx(0.06)]
    assert holm([]) == []
    assert corrected("supported", 0.04) == "supported" and corrected("negligible", 0.06) == "undecided"
    assert corrected("opposite", None) == "undecided" and corrected("not tested", None) == "not tested"


def simulated(true: float, seeds: int, deviations: tuple[float, ...], count: int = 1500) -> dict[str, float]:
    """How often each verdict comes out of arms whose means differ by `true`."""
    draws = np.random.default_rng(1)
    verdicts = [
        decide(
            effect_of(
                Arms(
                    tuple(
                        draws.normal(true if place == 0 else 0.0, deviation, seeds).tolist()
                        for place, deviation in enumerate(deviations)
                    )
                ),
                LEAST,
            ),
            LEAST,
            "above",
        )
        for _ in range(count)
    ]
    return {verdict: verdicts.count(verdict) / count for verdict in ("supported", "opposite", "negligible")}


@pytest.mark.parametrize("deviations", [(0.03,), (0.02, 0.04)])
def test_wrong_verdicts_are_as_rare_as_they_should_be(deviations: tuple[float, ...]):
    at_bound = simulated(LEAST, 8, deviations)
    # One tail of 5 % two-sided, and one of 5 %; three standard errors of 1,500 draws.
    assert at_bound["supported"] == pytest.approx(0.025, abs=3 * math.sqrt(0.025 * 0.975 / 1500))
    assert at_bound["negligible"] < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1500)
    assert at_bound["opposite"] < 0.005


def test_eight_seeds_find_what_three_miss():
    eight, three = simulated(0.1, 8, (0.03, 0.03)), simulated(0.1, 3, (0.03, 0.03))
    assert eight["supported"] > 0.8 > 0.4 > three["supported"]
    none = simulated(0.0, 8, (0.02, 0.02))
    assert none["negligible"] > 0.9 and none["supported"] == 0


def test_the_least_effects_are_those_of_the_rule():
    least = [currency.least for currency in (POWER, PSNR, GAIN, MODES, MODES_KL, ACCURACY)]
    assert least == [0.05, 0.25, 0.05, 25, 0.05, 0.05] and math.exp(VENDI.least) == pytest.approx(1.05)


@pytest.mark.parametrize(
    ("arms", "least"),
    [
        (Arms(()), 0.1),
        (Arms(([],)), 0.1),
        (Arms(([1.0, math.nan],)), 0.1),
        (Arms(([1.0],), -1.0), 0.1),
        (Arms(([1.0],)), 0),
    ],
)
def test_what_cannot_be_tested_is_refused(arms: Arms, least: float):
    with pytest.raises(UserError, match=r"^(arms|least): "):
        effect_of(arms, least)
    with pytest.raises(UserError, match=r"p_values: 1\.5"):
        holm([0.1, 1.5])
