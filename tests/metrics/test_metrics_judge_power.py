import math
from pathlib import Path
from typing import Any

import pytest
import torch

from hfgen.errors import UserError
from hfgen.metrics import JudgePower, judge_power, kernel_distance, kid_of_blur, pixel_extractor
from hfgen.metrics.judge_power import BLURS, NOISES, _first, blurred, noisy


def photographs(count: int, seed: int) -> torch.Tensor:
    """Smooth random fields: grey images in which every pixel is like its neighbours."""
    noise = torch.randn(count, 1, 24, 24, generator=torch.Generator().manual_seed(seed))
    return blurred((noise * 40 + 128).clamp(0, 255).to(torch.uint8), 0.5)


class Judge:
    """Features that a test chooses: its `see` of float images (N, C, S, S), with independent noise that hides it."""

    def __init__(self, see: Any, noise: float) -> None:
        self._see, self._noise = see, noise

    def features(self, images: torch.Tensor) -> torch.Tensor:
        seen = self._see(images.double())
        generator = torch.Generator().manual_seed(int(images.long().sum()))
        return seen + self._noise * torch.randn(seen.shape, generator=generator, dtype=torch.float64)


def deviation(images: torch.Tensor) -> torch.Tensor:
    return (images[..., 1:] - images[..., :-1]).flatten(1).std(1, keepdim=True).expand(-1, 2)


def test_a_keen_judge_detects_what_a_dull_one_does_not() -> None:
    real, others = photographs(200, 0), photographs(200, 1)
    keen, dull, blind = (
        judge_power(Judge(deviation, noise), Judge(deviation, noise).features(real), others, seed=0)
        for noise in (0.1, 30.0, 1e6)
    )
    assert keen.blur is not None and dull.noise is not None and keen.noise is not None
    assert keen.blur <= 0.5 and keen.noise < dull.noise
    assert blind == JudgePower(None, None, 200)
    assert str(blind) == "at n = 200 the judge detects no blur up to 2 px and no white noise up to sd 50"
    assert f"a blur of {keen.blur:g} px and white noise of sd {keen.noise:g} of 255" in str(keen)
    assert JudgePower(**keen.as_dict()) == keen


def test_more_images_show_more_and_the_answer_is_the_same_again(tmp_path: Path) -> None:
    extractor = pixel_extractor(photographs(300, 2), "ab" * 8, cache=tmp_path)
    few, many = (
        judge_power(extractor, extractor.features(photographs(n, 0)), photographs(n, 1), seed=0) for n in (20, 300)
    )
    again = judge_power(extractor, extractor.features(photographs(300, 0)), photographs(300, 1), seed=0)
    assert many == again and many.n == 300
    assert many.noise is not None and many.noise < (few.noise or 100)


def test_a_slight_blur_is_the_scale_of_a_judges_kid(tmp_path: Path) -> None:
    real, others = photographs(200, 0), photographs(200, 1)
    judge = pixel_extractor(photographs(300, 2), "ab" * 8, cache=tmp_path)
    own = judge.features(real)
    scale = kid_of_blur(judge, own, others)
    soft, plain = (kernel_distance(own, judge.features(images)) for images in (blurred(others, 0.5), others))
    assert scale == pytest.approx(soft - plain) and scale > 20 * abs(plain)
    # Black images have none to lose.
    brightness = Judge(lambda images: images.mean((1, 2, 3), keepdim=True)[..., 0, 0].expand(-1, 2), 0.0)
    assert kid_of_blur(brightness, brightness.features(real * 0), others * 0) == 0


@pytest.mark.parametrize("levels", [BLURS, NOISES])
def test_the_first_level_is_found_wherever_it_lies(levels: tuple[float, ...]) -> None:
    assert list(levels) == sorted(set(levels))
    for index in range(len(levels) + 1):
        asked = []

        def detected(level: float, index: int = index, asked: list[float] = asked) -> bool:
            asked.append(level)
            return level in levels[index:]

        assert _first(levels, detected) == (levels[index] if index < len(levels) else None)
        assert len(asked) <= 4


def test_the_faults_are_as_large_as_they_say() -> None:
    grey = torch.full((20, 1, 64, 64), 128, dtype=torch.uint8)
    assert float(noisy(grey, 15, 0).double().std()) == pytest.approx((15**2 + 1 / 12) ** 0.5, rel=0.02)
    assert torch.equal(noisy(grey, 15, 0)[:3], noisy(grey[:3], 15, 0)) and not torch.equal(
        noisy(grey, 15, 0), noisy(grey, 15, 1)
    )
    wave = 128 + 100 * torch.cos(2 * math.pi * torch.arange(64) / 16)
    soft = blurred(wave.round().to(torch.uint8).expand(1, 1, 64, 64), 1.0)[0, 0, 32, 16:48]
    assert float(soft.double().amax() - 128) == pytest.approx(100 * math.exp(-2 * (math.pi / 16) ** 2), abs=1.5)


def test_too_few_images_are_refused() -> None:
    judge, real = Judge(deviation, 1.0), photographs(20, 0)
    for own, others, field in ((real[:5], real, "features"), (real, real[:5], "others")):
        with pytest.raises(UserError, match=f"{field}: 5 images are too few"):
            judge_power(judge, judge.features(own), others, seed=0)
