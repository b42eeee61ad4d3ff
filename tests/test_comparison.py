from __future__ import annotations

import base64
import dataclasses
import io
import json
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from hfgen import metrics
from hfgen.comparison import compare
from hfgen.data.glyphs import draw
from hfgen.errors import UserError
from hfgen.evaluation import Evaluation, evaluate
from hfgen.families import FAMILIES
from hfgen.images import to_pil
from hfgen.metrics import Estimate
from hfgen.reading import number, percent, read

SIDE, ZOOM, SHOWN, HELD_OUT = 16, 6, 12, 60
TINY = {"width": 16, "max_width": 16, "latent_channels": 4}


@pytest.fixture(scope="module")
def evaluations(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Evaluation]]:
    """Two untrained VAEs and a GAN, measured on glyphs."""
    import datasets

    folder = tmp_path_factory.mktemp("comparison")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HFGEN_CACHE", str(folder / "cache"))
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "datasets")
        for split, count in (("train", 100), ("test", HELD_OUT)):
            _write_glyphs(folder / "images" / split, split, count)
        yield {
            name: evaluate(_save(family, seed, folder / name), str(folder / "images"), n=HELD_OUT)
            for seed, (name, family) in enumerate({"vae": "vae", "other": "vae", "gan": "gan"}.items())
        }


def _write_glyphs(folder: Path, split: str, count: int) -> None:
    drawn = draw("glyphs", split, 0, count, SIDE)
    for index, (image, label) in enumerate(zip(to_pil(drawn.images), drawn.labels.tolist(), strict=True)):
        place = folder / ("digit" if label < 10 else "letter")
        place.mkdir(parents=True, exist_ok=True)
        image.save(place / f"{index}.png")


def _save(family: str, seed: int, folder: Path) -> Path:
    settings = FAMILIES[family](**TINY)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        settings.pipeline(settings.build(SIDE, 1)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def written(evaluations: dict[str, Evaluation], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("written")
    compare(evaluations, out)
    return out


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
        assert comparison["models"][name] == {"model": record["model"], "metrics": record["metrics"]}
        assert {key: comparison[key] for key in ("data", "protocol", "baseline")} == {
            key: record[key] for key in ("data", "protocol", "baseline")
        }
        assert comparison["spectrum"][name]["sample"] == record["spectrum"]["sample"]
    assert comparison["spectrum"]["real"] == evaluations["vae"].record["spectrum"]["real"]
    assert set(comparison["spectrum"]["gan"]) == {"sample"}
    assert comparison["reading"] == read(comparison)


def test_psnr_differences_are_those_of_the_means_and_pair_models_that_reconstruct(
    written: Path, evaluations: dict[str, Evaluation]
) -> None:
    [pair] = json.loads((written / "comparison.json").read_text())["differences"]["psnr"]
    assert (pair["first"], pair["second"]) == ("vae", "other")
    means = [evaluations[name].record["metrics"]["psnr"]["value"] for name in ("vae", "other")]
    assert pair["difference"]["value"] == pytest.approx(means[0] - means[1], abs=1e-9)
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
    assert "http" not in text and "@import" not in text and "url(" not in text
    page = Page(text)
    assert not page.all("script")
    links = [tag.get(key) for _, tag in page.tags for key in ("src", "href", "srcset") if key in tag]
    assert len(links) > 6
    assert all(str(link).startswith("data:") for link in links)


def test_the_report_is_structured_for_screen_readers(written: Path) -> None:
    page = _page(written)
    assert len(page.all("h1")) == 1
    assert all(image["alt"] for image in page.all("img"))
    assert all(cell["scope"] in ("col", "row") for cell in page.all("th"))
    assert len(page.all("figure")) == len(page.all("figcaption")) == 3
    regions = [tag for tag in page.all("div") if tag.get("role") == "region"]
    identifiers = {tag["id"] for _, tag in page.tags if "id" in tag}
    assert regions and all(tag["aria-labelledby"] in identifiers for tag in regions)


def test_strips_are_the_pixels_themselves_enlarged(written: Path, evaluations: dict[str, Evaluation]) -> None:
    expected = [evaluations["vae"].originals]
    expected += [evaluations[name].reconstructions for name in ("vae", "other")]
    expected += [evaluation.samples for evaluation in evaluations.values()]
    shown = [image for image in _page(written).all("img") if image.get("class") == "strip"]
    assert len(shown) == len(expected)
    for tag, images in zip(shown, expected, strict=True):
        png = base64.b64decode(str(tag["src"]).removeprefix("data:image/png;base64,"))
        pixels = np.asarray(Image.open(io.BytesIO(png)))
        assert (pixels == _zoomed(images)).all()
        assert (int(str(tag["height"])), int(str(tag["width"]))) == pixels.shape


def test_the_grid_holds_the_originals_pixel_by_pixel(written: Path, evaluations: dict[str, Evaluation]) -> None:
    page = np.asarray(Image.open(written / "grid.png").convert("L"))
    expected = _zoomed(evaluations["vae"].originals[:8])
    top = page.shape[0] // 6 - SIDE * ZOOM
    assert (page[top : top + SIDE * ZOOM, : expected.shape[1]] == expected).all()
    assert page.shape[1] <= 800


def test_the_table_shows_every_metric_of_the_records(written: Path, evaluations: dict[str, Evaluation]) -> None:
    page = _page(written)
    measured = evaluations["vae"].record["metrics"]
    assert len(page.all("tr")) == 1 + len(measured)
    assert len(page.all("dt")) >= len(measured)
    for evaluation in evaluations.values():
        for fields in evaluation.record["metrics"].values():
            assert number(Estimate(**fields)) in " ".join(page.text.split())


def test_the_report_names_the_protocol(written: Path, evaluations: dict[str, Evaluation]) -> None:
    text, record = _page(written).text, evaluations["vae"].record
    assert record["data"]["fingerprint"] in text
    assert record["protocol"]["extractor"]["sha256"] in text
    assert f"torch {record['protocol']['versions']['torch']}" in text


def test_a_models_name_is_text_in_the_report(evaluations: dict[str, Evaluation], tmp_path: Path) -> None:
    compare({"<script>alert(1)</script>": evaluations["gan"]}, tmp_path)
    page = _page(tmp_path)
    assert not page.all("script")
    assert "<script>alert(1)</script>" in page.text


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


@pytest.mark.parametrize("kind", ["spectra", "high_frequency"])
def test_figures_are_legible_pictures(written: Path, kind: str) -> None:
    picture = Image.open(written / "figures" / f"{kind}.png")
    assert picture.width >= 1000
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


def _near(value: float, half: float = 0.02) -> dict[str, Any]:
    return {"value": value, "low": value - half, "high": value + half, "n": 2000}


REAL = {
    "coverage": _near(0.97),
    "recall": _near(0.8),
    "precision": _near(0.8),
    "density": _near(1),
    "kid": _near(0, 0.001),
}
GAN = {**REAL, "kid": _near(0.05, 0.001), "coverage": _near(0.45), "hf_ratio_sample": _near(0.98, 0.05)}
VAE = {
    **REAL,
    "kid": _near(0.2, 0.001),
    "coverage": _near(0.6),
    "hf_ratio_sample": _near(0.05),
    "hf_ratio_reconstruction": _near(0.23),
    "averaging_identity": _near(0.98),
    "psnr": _near(18.5),
}
VQVAE = {**VAE, "hf_ratio_sample": _near(0.4), "hf_ratio_reconstruction": _near(0.41), "psnr": _near(20.5)}


def _reading(psnr: float | None = None, /, **models: dict[str, Any]) -> list[str]:
    pairs = []
    if psnr is not None:
        first, second = (name for name in models if "psnr" in models[name])
        tie = abs(psnr) <= 0.02
        pairs = [{"first": first, "second": second, "difference": _near(psnr), "tie": tie}]
    return read(
        {
            "models": {name: {"metrics": measured} for name, measured in models.items()},
            "baseline": REAL,
            "differences": {"psnr": pairs},
        }
    )


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (_near(0.23), "keep 23 % [21, 25] of the real images' high-frequency power: blurrier than real"),
        (_near(0.93), "high-frequency power: slightly blurrier than real"),
        (
            _near(0.98, 0.05),
            "have 98 % [93, 103] of the real images' high-frequency power: no measurable gap",
        ),
        (_near(1.08), "slightly more than real"),
        (_near(1.6), "have 160 % [158, 162] of the real images' high-frequency power: noise or ringing"),
        (_near(1.6, 0.7), "no measurable gap to real"),
    ],
)
def test_sharpness_is_judged_by_the_interval(ratio: dict[str, Any], words: str) -> None:
    assert words in _reading(gan={**GAN, "hf_ratio_sample": ratio})[0]


@pytest.mark.parametrize(
    ("identity", "words"),
    [
        (_near(0.98), "is about that of their error (ratio 0.98 [0.96, 1.00]): they average"),
        (_near(1.4), "fainter than an average"),
        (_near(0.2), "most of the error isn't averaging"),
        (_near(0.7), "averaging in part"),
        (_near(0.9, 0.1), "they mostly average"),
        (_near(0.8, 0.6), "too few to tell"),
        (_near(1.6, 0.9), "too few to tell"),
    ],
)
def test_the_missing_power_is_called_averaging_only_if_the_identity_says_so(
    identity: dict[str, Any], words: str
) -> None:
    assert words in _reading(vae={**VAE, "averaging_identity": identity})[0]


def test_reconstructions_as_sharp_as_real_have_no_missing_power_to_explain() -> None:
    assert "average" not in " ".join(_reading(vae={**VAE, "hf_ratio_reconstruction": _near(1)}))


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        (0.05, "that is less than its reconstructions have"),
        (0.24, "no measurable gap to its"),
        (0.6, "that is more"),
    ],
)
def test_the_loss_between_reconstructions_and_samples_is_the_priors(sample: float, words: str) -> None:
    assert words in _reading(vae={**VAE, "hf_ratio_sample": _near(sample)})[1]


def test_variety_is_read_beside_other_real_images() -> None:
    text = _reading(gan=GAN)[1]
    assert "cover 45 % [43, 47] of the held-out images, where other real images cover 97 % [95, 99]" in text
    assert "recall shows no measurable gap (0.80" in text
    text = _reading(gan={**GAN, "coverage": _near(0.95), "recall": _near(0.3), "precision": _near(0.9)})[1]
    assert "95 % [93, 97] of the held-out images, no measurable gap to other real images, 97 %" in text
    assert "recall is lower (0.30 [0.28, 0.32]; theirs 0.80 [0.78, 0.82])" in text
    assert "precision is higher" in text


def test_kid_names_the_closest_or_the_tie() -> None:
    text = " ".join(_reading(vae=VAE, gan=GAN))
    assert "KID: the samples of gan are closest to the real images; beside other real" in text
    assert "the KID of gan is higher" in text
    text = " ".join(_reading(vae={**VAE, "kid": GAN["kid"]}, gan=GAN))
    assert "KID: the samples of vae and gan are closest to the real images, and tie" in text
    text = " ".join(_reading(vae=VAE, gan={**GAN, "kid": REAL["kid"]}))
    assert "the KID of gan shows no measurable gap" in text


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (2.0, "the reconstructions of vae are 2.00 [1.98, 2.02] dB above those of vqvae"),
        (-2.0, "the reconstructions of vqvae are 2.00 [1.98, 2.02] dB above those of vae"),
        (0.01, "no measurable gap between the reconstructions of vae and vqvae"),
    ],
)
def test_psnr_is_compared_pair_by_pair(difference: float, words: str) -> None:
    assert any(words in sentence for sentence in _reading(difference, vae=VAE, vqvae=VQVAE))


def test_the_answer_names_the_crispest_the_most_faithful_and_the_price() -> None:
    answer = _reading(-2.0, vae=VAE, vqvae=VQVAE, gan=GAN)[-1]
    assert "the samples of gan come closest to the sharpness of real images" in answer
    assert "gan 98 % [93, 103], vae 5 % [3, 7], vqvae 40 % [38, 42]" in answer
    assert "most faithful reconstructions are those of vqvae" in answer
    assert "gan pays in variety: it covers 45 % [43, 47] of the held-out images, vae 60 %" in answer


def test_the_answer_follows_the_numbers_to_the_other_model() -> None:
    sharp = {**VAE, "hf_ratio_sample": _near(0.97)}
    noisy = {**GAN, "hf_ratio_sample": _near(1.9)}
    answer = _reading(0.01, vae=sharp, vqvae=VQVAE, gan=noisy)[-1]
    assert "the samples of vae come closest" in answer
    assert "vae and vqvae tie for the most faithful" in answer
    assert "a price in variety doesn't show" in answer


def test_a_tie_in_sharpness_has_no_price() -> None:
    answer = _reading(vae={**VAE, "hf_ratio_sample": _near(0.97)}, gan=GAN)[-1]
    assert "tie for coming closest" in answer
    assert "variety" not in answer


def test_one_model_alone_is_not_ranked() -> None:
    answer = _reading(gan=GAN)[-1]
    assert answer.startswith("On these data the samples of gan have 98 %")
    assert "closest" not in " ".join(_reading(gan=GAN))


@pytest.mark.parametrize(
    ("estimate", "shown"),
    [
        (Estimate(0.4321, 0.4101, 0.4599, 9), "0.43 [0.41, 0.46]"),
        (Estimate(18.523, 18.41, 18.63, 9), "18.52 [18.41, 18.63]"),
        (Estimate(0.00123, -0.00002, 0.0025, 9), "0.0012 [-0.0000, 0.0025]"),
        (Estimate(1234.5, 1100, 1350, 9), "1234 [1100, 1350]"),
    ],
)
def test_numbers_have_the_digits_that_their_interval_warrants(estimate: Estimate, shown: str) -> None:
    assert number(estimate) == shown.replace("-0.0000", "0.0000")


@given(value=st.floats(-1e4, 1e4), half=st.floats(1e-5, 1e3))
def test_rounding_moves_no_number_by_more_than_a_third_of_the_interval(value: float, half: float) -> None:
    for show, scale in ((number, 1), (percent, 100)):
        text = show(Estimate(value, value - half, value + half, 9)).replace(" %", "").replace(",", "")
        shown = [float(part.strip("[]")) for part in text.split()]
        for part, exact in zip(shown, (value, value - half, value + half), strict=True):
            assert abs(part - exact * scale) <= max(half * scale / 3, 0.5) * 1.001
        assert "-0 " not in text and "-0.0 " not in text
