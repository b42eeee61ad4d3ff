"""What the Space shows, without Gradio."""

import base64
import io
import re
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from hfgen.data import draw
from hfgen.errors import UserError
from hfgen.images import to_float, to_uint8, unit_to_uint8
from hfgen.space import averaging, evidence, knobs, markup, views
from hfgen.space.knobs import Knobs
from hfgen.space.loaded_models import LoadedModels, open_models, quickstart_models
from hfgen.space.views import Choices

X = draw("glyphs", "test", 0, 3, 16).images


def pixels(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))))


def test_one_that_cannot_be_opened_leaves_the_others(loaded: LoadedModels):
    assert list(loaded.models) == ["vae", "vqvae", "gan"] and loaded.failed == ["damaged"]
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
    page, values = views.reconstructions(loaded, 0, Knobs())
    assert [one["model"] for one in values["models"]] == ["colour"] and "<figure>" in page
    calls = [function.name for function in build(Endpoints(loaded)).fns.values()]
    # For who asks, and not when the page opens as well: it would be an error that nobody caused.
    assert "reconstruct" in calls and calls.count("generate") == 1


@pytest.mark.parametrize("name", ["vae", "vqvae"])
def test_untouched_knobs_do_what_the_pipeline_does(loaded: LoadedModels, name: str):
    pipeline = loaded.models[name].pipeline
    expected = unit_to_uint8(pipeline.reconstruct(to_float(X), output_type="pt").images)
    assert torch.equal(knobs.reconstruct(pipeline, X, Knobs()).images, expected)
    every = Knobs(channels=knobs.latent_channels(pipeline))
    assert torch.equal(knobs.reconstruct(pipeline, X, every).images, expected)


def test_each_knob_changes_what_it_says(loaded: LoadedModels):
    vae, vqvae = (loaded.models[name].pipeline for name in ("vae", "vqvae"))
    plain = knobs.reconstruct(vae, X, Knobs())
    noisy = knobs.reconstruct(vae, X, Knobs(noise=True, seed=1)).images
    assert not torch.equal(noisy, plain.images)
    assert torch.equal(noisy, knobs.reconstruct(vae, X, Knobs(noise=True, seed=1)).images)
    assert not torch.equal(noisy, knobs.reconstruct(vae, X, Knobs(noise=True, seed=2)).images)
    fewer = knobs.reconstruct(vae, X, Knobs(channels=1))
    assert not torch.equal(fewer.images, plain.images) and (fewer.rate_bits < plain.rate_bits).all()
    mean, _ = vae.posterior(to_float(X))
    mean[:, 1:] = 0
    with torch.no_grad():
        assert torch.equal(fewer.images, to_uint8(vae.vae.decode(mean).sample))
    free = knobs.reconstruct(vqvae, X, Knobs(quantise=False))
    assert not torch.equal(free.images, knobs.reconstruct(vqvae, X, Knobs()).images) and free.rate_bits is None
    codes = vqvae.codes(to_float(X))
    assert knobs.reconstruct(vqvae, X, Knobs()).rate_bits.tolist() == [codes.shape[1] * 4.0] * 3  # of 16 codes


@pytest.mark.parametrize("name", ["vae", "vqvae", "gan"])
def test_interpolation_begins_and_ends_with_the_seeds_images(loaded: LoadedModels, name: str):
    pipeline = loaded.models[name].pipeline
    path = knobs.interpolate(pipeline, 3, 4, 5)
    ends = [pipeline(1, torch.Generator().manual_seed(seed), "pt").images for seed in (3, 4)]
    expected = unit_to_uint8(torch.cat(ends))
    assert path.shape == (5, 1, 16, 16)
    assert (path[[0, -1]].int() - expected.int()).abs().max() <= 1


def test_reconstructions_are_measured_and_shown_pixel_by_pixel(loaded: LoadedModels):
    found = views.reconstructions(loaded, 0, Knobs())
    for one in found.values["models"]:
        assert (pixels(one["original"]) == X[0, 0].numpy()).all()
        error = X[0, 0].double() - torch.from_numpy(pixels(one["reconstruction"]).copy())
        assert one["psnr"] == pytest.approx(float(10 * torch.log10(255**2 / error.square().mean())))
    tags = re.findall(r'<img class="hf-pixels" src="([^"]+)" width="(\d+)" height="(\d+)"', found.page)
    assert len(tags) == 6
    for source, width, height in tags:
        shown = pixels(source)
        assert shown.shape[:2] == (int(height), int(width)) and shown.shape[0] == 192
        assert (shown == shown[::12, ::12].repeat(12, 0).repeat(12, 1)).all()


def test_every_picture_has_words(loaded: LoadedModels):
    pages = [views.reconstructions(loaded, 1, Knobs()).page, views.samples(loaded, Choices(count=4)).page]
    pages += [views.interpolation(loaded, 0, 1).page, views.neighbours(loaded, Choices(count=2)).page]
    pages += [evidence.why(loaded), evidence.compare(loaded), views.blind_pair(loaded, "gan", 3, True).page]
    for page in pages:
        images = re.findall(r"<img [^>]*>", page)
        assert images and all(re.search(r'alt="[^"]{4,}"', image) for image in images)
        assert page.count("<figure>") == page.count("<figcaption>") > 0
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
        shown = views.blind_pair(loaded, "gan", 2, right).values["images"]
        assert (pixels(shown[right]) == X[2, 0].numpy()).all()
        assert not (pixels(shown[not right]) == X[2, 0].numpy()).all()


def test_the_numbers_are_the_records(loaded: LoadedModels):
    rows = evidence.rows(loaded)
    assert ["psnr", "vae", 20, 19.99, 20.01, 20, None] in rows
    assert ["recall", "gan", 0.9, 0.89, 0.91, 20, 1.0] in rows
    assert len(rows) == 2 * 12 + 6
    page = evidence.why(loaded)
    assert "0.100 [0.090, 0.110]" in page and "averaging" in page


def test_averaging_is_told_by_gain_coherence_and_power_and_the_identity_is_derived(loaded: LoadedModels):
    page = evidence.why(loaded)
    places = [page.index(f">{word}<") for word in ("gain", "coherence", "power", "derived: averaging identity")]
    assert places == sorted(places)
    assert "detail partly made up" in page and "shows nothing by itself" in page
    assert "vae: gain 1.00 to 0.50, coherence 0.90 to 0.30, power 0.10 to 0.05" in page
    flat = {"metrics": {}, "spectrum": {"frequencies": [0.1], "real": [1.0]}}
    assert "<figure" not in "".join(averaging.sections({"gan": flat}))


def test_records_measured_otherwise_are_left_out_and_named(loaded: LoadedModels):
    import copy
    import dataclasses

    changed = copy.deepcopy(loaded.models["gan"].record)
    changed["data"]["fingerprint"] = "1" * 64
    models = {**loaded.models, "gan": dataclasses.replace(loaded.models["gan"], record=changed)}
    other = dataclasses.replace(loaded, models=models)
    assert evidence.comparable(other)[1] == ["gan"]
    assert "left out: gan" in evidence.compare(other)
    none = dataclasses.replace(loaded, models={"x": dataclasses.replace(loaded.models["vae"], record=None)})
    assert "hfgen evaluate" in evidence.why(none) and evidence.rows(none) == []


def test_what_comes_from_outside_is_text():
    evil = "<script>alert(1)</script>"
    for made in (markup.figure("", evil), markup.table([evil], [[evil, evil]], evil), markup.link("why", seed=evil)):
        assert "<script>" not in made
    assert 'href="?view=generate&amp;seed=3&amp;fitted=1"' in markup.link("generate", seed=3, fitted=True, label=None)
