"""Files are whole or absent; pixels survive every conversion."""

import json
import os
import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from hfgen.errors import UserError
from hfgen.files import atomic_folder, read_json, sha256, write_json, write_text
from hfgen.images import from_pil, grid, to_float, to_pil, to_uint8, unit_to_uint8


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    write_json(tmp_path / "a.json", {"old": 1})
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(tmp_path / "a.json", {"new": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"old": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_failed_folder_leaves_the_old_one_and_nothing_else(tmp_path: Path):
    for text in ("old", "new"):
        try:
            with atomic_folder(tmp_path / "out") as temporary:
                write_text(temporary / "file.txt", text)
                if text == "new":
                    raise OSError("the disk is gone")
        except OSError:
            pass
    assert (tmp_path / "out" / "file.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_is_replaced_whole(tmp_path: Path):
    for name in ("one.txt", "two.txt"):
        with atomic_folder(tmp_path / "out") as temporary:
            write_text(temporary / name, name)
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "two.txt"]


def test_writers_of_the_same_folder_replace_each_other(tmp_path: Path):
    """As two first commands of a user do, which fill one cache."""

    def write(writer: int) -> None:
        for _ in range(20):
            with atomic_folder(tmp_path / "out") as temporary:
                (temporary / "file.txt").write_text(str(writer))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert (tmp_path / "out" / "file.txt").read_text() in "01234567"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(("umask", "file_mode", "folder_mode"), [(0o022, 0o644, 0o755), (0o027, 0o640, 0o750)])
def test_what_is_written_has_the_permissions_that_the_umask_leaves(
    umask: int, file_mode: int, folder_mode: int, tmp_path: Path
):
    from safetensors.torch import save_file

    before = os.umask(umask)
    try:
        write_text(tmp_path / "one.txt", "one")
        (tmp_path / "closed").mkdir(mode=0o700)
        with atomic_folder(tmp_path / "out") as temporary:
            (temporary / "inner").mkdir()
            save_file({"weight": torch.zeros(1)}, temporary / "inner" / "weights.safetensors")
            shutil.copytree(tmp_path / "closed", temporary / "copy")
    finally:
        os.umask(before)
    files, folders = [tmp_path / "one.txt"], [tmp_path / "out"]
    for path in (tmp_path / "out").rglob("*"):
        (folders if path.is_dir() else files).append(path)
    assert [path.name for path in files] == ["one.txt", "weights.safetensors"] and len(folders) == 3
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {file_mode}
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {folder_mode}


def test_sha256_of_a_known_file(tmp_path: Path):
    write_text(tmp_path / "abc", "abc")
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_damaged_json_is_one_line(tmp_path: Path):
    write_text(tmp_path / "a.json", '{"cut":')
    with pytest.raises(UserError, match=r"a\.json is damaged: .*; make it again"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("channels", [1, 3])
def test_every_level_survives_float_and_pil(channels: int):
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(2, channels, 16, 16).contiguous()
    assert to_float(levels).min() == -1 and to_float(levels).max() == 1
    assert torch.equal(to_uint8(to_float(levels)), levels)
    assert torch.equal(unit_to_uint8(levels.float() / 255), levels)
    assert torch.equal(from_pil(to_pil(levels), channels), levels)


def test_out_of_range_floats_are_clipped():
    assert to_uint8(torch.tensor([-9.0, 9.0]).view(1, 1, 1, 2)).flatten().tolist() == [0, 255]


def test_a_grid_is_an_exact_nearest_neighbour_zoom():
    images = torch.randint(256, (3, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    sheet = from_pil([grid(images, columns=2, zoom=3, gap=2)], 1)[0, 0]
    assert sheet.shape == (26, 26)
    assert torch.equal(sheet[:12, 14:26], images[1, 0].repeat_interleave(3, 0).repeat_interleave(3, 1))
    assert sheet[12:14].eq(255).all() and sheet[14:, 14:].eq(255).all()
