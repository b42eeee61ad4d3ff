"""Every clause follows the numbers and their intervals; numbers have the digits that these warrant."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfgen.comparison.reading import read
from hfgen.metrics import Estimate
from hfgen.reporting.numbers import number, percent


def _near(value: float, half: float = 0.02) -> dict[str, Any]:
    return {"value": value, "low": value - half, "high": value + half, "n": 2000}


REAL = {
    "coverage": _near(0.97),
    "recall": _near(0.8),
    "precision": _near(0.8),
    "density": _near(1),
    "kid": _near(0, 0.001),
}
GAN = {**REAL, "kid": _near(0.05, 0.001), "coverage": _near(0.45), "hf_ratio_sample": _near(0.98, 0.05)}
VAE = {
    **REAL,
    "kid": _near(0.2, 0.001),
    "coverage": _near(0.6),
    "hf_ratio_sample": _near(0.05),
    "hf_ratio_reconstruction": _near(0.23),
    "averaging_identity": _near(0.98),
    "gain_high": _near(0.99),
    "coherence_high": _near(0.3),
    "psnr": _near(18.5),
}
VQVAE = {**VAE, "hf_ratio_sample": _near(0.4), "hf_ratio_reconstruction": _near(0.41), "psnr": _near(20.5)}


def _reading(psnr: float | None = None, /, **models: dict[str, Any]) -> list[str]:
    pairs = []
    if psnr is not None:
        first, second = (name for name in models if "psnr" in models[name])
        tie = abs(psnr) <= 0.02
        pairs = [{"first": first, "second": second, "difference": _near(psnr), "tie": tie}]
    return read(
        {
            "models": {name: {"metrics": measured} for name, measured in models.items()},
            "baseline": REAL,
            "differences": {"psnr": pairs},
        }
    )


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (_near(0.23), "keep 23 % [21, 25] of the real images' high-frequency power: blurrier than real"),
        (_near(0.93), "high-frequency power: slightly blurrier than real"),
        (
            _near(0.98, 0.05),
            "have 98 % [93, 103] of the real images' high-frequency power: no measurable gap",
        ),
        (_near(1.08), "slightly more than real"),
        (_near(1.6), "have 160 % [158, 162] of the real images' high-frequency power: noise or ringing"),
        (_near(1.6, 0.7), "no measurable gap to real"),
    ],
)
def test_sharpness_is_judged_by_the_interval(ratio: dict[str, Any], words: str) -> None:
    assert words in _reading(gan={**GAN, "hf_ratio_sample": ratio})[0]


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        (
            _near(0.99),
            "what a mean of all that the model can't tell apart would have (gain 0.99 [0.97, 1.01]), and 30 %",
        ),
        (_near(1.4), "fainter than a mean"),
        (_near(0.7), "made up"),
        (_near(0.9, 0.1), "too few to tell whether they average"),
    ],
)
def test_detail_is_called_an_average_only_if_the_gain_says_so(gain: dict[str, Any], words: str) -> None:
    assert words in _reading(vae={**VAE, "gain_high": gain})[0]


def test_detail_that_is_made_up_is_said_of_reconstructions_as_sharp_as_real() -> None:
    sharp = {**VAE, "hf_ratio_reconstruction": _near(1), "gain_high": _near(0.6)}
    assert "a part of their detail is made up" in _reading(vae=sharp)[0]


def test_reconstructions_as_sharp_as_real_have_no_missing_power_to_explain() -> None:
    assert "average" not in " ".join(_reading(vae={**VAE, "hf_ratio_reconstruction": _near(1)}))


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        (0.05, "that is less than its reconstructions have"),
        (0.24, "no measurable gap to its"),
        (0.6, "that is more"),
    ],
)
def test_the_loss_between_reconstructions_and_samples_is_the_priors(sample: float, words: str) -> None:
    assert words in _reading(vae={**VAE, "hf_ratio_sample": _near(sample)})[1]


def test_variety_is_read_beside_other_real_images() -> None:
    text = _reading(gan=GAN)[1]
    assert "cover 45 % [43, 47] of the held-out images, where other real images cover 97 % [95, 99]" in text
    assert "recall shows no measurable gap (0.80" in text
    text = _reading(gan={**GAN, "coverage": _near(0.95), "recall": _near(0.3), "precision": _near(0.9)})[1]
    assert "95 % [93, 97] of the held-out images, no measurable gap to other real images, 97 %" in text
    assert "recall is lower (0.30 [0.28, 0.32]; theirs 0.80 [0.78, 0.82])" in text
    assert "precision is higher" in text


def test_kid_names_the_closest_or_the_tie() -> None:
    text = " ".join(_reading(vae=VAE, gan=GAN))
    assert "KID: the samples of gan are closest to the real images; compared with other real" in text
    assert "the KID of gan is higher" in text
    text = " ".join(_reading(vae={**VAE, "kid": GAN["kid"]}, gan=GAN))
    assert "KID: the samples of vae and gan are closest to the real images, and tie" in text
    text = " ".join(_reading(vae=VAE, gan={**GAN, "kid": REAL["kid"]}))
    assert "the KID of gan shows no measurable gap" in text


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (2.0, "the reconstructions of vae are 2.00 [1.98, 2.02] dB above those of vqvae"),
        (-2.0, "the reconstructions of vqvae are 2.00 [1.98, 2.02] dB above those of vae"),
        (0.01, "no measurable gap between the reconstructions of vae and vqvae"),
    ],
)
def test_psnr_is_compared_pair_by_pair(difference: float, words: str) -> None:
    assert any(words in sentence for sentence in _reading(difference, vae=VAE, vqvae=VQVAE))


def test_the_answer_names_the_crispest_the_nearest_the_most_faithful_and_what_is_covered() -> None:
    answer = _reading(-2.0, vae=VAE, vqvae=VQVAE, gan=GAN)[-1]
    assert "the samples of gan come closest to the sharpness of real images" in answer
    assert "gan 98 % [93, 103], vqvae 40 % [38, 42], vae 5 % [3, 7]" in answer
    assert "By KID the samples of gan are also the nearest to real images as a set (KID: gan 0.0500" in answer
    assert "other real images 0.0000 [-0.0010, 0.0010])." in answer
    assert "The most faithful reconstructions are those of vqvae (PSNR: vqvae 20.50 [20.48, 20.52] dB, vae 18" in answer
    assert "The samples of gan cover fewer of the held-out images (45 % [43, 47]) than those of vae (60 %" in answer


def test_the_answer_says_where_the_blurred_are_nearer_to_real_images_than_the_crisp() -> None:
    answer = _reading(vae={**VAE, "kid": _near(0.02, 0.001)}, vqvae=VQVAE, gan=GAN)[-1]
    assert "the samples of gan come closest to the sharpness" in answer
    assert "But by KID the samples of vae are the nearest to real images as a set, though blurrier (KID: vae" in answer
    noisy = {**VAE, "kid": _near(0.02, 0.001), "hf_ratio_sample": _near(1.5)}
    assert "But by KID the samples of vae are the nearest to real images as a set (" in _reading(vae=noisy, gan=GAN)[-1]


def test_the_answer_calls_a_tie_of_the_crispest_and_another_no_contrast() -> None:
    answer = _reading(vae={**VAE, "kid": GAN["kid"]}, gan=GAN)[-1]
    assert "By KID the samples of vae and gan tie for the nearest to real images as a set" in answer
    sharp = {**VAE, "hf_ratio_sample": GAN["hf_ratio_sample"], "kid": GAN["kid"]}
    assert "By KID the samples of vae and gan also tie for the nearest" in _reading(vae=sharp, gan=GAN)[-1]


@pytest.mark.parametrize(
    ("theirs", "words"),
    [
        ({"vae": 0.5, "gan": 0.1}, "; the second judge, by pixels and spectra, says the same."),
        ({"vae": 0.1, "gan": 0.5}, "; by the second judge, of pixels and spectra, those of vae are (KID: vae 0.100"),
        ({"vae": 0.1, "gan": 0.1}, "; by the second judge, of pixels and spectra, those of vae and gan tie for"),
    ],
)
def test_the_answer_gives_the_second_judges_word(theirs: dict[str, float], words: str) -> None:
    by_pixels = {name: {"kid_pixels": _near(value, 0.001)} for name, value in theirs.items()}
    answer = read(
        {
            "models": {"vae": {"metrics": VAE}, "gan": {"metrics": GAN}},
            "baseline": REAL,
            "differences": {},
            "second_judge": {"models": by_pixels, "baseline": {"kid_pixels": _near(0, 0.001)}},
            "disagreements": [],
        }
    )[-1]
    assert words in answer


def test_variety_is_not_compared_where_hardly_anything_is_covered() -> None:
    *_, answer = _reading(vae={**VAE, "coverage": _near(0.001, 0.001)}, gan={**GAN, "coverage": _near(0.011, 0.01)})
    assert "Variety can't be compared: in these features no samples cover a tenth of what real images do" in answer
    assert "(at most 1.1 % [0.1, 2.1] (gan), where other real images cover 97 % [95, 99])." in answer


def test_an_under_trained_autoencoder_is_named_before_anything_is_concluded() -> None:
    poor = {**VAE, "psnr_linear": _near(19.5)}
    assert _reading(vae=poor, gan=GAN)[-1].startswith("vae is under-trained: as many principal components have")
    assert "under-trained" not in _reading(vae=VAE, gan=GAN)[-1]


def test_the_answer_follows_the_numbers_to_the_other_model() -> None:
    sharp = {**VAE, "hf_ratio_sample": _near(0.97)}
    noisy = {**GAN, "hf_ratio_sample": _near(1.9)}
    answer = _reading(0.01, vae=sharp, vqvae=VQVAE, gan=noisy)[-1]
    assert "the samples of vae come closest" in answer
    assert "The most faithful reconstructions are those of vae and vqvae, which tie" in answer
    assert "No other model's samples cover measurably more of the held-out images (vae 60 % [58, 62])" in answer


def test_a_tie_in_sharpness_has_no_price() -> None:
    answer = _reading(vae={**VAE, "hf_ratio_sample": _near(0.97)}, gan=GAN)[-1]
    assert "tie for coming closest" in answer
    assert "held-out" not in answer


def test_one_model_alone_is_not_ranked() -> None:
    answer = _reading(gan=GAN)[-1]
    assert answer.startswith("On these data the samples of gan have 98 %")
    assert "closest" not in " ".join(_reading(gan=GAN))


@pytest.mark.parametrize(
    ("estimate", "shown"),
    [
        (Estimate(0.4321, 0.4101, 0.4599, 9), "0.43 [0.41, 0.46]"),
        (Estimate(18.523, 18.41, 18.63, 9), "18.52 [18.41, 18.63]"),
        (Estimate(0.00123, -0.00002, 0.0025, 9), "0.0012 [-0.0000, 0.0025]"),
        (Estimate(1234.5, 1100, 1350, 9), "1234 [1100, 1350]"),
    ],
)
def test_numbers_have_the_digits_that_their_interval_warrants(estimate: Estimate, shown: str) -> None:
    assert number(estimate) == shown.replace("-0.0000", "0.0000")


@given(value=st.floats(-1e4, 1e4), half=st.floats(1e-5, 1e3))
def test_rounding_moves_no_number_by_more_than_a_third_of_the_interval(value: float, half: float) -> None:
    for show, scale in ((number, 1), (percent, 100)):
        text = show(Estimate(value, value - half, value + half, 9)).replace(" %", "").replace(",", "")
        shown = [float(part.strip("[]")) for part in text.split()]
        for part, exact in zip(shown, (value, value - half, value + half), strict=True):
            assert abs(part - exact * scale) <= max(half * scale / 3, 0.5) * 1.001
        assert "-0 " not in text and "-0.0 " not in text


def test_nothing_is_said_of_samples_that_are_not_there() -> None:
    bare = {
        name: VQVAE[name]
        for name in ("hf_ratio_reconstruction", "averaging_identity", "gain_high", "coherence_high", "psnr")
    }
    *details, answer = _reading(2.0, vae=VAE, vq=bare)
    assert [sentence for sentence in details if sentence.startswith("vq:")] == [details[3]]
    assert "vq: reconstructions keep 41 %" in details[3] and not any("KID" in sentence for sentence in details)
    assert "the samples of vae keep 5 %" in answer and "variety" not in answer
    *_, answer = _reading(one=bare, other={**bare, "hf_ratio_reconstruction": _near(0.9)})
    assert "the reconstructions of other come closest to the sharpness of real images" in answer


def test_a_metric_that_is_not_defined_is_not_read() -> None:
    *details, answer = _reading(flat={"kid": _near(0.3)}, gan={"kid": _near(0.1)})
    (sentence,) = details
    gap = "the KID of gan is higher (0.10 [0.08, 0.12]; theirs 0.0000 [-0.0010, 0.0010])"
    closest = "KID: the samples of gan are closest to the real images; compared with other real images"
    assert sentence == f"{closest}, {gap}."
    assert answer == "On these data no metric is defined that would compare sharpness; the notes say why."


def test_a_number_without_an_interval_has_no_digits_that_say_nothing() -> None:
    assert percent(Estimate(0.0, 0.0, 0.0, 9)) == "0 % [0, 0]"
    assert number(Estimate(2.0, 2.0, 2.0, 9)) == "2 [2, 2]"
    assert number(Estimate(0.25, 0.25, 0.25, 9)) == "0.250000 [0.250000, 0.250000]"


def test_an_autoencoder_below_principal_components_is_called_under_trained() -> None:
    poor, good = ({**VAE, "psnr_linear": _near(value)} for value in (19.5, 17.0))
    sentence = "so its blur says nothing about its latent"
    assert any("vae: under-trained: 18.5" in line and sentence in line for line in _reading(vae=poor))
    assert not any("under-trained" in line for line in _reading(vae=good))
    assert any("of as many principal components" in line for line in _reading(vae=good))
