"""Fine-tuning: any autoencoder of the field learns on, and is saved as what it was, for the place that it came from."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

sys.path.append(str(Path(__file__).parent.parent / "autoencoders"))

from classes import make, photographs, save

import hfgen
from hfgen.configs import load_config
from hfgen.errors import UserError
from hfgen.images import to_pil, to_uint8
from hfgen.training.cadence import Cadence
from hfgen.training.train import open_data, train
from hfgen.training.trainer import Trainer

SMALL = ["--resolution=16", "--max_images=16", "--batch_size=8", "--warmup_images=0", "--log_every=8"]
SMALL += ["--sample_every=0", "--checkpoint_every=8", "--precision=fp32", "--model.lr=0.001"]
SMALL += ["--model.perceptual=none", "--model.discriminator_width=8", "--model.discriminator_layers=1"]
TRAINABLE = ["AutoencoderKL", "AutoencoderKLFlux2", "AutoencoderTiny", "VQModel", "AutoencoderDC", "AutoencoderKLWan"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 small colour pictures."""
    folder = tmp_path_factory.mktemp("photos")
    for index, image in enumerate(to_pil(to_uint8(photographs(24, 16)))):
        image.save(folder / f"{index:02d}.png")
    return folder


def config_of(start: Path | str, photos: Path, *overrides: str, recipe: str = "vaegan-finetune"):
    return load_config(recipe, [*SMALL, f"--data={photos}", f"--start_from={start}", *overrides])


def trainer_of(config) -> Trainer:
    from accelerate import Accelerator

    return Trainer(config, open_data(config), Accelerator())


@pytest.mark.parametrize("recipe", ["vaegan-finetune", "vaegan-finetune-decoder"])
@pytest.mark.parametrize("name", TRAINABLE)
def test_it_learns_on_and_stays_the_stock_class_with_its_config(name: str, recipe: str, photos: Path, tmp_path: Path):
    import diffusers

    start = save(name, tmp_path / "start")
    trainer = trainer_of(config_of(start, photos, "--model.adversarial_begin=0", recipe=recipe))
    trainer.step()
    trainer.step()
    Cadence(trainer, tmp_path / "tuned", None).save()
    folder = next((tmp_path / "tuned" / "checkpoints").iterdir()) / "pretrained"
    cls = getattr(diffusers, name)
    new, info = cls.from_pretrained(folder, output_loading_info=True)
    old = cls.from_pretrained(start)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    before, after = (json.loads((place / "config.json").read_text()) for place in (start, folder))
    assert {key: value for key, value in after.items() if key[0] != "_"} == {
        key: value for key, value in before.items() if key[0] != "_"
    }
    assert before["_class_name"] == after["_class_name"] == name
    states = old.state_dict(), new.state_dict()
    moved = {key for key in states[0] if not torch.equal(states[0][key], states[1][key])}
    assert moved
    images = photographs(2, 16)
    codecs = [hfgen.load(place).codec for place in (start, folder)]
    latents = [codec.encode(images).mean for codec in codecs]
    if recipe.endswith("decoder"):
        assert torch.equal(*latents), "the encoder isn't as it was"
        assert not any(key.startswith(("encoder.", "quant")) for key in moved)
    else:
        assert any(key.startswith("encoder.") for key in moved) and not torch.equal(*latents)
    assert not torch.equal(*(codec.reconstruct(images) for codec in codecs))


def test_a_reconstruction_gets_better(photos: Path, tmp_path: Path):
    start = save("AutoencoderKL", tmp_path / "start")
    settings = [
        "--max_images=320",
        "--checkpoint_every=0",
        "--model.adversarial_begin=0.9",
        "--ema_half_life=16",
        "--model.lr=0.003",
    ]
    out = train(config_of(start, photos, *settings), tmp_path / "run")
    assert hfgen.load(out).sample_size == 16, "the run's, not the 32 pixels of the config"
    images = photographs(8, 16)
    before, after = (
        (hfgen.load(place).codec.reconstruct(images) - images).square().mean().item() for place in (start, out)
    )
    assert after < 0.6 * before


def test_it_takes_its_place_in_the_pipeline_that_it_came_from(photos: Path, tmp_path: Path):
    from diffusers import DDIMScheduler, LDMPipeline, UNet2DModel, VQModel

    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",), "block_out_channels": (8,)}
    unet = UNet2DModel(sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, norm_num_groups=4, **blocks)
    LDMPipeline(make("VQModel"), unet, DDIMScheduler()).save_pretrained(tmp_path / "ldm")
    out = tmp_path / "run"
    pretrained = train(config_of(tmp_path / "ldm", photos), out)
    assert {path.name for path in pretrained.iterdir()} >= {"config.json", "diffusion_pytorch_model.safetensors"}

    def drawn(vqvae) -> Image.Image:
        pipe = LDMPipeline.from_pretrained(tmp_path / "ldm", vqvae=vqvae)
        pipe.set_progress_bar_config(disable=True)
        return pipe(generator=torch.Generator().manual_seed(0), num_inference_steps=1).images[0]

    first, second = (drawn(VQModel.from_pretrained(at)) for at in (tmp_path / "ldm" / "vqvae", pretrained))
    assert first.size == second.size == (16, 16) and first.tobytes() != second.tobytes()
    assert type(hfgen.load(out)).__name__ == "AutoencoderPipeline"
    logged = (out / "log.jsonl").read_text().splitlines()
    assert "autoencoder/quantiser" in json.loads(logged[-1])
    # Again: it is finished, and a run whose last checkpoint is lost goes on with the same bits.
    import shutil

    wanted = (pretrained / "diffusion_pytorch_model.safetensors").read_bytes()
    shutil.rmtree(max((out / "checkpoints").iterdir()))
    shutil.rmtree(pretrained)
    again = train(config_of(tmp_path / "ldm", photos), out)
    assert (again / "diffusion_pytorch_model.safetensors").read_bytes() == wanted


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("AutoencoderKL", ["--resolution=15"], "resolution: 15 pixels; the model takes multiples of 2: set 1[46]"),
        ("AutoencoderKL", ["--channels=1"], "channels: 1, but the model takes 3; set channels 3"),
        ("AutoencoderRAE", ["--resolution=32", "--small_images=upscale"], "resolution: 32, but the model takes 16"),
        ("ConsistencyDecoderVAE", [], "start_from: the decoder of ConsistencyDecoderVAE draws noise"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_the_run(
    name: str, settings: list[str], words: str, photos: Path, tmp_path: Path
):
    with pytest.raises(UserError, match=words):
        train(config_of(save(name, tmp_path / "start"), photos, *settings), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_start_is_needed(photos: Path):
    with pytest.raises(UserError, match="start_from: none is given, and fine-tuning needs a model"):
        config_of("", photos)


def test_a_bare_network_starts_a_run_of_its_class(photos: Path, tmp_path: Path):
    from hfgen.models.decoder import decoder_arguments

    arguments = decoder_arguments(16, 3, 4, 4, 16, 16)
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    AutoencoderKL(**arguments, scaling_factor=0.5).save_pretrained(tmp_path / "bare")
    settings = ["--model.latent_size=4", "--model.width=16", "--model.max_width=16", "--model.prior=normal"]
    shared = [option for option in SMALL if "perceptual" not in option and "discriminator" not in option]
    config = load_config("vae-glyphs", [*shared, *settings, f"--data={photos}", f"--start_from={tmp_path / 'bare'}"])
    trainer = trainer_of(config)
    weight = AutoencoderKL.from_pretrained(tmp_path / "bare").decoder.conv_out.weight
    assert torch.equal(trainer.networks["vae"].decoder.conv_out.weight, weight)
    assert trainer.networks["vae"].config.scaling_factor == 0.5
