"""How models compare and why they are blurred, from records, studies and posteriors, without Gradio."""

import dataclasses
import json
import re
import shutil
from importlib.resources import files
from pathlib import Path
from urllib.parse import unquote

import pytest
from PIL import Image

from hfgen.documents import POSTERIOR
from hfgen.errors import UserError
from hfgen.files import write_json
from hfgen.pipelines.weight_digest import digest_of_folder
from hfgen.space import averaging, evidence
from hfgen.space.assemble import Pinned, assemble
from hfgen.space.loaded_models import LoadedModels, open_models
from hfgen.space.plane import plane
from hfgen.space.verdict_cards import claims
from hfgen.space.why import why


def test_the_numbers_are_the_records_a_column_a_model(loaded: LoadedModels):
    cards, table, values = evidence.compare(loaded)
    assert list(values["models"]) == ["other real images", "vae", "vqvae", "gan"]
    assert values["models"]["vae"]["psnr"] == loaded.models["vae"].record["metrics"]["psnr"]
    assert re.findall(r'data-hf-model="(\w+)"', cards) == ["vae", "vqvae", "gan"] and "20 held-out images" in cards
    (recall,) = re.findall(r"<tr>(?:(?!</tr>).)*>Recall<.*?</tr>", table, re.DOTALL)
    # In the record's order, each in its model's colour; the best is marked.
    assert re.findall(r'data-value="([\d.]+)"', recall) == ["1.0", "0.1", "0.4", "0.9"]
    colours = [loaded.styles[name].colour for name in ("vae", "vqvae", "gan")]
    assert re.findall(r'<path stroke="([^"]+)"', recall) == ["currentColor", *colours]
    assert recall.count(">best<") == 1 and recall.index("0.900") < recall.index(">best<")
    found = unquote(re.search(r'download="comparison.csv" href="data:text/csv;charset=utf-8,([^"]+)"', table)[1])
    assert "psnr,vae,20,19.99,20.01,20" in found.splitlines()
    page = why(loaded)
    assert "0.100 [0.090, 0.110]" in page and "averaging" in page


def test_the_chart_has_each_models_numbers_colour_and_mark(loaded: LoadedModels):
    chart, words = plane(loaded, "perception")
    points = {point["name"]: point for point in json.loads(chart)["data"]}
    assert list(points) == ["vae", "vqvae"] and "Without a place on it: gan." in words
    assert re.findall(r'data-hf-card="(\w+)"', words) == list(points)
    assert "Squared error at the mean PSNR (white = 1): 0.01000 [0.00998, 0.01002]; Spectral distance" in words
    vae = points["vae"]
    assert vae["x"] == pytest.approx([10**-2]) and vae["y"] == [0.9], "20 dB, and the distance of the spectra"
    assert vae["error_y"]["array"] == pytest.approx([0.01]) == vae["error_y"]["arrayminus"]
    assert vae["error_x"]["array"] == pytest.approx([10**-1.999 - 10**-2])
    for name, point in points.items():
        look = loaded.styles[name]
        assert (point["marker"]["symbol"], point["marker"]["color"]) == (look.symbol, look.colour)
    assert plane(loaded, "rate")[0] is None and "No model here has both" in plane(loaded, "rate")[1]
    told = {**loaded.models["vae"].record, "latent": {"bits_per_pixel": 0.25}}
    models = {**loaded.models, "vae": dataclasses.replace(loaded.models["vae"], record=told)}
    rated = json.loads(plane(dataclasses.replace(loaded, models=models), "rate_perception")[0])
    assert [(one["x"], one["y"]) for one in rated["data"]] == [([0.25], [0.9])]


def test_a_comparison_of_the_same_images_gives_its_own_points(loaded: LoadedModels, tmp_path: Path):
    near = {"value": 0.3, "low": 0.2, "high": 0.5, "n": 20}
    found = {
        "data": {"fingerprint": "0" * 64},
        "models": {name: {"metrics": model.record["metrics"]} for name, model in loaded.models.items()},
        "perception_distortion": {"vae": {"mse": near, "kid": near}},
    }
    write_json(tmp_path / "comparison.json", found)
    (point,) = json.loads(plane(dataclasses.replace(loaded, results=[tmp_path]), "perception")[0])["data"]
    assert (point["name"], point["x"], point["y"]) == ("vae", [0.3], [0.3])
    of_others = {name: {**one, "model": {"weights": "0" * 64}} for name, one in found["models"].items()}
    for other in ({"data": {"fingerprint": "1" * 64}}, {"models": of_others}):
        write_json(tmp_path / "comparison.json", {**found, **other})
        assert len(json.loads(plane(dataclasses.replace(loaded, results=[tmp_path]), "perception")[0])["data"]) == 2


def test_cards_of_diagnoses_and_claims(loaded: LoadedModels, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    claims = [
        {"claim": f"claim {verdict}", "number": "3.2", "verdict": verdict} for verdict in ("supported", "undecided")
    ]
    rows = [*claims, {"claim": "<b>evil</b>", "verdict": "opposite"}, {"claim": "c", "verdict": "not tested"}]
    write_json(tmp_path / "study.json", {"schema": 2, "verdicts": rows})
    write_json(tmp_path / "comparison.json", {"reading": ["a detail", "the answer"]})
    write_json(tmp_path / "diagnosis.json", {"verdict": {"sentence": "It is the prior.", "remedy": "Fit it."}})
    models = {**loaded.models, "vae": dataclasses.replace(loaded.models["vae"], folder=tmp_path)}
    page = why(dataclasses.replace(loaded, models=models, results=[tmp_path]))
    assert page.index("the answer") < page.index("It is the prior.") < page.index("claim supported")
    assert "Undecided or not tested: 2" in page and page.index("opposite") < page.index("claim undecided")
    assert "hf-not-tested" in page and "<b>evil" not in page and page.count("<article") == 3 + 4
    write_json(tmp_path / "study.json", {"schema": 1, "verdicts": [{"claim": "c", "verdict": "contradicted"}]})
    older = why(dataclasses.replace(loaded, models=models, results=[tmp_path]))
    assert "contradicted" not in older and "schema 1 isn't 2, left out; `hfgen study` again" in caplog.text
    (tmp_path / "diagnosis.json").write_text("{")
    assert "It is the prior." not in why(dataclasses.replace(loaded, models=models))


def test_a_claims_chart_is_of_the_effect_that_decides(loaded: LoadedModels, tmp_path: Path):
    verdicts = [{"id": "s/gain", "study": "s", "claim": "it gains", "number": "p 1e-6", "verdict": "opposite"}]
    claim = {"id": "gain", "what": "the loss", "rule": "the rule", "side": "below", "least": 1.0, "verdict": "opposite"}
    claim["effect"] = {"value": 3.0, "low": 2.9, "high": 3.1}
    document = {"schema": 2, "verdicts": verdicts, "studies": [{"name": "s", "claims": [claim]}]}
    write_json(tmp_path / "study.json", document)
    (page,) = [part for part in claims(dataclasses.replace(loaded, results=[tmp_path])) if "it gains" in part]
    first, folded = page.split("<details")
    assert "the loss: <b>3.00 [2.90, 3.10]</b>" in first
    assert 'hf-said-opposite"' in first and "#" not in first, "the style sheet alone knows the verdicts' colours"
    assert "p 1e-6" in folded and "the rule" in folded
    # The interval lies right of the bound, and the band where it should lie left of it.
    (band,) = re.findall(r'class="hf-wanted" x="([\d.]+)" y="4" width="([\d.]+)"', first)
    (bound,) = re.findall(r'class="hf-bound" d="M([\d.]+) ', first)
    (interval,) = re.findall(r'class="hf-ends" d="M([\d.]+) \d+H([\d.]+)"', first)
    assert float(band[0]) + float(band[1]) == pytest.approx(float(bound), abs=0.2)
    assert float(bound) < float(interval[0]) < float(interval[1])


def test_an_exact_posterior_is_shown_with_its_picture(loaded: LoadedModels, tmp_path: Path, caplog):
    share = {"value": 0.25, "low": 0.2, "high": 0.3, "n": 4}
    rest = {"value": 0.75, "low": 0.7, "high": 0.8, "n": 4}
    metrics = {"share_latent": share, "share_decoder": rest}
    one = {"name": "runs/vae", "id": "runs/vae", "resolution": 16, "n": 4, "converged": 3, "metrics": metrics}
    one["weights"] = digest_of_folder(loaded.models["vae"].folder / "pretrained")
    schema = json.loads(files("hfgen").joinpath("schemas/posterior.schema.json").read_text(encoding="utf-8"))
    budget = {**dict.fromkeys(schema["properties"]["budget"]["required"], 4), "name": "full"}
    document = {"schema": POSTERIOR.version, "budget": budget, "seed": 0, "versions": {}}
    write_json(tmp_path / "posterior.json", {**document, "models": [{**one, "images": []}]})
    (tmp_path / "figures").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "figures" / f"vae-{one['weights'][:8]}.png")
    page = why(dataclasses.replace(loaded, results=[tmp_path]))
    assert (
        "25 % [20, 30] isn&#x27;t in the latent; 75 % [70, 80] is in the latent" in page
        and "For 1 of the 4 images" in page
    )
    assert f'<rect width="100" height="6" fill="{loaded.styles["vae"].colour}"/><rect width="25.0"' in page
    assert page.count('alt="vae: the real image; the exact mean') == 1
    anew = {**one, "weights": "0" * 64, "images": []}
    write_json(tmp_path / "posterior.json", {**document, "models": [anew]})
    page = why(dataclasses.replace(loaded, results=[tmp_path]))
    assert '<rect width="100" height="6" fill="currentColor"/>' in page, (
        "it is only called like the model that is shown"
    )
    write_json(tmp_path / "posterior.json", {"models": []})
    assert "exactly" not in why(dataclasses.replace(loaded, results=[tmp_path])) and "posterior.json" in caplog.text


def test_folders_of_results_are_shown_too_and_one_without_any_is_refused(untrained: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"results: .* has none of comparison\.json, study\.json, posterior\.json"):
        open_models([str(untrained / "vae")], results=[tmp_path])
    write_json(tmp_path / "study.json", {"verdicts": []})
    assert open_models([str(untrained / "vae")], results=[tmp_path]).results == [tmp_path, untrained]


def test_averaging_is_told_by_gain_coherence_and_power_and_the_identity_is_derived(loaded: LoadedModels):
    page = why(loaded)
    places = [page.index(f">{word}<") for word in ("gain", "coherence", "power", "derived: averaging identity")]
    assert places == sorted(places)
    assert "detail partly made up" in page and "shows nothing by itself" in page
    for words in (
        "gain (line: an average), from the lowest to the highest frequencies: vae 1.00 to 0.50",
        "coherence, from the lowest to the highest frequencies: vae 0.90 to 0.30",
        "power relative to real, from the lowest to the highest frequencies: vae 0.10 to 0.05",
    ):
        assert words in page
    flat = {"metrics": {}, "spectrum": {"frequencies": [0.1], "real": [1.0]}}
    assert "<figure" not in "".join(averaging.sections({"gan": flat}, loaded.styles))


def test_every_chart_has_the_models_own_colours(loaded: LoadedModels):
    """Where a model before them has no record, too."""
    bare = {"vae": dataclasses.replace(loaded.models["vae"], record=None)}
    page = why(dataclasses.replace(loaded, models={**loaded.models, **bare}))
    charts = re.findall(r'<svg class="chart".*?</svg>', page, re.DOTALL)
    vae, vqvae = (loaded.styles[name].colour.lower() for name in ("vae", "vqvae"))
    assert len(charts) == 4 and all(vqvae in chart and vae not in chart for chart in charts)


def test_records_measured_otherwise_are_left_out_and_named(loaded: LoadedModels):
    import copy

    changed = copy.deepcopy(loaded.models["gan"].record)
    changed["data"]["fingerprint"] = "1" * 64
    models = {**loaded.models, "gan": dataclasses.replace(loaded.models["gan"], record=changed)}
    other = dataclasses.replace(loaded, models=models)
    assert evidence.comparable(other)[1] == ["gan"]
    assert "left out: gan" in evidence.compare(other)[1]
    none = dataclasses.replace(loaded, models={"vae": dataclasses.replace(loaded.models["vae"], record=None)})
    assert "hfgen evaluate" in why(none) and "hfgen evaluate" in evidence.compare(none)[0]


def test_published_results_travel_with_the_figures_of_a_posterior(tmp_path: Path):
    space, study, posterior = (tmp_path / name for name in ("space", "study", "posterior"))
    for folder in (space, study, posterior / "figures"):
        folder.mkdir(parents=True)
    for name in ("app.py", "requirements.txt"):
        (space / name).touch()
    (space / "README.md").write_text("---\nsdk: gradio\n---\n")
    write_json(study / "study.json", {})
    write_json(posterior / "posterior.json", {"models": [{"name": "/home/me/runs/vae"}]})
    (posterior / "figures" / "vae.png").write_bytes(b"picture")

    def publish(*results: Path) -> None:
        pinned = Pinned("org/vae", "0" * 40, ("config.json",))
        assemble(space, ["org/vae"], tmp_path / "out", results=results, pin=lambda model: pinned)

    publish(study, posterior)
    found = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*")}
    assert found >= {"study.json", "posterior.json", "figures/vae.png"}
    assert json.loads((tmp_path / "out" / "posterior.json").read_text()) == {"models": [{"name": "vae"}]}
    with pytest.raises(UserError, match=r"results: .* has study\.json, and another folder as well"):
        publish(study, study)
    with pytest.raises(UserError, match=r"results: .* has none of"):
        publish(space)


def test_what_was_measured_of_other_weights_is_not_shown(untrained: Path, tmp_path: Path, caplog):
    run = Path(shutil.copytree(untrained / "vae", tmp_path / "vae"))
    measured = json.loads((run / "record.json").read_text())
    sentence = {"sentence": "They are blurred.", "cause": "bottleneck", "confidence": 0.9, "remedy": ""}
    for weights, shown in ((digest_of_folder(run / "pretrained"), True), ("0" * 64, False)):
        measured["model"]["weights"] = weights
        write_json(run / "record.json", measured)
        write_json(run / "diagnosis.json", {"model": {"weights": weights}, "verdict": sentence})
        caplog.clear()
        model = open_models([str(run)], "glyphs")
        assert (model.models["vae"].record is not None) is shown
        page = why(model)
        assert ("They are blurred." in page) is shown
        said = [message for message in caplog.messages if "is of other weights than the model has now" in message]
        assert {message.partition(":")[0] for message in said} == (set() if shown else {"record", "diagnosis"})
