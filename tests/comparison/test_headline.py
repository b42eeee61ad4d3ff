"""What a comparison's page says first follows from the numbers, and has no brackets."""

from __future__ import annotations

from typing import Any

import pytest

from hfgen.comparison.headline import Headline, headline


def _near(value: float, half: float = 0.02) -> dict[str, Any]:
    return {"value": value, "low": value - half, "high": value + half, "n": 2000}


def _made(coverage: float, sample: float, **more: dict[str, Any]) -> dict[str, Any]:
    return {"coverage": _near(coverage), "hf_ratio_sample": _near(sample), **more}


def _vae(psnr: float = 18, power: float = 0.2, gain: float = 1.0, **more: dict[str, Any]) -> dict[str, Any]:
    shown = {"psnr": _near(psnr), "hf_ratio_reconstruction": _near(power), "gain_high": _near(gain, 0.01)}
    return {**_made(0.6, power), **shown, "coherence_high": _near(0.3), **more}


def _headline(pairs: dict[str, list[dict[str, Any]]] | None = None, /, **models: dict[str, Any]) -> Headline:
    said = headline(
        {
            "models": {
                name: {"model": {"family": name.rstrip("0123456789")}, "metrics": metrics}
                for name, metrics in models.items()
            },
            "baseline": {"coverage": _near(0.97)},
            "differences": pairs or {},
            "disagreements": [],
        }
    )
    assert "[" not in " ".join([said.answer, *said.reasons])
    return said


def test_the_sharpest_the_most_faithful_and_the_price():
    pair = {"first": "vae", "second": "gan", "difference": _near(0.3), "tie": False}
    psnr = {"first": "vae", "second": "vqvae", "difference": _near(-2), "tie": False}
    models = {"vae": _vae(), "vqvae": _vae(20, 0.3), "gan": _made(0.3, 0.98)}
    said = _headline({"coverage": [pair], "psnr": [psnr]}, **models)
    assert said.question == "Why are VAE outputs blurred and GAN outputs crisper?"
    assert said.answer == (
        "gan is the sharpest: its samples have 98 % as much fine detail as real images. "
        "vqvae reconstructs most faithfully. vae covers more of the real images than gan."
    )
    assert said.reasons == [
        "Why are vae and vqvae blurred? From their reconstructions 30 % and 30 % of the real detail can be predicted; "
        "what they draw is as a mean of all that they can't tell apart would be, and such a mean is blurred."
    ]
    assert [fact.value for fact in said.cards["vae"]] == ["20 %", "20 %", "60 %", "18.0 dB"]


@pytest.mark.parametrize("gan", [0.1, 0.21, 0.23])
def test_the_question_presumes_only_what_was_measured(gan: float):
    """A GAN that isn't measurably crisper than each VAE isn't called so."""
    assert _headline(vae=_vae(), gan=_made(0.3, gan)).question == (
        "Which model is the sharpest, and why are others blurred?"
    )
    models = {"vae": _vae(), "gan1": _made(0.3, 0.98), "gan2": _made(0.3, gan)}
    assert "GAN" not in _headline(**models).question
    assert "crisper" in _headline(vae=_vae(), gan=_made(0.3, 0.25)).question
    # Nothing is blurred, and more power than real images have is noise.
    assert "crisper" not in _headline(vae=_vae(power=1.0), gan=_made(0.3, 1.5)).question
    assert "crisper" not in _headline(vae=_vae(power=0.9), gan=_made(0.3, 1.5)).question


@pytest.mark.parametrize(
    ("kids", "words"),
    [
        (
            {"vae": 0.5, "gan": 0.1},
            "gan is the sharpest and the nearest to real images as a set: its samples have 98 %",
        ),
        ({"vae": 0.1, "gan": 0.5}, "But the samples of vae are nearest to real images as a set, though blurrier."),
        ({"vae": 0.1, "gan": 0.1}, "The samples of vae and gan tie for being nearest to real images as a set."),
    ],
)
def test_sharp_is_not_like_real_images(kids: dict[str, float], words: str):
    models = {"vae": _vae(), "gan": _made(0.5, 0.98)}
    said = _headline(**{name: {**metrics, "kid": _near(kids[name])} for name, metrics in models.items()})
    assert words in said.answer


def test_variety_is_silent_where_nobody_covers_anything():
    pair = {"first": "vae", "second": "gan", "difference": _near(0.02, 0.001), "tie": False}
    vae, gan = _vae() | {"coverage": _near(0.03, 0.001)}, _made(0.01, 0.98)
    said = _headline({"coverage": [pair]}, vae=vae, gan=gan | {"coverage": _near(0.01, 0.001)})
    assert "covers more" not in said.answer and said.reasons[-1].startswith(
        "No model's samples resemble the real images"
    )


def test_no_price_where_the_difference_is_a_tie_or_points_the_other_way():
    for value, tie in ((0.3, True), (-0.3, False)):
        pair = {"first": "vae", "second": "gan", "difference": _near(value), "tie": tie}
        assert "covers more" not in _headline({"coverage": [pair]}, vae=_vae(), gan=_made(0.3, 0.98)).answer


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        (1.0, "what it draws is as a mean of all that it can't tell apart would be, and such a mean is blurred."),
        (1.3, "what it draws is even fainter than a mean of all that it can't tell apart would be, and"),
        (0.7, "a part of what it draws is made up."),
    ],
)
def test_how_one_model_is_blurred(gain: float, words: str):
    said = _headline(vae=_vae(gain=gain))
    assert (
        said.question == "Why blurred?"
        and said.answer == "The samples of vae have 20 % as much fine detail as real images."
    )
    (reason,) = said.reasons
    assert reason.startswith(
        f"Why is vae blurred? From its reconstructions 30 % of the real detail can be predicted; {words}"
    )


def test_what_is_as_sharp_as_real_needs_no_reason():
    assert _headline(vae=_vae(power=1.0)).reasons == []


def test_noise_is_no_sharpness_and_ties_are_said():
    assert (
        "with 150 % as much fine detail as real images: what is more is noise."
        in _headline(gan1=_made(0.5, 1.5), gan2=_made(0.5, 0.1)).answer
    )
    assert _headline(gan1=_made(0.5, 0.9), gan2=_made(0.5, 0.9)).answer.startswith("gan1 and gan2 tie for sharpness")


def test_under_trained_models_and_samples_unlike_anything_are_named():
    said = _headline(vae=_vae(psnr_linear=_near(25)) | {"coverage": _near(0.01, 0.001)})
    assert said.reasons[0].startswith("vae is under-trained: as many principal components have a higher PSNR")
    assert not any("Why is" in reason for reason in said.reasons), "nothing follows from the blur"
    assert said.reasons[-1] == (
        "The samples of vae don't resemble the real images yet: they cover 1.0 % of them, other real images 97 %."
    )


def test_without_any_number_it_says_so():
    assert _headline(vae={}).answer == "No metric is defined that would compare sharpness; the notes say why."
