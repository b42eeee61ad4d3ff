"""Each gate finds its plant in a good autoencoder, and all of them are silent of healthy ones."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from plants import SIDE, Components, Planted, codec, coloured_glyphs, context, found, smooth_images
from torch import Tensor, nn
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample, interpolate, pad

from hfgen.data import draw
from hfgen.diagnosis.bounds import at_rate, water_level
from hfgen.diagnosis.gates.context import Context
from hfgen.diagnosis.gates.findings import check
from hfgen.diagnosis.gates.inspection import GATES, inspect
from hfgen.diagnosis.gates.known_detail import known_detail
from hfgen.diagnosis.gates.latent_use import units
from hfgen.diagnosis.gates.levels import levels
from hfgen.diagnosis.gates.linear_floor import floor
from hfgen.diagnosis.gates.network_state import state
from hfgen.diagnosis.gates.sample_set import samples
from hfgen.images import to_float
from hfgen.metrics import Estimate

BOARD = ((torch.arange(SIDE)[:, None] + torch.arange(SIDE)) % 2 * 2 - 1).float()
MIXED = torch.tensor([[0.6, 0.4, 0.0], [0.0, 0.6, 0.4], [0.4, 0.0, 0.6]])
LUMA = torch.tensor([0.299, 0.587, 0.114])[:, None, None]


@pytest.fixture(scope="module")
def training() -> Tensor:
    return coloured_glyphs("train", 600)


@pytest.fixture(scope="module")
def held_out() -> Tensor:
    return coloured_glyphs("test", 96)


@pytest.fixture(scope="module")
def good(training: Tensor) -> Components:
    return Components(training, 280)


def grey_of(images: Tensor) -> Tensor:
    return (images * LUMA).sum(1, keepdim=True)


def blurred(images: Tensor) -> Tensor:
    return avg_pool2d(pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)


def squashed(images: Tensor) -> Tensor:
    narrow = interpolate(images, size=(SIDE, SIDE * 3 // 4), mode="bilinear", antialias=True)
    return pad(narrow, (SIDE // 8, SIDE // 8, 0, 0), mode="replicate")


def mapped(images: Tensor, matrix: list[list[float]]) -> Tensor:
    """Read through an affine map of the plane."""
    theta = torch.tensor(matrix).expand(len(images), -1, -1)
    grid = affine_grid(theta, list(images.shape), align_corners=False)
    return grid_sample(images, grid, padding_mode="border", align_corners=False)


def noisy(images: Tensor) -> Tensor:
    return images + 0.08 * torch.randn(images.shape, generator=torch.Generator().manual_seed(len(images)))


PLANTS: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "[0, 1]": ("range", lambda y: y / 2 + 0.5),
    "[0, 255]": ("range", lambda y: (y + 1) * 127.5),
    "negative": ("range", lambda y: -y),
    "BGR": ("swapped_channels", lambda y: y.flip(1)),
    "GBR": ("swapped_channels", lambda y: y.roll(1, 1)),
    "red cast": ("colour_shift", lambda y: y + torch.tensor([0.12, 0, -0.08])[:, None, None]),
    "pale": ("saturation", lambda y: grey_of(y) + 0.5 * (y - grey_of(y))),
    "mixed": ("colour", lambda y: torch.einsum("dc,nchw->ndhw", MIXED, y)),
    "enlarged": ("scaled", lambda y: mapped(y, [[0.85, 0, 0], [0, 0.85, 0]])),
    "turned": ("tilted", lambda y: mapped(y, [[0.995, -0.1, 0], [0.1, 0.995, 0]])),
    "contrast": ("contrast", lambda y: 0.7 * y),
    "bright": ("contrast", lambda y: y + 0.2),
    "shifted": ("shifted", lambda y: y.roll(1, -1)),
    "half a pixel": ("shifted", lambda y: (y + y.roll(1, -1)) / 2),
    "far": ("shifted", lambda y: y.roll((5, 3), (-1, -2))),
    "mirrored": ("flipped", lambda y: y.flip(-1)),
    "transposed": ("transposed", lambda y: y.mT),
    "upside down": ("rotated", lambda y: y.rot90(2, (-2, -1))),
    "squashed": ("stretched", squashed),
    "checkerboard": ("pattern", lambda y: y + 0.03 * BOARD),
    "modulated board": ("pattern", lambda y: y * (1 + 0.1 * BOARD)),
    "grid": ("pattern", lambda y: y + 0.1 * ((torch.arange(SIDE) % 4 == 0).float() - 0.25)),
    "noise": ("white_noise", noisy),
    "sharpened": ("over_sharpened", lambda y: y + 1.5 * (y - blurred(y))),
    "blurred": ("attenuated", blurred),
    "four levels": ("few_levels", lambda y: (1.5 * y).round() / 1.5),
    "seam": ("fixed_pattern", lambda y: y + 0.2 * torch.linspace(-1, 1, SIDE).sign()),
    "dead row": ("fixed_pattern", lambda y: y.clone().index_fill_(2, torch.tensor(SIDE // 2), -1)),
    "blur under a board": ("masked_blur", lambda y: blurred(y) + 0.1 * BOARD),
    "one image": ("constant", lambda y: 0 * y + 0.1),
    "NaN": ("non_finite", lambda y: y * torch.nan),
}

# What follows from a fault, or is what it does seen otherwise.
BESIDE = {
    "masked_blur": {"pattern"},
    "pattern": {"masked_blur"},
    "white_noise": {"masked_blur"},
    "few_levels": {"pattern", "invented_detail"},
    "fixed_pattern": {"pattern", "colour"},
    "over_sharpened": {"pattern"},
}


@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_fault_is_found(plant: str, good: Components, held_out: Tensor):
    name, change = PLANTS[plant]
    faults = found(context(held_out, network=Planted(good, after=change)))
    assert faults.get(name) == "fault", faults
    assert set(faults) - {name} <= BESIDE.get(name, set()), "nothing else is wrong"


@pytest.mark.parametrize("numbers", [280, 40])
@pytest.mark.parametrize("change", [lambda y: y, lambda y: y.flip(-1), lambda y: y.roll(2, -1), lambda y: 0.6 * y])
def test_noise_is_measured_however_much_detail_is_lost_and_beside_other_faults(
    numbers: int, change: Callable[[Tensor], Tensor], training: Tensor, held_out: Tensor
):
    network = Planted(Components(training, numbers), after=lambda y: change(noisy(y)))
    inspection = inspect(context(held_out, network=network))
    noise = next(each for each in inspection.findings if each.name == "white_noise")
    # Of brightness: the channels' noise is independent.
    assert noise.severity == "fault"
    assert noise.measured.value == pytest.approx(0.08 * 127.5 * float(LUMA.square().sum().sqrt()), rel=0.15)


def test_noise_that_a_decoder_never_saw_is_no_fault_of_its_levels(good: Components, held_out: Tensor):
    class Posterior(Planted):
        """Its means are right, and its deviations were never trained."""

        def encode(self, images: Tensor):
            mean = self.good.encode(images).latents
            noise = DiagonalGaussianDistribution(torch.cat([mean, torch.full_like(mean, 2.0)], 1))
            return SimpleNamespace(latent_dist=noise)

    posterior = Context(images=held_out, network=codec(Posterior(good), gaussian=True, latent_channels=280))
    assert float(posterior.latents.deviation.mean()) > 2
    assert found(posterior, levels, known_detail) == {}
    (note,) = posterior.notes
    assert "are read from means" in note
    without = context(held_out, network=good)
    assert found(without, levels, known_detail) == {} and not without.notes


def test_samples_that_equal_exact_means_are_no_worse(held_out: Tensor):
    class Exact(nn.Module):
        """Images are their own latents, with deviations of 0."""

        def __init__(self) -> None:
            super().__init__()
            self.config: dict[str, object] = {}
            self.weight = nn.Parameter(torch.ones(()), False)

        def encode(self, images: Tensor):
            noise = SimpleNamespace(mean=images, std=torch.zeros_like(images))
            return SimpleNamespace(latent_dist=noise)

        def decode(self, latents: Tensor):
            return SimpleNamespace(sample=latents)

    exact = Context(images=held_out, network=codec(Exact(), gaussian=True))
    assert float(exact.errors.max()) == 0
    assert torch.equal(exact.calibrated, exact.outputs) and not exact.notes


def test_samples_are_no_more_alike_than_reconstructions_allow(good: Components, held_out: Tensor):
    faint = Planted(good, after=lambda y: 0.2 * y)
    alike = (127.5 + 0.2 * (held_out.float() - 127.5)).to(torch.uint8)
    assert "collapsed" not in found(context(held_out, network=faint, samples=alike), samples)
    assert found(context(held_out, network=good, samples=alike), samples).get("collapsed") == "fault"


def test_blur_that_noise_does_not_make_up_for_is_seen_and_not_masked(good: Components, held_out: Tensor):
    hidden, seen = (Planted(good, after=lambda y, k=k: blurred(y) + k * (noisy(y) - y)) for k in (1.0, 0.5))
    assert "masked_blur" in found(context(held_out, network=hidden))
    assert "masked_blur" not in found(context(held_out, network=seen))


def test_a_network_for_another_range_is_found_by_trying(good: Components, held_out: Tensor):
    # It clips what it takes for impossible, as a network that saturates does.
    of_unit = Planted(good, lambda x: 2 * x.clamp(0, 1) - 1, lambda y: y / 2 + 0.5)
    inspection = inspect(context(held_out, network=of_unit))
    ranges = next(each for each in inspection.findings if each.name == "range")
    assert ranges.severity == "fault" and "[0, 1]" in ranges.text and ranges.measured.low > 0.9


@pytest.mark.parametrize("numbers", [280, 40, 2])
def test_healthy_networks_are_left_alone_however_blurred(numbers: int, training: Tensor, held_out: Tensor):
    assert found(context(held_out, network=Components(training, numbers), training=lambda: training)) == {}


def test_smooth_data_and_a_perfect_model_have_no_fault():
    training, held_out = smooth_images(600, 0), smooth_images(96, 1)
    faults = found(context(held_out, network=Components(training, 150), training=lambda: training))
    assert "fault" not in faults.values() and set(faults) <= {"smooth_data"}


def test_float16_would_overflow_at_a_layer_that_is_named(good: Components, held_out: Tensor):
    class Large(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.good, self.config = good, {}
            self.swell, self.shrink = nn.Conv2d(3, 3, 1, bias=False), nn.Conv2d(3, 3, 1, bias=False)
            for layer, factor in ((self.swell, 1e5), (self.shrink, 1e-5)):
                layer.weight.data = factor * torch.eye(3)[:, :, None, None]

        def encode(self, images: Tensor):
            return self.good.encode(images)

        def decode(self, latents: Tensor):
            made = self.good.decode(latents)
            made.sample = self.shrink(self.swell(made.sample))
            return made

    network = Large()
    inspection = inspect(context(held_out, network=network))
    overflow = next(each for each in inspection.findings if each.name == "half_overflow")
    assert overflow.severity == "warning" and "swell" in overflow.text and "--dtype bf16" in overflow.remedy
    network.config = {"force_upcast": True}
    assert "half_overflow" not in found(context(held_out, network=network))


def test_a_wrong_scaling_factor_is_found_and_the_right_one_given(training: Tensor, held_out: Tensor, tmp_path: Path):
    network = Components(training, 40, scaling_factor=1.0)
    # Of a run: diffusers knows no deeper folder by itself.
    (tmp_path / "pretrained").mkdir()
    (tmp_path / "pretrained" / "config.json").touch()
    inspection = inspect(context(held_out, network=network, model=str(tmp_path)))
    wrong = next(each for each in inspection.findings if each.name == "scaling_factor")
    assert wrong.severity == "fault" and f"('{tmp_path / 'pretrained'}')" in wrong.remedy
    right = float(wrong.remedy.split("scaling_factor=")[1].split(")")[0])
    assert found(context(held_out, network=Components(training, 40, scaling_factor=right))) == {}


def test_dropout_in_training_mode_and_stale_batch_statistics_are_found(good: Components, held_out: Tensor):
    dropout = nn.Sequential(nn.Dropout(0.1))
    network = Planted(good, after=dropout)
    assert found(context(held_out, network=network), state).get("not_repeatable") == "fault"
    assert found(context(held_out, network=network.eval()), state) == {}
    norm = nn.BatchNorm2d(3)
    images = to_float(held_out)
    centre, spread = images.mean((0, 2, 3), keepdim=True)[0], images.std((0, 2, 3), keepdim=True)[0]
    norm.weight.data, norm.bias.data = spread.flatten(), centre.flatten()
    network = Planted(good, norm).eval()
    assert found(context(held_out, network=network), state).get("batch_statistics") == "fault"
    norm.running_mean, norm.running_var = centre.flatten().clone(), spread.flatten().square()
    assert found(context(held_out, network=network), state) == {}


def test_an_idle_latent_is_found(good: Components, held_out: Tensor):
    class Half(Components):
        def __init__(self) -> None:
            nn.Module.__init__(self)
            self.config, self.centre, self.shape = {}, good.centre, good.shape
            self.rows = nn.Parameter(good.rows[:40], False)

        def encode(self, images: Tensor):
            latents = super().encode(images)
            latents.latents = latents.latents * (torch.arange(40) < 12)[:, None, None]
            return latents

    assert found(context(held_out, network=Half()), units) == {"inactive_units": "warning"}


def test_a_network_below_principal_components_is_under_trained(good: Components, training: Tensor, held_out: Tensor):
    lazy = Planted(good, lambda x: blurred(blurred(x)))
    assert found(context(held_out, network=lazy, training=lambda: training), floor) == {"under_trained": "fault"}
    assert found(context(held_out, network=good, training=lambda: training), floor) == {}


@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "nearest"])
def test_enlarged_data_are_told_from_smooth_ones(mode: str):
    sharp = draw("glyphs", "test", 0, 200, SIDE).images
    small = interpolate(sharp.float(), scale_factor=0.5, mode="area")
    large = interpolate(small, scale_factor=2, mode=mode).round().clamp(0, 255).to(torch.uint8)
    assert found(context(large)) == {"data": "fault"}
    assert found(context(sharp)) == {}
    assert found(context(large.repeat(1, 3, 1, 1))).get("grey_data") == "warning"


def test_collapsed_dark_samples_are_found(held_out: Tensor):
    one = held_out[:1].repeat(96, 1, 1, 1)
    assert found(context(held_out, samples=one), samples).get("collapsed") == "fault"
    dark = (held_out.float() * 0.6).to(torch.uint8)
    assert found(context(held_out, samples=dark), samples).get("sample_brightness") == "fault"
    assert found(context(held_out, samples=coloured_glyphs("train", 96)), samples) == {}


@pytest.mark.parametrize("name", ["prior", "constant"])
def test_samples_say_nothing_after_what_they_follow_from(held_out: Tensor, name: str):
    dark = context(held_out, samples=(held_out.float() * 0.6).to(torch.uint8))
    above = Estimate(2.0, 1.9, 2.1, 96)
    dark.found.append(check(name, above, "nats", warning=0.5, fault=1.0, text="It differs.", remedy="fit it"))
    assert list(samples(dark)) == []


def test_a_finding_is_silent_where_its_interval_is_not_clear():
    def severity(value: float, width: float, **options: bool) -> str:
        estimate = Estimate(value, value - width, value + width, 10)
        return check("x", estimate, "x", text="x", remedy="x", warning=0.1, fault=0.5, **options).severity

    assert severity(0.7, 0.1) == "fault" and severity(0.3, 0.1) == "warning"
    assert severity(0.12, 0.1) == "undecided" and severity(0.05, 0.01) == "passed"
    assert severity(0.7, 0.1, telling=False) == "undecided"
    sure = check("x", Estimate(0.7, 0.6, 0.8, 10), "x", text="x", remedy="x", warning=0.1, fault=0.5)
    assert sure.confidence > 0.99


def test_a_gate_that_fails_is_noted_and_the_others_stand(held_out: Tensor):
    def broken(_: Context):
        raise RuntimeError("odd network")
        yield

    inspection = inspect(context(held_out), (broken, *GATES))
    assert inspection.notes == ["gate broken: left out (RuntimeError: odd network)"]
    assert "data" in {each.name for each in inspection.findings}


def test_the_rate_distortion_bound_of_a_gaussian_is_the_known_one():
    # Two bits for two variances of 4 and 1: reverse water-filling at 1/2 gives 1.5 + .5 bits.
    assert water_level(torch.tensor([4.0, 1.0]).double(), 2.0) == pytest.approx(0.5, rel=1e-6)
    # Of less than a bit, the weaker one gets none: .5 log2(4 / t) = .5 at t = 2.
    assert water_level(torch.tensor([4.0, 1.0]).double(), 0.5) == pytest.approx(2.0, rel=1e-6)


def test_images_at_a_rate_have_the_error_of_the_bound():
    generator = torch.Generator().manual_seed(0)
    noise = 127.5 + 30 * torch.randn((4000, 1, 4, 4), generator=generator)
    images = noise.round().clamp(0, 255).to(torch.uint8)
    made = at_rate(images[:3000], images[3000:], 16.0, 16, seed=0)
    # A bit a number: a quarter of the variance is left.
    error = (made.double() - images[3000:].double()).square().mean()
    assert float(error) == pytest.approx(900 / 4, rel=0.05)
