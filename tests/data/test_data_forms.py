"""Files as users keep them: parquet of any writer, Arrow, arrays, tar files with annotations."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pictures import BLUE, RED, labels_fit, picture, png, write_pictures
from PIL import Image

import hfgen
from hfgen.data import open_store, split_size, stored_side
from hfgen.errors import DataError, SettingsError

COUNT = 20
CONTENT = [png((RED, BLUE)[index % 2], index) for index in range(COUNT)]
PIXELS = np.stack([np.asarray(picture((RED, BLUE)[index % 2], index)) for index in range(COUNT)])


def write_table(folder: Path, name: str = "train.parquet", **columns: Any) -> None:
    """Parquet as pandas or polars write it: without a word about features."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / name)


def pixels_of(data: Path, **options: Any) -> torch.Tensor:
    return open_store(str(data), split="all", resolution=8, **options).images.permute(0, 2, 3, 1)


@pytest.mark.parametrize(
    "column",
    [
        {"image": CONTENT},
        {"image": [{"bytes": content, "path": "x.png"} for content in CONTENT]},
        {"jpg": CONTENT, "text": ["x"] * COUNT},
        {"images": [[content] for content in CONTENT]},
        {"images": [[{"bytes": content, "path": None}, None] for content in CONTENT]},
        {"image": [image.tolist() for image in PIXELS]},
        {"blob": CONTENT},
    ],
    ids=["bytes", "struct", "jpg", "list of bytes", "list of structs", "nested lists", "any name"],
)
def test_images_in_parquet_files_of_any_writer(column: dict[str, Any], tmp_path: Path) -> None:
    write_table(tmp_path, **column, label=[index % 2 for index in range(COUNT)])
    store = open_store(str(tmp_path), split="all", resolution=8)
    assert np.array_equal(store.images.permute(0, 2, 3, 1).numpy(), PIXELS)
    assert store.labels is not None and store.labels.tolist() == [0, 1] * (COUNT // 2)
    assert ("of the lists in images the first image is used" in store.notes) == ("images" in column)


def test_lists_of_declared_images_give_the_first(tmp_path: Path) -> None:
    import datasets

    rows = [[{"bytes": content, "path": None}] for content in CONTENT]
    features = datasets.Features({"images": datasets.List(datasets.Image())})
    datasets.Dataset.from_dict({"images": rows}, features=features).to_parquet(tmp_path / "train.parquet")
    assert np.array_equal(pixels_of(tmp_path).numpy(), PIXELS)


def test_streamed_labels_are_those_that_were_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hfgen.data import tables

    for name, labels in (("train.parquet", [7, 5]), ("test.parquet", [9, None])):
        write_table(tmp_path / "set", name, image=CONTENT, note=["x"] * COUNT, label=labels * (COUNT // 2))
    prepared = {split: open_store(str(tmp_path / "set"), split=split, resolution=8) for split in ("train", "test")}
    monkeypatch.setenv("HFGEN_CACHE", str(tmp_path / "other"))
    monkeypatch.setattr("hfgen.data.local_paths.open_table", tables.Streamed)
    for split, store in prepared.items():
        streamed = open_store(str(tmp_path / "set"), split=split, resolution=8)
        assert streamed.fingerprint == store.fingerprint and streamed.label_names == ["5", "7", "9"]
        assert streamed.notes == store.notes


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ({"image": ["https://example.invalid/a.png"]}, "image holds addresses or paths, which aren't fetched"),
        ({"image": [[0] * 192]}, "image holds flat lists, whose height and width are unknown"),
        ({"id": [1]}, "has no column of images, only id;"),
    ],
)
def test_columns_that_hold_no_images_are_named(column: dict[str, Any], message: str, tmp_path: Path) -> None:
    write_table(tmp_path, **column)
    with pytest.raises(DataError, match=message):
        open_store(str(tmp_path), resolution=8)


def test_capitals_and_shards_of_parquet_files_are_splits(tmp_path: Path) -> None:
    for name, count in (("Train-1.parquet", 6), ("Train-2.parquet", 6), ("DEV.parquet", 4), ("stats.parquet", 3)):
        write_table(tmp_path, name, image=CONTENT[:count])
    assert split_size(str(tmp_path)) == ("validation", 4)
    store = open_store(str(tmp_path), resolution=8)
    assert len(store) == 12 and "the files of stats belong to no split and are left out" in store.notes
    assert split_size(str(tmp_path / "DEV.parquet"), "all") == ("train", 4)
    for name in ("train-00000-of-00001.parquet", "clean-00000-of-00001.parquet"):
        write_table(tmp_path / "shards", name, image=CONTENT)
    assert split_size(str(tmp_path / "shards"), "clean") == ("clean", COUNT)


def test_a_table_of_numbers_beside_images_is_none_of_images(tmp_path: Path) -> None:
    for name, colour in (("red", RED), ("blue", BLUE)):
        write_pictures(tmp_path / name, 6, colour)
    write_table(tmp_path, "stats.parquet", id=[1, 2])
    store = open_store(str(tmp_path), resolution=8)
    assert store.label_names == ["blue", "red"] and labels_fit(store)


def test_configurations_are_named_and_chosen(tmp_path: Path) -> None:
    card = ["---", "configs:"]
    for name, count in (("small", 4), ("large", 12)):
        write_table(tmp_path / name, image=CONTENT[:count])
        card += [f"- config_name: {name}", f"  data_files: {name}/train.parquet"]
    (tmp_path / "README.md").write_text("\n".join([*card, "---"]))
    with pytest.raises(SettingsError, match=r"^config_name: .* has several configurations; use one of small, large$"):
        open_store(str(tmp_path), resolution=8)
    with pytest.raises(SettingsError, match=r"has no configuration 'huge'; use one of small, large$"):
        split_size(str(tmp_path), config_name="huge")
    assert len(open_store(str(tmp_path), config_name="large", split="all", resolution=8)) == 12
    assert split_size(str(tmp_path), "all", config_name="small") == ("train", 4)
    for data in ("glyphs", str(tmp_path / "small")):
        with pytest.raises(SettingsError, match="no configurations; leave it out"):
            open_store(data, config_name="small", resolution=8)


def test_what_datasets_saved_to_the_disk_is_read(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["red", "blue"])})
    rows = {"image": [{"bytes": content, "path": None} for content in CONTENT], "label": [0, 1] * (COUNT // 2)}
    table = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"train": table, "test": table.select(range(4))}).save_to_disk(tmp_path / "both")
    table.save_to_disk(tmp_path / "one")
    (arrow,) = (tmp_path / "one").glob("*.arrow")
    for data, split, count in (("both", "test", 4), ("both", "train", COUNT), ("one", "all", COUNT)):
        store = open_store(str(tmp_path / data), split=split, resolution=8)
        assert len(store) == count and store.label_names == ["red", "blue"] and labels_fit(store)
    assert np.array_equal(pixels_of(arrow).numpy(), PIXELS)


def test_a_file_of_samples_is_read_as_adm_writes_it(tmp_path: Path) -> None:
    np.savez(tmp_path / "samples.npz", PIXELS, np.arange(COUNT) % 2)
    np.savez_compressed(tmp_path / "alone.npz", arr_0=PIXELS)
    store = open_store(str(tmp_path / "samples.npz"), split="all", resolution=8)
    assert np.array_equal(store.images.permute(0, 2, 3, 1).numpy(), PIXELS)
    assert store.labels is not None and store.labels.tolist() == [0, 1] * (COUNT // 2)
    alone = open_store(str(tmp_path / "alone.npz"), split="all", resolution=8)
    assert torch.equal(alone.images, store.images) and alone.labels is None
    assert stored_side(str(tmp_path / "samples.npz"), "all") == 8
    assert len(open_store(str(tmp_path / "samples.npz"), resolution=8)) == COUNT - COUNT // 10


@pytest.mark.parametrize("names", [("train_images", "train_labels", "test_images", "test_labels")])
def test_arrays_are_split_by_their_names(names: tuple[str, ...], tmp_path: Path) -> None:
    labels = (np.arange(COUNT) % 2)[:, None]
    arrays = dict(zip(names, (PIXELS, labels, PIXELS[:4], labels[:4]), strict=True))
    np.savez(tmp_path / "set.npz", **arrays)
    test = open_store(str(tmp_path), split="test", resolution=8)
    assert len(test) == 4 and test.labels is not None and test.labels.tolist() == [0, 1, 0, 1]
    assert len(open_store(str(tmp_path), resolution=8)) == COUNT
    grey = {"x_train": PIXELS[..., 0], "y_train": labels[:, 0], "x_test": PIXELS[:4, ..., 0]}
    np.savez(tmp_path / "grey.npz", **grey)
    assert open_store(str(tmp_path / "grey.npz"), split="test", resolution=8).channels == 1


def test_npy_files_are_images_or_arrays_of_them(tmp_path: Path) -> None:
    np.save(tmp_path / "all.npy", PIXELS.transpose(0, 3, 1, 2))
    assert np.array_equal(pixels_of(tmp_path / "all.npy").numpy(), PIXELS)
    for index, image in enumerate(PIXELS):
        folder = tmp_path / "single" / ("red", "blue")[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{index:02d}.npy", image)
    store = open_store(str(tmp_path / "single"), resolution=8)
    assert store.label_names == ["blue", "red"] and labels_fit(store)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"arr_0": PIXELS / 255}, r"its pixels are float64; give uint8, 0 to 255"),
        ({"arr_0": np.array([{}], object)}, r"arr_0.npy can't be read .*; save plain arrays"),
        ({"mu": np.zeros(8), "sigma": np.zeros((8, 8))}, r"holds no array of images.*only mu float64\[8\], sigma"),
        ({"a": PIXELS, "b": PIXELS}, r"several arrays of images, a uint8\[20, 8, 8, 3\], b .*; keep one, or name them"),
    ],
)
def test_arrays_that_are_no_images_are_named(arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(DataError, match=message):
        open_store(str(tmp_path / "x.npz"), resolution=8)


@pytest.mark.parametrize("annotation", ["cls", "json"])
def test_a_webdataset_has_its_labels(annotation: str, tmp_path: Path) -> None:
    for split, start in (("train", 0), ("train", 10), ("val", 20)):
        with tarfile.open(tmp_path / f"{split}-{start:05d}.tar", "w") as tar:
            for index in range(start, start + 10):
                label = str(index % 2) if annotation == "cls" else json.dumps({"label": index % 2})
                for suffix, content in (("png", CONTENT[index % COUNT]), (annotation, label.encode())):
                    member = tarfile.TarInfo(f"{index:05d}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    for split, count in (("train", 20), ("validation", 10)):
        store = open_store(str(tmp_path), split=split, resolution=8)
        assert store.labels is not None and store.labels.tolist() == [0, 1] * (count // 2)


def test_junk_beside_images_is_none(tmp_path: Path) -> None:
    for name, colour in (("red", RED), ("blue", BLUE)):
        write_pictures(tmp_path / name, 6, colour)
        (tmp_path / name / "._000.png").write_bytes(b"\0\5")
        (tmp_path / name / "Thumbs.db").write_bytes(b"\xd0\xcf")
        write_pictures(tmp_path / name / ".ipynb_checkpoints", 2)
    write_pictures(tmp_path / "__MACOSX" / "red", 3)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "classes.json").write_text("[]")
    store = open_store(str(tmp_path), split="all", resolution=8)
    assert len(store) == 12 and store.label_names == ["blue", "red"]


def test_what_hfgen_wrote_beside_images_is_none(tmp_path: Path, trained_of: Callable[[str], Path]) -> None:
    """A run's grids of samples, and an evaluation's images in parquet files."""
    data, options = tmp_path / "photos", {"split": "all", "resolution": 16, "small_images": "upscale"}
    write_pictures(data, 60)
    images = open_store(str(data), **options).images.clone()
    shutil.copytree(trained_of("vae"), data / "runs" / "vae")
    hfgen.evaluate(trained_of("vae"), str(data), out=data / "ev", n=40, extractor="pixels", **options)
    assert list(data.glob("runs/vae/samples/*.png")) and list(data.glob("ev/dataset/*.parquet"))
    (data / "sketches").mkdir()
    (data / "sketches" / "run.json").write_text('{"speed": 3}')
    write_pictures(data / "sketches", 2)
    store = open_store(str(data), **options)
    assert "left out, since hfgen wrote it: ev, runs/vae" in store.notes
    assert len(store) == 62 and torch.equal(store.images[:60], images)
    # One that is named, or that is all there is, is read; nothing says which of several is meant.
    assert len(open_store(str(data / "ev" / "dataset"), **options)) == 40
    shutil.make_archive(str(tmp_path / "evaluation"), "zip", data, "ev")
    assert len(open_store(str(tmp_path / "evaluation.zip"), **options)) == 40
    for name in ("ev", "runs"):
        shutil.copytree(data / name, tmp_path / "results" / name)
    with pytest.raises(DataError, match="holds only what hfgen wrote, ev, runs/vae; name one of them"):
        open_store(str(tmp_path / "results"), **options)


def test_what_hfgen_wrote_into_the_images_own_folder_is_none(tmp_path: Path, trained_of: Callable[[str], Path]) -> None:
    data, options = tmp_path / "photos", {"split": "all", "resolution": 16, "small_images": "upscale"}
    for name, colour in (("red", RED), ("blue", BLUE)):
        write_pictures(data / name, 30, colour)
    images = open_store(str(data), **options).images.clone()
    shutil.copytree(trained_of("vae"), data / "runs" / "vae")
    hfgen.evaluate(trained_of("vae"), str(data), out=data, n=40, extractor="pixels", **options)
    picture(RED, 0).save(data / "waterfall.png")
    store = open_store(str(data), **options)
    assert "left out, since hfgen wrote it: dataset, runs/vae, waterfall.png" in store.notes
    assert torch.equal(store.images, images) and store.label_names == ["blue", "red"]


def test_a_users_own_files_of_such_names_leave_nothing_out(tmp_path: Path) -> None:
    for index in range(4):
        write_pictures(tmp_path / f"p{index}", 3)
        (tmp_path / f"p{index}" / "study.json").write_text(json.dumps({"schema": 1, "patient": index}))
    store = open_store(str(tmp_path), split="all", resolution=8)
    assert len(store) == 12 and not any("hfgen wrote" in note for note in store.notes)


def test_a_pointer_of_git_lfs_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12345\n")
    with pytest.raises(DataError, match=r"a.jpg can't be read \(it is a pointer of Git LFS; run `git lfs pull`\)"):
        open_store(str(tmp_path), split="all", resolution=8)


def test_images_that_pillow_does_not_read_are_said(tmp_path: Path) -> None:
    for index in range(4):
        Image.fromarray(np.full((8, 8), 60 * index, np.uint8)).save(tmp_path / f"{index}.png")
    for name in ("a.heic", "b.HEIC", "c.dng"):
        (tmp_path / name).write_bytes(b"of a phone")
    store = open_store(str(tmp_path), split="all", resolution=8)
    assert len(store) == 4
    assert "images of kinds that Pillow doesn't read are left out: 1 .dng, 2 .heic" in store.notes
    for path in tmp_path.glob("*.png"):
        path.unlink()
    for data in (tmp_path, tmp_path / "a.heic"):
        with pytest.raises(DataError, match=r"Pillow doesn't read its images \(.*\.heic\); convert"):
            open_store(str(data), resolution=8)


def test_what_pillow_does_not_read_does_not_hide_what_datasets_reads(tmp_path: Path) -> None:
    rows = [{"image": pixels.tolist(), "label": index % 2} for index, pixels in enumerate(PIXELS)]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "logo.svg").write_text("<svg/>")
    assert len(open_store(str(tmp_path), split="all", resolution=8)) == COUNT
    for path in tmp_path.iterdir():
        path.unlink()
    (tmp_path / "0.png").write_bytes(CONTENT[0])
    names = ["0.png", *(f"{index}.heic" for index in range(1, 5))]
    for name in names[1:]:
        (tmp_path / name).write_bytes(b"of a phone")
    (tmp_path / "metadata.csv").write_text("\n".join(["file_name,label", *(f"{name},a" for name in names)]))
    with pytest.raises(
        DataError, match=r"names no image beside it; .*\(Pillow doesn't read 4 .heic; convert them to PNG"
    ):
        open_store(str(tmp_path), split="all", resolution=8)
