"""The perceptual distance against its definition."""

import pytest
import torch

from hfgen.objectives.perceptual import feature_distance


def maps(seed: int, count: int = 3) -> list[torch.Tensor]:
    draws = torch.Generator().manual_seed(seed)
    return [torch.randn(count, 4 + layer, 2, 2, generator=draws) for layer in range(2)]


def test_it_is_0_for_an_image_and_itself_or_its_features_scaled_and_4_for_opposite_ones():
    one = maps(0)
    for other, distance in ((one, 0.0), ([5 * features for features in one], 0.0), ([-f for f in one], 4.0)):
        torch.testing.assert_close(feature_distance(one, other), torch.full((3,), distance), atol=1e-5, rtol=1e-5)


def test_it_is_the_mean_over_places_and_layers_of_2_minus_twice_the_cosine():
    one, other = maps(0), maps(1)
    cosine = [
        torch.nn.functional.cosine_similarity(a, b, 1).flatten(1).mean(1) for a, b in zip(one, other, strict=True)
    ]
    torch.testing.assert_close(feature_distance(one, other), 2 - 2 * torch.stack(cosine).mean(0))
    tokens = [[features.flatten(2) for features in layers] for layers in (one, other)]
    torch.testing.assert_close(feature_distance(*tokens), feature_distance(one, other))


def test_features_that_are_all_zero_have_a_finite_gradient():
    features = torch.zeros(2, 3, 4, 4, requires_grad=True)
    feature_distance([features], [torch.ones(2, 3, 4, 4)]).sum().backward()
    assert torch.isfinite(features.grad).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_it_is_computed_in_fp32_under_autocast(dtype: torch.dtype):
    one, other = ([features.to(dtype) for features in maps(seed)] for seed in (0, 1))
    exact = feature_distance([f.float() for f in one], [f.float() for f in other])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(feature_distance(one, other), exact)
