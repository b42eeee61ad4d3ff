"""An evaluation's dataset gives its record's numbers again, or what differs is named."""

import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hub import Hub, User, client_environment
from hub.accounts import TOKEN

from hfgen.devices import cpu_threads
from hfgen.errors import UserError
from hfgen.evaluation.evaluate import evaluate
from hfgen.evaluation.verification import verify
from hfgen.files import read_json, write_json

FILE = "dataset/test-00000-of-00001.parquet"


@pytest.fixture(scope="module")
def written(trained: Path, glyph_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("verified")
    evaluate(trained, str(glyph_folder), n=40, out=out)
    return out


@pytest.fixture
def copy(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "copy"))


def test_the_dataset_alone_gives_the_records_numbers_bit_for_bit(copy: Path, tmp_path: Path):
    count = verify(copy)
    record = read_json(copy / "record.json")
    assert count > 4 * (len(record["metrics"]) + len(record["baseline"]))
    alone = (copy / "dataset").rename(tmp_path / "alone")
    shutil.rmtree(copy)
    assert verify(alone) == count


@pytest.mark.parametrize("family", ["vae"], indirect=True)
def test_as_many_threads_compute_as_then_and_their_number_is_said_where_they_cannot(copy: Path):
    record, here = read_json(copy / "record.json"), torch.get_num_threads()
    assert record["protocol"]["threads"] == here
    with cpu_threads(here + 1):
        assert verify(copy) > 0
        assert torch.get_num_threads() == here + 1
    record["protocol"]["threads"] = 4096
    record["metrics"]["kid"]["n"] += 1
    write_json(copy / "record.json", record)
    # So many would wait for each other.
    with pytest.raises(UserError, match=rf"CPU threads: {here}, then 4096, which may round differently"):
        verify(copy)


@pytest.mark.parametrize("family", ["vae"], indirect=True)
@pytest.mark.parametrize("field", ["metrics.kid.value", "baseline.kid.low", "spectrum.sample.3"])
def test_another_number_in_the_record_is_named(copy: Path, field: str):
    record = read_json(copy / "record.json")
    kind, name, key = field.split(".")
    place, at = record[kind][name], int(key) if key.isdigit() else key
    place[at] += 1e-12 if kind == "spectrum" else -1e-9 if key == "low" else 0
    if key == "value":
        place["value"] = (place["value"] + place["low"]) / 2
    write_json(copy / "record.json", record)
    with pytest.raises(UserError, match=rf"^verify: {field}: .* in the record, but .* measured; "):
        verify(copy)


@pytest.mark.parametrize("family", ["vae"], indirect=True)
def test_another_pixel_changes_the_numbers(copy: Path):
    table = pq.read_table(copy / FILE)
    rows = table["sample"].to_pylist()
    field = table.schema.field("sample")
    changed = table.set_column(
        table.schema.get_field_index("sample"), field, pa.array([*rows[1:], rows[1]], type=field.type)
    )
    pq.write_table(changed, copy / FILE)
    with pytest.raises(UserError, match=r"^verify: metrics\..* and so \d+ more"):
        verify(copy)


@pytest.mark.parametrize("family", ["vae"], indirect=True)
@pytest.mark.parametrize(
    ("what", "message"),
    [
        (FILE, "there is no .*parquet"),
        ("record.json", "there is no .*record"),
        ("dataset/extractor/extractor.safetensors", "is damaged"),
        ("dataset/extractor/extractor.json", "no such file"),
    ],
)
def test_what_is_missing_is_named(copy: Path, what: str, message: str):
    (copy / what).unlink()
    with pytest.raises(UserError, match=message):
        verify(copy)


@pytest.mark.parametrize("family", ["vae"], indirect=True)
def test_a_damaged_file_is_named(copy: Path):
    content = (copy / FILE).read_bytes()
    (copy / FILE).write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="is damaged"):
        verify(copy)


@pytest.mark.parametrize("family", ["vae"], indirect=True)
def test_a_published_one_is_fetched_and_measured(copy: Path, tmp_path: Path):
    with Hub(tmp_path / "hub") as hub:
        hub.storage.users = {TOKEN: User("me", namespaces=("org",))}
        environment = client_environment(hub, tmp_path / "home", TOKEN)

        def hfgen(*arguments: object) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-m", "hfgen", *map(str, arguments)]
            return subprocess.run(command, env=environment, capture_output=True, text=True)

        published = hfgen("publish", copy, "--to", "org/set")
        assert published.returncode == 0, published.stderr
        commit = published.stdout.split()[-1]
        done = hfgen("evaluate", "--verify", f"org/set@{commit}")
        assert done.stdout == f"org/set@{commit}: {verify(copy)} numbers are the same, bit for bit\n", done.stderr
    with pytest.raises(UserError, match="dataset: org/none isn't a folder here and can't be fetched"):
        verify("org/none")


@pytest.mark.parametrize("family", ["vae"], indirect=True)
def test_a_device_that_is_not_here_is_said(copy: Path, caplog: pytest.LogCaptureFixture, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    record = read_json(copy / "record.json")
    record["protocol"]["device"] = "cuda: a card"
    write_json(copy / "record.json", record)
    assert verify(copy) > 0
    assert "measured on cuda: a card, which isn't available here; the CPU may round differently" in caplog.text
    with pytest.raises(UserError, match=r"^device: cuda isn't available"):
        verify(copy, device="cuda")
