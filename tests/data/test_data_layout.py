"""Splits as users name them: theirs, or a refusal; never a mixture."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest
from pictures import BLUE, RED, colours, png, write_pictures

from hfgen.data import open_store, split_size
from hfgen.data.layout import find_splits, meaning
from hfgen.errors import DataError


@pytest.mark.parametrize(
    ("training", "held_out", "split"),
    [
        ("train", "valid", "validation"),
        ("training", "testing", "test"),
        ("Train", "TEST", "test"),
        ("set/train", "set/val", "validation"),
        ("set-1.0/Training Images", "set-1.0/Test Images", "test"),
        ("train2017", "val2017", "validation"),
        ("TrainSet", "TestSet", "test"),
        ("trainset", "testset", "test"),
        ("my_train", "my_dev", "validation"),
        ("trainval", "test", "test"),
        ("cat/train", "cat/eval", "test"),
    ],
)
@pytest.mark.parametrize("inner", [("",), ("images",), ("a", "b")])
def test_the_splits_of_folders_are_never_mixed(
    training: str, held_out: str, split: str, inner: tuple[str, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for folder in inner:
        write_pictures(tmp_path / training / folder, 6, RED)
        write_pictures(tmp_path / held_out / folder, 4, BLUE)
    train, test = (open_store(str(tmp_path), split=asked, resolution=8) for asked in ("train", "test"))
    assert (train.split, test.split) == ("train", split)
    assert (len(train), len(test)) == (6 * len(inner), 4 * len(inner))
    assert (colours(train), colours(test)) == ({"red"}, {"blue"})
    assert split_size(str(tmp_path)) == (split, len(test))
    # Folders that hold splits, or all images of one, are no classes.
    assert train.label_names == test.label_names == (["a", "b"] if len(inner) == 2 else None)
    said = f"there is no split test: {split} serves as held-out"
    assert (said in test.notes) == (said in caplog.text) == (split != "test")


def test_all_names_of_a_split_ask_for_it(tmp_path: Path) -> None:
    write_pictures(tmp_path / "train", 3)
    write_pictures(tmp_path / "Validation", 2, BLUE)
    for asked in ("val", "valid", "dev", "validation", "VAL"):
        assert open_store(str(tmp_path), split=asked, resolution=8).split == "validation"


def test_classes_above_the_splits_are_classes(tmp_path: Path) -> None:
    for name, colour in (("red", RED), ("blue", BLUE)):
        write_pictures(tmp_path / name / "train", 5, colour)
        write_pictures(tmp_path / name / "test", 2, colour)
    store = open_store(str(tmp_path), split="test", resolution=8)
    assert store.labels is not None and store.label_names == ["blue", "red"] and len(store) == 4


def test_file_names_tell_splits_where_all_of_them_do() -> None:
    paths = [PurePosixPath(f"{split}_{index}.png") for split in ("train", "test") for index in range(3)]
    assert find_splits("x", paths).splits == {"train": [0, 1, 2], "test": [3, 4, 5]}
    undivided = find_splits("x", [*paths, PurePosixPath("cat.png")])
    assert list(undivided.splits) == ["train"] and len(undivided.splits["train"]) == 7


def test_classes_may_be_called_like_splits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("anime [hq]", "photo #1", "train station", "test 2"):
        write_pictures(tmp_path / name, 10)
    store = open_store(str(tmp_path), resolution=8)
    assert store.label_names == ["anime [hq]", "photo #1", "test 2", "train station"] and len(store) == 36
    assert "taken for classes, not for splits: test 2/, train station/" in caplog.text


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["val", "dev", "train"], r"has dev, val for one split, validation; keep one of them"),
        (["Train", "train", "test"], r"has Train, train for one split, train"),
        (["trainA", "trainB", "testA", "testB"], r"has .*A, .*B for one split"),
        (["test", "cats", "dogs"], r"holds cats/, dogs/, test/, and only test/ is called like a split; put the rest"),
        (["train/cats", "train/dogs", "extra"], r"only train/ is called like a split"),
        (["train", ""], r"holds train/, 3 files beside them, and only train/"),
        (["one/train", "one/test", "two"], r"only test/, train/ is called"),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(folders: list[str], message: str, tmp_path: Path) -> None:
    for folder in folders:
        write_pictures(tmp_path / folder, 3)
    with pytest.raises(DataError, match=rf"^data: .*{message}"):
        open_store(str(tmp_path), resolution=8)


def test_what_lies_beside_the_splits_is_left_out_and_said(tmp_path: Path) -> None:
    for folder, count in (("train", 5), ("test", 4), ("extra", 3), ("", 2)):
        write_pictures(tmp_path / folder, count)
    store = open_store(str(tmp_path), resolution=8)
    assert len(store) == 5
    assert "5 files of extra/, the top folder belong to no split and are left out" in store.notes


def test_parts_of_a_split_are_one() -> None:
    paths = [PurePosixPath(f"{folder}/{index}.png") for folder in ("train_1", "train_2", "test") for index in range(2)]
    assert find_splits("x", paths).splits == {"train": [0, 1, 2, 3], "test": [4, 5]}


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *(("Testing", "test"), ("evaluation", "test"), ("val-01", "validation"), ("trains", None), ("testament", None)),
        *(("train_test", None), ("contest", None), ("", None), ("2017", None)),
    ],
)
def test_a_name_means_a_split_by_a_whole_word(name: str, split: str | None) -> None:
    assert meaning(name) == split


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "in a folder", "two", "nested"])
def test_an_archive_is_as_its_folder(kind: str, tmp_path: Path) -> None:
    files = {
        f"{split}/{name}/{index}.png": png(colour, index)
        for split, count in (("train", 5), ("test", 3))
        for name, colour in (("blue", BLUE), ("red", RED))
        for index in range(count)
    }
    junk = {"__MACOSX/train/red/._0.png": b"\0", "set/.DS_Store": b"\0", "Thumbs.db": b"\0"}
    data = tmp_path / "set"
    data.mkdir()
    if kind == "two":
        for split in ("train", "test"):
            inner = {name.partition("/")[2]: content for name, content in files.items() if name.startswith(split)}
            (data / f"{split}.zip").write_bytes(zipped(inner))
    elif kind == "nested":
        (data / "outer.zip").write_bytes(zipped({"inner.zip": zipped(files)}))
    else:
        packed = {**{f"set/{name}": content for name, content in files.items()}, **junk}
        path = data / f"set.{'zip' if kind == 'in a folder' else kind}"
        if "tar" in kind:
            with tarfile.open(path, "w:gz" if kind.endswith("gz") else "w") as tar:
                for name, content in packed.items():
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
        else:
            path.write_bytes(zipped(packed))
        data = data if kind == "in a folder" else path
    for split, count in (("train", 10), ("test", 6)):
        store = open_store(str(data), split=split, resolution=8)
        assert store.label_names == ["blue", "red"] and len(store) == count
        assert store.labels is not None and store.labels.bincount().tolist() == [count // 2] * 2


@pytest.mark.parametrize("filters", [True, False])
def test_files_outside_of_an_archives_folder_are_refused(
    filters: bool, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not filters:
        # As in Python 3.11.0 to 3.11.3.
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    # A cache behind a link, as a temporary folder of macOS is.
    cache = tmp_path_factory.mktemp("cache")
    (link := cache.with_name(f"{cache.name}-link")).symlink_to(cache)
    monkeypatch.setenv("HFGEN_CACHE", str(link))
    for name, outside in (("good.tar", False), ("bad.tar", True)):
        with tarfile.open(tmp_path / name, "w") as tar:
            for index in range(6):
                member = tarfile.TarInfo(f"../{index}.png" if outside and index == 4 else f"{index}.png")
                member.size = len(png(RED, index))
                tar.addfile(member, io.BytesIO(png(RED, index)))
    assert len(open_store(str(tmp_path / "good.tar"), split="all", resolution=8)) == 6
    with pytest.raises(DataError, match=r"bad\.tar can't be unpacked \(.*4\.png.* outside"):
        open_store(str(tmp_path / "bad.tar"), split="all", resolution=8)
    assert not list(tmp_path.rglob("4.png"))


def zipped(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.npz"])
def test_a_damaged_archive_is_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(zipped({"0.png": png()})[:40])
    for data in (tmp_path, tmp_path / name):
        with pytest.raises(DataError, match=rf"^data: {tmp_path}/{name} can't be unpacked \(.*\); fetch it again"):
            open_store(str(data), resolution=8)


def test_an_archive_of_another_kind_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.7z").write_bytes(b"7z")
    with pytest.raises(DataError, match="archive of another kind than zip and tar; unpack it"):
        open_store(str(tmp_path / "a.7z"), resolution=8)


@pytest.mark.parametrize("name", ["[D] photos", "what? {a,b}", "star*", "C++ (1)#2", "50% off", "写真", ".hidden/x"])
def test_any_character_may_be_in_a_path(name: str, tmp_path: Path) -> None:
    import datasets

    write_pictures(tmp_path / name / "x", 6)
    write_pictures(tmp_path / name / "y", 6, BLUE)
    assert len(open_store(str(tmp_path / name), resolution=8)) == 11
    folder = tmp_path / "parquet" / name
    folder.mkdir(parents=True)
    rows = datasets.Dataset.from_dict({"image": [{"bytes": png(seed=index)} for index in range(4)]})
    rows.to_parquet(folder / "[a] test.parquet")
    assert len(open_store(str(folder), split="test", resolution=8)) == 4


def test_links_are_followed_and_not_in_circles(tmp_path: Path) -> None:
    write_pictures(tmp_path / "real" / "red", 6)
    write_pictures(tmp_path / "real" / "blue", 6, BLUE)
    (tmp_path / "links").mkdir()
    for name in ("red", "blue"):
        (tmp_path / "links" / name).symlink_to(tmp_path / "real" / name)
    (tmp_path / "root").symlink_to(tmp_path / "links")
    opened = [open_store(str(tmp_path / name), resolution=8) for name in ("real", "links", "root")]
    assert len({store.fingerprint for store in opened}) == 1 and opened[0].label_names == ["blue", "red"]
    (tmp_path / "real" / "circle").symlink_to(tmp_path / "real")
    assert len(open_store(str(tmp_path / "real"), resolution=8)) == 11


def test_one_image_is_for_everything_or_nothing(tmp_path: Path) -> None:
    write_pictures(tmp_path, 1)
    with pytest.raises(DataError, match=r"has one image, which is held out as test: .*--split all$"):
        open_store(str(tmp_path), resolution=8)
    for data in (tmp_path, tmp_path / "000.png"):
        assert len(open_store(str(data), split="all", resolution=8)) == 1


def test_a_split_is_counted_without_decoding(tmp_path: Path) -> None:
    write_pictures(tmp_path, 30)
    for path in tmp_path.iterdir():
        path.write_text("no image")
    assert split_size(str(tmp_path)) == ("test", 3)
    assert split_size(str(tmp_path), "train") == ("train", 27)
    assert split_size(str(tmp_path), "all") == ("train", 30)
    assert split_size("glyphs") == ("test", 5000)
    with pytest.raises(DataError, match="no split 'dev'; use train, test or all"):
        split_size(str(tmp_path), "dev")
