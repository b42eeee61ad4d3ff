"""Which columns of a dataset are the images, their labels and their conditions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hfgen.data.decode import Stored
from hfgen.errors import DataError, SettingsError

if TYPE_CHECKING:
    from datasets import Features

NONE = "none"
"""The `label_column` that leaves the labels out."""

IMAGE_NAMES = ("image", "img", "images", "jpg", "png", "jpeg", "webp", "pixel_values", "picture", "photo")
LABEL_NAMES = (
    *("label", "labels", "fine_label", "class", "cls", "category", "target", "label_id", "class_id", "category_id"),
    *("class_label", "label_name", "class_name", "classes", "target_name", "y", "digit", "species", "breed"),
)


@dataclass(frozen=True)
class Columns:
    """The dataset's columns by our names `image`, `label` where there is one, `condition` where it is asked for.

    Attributes:
        names: Ours -> the dataset's.
        label_field: The field of the label's column, where that is a structure; else None.
        notes: A line each of what was guessed or left out.
    """

    names: dict[str, str]
    label_field: str | None
    notes: list[str]


def choose_columns(
    name: str, features: Features, image: str | None, label: str | None, condition: str | None
) -> Columns:
    """Find the columns, by what they are called and hold.

    Args:
        name: DATA, for errors.
        features: The dataset's columns.
        image: The column of images, where the user named it.
        label: Likewise the column of labels; a dot leads to a structure's field, and `none` leaves them out.
        condition: The column of images that condition the others.

    Raises:
        DataError: there is no column of images, or of conditions.
        SettingsError: a named column isn't there, or is of another kind.
    """
    images = _image_columns(features)
    names, notes = {}, []
    if condition is not None:
        if condition not in images or len(images) < 2:
            raise no_condition(name, condition, features)
        images.remove(condition)
        names["condition"] = condition
    names["image"], guessed = _image_column(name, images, features, image)
    found = None if label == NONE else _label_column(name, features, {*names.values()}, label)
    if guessed and condition is None:
        notes.append(guessed)
    if isinstance(found, str):
        notes.append(found)
    elif found is not None:
        names["label"] = found[0]
        notes += found[2:]
    field = found[1] if isinstance(found, tuple) else None
    return Columns(names, field, notes)


def no_condition(name: str, condition: str, columns: Iterable[str]) -> DataError:
    """The error for pairs that DATA hasn't."""
    return DataError(
        f"condition: {name} has no column of images {condition!r} beside the images to make, only "
        f"{', '.join(columns)}; name one with --model.condition, or give paired data"
    )


def as_stored(cell: Any) -> Stored:
    """A cell of a column of images, as `decode` takes it; the first of several images."""
    if isinstance(cell, list | tuple):
        if not cell:
            return None
        if isinstance(cell[0], bytes | Mapping | None):
            return as_stored(cell[0])
        return np.asarray(cell)
    if isinstance(cell, bytes):
        return {"bytes": cell, "path": None}
    if isinstance(cell, Mapping):
        return {"bytes": cell.get("bytes"), "path": cell.get("path")} if any(cell.values()) else None
    return cell


def _image_columns(features: Features) -> list[str]:
    """Columns that may hold images: those declared as such, or else those of bytes or of arrays."""
    from datasets import Image

    declared = [column for column, feature in features.items() if isinstance(_element(feature), Image)]
    if declared:
        return declared
    return [column for column, feature in features.items() if _is_bytes(_element(feature)) or _is_array(feature)]


def _element(feature: Any) -> Any:
    from datasets import LargeList, List

    if isinstance(feature, List | LargeList):
        return feature.feature
    return feature[0] if isinstance(feature, list) and feature else feature


def _is_bytes(feature: Any) -> bool:
    from datasets import Value

    if isinstance(feature, dict):
        return "bytes" in feature and _is_bytes(feature["bytes"])
    return isinstance(feature, Value) and "binary" in feature.dtype


def _is_array(feature: Any) -> bool:
    """Rows of pixels: nested lists, two or three deep, of whole numbers."""
    from datasets import Array2D, Array3D, Value

    if isinstance(feature, Array2D | Array3D):
        return "int" in feature.dtype
    depth, inner = 0, feature
    while (element := _element(inner)) is not inner:
        depth, inner = depth + 1, element
    return depth in (2, 3) and isinstance(inner, Value) and "int" in inner.dtype


def _image_column(name: str, columns: list[str], features: Features, asked: str | None) -> tuple[str, str | None]:
    from datasets import List, Value

    if asked is not None:
        if asked not in columns and asked not in features:
            raise SettingsError(f"image_column: {name} has no column {asked!r}; it has {', '.join(features)}")
        feature = features[asked]
        if asked not in columns and not (_is_bytes(_element(feature)) or _is_array(feature)):
            raise SettingsError(f"image_column: {asked} of {name} holds no images; use {' or '.join(columns)}")
        return asked, None
    if not columns:
        likely = next((column for column in IMAGE_NAMES if column in features), None)
        reason = ""
        if likely and isinstance(features[likely], Value) and "string" in features[likely].dtype:
            reason = f": {likely} holds addresses or paths, which aren't fetched"
        elif likely and isinstance(features[likely], List):
            reason = f": {likely} holds flat lists, whose height and width are unknown"
        raise DataError(
            f"data: {name} has no column of images{reason}, only {', '.join(features)}; name a folder of images, "
            "or a dataset whose viewer shows them"
        )
    chosen = next((column for column in IMAGE_NAMES if column in columns), columns[0])
    notes = []
    if len(columns) > 1 and chosen not in ("image", "img"):
        notes.append(f"images are the column {chosen} of {', '.join(columns)}; --image_column takes another")
    if isinstance(features[chosen], List) and not _is_array(features[chosen]):
        notes.append(f"of the lists in {chosen} the first image is used")
    return chosen, "; ".join(notes) or None


def _label_column(
    name: str, features: Features, taken: set[str], asked: str | None
) -> tuple[str, str | None] | tuple[str, str | None, str] | str | None:
    """Column and field of the labels, perhaps with a line about the choice; or a line why there are none."""
    from datasets import ClassLabel

    images = {*taken, *_image_columns(features)}
    fields = {column: feature for column, feature in _fields(features).items() if column not in images}
    if asked is not None:
        if asked not in fields:
            raise SettingsError(f"label_column: {name} has no column {asked!r}; use {', '.join(fields) or NONE}")
        if (reason := _unfit(fields[asked])) is not None:
            raise SettingsError(f"label_column: {asked} of {name} {reason}; name another, or {NONE}")
        return _split(asked, features)
    called = [column for known in LABEL_NAMES for column in fields if column.rpartition(".")[2].lower() == known]
    called += [column for column, feature in fields.items() if isinstance(feature, ClassLabel) and column not in called]
    fit = [column for column in called if _unfit(fields[column]) is None]
    if not fit:
        return f"labels are left out: {called[0]} {_unfit(fields[called[0]])}" if called else None
    column, field = _split(fit[0], features)
    if len(fit) > 1:
        return column, field, f"labels are the column {fit[0]} of {', '.join(fit)}; --label_column takes another"
    return column, field


def _fields(features: Features) -> dict[str, Any]:
    """The columns, and `column.field` for the fields of structures."""
    found = {}
    for column, feature in features.items():
        found[column] = feature
        if isinstance(feature, dict):
            found |= {f"{column}.{field}": inner for field, inner in feature.items()}
    return found


def _split(path: str, features: Features) -> tuple[str, str | None]:
    if path in features:
        return path, None
    column, _, field = path.partition(".")
    return column, field


def _unfit(feature: Any) -> str | None:
    """Why a column can't hold one class an image, or None."""
    from datasets import ClassLabel, Value

    if isinstance(feature, ClassLabel):
        return None
    if not isinstance(feature, Value):
        return "holds several values an image" if not isinstance(feature, dict) else "holds structures"
    kinds = ("int", "string", "bool", "float", "decimal")
    return None if any(kind in feature.dtype for kind in kinds) else f"holds {feature.dtype}"
