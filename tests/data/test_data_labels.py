"""Labels as users keep them: right, or a line that says why they are left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pictures import BLUE, GREEN, RED, labels_fit, png, write_pictures

from hfgen.data import ImageStore, open_store
from hfgen.data.labels import classes_of
from hfgen.errors import DataError, SettingsError


def write_rows(folder: Path, features: dict[str, Any], split: str = "train", **columns: list[Any]) -> None:
    """A parquet file of red and blue images in turn, and columns of the given features."""
    import datasets

    folder.mkdir(parents=True, exist_ok=True)
    count = len(next(iter(columns.values())))
    images = [{"bytes": png((RED, BLUE)[index % 2], index), "path": None} for index in range(count)]
    table = datasets.Dataset.from_dict(
        {"image": images, **columns}, features=datasets.Features({"image": datasets.Image(), **features})
    )
    table.to_parquet(folder / f"{split}-00000-of-00001.parquet")


def opened(tmp_path: Path, kind: str, values: list[Any], column: str = "label") -> ImageStore:
    import datasets

    write_rows(tmp_path / "set", {column: datasets.Value(kind)}, **{column: values})
    return open_store(str(tmp_path / "set"), split="all", resolution=8)


@pytest.mark.parametrize(
    ("kind", "values", "names", "classes", "said"),
    [
        ("int64", [0, 1], None, [0, 1], None),
        ("int64", [1, 2], ["1", "2"], [0, 1], "labels 1, 2 of label became classes 0 to 1"),
        ("int64", [100_001, 100_000], ["100000", "100001"], [1, 0], "labels 100000, 100001 of label became classes"),
        ("uint8", [7, 3], ["3", "7"], [1, 0], "labels 3, 7 of label became classes 0 to 1"),
        ("int64", [-1, 1], ["-1", "1"], [0, 1], "labels -1, 1 of label became classes 0 to 1"),
        ("string", ["red", "blue"], ["blue", "red"], [1, 0], None),
        ("string", ["10", "9"], ["9", "10"], [1, 0], "labels 9, 10 of label became classes 0 to 1"),
        ("large_string", ["b", ""], ["b"], [0, -1], "10 of the 20 images of train have no label"),
        ("bool", [True, False], ["false", "true"], [1, 0], None),
        ("float32", [0.0, 1.0], None, [0, 1], None),
        ("float64", [1.0, float("nan")], ["1"], [0, -1], "have no label"),
        ("int64", [0, None], None, [0, -1], "10 of the 20 images of train have no label"),
        ("float32", [0.5, 1.0], None, None, "labels are left out: label holds 0.5, 1.0, which aren't classes"),
        ("timestamp[s]", [0, 1], None, None, "labels are left out: label holds timestamp"),
        ("int64", [-1, -1], None, None, "labels are left out: label holds none"),
    ],
)
def test_labels_of_every_kind(
    kind: str, values: list[Any], names: Any, classes: Any, said: str | None, tmp_path: Path
) -> None:
    import datetime

    if kind.startswith("timestamp"):
        values = [datetime.datetime(2020, 1, 1 + value) for value in values]
    store = opened(tmp_path, kind, values * 10)
    assert store.label_names == names
    assert (None if store.labels is None else store.labels.tolist()) == (classes * 10 if classes else None)
    assert store.classes == (0 if classes is None or -1 in classes else len(set(classes)))
    notes = [note for note in store.notes if "label" in note or "class" in note]
    assert any(said in note for note in notes) if said else not notes


def test_values_of_which_each_image_has_its_own_are_no_classes() -> None:
    classes, notes = classes_of("label", {f"caption {index}": 1 for index in range(30)})
    assert classes is None and notes == ["labels are left out: label has 30 values in 30 images: no classes"]
    classes, _ = classes_of("label", dict.fromkeys(range(15), 1))
    assert classes is not None and [classes.number(index) for index in (0, 14)] == [0, 14]


@pytest.mark.parametrize("column", ["class", "cls", "category", "Label", "target", "digit"])
def test_other_usual_names_of_labels_are_found(column: str, tmp_path: Path) -> None:
    store = opened(tmp_path, "string", ["red", "blue"] * 10, column)
    assert store.label_names == ["blue", "red"] and labels_fit(store)


def test_classes_are_the_same_in_all_splits(tmp_path: Path) -> None:
    import datasets

    for split, values in (("train", [5, 9, 7] * 4), ("test", [7, 7])):
        write_rows(tmp_path / "set", {"label": datasets.Value("int64")}, split, label=values)
    train, test = (open_store(str(tmp_path / "set"), split=split, resolution=8) for split in ("train", "test"))
    assert train.label_names == test.label_names == ["5", "7", "9"]
    assert test.labels is not None and test.labels.tolist() == [1, 1]
    assert "2 of the 3 classes have no image in test: 5, 9" in test.notes


def test_the_user_names_the_columns(tmp_path: Path) -> None:
    import datasets

    features = {"label": datasets.Value("int64"), "kind": datasets.Value("string"), "flip": datasets.Image()}
    flipped = [{"bytes": png((BLUE, RED)[index % 2], index), "path": None} for index in range(20)]
    columns = {"label": [0, 1] * 10, "kind": ["red", "blue"] * 10, "flip": flipped}
    write_rows(tmp_path / "set", features, **columns)
    options: dict[str, Any] = {"split": "all", "resolution": 8}
    assert labels_fit(open_store(str(tmp_path / "set"), label_column="kind", **options))
    assert open_store(str(tmp_path / "set"), label_column="none", **options).labels is None
    store = open_store(str(tmp_path / "set"), image_column="flip", label_column="kind", **options)
    assert store.labels is not None and not labels_fit(store)
    for option, message in (
        ({"image_column": "kind"}, "image_column: kind of .* holds no images; use image or flip"),
        ({"image_column": "x"}, "image_column: .* has no column 'x'; it has image, label, kind, flip"),
        ({"label_column": "x"}, "label_column: .* has no column 'x'; use label, kind"),
    ):
        with pytest.raises(SettingsError, match=message):
            open_store(str(tmp_path / "set"), **option, **options)


def test_of_several_columns_the_choice_is_said(tmp_path: Path) -> None:
    import datasets

    features = {name: datasets.ClassLabel(names=["a", "b"]) for name in ("coarse_label", "fine_label")}
    write_rows(tmp_path / "set", features, coarse_label=[0] * 20, fine_label=[0, 1] * 10)
    store = open_store(str(tmp_path / "set"), split="all", resolution=8)
    assert store.labels is not None and store.labels.tolist() == [0, 1] * 10
    assert "labels are the column fine_label of fine_label, coarse_label; --label_column takes another" in store.notes


def test_several_values_an_image_are_left_out_and_said(tmp_path: Path) -> None:
    import datasets

    write_rows(tmp_path / "set", {"labels": datasets.List(datasets.Value("int64"))}, labels=[[0, 1]] * 10)
    store = open_store(str(tmp_path / "set"), split="all", resolution=8)
    assert store.labels is None
    assert "labels are left out: labels holds several values an image" in store.notes


def rows_of(*rows: str) -> str:
    return "\n".join(rows) + "\n"


@pytest.mark.parametrize(
    ("name", "header", "row"),
    [
        ("metadata.csv", "file_name,label,text", "images/{i:03d}.png,{c},a picture"),
        ("metadata.csv", "file_name;label", "images/{i:03d}.png;{c}"),
        ("metadata.jsonl", None, '{{"file_name": "images/{i:03d}.png", "label": "{c}"}}'),
        ("labels.csv", "filename,class", "{i:03d}.png,{c}"),
        ("train.csv", "id,breed", "{i:03d},{c}"),
        ("labels.tsv", "Image Name\tLabel", "images\\{i:03d}.png\t{c}"),
        ("list.csv", "path, category", "./images/{i:03d}.png, {c}"),
    ],
)
def test_a_table_beside_the_images_gives_labels(name: str, header: str | None, row: str, tmp_path: Path) -> None:
    write_pictures(tmp_path / "images", 20)
    write_pictures(tmp_path / "more", 20, BLUE)
    for index in range(20):
        (tmp_path / "more" / f"{index:03d}.png").rename(tmp_path / "images" / f"{20 + index:03d}.png")
    (tmp_path / "more").rmdir()
    rows = [row.format(i=index, c="red" if index < 20 else "blue") for index in range(40)]
    (tmp_path / name).write_text(rows_of(*([header] if header else []), *rows))
    store = open_store(str(tmp_path), resolution=8)
    assert store.label_names == ["blue", "red"] and len(store) == 36 and labels_fit(store)


@pytest.mark.parametrize("table", ["labels.csv", "metadata.csv"])
@pytest.mark.parametrize("begin", ["{home}/set/", "set/", "./set/", "set\\\\", "../{name}/set/"])
def test_absolute_paths_and_those_from_here_find_their_images(
    table: str, begin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = ["file_name,label"]
    # The same names in both folders: a name alone would tell nothing.
    for folder, label in (("a", "red"), ("b", "blue")):
        write_pictures(Path("set", folder), 6, RED if folder == "a" else BLUE)
        place = begin.format(home=tmp_path, name=tmp_path.name) + folder
        rows += [f"{place}/{index:03d}.png,{label}" for index in range(6)]
    Path("set", table).write_text(rows_of(*rows))
    store = open_store("set", split="all", resolution=8)
    assert store.label_names == ["blue", "red"] and len(store) == 12 and labels_fit(store)


@pytest.mark.parametrize(
    ("begin", "said"),
    [
        ("", "isn't used: most images that it names, as 900.png, aren't beside it; write paths from its folder"),
        ("x/", "isn't used: most images that it names, as x/900.png, aren't beside it; write paths from its folder"),
        ("/before/train/", "isn't used: it names no image by its path, as /before/train/000.png; write paths from"),
    ],
)
def test_a_table_of_other_images_is_said_and_one_without_files_is_not(begin: str, said: str, tmp_path: Path) -> None:
    write_pictures(tmp_path / "test", 6)
    first = 0 if begin.startswith("/") else 900
    rows = [f"{begin}{first + index:03d}.png,{index % 2}" for index in range(6)]
    (tmp_path / "labels.csv").write_text(rows_of("file,label", *rows))
    (tmp_path / "losses.csv").write_text(rows_of("step,loss", "900,1.5", "901,2.5"))
    store = open_store(str(tmp_path), split="all", resolution=8)
    (note,) = (note for note in store.notes if ".csv" in note)
    assert note.startswith(f"labels.csv {said}") and store.labels is None


def test_metadata_above_the_splits_gives_labels_and_no_phantoms(tmp_path: Path) -> None:
    rows = ["file_name,label"]
    for split, count in (("train", 12), ("test", 6)):
        write_pictures(tmp_path / split, count)
        rows += [f"{split}/{index:03d}.png,{index % 2}" for index in range(count)]
    (tmp_path / "metadata.csv").write_text(rows_of(*rows))
    for split, count in (("train", 12), ("test", 6)):
        store = open_store(str(tmp_path), split=split, resolution=8)
        assert store.labels is not None and store.labels.tolist() == [0, 1] * (count // 2)
        assert store.classes == 2


def test_a_column_of_metadata_tells_splits(tmp_path: Path) -> None:
    write_pictures(tmp_path, 10)
    rows = [f"{index:03d}.png,{'train' if index < 7 else 'valid'}" for index in range(10)]
    (tmp_path / "metadata.csv").write_text(rows_of("file_name,split", *rows))
    store = open_store(str(tmp_path), split="test", resolution=8)
    assert (store.split, len(store), store.labels) == ("validation", 3, None)
    assert "splits are taken from the column split of the metadata" in store.notes


def test_what_metadata_and_images_lack_is_said(tmp_path: Path) -> None:
    write_pictures(tmp_path / "a", 10)
    write_pictures(tmp_path / "b", 10)
    rows = [f"{index:03d}.png,{index % 2}" for index in (*range(9), 99)]
    (tmp_path / "a" / "metadata.csv").write_text(rows_of("file_name,label", *rows))
    (tmp_path / "b" / "labels.csv").write_text(rows_of("file_name,label", *rows))
    one, two = (open_store(str(tmp_path / name), split="all", resolution=8) for name in "ab")
    assert len(one) == 9 and one.classes == 2
    assert "1 rows of metadata.csv name no image and are left out" in one.notes
    assert "1 images have no row in metadata.csv: they are left out" in one.notes
    assert len(two) == 10 and two.labels is not None and two.labels.tolist()[-1] == -1
    assert "1 images have no row in labels.csv: they are kept, without labels" in two.notes
    (tmp_path / "a" / "metadata.csv").write_text(rows_of("file_name,label", "x.png,0", "y.png,1"))
    with pytest.raises(DataError, match=r"metadata.csv names no image beside it; write their paths into file_name"):
        open_store(str(tmp_path / "a"), resolution=8)


def test_names_of_several_images_are_said(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write_pictures(tmp_path / split, 3)
    (tmp_path / "labels.csv").write_text(rows_of("file,label", "000.png,1", "001.png,2", "002.png,1"))
    store = open_store(str(tmp_path), resolution=8)
    assert store.labels is None and any("labels.csv isn't used: several images" in note for note in store.notes)


def test_folders_of_numbers_keep_their_names_and_order(tmp_path: Path) -> None:
    for index in range(12):
        write_pictures(tmp_path / str(index), 2)
    assert open_store(str(tmp_path), resolution=8).label_names == [str(index) for index in range(12)]


def test_metadata_may_name_the_conditions(tmp_path: Path) -> None:
    write_pictures(tmp_path / "photo", 6)
    write_pictures(tmp_path / "sketch", 6, BLUE)
    rows = [f"photo/{index:03d}.png,sketch/{index:03d}.png" for index in range(6)]
    (tmp_path / "metadata.csv").write_text(rows_of("file_name,sketch_file_name", *rows))
    store = open_store(str(tmp_path), split="all", resolution=8, condition=("sketch", 3))
    assert store.images.shape == (6, 6, 8, 8)
    assert (store.images[:, 0].float().mean() > 150) and (store.images[:, 5].float().mean() > 150)
    rows = [row.replace("photo", "elsewhere") for row in rows]
    for name in ("file_name", "File_Name", "image"):
        (tmp_path / "metadata.csv").write_text(rows_of(f"{name},sketch_file_name", *rows))
        with pytest.raises(DataError, match=r"metadata.csv names no image beside it; write their paths into file_name"):
            open_store(str(tmp_path), split="all", resolution=8)


def test_unlabelled_splits_are_no_classes(tmp_path: Path) -> None:
    for inner in ("", "images"):
        for split, count in (("train", 6), ("test", 4)):
            write_pictures(tmp_path / f"set{inner}" / split / inner, count)
        for split in ("train", "test"):
            store = open_store(str(tmp_path / f"set{inner}"), split=split, resolution=8)
            assert store.labels is None and store.label_names is None and store.classes == 0


def test_folders_that_tell_no_class_are_said(tmp_path: Path) -> None:
    for folder in ("a/one", "b/two"):
        write_pictures(tmp_path / "deep" / folder, 5)
        write_pictures(tmp_path / "uneven" / folder, 5)
        write_pictures(tmp_path / "loose" / folder, 5)
    write_pictures(tmp_path / "uneven" / "b", 5)
    write_pictures(tmp_path / "loose", 2)
    (tmp_path / "deep" / "c").mkdir()
    deep, uneven, loose = (open_store(str(tmp_path / name), resolution=8) for name in ("deep", "uneven", "loose"))
    assert deep.label_names == ["one", "two"]
    assert "labels are the names of the innermost folders, one, two" in deep.notes
    assert "empty folders: c" in deep.notes
    assert uneven.label_names == ["a", "b"]
    assert "labels are the names of the outermost folders, a, b" in uneven.notes
    assert loose.labels is None
    assert "labels are left out: 2 images lie beside the folders a, b" in loose.notes


def test_a_split_without_class_folders_has_unknown_labels(tmp_path: Path) -> None:
    for name, colour in (("red", RED), ("green", GREEN)):
        write_pictures(tmp_path / "train" / name, 5, colour)
    write_pictures(tmp_path / "test", 4)
    train, test = (open_store(str(tmp_path), split=split, resolution=8) for split in ("train", "test"))
    assert train.classes == 2 and labels_fit(train)
    assert test.labels is not None and set(test.labels.tolist()) == {-1} and test.classes == 0
    assert "test has no class folders: its labels are unknown" in test.notes


def test_captions_beside_images_are_no_labels(tmp_path: Path) -> None:
    write_pictures(tmp_path, 10, suffix=".JPG")
    for path in list(tmp_path.iterdir()):
        path.with_suffix(".txt").write_text("a picture")
    store = open_store(str(tmp_path), resolution=8)
    assert len(store) == 9 and store.labels is None
