"""The record and the evaluation dataset say the same, and can be made again."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from pairs import DRAWING, write_pairs

import hfgen
from hfgen.errors import UserError
from hfgen.evaluation import evaluate
from hfgen.images import from_pil

N, FILE = 40, "test-00000-of-00001.parquet"


@pytest.fixture(scope="module")
def evaluated(trained: Path, glyph_folder: Path, tmp_path_factory: pytest.TempPathFactory):
    out = tmp_path_factory.mktemp("evaluation")
    return evaluate(trained, str(glyph_folder), n=N, out=out), out


def test_the_record_is_the_json_that_was_written(evaluated):
    evaluation, out = evaluated
    assert json.loads((out / "record.json").read_text()) == evaluation.record
    assert evaluation.record["data"]["n"] == N and len(evaluation.record["data"]["fingerprint"]) == 64


RATIOS = ("hf", "laplacian_variance", "tenengrad", "blur_effect")
SAMPLES = {"kid", "fd", "precision", "recall", "density", "coverage", "spectral_distance", "two_sample"}
SAMPLES |= {"ndb", "ndb_jsd", "modes", "modes_kl", *(f"{name}_ratio_sample" for name in RATIOS)}
PAIRS = {"psnr", "ssim", "perceptual", "averaging_identity", "spectral_distance_reconstruction"}
PAIRS |= {f"{name}_ratio_reconstruction" for name in RATIOS}
POSTERIOR, CODES = {"rate_bits", "active_units"}, {"codebook_perplexity", "codebook_usage"}
OF_FAMILY = {
    "vae": PAIRS | POSTERIOR,
    "vaegan": PAIRS | POSTERIOR,
    "ali": PAIRS | POSTERIOR,
    "vqvae": PAIRS | CODES,
    "vqgan": PAIRS | CODES,
    "pix2pix": PAIRS,
    "gan": set(),
}


def test_a_record_has_what_the_model_has_with_intervals(evaluated, family: str):
    record = evaluated[0].record
    metrics = record["metrics"]
    assert all(entry["low"] <= entry["value"] <= entry["high"] for entry in metrics.values())
    assert all(entry["n"] == N for name, entry in metrics.items() if name != "two_sample")
    assert metrics.keys() == SAMPLES | {"memorisation"} | OF_FAMILY[family]
    assert record["baseline"].keys() == SAMPLES
    assert metrics["modes"]["value"] <= 3


def test_what_the_dataset_holds_of_each_image_gives_the_records_means(evaluated, family: str):
    evaluation, out = evaluated
    rows, metrics = pq.read_table(out / "dataset" / FILE).to_pydict(), evaluation.record["metrics"]
    for name in {"psnr", "ssim", "perceptual", "rate_bits"} & metrics.keys():
        assert sum(rows[name]) / N == pytest.approx(metrics[name]["value"])
    if "codes" in rows:
        codes = torch.tensor(rows["codes"])
        assert codes.unique().numel() / 16 == pytest.approx(metrics["codebook_usage"]["value"])
    if "posterior_mean" in rows:
        active = torch.tensor(rows["posterior_mean"]).double().var(0, correction=0) > 0.01
        assert int(active.sum()) == metrics["active_units"]["value"]


def test_a_card_tells_the_protocol_and_every_column(evaluated):
    evaluation, out = evaluated
    card = (out / "dataset" / "README.md").read_text()
    assert evaluation.record["protocol"]["extractor"]["sha256"] in card
    assert all(f"- `{name}`: " in card for name in pq.read_schema(out / "dataset" / FILE).names)
    assert all(f"| {name} | " in card for name in evaluation.record["metrics"])
    assert (out / "dataset" / "record.json").read_bytes() == (out / "record.json").read_bytes()


def test_load_dataset_reads_the_images_bit_for_bit(evaluated, family: str, tmp_path: Path):
    from datasets import load_dataset

    evaluation, out = evaluated
    rows = load_dataset(str(out / "dataset"), split="test", cache_dir=str(tmp_path))
    assert len(rows) == N
    assert torch.equal(from_pil(rows["original"], 1), evaluation.originals)
    assert torch.equal(from_pil(rows["sample"], 1), evaluation.samples)
    assert torch.equal(from_pil(rows["other"], 1), evaluation.others)
    assert ("seed" in rows.column_names) == (family != "pix2pix")
    assert ("reconstruction" in rows.column_names) == (family != "gan")
    assert rows.features["label"].names == ["a", "b", "c"]
    assert list(rows["label"]) == evaluation.labels.tolist()


def test_a_seed_of_the_dataset_draws_its_image_again(evaluated, trained: Path, family: str):
    evaluation, _ = evaluated
    if family == "pix2pix":
        assert evaluation.seeds == [] and torch.equal(evaluation.samples, evaluation.reconstructions)
        return
    generator = torch.Generator().manual_seed(evaluation.seeds[7])
    (image,) = hfgen.load(trained)(generator=generator).images
    difference = from_pil([image], 1).int() - evaluation.samples[7:8].int()
    assert difference.abs().max() <= 1


def test_evaluating_again_gives_the_same_record(evaluated, trained: Path, glyph_folder: Path):
    assert evaluate(trained, str(glyph_folder), n=N).record == evaluated[0].record


def test_another_seed_measures_other_images(evaluated, trained: Path, glyph_folder: Path):
    other = evaluate(trained, str(glyph_folder), n=N, seed=1)
    assert not torch.equal(other.originals, evaluated[0].originals)
    assert other.record["metrics"] != evaluated[0].record["metrics"]


def test_the_record_of_another_model_is_not_overwritten(evaluated, trained: Path, glyph_folder: Path):
    _, out = evaluated
    before = (out / "record.json").read_bytes()
    with pytest.raises(UserError, match="holds the record of another model"):
        evaluate(trained / "pretrained", str(glyph_folder), n=N, out=out)
    assert (out / "record.json").read_bytes() == before


@pytest.mark.parametrize("n", [0, 11, 101])
def test_a_number_of_images_that_cannot_be_measured_is_refused(n: int, trained: Path, glyph_folder: Path):
    with pytest.raises(UserError, match=f"n: {n} images asked of the 100 in .*; give 12 to 100"):
        evaluate(trained, str(glyph_folder), n=n)


@pytest.fixture(scope="module")
def translated(tmp_path_factory: pytest.TempPathFactory):
    """An untrained translator's folder, that of its pairs, and the held-out ones (20, 4, 16, 16)."""
    from hfgen.families.pix2pix import Pix2Pix

    folder = tmp_path_factory.mktemp("translated")
    pairs = write_pairs(folder / "pairs", train=40, test=20)
    settings = {"condition": DRAWING[0], "condition_channels": DRAWING[1], "objective": "l1"}
    family = Pix2Pix(width=16, max_width=16, **settings)
    torch.manual_seed(0)
    family.pipeline(family.build(16, 3)).save_pretrained(folder / "model")
    return folder / "model", folder / "pairs", pairs[40:]


def test_a_translator_is_measured_on_the_translations_of_held_out_pairs(translated):
    from hfgen.data import batch_indices
    from hfgen.images import to_float, unit_to_uint8

    model, data, held_out = translated
    evaluation = evaluate(model, str(data), n=20)
    targets, drawings = held_out[batch_indices(20, 0, 20, 0)].split([3, 1], 1)
    expected = unit_to_uint8(hfgen.load(model)(condition=to_float(drawings), output_type="pt").images)
    assert torch.equal(evaluation.originals, targets)
    assert (evaluation.reconstructions.int() - expected.int()).abs().max() <= 1
    assert torch.equal(evaluation.samples, evaluation.reconstructions) and evaluation.seeds == []
    assert {"psnr", "ssim", "hf_ratio_reconstruction", "kid"} <= evaluation.record["metrics"].keys()
    ratios = [evaluation.record["metrics"][f"hf_ratio_{kind}"]["value"] for kind in ("sample", "reconstruction")]
    assert ratios[0] == pytest.approx(ratios[1])


def test_a_translator_and_unpaired_data_are_refused_in_one_line(translated, glyph_folder: Path):
    with pytest.raises(UserError, match=r"^condition: .* has no column of images 'drawing' .*only image, label"):
        evaluate(translated[0], str(glyph_folder), n=20)


def test_reconstruct_shows_targets_over_translations(translated, tmp_path: Path):
    from PIL import Image

    from hfgen.cli import main
    from hfgen.data import batch_indices

    model, data, held_out = translated
    assert main(["reconstruct", str(model), "--data", str(data), "--n=8", f"--out={tmp_path / 'grid.png'}"]) == 0
    sheet = Image.open(tmp_path / "grid.png")
    assert sheet.size == (8 * 130 - 2, 2 * 130 - 2) and sheet.mode == "RGB"
    first = from_pil([sheet.crop((0, 0, 128, 128))], 3)[:, :, ::8, ::8]
    assert torch.equal(first, held_out[batch_indices(20, 0, 8, 0)][:1, :3])
