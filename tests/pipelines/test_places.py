"""MODEL in every form: a folder, a pipeline's folder, a file; variants, shards, pickles; any size."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import hfgen
from hfgen.errors import ModelError, SettingsError, UserError
from hfgen.folders import run_of
from hfgen.publishing.isolation import run_without_hfgen

TYPES = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
SMALL = {**TYPES, "block_out_channels": (8, 8), "norm_num_groups": 4}
IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def autoencoder(**settings):
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    return AutoencoderKL(**{**SMALL, "sample_size": 16, **settings}).eval()


def reconstructed(model: Path | str, **options) -> torch.Tensor:
    return hfgen.load(model, **options).reconstruct(IMAGES, output_type="pt").images


@pytest.fixture(scope="module")
def expected() -> torch.Tensor:
    with torch.no_grad():
        network = autoencoder()
        return (network.decode(network.encode(IMAGES).latent_dist.mean).sample / 2 + 0.5).clamp(0, 1)


def test_every_form_of_the_same_weights_gives_the_same_images(expected: torch.Tensor, tmp_path: Path, caplog):
    caplog.set_level(logging.INFO, "hfgen")
    network = autoencoder()
    network.save_pretrained(tmp_path / "plain")
    network.save_pretrained(tmp_path / "shards", max_shard_size="5KB")
    network.save_pretrained(tmp_path / "sd" / "vae")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "vae": ["diffusers", "AutoencoderKL"],
        "unet": ["diffusers", "U"],
    }
    (tmp_path / "sd" / "model_index.json").write_text(json.dumps(index))
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    weights = tmp_path / "plain" / "diffusion_pytorch_model.safetensors"
    for model in (tmp_path / "plain", tmp_path / "shards", tmp_path / "sd", tmp_path / "sd" / "vae", weights):
        torch.testing.assert_close(reconstructed(model), expected, atol=1e-5, rtol=0)
    assert [record.message for record in caplog.records] == [
        f"{tmp_path / 'sd'} is a StableDiffusionPipeline, of which vae is taken"
    ]


def test_half_precision_weights_are_found_and_run_in_full(expected: torch.Tensor, tmp_path: Path, caplog):
    caplog.set_level(logging.INFO, "hfgen")
    autoencoder().half().save_pretrained(tmp_path / "fp16", variant="fp16")
    pipe = hfgen.load(tmp_path / "fp16")
    assert pipe.autoencoder.dtype == torch.float32
    torch.testing.assert_close(pipe.reconstruct(IMAGES, output_type="pt").images, expected, atol=5e-3, rtol=0)
    assert [record.message for record in caplog.records] == [
        f"{tmp_path / 'fp16'} has only fp16 weights, which are taken"
    ]
    autoencoder(sample_size=16).save_pretrained(tmp_path / "fp16")
    plain, half = hfgen.load(tmp_path / "fp16"), hfgen.load(tmp_path / "fp16", variant="fp16")
    rounded = plain.autoencoder.decoder.conv_out.weight.half().float()
    assert torch.equal(half.autoencoder.decoder.conv_out.weight, rounded)
    assert not torch.equal(plain.autoencoder.decoder.conv_out.weight, rounded)
    with pytest.raises(ModelError, match="has no weights of variant 'bf16'; it has fp16 and plain weights"):
        hfgen.load(tmp_path / "fp16", variant="bf16")


def test_a_pickle_is_refused_with_what_to_do(tmp_path: Path):
    autoencoder().save_pretrained(tmp_path / "bin", safe_serialization=False)
    for model in (tmp_path / "bin", tmp_path / "bin" / "diffusion_pytorch_model.bin"):
        with pytest.raises(
            ModelError, match=r"a pickle, which may run any code .*; convert it to safetensors"
        ) as error:
            hfgen.load(model)
        assert "get the checkpoint again" not in str(error.value)


def test_a_component_of_a_run_is_opened_alone(trained: Path, family: str):
    wanted = {
        "gan": "GANPipeline",
        "translator": "TranslationPipeline",
        "vae": "AutoencoderPipeline" if (trained / "pretrained" / "prior").is_dir() else "VAEPipeline",
        "vqvae": "AutoencoderPipeline",
    }
    for name, cls in wanted.items():
        if (trained / "pretrained" / name).is_dir():
            assert type(hfgen.load(trained / "pretrained" / name)).__name__ == cls
    if (trained / "pretrained" / "prior").is_dir():
        with pytest.raises(ModelError, match="hfgen opens"):
            hfgen.load(trained / "pretrained" / "prior")


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ({"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet2DModel"]}, "holds no autoencoder"),
        (
            {"_class_name": "WanPipeline", "vae": ["diffusers", "AutoencoderOfTomorrow"]},
            "the vae of .* is a AutoencoderOfTomorrow",
        ),
        (
            {"_class_name": "X", "a": ["d", "VQModel"], "b": ["d", "VQModel"]},
            "has several autoencoders; name one: .*/a or",
        ),
        ({"_class_name": "X", "../vae": ["diffusers", "AutoencoderKL"]}, "holds no autoencoder"),
        ([], "holds a list, not a JSON object"),
    ],
)
def test_a_pipeline_without_an_autoencoder_for_hfgen_is_refused(index, words: str, tmp_path: Path):
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=words):
        hfgen.load(tmp_path)


def test_a_folder_says_what_it_holds(tmp_path: Path):
    autoencoder().save_pretrained(tmp_path / "models" / "vae")
    with pytest.raises(ModelError, match=r"it holds vae: name one, .*/models/vae"):
        hfgen.load(tmp_path / "models")
    (tmp_path / "weights.txt").write_text("x")
    with pytest.raises(ModelError, match=r"isn't a \.safetensors file"):
        hfgen.load(tmp_path / "weights.txt")
    with pytest.raises(ModelError, match="is on this machine and has none; leave main out"):
        hfgen.load(tmp_path / "models" / "vae", revision="main")


def original_layout(state: dict[str, torch.Tensor], blocks: int) -> dict[str, torch.Tensor]:
    """A diffusers AutoencoderKL's weights as Stable Diffusion's authors name them."""
    pairs = [
        (r"\.down_blocks\.(\d+)\.resnets\.(\d+)", r".down.\1.block.\2"),
        (r"\.down_blocks\.(\d+)\.downsamplers\.0", r".down.\1.downsample"),
        (r"\.up_blocks\.(\d+)\.resnets\.(\d+)", lambda m: f".up.{blocks - 1 - int(m[1])}.block.{m[2]}"),
        (r"\.up_blocks\.(\d+)\.upsamplers\.0", lambda m: f".up.{blocks - 1 - int(m[1])}.upsample"),
        (r"\.mid_block\.resnets\.(\d+)", lambda m: f".mid.block_{int(m[1]) + 1}"),
        (r"\.mid_block\.attentions\.0\.group_norm", ".mid.attn_1.norm"),
        (r"\.mid_block\.attentions\.0\.to_out\.0", ".mid.attn_1.proj_out"),
        (r"\.mid_block\.attentions\.0\.to_([qkv])", r".mid.attn_1.\1"),
        ("conv_shortcut", "nin_shortcut"),
        ("conv_norm_out", "norm_out"),
    ]
    renamed = {}
    for name, tensor in state.items():
        is_projection = ".attentions." in name and tensor.ndim == 2
        for pattern, replacement in pairs:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor[:, :, None, None] if is_projection else tensor
    return renamed


@pytest.mark.parametrize("prefix", ["", "first_stage_model."])
@pytest.mark.parametrize("quant", [True, False])
def test_an_original_file_is_opened_without_network(prefix: str, quant: bool, tmp_path: Path):
    settings = {"block_out_channels": (32, 64), "norm_num_groups": 32, "latent_channels": 8, "layers_per_block": 2}
    network = autoencoder(**settings, use_quant_conv=quant, use_post_quant_conv=quant)
    state = original_layout(network.state_dict(), blocks=2)
    other = {"model.diffusion_model.out.weight": torch.zeros(3), "loss.logvar": torch.zeros(())}
    save_file(
        {**{prefix + name: tensor.contiguous() for name, tensor in state.items()}, **other}, tmp_path / "ae.safetensors"
    )
    pipe = hfgen.load(tmp_path / "ae.safetensors")
    assert pipe.latent_shape == (8, 128, 128) and pipe.sample_size == 256
    with torch.no_grad():
        wanted = network.decode(network.encode(IMAGES).latent_dist.mean).sample
    torch.testing.assert_close(pipe.reconstruct(IMAGES, output_type="pt").images, (wanted / 2 + 0.5).clamp(0, 1))


def test_an_original_file_takes_what_a_config_beside_it_says(tmp_path: Path, caplog):
    caplog.set_level(logging.INFO, "hfgen")
    network = autoencoder(block_out_channels=(32, 32), norm_num_groups=32, sample_size=1024, scaling_factor=0.13025)
    state = {name: tensor.contiguous() for name, tensor in original_layout(network.state_dict(), blocks=2).items()}
    save_file(state, tmp_path / "sdxl_vae.safetensors")
    network.save_config(tmp_path)
    pipe = hfgen.load(tmp_path / "sdxl_vae.safetensors")
    assert pipe.trained_size == 1024 and pipe.autoencoder.config.scaling_factor == 0.13025
    assert "sample_size 1024 and scaling_factor 0.13025 are those of config.json" in caplog.text
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "_class_name": "AutoencoderTiny"}))
    with pytest.raises(ModelError, match="diffusers reads no single file of a AutoencoderTiny; give its folder"):
        hfgen.load(tmp_path / "sdxl_vae.safetensors")


def test_an_original_file_of_another_class_is_read_by_its_config(tmp_path: Path):
    from diffusers import AutoencoderKLLTXVideo

    # Diffusers' own layout, which its reader of these files takes as well.
    network = AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8,) * 4,
        decoder_block_out_channels=(8,) * 4,
        layers_per_block=(1,) * 5,
        decoder_layers_per_block=(1,) * 5,
        spatio_temporal_scaling=(True, True, False, False),
        decoder_spatio_temporal_scaling=(True, True, False, False),
    ).eval()
    network.save_config(tmp_path)
    save_file(
        {name: tensor.contiguous() for name, tensor in network.state_dict().items()}, tmp_path / "ltx.safetensors"
    )
    pipe = hfgen.load(tmp_path / "ltx.safetensors")
    for name, tensor in network.state_dict().items():
        assert torch.equal(pipe.autoencoder.state_dict()[name], tensor), name


def test_older_names_of_attention_weights_are_read(tmp_path: Path, expected: torch.Tensor):
    from safetensors.torch import load_file

    autoencoder().save_pretrained(tmp_path)
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    older = {"to_q.": "query.", "to_k.": "key.", "to_v.": "value.", "to_out.0.": "proj_attn."}
    renamed = {}
    for name, tensor in load_file(path).items():
        for new, old in older.items():
            name = name.replace(new, old)
        renamed[name] = tensor
    assert any("proj_attn" in name for name in renamed)
    save_file(renamed, path, metadata={"format": "pt"})
    torch.testing.assert_close(reconstructed(tmp_path), expected, atol=1e-5, rtol=0)


def test_weights_of_bf16_in_a_plain_file_run_in_fp32(tmp_path: Path, expected: torch.Tensor):
    autoencoder().bfloat16().save_pretrained(tmp_path)
    pipe = hfgen.load(tmp_path)
    assert pipe.autoencoder.dtype == torch.float32
    torch.testing.assert_close(pipe.reconstruct(IMAGES, output_type="pt").images, expected, atol=5e-2, rtol=0)


def test_a_file_of_something_else_is_refused(tmp_path: Path):
    save_file({"weight": torch.zeros(2, 2)}, tmp_path / "lora.safetensors")
    with pytest.raises(
        ModelError, match="holds no autoencoder of Stable Diffusion's or FLUX's layout; give its folder"
    ):
        hfgen.load(tmp_path / "lora.safetensors")
    state = original_layout(autoencoder(block_out_channels=(32, 32), norm_num_groups=32).state_dict(), blocks=2)
    del state["decoder.mid.block_1.conv1.weight"]
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "part.safetensors")
    with pytest.raises(ModelError, match=r"part\.safetensors"):
        hfgen.load(tmp_path / "part.safetensors")


def test_an_autoencoder_takes_every_size_that_its_factor_divides(tmp_path: Path, caplog):
    from diffusers import VQModel

    caplog.set_level(logging.INFO, "hfgen")
    autoencoder(sample_size=32).save_pretrained(tmp_path / "kl")
    torch.manual_seed(0)
    VQModel(num_vq_embeddings=8, latent_channels=4, sample_size=32, **SMALL).save_pretrained(tmp_path / "vq")
    for name in ("kl", "vq"):
        caplog.clear()
        pipe = hfgen.load(tmp_path / name, resolution=64)
        assert pipe.sample_size == 64
        assert [record.message for record in caplog.records] == [
            "resolution: 64 pixels; by its config the model was trained at 32"
        ]
        assert pipe.reconstruct(torch.zeros(1, 3, 64, 64), output_type="pt").images.shape == (1, 3, 64, 64)
        assert hfgen.load(tmp_path / name, resolution=32).sample_size == 32 and len(caplog.records) == 1
        with pytest.raises(SettingsError, match=r"33 pixels; the model takes multiples of 2, such as 3[24]"):
            hfgen.load(tmp_path / name, resolution=33)
    pipe = hfgen.load(tmp_path / "kl", resolution=64)
    assert pipe.latent_shape == (4, 32, 32)
    with torch.no_grad():
        mean, _ = pipe.posterior(torch.zeros(1, 3, 48, 16))
    assert mean.shape == (1, 4, 24, 8)
    noisy = pipe.reconstruct(torch.zeros(1, 3, 48, 16), output_type="pt", generator=torch.Generator().manual_seed(0))
    assert noisy.images.shape == (1, 3, 48, 16)


def test_a_size_that_networks_do_not_allow_is_refused_when_opening(trained: Path):
    pipe = hfgen.load(trained)
    if pipe.any_size:
        pytest.skip("it takes any size")
    with pytest.raises(SettingsError, match="resolution: 32, but the model's images have 16 pixels") as error:
        hfgen.load(trained, resolution=32)
    # What it says to open instead takes that size.
    for name in re.findall(r"its autoencoder alone, which lies in its folder (\w+)", str(error.value)):
        assert hfgen.load(trained / "pretrained" / name, resolution=32).sample_size == 32


def test_a_config_that_asks_for_too_much_is_refused_before_memory_is_taken(tmp_path: Path):
    autoencoder().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for change in ({"block_out_channels": [10**9, 10**9]}, {"layers_per_block": 10**9}, {"latent_channels": 10**12}):
        (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(UserError, match=r"far larger than its weights|describes no AutoencoderKL"):
            hfgen.load(tmp_path)


def test_diffusers_own_options_are_kept_or_refused_by_name(tmp_path: Path):
    from hfgen.families.vae import VAE

    family = VAE(latent_channels=4, width=16, max_width=16, prior="normal")
    torch.manual_seed(0)
    pipe = family.pipeline(family.build(16, 3))
    pipe.save_pretrained(tmp_path / "plain", max_shard_size="10KB")
    pipe.save_pretrained(tmp_path / "fp16", variant="fp16")
    assert len(list((tmp_path / "plain" / "vae").glob("*.safetensors"))) > 2
    assert (tmp_path / "fp16" / "vae" / "diffusion_pytorch_model.fp16.safetensors").is_file()
    half = hfgen.VAEPipeline.from_pretrained(tmp_path / "fp16", variant="fp16", torch_dtype=torch.bfloat16)
    assert half.vae.dtype == torch.bfloat16 and type(half) is hfgen.VAEPipeline
    other = family.build(16, 3)["vae"]
    assert hfgen.VAEPipeline.from_pretrained(tmp_path / "plain", vae=other).vae is other
    with pytest.raises(SettingsError, match="device_map: 'balanced' isn't supported by VAEPipeline"):
        hfgen.VAEPipeline.from_pretrained(tmp_path / "plain", device_map="balanced")
    with pytest.raises(SettingsError, match="use_safetensors: False"):
        hfgen.VAEPipeline.from_pretrained(tmp_path / "plain", use_safetensors=False)
    with pytest.raises(ValueError, match="safe_serialization: False would write pickles"):
        pipe.save_pretrained(tmp_path / "no", safe_serialization=False)
    with pytest.raises(ValueError, match=r"repo_id: unknown; .* go with push_to_hub=True"):
        pipe.save_pretrained(tmp_path / "no", repo_id="org/name")
    assert not (tmp_path / "no").exists()
    program = """
import sys, torch
from diffusers import DiffusionPipeline
pipe = DiffusionPipeline.from_pretrained(sys.argv[1], trust_remote_code=True, variant="fp16", torch_dtype=torch.float16)
print(pipe.vae.dtype)
"""
    assert run_without_hfgen(program, tmp_path / "fp16", home=tmp_path).splitlines()[-1] == "torch.float16"


@pytest.mark.parametrize(
    ("folder", "run"),
    [
        ("/pretrained", "/"),
        ("/runs/a/pretrained", "/runs/a"),
        ("/runs/a/checkpoints/000000000008/pretrained", "/runs/a"),
        ("/runs/a", None),
    ],
)
def test_a_pretrained_folder_is_of_the_run_around_it(folder: str, run: str | None):
    assert run_of(Path(folder)) == (None if run is None else Path(run))
