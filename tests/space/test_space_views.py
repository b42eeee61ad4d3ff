"""What the Space shows, without Gradio."""

import base64
import dataclasses
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
from hfgen.pipelines.autoencoder import codec_of
from hfgen.space import game, knobs, markup, views
from hfgen.space.happened import Change, sentence
from hfgen.space.knobs import Knobs
from hfgen.space.loaded_models import LoadedModels, open_models, quickstart_models
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
    events = list(build(Endpoints(loaded)).fns.values())
    calls = [event.name for event in events]
    queues = {event.name: event.concurrency_id for event in events}
    assert queues["reconstruct"] != queues["generate"] == queues["interpolate"], "who draws doesn't wait for an upload"
    # For who asks, and not when the page opens as well: it would be an error that nobody caused.
    assert "reconstruct" in calls and calls.count("generate") == 1


def test_large_autoencoders_of_colour_show_photographs_where_no_data_are_given(tmp_path: Path):
    from skimage.data import astronaut

    blocks: dict[str, Any] = {"block_out_channels": (4,), "norm_num_groups": 4, "sample_size": 64}
    diffusers.AutoencoderKL(**blocks).save_pretrained(tmp_path / "large")
    loaded = open_models([str(tmp_path / "large")])
    images, whole = loaded.images((64, 3)), loaded.images((512, 3))
    assert images.shape == (5, 3, 64, 64) and images.float().std((1, 2, 3)).min() > 10
    assert (whole[0].permute(1, 2, 0).numpy() == astronaut()).all()
    told: list[tuple[int, int, str]] = []
    _, values = reconstructions(loaded, 4, Knobs(), lambda *progress: told.append(progress))
    assert told == [(0, 1, "large")] and values["models"][0]["original"] == markup.pngs(images[4:])[0]
    assert open_models([str(tmp_path / "large")], "glyphs").images((64, 3)).shape[0] > 5


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
    noise = torch.randn((2, 1, 1, *models["vae"].pipeline.latent_shape), generator=torch.Generator().manual_seed(3))[
        1, 0
    ]
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
        images = re.findall(r"<(?:img|svg) [^>]*>", page)
        words = r'(?:alt|aria-label)="[^"]{4,}"|aria-hidden="true"'
        assert images and all(re.search(words, image) for image in images), images
        assert len(re.findall("<figure[ >]", page)) == page.count("<figcaption>") > 0
        assert not re.search(r'(src|href)="(?!data:image/png|\?view=|#)', page)


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


def test_a_class_that_a_model_does_not_know_is_drawn_of_its_own_and_said(loaded: LoadedModels):
    known, unknown, drawn = (views.samples(loaded, Choices(seed=5, count=2, label=label)) for label in (2, 7, None))
    assert "class 2" in known.page and "classes" not in known.page
    assert "drawn of its 3 classes" in unknown.page
    assert unknown.values == drawn.values != known.values


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


def test_what_comes_from_outside_is_text():
    evil = "<script>alert(1)</script>"
    for made in (markup.figure("", evil), markup.table([evil], [[evil, evil]], evil), markup.link("why", seed=evil)):
        assert "<script>" not in made
    assert 'href="?view=generate&amp;seed=3&amp;fitted=1"' in markup.link("generate", seed=3, fitted=True, label=None)
