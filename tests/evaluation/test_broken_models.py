"""A broken model is measured where it can be, and refused by the name of its broken part where it can't."""

import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import hfgen
from hfgen.cli import main
from hfgen.data import sources
from hfgen.documents import RECORD
from hfgen.errors import ModelError
from hfgen.evaluation.evaluate import evaluate
from hfgen.evaluation.finished import read_evaluation
from hfgen.evaluation.verification import verify
from hfgen.families import FAMILIES

N = 24
SMALL = {"width": 16, "max_width": 16}
SETTINGS: dict[str, dict[str, Any]] = {
    "vae": {**SMALL, "latent_channels": 4},
    "gan": {**SMALL, "latent_channels": 4},
    "vqvae": {**SMALL, "codes": 16, "prior_width": 16, "prior_layers": 1, "prior_heads": 2},
}


def pipeline_of(family: str) -> Any:
    """An untrained model of 16 px."""
    settings = FAMILIES[family](**SETTINGS[family])
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return settings.pipeline(settings.build(16, 1))


def last_weight(module: Any) -> torch.Tensor:
    return [parameter for parameter in module.parameters() if parameter.ndim == 4][-1].data


BROKEN: dict[str, tuple[str, Callable[[Any], torch.Tensor], str]] = {
    "decoder": ("vae", lambda pipe: pipe.vae.decoder.conv_out.weight.data, r"vae\.decoder\.conv_out .*held-out image"),
    "encoder": ("vae", lambda pipe: pipe.vae.encoder.conv_in.weight.data, r"vae\.encoder\.conv_in .*held-out image"),
    "generator": ("gan", lambda pipe: last_weight(pipe.gan), r"gan\.\S+ .*sample"),
    "codebook": ("vqvae", lambda pipe: pipe.vqvae.quantize.embedding.weight.data, r"vqvae\.\S+ .*held-out image"),
    "prior": ("vqvae", lambda pipe: pipe.prior.lm_head.weight.data, r"prior\.\S+ .*sample"),
}


@pytest.mark.parametrize("part", BROKEN)
def test_nan_weights_end_with_the_name_of_their_part_and_the_image(
    part: str, glyph_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    family, weights, words = BROKEN[part]
    pipeline = pipeline_of(family)
    weights(pipeline).fill_(torch.nan)
    pipeline.save_pretrained(tmp_path / "model")
    command = ["evaluate", str(tmp_path / "model"), f"--data={glyph_folder}", f"--n={N}", f"--out={tmp_path / 'out'}"]
    assert main(command) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("hfgen: error")]
    assert re.search(rf"model: {words} 0; its weights do too", line), line
    assert not (tmp_path / "out").exists()


def test_one_image_that_overflows_is_named_by_its_number(tmp_path: Path, glyph_folder: Path):
    """Where the weights are fine and one image alone makes infinity."""
    from hfgen.evaluation.passes import reconstruct

    pipeline = pipeline_of("vae")
    images = torch.zeros(40, 1, 16, 16, dtype=torch.uint8)
    images[33] = 255
    pipeline.vae.encoder.conv_in.weight.data.fill_(3e38)
    pipeline.vae.encoder.conv_in.bias.data.zero_()
    pipeline.vae.encoder.conv_in.register_forward_pre_hook(lambda _, inputs: ((inputs[0] + 1) * 1e38,))
    with pytest.raises(ModelError, match=r"vae\.encoder\.conv_in gives NaN or infinity, first for held-out image 133"):
        reconstruct(pipeline, images, start=100)


@pytest.fixture(scope="module")
def collapsed(glyph_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`good`, and `grey` which gives the same colour whatever it is given."""
    folder = tmp_path_factory.mktemp("collapsed")
    pipeline = pipeline_of("vae")
    pipeline.save_pretrained(folder / "good")
    pipeline.vae.decoder.conv_out.weight.data.zero_()
    pipeline.vae.decoder.conv_out.bias.data.zero_()
    pipeline.save_pretrained(folder / "grey")
    return folder


def test_a_model_of_one_colour_is_compared_and_not_flattered(
    collapsed: Path,
    glyph_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    looked, look = [], sources.folder_state
    monkeypatch.setattr(sources, "folder_state", lambda folder: looked.append(folder) or look(folder))
    models = [str(collapsed / "good"), str(collapsed / "grey")]
    assert main(["compare", *models, f"--data={glyph_folder}", f"--n={N}", f"--out={tmp_path}"]) == 0
    # Whose files' sizes and times aren't asked for again with each model.
    assert looked == [glyph_folder]
    said = capsys.readouterr().out
    record = RECORD.read(tmp_path / "grey" / "record.json")
    metrics = record["metrics"]
    assert metrics["hf_ratio_sample"]["value"] == metrics["hf_ratio_reconstruction"]["value"] == 0
    assert metrics["recall"]["value"] == 0 and metrics["kid"]["value"] > 0
    assert "spectral_distance" not in metrics and "psnr" in metrics
    (note,) = [note for note in record["notes"] if note.startswith("spectral_distance: ")]
    assert note == "spectral_distance: left out (fake: no power at some frequencies, as in images of one colour)"
    comparison = json.loads((tmp_path / "comparison.json").read_text())
    assert f"grey: {note}" in comparison["notes"] and f"note: grey: {note}" in said
    assert any(sentence.startswith("grey: samples keep 0") for sentence in comparison["reading"])
    assert note in (tmp_path / "report.html").read_text().replace("&#39;", "'")
    assert note in (tmp_path / "grey" / "dataset" / "README.md").read_text()
    assert verify(tmp_path / "grey") > 0


def test_images_of_one_colour_on_every_side_leave_what_is_defined(collapsed: Path, tmp_path: Path):
    from PIL import Image

    for split in ("train", "test"):
        (tmp_path / "flat" / split).mkdir(parents=True)
        for index in range(30):
            Image.new("L", (16, 16), 127).save(tmp_path / "flat" / split / f"{index}.png")
    record = evaluate(collapsed / "grey", str(tmp_path / "flat"), n=N).record
    # The model's grey is 128: one level off is seen, and isn't enlarged to what ten levels are (some 20).
    assert 0 < record["metrics"]["kid"]["value"] < 0.5
    assert "hf_ratio_sample" not in record["metrics"] and "averaging_identity" not in record["metrics"]
    left_out = {note.partition(":")[0] for note in record["notes"]}
    assert {"hf_ratio_sample", "averaging_identity", "training_distance", "baseline"} <= left_out
    RECORD.check(record, tmp_path)


@pytest.fixture(scope="module")
def bare(glyph_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VQ-VAE's network without its prior."""
    folder = tmp_path_factory.mktemp("bare") / "vq"
    pipeline_of("vqvae").vqvae.save_pretrained(folder)
    return folder


def test_a_bare_autoencoder_has_no_samples_anywhere(
    bare: Path, collapsed: Path, glyph_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    models = [str(collapsed / "good"), str(bare)]
    assert main(["compare", *models, f"--data={glyph_folder}", f"--n={N}", f"--out={tmp_path}"]) == 0
    said = capsys.readouterr().out
    assert "good: samples" in said and "vq: reconstructions" in said and "vq: samples keep" not in said
    assert "vq: samples cover" not in said and "KID" not in said
    record = RECORD.read(tmp_path / "vq" / "record.json")
    assert not {"kid", "recall", "coverage", "hf_ratio_sample", "training_distance"} & record["metrics"].keys()
    of_pairs = {"frequencies", "real", "reconstruction", "gain", "coherence", "power"}
    assert "psnr" in record["metrics"] and record["spectrum"].keys() == of_pairs
    assert "samples: a model of family autoencoder draws none" in record["notes"]
    assert record["baseline"].keys() == {"kid_reconstruction"} and "kid_reconstruction" in record["metrics"]
    # The CPU has no distances to a codebook in bf16.
    assert record["precision"] == {} and any("precision: bf16 left out" in note for note in record["notes"])
    shape, factor, bits = (record["latent"][name] for name in ("shape", "factor", "bits_per_pixel"))
    assert shape[1] * factor == record["data"]["resolution"]
    assert bits == pytest.approx(math.log2(record["model"]["codebook_size"]) / factor**2)
    assert hfgen.load(bare).can_sample is False
    again = read_evaluation(tmp_path / "vq")
    assert again.samples is None and again.reconstructions is not None
    assert verify(tmp_path / "vq") > 0
    alone = tmp_path / "alone"
    assert main(["compare", str(tmp_path / "vq"), f"--out={alone}"]) == 0
    (answer,) = [line for line in capsys.readouterr().out.splitlines() if "On these data" in line]
    assert "the reconstructions of vq" in answer


def test_a_record_without_notes_and_channels_is_read_still(collapsed: Path, glyph_folder: Path, tmp_path: Path):
    evaluate(collapsed / "good", str(glyph_folder), n=N, out=tmp_path / "new")
    shutil.copytree(tmp_path / "new", tmp_path / "old")
    record = json.loads((tmp_path / "old" / "record.json").read_text())
    record.pop("notes")
    record["data"].pop("channels")
    (tmp_path / "old" / "record.json").write_text(json.dumps(record))
    assert main(["compare", str(tmp_path / "old"), str(tmp_path / "new"), f"--out={tmp_path / 'both'}"]) == 0


def test_an_autoencoder_below_principal_components_is_noted_as_under_trained(glyph_folder: Path, tmp_path: Path):
    pipeline_of("vae").save_pretrained(tmp_path / "model")
    record = evaluate(tmp_path / "model", str(glyph_folder), n=40).record
    (note,) = [note for note in record["notes"] if note.startswith("under-trained: ")]
    assert "below those of 16 principal components of training images" in note
    assert record["metrics"]["psnr"]["high"] < record["metrics"]["psnr_linear"]["low"]
