"""Images that the caller holds, in place of an address: each form gives the same pixels as a folder of them."""

import re
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import hfgen
from hfgen.data import ImageStore, as_data, draw, open_store, split_size, whole_images
from hfgen.errors import DataError, SettingsError
from hfgen.files import read_json
from hfgen.images import to_float, to_pil

SIDE = 16
ROUNDED = "and rounded to 8 bits"


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Of 40 letters."""
    return draw("glyphs", "train", 0, 40, SIDE).images


def whole(data: Any, **options: Any) -> ImageStore:
    return open_store(as_data(data), split="all", **{"resolution": SIDE, **options})


def table(images: Tensor) -> datasets.Dataset:
    pictures = {"image": to_pil(images), "label": [index % 3 for index in range(len(images))]}
    return datasets.Dataset.from_dict(pictures).cast_column("image", datasets.Image())


class Indexed(torch.utils.data.Dataset):
    """As torchvision's sets are: (tensor in [0, 1], class)."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        return self.images[index].float() / 255, torch.tensor(index % 3)


def test_each_form_holds_the_same_pixels(images: Tensor):
    plain: list[Any] = [images, images.permute(0, 2, 3, 1).numpy(), images[:, 0].numpy(), to_pil(images), list(images)]
    for form in plain:
        assert torch.equal(whole(form).images, images) and whole(form).notes == []
    plain += [list(images.permute(0, 2, 3, 1)), images.permute(0, 2, 3, 1), torch.utils.data.TensorDataset(images)]
    for form in plain[-3:]:
        assert torch.equal(whole(form).images, images) and whole(form).notes == []
    floats: list[Any] = [to_float(images), to_float(images).double().requires_grad_(), list(to_float(images))]
    for form in floats:
        found = whole(form)
        assert torch.equal(found.images, images)
        assert found.notes == [f"floats were taken to be in [-1, 1], {ROUNDED}"]
    labelled = [Indexed(images), table(images), table(images).with_format("torch"), [*table(images)]]
    classes = torch.arange(40) % 3
    labelled += [(images, classes), (images.permute(0, 2, 3, 1).numpy(), classes.double().numpy())]
    labelled += [(to_pil(images), classes.tolist()), (to_float(images), classes), [images, classes]]
    labelled += [(images, classes[:, None]), (images.numpy(), classes[:, None].numpy()), (list(images), list(classes))]
    for form in labelled:
        found = whole(form)
        assert torch.equal(found.images, images)
        assert found.labels is not None and found.labels.tolist() == [index % 3 for index in range(40)]
    assert whole(Indexed(images)).notes == [f"floats were taken to be in [0, 1], {ROUNDED}"]


def test_one_set_is_divided_and_several_are_as_they_are(images: Tensor):
    assert split_size(as_data(images)) == ("test", 4) and split_size(as_data(images), "train") == ("train", 36)
    parts = {"train": images[:30], "validation": to_pil(images[30:])}
    assert split_size(as_data(parts)) == ("validation", 10)
    tables = datasets.DatasetDict({"train": table(images[:30]), "test": table(images[30:])})
    for form in (parts, tables):
        assert torch.equal(open_store(as_data(form), split="test", resolution=SIDE).images, images[30:])


def test_pictures_are_what_their_files_are(tmp_path: Path):
    picture = Image.fromarray(np.arange(20 * 30 * 4, dtype=np.uint8).reshape(20, 30, 4), "RGBA")
    turned = Image.Exif()
    turned[274] = 6
    picture.save(tmp_path / "a.png", exif=turned)
    loaded = Image.open(tmp_path / "a.png")
    found = [whole(form, channels=3) for form in ([loaded], [tmp_path / "a.png"], [{"image": loaded}])]
    assert all(torch.equal(store.images, found[0].images) for store in found)
    assert any("transparent" in note for note in found[0].notes)
    (shape,) = {tuple(image.shape) for image in whole_images(as_data([loaded]), split="all", n=1).images}
    assert shape == (3, 30, 20)


def test_what_changes_is_another_set(images: Tensor):
    data, again, other = as_data(images), as_data(images.clone()), as_data(255 - images)
    assert data == again and hash(data) == hash(again) and data != other
    assert as_data("glyphs") == "glyphs" and as_data(Path("a")) == "a" and as_data(data) is data


def test_a_transform_that_is_not_applied_is_said(images: Tensor):
    assert whole(table(images).with_transform(lambda rows: rows)).notes == [
        "the dataset's transform isn't applied: its stored images are measured"
    ]


def test_what_is_no_set_of_images_is_refused(images: Tensor):
    refused: list[tuple[Any, str]] = [
        (3, "data: a int isn't a set of images; give an address, a tensor"),
        (iter(images), "isn't a set of images"),
        (torch.utils.data.DataLoader(Indexed(images)), "data: a DataLoader isn't a set of images; give its .dataset"),
        ({"photos": images}, "data: a dict of 'photos'; give "),
        ({}, "data: a dict of nothing"),
        (images[0, 0], r"data: shape \(16, 16\) isn't a set"),
        (images[0].permute(1, 2, 0).numpy(), r"data: shape \(16, 16, 1\) isn't a set"),
        (to_pil(images)[0], "data: a Image isn't a set of images; give a list of them"),
        ((images, images), r"data: tuple .*an array of shape \(40, 1, 16, 16\) isn't an image"),
        ((images, [0, 1]), "data: 40 images and 2 labels; give as many"),
        ((images, torch.eye(40)), "isn't an image"),
        (images.float(), "holds floats from 0 to 255; give uint8"),
        (3 * to_float(images), "holds floats from -3 to 3; give uint8"),
        (to_float(images).masked_fill(images == 0, torch.nan), "holds NaN or infinity"),
        ([3, 4], "holds a int, which isn't an image"),
        ([], "has no image in the split train; add images"),
    ]
    for form, words in refused:
        with pytest.raises(DataError, match=words):
            whole(form)
    with pytest.raises(SettingsError, match=r"config_name: Tensor .* has no configurations"):
        whole(images, config_name="a")


def test_a_run_trains_on_them_goes_on_and_refuses_others(images: Tensor, tmp_path: Path):
    def trained(data: Any, **named: Any) -> dict[str, Any]:
        settings = {"model.max_width": 16}
        hfgen.train("vae-glyphs", tmp_path / "run", data=data, resolution=SIDE, settings=settings, **named)
        return read_json(tmp_path / "run" / "run.json")

    pictures = to_pil(images)
    first = trained(pictures, max_images=96)
    assert re.fullmatch(r"list [0-9a-f]{12} \(given as an object\)", first["config"]["data"])
    again = trained([picture.copy() for picture in pictures], max_images=96)
    assert again["data_fingerprint"] == first["data_fingerprint"]
    with pytest.raises(SettingsError, match=r"holds another run \(data is list .* there, list .* here\)"):
        trained(pictures[:-1], max_images=96)
    for name, wrong in (("start_from", hfgen.load(tmp_path / "run")), ("seed", None)):
        with pytest.raises(SettingsError, match=f"{name}: {type(wrong).__name__} is no value"):
            trained(pictures, **{name: wrong})


def test_a_text_that_is_too_long_for_a_file_is_no_address():
    with pytest.raises(DataError, match="isn't one of"):
        open_store("x" * 4000, resolution=SIDE)


def test_labels_that_are_no_classes_are_said_and_a_missing_one_is_unknown(images: Tensor):
    pictures = to_pil(images)
    for given in (lambda n: float(n % 3), lambda n: np.int64(n % 3), lambda n: torch.tensor([n % 3])):
        store = whole([(picture, given(n)) for n, picture in enumerate(pictures)])
        assert store.labels is not None and store.labels.tolist() == [n % 3 for n in range(40)]
    store = whole([(picture, None if n == 7 else n % 3) for n, picture in enumerate(pictures)])
    assert store.labels is not None and store.labels.tolist().count(-1) == 1
    assert any("have no label" in note for note in store.notes)
    for strange, kind in ((np.eye(3)[0], "ndarray"), (pictures[0], "Image"), (0.5, "float")):
        store = whole([(picture, strange) for picture in pictures])
        assert store.labels is None and any(f"labels of type {kind} are left out" in note for note in store.notes)


def test_masks_are_black_and_white_or_said_to_be_black(images: Tensor):
    mask = images > 127
    expected = mask.byte() * 255
    for form in (mask, mask[:, 0].numpy(), list(mask), mask.float(), [one.numpy() for one in mask[:, 0]]):
        assert torch.equal(whole(form).images, expected)
    for form in (mask.byte(), mask.long(), to_pil(mask.byte())):
        assert whole(form).notes == [
            "no image of train has a level above 1 of 255: all are black; store masks as 0 and 255"
        ]
    assert whole(torch.zeros_like(images)).notes == whole(expected).notes == []
