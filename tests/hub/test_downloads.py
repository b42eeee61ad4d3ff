"""What is fetched of a repository, by the Hub's own log: what is needed, and nothing before its listing was read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from hub import Hub, client_environment

KL = {
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "block_out_channels": (8, 8),
    "norm_num_groups": 4,
    "sample_size": 8,
}
OPEN = """
import logging, sys
logging.basicConfig(format="%(message)s"); logging.getLogger("hfgen").setLevel(logging.INFO)
import hfgen, torch
from hfgen.errors import UserError
for place in sys.argv[1:]:
    place, _, variant = place.partition(" ")
    try:
        pipe = hfgen.load(place, variant=variant or None)
        side = pipe.sample_size
        pipe.reconstruct(torch.zeros(1, 3, side, side))
        print(type(pipe).__name__, next(pipe._backbone.parameters()).dtype)
    except UserError as error:
        print(type(error).__name__, error)
"""

Client = Callable[..., list[str]]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with Hub(tmp_path / "hub") as hub:
        yield hub


@pytest.fixture
def opened(hub: Hub, tmp_path: Path) -> Client:
    """Open places in a process of its own; what it prints, line by line, warnings and infos first."""

    def run(*places: str, **environment: str) -> list[str]:
        own = client_environment(hub, tmp_path / "home", **environment)
        own["PYTHONPATH"] = os.environ.get("PYTHONPATH", "")
        done = subprocess.run([sys.executable, "-c", OPEN, *places], env=own, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return [*done.stderr.splitlines(), *done.stdout.splitlines()]

    return run


def add_repository(hub: Hub, tmp_path: Path) -> None:
    """A text-to-image pipeline of some megabytes, its autoencoder small beside it."""
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    root, network = tmp_path / "repository", AutoencoderKL(**KL)
    network.save_pretrained(root / "vae")
    network.half().save_pretrained(root / "vae", variant="fp16")
    torch.nn.init.zeros_(network.decoder.conv_out.bias)  # else the cache would know the file
    network.save_pretrained(root / "half" / "vae", variant="fp16")
    network.save_pretrained(root / "shards", max_shard_size="10KB")
    network.save_pretrained(root / "pickled", safe_serialization=False)
    for name in ("unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors", "whole.safetensors"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(bytes(2**21))
    (root / "unet" / "config.json").write_text('{"_class_name": "UNet2DConditionModel"}')
    index = {
        "_class_name": "StableDiffusionPipeline",
        "vae": ["diffusers", "AutoencoderKL"],
        "unet": ["diffusers", "U"],
    }
    (root / "model_index.json").write_text(json.dumps(index))
    video = {"_class_name": "WanPipeline", "vae": ["diffusers", "AutoencoderOfTomorrow"]}
    (root / "video").mkdir()
    (root / "video" / "model_index.json").write_text(json.dumps(video))
    hub.storage.add_folder(hub.storage.create("model", "org/sd"), root)


def fetched(hub: Hub) -> set[str]:
    """Paths that were downloaded, not only asked for."""
    return {
        request.split("/resolve/")[1].split("/", 1)[1] for request in hub.requests if request.startswith("GET /org")
    }


def test_of_a_pipelines_repository_its_autoencoder_alone_is_fetched_and_kept(hub: Hub, opened: Client, tmp_path: Path):
    add_repository(hub, tmp_path)
    hub.fail("GET /api/models/org/sd", 429, times=2)
    hub.fail("GET .*/resolve/.*/vae/.*safetensors", "reset")
    lines = opened("org/sd", "org/sd@main", "org/sd/vae", "https://huggingface.co/org/sd/tree/main/vae")
    assert lines.count("AutoencoderPipeline torch.float32") == 4
    assert "org/sd is a StableDiffusionPipeline, of which vae is taken" in lines
    assert fetched(hub) == {"model_index.json", "vae/config.json", "vae/diffusion_pytorch_model.safetensors"}
    first = next(index for index, request in enumerate(hub.requests) if "/resolve/" in request)
    assert any(request.startswith("GET /api/models/org/sd") for request in hub.requests[:first])
    asked = len(hub.requests)
    assert opened("org/sd", HF_HUB_OFFLINE="1")[-1] == "AutoencoderPipeline torch.float32"
    assert len(hub.requests) == asked
    nowhere = opened("org/sd", "org/other", HF_ENDPOINT="http://127.0.0.1:9")
    assert any("the Hub can't be reached" in line and "what the cache holds is used" in line for line in nowhere)
    assert nowhere[-2] == "AutoencoderPipeline torch.float32"
    assert nowhere[-1].startswith("HubError model: org/other isn't a folder here and can't be fetched from the Hub")


COMPONENTS = {
    "org/ldm": {"vqvae": "VQModel"},
    "org/kandinsky": {"movq": "VQModel", "unet": "UNet2DConditionModel"},
    "org/distilled": {"image_vae": "AutoencoderTiny"},
    "org/video": {"audio_vae": "AutoencoderOobleck", "vae": "AutoencoderKL"},
}


def test_whatever_a_pipeline_calls_its_autoencoder_nothing_larger_is_fetched(hub: Hub, opened: Client, tmp_path: Path):
    import diffusers

    widths = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    tiny = {**widths, "num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1)}
    made = {
        "VQModel": diffusers.VQModel(**KL, num_vq_embeddings=4),
        "AutoencoderTiny": diffusers.AutoencoderTiny(**tiny),
        "AutoencoderKL": diffusers.AutoencoderKL(**KL),
    }
    for repository, parts in COMPONENTS.items():
        root = tmp_path / repository.replace("/", "-")
        for part, name in parts.items():
            if name in made:
                made[name].save_pretrained(root / part)
            else:
                (root / part).mkdir(parents=True)
                (root / part / "config.json").write_text(json.dumps({"_class_name": name}))
                (root / part / "diffusion_pytorch_model.safetensors").write_bytes(bytes(2**21))
        index = {part: ["diffusers", name] for part, name in parts.items()}
        (root / "model_index.json").write_text(json.dumps({"_class_name": "SomePipeline", **index}))
        hub.storage.add_folder(hub.storage.create("model", repository), root)
    lines = opened(*COMPONENTS)
    assert lines.count("AutoencoderPipeline torch.float32") == len(COMPONENTS)
    wanted = {"org/ldm": "vqvae", "org/kandinsky": "movq", "org/distilled": "image_vae", "org/video": "vae"}
    for repository, part in wanted.items():
        assert f"{repository} is a SomePipeline, of which {part} is taken" in lines
    files = {f"{part}/{file}" for part in wanted.values() for file in ("config.json", WEIGHTS)}
    assert fetched(hub) == {"model_index.json", *files}


WEIGHTS = "diffusion_pytorch_model.safetensors"

REFUSED = {
    "org/sd/pickled": "has only diffusion_pytorch_model.bin, a pickle, which may run any code",
    "org/sd/vae bf16": "variant: org/sd/vae has no weights of variant 'bf16'; it has fp16 and plain weights",
    "org/sd/unet": "holds a UNet2DConditionModel; hfgen opens",
    "org/sd/video": "the vae of org/sd/video is a AutoencoderOfTomorrow; hfgen opens",
    "org/sd/text_encoder": "of a single file give its name: org/sd/text_encoder/model.safetensors",
    "org/sd/half": "it holds vae: name one, org/sd/half/vae",
    "org/sd/none.safetensors": "has no such file",
    "org/sd/pickled/diffusion_pytorch_model.bin": "is a pickle",
    "org/sd@none": "it has no revision none",
    "org/none": "there is none, or not for your token",
    "org/sd/vae@": "names no revision after the @",
}


def test_variants_and_shards_are_found_and_nothing_is_fetched_of_what_is_refused(
    hub: Hub, opened: Client, tmp_path: Path
):
    add_repository(hub, tmp_path)
    lines = opened("org/sd/half/vae", "org/sd/vae fp16", "org/sd/shards", *REFUSED)
    assert lines.count("AutoencoderPipeline torch.float32") == 3
    assert "org/sd/half/vae has only fp16 weights, which are taken" in lines
    for words, line in zip(REFUSED.values(), lines[-len(REFUSED) :], strict=True):
        assert words in line and "get the checkpoint again" not in line
    weights = {path for path in fetched(hub) if not path.endswith(".json")}
    shards = {path for path in weights if path.startswith("shards/")}
    assert weights - shards == {f"{place}/diffusion_pytorch_model.fp16.safetensors" for place in ("vae", "half/vae")}
    assert len(shards) > 1
