"""What is shown as a failure is the failure: of known images, known errors."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from hfgen.comparison.crops import crops
from hfgen.comparison.differences import Features, features_of, perception_distortion
from hfgen.comparison.galleries import first_images, galleries
from hfgen.data.glyphs import draw
from hfgen.evaluation.evaluate import Evaluation
from hfgen.metrics import Collector
from hfgen.reporting.charts import encode, legend, new_axes
from hfgen.reporting.pictures import error_levels, error_maps, most_images

N, SIDE = 30, 16
RECORD = {
    "protocol": {
        "seed": 0,
        "neighbours": 5,
        "window": "none",
        "extractor": {"id": "hfgen-classifier-v1/none", "sha256": "0"},
    }
}


@pytest.fixture(scope="module")
def originals() -> Tensor:
    return draw("glyphs", "test", 0, N, SIDE).images // 2 + 60


def model(originals: Tensor, errors: Tensor, samples: Tensor | None = None) -> Evaluation:
    """One whose reconstructions are off by `errors` (N,) levels."""
    reconstructions = originals + errors.to(torch.uint8)[:, None, None, None]
    return Evaluation(RECORD, originals, None, reconstructions, originals if samples is None else samples, [])


@pytest.fixture(scope="module")
def models(originals: Tensor) -> dict[str, Evaluation]:
    return {"up": model(originals, torch.arange(N) + 1), "down": model(originals, N - torch.arange(N))}


def test_the_worst_reconstructions_are_those_of_the_largest_error_and_share_a_scale(models: dict[str, Evaluation]):
    _, worst, _ = galleries(models, None)
    assert worst.chosen == [
        {"model": "up", "images": list(range(N - 1, N - 13, -1))},
        {"model": "down", "images": list(range(12))},
    ]
    assert f"yellow {N} of 255 levels" in worst.caption
    assert [len(strip.images) for strip in worst.strips] == [12] * 6
    top = [worst.strips[row].images[0] for row in (2, 5)]
    assert torch.equal(*top)


def test_disagreements_are_the_extremes_of_the_difference(models: dict[str, Evaluation], originals: Tensor):
    [pair] = galleries(models, None)[0].chosen
    # `up` is the better one, hence the higher PSNR, where its error is smallest.
    assert pair == {"first": "up", "second": "down", "highest": [0, 1, 2, 3, 4, 5], "lowest": [24, 25, 26, 27, 28, 29]}
    highest, lowest = galleries(models, None)[0].groups
    assert torch.equal(highest[0].images[0], originals[0]) and torch.equal(lowest[0].images[-1], originals[29])
    assert [strip.model for strip in highest] == ["", "up", "down"]


def test_only_the_first_pairs_of_many_models_are_shown_and_it_is_said(originals: Tensor):
    many = {name: model(originals, torch.arange(N) + 1) for name in "abcd"}
    gallery = galleries(many, None)[0]
    assert len(gallery.chosen) == 3 and "Of 6 pairs of models, the first 3." in gallery.caption


@pytest.mark.parametrize("with_features", [False, True])
def test_the_oddest_sample_is_the_one_unlike_any_real_image(originals: Tensor, with_features: bool):
    samples = originals.clone()
    samples[17] = 255 - 20 * (torch.arange(SIDE) % 2)
    evaluation = dataclasses.replace(model(originals, torch.zeros(N), samples), reconstructions=None)
    features = None
    if with_features:
        seen = samples.flatten(1).double()
        features = Features(originals.flatten(1).double(), {"gan": seen}, {})
    [gallery] = galleries({"gan": evaluation}, features)
    [chosen] = gallery.chosen
    assert chosen["samples"][0] == 17
    assert torch.equal(gallery.strips[1].images[1], originals[chosen["nearest"][1]])
    assert chosen["nearest"][1] == chosen["samples"][1]
    assert ("the extractor's features" if with_features else "pixels") in gallery.caption


def test_large_images_are_fewer_so_that_a_page_stays_light():
    assert [most_images(side) for side in (16, 64, 128, 256, 512, 2048)] == [12, 12, 8, 4, 2, 2]
    originals = torch.full((N, 1, 256, 256), 60, dtype=torch.uint8)
    pair = {"up": model(originals, torch.arange(N) + 1), "down": model(originals, N - torch.arange(N))}
    pair = {name: dataclasses.replace(of, samples=None) for name, of in pair.items()}
    shown = [*galleries(pair, None), *crops(pair)]
    # Those where models differ most are two of each end.
    assert [len(strip.images) for gallery in shown[:2] for strip in gallery.strips] == [2] * 6 + [4] * 6
    assert [[len(strip.images) for strip in group] for group in first_images(pair)] == [[4] * 3]
    assert shown[0].chosen[0]["highest"] == [0, 1] and shown[0].chosen[0]["lowest"] == [28, 29]


def test_close_up_a_wrong_hue_is_an_error_though_the_brightness_is_right():
    grey = torch.full((2, 3, 64, 64), 120, dtype=torch.uint8)
    hue = grey.clone()
    # By the weights of luma, these changes of red and green cancel.
    hue[1, 0, 32:, 32:], hue[1, 1, 32:, 32:] = 120 + 59, 120 - 30
    of = {
        "right": Evaluation(RECORD, grey, None, grey, None, []),
        "wrong": Evaluation(RECORD, grey, None, hue, None, []),
    }
    [gallery] = crops(of)
    assert gallery.chosen[0] == {"image": 1, "top": 32, "left": 32}
    errors = next(strip for strip in gallery.strips if strip.label == "wrong: errors")
    assert (errors.images[0] != errors.images[1]).any() and "yellow 30 of 255" in gallery.caption


@pytest.mark.parametrize("name", ["a", "AutoencoderKLFlux2", "a-rather-long-name-of-an-autoencoder"])
def test_a_legend_stays_within_its_chart(name: str):
    figure, (axes,) = new_axes(1, 4.5, 4.2)
    for index in range(5):
        axes.plot([0, 1], [0, index], marker="o", label=f"{name}{index}")
    legend(figure)
    encode(figure)
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1


def test_error_maps_run_from_dark_blue_to_yellow(originals: Tensor):
    levels = error_levels(originals[:1], originals[:1] + 10)
    assert torch.allclose(levels, torch.full_like(levels, 10.0))
    low, high = error_maps(torch.zeros(1, 2, 2), 10.0)[0, :, 0, 0], error_maps(levels, 10.0)[0, :, 0, 0]
    assert low.tolist() == [0, 34, 77] or low[2] > low[0]
    assert high[0] > 200 and high[1] > 200 and high[2] < 120
    assert torch.equal(error_maps(levels, 5.0)[0, :, 0, 0], high)


def test_without_the_extractor_there_are_no_features_and_no_plane(models: dict[str, Evaluation]):
    assert features_of(models) is None
    assert perception_distortion(models, None, Collector()) == {}


def test_the_planes_error_is_that_of_white_and_copies_have_no_kernel_distance(
    models: dict[str, Evaluation], originals: Tensor
):
    seen = originals.flatten(1).double() / 255
    features = Features(seen, {}, {"up": seen, "down": seen + 0.5})
    plane = perception_distortion(models, features, Collector())
    errors = (torch.arange(N).double() + 1) / 255
    assert plane["up"]["mse"]["value"] == pytest.approx(float(errors.square().mean()))
    assert plane["up"]["kid"]["value"] == pytest.approx(0, abs=1e-12)
    assert plane["down"]["kid"]["low"] > 0


def test_a_model_whose_name_begins_with_a_line_is_in_the_legend():
    figure, (axes,) = new_axes(1)
    axes.axhline(1)
    axes.plot([0, 1], [0, 1], label="_own, samples")
    axes.errorbar(0, 1, yerr=1, label="_own")
    legend(figure)
    assert [text.get_text().lstrip("\N{ZERO WIDTH SPACE}") for text in figure.legends[0].get_texts()] == [
        "_own, samples",
        "_own",
    ]
