"""Autoencoders whose losses are known: each metric says exactly what each of them does."""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from hfgen import metrics
from hfgen.evaluation.latent import changed_latents, latent_section, scale_notes
from hfgen.evaluation.pair_metrics import Pairs, pair_metrics
from hfgen.evaluation.reading_test import reading_test
from hfgen.evaluation.real_images import RealImages, real_images
from hfgen.images import to_float, to_uint8
from hfgen.metrics import Collector
from hfgen.metrics.judge_power import blurred

N, SIDE = 160, 32


def fields(count: int, seed: int) -> Tensor:
    """Colour images whose power falls with frequency, far from black and white."""
    draws = torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    frequency = torch.hypot(torch.fft.fftfreq(SIDE)[:, None], torch.fft.rfftfreq(SIDE)).clamp_min(1 / SIDE)
    smooth = torch.fft.irfft2(torch.fft.rfft2(draws) / frequency, s=(SIDE, SIDE))
    return (128 + 24 * smooth / smooth.std()).round().clamp(20, 235).to(torch.uint8)


class Identity(nn.Module):
    """Latents are the pixels."""

    factor, any_size, codebook_size = 1, True, None

    def encode(self, images: Tensor) -> "Identity.Encoded":
        return Identity.Encoded(images)

    def decode(self, latents: Tensor) -> Tensor:
        return latents

    def forward(self, images: Tensor) -> Tensor:
        """uint8, as everything here."""
        return to_uint8(self.decode(self.encode(to_float(images)).mean))

    class Encoded:
        def __init__(self, mean: Tensor) -> None:
            self.mean = mean


class Blur(Identity):
    def __init__(self, deviation: float) -> None:
        super().__init__()
        self.deviation = deviation

    def forward(self, images: Tensor) -> Tensor:
        return blurred(images, self.deviation)


class Grey(Identity):
    """Drops chroma, and keeps the luma of Rec. 601."""

    def decode(self, latents: Tensor) -> Tensor:
        weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
        return (latents * weights).sum(1, keepdim=True).expand(-1, 3, -1, -1)


class Shifted(Identity):
    """12 levels too red."""

    def decode(self, latents: Tensor) -> Tensor:
        return latents + torch.tensor([12 / 127.5, 0, 0]).view(3, 1, 1)


class Quantised(Identity):
    """Levels in steps of 16."""

    def forward(self, images: Tensor) -> Tensor:
        return (images // 16 * 16 + 8).to(torch.uint8)


class Clipped(Identity):
    """Three times the contrast, cut off."""

    def decode(self, latents: Tensor) -> Tensor:
        return (3 * latents).clamp(-1, 1)


@pytest.fixture(scope="module")
def real() -> RealImages:
    images, others = fields(N, 0), fields(N, 1)
    return real_images(images, others, None, metrics.pixel_extractor(others, "0" * 64), 0)


@pytest.fixture(scope="module")
def measured(real: RealImages) -> Callable[[Identity], tuple[dict[str, float], Pairs, list[str]]]:
    known: dict[int, tuple[dict[str, float], Pairs, list[str]]] = {}

    def measure(model: Identity) -> tuple[dict[str, float], Pairs, list[str]]:
        key = hash(str(model.__class__) + str(vars(model).get("deviation")))
        if key not in known:
            found = Collector()
            pairs = pair_metrics(found, real, model(real.images), 0)
            known[key] = {name: estimate.value for name, estimate in found.estimates.items()}, pairs, found.notes
        return known[key]

    return measure


def test_the_identity_loses_nothing(measured):
    found, pairs, notes = measured(Identity())
    for name in ("gain_high", "coherence_high", "hf_ratio_reconstruction", "ssim", "saturation_ratio"):
        assert found[name] == pytest.approx(1), name
    for channel in ("cb", "cr"):
        assert [found[f"{kind}_{channel}"] for kind in ("gain", "coherence", "power")] == pytest.approx([1] * 3)
    for name in (
        "ciede2000",
        "ciede2000_p95",
        "ciede2000_worst",
        "bias_l",
        "bias_a",
        "bias_b",
        "clipped",
        "perceptual",
    ):
        assert found[name] == pytest.approx(0, abs=1e-9), name
    assert found["kid_reconstruction"] == pytest.approx(0, abs=1e-9)
    assert [found["psnr"], found["psnr_worst"]] == pytest.approx([10 * math.log10(255**2 * 3 * SIDE**2)] * 2)
    assert any(note.startswith("averaging_identity: left out") for note in notes)
    assert pairs.bands["power"] == pytest.approx([1] * 16) and pairs.bands["coherence_cb"] == pytest.approx([1] * 16)


def test_a_blur_loses_high_bands_and_neither_brightness_nor_hue(measured):
    found, pairs, _ = measured(Blur(0.8))
    power = pairs.bands["power"]
    # |G|^2 = exp(-4 pi^2 sigma^2 f^2); the rounding to levels is noise.
    assert power[0] > 0.9 and power[4] == pytest.approx(math.exp(-39.48 * 0.64 * 0.14**2), abs=0.1)
    assert power[-1] < 0.05 and sorted(power[:10], reverse=True) == power[:10]
    assert found["gain_high"] > 1.3 and found["coherence_high"] > 0.5
    assert all(abs(found[f"bias_{axis}"]) < 0.7 for axis in "lab")
    assert found["clipped"] == 0 and found["saturation_ratio"] < 1
    assert found["psnr_worst"] < found["psnr"] and found["ciede2000_worst"] > found["ciede2000"]


def test_dropped_chroma_is_lost_and_its_luma_is_kept(measured):
    found, pairs, _ = measured(Grey())
    # What rounding the luma to levels leaves.
    assert found["gain_high"] == pytest.approx(1, abs=0.02) and found["coherence_high"] > 0.98
    for channel in ("cb", "cr"):
        assert found[f"power_{channel}"] < 1e-20
        assert max(pairs.bands[f"power_{channel}"]) < 1e-20
    assert found["saturation_ratio"] < 0.01 and found["ciede2000"] > 5


def test_shifted_colours_are_a_bias_of_the_right_sign(measured):
    found, _, _ = measured(Shifted())
    assert found["bias_a"] > 3 and found["bias_l"] > 0 and found["bias_b"] > 0
    assert found["coherence_cr"] == pytest.approx(1) and found["gain_high"] == pytest.approx(1)
    assert 2 < found["ciede2000"] < 10 and found["psnr"] == pytest.approx(10 * math.log10(255**2 * 3 / 144))


def test_quantised_levels_are_noise_in_high_bands(measured):
    found, _, _ = measured(Quantised())
    # Uniform in 16 levels, but for the rounding that was there: (256 - 1) / 12, and a quarter for the half level.
    assert found["psnr"] == pytest.approx(10 * math.log10(255**2 / (255 / 12 + 0.25)), abs=0.05)
    assert found["hf_ratio_reconstruction"] > 1.02 and found["gain_high"] < 1
    assert found["clipped"] == 0 and abs(found["bias_l"]) < 0.5


def test_clipping_is_counted_and_contrast_shows_in_gain_and_saturation(measured, real: RealImages):
    found, _, _ = measured(Clipped())
    stretched = 3 * to_float(real.images)
    share = (to_uint8(stretched) == 0) | (to_uint8(stretched) == 255)
    assert found["clipped"] == pytest.approx(float(share.double().mean())) and found["clipped"] > 0.01
    assert found["gain_high"] == pytest.approx(1 / 3, abs=0.05) and found["saturation_ratio"] > 1.8


def test_grey_images_have_no_metrics_of_colour():
    images, others = fields(40, 0)[:, :1], fields(40, 1)[:, :1]
    found = Collector()
    pair_metrics(
        found, real_images(images, others, None, metrics.pixel_extractor(others, "1" * 64), 0), Blur(1)(images), 0
    )
    assert "ciede2000" not in found.estimates and "coherence_cb" not in found.estimates and "psnr" in found.estimates


def test_the_identity_keeps_every_letter_and_a_blur_loses_small_ones_first():
    sections, heights = {}, {}
    for deviation in (0.0, 1.5, 2.5):
        found = Collector()
        model = Blur(deviation) if deviation else Identity()
        sections[deviation] = reading_test(model, 64, 1, found=found)
        heights[deviation] = found.estimates["reading_height"]
    whole = sections[0.0]
    assert whole["original"] == whole["reconstruction"] and heights[0.0].value == whole["heights"][0] == 4
    assert whole["unread"] == [] and min(share["value"] for share in whole["original"]) > 0.85
    assert heights[0.0].high < heights[1.5].value < heights[2.5].low and heights[2.5].value < 24
    shares = [share["value"] for share in sections[2.5]["reconstruction"]]
    assert shares[0] < 0.5 < 0.9 < shares[-1]
    assert all(later > earlier - 0.1 for earlier, later in pairwise(shares))
    assert whole["backgrounds"].keys() == {"dark_on_light", "light_on_dark"}


def test_a_model_that_keeps_no_letter_has_no_reading_height():
    found = Collector()
    section = reading_test(lambda images: torch.full_like(images, 128), 32, 3, photographs=fields(40, 0), found=found)
    assert "reading_height" not in found.estimates and "photographs" in section["backgrounds"]
    assert any(note.startswith("reading_height: left out (reading: not even letters of") for note in found.notes)


def test_the_latent_of_the_identity_is_the_pixels(real: RealImages):
    latents, found = to_float(real.images), Collector()
    section = latent_section(latents, None, None, side=SIDE, codebook_size=None, found=found)
    assert section["shape"] == [3, SIDE, SIDE] and section["factor"] == 1
    assert section["mean"] == pytest.approx(latents.double().mean((0, 2, 3)).tolist())
    assert section["deviation"] == pytest.approx(latents.double().std((0, 2, 3), correction=0).tolist())
    assert section["kurtosis"] == pytest.approx([3] * 3, abs=0.5) and section["components_99"] == 3
    power = section["spectrum"]["power"]
    assert power[0] > 2 > 0.5 > power[-1]
    changed = changed_latents(Identity(), real.images, section["deviation"], device=latents.device, seed=0, found=found)
    assert all(abs(entry["value"]) < 1e-6 for entry in changed["equivariance"].values())
    assert changed["equivariance"].keys() == {"flip", "quarter_turn", "half"}
    # Noise of a tenth of the deviation, in levels.
    error = (0.1 * torch.tensor(section["deviation"]) * 127.5).square().mean()
    assert changed["noise"]["0.1"]["value"] == pytest.approx(10 * float((255**2 / error).log10()), abs=0.2)
    assert changed["noise"]["0.1"]["value"] - changed["noise"]["0.5"]["value"] == pytest.approx(13.98, abs=0.3)


def test_a_model_that_knows_left_from_right_is_not_equivariant(real: RealImages):
    class Sided(Identity):
        """Brighter to the right, by what the encoder takes away again."""

        def encode(self, images: Tensor) -> Identity.Encoded:
            return Identity.Encoded(images - torch.linspace(-0.2, 0.2, images.shape[-1]))

        def decode(self, latents: Tensor) -> Tensor:
            return latents + torch.linspace(-0.2, 0.2, latents.shape[-1])

    found = Collector()
    changed = changed_latents(Sided(), real.images, [0.3] * 3, device=torch.device("cpu"), seed=0, found=found)
    assert changed["equivariance"]["flip"]["low"] > 10 and changed["equivariance"]["quarter_turn"]["low"] > 10


def test_a_wrong_scaling_factor_is_said_with_the_right_one(real: RealImages):
    latents = to_float(real.images)
    section = latent_section(latents, None, None, side=SIDE, codebook_size=None, found=Collector())
    spread = float(latents.double().std())
    ones = torch.ones(3, 1, 1)
    assert scale_notes(section, 0 * ones, ones) == []
    assert scale_notes(section, ones * latents.mean(), ones / spread) == []
    (line,) = scale_notes(section, ones * latents.mean(), ones / spread * 1.5)
    assert "standard deviation is 1.50 on these images, not 1" in line
    assert f"a scaling_factor of {1 / spread:.4g}"[:24] in line
    (line,) = scale_notes(section, ones * (latents.mean() - spread), ones / spread)
    assert "the scaled latent's mean is 1.00 on these images, not 0" in line


def test_half_precision_is_measured_on_a_copy(real: RealImages):
    from diffusers import AutoencoderTiny

    from hfgen.autoencoders import Autoencoder
    from hfgen.evaluation.precision import precision_section

    torch.manual_seed(0)
    widths: dict = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    blocks: dict = {"num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1)}
    coder, found = Autoencoder(AutoencoderTiny(**widths, **blocks).eval()), Collector()
    section = precision_section(coder, real.images, device=torch.device("cpu"), seed=0, found=found)
    assert section["bf16"]["non_finite"] == 0 and 20 < section["bf16"]["psnr"]["value"] < 83
    assert next(coder.network.parameters()).dtype == torch.float32 and found.notes == []
