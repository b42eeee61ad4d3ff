import numpy as np
import pytest
import torch
from skimage.color import deltaE_ciede2000, rgb2lab

from hfgen.errors import UserError
from hfgen.metrics import clipped, colour_errors


def flat(*colour: int, side: int = 8) -> torch.Tensor:
    return torch.tensor(colour, dtype=torch.uint8).view(1, 3, 1, 1).repeat(2, 1, side, side)


def test_known_colours_have_their_differences_in_lab():
    """White is L* = 100, black 0, sRGB's red (53.24, 80.09, 67.20)."""
    found = colour_errors(flat(0, 0, 0), flat(255, 255, 255))
    assert found["bias_l"].tolist() == pytest.approx([100] * 2, abs=1e-3) and found["ciede2000"][0] == pytest.approx(
        100
    )
    found = colour_errors(flat(255, 255, 255), flat(255, 0, 0))
    assert [float(found[f"bias_{axis}"][0]) for axis in "lab"] == pytest.approx([-46.76, 80.09, 67.20], abs=0.02)
    assert float(found["chroma_reconstruction"][0]) == pytest.approx(104.55, abs=0.02)
    assert float(found["chroma_real"][0]) == pytest.approx(0, abs=0.02)


def test_the_95th_percentile_sees_a_tenth_of_the_pixels_that_the_mean_hardly_sees():
    real, made = flat(100, 100, 100, side=10), flat(100, 100, 100, side=10)
    made[:, :, 0] = 200
    found = colour_errors(real, made)
    assert float(found["ciede2000_p95"][0]) == pytest.approx(10 * float(found["ciede2000"][0]))


@pytest.mark.parametrize("side", [1, 2, 5, 17])
def test_the_95th_percentile_is_that_of_scikit_image_and_numpy(side: int):
    generator = torch.Generator().manual_seed(side)
    real, made = (torch.randint(0, 256, (4, 3, side, side), dtype=torch.uint8, generator=generator) for _ in range(2))
    x, r = (rgb2lab(images.permute(0, 2, 3, 1).numpy()) for images in (real, made))
    expected = np.quantile(deltaE_ciede2000(x, r).reshape(4, -1), 0.95, axis=1)
    assert colour_errors(real, made)["ciede2000_p95"].numpy() == pytest.approx(expected, rel=1e-12)


def test_a_checkerboard_of_a_large_image_is_seen_whatever_its_phase():
    real = flat(128, 128, 128, side=256)
    for phase in (0, 1):
        made = real.clone()
        made[:, :, phase::2, :] = 168
        whole = colour_errors(flat(128, 128, 128), flat(168, 168, 168))["ciede2000"]
        assert float(colour_errors(real, made)["ciede2000"][0]) == pytest.approx(float(whole[0]) / 2, rel=0.03)


def test_threads_and_parts_keep_the_order_and_the_bits():
    generator = torch.Generator().manual_seed(0)
    real, made = (torch.randint(0, 256, (300, 3, 32, 32), dtype=torch.uint8, generator=generator) for _ in range(2))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        found = colour_errors(real, made)
    finally:
        torch.set_num_threads(before)
    for index in (0, 63, 64, 191, 192, 299):
        alone = colour_errors(real[index : index + 1], made[index : index + 1])
        assert {name: values[index].item() for name, values in found.items()} == {
            name: values.item() for name, values in alone.items()
        }


def test_clipped_counts_what_the_original_had_not():
    real, made = flat(0, 128, 255), flat(0, 255, 255)
    assert clipped(real, made).tolist() == pytest.approx([1 / 3] * 2)
    assert clipped(real, real).tolist() == [0, 0]


def test_grey_images_and_other_shapes_are_refused():
    with pytest.raises(UserError, match="1 channel is grey"):
        colour_errors(flat(1, 1, 1)[:, :1], flat(1, 1, 1)[:, :1])
    with pytest.raises(UserError, match="give one per real image"):
        colour_errors(flat(1, 1, 1), flat(1, 1, 1, side=4))
