from __future__ import annotations

import base64
import dataclasses
import io
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from pictures import without_pictures
from PIL import Image
from torch import Tensor

from hfgen import metrics
from hfgen.comparison.autoencoders import autoencoder_table
from hfgen.comparison.compare import compare
from hfgen.comparison.reading import read
from hfgen.errors import UserError
from hfgen.evaluation.evaluate import Evaluation
from hfgen.images import grid
from hfgen.metrics import Estimate
from hfgen.reporting.glossary import METRICS, group_of
from hfgen.reporting.numbers import number

SIDE, ZOOM, SHOWN, HELD_OUT = 16, 6, 12, 60


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def _page(out: Path) -> Page:
    return Page((out / "report.html").read_text(encoding="utf-8"))


def _zoomed(images: Tensor) -> np.ndarray:
    """Side by side, two white pixels between them."""
    big = np.kron(images[:SHOWN, 0].numpy(), np.ones((ZOOM, ZOOM), np.uint8))
    return (
        np.pad(big, ((0, 0), (0, 0), (0, 2)), constant_values=255).transpose(1, 0, 2).reshape(SIDE * ZOOM, -1)[:, :-2]
    )


def test_comparison_json_holds_the_records_of_all_models_in_order(
    written: Path, evaluations: dict[str, Evaluation]
) -> None:
    comparison = json.loads((written / "comparison.json").read_text())
    assert comparison["schema"] == 1
    assert list(comparison["models"]) == list(evaluations)
    for name, evaluation in evaluations.items():
        record = evaluation.record
        kept = ("model", "metrics", "latent", "reading", "precision")
        assert comparison["models"][name] == {part: record[part] for part in kept if part in record}
        assert [comparison[key] for key in ("data", "protocol")] == [record[key] for key in ("data", "protocol")]
        # What draws nothing, or reconstructs nothing, has less of it.
        assert record["baseline"].items() <= comparison["baseline"].items()
        assert comparison["spectrum"][name]["sample"] == record["spectrum"]["sample"]
    assert comparison["spectrum"]["real"] == evaluations["vae"].record["spectrum"]["real"]
    assert set(comparison["spectrum"]["gan"]) == {"sample"}
    assert comparison["reading"] == read(comparison)


def test_differences_are_those_of_the_records_and_pair_models_that_have_the_metric(
    written: Path, evaluations: dict[str, Evaluation]
) -> None:
    differences = json.loads((written / "comparison.json").read_text())["differences"]
    reconstructions = {"psnr", "ssim", "hf_ratio_reconstruction", "perceptual"}
    by_pixels = {"kid_pixels", "coverage_pixels"}
    assert differences.keys() == reconstructions | {"kid", "coverage", "hf_ratio_sample"} | by_pixels
    for metric, pairs in differences.items():
        assert len(pairs) == (1 if metric in reconstructions else 3)
        for pair in pairs:
            names = pair["first"], pair["second"]
            measured = [evaluations[name].record["metrics"].get(metric) for name in names]
            if None not in measured:
                gap = measured[0]["value"] - measured[1]["value"]
                assert pair["difference"]["value"] == pytest.approx(gap, abs=1e-9), (metric, names)
            assert pair["tie"] == (pair["difference"]["low"] <= 0 <= pair["difference"]["high"])


def test_psnr_pairs_are_tighter_than_the_two_models_intervals(
    evaluations: dict[str, Evaluation], tmp_path: Path
) -> None:
    """A model that is 1 dB better on each image is measurably better, however much the images differ."""
    first = evaluations["vae"]
    assert first.reconstructions is not None
    noise = torch.randn(first.originals.shape, generator=torch.Generator().manual_seed(0))
    scale = torch.linspace(5, 30, HELD_OUT)[:, None, None, None]
    middle = first.originals.float().clamp(100, 150)
    originals = middle.round().byte()
    near, far = ((middle + noise * scale * k).round().clamp(0, 255).byte() for k in (1.0, 10 ** (1 / 20)))
    parts = {
        name: dataclasses.replace(first, originals=originals, reconstructions=images)
        for name, images in {"near": near, "far": far}.items()
    }
    [pair] = compare(parts, tmp_path)["differences"]["psnr"]
    assert pair["difference"]["value"] == pytest.approx(1, abs=0.05)
    assert pair["difference"]["low"] > 0.9
    alone = metrics.bootstrap_mean(metrics.psnr(originals, near, 255), seed=0)
    assert alone.high - alone.low > 1


def test_a_repeat_writes_the_same_bytes(written: Path, evaluations: dict[str, Evaluation], tmp_path: Path) -> None:
    compare(evaluations, tmp_path)
    files = sorted(path.relative_to(written) for path in written.rglob("*") if path.is_file())
    assert Path("figures/high_frequency.svg") in files
    for path in files:
        assert (tmp_path / path).read_bytes() == (written / path).read_bytes(), path


def test_the_report_asks_nothing_of_the_network(written: Path) -> None:
    text = (written / "report.html").read_text(encoding="utf-8")
    # A chart's parts name each other; the lens shows a picture of the page.
    words = without_pictures(text).replace("url(#", "").replace("url(${strip.src})", "")
    assert "http" not in words and "@import" not in words and "url(" not in words
    page = Page(text)
    assert page.all("script") == [{}]
    links = [tag.get(key) for _, tag in page.tags for key in ("src", "href", "srcset") if key in tag]
    assert len(links) > 6
    assert all(str(link).startswith(("data:", "#")) for link in links)
    # Two charts never share a name.
    identifiers = [tag["id"] for _, tag in page.tags if "id" in tag]
    assert len(identifiers) == len(set(identifiers))
    assert {str(link) for link in links if str(link).startswith("#")} <= {f"#{name}" for name in identifiers}


def test_the_report_is_structured_for_screen_readers(written: Path) -> None:
    page = _page(written)
    assert len(page.all("h1")) == 1
    assert all(image["alt"] for image in page.all("img"))
    charts = [tag for tag in page.all("svg") if tag.get("role") == "img"]
    assert len(charts) == 5 and all(chart["aria-label"] for chart in charts)
    assert all(tag.get("aria-hidden") == "true" for tag in page.all("svg") if tag not in charts)
    assert all(cell["scope"] in ("col", "row", "rowgroup") for cell in page.all("th"))
    assert len(page.all("figure")) == len(page.all("figcaption")) == 9
    regions = [tag for tag in page.all("div") if tag.get("role") == "region"]
    assert regions and all(tag["aria-label"] for tag in regions)
    identifiers = {tag["id"] for _, tag in page.tags if "id" in tag}
    named = [tag["aria-labelledby"] for tag in page.all("section") if "aria-labelledby" in tag]
    assert named and set(named) <= identifiers


def test_strips_are_the_pixels_themselves_enlarged(written: Path, evaluations: dict[str, Evaluation]) -> None:
    made = [evaluations["vae"].originals, *(evaluations[name].reconstructions for name in ("vae", "other"))]
    samples = [evaluation.samples for evaluation in evaluations.values()]
    # Blocks of three images, as many as a phone is wide; in each a row of the originals, then the models'.
    expected = [rows[first : first + 3] for group in (made, samples) for first in range(0, SHOWN, 3) for rows in group]
    # Nine of the cards come first: of the two that reconstruct three rows each, of the GAN three of samples.
    cards = 2 * 3 + 2
    shown = [image for image in _page(written).all("img") if image.get("class") == "strip"]
    for tag, images in zip(shown[cards : cards + len(expected)], expected, strict=True):
        file = base64.b64decode(str(tag["src"]).removeprefix("data:image/webp;base64,"))
        pixels = np.asarray(Image.open(io.BytesIO(file)).convert("L"))
        # In the file at their own size; the page enlarges them.
        assert (pixels == np.asarray(grid(images, len(images), 1, 1))).all()
        assert (int(str(tag["height"])), int(str(tag["width"]))) == tuple(ZOOM * side for side in pixels.shape)


def test_the_grid_holds_the_originals_pixel_by_pixel(written: Path, evaluations: dict[str, Evaluation]) -> None:
    page = np.asarray(Image.open(written / "grid.png").convert("L"))
    expected = _zoomed(evaluations["vae"].originals[:8])
    top = page.shape[0] // 6 - SIDE * ZOOM
    assert (page[top : top + SIDE * ZOOM, : expected.shape[1]] == expected).all()
    assert page.shape[1] <= 800


def test_the_table_shows_every_metric_of_the_records(written: Path, evaluations: dict[str, Evaluation]) -> None:
    page = _page(written)
    measured = {name for evaluation in evaluations.values() for name in evaluation.record["metrics"]}
    models, rows = autoencoder_table(json.loads((written / "comparison.json").read_text()))
    assert models == ["vae", "other"]
    labels = [row.label for row in rows]
    assert labels[:5] == ["Factor", "Latent channels", "Latent numbers a pixel", "Bits a pixel", "Parameters"]
    assert [cell.value for cell in rows[0].cells] == ["8"] * 2 and "PSNR (dB)" in labels
    # Two of the second judge; of three models' samples three metrics in pairs, and its two.
    groups = {group_of(name) for name in measured}
    rows_of_groups = [tag for tag in page.all("tr") if tag.get("class") == "group"]
    assert len(rows_of_groups) == len(groups)
    assert len(page.all("tr")) == 1 + len(groups) + len(measured) + 2 + 1 + 4 * 1 + 3 * (3 + 2) + len(rows) + 1
    assert all(METRICS[name].meaning in " ".join(page.text.split()) for name in measured)
    for evaluation in evaluations.values():
        for fields in evaluation.record["metrics"].values():
            assert number(Estimate(**fields)) in " ".join(page.text.split())


def test_the_report_names_the_protocol(written: Path, evaluations: dict[str, Evaluation]) -> None:
    text, record = _page(written).text, evaluations["vae"].record
    assert record["data"]["fingerprint"] in text
    assert record["protocol"]["extractor"]["sha256"] in text
    assert f"torch {record['protocol']['versions']['torch']}" in text


def test_a_models_name_is_text_in_the_report(evaluations: dict[str, Evaluation], tmp_path: Path) -> None:
    compare({"<script>alert(1)<script>": evaluations["gan"]}, tmp_path)
    page = _page(tmp_path)
    assert page.all("script") == [{}]
    assert "<script>alert(1)<script>" in page.text


def test_the_dataset_reads_back_as_it_was_measured(
    written: Path, evaluations: dict[str, Evaluation], tmp_path: Path
) -> None:
    import datasets

    table = datasets.load_dataset(str(written / "dataset"), split="test", cache_dir=str(tmp_path))
    images = [
        "original",
        "vae_reconstruction",
        "vae_sample",
        "other_reconstruction",
        "other_sample",
        "gan_sample",
    ]
    assert table.column_names == [*images, "label"]
    assert len(table) == HELD_OUT
    last = table[HELD_OUT - 1]
    assert (np.asarray(last["original"]) == evaluations["vae"].originals[-1, 0].numpy()).all()
    assert (np.asarray(last["gan_sample"]) == evaluations["gan"].samples[-1, 0].numpy()).all()
    labels = evaluations["vae"].labels
    assert labels is not None and table["label"][:] == labels.tolist()


@pytest.mark.parametrize("kind", ["spectra", "high_frequency", "perception_distortion"])
def test_figures_are_legible_pictures(written: Path, kind: str) -> None:
    picture = Image.open(written / "figures" / f"{kind}.png")
    assert picture.width >= 800
    assert len(set(picture.convert("RGB").resize((300, 300)).getdata())) > 20
    assert ElementTree.parse(written / "figures" / f"{kind}.svg").getroot().tag.endswith("svg")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("data.fingerprint", "0" * 64),
        ("data.split", "validation"),
        ("data.n", 61),
        ("data.resolution", 32),
        ("protocol.seed", 1),
        ("protocol.neighbours", 3),
        ("protocol.extractor.sha256", "f" * 64),
    ],
)
def test_records_measured_otherwise_are_refused_before_anything_is_written(
    evaluations: dict[str, Evaluation], tmp_path: Path, field: str, value: Any
) -> None:
    record = json.loads(json.dumps(evaluations["gan"].record))
    *path, last = field.split(".")
    place = record
    for key in path:
        place = place[key]
    before, place[last] = place[last], value
    changed = dataclasses.replace(evaluations["gan"], record=record)
    with pytest.raises(UserError) as caught:
        compare({"vae": evaluations["vae"], "gan": changed}, tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{field}: ") and "\n" not in message
    assert str(before) in message and str(value) in message
    assert not list(tmp_path.iterdir())


def test_no_model_and_reserved_names_are_refused(evaluations: dict[str, Evaluation], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="models: none given"):
        compare({}, tmp_path)
    with pytest.raises(UserError, match="models: dataset "):
        compare({"dataset": evaluations["gan"]}, tmp_path)
