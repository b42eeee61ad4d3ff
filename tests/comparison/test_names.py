"""Models are told apart by as little as it takes, before anything is measured."""

from pathlib import Path

import pytest

from hfgen.comparison.names import distinct_names
from hfgen.comparison.protocol import check_same_images
from hfgen.errors import SettingsError


@pytest.mark.parametrize(
    ("models", "names"),
    [
        (["runs/vae/pretrained", "org/gan@abc"], ["vae", "gan"]),
        (["org/vae@v1", "org/vae@v2"], ["vae@v1", "vae@v2"]),
        (["org/vae", "org/vae@v2"], ["vae", "vae@v2"]),
        (["a/x/vae", "b/x/vae", "b/x/vae@v2"], ["a-x-vae", "b-x-vae", "b-x-vae@v2"]),
    ],
)
def test_a_revision_is_named_only_where_nothing_else_tells_two_apart(models: list[str], names: list[str]):
    assert distinct_names(models) == names


def test_folders_that_exist_are_told_apart_by_what_was_not_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for place in ("one/vae/pretrained", "two/vae"):
        (tmp_path / place).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "one")
    assert distinct_names(["vae", "../two/vae"]) == ["one-vae", "two-vae"]
    assert distinct_names(["vae/pretrained", "../two"]) == ["vae", "two"]
    with pytest.raises(SettingsError, match=r"^models: vae/pretrained is given twice"):
        distinct_names(["vae", "vae/pretrained"])


@pytest.mark.parametrize("field", ["resolution", "channels"])
def test_models_of_other_images_are_refused_by_name(field: str):
    alike = {"resolution": 32, "channels": 3}
    other = {**alike, field: 1}
    check_same_images({"a": dict(alike), "b": dict(alike)})
    check_same_images({"a": dict(alike), "b": {**alike, field: None}})
    with pytest.raises(SettingsError, match=rf"^{field}: {alike[field]} of a, but 1 of c; compare models"):
        check_same_images({"a": dict(alike), "b": {**alike, field: None}, "c": other})
