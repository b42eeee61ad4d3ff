"""The causes add up, and those of linear autoencoders are known exactly."""

import math
from functools import partial

import pytest
import torch
from linear import PIXELS, SIDE, VARIANCE, Linear, codec, cosines, pipeline, white_images

from hfgen.diagnosis import chain
from hfgen.diagnosis.attribution import attribute, bootstrap, leads
from hfgen.diagnosis.budgets import Budget
from hfgen.diagnosis.chain import make_stages
from hfgen.diagnosis.interventions import from_components, posterior
from hfgen.diagnosis.refits import CELLS, cells_of, refit
from hfgen.errors import UserError
from hfgen.metrics import power_spectrum

BUDGET = Budget(images=64, latent_steps=50, refit_steps=280, batch=32)
NEEDED = {"encoder", "decoder", "control", "free"}


@pytest.fixture(autouse=True)
def only_what_is_looked_at(monkeypatch):
    """No adversary, from which no cause is computed, and each refit once."""
    monkeypatch.setattr(chain, "adversarial", lambda network, *_: network)
    monkeypatch.setattr(chain, "refit", partial(refit, repeats=1))
    monkeypatch.setattr(chain, "cells_of", lambda network: [name for name in cells_of(network) if name in NEEDED])


def powers(**stages: float) -> dict[str, torch.Tensor]:
    """A hundred images whose powers have these means over that of `real`, and spread by a tenth."""
    spread = 1 + 0.1 * torch.linspace(-1, 1, 100, dtype=torch.float64)
    return {name: value * spread for name, value in {"real": 1.0, **stages}.items()}


def values(causes) -> dict[str, float]:
    return {name: estimate.value for name, estimate in causes.items()}


def refits(noise: float = 0, encoder: float = 0, decoder: float = 0, both: float = 0) -> dict[str, float]:
    """Powers of the cells of a network of power .4, each part adding its own, and `both` where all is changed."""
    parts = {"encoder": encoder, "decoder": decoder, "control": encoder + decoder}
    free = {"free_encoder": noise + encoder, "free_decoder": noise + decoder, "free": noise + encoder + decoder + both}
    return {"mean": 0.4, **{name: 0.4 + value for name, value in {**parts, **free}.items()}}


def test_a_vaes_missing_power_is_split_by_the_factorial():
    stages = refits(noise=0.12, encoder=0.06, decoder=0.1)
    found = values(attribute(powers(linear=0.95, best=0.97, **stages, prior_sample=0.1), 1.0, seed=0))
    expected = {"encoder": 0.06, "decoder": 0.1, "noise": 0.12, "network": 0.95 - 0.68}
    expected |= {"data": 0, "bottleneck": 0.03, "unexplained": 0.02, "prior": 0.3, "missing": 0.9}
    assert found == pytest.approx(expected)


def test_what_codes_take_is_theirs_and_not_the_encoders():
    stages = {name: value - 0.2 for name, value in refits(noise=0.5).items()}
    found = values(attribute(powers(**stages, unquantised=0.7, prior_sample=0.2), 1.0, seed=0))
    expected = {"data": 0, "bottleneck": 0.3, "network": 0, "codes": 0.5, "encoder": 0, "decoder": 0, "prior": 0}
    assert found == pytest.approx({**expected, "unexplained": 0, "missing": 0.8})


def test_what_encoder_and_decoder_bring_only_together_is_divided_and_what_they_bring_when_freed_is_not():
    stages = {"mean": 0.1, "encoder": 0.1, "decoder": 0.1, "control": 0.3, "free": 0.8}
    found = values(attribute(powers(**stages), 1.0, seed=0))
    assert [found[name] for name in ("encoder", "decoder", "noise")] == pytest.approx([0.1, 0.1, 0.5])


def test_what_only_inference_finds_is_the_encoders():
    stages = {**refits(encoder=0.1, noise=0.4), "perfect": 0.7, "control": 0.6}
    found = values(attribute(powers(**stages), 1.0, seed=0))
    assert [found[name] for name in ("encoder", "decoder", "noise")] == pytest.approx([0.3, 0, 0.2])


def test_what_more_training_brings_alone_is_not_the_noises():
    stages = refits(encoder=0.2, decoder=0.3)
    found = values(attribute(powers(**stages), 1.0, seed=0))
    assert found["noise"] == pytest.approx(0) and found["encoder"] == pytest.approx(0.2)
    assert found["decoder"] == pytest.approx(0.3)


def test_of_blurred_data_the_models_causes_are_shares_of_what_is_left():
    found = values(attribute(powers(**dict.fromkeys(refits(), 0.5)), 0.1, seed=0))
    assert found["data"] == pytest.approx(0.9) and found["bottleneck"] == pytest.approx(0.05)
    assert found["missing"] == pytest.approx(0.95)


def test_without_noise_or_codes_there_are_an_encoder_and_a_decoder():
    stages = {"mean": 0.4, "encoder": 0.6, "decoder": 0.5, "control": 0.8}
    found = values(attribute(powers(**stages, best=0.4), 1.0, seed=0))
    expected = {"encoder": 0.25, "decoder": 0.15, "bottleneck": 0.2, "network": 0, "unexplained": 0, "data": 0}
    assert found == pytest.approx({**expected, "missing": 0.6})


def test_a_generator_has_one_cause():
    found = values(attribute(powers(prior_sample=0.6), 1.0, seed=0))
    assert found == pytest.approx({"data": 0, "generator": 0.4, "missing": 0.4})


@pytest.mark.parametrize("seed", range(5))
def test_causes_always_sum_to_what_is_missing(seed: int):
    generator = torch.Generator().manual_seed(seed)
    names = ["linear", "best", "mean", "fitted_density", "prior_sample", *CELLS]
    numbers = (1.6 * torch.rand(len(names), generator=generator)).tolist()
    found = values(attribute(powers(**dict(zip(names, numbers, strict=True))), 0.7, seed=0))
    missing = found.pop("missing")
    assert sum(found.values()) == pytest.approx(missing)
    # A bound that reaches less than the network says nothing.
    assert found["network"] >= -1e-9


def test_intervals_hold_the_value_and_shrink_with_the_images():
    stages = powers(best=0.5, mean=0.5, prior_sample=0.3)
    few = attribute({name: power[::10] for name, power in stages.items()}, 1.0, seed=0)["prior"]
    many = attribute(stages, 1.0, seed=0)["prior"]
    assert few.low <= few.value <= few.high and many.low <= many.value <= many.high
    assert many.high - many.low < few.high - few.low


def test_pairs_are_resampled_together():
    spread = torch.rand(50, generator=torch.Generator().manual_seed(0)).double() + 0.1
    ratio = bootstrap(lambda mean: {"r": mean["a"] / mean["b"]}, {"a": spread, "b": 2 * spread}, {}, seed=0)["r"]
    assert ratio.low == pytest.approx(0.5) and ratio.high == pytest.approx(0.5)


def test_flat_images_and_stages_of_other_lengths_are_refused():
    with pytest.raises(UserError, match=r"data: .* no power above"):
        attribute({"real": torch.zeros(4), "mean": torch.zeros(4)}, 1.0, seed=0)
    with pytest.raises(UserError, match="powers: paired stages of different lengths"):
        attribute({"real": torch.ones(4), "mean": torch.ones(3)}, 1.0, seed=0)


@pytest.mark.parametrize("numbers", [4, 40])
def test_components_are_those_of_the_singular_value_decomposition(numbers: int):
    generator = torch.Generator().manual_seed(0)
    # Few strong directions among many, so that the subspace is well defined.
    strong = torch.randn((600, numbers), generator=generator) @ torch.randn((numbers, PIXELS), generator=generator)
    pixels = 128 + 4 * strong + torch.randn((600, PIXELS), generator=generator)
    images = pixels.round().clamp(0, 255).to(torch.uint8).reshape(600, 1, SIDE, SIDE)
    training, held_out = images[:500], images[500:]
    flat = training.flatten(1).double()
    _, _, rows = torch.linalg.svd(flat - flat.mean(0), full_matrices=False)
    span = rows[:numbers].T @ rows[:numbers]
    expected = (held_out.flatten(1).double() - flat.mean(0)) @ span + flat.mean(0)
    found = from_components(codec(Linear(cosines()[:numbers], cosines()[:numbers])), training, held_out, 0)
    assert (found.flatten(1) - expected.clamp(0, 255)).abs().max() < 0.6


def test_a_network_that_does_not_fill_its_latent_is_told_from_a_small_latent(tmp_path):
    class HalfDead(Linear):
        """All 256 latents are there, and no training brings the second half of them to life."""

        def decode(self, latents: torch.Tensor):
            return super().decode(torch.cat([latents[:, : PIXELS // 2], 0 * latents[:, PIXELS // 2 :]], 1))

    found = causes_of(HalfDead(cosines(), cosines()), tmp_path)
    assert found["missing"] > 0.4
    assert found["network"] > 0.9 * found["missing"] and found["bottleneck"] < 0.02


def causes_of(network: Linear, tmp_path) -> dict[str, float]:
    real = white_images(BUDGET.images, seed=1)
    made = make_stages(pipeline(network), real, partial(white_images, 1500, 2), BUDGET, 0, tmp_path)
    assert not made.failed
    high = {name: power_spectrum(images).high for name, images in made.stages.items() if name != "low_precision"}
    high |= {
        name: torch.stack([power_spectrum(part).high for part in parts], 1) for name, parts in made.cells(real).items()
    }
    return values(attribute({"real": power_spectrum(real).high, **high}, 1.0, seed=0))


def test_a_latent_of_few_numbers_is_a_bottleneck(tmp_path):
    rows = cosines()[: PIXELS // 2]
    found = causes_of(Linear(rows, rows), tmp_path)
    # Half of the numbers of white noise carry half of its power. This network's lack more of the high frequencies, its
    # principal components' don't: the difference is the network's choice.
    assert found["bottleneck"] == pytest.approx(0.5, abs=0.03)
    assert found["bottleneck"] + found["network"] > 0.9 * found["missing"]


def test_noise_that_shrinks_the_means_is_noise(tmp_path):
    # The linear VAE (Lucas et al., 1911.02469) with a decoder variance of .6 times the pixels': the decoder's weight
    # is sqrt(variance - s2), the posterior's mean sqrt(variance - s2) / variance, its variance s2 / variance.
    s2 = 0.6 * VARIANCE
    weight = math.sqrt(VARIANCE - s2)
    network = Linear(cosines() * weight / VARIANCE, cosines() * weight, math.sqrt(s2 / VARIANCE))
    found = causes_of(network, tmp_path)
    assert found["missing"] == pytest.approx(1 - 0.4**2, abs=0.03)
    assert found["noise"] > 0.8 * found["missing"] and found["encoder"] < 0.02
    known = posterior(codec(network), white_images(500, seed=3), 100, 0)
    assert known is not None and known.price == pytest.approx(s2, rel=0.05)


def test_latents_that_the_encoder_does_not_find_are_its_gap(tmp_path):
    s2 = 0.005 * VARIANCE
    weight = math.sqrt(VARIANCE - s2)
    rows = cosines() * weight / VARIANCE
    # Half of the latents faintly repeat the others: no decoder can make up for that, and better latents do.
    rows[PIXELS // 2 :] = 0.3 * rows[: PIXELS // 2]
    found = causes_of(Linear(rows, cosines() * weight, math.sqrt(s2 / VARIANCE)), tmp_path)
    assert found["missing"] > 0.3
    # 50 steps of inference go two thirds of the way; learning on for 280, encoder and decoder, goes a quarter. A
    # decoder alone brings .04, which it shares with better latents.
    assert found["encoder"] > 0.6 * found["missing"] and found["noise"] < 0.02 and found["decoder"] < 0.04


def test_a_decoder_that_gives_half_is_under_trained(tmp_path):
    network = Linear(cosines(), 0.5 * cosines())
    found = causes_of(network, tmp_path)
    assert found["missing"] == pytest.approx(0.75, abs=0.02)
    # As far as 280 small steps reach: more than half of what is missing, hence the first cause.
    assert found["decoder"] > 0.5 * found["missing"]


def test_an_autoencoder_that_passes_everything_has_no_cause(tmp_path):
    found = causes_of(Linear(cosines(), cosines()), tmp_path)
    assert all(abs(value) < 0.02 for value in found.values())


def test_a_descent_that_ends_in_nan_keeps_what_it_had_and_one_without_a_begin_is_refused():
    from hfgen.diagnosis.interventions import optimised
    from hfgen.pipelines.finite import NonFinite

    wanted, calls = torch.zeros(3, 1, 2, 2), []

    def decoder(latents: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        images = latents + 0.5
        if len(calls) == 2:
            images = torch.where(torch.arange(3)[:, None, None, None] == 1, torch.nan, images)
        return images

    found = optimised(decoder, torch.zeros(3, 1, 2, 2), wanted, steps=1)
    assert (found[1] == 191).all() and (found[0] <= 191).all()
    with pytest.raises(NonFinite, match="first for image 2"):
        optimised(lambda z: torch.where(torch.arange(3)[:, None, None, None] == 2, torch.nan, z), wanted, wanted, 2)


def test_without_one_of_the_refits_no_part_has_a_share():
    stages = {name: value for name, value in refits(encoder=0.3).items() if name != "decoder"}
    found = values(attribute(powers(linear=0.9, best=0.5, **stages), 1.0, seed=0))
    expected = {"data": 0, "bottleneck": 0.1, "network": 0.5, "unexplained": 0, "missing": 0.6}
    assert found == pytest.approx(expected)


def test_what_a_part_makes_worse_is_negative():
    found = values(attribute(powers(**refits(noise=0.3, decoder=-0.1)), 1.0, seed=0))
    assert found["decoder"] == pytest.approx(-0.1) and found["noise"] == pytest.approx(0.3)


def test_the_interval_holds_what_refits_differ_by():
    same, spread = powers(**refits(decoder=0.2)), {}
    apart = torch.tensor([-0.1, 0.0, 0.1], dtype=torch.float64)
    for name, value in same.items():
        spread[name] = value[:, None] + (apart if name in CELLS else apart[1:2]) if name != "real" else value
    narrow, wide = (attribute(stages, 1.0, seed=0)["decoder"] for stages in (same, spread))
    assert wide.value == pytest.approx(narrow.value)
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)
    # One difference of two means of three: .1 sqrt(2 / 3) is its deviation. A Shapley value weighs several of them.
    assert 0.5 * 0.082 < (wide.high - wide.low) / 3.92 < 0.082


def test_below_the_bound_of_its_size_nothing_is_put_down_to_it():
    stages = powers(linear=0.2, best=0.15, mean=0.1, fitted_density=0.1, prior_sample=0.1)
    found = values(attribute(stages, 1.0, seed=0, bounded=False))
    assert "bottleneck" not in found and found["unexplained"] == pytest.approx(0.8)
    assert values(attribute(stages, 1.0, seed=0))["bottleneck"] == pytest.approx(0.8)


def test_without_interventions_all_is_unexplained():
    found = values(attribute(powers(mean=0.4), 1.0, seed=0, intervened=False))
    assert found == pytest.approx({"data": 0, "unexplained": 0.6, "missing": 0.6})
    found = values(attribute(powers(mean=0.4, prior_sample=0.1), 1.0, seed=0, intervened=False))
    assert found == pytest.approx({"data": 0, "unexplained": 0.6, "prior": 0.3, "missing": 0.9})


def test_what_the_latent_says_exactly_and_no_refit_reads_is_unread_and_the_rest_the_bottleneck():
    stages = powers(linear=0.5, best=0.55, **refits(decoder=0.1), prior_sample=0.3)
    exact = 0.9 + 0.2 * torch.linspace(-1, 1, 30, dtype=torch.float64)
    found = attribute({**stages, "exact": exact}, 1.0, seed=0, bounded=False)
    expected = {"data": 0, "encoder": 0, "decoder": 0.1, "noise": 0, "network": 0, "unexplained": 0, "prior": 0.1}
    assert values(found) == pytest.approx({**expected, "unread": 0.4, "bottleneck": 0.1, "missing": 0.7}, abs=1e-9)
    # Its own images alone make it uncertain: those of the diagnosis have one ratio to their originals.
    error = 0.2 * float(torch.linspace(-1, 1, 30).std(correction=0)) / 30**0.5
    assert (found["unread"].high - found["unread"].low) / 3.92 == pytest.approx(error, rel=0.15)
    assert found["decoder"].high - found["decoder"].low < 1e-9


@pytest.mark.parametrize(("exact", "unread", "bottleneck"), [(0.96, 0.56, 0.04), (0.3, 0.0, 0.6), (1.2, 0.6, 0.0)])
def test_without_refits_what_the_latent_says_exactly_is_known_all_the_same(exact, unread, bottleneck):
    known = torch.full((30,), exact).double()
    found = values(attribute({**powers(mean=0.4, prior_sample=0.1), "exact": known}, 1.0, seed=0, intervened=False))
    expected = {"data": 0, "unread": unread, "bottleneck": bottleneck, "prior": 0.3, "missing": 0.9}
    assert found == pytest.approx(expected)


def test_the_largest_cause_leads_in_most_resamples_and_a_tie_in_half():
    clear = leads(powers(**refits(encoder=0.4, decoder=0.1)), 1.0, seed=0)
    assert clear["encoder"] == 1.0
    spread = 0.9 * torch.rand((2, 200), generator=torch.Generator().manual_seed(0)).double()
    tie = {"real": torch.ones(200).double(), "mean": torch.zeros(200).double()}
    found = leads({**tie, "encoder": spread[0], "decoder": spread[1], "control": spread.sum(0)}, 1.0, seed=0)
    assert 0.02 < found["encoder"] < 0.98 and found["encoder"] + found["decoder"] == pytest.approx(1)
