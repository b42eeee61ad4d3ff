"""Images of any size: which side is taken, what becomes of sides between, and PIL images of every mode."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from classes import make, photographs, save
from PIL import Image
from test_classes import shuffled

import hfgen
from hfgen.autoencoders import Autoencoder
from hfgen.autoencoders.sizes import default_side, pad_to_factor, reconstruct_any_size
from hfgen.devices import choose
from hfgen.errors import SettingsError
from hfgen.models.hfgen_prior_v1 import LatentPrior
from hfgen.pipelines import VAEPipeline
from hfgen.pipelines.given import opened
from hfgen.space.loaded_models import open_models

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize(
    ("name", "changes", "side"),
    [
        ("AutoencoderKL", {"sample_size": 1024}, 256),
        ("AutoencoderKL", {"sample_size": 64}, 64),
        ("AutoencoderKL", {"sample_size": 33}, 32),
        ("AutoencoderTiny", {}, 256),
        ("AutoencoderKLWan", {}, 256),
        ("AutoencoderRAE", {}, 16),
        # The class's own default, which a factor of 8 would leave 4 x 4 numbers of: nobody set it.
        (
            "VQModel",
            {
                "down_block_types": ("DownEncoderBlock2D",) * 4,
                "up_block_types": ("UpDecoderBlock2D",) * 4,
                "block_out_channels": (4,) * 4,
            },
            256,
        ),
        ("VQModel", {}, 32),
    ],
)
def test_a_side_is_chosen_where_nobody_gave_one(name: str, changes: dict, side: int):
    assert default_side(Autoencoder(make(name, **changes))) == side


def test_the_side_taken_and_the_side_of_the_training_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "hfgen")
    save("AutoencoderKL", tmp_path / "kl", sample_size=1024)
    assert hfgen.load(tmp_path / "kl").sample_size == 256
    assert hfgen.load(tmp_path / "kl", resolution=130).latent_shape == (4, 65, 65)
    assert hfgen.load(tmp_path / "kl", resolution=1024).sample_size == 1024
    hfgen.load(save("AutoencoderTiny", tmp_path / "tiny"))
    assert [record.message for record in caplog.records if "resolution" in record.message] == [
        "resolution: 256 pixels; by its config the model was trained at 1024",
        "resolution: 130 pixels; by its config the model was trained at 1024",
        "resolution: 256 pixels; its config doesn't say at which size the model was trained",
    ]
    with pytest.raises(SettingsError, match="resolution: 99 pixels; the model takes multiples of 2, such as"):
        hfgen.load(tmp_path / "kl", resolution=99)
    with pytest.raises(SettingsError, match="resolution: 32, but the model's images have 16 pixels"):
        hfgen.load(save("AutoencoderRAE", tmp_path / "rae"), resolution=32)


def test_padding_continues_an_image_by_its_reflection():
    images = torch.arange(5.0).expand(1, 1, 3, 5)
    wide = pad_to_factor(images, 4)
    assert wide.shape == (1, 1, 4, 8) and wide[0, 0, 0].tolist() == [0, 1, 2, 3, 4, 3, 2, 1]
    assert pad_to_factor(images[..., :2], 8)[0, 0, 0].tolist() == [0, 1, 0, 1, 0, 1, 0, 1]
    assert pad_to_factor(images[..., :1], 4)[0, 0, 0].tolist() == [0, 0, 0, 0]
    assert torch.equal(pad_to_factor(wide, 4), wide)
    expected = torch.nn.functional.pad(images, (0, 3, 0, 1), mode="reflect")
    assert torch.equal(wide, expected)


@torch.no_grad()
def test_each_image_keeps_its_size_whatever_the_others_are():
    identity = Autoencoder(shuffled(4))
    images = [photographs(1, size)[0] for size in ((5, 9), (8, 8), (5, 9), (1, 3), (33, 17))]
    for image, back in zip(images, reconstruct_any_size(identity, images), strict=True):
        assert torch.equal(image, back)
    network = Autoencoder(make("AutoencoderKL"))
    image = photographs(1, (6, 10))
    (alone,) = reconstruct_any_size(network, [image[0]])
    torch.testing.assert_close(alone, network.reconstruct(image)[0], atol=1e-4, rtol=0)
    with pytest.raises(SettingsError, match="images: 8 x 16 pixels; the model takes 16 x 16 only"):
        reconstruct_any_size(Autoencoder(make("AutoencoderRAE")), [photographs(1, (8, 16))[0]])


def picture(mode: str, size: tuple[int, int] = (13, 7)) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    return Image.fromarray(pixels, "RGBA").convert(mode)


def test_pil_images_of_any_mode_and_size_come_back_with_their_size(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "hfgen")
    pipe = hfgen.load(save("AutoencoderKL", tmp_path / "kl", sample_size=256))
    given = [
        picture("RGB"),
        picture("L", (32, 5)),
        picture("RGBA", (6, 6)),
        picture("P"),
        picture("CMYK"),
        picture("1"),
    ]
    back = pipe.reconstruct(given).images
    assert [image.size for image in back] == [image.size for image in given]
    assert {image.mode for image in back} == {"RGB"}
    said = [record.message for record in caplog.records]
    assert "images: 2 grey, converted to RGB" in said and "images: 2 transparent, composited on white" in said
    assert "images: 1 CMYK, converted to RGB" in said
    one = pipe.reconstruct(given[0]).images[0]
    assert one.tobytes() == back[0].tobytes() == pipe.reconstruct(given[:1]).images[0].tobytes()
    with pytest.raises(ValueError, match="output_type: 'pt' can't hold images of these sizes"):
        pipe.reconstruct(given[:2], output_type="pt")
    assert pipe.reconstruct([given[0]] * 2, output_type="np").images.shape == (2, 7, 13, 3)
    with pytest.raises(ValueError, match=r"images: shape \(1, 2, 8, 8\) doesn't fit the model's; give \(N, 3, H, W\)"):
        pipe.reconstruct(torch.zeros(1, 2, 8, 8))
    drawn = [pipe.reconstruct(given[:3], generator=torch.Generator().manual_seed(s)).images for s in (0, 0, 1)]
    assert drawn[0][2].tobytes() == drawn[1][2].tobytes() != drawn[2][2].tobytes()
    listed = pipe.reconstruct(given[:1], generator=[torch.Generator().manual_seed(0)]).images
    assert listed[0].tobytes() == drawn[0][0].tobytes()


def test_alpha_goes_through_a_network_that_has_it(tmp_path: Path):
    pipe = hfgen.load(save("AutoencoderKLQwenImage21", tmp_path))
    back = pipe.reconstruct([picture("RGBA"), picture("RGB")]).images
    assert [image.mode for image in back] == ["RGBA", "RGB"] and {image.size for image in back} == {(13, 7)}
    assert pipe.reconstruct(torch.zeros(1, 4, 8, 8), output_type="pt").images.shape == (1, 4, 8, 8)


def test_of_a_fixed_size_pil_images_are_resized_and_back(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "hfgen")
    pipe = hfgen.load(save("AutoencoderRAE", tmp_path))
    assert [image.size for image in pipe.reconstruct([picture("RGB"), picture("RGB", (16, 16))]).images] == [
        (13, 7),
        (16, 16),
    ]
    assert "images: resized to 16 x 16, the only size that the model takes, and back" in [
        record.message for record in caplog.records
    ]


EIGHTH = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (4,) * 4,
    "norm_num_groups": 4,
    "layers_per_block": 1,
}
"""Of Stable Diffusion's factor, at which the class's default says nothing."""


def a_run(folder: Path, side: int, **changes: int) -> Path:
    """The folder of a run of this resolution, with a checkpoint on its way."""
    for place in (folder, folder / "checkpoints" / "000000000008"):
        save("AutoencoderKL", place / "pretrained", **EIGHTH, **changes)
    (folder / "run.json").write_text(json.dumps({"schema": 1, "config": {"family": "finetune", "resolution": side}}))
    return folder


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if "resolution" in record.message]


@pytest.mark.parametrize("place", ["", "pretrained", "checkpoints/000000000008", f"pretrained/{WEIGHTS}"])
def test_a_runs_own_resolution_decides(place: str, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "hfgen")
    run = a_run(tmp_path / "run", 64)
    pipe = hfgen.load(run / place)
    assert pipe.sample_size == pipe.trained_size == 64 and pipe.latent_shape == (4, 8, 8)
    assert said(caplog) == ["resolution: 64 pixels, at which the model was trained by its run.json"]
    caplog.clear()
    assert hfgen.load(run / place, resolution=128).sample_size == 128 and hfgen.load(run / place, resolution=64)
    assert said(caplog) == ["resolution: 128 pixels; by its run.json the model was trained at 64"]


@pytest.mark.parametrize(("side", "config"), [(32, 512), (512, 256)])
def test_it_decides_over_the_config_and_beyond_256(side: int, config: int, tmp_path: Path):
    assert hfgen.load(a_run(tmp_path / "run", side, sample_size=config)).sample_size == side


def test_what_is_measured_and_shown_of_a_run_has_its_resolution(tmp_path: Path):
    run, compute = a_run(tmp_path / "run", 32), choose("cpu")
    for given in (str(run), hfgen.load(run)):
        with opened(given, compute) as (pipeline, _):
            assert pipeline.sample_size == 32
        with opened(given, compute, resolution=64) as (pipeline, _):
            assert pipeline.sample_size == 64
    shown = open_models({"mine": str(run)}, "glyphs", device="cpu").models["mine"]
    assert shown.name == "mine" and shown.size == (32, 3)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("{", "is damaged"),
        ('{"config": {"resolution": 33}}', "resolution 33 isn't one that the model takes"),
        ('{"config": {"resolution": 8192}}', "resolution 8192 isn't one that the model takes"),
        ('{"config": {"resolution": true}}', ""),
        ('{"resolution": 32}', ""),
        ("[]", ""),
        (None, ""),
    ],
)
def test_without_a_runs_word_the_line_says_why_256_is_taken(
    written: str | None, words: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, "hfgen")
    run = a_run(tmp_path / "run", 32)
    (run / "run.json").unlink() if written is None else (run / "run.json").write_text(written)
    assert hfgen.load(run).sample_size == 256
    warned = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert [words in message for message in warned] == [True] * bool(words)
    assert said(caplog)[-1] == (
        "resolution: 256 pixels; sample_size 32 is its class's default, and may be nobody's choice"
    )


def test_a_run_json_is_that_of_the_networks_own_folder(tmp_path: Path):
    run = a_run(tmp_path / "run", 64)
    save("AutoencoderKL", run / "other", **EIGHTH)
    assert hfgen.load(run / "other").sample_size == 256


def test_a_grey_network_takes_colour_as_grey(tmp_path: Path):
    pipe = hfgen.load(save("AutoencoderKL", tmp_path, in_channels=1, out_channels=1))
    assert pipe.channels == 1 and pipe.reconstruct([picture("RGB")]).images[0].mode == "L"


def test_a_part_of_hfgens_own_pipeline_keeps_its_size_and_its_sampling(tmp_path: Path):
    save("VQModel", tmp_path / "vqvae", sample_size=32, norm_num_groups=4)
    save("AutoencoderKL", tmp_path / "vae", sample_size=8)
    for own in (True, False):
        name = "VQVAEPipeline" if own else "StableDiffusionPipeline"
        (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": ["hfgen_pipelines_v1", name]}))
        vae, vqvae = hfgen.load(tmp_path / "vae"), hfgen.load(tmp_path / "vqvae")
        assert vae.can_sample == own and vae.sample_size == 8
        assert vqvae.sample_size == 32 and not vqvae.can_sample


def test_beside_a_fitted_prior_an_autoencoder_that_is_opened_alone_draws_nothing(tmp_path: Path):
    vae = hfgen.load(save("AutoencoderKL", tmp_path / "vae", sample_size=8)).autoencoder
    side = 8 // 2 ** (len(vae.config.block_out_channels) - 1)
    VAEPipeline(vae, LatentPrior((vae.config.latent_channels, side, side), 2)).save_pretrained(tmp_path / "own")
    assert hfgen.load(tmp_path / "own").can_sample and not hfgen.load(tmp_path / "own" / "vae").can_sample
    assert hfgen.load(tmp_path / "own" / "vae").sample_size == 8
    # Of org/name/vae nothing else is fetched.
    shutil.rmtree(tmp_path / "own" / "prior")
    assert not hfgen.load(tmp_path / "own" / "vae").can_sample
    VAEPipeline(vae).save_pretrained(tmp_path / "plain")
    assert hfgen.load(tmp_path / "plain" / "vae").can_sample


def test_saved_again_it_is_the_stock_network(tmp_path: Path):
    from diffusers import AutoencoderKL

    pipe = hfgen.load(save("AutoencoderKL", tmp_path / "kl", scaling_factor=0.13))
    pipe.save_pretrained(tmp_path / "again", variant="fp16")
    assert {path.name for path in (tmp_path / "again").iterdir()} == {
        "config.json",
        "diffusion_pytorch_model.fp16.safetensors",
    }
    again, info = AutoencoderKL.from_pretrained(tmp_path / "again", variant="fp16", output_loading_info=True)
    assert not info["missing_keys"] and again.config.scaling_factor == 0.13
    with pytest.raises(ValueError, match="can't generate; call reconstruct"):
        pipe()
