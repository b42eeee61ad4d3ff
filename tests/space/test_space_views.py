"""What the Space shows, without Gradio."""

import base64
import dataclasses
import io
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from hfgen.data import draw
from hfgen.errors import UserError
from hfgen.files import write_json
from hfgen.images import to_float, to_uint8, unit_to_uint8
from hfgen.pipelines.autoencoder import codec_of
from hfgen.space import averaging, evidence, game, knobs, markup, views
from hfgen.space.claims import claims
from hfgen.space.happened import Change, sentence
from hfgen.space.knobs import Knobs
from hfgen.space.loaded_models import LoadedModels, open_models, quickstart_models
from hfgen.space.plane import plane
from hfgen.space.side_by_side import reconstructions
from hfgen.space.views import Choices
from hfgen.space.why import why

X = draw("glyphs", "test", 0, 3, 16).images


def pixels(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))))


def test_one_that_cannot_be_opened_leaves_the_others(loaded: LoadedModels):
    assert (
        list(loaded.models) == ["vae", "vqvae", "gan"]
        and list(loaded.failed) == ["damaged"]
        and "NoSuchPipeline" in loaded.failed["damaged"]
    )
    assert [model.name for model in loaded.encoders] == ["vae", "vqvae"]
    assert loaded.data == "glyphs"


def test_no_model_at_all_is_refused(untrained: Path, tmp_path: Path):
    with pytest.raises(UserError, match="none of damaged can be opened"):
        open_models([str(untrained / "damaged")])
    with pytest.raises(UserError, match="is given twice"):
        open_models([str(untrained / "vae"), str(untrained / "vae" / "pretrained")])
    with pytest.raises(UserError, match="hfgen quickstart"):
        quickstart_models(tmp_path)
    assert [Path(model).name for model in quickstart_models(untrained)] == ["damaged", "gan", "vae", "vqvae"]


def test_autoencoders_of_colour_open_without_data_and_without_an_error(tmp_path: Path):
    pytest.importorskip("gradio")
    from hfgen.space.endpoints import Endpoints
    from hfgen.space.interface import build

    blocks: dict[str, Any] = {"block_out_channels": (8,), "norm_num_groups": 4, "sample_size": 32}
    diffusers.AutoencoderKL(**blocks).save_pretrained(tmp_path / "colour")
    loaded = open_models([str(tmp_path / "colour")])
    images = loaded.images((32, 3))
    assert images.shape[1:] == (3, 32, 32) and (images[:, :1] == images).all()
    page, values = reconstructions(loaded, 0, Knobs())
    assert [one["model"] for one in values["models"]] == ["colour"] and 'class="hf-cell"' in page
    calls = [function.name for function in build(Endpoints(loaded)).fns.values()]
    # For who asks, and not when the page opens as well: it would be an error that nobody caused.
    assert "reconstruct" in calls and calls.count("generate") == 1


@pytest.mark.parametrize("name", ["vae", "vqvae"])
def test_untouched_knobs_do_what_the_pipeline_does(loaded: LoadedModels, name: str):
    pipeline = loaded.models[name].pipeline
    expected = unit_to_uint8(pipeline.reconstruct(to_float(X), output_type="pt").images)
    assert torch.equal(knobs.reconstruct(pipeline, X, Knobs()).images, expected)
    every = Knobs(average=True)
    assert torch.equal(knobs.reconstruct(pipeline, X, every).images, expected)


def test_each_knob_changes_what_it_says(loaded: LoadedModels):
    vae, vqvae = (loaded.models[name].pipeline for name in ("vae", "vqvae"))
    plain = knobs.reconstruct(vae, X, Knobs())
    sampled = knobs.reconstruct(vae, X, Knobs(posterior=True, seed=1)).images
    assert not torch.equal(sampled, plain.images)
    assert torch.equal(sampled, knobs.reconstruct(vae, X, Knobs(posterior=True, seed=1)).images)
    assert not torch.equal(sampled, knobs.reconstruct(vae, X, Knobs(posterior=True, seed=2)).images)
    free = knobs.reconstruct(vqvae, X, Knobs(quantise=False))
    assert not torch.equal(free.images, knobs.reconstruct(vqvae, X, Knobs()).images) and free.rate_bits is None
    codes = vqvae.codes(to_float(X))
    assert knobs.reconstruct(vqvae, X, Knobs()).rate_bits.tolist() == [codes.shape[1] * 4.0] * 3  # of 16 codes


@pytest.mark.parametrize("name", ["vae", "vqvae"])
def test_components_are_the_latents_own(loaded: LoadedModels, name: str):
    """Against NumPy's: each component's variance, all of them give the latent back, none gives the mean."""
    model = loaded.models[name]
    found = loaded.components(model)
    held_out = loaded.images(model.size)
    with torch.no_grad():
        latents = codec_of(model.pipeline).encode(to_float(held_out)).mean
    rows = latents.flatten(1).numpy().astype(float)
    variances = np.linalg.svd(rows - rows.mean(0), compute_uv=False) ** 2 / len(rows)
    projected = (rows - rows.mean(0)) @ found.directions.numpy().T
    np.testing.assert_allclose(projected.var(0)[: len(variances)], variances, atol=1e-6)
    torch.testing.assert_close(found.project(latents, len(found)), latents, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.project(latents, 0), latents.mean(0).expand_as(latents), atol=1e-4, rtol=0)
    errors = [float((found.project(latents, count) - latents).square().sum()) for count in range(len(found) + 1)]
    np.testing.assert_allclose(errors[0] - errors[1], variances[0] * len(rows), rtol=1e-3)
    assert np.diff(errors).max() < 1e-6
    assert [found.kept(share) for share in (0, 1e-6, 1)] == [0, 1, len(found)]


def test_large_latents_have_components_of_channels(loaded: LoadedModels):
    """More than 256 numbers: one basis of channels for all places."""
    pipeline = loaded.models["vae"].pipeline
    wide = draw("glyphs", "test", 0, 8, 128).images
    with torch.no_grad():
        latents = codec_of(pipeline).encode(to_float(wide[:16])).mean
    found = knobs.components(pipeline, wide)
    assert latents[0].numel() > 256 and len(found) == latents.shape[1]
    torch.testing.assert_close(found.project(latents, len(found)), latents, atol=1e-4, rtol=0)
    none = found.project(latents, 0)
    torch.testing.assert_close(none, none[:1, :, :1, :1].expand_as(none))


def test_fewer_components_noise_and_means_of_draws(loaded: LoadedModels):
    model = loaded.models["vae"]
    found = loaded.components(model)
    few = knobs.reconstruct(model.pipeline, X, Knobs(keep=0.25), found)
    none = knobs.reconstruct(model.pipeline, X, Knobs(keep=0), found)
    assert few.rate_bits is None and not torch.equal(few.images, none.images)
    assert torch.equal(none.images, none.images[:1].expand_as(none.images)), "nothing kept is the same for all"
    noisy = [knobs.reconstruct(model.pipeline, X, Knobs(noise=1, seed=seed), found).images for seed in (0, 0, 1)]
    assert torch.equal(noisy[0], noisy[1]) and not torch.equal(noisy[0], noisy[2])
    # The mean of draws is the mean of the decoder's images, of which the first is the one that is shown alone.
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        codec = codec_of(model.pipeline)
        mean = codec.encode(to_float(X)).mean
        torch.randn((knobs.DRAWS, *mean.shape), generator=generator)
        noise = torch.randn((knobs.DRAWS, *mean.shape), generator=generator)
        drawn = [codec.decode(mean + found.deviation.float() * one).clamp(-1, 1) for one in noise]
    averaged = knobs.reconstruct(model.pipeline, X, Knobs(noise=1, average=True), found).images
    assert (averaged.int() - to_uint8(torch.stack(drawn).mean(0)).int()).abs().max() <= 1


@pytest.mark.parametrize("name", ["vae", "vqvae", "gan"])
def test_interpolation_begins_and_ends_with_the_seeds_images(loaded: LoadedModels, name: str):
    pipeline = loaded.models[name].pipeline
    path = knobs.interpolate(pipeline, 3, 4, 5)
    ends = [pipeline(1, torch.Generator().manual_seed(seed), "pt").images for seed in (3, 4)]
    expected = unit_to_uint8(torch.cat(ends))
    assert path.shape == (5, 1, 16, 16)
    assert (path[[0, -1]].int() - expected.int()).abs().max() <= 1


def test_reconstructions_are_measured_and_sent_pixel_by_pixel(loaded: LoadedModels):
    found = reconstructions(loaded, 0, Knobs())
    for one in found.values["models"]:
        assert (pixels(one["original"]) == X[0, 0].numpy()).all()
        error = X[0, 0].double() - torch.from_numpy(pixels(one["reconstruction"]).copy())
        assert one["psnr"] == pytest.approx(float(10 * torch.log10(255**2 / error.square().mean())))
    tags = re.findall(r'<img class="hf-pixels [a-z-]+" src="([^"]+)" width="(\d+)" height="(\d+)"', found.page)
    assert len(tags) == 5 and {pixels(source).shape[:2] for source, *_ in tags} == {(16, 16)}
    assert {size for _, *size in map(tuple, tags) for size in size} == {"16"}
    # Those that have no picture say why, in their place.
    assert "It has no encoder" in found.page and "NoSuchPipeline" in found.page


def test_models_of_one_encoder_can_show_a_latent_through_each_others_decoder(with_twin: LoadedModels):
    models = with_twin.models
    assert [with_twin.next_decoder(models[name]) for name in ("vae", "vqvae", "twin")] == ["twin", None, "vae"]
    codecs = {name: codec_of(models[name].pipeline) for name in ("vae", "twin")}
    found, turned = with_twin.components(models["vae"]), Knobs(keep=0.5, noise=1, seed=3)
    # What is shown as the vae's latent through the twin's decoder is the twin's own picture, whatever the knobs.
    noise = torch.randn((2, 1, 1, *found.first.shape[1:]), generator=torch.Generator().manual_seed(3))[1, 0]
    with torch.no_grad():
        latent = codecs["vae"].encode(to_float(X[:1])).mean
        latent = found.project(latent, found.kept(0.5)) + found.deviation.float() * noise
        expected = to_uint8(codecs["twin"].decode(latent).clamp(-1, 1))
    own = reconstructions(with_twin, 0, turned).values["models"]
    shown = {one["model"]: pixels(one["reconstruction"]) for one in own}
    assert np.abs(shown["twin"].astype(int) - expected[0, 0].numpy()).max() <= 1
    assert not (shown["twin"] == shown["vae"]).all()
    page = reconstructions(with_twin, 0, Knobs()).page
    assert 'data-hf-mode="decoder"' in page and "that of vae through twin&#x27;s" in page


def test_without_a_shared_encoder_there_is_no_such_switch(loaded: LoadedModels):
    assert 'data-hf-mode="decoder"' not in reconstructions(loaded, 0, Knobs()).page


def test_what_happened_is_said_from_the_numbers():
    def said(detail: float, psnr: float, knobs: Knobs | None = None) -> str:
        return sentence([Change("vae", detail, 0.2, psnr, 20.0, True)], knobs or Knobs(noise=1))

    assert said(0.05, 15) == "Noise of 1 on the latent: vae turns blurrier and less faithful."
    assert said(0.2, 15).endswith("vae stays as sharp, but shows something else.")
    assert said(0.4, 20).endswith("vae turns sharper, but stays as faithful.")
    assert said(0.2, 20).endswith("vae hardly changes.")
    assert said(0.1, 22, Knobs(keep=0, quantise=False)) == (
        "Nothing of the latent kept, no quantiser: vae turns blurrier, but more faithful."
    )
    untouched = Change("vae", 0.1, 0.1, 20, 20, True)
    assert "shows 10\N{NO-BREAK SPACE}% as much fine detail as this image: less is blurred" in sentence(
        [untouched], Knobs()
    )
    assert "no fine detail" in sentence([untouched._replace(detail=None)], Knobs())
    assert "can be changed" in sentence([untouched._replace(changeable=False)], Knobs(noise=1))
    two = [untouched, untouched._replace(name="vqvae")]
    assert sentence(two, Knobs(noise=1)).endswith("vae and vqvae hardly change.")


def test_every_picture_has_words(loaded: LoadedModels):
    pages = [reconstructions(loaded, 1, Knobs()).page, views.samples(loaded, Choices(count=4)).page]
    pages += [views.interpolation(loaded, 0, 1).page, views.neighbours(loaded, Choices(count=2)).page]
    pages += [
        why(loaded),
        game.page(loaded, game.ask(loaded, game.new_game(), lambda below: 1)),
    ]
    for page in pages:
        images = re.findall(r"<img [^>]*>", page)
        assert images and all(re.search(r'alt="[^"]{4,}"', image) for image in images)
        assert len(re.findall("<figure[ >]", page)) == page.count("<figcaption>") > 0
        assert not re.search(r'(src|href)="(?!data:image/png|\?view=)', page)


def test_samples_are_those_of_the_seed_whatever_their_number(loaded: LoadedModels):
    few, many = (views.samples(loaded, Choices(seed=5, count=count)).values["models"] for count in (2, 5))
    for one, other in zip(few, many, strict=True):
        assert other["images"][:2] == one["images"]
        pipeline = loaded.models[one["model"]].pipeline
        expected = unit_to_uint8(pipeline(2, torch.Generator().manual_seed(5), "pt").images)
        assert (np.stack([pixels(uri) for uri in one["images"]]) == expected[:, 0].numpy()).all()


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        (Choices(count=0), "count: 0"),
        (Choices(count=37), "count: 37"),
        (Choices(seed=-1), "seed: -1"),
        (Choices(truncation=-1.0), "gan: truncation"),
        (Choices(temperature=-1.0), "vqvae: temperature"),
    ],
)
def test_a_choice_out_of_range_is_named(loaded: LoadedModels, choices: Choices, words: str):
    with pytest.raises(UserError, match=words):
        views.samples(loaded, choices)


def test_the_nearest_training_image_of_a_copy_is_itself():
    training = draw("glyphs", "train", 0, 50, 16).images
    nearest, distances = views.nearest_images(training[[7, 30]], training)
    assert torch.equal(nearest, training[[7, 30]]) and (distances == 0).all()
    changed = (training[7:8].int() + 3).clamp(max=255).to(torch.uint8)
    assert torch.equal(views.nearest_images(changed, training)[0], training[7:8])


def test_the_real_one_of_a_pair_is_where_it_is_said(loaded: LoadedModels):
    for right in (False, True):
        shown = game.blind_pair(loaded, "gan", 2, right).values["images"]
        assert (pixels(shown[right]) == X[2, 0].numpy()).all()
        assert not (pixels(shown[not right]) == X[2, 0].numpy()).all()


def test_ten_rounds_and_what_the_eye_was_fooled_by(loaded: LoadedModels):
    state = game.new_game("gan")
    with pytest.raises(UserError, match="no pair is shown"):
        game.answer(state, "left")
    for place in range(game.ROUNDS):
        state = game.ask(loaded, state, lambda below, place=place: place % below)
        assert f"Round {place + 1} of 10" in game.page(loaded, state)
        shown = state["asked"]
        assert shown["answer"] == ("right" if place % 2 else "left")
        held_out = X if place < 3 else draw("glyphs", "test", 0, 10, 16).images
        assert (pixels(shown["images"][place % 2]) == held_out[place, 0].numpy()).all(), "the real one"
        with pytest.raises(UserError, match="neither left nor right"):
            game.answer(state, "middle")
        state = game.answer(state, "left")
    assert game.score(state).startswith("Right so far: 5 of 10;")
    over = game.ask(loaded, state, lambda below: 0)
    assert over["asked"] is None
    page = game.page(loaded, over)
    assert "<b>5</b> of 10" in page and "gan: you were right in 5 of 10; its record has no" in page
    fooled = re.findall(r'src="([^"]+)" alt="a sample of gan that was taken for real"', page)
    assert fooled == [one["images"][0] for one in state["rounds"][1::2]], "the left one, where the right one was real"
    told = {**loaded.models["gan"].record}
    told["metrics"] = {**told["metrics"], "two_sample": {"value": 0.93, "low": 0.9, "high": 0.95, "n": 9}}
    models = {**loaded.models, "gan": dataclasses.replace(loaded.models["gan"], record=told)}
    assert "is right in 93\N{NO-BREAK SPACE}% of all" in game.page(dataclasses.replace(loaded, models=models), over)
    with pytest.raises(UserError, match="model: x isn't one of"):
        game.ask(loaded, game.new_game("x"), lambda below: 0)


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
    write_json(tmp_path / "comparison.json", {**found, "data": {"fingerprint": "1" * 64}})
    assert len(json.loads(plane(dataclasses.replace(loaded, results=[tmp_path]), "perception")[0])["data"]) == 2


def test_averaging_is_told_by_gain_coherence_and_power_and_the_identity_is_derived(loaded: LoadedModels):
    page = why(loaded)
    places = [page.index(f">{word}<") for word in ("gain", "coherence", "power", "derived: averaging identity")]
    assert places == sorted(places)
    assert "detail partly made up" in page and "shows nothing by itself" in page
    assert "vae: gain 1.00 to 0.50, coherence 0.90 to 0.30, power 0.10 to 0.05" in page
    flat = {"metrics": {}, "spectrum": {"frequencies": [0.1], "real": [1.0]}}
    assert "<figure" not in "".join(averaging.sections({"gan": flat}))


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
    assert "the loss: <b>3.00 [2.90, 3.10]</b>" in first and 'stroke="#D55E00"' in first
    assert "p 1e-6" in folded and "the rule" in folded
    # The interval lies right of the bound, and the band where it should lie left of it.
    (band,) = re.findall(r'class="hf-wanted" x="([\d.]+)" y="4" width="([\d.]+)"', first)
    (bound,) = re.findall(r'class="hf-bound" d="M([\d.]+) ', first)
    (interval,) = re.findall(r'stroke-width="4" d="M([\d.]+) \d+H([\d.]+)"', first)
    assert float(band[0]) + float(band[1]) == pytest.approx(float(bound), abs=0.2)
    assert float(bound) < float(interval[0]) < float(interval[1])


def test_an_exact_posterior_is_shown_with_its_picture(loaded: LoadedModels, tmp_path: Path, caplog):
    share = {"value": 0.25, "low": 0.2, "high": 0.3, "n": 4}
    rest = {"value": 0.75, "low": 0.7, "high": 0.8, "n": 4}
    metrics = {"share_latent": share, "share_decoder": rest}
    one = {"name": "runs/vae", "id": "runs/vae", "resolution": 16, "n": 4, "converged": 3, "metrics": metrics}
    budget = {"name": "full", "n": 4, "points": 1, "particles": 1, "sweeps": 1, "attempts": 1}
    document = {"schema": 2, "budget": budget, "seed": 0, "versions": {}}
    write_json(tmp_path / "posterior.json", {**document, "models": [{**one, "images": []}]})
    (tmp_path / "figures").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "figures" / "vae.png")
    page = why(dataclasses.replace(loaded, results=[tmp_path]))
    assert "25 % [20, 30] isn&#x27;t in the latent" in page and "For 1 of the 4 images" in page
    assert f'<rect width="100" height="6" fill="{loaded.styles["vae"].colour}"/><rect width="25.0"' in page
    assert page.count('alt="vae: the real image; the exact mean') == 1
    write_json(tmp_path / "posterior.json", {"models": []})
    assert "exactly" not in why(dataclasses.replace(loaded, results=[tmp_path])) and "posterior.json" in caplog.text


def test_folders_of_results_are_shown_too_and_one_without_any_is_refused(untrained: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"results: .* has none of comparison\.json, study\.json, posterior\.json"):
        open_models([str(untrained / "vae")], results=[tmp_path])
    write_json(tmp_path / "study.json", {"verdicts": []})
    assert open_models([str(untrained / "vae")], results=[tmp_path]).results == [tmp_path, untrained]


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


def test_what_comes_from_outside_is_text():
    evil = "<script>alert(1)</script>"
    for made in (markup.figure("", evil), markup.table([evil], [[evil, evil]], evil), markup.link("why", seed=evil)):
        assert "<script>" not in made
    assert 'href="?view=generate&amp;seed=3&amp;fitted=1"' in markup.link("generate", seed=3, fitted=True, label=None)
