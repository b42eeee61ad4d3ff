"""The record and the evaluation dataset say the same, and can be made again."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from pairs import DRAWING, write_pairs

import hfgen
from hfgen.errors import UserError
from hfgen.evaluation.evaluate import evaluate
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
# Too few for the Frechet distance, and for 26 of each class.
SAMPLES = {"kid", "precision", "recall", "density", "coverage", "spectral_distance", "two_sample", "two_sample_pixels"}
SAMPLES |= {"ndb", "ndb_jsd", "modes_seen", "modes_rejected", *(f"{name}_ratio_sample" for name in RATIOS)}
PAIRS = {"psnr", "ssim", "perceptual", "averaging_identity", "gain_high", "coherence_high"}
PAIRS |= {"psnr_worst", "ssim_worst", "clipped", "kid_reconstruction"}
PAIRS |= {"spectral_distance_reconstruction", *(f"{name}_ratio_reconstruction" for name in RATIOS)}
POSTERIOR, CODES = (
    {"rate_bits", "active_units", "psnr_linear", "hf_ratio_linear"},
    {"codebook_perplexity", "codebook_usage"},
)
OF_FAMILY = {
    "vae": PAIRS | POSTERIOR,
    "vaegan": PAIRS | POSTERIOR,
    "ali": PAIRS | POSTERIOR,
    # Its decoder draws, which principal components don't.
    "flow": PAIRS | {"rate_bits", "active_units"},
    "vqvae": PAIRS | CODES,
    "vqgan": PAIRS | CODES,
    "pix2pix": PAIRS,
    "gan": set(),
}


def test_a_record_has_what_the_model_has_with_intervals(evaluated, family: str):
    record = evaluated[0].record
    metrics = record["metrics"]
    assert all(entry["low"] <= entry["value"] <= entry["high"] for entry in metrics.values())
    assert all(entry["n"] == N for name, entry in metrics.items() if not name.startswith(("two_sample", "reading")))
    # So small a model may keep no letter, which a note says.
    assert metrics.keys() - {"reading_height"} == SAMPLES | {"training_distance"} | OF_FAMILY[family]
    of_pairs = {"kid_reconstruction"} if family != "gan" else set()
    assert record["baseline"].keys() == SAMPLES | of_pairs
    has_latent = family not in ("flow", "gan", "pix2pix")
    assert ("reading" in record) == has_latent and ("latent" in record) == (has_latent or family == "flow")
    assert not has_latent or "reading_height" in metrics or any("reading_height" in note for note in record["notes"])
    assert record["protocol"]["window"] == "none"
    assert f"fd: left out (fd: {N} images are too few for 64 features)" in record["notes"]
    note = f"modes: {N} images are fewer than 26 for each of 3 modes, so modes_seen counts those that they hit; "
    assert f"{note}of real images, as many would hit 3" in record["notes"]
    assert metrics["modes_seen"]["value"] <= 3
    assert record["judge_power"].keys() == {"blur", "noise", "n"} and record["judge_power"]["n"] == N


def test_what_the_dataset_holds_of_each_image_gives_the_records_means(evaluated, family: str):
    evaluation, out = evaluated
    rows, metrics = pq.read_table(out / "dataset" / FILE).to_pydict(), evaluation.record["metrics"]
    for name in {"psnr", "ssim", "perceptual", "rate_bits"} & metrics.keys():
        assert sum(rows[name]) / N == pytest.approx(metrics[name]["value"])
    near, far = (sum(rows[f"training_distance_{kind}"]) for kind in ("sample", "original"))
    assert near / far == pytest.approx(metrics["training_distance"]["value"])
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
    assert f"- at n = {N} the judge detects " in card
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


@pytest.mark.parametrize("family", ["vae"], indirect=True)
def test_an_interrupted_evaluation_goes_on_and_ends_with_the_same_bytes(
    evaluated, trained: Path, glyph_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from hfgen.evaluation import passes

    drawn: list[int] = []

    def draw(pipeline: object, seeds: list[int], start: int) -> torch.Tensor:
        if dies and drawn:
            raise KeyboardInterrupt
        drawn.extend(seeds)
        return generate(pipeline, seeds, start)

    generate, dies = passes.generate, True
    monkeypatch.setattr(passes, "generate", draw)
    monkeypatch.setattr(passes, "_BATCH", 16)
    with pytest.raises(KeyboardInterrupt):
        evaluate(trained, str(glyph_folder), n=N, out=tmp_path)
    assert len(drawn) == 16 and not (tmp_path / "record.json").exists()
    dies = False
    evaluation = evaluate(trained, str(glyph_folder), n=N, out=tmp_path)
    assert drawn == evaluation.seeds
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset", "record.json"]
    difference = evaluation.samples.int() - evaluated[0].samples.int()
    assert difference.abs().max() <= 1


@pytest.fixture(scope="module")
def made_by_others(glyph_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 images in a folder without splits: the training images of the glyphs, blurred."""
    from PIL import Image, ImageFilter

    folder = tmp_path_factory.mktemp("others")
    for path in sorted(glyph_folder.glob("train/*/*.png"))[:N]:
        Image.open(path).filter(ImageFilter.GaussianBlur(1)).save(folder / path.name)
    return folder


def test_images_of_others_are_measured_and_verified(made_by_others: Path, glyph_folder: Path, tmp_path: Path):
    from hfgen.cli import main
    from hfgen.evaluation.samples import evaluate_samples
    from hfgen.evaluation.verification import verify

    evaluation = evaluate_samples(str(made_by_others), str(glyph_folder), n=N, out=tmp_path)
    record = evaluation.record
    assert record["model"]["family"] == "samples" and record["data"]["resolution"] == 16
    assert record["metrics"].keys() == SAMPLES | {"training_distance"}
    assert record["metrics"]["hf_ratio_sample"]["high"] < 0.5
    assert record["metrics"]["laplacian_variance_ratio_sample"]["high"] < 0.5
    assert evaluation.reconstructions is None and evaluation.seeds == []
    assert verify(tmp_path) > 0
    assert main(["compare", str(tmp_path), f"--out={tmp_path / 'compared'}"]) == 0
    assert "parameters unknown" in (tmp_path / "compared" / "report.html").read_text()
    with pytest.raises(UserError, match="n: 41 images asked of the 40"):
        evaluate_samples(str(made_by_others), str(glyph_folder), n=41)


def test_copies_of_training_images_are_told(glyph_folder: Path):
    from hfgen.evaluation.samples import evaluate_samples

    copies = evaluate_samples(str(glyph_folder), str(glyph_folder), samples_split="train", n=100)
    assert copies.record["metrics"]["training_distance"]["value"] < 0.01
    held_out = evaluate_samples(str(glyph_folder), str(glyph_folder), samples_split="test", n=100)
    assert held_out.record["metrics"]["training_distance"]["value"] == pytest.approx(1)


def test_copies_are_sought_in_the_whole_train_split(glyph_folder: Path):
    """Of 20 held-out images, 20 training images stand beside them; the copies are of all 100."""
    from hfgen.evaluation.samples import evaluate_samples

    found = evaluate_samples(str(glyph_folder), str(glyph_folder), samples_split="train", n=20)
    assert found.others is not None and len(found.others) == 20
    assert found.record["metrics"]["training_distance"]["high"] < 0.01
    assert float(found.columns["training_distance_sample"].max()) < 1e-3


def test_photographs_are_measured_through_a_window_and_recorded_so(tmp_path: Path):
    """Smooth ramps in random directions, whose opposite borders differ."""
    from PIL import Image

    from hfgen.evaluation.samples import evaluate_samples

    x = torch.linspace(-1, 1, 16)
    slopes = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    ramps = (slopes[:, :1, None] * x[:, None] + slopes[:, 1:, None] * x) * 50 + 128
    images = (ramps + 6 * torch.randn(ramps.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 255).byte()
    for index, image in enumerate(images):
        folder = tmp_path / "data" / ("train" if index % 2 else "test")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.numpy()).save(folder / f"{index}.png")
    record = evaluate_samples(str(tmp_path / "data"), str(tmp_path / "data"), samples_split="train", n=24).record
    assert record["protocol"]["window"] == "hann"
    assert record["metrics"]["hf_ratio_sample"]["low"] < 1 < record["metrics"]["hf_ratio_sample"]["high"]


@pytest.mark.parametrize("family", ["vae"], indirect=True)
def test_a_record_of_an_older_schema_is_refused_by_name_and_measured_again(
    evaluated, trained: Path, glyph_folder: Path, tmp_path: Path
):
    from hfgen.evaluation.verification import verify

    old = {**evaluated[0].record, "schema": 1}
    (tmp_path / "record.json").write_text(json.dumps(old))
    with pytest.raises(UserError, match=r"schema: 2 was expected .* evaluate again with this version of hfgen"):
        verify(tmp_path)
    evaluate(trained, str(glyph_folder), n=N, out=tmp_path)
    assert json.loads((tmp_path / "record.json").read_text())["schema"] == 2


def test_pixels_judge_instead_and_see_what_blurred_copies_lack(glyph_folder: Path, tmp_path: Path):
    from hfgen.data import draw
    from hfgen.evaluation.samples import evaluate_samples
    from hfgen.evaluation.verification import verify
    from hfgen.images import to_pil
    from hfgen.metrics.judge_power import blurred

    (tmp_path / "soft").mkdir()
    for index, image in enumerate(to_pil(blurred(draw("glyphs", "test", 500, 60, 16).images, 0.8))):
        image.save(tmp_path / "soft" / f"{index:02d}.png")
    options = {"n": 60, "extractor": "pixels", "out": tmp_path / "out"}
    record = evaluate_samples(str(tmp_path / "soft"), str(glyph_folder), **options).record
    assert record["protocol"]["extractor"]["id"].startswith("hfgen-pixels-v1/") and "modes" not in record["metrics"]
    assert record["metrics"]["kid"]["low"] > record["baseline"]["kid"]["high"]
    assert record["judge_power"]["blur"] <= 0.8 and not any("colour" in note for note in record["notes"])
    assert verify(tmp_path / "out") > 0


@pytest.mark.parametrize("family", ["vae"], indirect=True)
def test_a_backbone_judges_instead_and_is_in_the_record(trained: Path, glyph_folder: Path, tmp_path: Path):
    import transformers

    from hfgen.evaluation.verification import verify

    torch.manual_seed(0)
    config = transformers.ConvNextConfig(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1])
    transformers.ConvNextModel(config).save_pretrained(tmp_path / "backbone")
    (tmp_path / "backbone" / "preprocessor_config.json").write_text(json.dumps({"size": 32, "resample": 3}))
    name = str(tmp_path / "backbone")
    record = evaluate(trained, str(glyph_folder), n=N, extractor=name, out=tmp_path / "out").record
    described = record["protocol"]["extractor"]
    assert described["id"] == name and described["preprocessing"]["filter"] == "bicubic"
    assert "modes" not in record["metrics"] and "kid" in record["metrics"]
    assert verify(tmp_path / "out") > 0


@pytest.mark.parametrize("family", ["gan"], indirect=True)
def test_a_model_of_one_size_refuses_another(trained: Path, glyph_folder: Path):
    with pytest.raises(UserError, match="resolution: 32, but the model's images have 16 pixels"):
        evaluate(trained, str(glyph_folder), n=N, resolution=32)
