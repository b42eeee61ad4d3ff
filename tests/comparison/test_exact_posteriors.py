"""What the models' latents say exactly: found by their weights, shown in the report, refused where it is another's."""

from __future__ import annotations

import io
import json
import logging
import shutil
from pathlib import Path

import pytest
from exact import SENTENCE, write_posterior
from PIL import Image
from tiny import tiny_config

import hfgen
from hfgen.comparison.compare import compare
from hfgen.comparison.exact_posteriors import exact_posteriors
from hfgen.errors import UserError
from hfgen.evaluation.evaluate import Evaluation
from hfgen.pipelines.weight_digest import digest_of_folder
from hfgen.reporting.colours import styles

OTHER = "0" * 64


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained one, as a run leaves it."""
    run = tmp_path_factory.mktemp("exact") / "runs" / "vae"
    model = tiny_config("vae", run).model
    model.pipeline(model.build(16, 1, 2)).save_pretrained(run / "pretrained")
    return run


def test_an_answer_is_found_by_the_weights_whatever_the_model_is_called(vae: Path, tmp_path: Path):
    shutil.copytree(vae, tmp_path / "copy")
    weights = digest_of_folder(vae / "pretrained")
    folder = write_posterior(tmp_path / "answers.json", {"a/vae": OTHER, "/elsewhere/vae": weights})
    places = {"mine": str(tmp_path / "copy"), "loaded": hfgen.load(vae), "record": str(tmp_path)}
    for posterior in (folder, folder / "posterior.json"):
        found = exact_posteriors(places, posterior)
        assert found is not None and list(found.found["models"]) == ["mine", "loaded"]
        entry = found.found["models"]["mine"]
        assert entry["weights"] == weights and "images" not in entry and found.found["budget"]["n"] == 4
        # Two entries have the same last part: each has the picture of its own.
        assert Image.open(io.BytesIO(found.sheets["mine"])).width == len("/elsewhere/vae")
        unanswered, unshown = found.notes
        assert unanswered == "posterior: without an answer of record"
        assert unshown == "posterior: answers of vae, which aren't compared, are left out"
    (folder / "figures" / f"vae-{weights[:8]}.png").unlink()
    bare = exact_posteriors(places, folder)
    assert bare is not None and bare.sheets == {}
    assert bare.notes[-1] == "posterior: without a picture of mine, loaded; study posterior again draws it"


def test_what_lies_beside_the_models_is_shown_and_refused_by_a_line(vae: Path, caplog: pytest.LogCaptureFixture):
    beside = vae.parent
    try:
        assert exact_posteriors({"vae": str(vae / "pretrained")}, None) is None and not caplog.text
        write_posterior(beside, {"vae": digest_of_folder(vae / "pretrained")})
        found = exact_posteriors({"vae": str(vae / "pretrained")}, None)
        assert found is not None and list(found.sheets) == ["vae"]
        (beside / "posterior.json").write_text("{}")
        with caplog.at_level(logging.WARNING, "hfgen"):
            assert exact_posteriors({"vae": str(vae)}, None) is None
        assert "posterior.json" in caplog.text and caplog.text.strip().endswith("it isn't shown")
    finally:
        (beside / "posterior.json").unlink()
        shutil.rmtree(beside / "figures")


@pytest.mark.parametrize(
    ("name", "place", "entries", "words"),
    [
        ("mine", "vae", {"runs/gan": OTHER}, r"is of runs/gan at 16 px, and none has the weights of .*runs/vae at 16"),
        ("vae", "vae", {"vae": OTHER}, r"none has the weights of .*vae at 16 px; run `hfgen study posterior"),
        ("vae", "", {"vae": OTHER}, r"holds no weights that could be those of .*compare the model's folder"),
        ("mine", "", {"vae": OTHER}, r"is of none of mine; give the folders of its models"),
    ],
)
def test_another_models_answer_is_refused_before_any_work(
    name: str, place: str, entries: dict[str, str], words: str, vae: Path, tmp_path: Path
):
    folder = write_posterior(tmp_path / "answers", entries)
    model = str(vae if place else tmp_path)
    with pytest.raises(UserError, match=words):
        hfgen.compare({name: model}, "glyphs", tmp_path / "out", posterior=folder)
    assert not (tmp_path / "out").exists()


def test_one_name_with_other_weights_is_refused_though_another_model_is_answered(vae: Path, tmp_path: Path):
    """A model that was trained anew isn't shown beside one that is answered as if it had none."""
    folder = write_posterior(tmp_path / "answers", {"first": digest_of_folder(vae / "pretrained"), "second": OTHER})
    shutil.copytree(vae, tmp_path / "second")
    (weights,) = (tmp_path / "second" / "pretrained" / "vae").glob("*.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(UserError, match=r"none has the weights of .*second at 16 px"):
        exact_posteriors({"first": str(vae), "second": str(tmp_path / "second")}, folder)
    with pytest.raises(UserError, match=r"none has the weights of .*second at 16 px"):
        exact_posteriors({"first": str(vae), "b": str(tmp_path / "second" / "pretrained")}, folder)


def test_the_report_shows_the_sentence_the_bar_and_the_picture_in_the_models_colour(
    evaluations: dict[str, Evaluation], vae: Path, tmp_path: Path
):
    folder = write_posterior(tmp_path / "answers", {"vae": digest_of_folder(vae / "pretrained")}, converged=3)
    exact = exact_posteriors({"other": str(vae)}, folder)
    chosen = {name: evaluations[name] for name in ("vae", "other")}
    found = compare(chosen, tmp_path / "out", exact=exact)
    assert json.loads((tmp_path / "out" / "comparison.json").read_text())["posterior"] == exact.found
    doubt = "For 1 of the 4 images the exact answer didn't converge; they stay in."
    assert f"other, exactly: {SENTENCE} {doubt}" in found["reading"]
    page = (tmp_path / "out" / "report.html").read_text()
    (section,) = page.partition('<section aria-labelledby="exact">')[2].split("</section>")[:1]
    look = styles(chosen)["other"]
    assert f"{look.swatch()}other</h3>" in section and f"{SENTENCE} {doubt}" in section.replace("&#39;", "'")
    assert f'<rect width="100" height="6" fill="{look.colour}"/><rect width="25.0"' in section
    assert '<th scope="row">PSNR of the exact mean, dB</th><td>30.0 [29.0, 31.0]</td>' in section
    assert section.count('src="data:image/png;base64,') == 1 and section.count("<article") == 1
    assert (tmp_path / "out" / "figures" / "posterior_other.png").read_bytes() == exact.sheets["other"]


def test_a_report_without_answers_has_no_such_section(written: Path):
    assert "exactly" not in (written / "report.html").read_text()
    assert "posterior" not in json.loads((written / "comparison.json").read_text())
