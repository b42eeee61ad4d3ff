"""Every text that says "it outputs the mean" is silent of what only looks like one, whatever the averaging identity."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hfgen.comparison.headline import headline
from hfgen.comparison.reading import read
from hfgen.diagnosis.advice import _averaging
from hfgen.metrics import BandMeasures, band_measures, bootstrap_ratio
from hfgen.reporting.colours import styles
from hfgen.space import averaging
from hfgen.studies import bottleneck, limited_codebook, loss
from hfgen.studies.claims import Contrast
from hfgen.studies.verdicts import Arms, decide, effect_of

COUNT, SIDE = 200, 32
FREQUENCY = torch.hypot(torch.fft.fftfreq(SIDE, dtype=torch.float64)[:, None], torch.fft.fftfreq(SIDE).double())
# Gaussian fields and the noise through which they are seen: their conditional mean is known.
SIGNAL, NOISE = 4.0 / (1 + (FREQUENCY / 0.1) ** 2), 0.02 + 2.0 * FREQUENCY
KNOWN = SIGNAL / (SIGNAL + NOISE)


def white(seed: int) -> torch.Tensor:
    draws = torch.randn(COUNT, SIDE, SIDE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.fft.fft2(draws)


def low_pass(sigma: float) -> torch.Tensor:
    return torch.exp(-2 * (math.pi * sigma * FREQUENCY) ** 2)


def grey_with_grain() -> torch.Tensor:
    grain = torch.randint(-1, 2, (COUNT, 1, SIDE, SIDE), generator=torch.Generator().manual_seed(5))
    return (128 + grain).to(torch.uint8)


def pixels(coefficients: torch.Tensor) -> torch.Tensor:
    return (128 + 12 * torch.fft.ifft2(coefficients).real).round().clamp(0, 255).to(torch.uint8)[:, None]


X = white(0) * SIGNAL.sqrt()
MEAN = KNOWN * (X + white(1) * NOISE.sqrt())
MADE = {
    "low-pass, .5 px": pixels(low_pass(0.5) * X),
    "low-pass, 1 px": pixels(low_pass(1.0) * X),
    "noise added": pixels(X + white(3) * 0.5),
    "shrunk mean": pixels(0.8 * MEAN),
    "posterior sample": pixels(MEAN + white(2) * (KNOWN * NOISE).sqrt()),
    "grey with weak noise": grey_with_grain(),
}


def measured(made: torch.Tensor) -> tuple[BandMeasures, dict[str, Any]]:
    """Their bands, and what a record has of them."""
    bands = band_measures(pixels(X), made)
    high = bands.estimates(seed=0)["high"]
    ratio = bootstrap_ratio(bands.reconstruction.high, bands.real.high, seed=0, paired=True)
    found = {"gain_high": high.gain, "coherence_high": high.coherence, "hf_ratio_reconstruction": ratio}
    return bands, {name: estimate.as_dict() for name, estimate in found.items()}


def says_of(metrics: dict[str, Any]) -> dict[str, bool]:
    """Which texts call it an average: of the comparison, the Space, the diagnosis, and the studies' rules."""
    model = {"model": {"family": "vae"}, "metrics": metrics}
    comparison = {"models": {"m": model}, "baseline": {}, "differences": {}, "disagreements": []}
    (sentence, *_) = read(comparison)
    page = averaging.sections({"m": {"metrics": metrics, "spectrum": {}}}, styles(["m"]))[0]
    facts: Any = SimpleNamespace(document={"bands": {"high": {"gain": metrics["gain_high"]}}}, chain={})
    gain = metrics["gain_high"]
    # Seeds that don't differ: the images' error alone.
    arms = Arms(([gain["value"] - 1] * 8,), ((gain["high"] - gain["low"]) / 2 / 1.96) ** 2)
    return {
        "comparison": "detail is what a mean of all that the model can't tell apart would have" in sentence,
        "headline": "is as a mean of all that it can't tell apart" in " ".join(headline(comparison).reasons),
        "space": ">an average<" in page,
        "diagnosis": "what is missing was averaged" in _averaging(facts)[0],
        "studies": {_decided(rule, arms) for rule in rules()} == {"supported"},
    }


def _decided(rule: Contrast, arms: Arms) -> str:
    return decide(effect_of(arms, rule.currency.least), rule.currency.least, rule.side)


def rules() -> list[Contrast]:
    """That a reconstruction is an average, in the studies that say so."""
    contrasts = [
        claim.contrast for study in (bottleneck.STUDY, limited_codebook.STUDY, loss.STUDY) for claim in study.claims
    ]
    return [contrast for contrast in contrasts if "a conditional mean's" in contrast.what]


def test_the_exact_conditional_mean_is_called_an_average_by_all():
    assert len(rules()) == 3
    assert set(says_of(measured(pixels(MEAN))[1]).values()) == {True}


@pytest.mark.parametrize("name", MADE)
def test_what_is_no_conditional_mean_is_called_an_average_by_none(name: str):
    _, metrics = measured(MADE[name])
    assert set(says_of(metrics).values()) == {False}


@pytest.mark.parametrize("name", ["low-pass, .5 px", "low-pass, 1 px", "grey with weak noise"])
def test_the_identity_alone_would_have_called_them_averages(name: str):
    assert measured(MADE[name])[0].averaging_identity().high > 0.9
