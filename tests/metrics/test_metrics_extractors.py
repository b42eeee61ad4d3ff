from pathlib import Path

import pytest
import safetensors.torch
import torch

from hfgen.data.glyphs import draw
from hfgen.errors import UserError
from hfgen.files import read_json, sha256, write_json
from hfgen.metrics import (
    EmbeddedExtractor,
    embedded_extractor,
    kernel_distance_interval,
    load_extractor,
    pixel_extractor,
    prdc,
)
from hfgen.metrics.judge_power import blurred, noisy

PRINT = "0123456789abcdef"


def bars(count: int, side: int = 20, channels: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Bright bars in one of four places, on noise: classes that a few steps can learn."""
    generator = torch.Generator().manual_seed(count)
    images = torch.randint(0, 60, (count, channels, side, side), generator=generator, dtype=torch.uint8)
    labels = torch.arange(count) % 4
    width = side // 4
    for image, label in zip(images, labels.tolist(), strict=True):
        image[:, side // 4 : side // 2, label * width : label * width + width // 2 + 1] = 230
    return images, labels


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[EmbeddedExtractor, Path]:
    cache = tmp_path_factory.mktemp("extractors")
    return embedded_extractor(*bars(400), PRINT, cache=cache), cache


def test_it_learns_its_classes(trained: tuple[EmbeddedExtractor, Path]) -> None:
    assert trained[0].accuracy > 0.9


def test_its_cache_entry_is_named_and_hashed(trained: tuple[EmbeddedExtractor, Path]) -> None:
    extractor, cache = trained
    folder = cache / "classifier-v3-0123456789ab"
    assert sorted(path.name for path in folder.iterdir()) == ["extractor.json", "extractor.safetensors"]
    assert extractor.id == read_json(folder / "extractor.json")["id"] == "hfgen-classifier-v3/0123456789ab"
    assert extractor.sha256 == sha256(folder / "extractor.safetensors")


def test_features_are_uncorrelated_float64_whatever_the_batch(trained: tuple[EmbeddedExtractor, Path]) -> None:
    images, _ = bars(700)
    features = trained[0].features(images)
    assert features.shape == (700, 64) and features.dtype == torch.float64 and not features.requires_grad
    # Of 400 images 464 statistics are uncertain, which takes variance away; of the largest components, nearly none.
    assert features.mean(0).abs().max() < 0.5 and features.std(0).min() > 0.1 and 0.6 < features.std(0).max() < 1
    assert (features.T.corrcoef() - torch.eye(64)).abs().max() < 0.5
    parts = torch.cat([trained[0].features(images[:3]), trained[0].features(images[3:])])
    torch.testing.assert_close(parts, features, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("make", "side", "most"), [("embedded", 20, 0.7), ("pixels", 20, 0.7), ("pixels", 96, 0.85)])
def test_features_see_a_blur_and_noise_of_single_pixels_and_no_other_real_images(
    make: str, side: int, most: float, tmp_path: Path
) -> None:
    count = 400 if side == 20 else 200
    letters = draw("glyphs", "train", 0, count, side)
    if make == "pixels":
        extractor = pixel_extractor(letters.images, PRINT, cache=tmp_path)
    else:
        extractor = embedded_extractor(letters.images, letters.labels, PRINT, cache=tmp_path)
    real, images = draw("glyphs", "test", 0, 2 * count, side).images.split(count)
    own = extractor.features(real)
    other, soft, grainy = (extractor.features(x) for x in (images, blurred(images, 0.7), noisy(images, 15, 0)))
    distances = [kernel_distance_interval(own, x) for x in (other, soft, grainy)]
    assert distances[0].low < 0 < min(distances[1].low, distances[2].low)
    coverages = [prdc(own, x).coverage for x in (other, soft, grainy)]
    assert coverages[0] > 0.9 and coverages[2] < most


def test_a_second_call_reads_the_cache(trained: tuple[EmbeddedExtractor, Path]) -> None:
    extractor, cache = trained
    images, labels = bars(400)
    weights = cache / "classifier-v3-0123456789ab" / "extractor.safetensors"
    before = weights.stat().st_mtime_ns
    again = embedded_extractor(images, labels, PRINT, cache=cache)
    assert weights.stat().st_mtime_ns == before
    assert (again.id, again.sha256, again.accuracy) == (extractor.id, extractor.sha256, extractor.accuracy)
    assert torch.equal(again.features(images), extractor.features(images))


def test_training_again_gives_the_same_bits_and_leaves_global_state_alone(tmp_path: Path) -> None:
    images, labels = bars(40)
    first = embedded_extractor(images, labels, PRINT, cache=tmp_path / "a")
    torch.manual_seed(123)
    torch.set_num_threads(2)
    state = torch.get_rng_state()
    with torch.inference_mode():
        second = embedded_extractor(images, labels, PRINT, cache=tmp_path / "b")
    assert second.sha256 == first.sha256
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == 2


@pytest.mark.parametrize("damage", ["extractor.safetensors", "extractor.json"])
def test_a_damaged_entry_is_made_again(tmp_path: Path, damage: str) -> None:
    images, labels = bars(40)
    first = embedded_extractor(images, labels, PRINT, cache=tmp_path)
    path = tmp_path / "classifier-v3-0123456789ab" / damage
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert embedded_extractor(images, labels, PRINT, cache=tmp_path).sha256 == first.sha256
    assert path.read_bytes() == whole


@pytest.mark.parametrize("labels", [None, torch.zeros(240, dtype=torch.int64)])
def test_without_labels_it_learns_rotations(tmp_path: Path, labels: torch.Tensor | None) -> None:
    extractor = embedded_extractor(bars(240)[0], labels, PRINT, cache=tmp_path)
    assert extractor.id == "hfgen-rotation-v3/0123456789ab"
    assert extractor.accuracy > 0.6


@pytest.mark.parametrize(("side", "channels"), [(16, 3), (64, 1), (80, 3)])
def test_it_takes_grey_and_colour_of_any_size(tmp_path: Path, side: int, channels: int) -> None:
    images, labels = bars(24, side, channels)
    extractor = embedded_extractor(images, labels + 7, PRINT, cache=tmp_path)
    assert extractor.features(images).isfinite().all()
    assert extractor.shape == (channels, side, side)


def test_what_cannot_be_learnt_or_described_is_refused(tmp_path: Path, trained: tuple[EmbeddedExtractor, Path]) -> None:
    images, labels = bars(40)
    for bad, numbers, field in (
        (images[:19], labels[:19], "images: 19 are too few"),
        (images[:, :, :, :10], labels, "images: 20 x 10 pixels"),
        (images, labels[:9], "labels: "),
        (images.float(), labels, "images: float32"),
    ):
        with pytest.raises(UserError, match=field):
            embedded_extractor(bad, numbers, PRINT, cache=tmp_path)
    with pytest.raises(UserError, match="images: 3 x 20 x 20, but"):
        trained[0].features(bars(4, 20, 3)[0])
    assert not any(tmp_path.iterdir())


def test_it_tells_the_classes_apart_also_those_made_of_factors(tmp_path: Path) -> None:
    images, labels = bars(400)
    extractor = embedded_extractor(images, labels, PRINT, cache=tmp_path)
    others, wanted = bars(101)
    assert (extractor.modes(others) == wanted).double().mean() > 0.9
    assert extractor.mode_counts.tolist() == [100] * 4
    pairs = torch.cat([images, images[torch.randperm(400, generator=torch.Generator().manual_seed(0))]], 1)
    pairs = torch.cat([pairs, pairs[:, :1]], 1)
    seconds = labels[torch.randperm(400, generator=torch.Generator().manual_seed(0))]
    joint = embedded_extractor(pairs, 4 * labels + seconds, "f" * 12, factors=(4, 4), cache=tmp_path)
    assert (joint.modes(pairs) == 4 * labels + seconds).double().mean() > 0.8
    assert len(joint.mode_counts) == 16 and int(joint.mode_counts.sum()) == 400


def test_pixels_are_no_classes_and_the_same_for_any_labels(tmp_path: Path) -> None:
    images, _ = bars(60, channels=3)
    extractor = pixel_extractor(images, PRINT, cache=tmp_path)
    assert extractor.id == "hfgen-pixels-v1/0123456789ab" and extractor.accuracy is None
    assert pixel_extractor(images, PRINT, cache=tmp_path).facts() == extractor.facts()
    extractor.save(tmp_path / "saved")
    assert torch.equal(load_extractor(tmp_path / "saved").features(images), extractor.features(images))
    with pytest.raises(UserError, match="hfgen-pixels-v1/0123456789ab tells no classes"):
        extractor.modes(images)
    with pytest.raises(UserError, match="images: 19 are too few"):
        pixel_extractor(images[:19], PRINT, cache=tmp_path)


def test_an_extractor_of_a_version_before_is_refused_as_such(
    trained: tuple[EmbeddedExtractor, Path], tmp_path: Path
) -> None:
    trained[0].save(tmp_path)
    facts = read_json(tmp_path / "extractor.json")
    before = safetensors.torch.save({"network.0.weight": torch.zeros(2), "head.mean": torch.zeros(64)})
    (tmp_path / "extractor.safetensors").write_bytes(before)
    write_json(tmp_path / "extractor.json", {**facts, "sha256": sha256(tmp_path / "extractor.safetensors")})
    with pytest.raises(UserError, match="of a version before hfgen-classifier-v3"):
        load_extractor(tmp_path)


def test_saved_it_is_had_again_bit_for_bit(trained: tuple[EmbeddedExtractor, Path], tmp_path: Path) -> None:
    trained[0].save(tmp_path)
    again = load_extractor(tmp_path)
    images, _ = bars(30)
    assert again.facts() == trained[0].facts()
    assert torch.equal(again.features(images), trained[0].features(images))
    assert torch.equal(again.modes(images), trained[0].modes(images))
    weights = tmp_path / "extractor.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(UserError, match="is damaged"):
        load_extractor(tmp_path)
