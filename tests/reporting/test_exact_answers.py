"""What is said of an exact answer: the sentence, what is doubtful of it, the bar."""

import re

import pytest
from exact import BUDGET, METRICS, SENTENCE

from hfgen.reporting.exact_answers import ExactAnswer

ALL = {"n": 4, "converged": 4, "metrics": METRICS}
LOST = "For 3 of the 4 images the exact answer didn't converge; they stay in."
TRIAL = "It was a trial (--budget smoke), of which nothing follows."


@pytest.mark.parametrize(
    ("budget", "converged", "doubt"),
    [("full", 4, ""), ("full", 1, LOST), ("smoke", 4, TRIAL), ("smoke", 1, f"{LOST} {TRIAL}")],
)
def test_what_is_doubtful_is_said_beside_the_sentence(budget: str, converged: int, doubt: str):
    answer = ExactAnswer.of({"budget": {**BUDGET, "name": budget}}, {**ALL, "converged": converged})
    assert (answer.sentence, answer.doubt) == (SENTENCE, doubt)


@pytest.mark.parametrize(("share", "width"), [(0.25, 25.0), (-0.01, 0.0), (1.2, 100.0)])
def test_the_bar_is_filled_where_the_decoder_loses(share: float, width: float):
    metrics = {**METRICS, "share_latent": {"value": share, "low": share, "high": share, "n": 4}}
    bar = ExactAnswer.of({"budget": BUDGET}, {**ALL, "metrics": metrics}).bar("#123456", "grey")
    whole, latent = re.findall(r'<rect width="([\d.]+)" height="6" fill="(.*?)"/>', bar)
    assert whole == ("100", "#123456") and (float(latent[0]), latent[1]) == (width, "grey")


def test_shares_that_are_not_defined_are_said_and_have_no_bar():
    answer = ExactAnswer.of({"budget": BUDGET}, {**ALL, "metrics": {"psnr_mean": METRICS["psnr_mean"]}})
    assert "isn't defined" in answer.sentence and answer.bar("#123456", "grey") == ""
    assert answer.rows == [("PSNR of the exact mean, dB", "30.0 [29.0, 31.0]")]
