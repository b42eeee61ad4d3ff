from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stores import entries, equal, write_images

from hfgen.data import CLASSES, draw, found_once, open_store, split_size
from hfgen.errors import UserError
from hfgen.images import to_pil


def write_parquet(folder: Path, splits: dict[str, int], **columns: str) -> torch.Tensor:
    """Glyphs as parquet files with a card, one image more a row; columns: our name -> the column's."""
    import datasets

    drawn = draw("glyphs", "train", 0, sum(splits.values()), 8)
    features = datasets.Features(
        {
            columns.get("image", "image"): datasets.Image(),
            columns.get("label", "label"): datasets.ClassLabel(names=list(CLASSES)),
        }
    )
    (folder / "data").mkdir(parents=True)
    start, card = 0, ["---", "configs:", "- config_name: default", "  data_files:"]
    for split, count in splits.items():
        rows = slice(start, start + count)
        table = dict(zip(features, (to_pil(drawn.images[rows]), drawn.labels[rows].tolist()), strict=True))
        datasets.Dataset.from_dict(table, features=features).to_parquet(folder / "data" / f"{split}.parquet")
        card += [f"  - split: {split}", f"    path: data/{split}.parquet"]
        start += count
    (folder / "README.md").write_text("\n".join([*card, "---", "# Glyphs"]))
    return drawn.images


def test_glyphs_open_as_they_are_drawn() -> None:
    store = open_store("glyphs", split="test", resolution=8)
    drawn = draw("glyphs", "test", 0, 5000, 8)
    assert torch.equal(store.images, drawn.images)
    assert store.labels is not None
    assert torch.equal(store.labels, drawn.labels)
    assert (len(store), store.channels, store.resolution, store.split) == (5000, 1, 8, "test")
    assert store.label_names == list(CLASSES)
    assert len(store.fingerprint) == 64


def test_stacked_has_a_thousand_modes() -> None:
    store = open_store("stacked", split="test", resolution=8)
    assert store.channels == 3
    assert store.label_names is not None
    assert store.label_names[123] == "123"
    assert len(store.label_names) == 1000


def test_a_parquet_folder_with_a_card_gives_its_splits(tmp_path: Path) -> None:
    images = write_parquet(tmp_path / "set", {"train": 20, "test": 5})
    train, test = (open_store(str(tmp_path / "set"), split=split, resolution=8) for split in ("train", "test"))
    assert torch.equal(train.images, images[:20])
    assert torch.equal(test.images, images[20:])
    assert train.label_names == list(CLASSES)
    with pytest.raises(UserError, match=r"^split: .*/set has no split 'validation'; use train or test$"):
        open_store(str(tmp_path / "set"), split="validation", resolution=8)


def test_other_usual_column_names_are_found(tmp_path: Path) -> None:
    images = write_parquet(tmp_path / "set", {"train": 4, "test": 1}, image="img", label="fine_label")
    store = open_store(str(tmp_path / "set"), resolution=8)
    assert torch.equal(store.images, images[:4])
    assert store.label_names == list(CLASSES)


def test_class_folders_give_labels_and_a_tenth_is_held_out(tmp_path: Path) -> None:
    write_images(tmp_path / "set" / "cats", 30)
    # Names that `datasets` alone would take for splits.
    write_images(tmp_path / "set" / "train", 30, start=30)
    (tmp_path / "set" / "cats" / "000.png").rename(tmp_path / "set" / "cats" / "test_0.png")
    train, test = (open_store(str(tmp_path / "set"), split=split, resolution=8) for split in ("train", "test"))
    assert (len(train), len(test)) == (54, 6)
    assert train.label_names == ["cats", "train"]
    assert len({image.numpy().tobytes() for image in torch.cat([train.images, test.images])}) == 60
    for store in (train, test):
        assert store.labels is not None
        assert store.labels.unique().tolist() == [0, 1]
    with pytest.raises(UserError, match="no split 'validation'; use train"):
        open_store(str(tmp_path / "set"), split="validation", resolution=8)


def test_split_folders_are_splits(tmp_path: Path) -> None:
    for split, start, count in (("train", 0, 6), ("val", 10, 3), ("test", 20, 2)):
        write_images(tmp_path / "set" / split / "a", count, start=start)
        write_images(tmp_path / "set" / split / "b", count, start=start + 100)
    sizes = [len(open_store(str(tmp_path / "set"), split=s, resolution=8)) for s in ("train", "validation", "test")]
    assert sizes == [12, 6, 4]


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    write_images(tmp_path / "set", 10, channels=3)
    store = open_store(str(tmp_path / "set"), resolution=8)
    assert store.labels is None
    assert store.label_names is None
    assert store.channels == 3


def test_auto_is_grey_only_where_all_images_are(tmp_path: Path) -> None:
    write_images(tmp_path / "set", 10)
    assert open_store(str(tmp_path / "set"), resolution=8).channels == 1
    assert open_store(str(tmp_path / "set"), resolution=8, channels=3).channels == 3
    write_images(tmp_path / "set", 5, start=10, channels=3)
    assert open_store(str(tmp_path / "set"), resolution=8).channels == 3
    assert open_store(str(tmp_path / "set"), resolution=8, channels=1).channels == 1


def test_images_keep_their_order_across_chunks(tmp_path: Path) -> None:
    images = write_parquet(tmp_path / "set", {"train": 300, "test": 1})
    assert torch.equal(open_store(str(tmp_path / "set"), resolution=8).images, images[:300])


def test_the_second_opening_does_not_decode(tmp_path: Path) -> None:
    import datasets

    write_parquet(tmp_path / "set", {"train": 12})
    first = open_store(str(tmp_path / "set"), resolution=8)
    written = [path.stat().st_mtime_ns for path in entries()[0].iterdir()]
    shutil.rmtree(datasets.config.HF_DATASETS_CACHE)
    second = open_store(str(tmp_path / "set"), resolution=8)
    assert equal(first, second)
    assert not datasets.config.HF_DATASETS_CACHE.exists()
    assert [path.stat().st_mtime_ns for path in entries()[0].iterdir()] == written


def test_a_changed_file_or_setting_is_decoded_anew(tmp_path: Path) -> None:
    write_images(tmp_path / "set", 12)
    first = open_store(str(tmp_path / "set"), resolution=8)
    write_images(tmp_path / "set", 1, start=99)
    assert len(open_store(str(tmp_path / "set"), resolution=8)) == len(first) + 1
    padded = open_store(str(tmp_path / "set"), resolution=16, small_images="pad")
    upscaled = open_store(str(tmp_path / "set"), resolution=16, small_images="upscale")
    assert padded.fingerprint != upscaled.fingerprint
    assert len(entries()) == 4


def test_within_a_command_a_folder_is_looked_for_once_and_by_the_next_one_again(tmp_path: Path) -> None:
    write_images(tmp_path / "set", 12)
    name = str(tmp_path / "set")
    with found_once():
        first = open_store(name, resolution=8)
        write_images(tmp_path / "set", 1, start=99)
        with found_once():
            assert split_size(name, "all")[1] == 12 and equal(open_store(name, resolution=8), first)
    with found_once():
        assert split_size(name, "all")[1] == 13 and len(open_store(name, resolution=8)) == len(first) + 1
    assert split_size(name, "all")[1] == 13


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def _shorten(path: Path) -> None:
    np.save(path, np.load(path)[:-1])


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "meta.json"])
@pytest.mark.parametrize("damage", [Path.unlink, _truncate, lambda path: path.write_bytes(b"")])
def test_a_damaged_cache_is_made_again(tmp_path: Path, name: str, damage: Any) -> None:
    for kind in "ab":
        write_images(tmp_path / "set" / kind, 6, start=ord(kind))
    first = open_store(str(tmp_path / "set"), resolution=8)
    damage(entries()[0] / name)
    assert equal(open_store(str(tmp_path / "set"), resolution=8), first)


@pytest.mark.parametrize("name", ["images.npy", "labels.npy"])
def test_a_cache_of_another_length_is_made_again(tmp_path: Path, name: str) -> None:
    for kind in "ab":
        write_images(tmp_path / "set" / kind, 6, start=ord(kind))
    first = open_store(str(tmp_path / "set"), resolution=8)
    _shorten(entries()[0] / name)
    assert equal(open_store(str(tmp_path / "set"), resolution=8), first)


def test_the_fingerprint_tells_pixels_and_labels_apart(tmp_path: Path) -> None:
    for name, kinds in (("one", "ab"), ("two", "ba")):
        for offset, kind in enumerate(kinds):
            write_images(tmp_path / name / kind, 4, start=100 * offset)
    one, two = (open_store(str(tmp_path / name), resolution=8) for name in ("one", "two"))
    assert one.fingerprint != two.fingerprint
    shutil.copytree(tmp_path / "one", tmp_path / "three")
    assert equal(open_store(str(tmp_path / "three"), resolution=8), one)


def test_a_damaged_image_is_named_or_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_images(tmp_path / "set" / "a", 10)
    write_images(tmp_path / "set" / "b", 10, start=10)
    whole = open_store(str(tmp_path / "set"), resolution=8)
    images = sorted((tmp_path / "set").rglob("*.png"))
    images[3].write_text("this is text")
    with pytest.raises(
        UserError,
        match=rf"^data: {images[3]} can't be read \(no image format that Pillow knows\); .*--skip_damaged$",
    ):
        for split in ("train", "test"):
            open_store(str(tmp_path / "set"), split=split, resolution=8)
    with caplog.at_level(logging.WARNING, "hfgen"):
        stores = [
            open_store(str(tmp_path / "set"), split=split, resolution=8, skip_damaged=True)
            for split in ("train", "test")
        ]
    assert sum(store.skipped for store in stores) == 1
    assert sum(len(store) for store in stores) == 19
    assert "damaged images left out of" in caplog.text
    for store in stores:
        assert store.labels is not None
        assert len(store.labels) == len(store)
    kept = {image.numpy().tobytes() for store in stores for image in store.images}
    assert len(kept & {image.numpy().tobytes() for image in whole.images}) >= 17


def test_a_failed_opening_leaves_no_cache(tmp_path: Path) -> None:
    write_images(tmp_path / "set", 10)
    for path in (tmp_path / "set").iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match="can't be read"):
        open_store(str(tmp_path / "set"), resolution=8)
    with pytest.raises(UserError, match=r"none of the 9 images of .* can be read"):
        open_store(str(tmp_path / "set"), resolution=8, skip_damaged=True)
    assert entries() == []


def test_a_damaged_row_is_named(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features({"image": datasets.Image(decode=False)})
    rows = {"image": [{"bytes": b"junk", "path": "a.png"}]}
    (tmp_path / "set").mkdir()
    path = tmp_path / "set" / "test-0.parquet"
    datasets.Dataset.from_dict(rows, features=features).to_parquet(path)
    with pytest.raises(UserError, match=r"^data: .*/set, row 0, can't be read"):
        open_store(str(tmp_path / "set"), split="test", resolution=8)


def test_small_images_are_refused_with_the_file_name(tmp_path: Path) -> None:
    write_images(tmp_path / "set", 1)
    message = rf"^resolution: {tmp_path}/set/000.png is 8 x 8 pixels, smaller than 16; .*--small_images pad"
    with pytest.raises(UserError, match=message):
        open_store(str(tmp_path / "set"), split="test", resolution=16)


def test_a_folder_without_images_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"^data: .*/empty can't be loaded .*check its files$"):
        open_store(str(tmp_path / "empty"), resolution=8)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("text")
    with pytest.raises(UserError, match=r"^data: .*/texts has no column of images, only text;"):
        open_store(str(tmp_path / "texts"), resolution=8)


def test_a_damaged_parquet_file_is_one_line(tmp_path: Path) -> None:
    write_parquet(tmp_path / "set", {"train": 4, "test": 1})
    _truncate(tmp_path / "set" / "data" / "train.parquet")
    with pytest.raises(UserError, match=r"^data: .*/set can't be loaded") as error:
        open_store(str(tmp_path / "set"), resolution=8)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data": "mnist"}, r"^data: 'mnist' isn't one of: glyphs, stacked, a folder of .*"),
        ({"data": ""}, r"^data: '' isn't one of"),
        ({"data": "./no"}, r"^data: no such folder ./no; check the path$"),
        ({"data": "a/b/c"}, r"^data: no such folder a/b/c"),
        ({"data": "a\\b"}, r"^data: no such folder"),
        ({"data": "org/name@"}, r"^data: 'org/name@' isn't one of"),
        ({"data": __file__}, r"^data: .*\.py is a file; name the folder that holds it$"),
        ({"data": "glyphs", "split": "val"}, r"^split: glyphs has no split 'val'; use train or test$"),
        ({"data": "glyphs", "channels": 3}, r"^channels: glyphs has 1, not 3; use 1 or auto$"),
        ({"data": "glyphs", "channels": 2}, r"^channels: 2 is unknown; use 1, 3 or auto$"),
        ({"data": "glyphs", "resolution": 4}, r"^resolution: 4 is too small; use 8 or more$"),
        ({"data": "glyphs", "small_images": "crop"}, r"^small_images: 'crop' is unknown"),
    ],
)
def test_mistakes_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_store(**{"resolution": 8, **fields})


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HFGEN_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"^cache: .* can't be written .*HFGEN_CACHE$"):
        open_store("glyphs", split="test", resolution=8)
