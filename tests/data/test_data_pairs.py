"""Pairs: an image and its condition stay together, from the files to the batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pairs import DRAWING, write_pairs
from tiny import tiny_config

from hfgen.data import batch_indices, open_store
from hfgen.data.decode import Rules, decode
from hfgen.errors import UserError
from hfgen.images import from_pil, to_pil


def test_a_store_of_pairs_holds_the_condition_behind_its_image(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "set")
    train, test = (
        open_store(str(tmp_path / "set"), split=s, resolution=16, condition=DRAWING) for s in ("train", "test")
    )
    assert torch.equal(train.images, pairs[:150]) and torch.equal(test.images, pairs[150:])
    assert (train.channels, train.condition_channels, train.resolution) == (3, 1, 16)
    assert torch.equal(train.targets, pairs[:150, :3])


def test_pairs_come_back_from_the_cache_and_are_another_store_than_their_images(tmp_path: Path) -> None:
    write_pairs(tmp_path / "set")
    options = {"split": "test", "resolution": 16}
    first, second = (open_store(str(tmp_path / "set"), condition=DRAWING, **options) for _ in range(2))
    assert torch.equal(first.images, second.images) and first.fingerprint == second.fingerprint
    assert (second.channels, second.condition_channels) == (3, 1)
    alone = open_store(str(tmp_path / "set"), **options)
    assert alone.images.shape[1] == 3 and alone.condition_channels == 0 and alone.fingerprint != first.fingerprint
    coloured = open_store(str(tmp_path / "set"), condition=("drawing", 3), **options)
    assert torch.equal(coloured.images[:, 3:], first.images[:, 3:].expand(-1, 3, -1, -1))


def test_pairs_stay_together_through_shuffled_batches(tmp_path: Path) -> None:
    write_pairs(tmp_path / "set")
    store = open_store(str(tmp_path / "set"), resolution=16, condition=DRAWING)
    for seen in range(0, 300, 50):
        batch = store.gather(batch_indices(len(store), seen, 50, 3))
        assert torch.equal(batch[:, 3:], 255 - batch[:, :1])


def test_the_loops_batches_and_previews_are_pairs(tmp_path: Path) -> None:
    from accelerate import Accelerator

    from hfgen.training.averaged_pipeline import averaged_pipeline, first_images
    from hfgen.training.train import open_data
    from hfgen.training.trainer import Trainer

    write_pairs(tmp_path / "set")
    config = tiny_config("pix2pix", tmp_path / "set", "--model.condition=drawing", "--model.condition_channels=1")
    trainer = Trainer(config, open_data(config), Accelerator())
    images, _ = trainer.batch()
    assert images.shape == (16, 4, 16, 16)
    torch.testing.assert_close(images[:, 3:], -images[:, :1])
    trainer.step()
    preview = averaged_pipeline(trainer).preview(torch.cat(list(first_images(trainer, 20))), torch.Generator())
    assert preview.shape == (20, 3, 16, 16)


def test_a_condition_of_another_size_is_brought_to_the_same_by_the_same_rules(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "set", scale=3)
    store = open_store(str(tmp_path / "set"), split="test", resolution=8, condition=DRAWING)
    large = pairs[150:, 3:].repeat_interleave(3, 2).repeat_interleave(3, 3)
    resized = []
    for image in to_pil(large):
        image.save(tmp_path / "one.png")
        resized.append(decode({"bytes": (tmp_path / "one.png").read_bytes()}, "one", Rules(8, 1, "refuse")))
    assert torch.equal(store.images[:, 3:], from_pil(resized, 1))


def test_streamed_pairs_are_those_that_were_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    from hfgen.data import tables

    pairs = write_pairs(tmp_path / "set")
    monkeypatch.setattr(tables, "_exceeds_disk", lambda builder: True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "nowhere")
    monkeypatch.setattr(tables.Prepared, "__init__", lambda *_: pytest.fail("prepared"))
    assert torch.equal(open_store(str(tmp_path / "set"), resolution=16, condition=DRAWING).images, pairs[:150])


@pytest.mark.parametrize("column", ["drawing", "image"])
def test_a_pair_of_which_one_is_damaged_is_left_out_whole(column: str, tmp_path: Path) -> None:
    import datasets

    pairs = write_pairs(tmp_path / "set", train=20, test=1)
    path = tmp_path / "set" / "data" / "train-0.parquet"
    rows = datasets.Dataset.from_parquet(str(path), cache_dir=str(tmp_path / "old"))
    for name in ("drawing", "image"):
        rows = rows.cast_column(name, datasets.Image(decode=False))
    table = rows.to_dict()
    table[column][7] = {"bytes": b"junk", "path": None}
    datasets.Dataset.from_dict(table, features=rows.features).to_parquet(path)
    with pytest.raises(UserError, match="row 7, can't be read"):
        open_store(str(tmp_path / "set"), resolution=16, condition=DRAWING)
    store = open_store(str(tmp_path / "set"), resolution=16, condition=DRAWING, skip_damaged=True)
    assert store.skipped == 1
    assert torch.equal(store.images, pairs[np.delete(np.arange(20), 7)])


@pytest.mark.parametrize("condition", ["lines", "note", "label"])
def test_data_without_the_column_are_refused_with_the_columns_that_there_are(condition: str, tmp_path: Path) -> None:
    write_pairs(tmp_path / "set", train=2, test=1)
    message = rf"^condition: .* has no column of images '{condition}' .*, only drawing, image, note; name one with"
    with pytest.raises(UserError, match=message):
        open_store(str(tmp_path / "set"), resolution=16, condition=(condition, 1))


def test_unpaired_data_are_refused(tmp_path: Path, glyph_folder: Path) -> None:
    for data in ("glyphs", str(glyph_folder)):
        for column in ("condition", "image"):
            with pytest.raises(
                UserError, match=rf"^condition: .* has no column of images '{column}' .*, only image, label;"
            ):
                open_store(data, resolution=16, condition=(column, 1))
