"""What is fetched of a repository, by the Hub's own log: what is needed, and nothing before its listing was read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

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


class Visited(NamedTuple):
    """What was `said` in warnings and infos, and the last word `of` each place."""

    said: list[str]
    of: dict[str, str]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with Hub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@pytest.fixture(scope="module")
def opened(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Client:
    """Open places in a process of its own; what it prints, line by line, warnings and infos first."""
    home = tmp_path_factory.mktemp("home")

    def run(*places: str, **environment: str) -> list[str]:
        own = client_environment(hub, home, **environment)
        own["PYTHONPATH"] = os.environ.get("PYTHONPATH", "")
        done = subprocess.run([sys.executable, "-c", OPEN, *places], env=own, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return [*done.stderr.splitlines(), *done.stdout.splitlines()]

    return run


@pytest.fixture(scope="module")
def visited(hub: Hub, opened: Client, tmp_path_factory: pytest.TempPathFactory) -> Visited:
    """What one process prints that opens all the places."""
    add_repositories(hub, tmp_path_factory.mktemp("repository"))
    add_pipelines(hub, tmp_path_factory.mktemp("pipelines"))
    hub.fail("GET /api/models/org/sd", 429, times=2)
    hub.fail("GET .*/resolve/.*/vae/.*safetensors", "reset")
    places = [*PLACES, *COMPONENTS, *VARIANTS, *REFUSED, *RUNS]
    lines = opened(*places)
    return Visited(lines[: -len(places)], dict(zip(places, lines[-len(places) :], strict=True)))


def add_repositories(hub: Hub, root: Path) -> None:
    """Two of the same text-to-image pipeline of some megabytes, its autoencoder small beside it."""
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    network = AutoencoderKL(**KL)
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
    for name in ("org/sd", "org/parts"):
        hub.storage.add_folder(hub.storage.create("model", name), root)
    for name, part in (("org/tuned", "."), ("org/run", "pretrained")):
        run = root.parent / f"{root.name}-{name[4:]}"
        network.float().save_pretrained(run / part)
        (run / "run.json").write_text(json.dumps({"schema": 1, "config": {"resolution": 16}}))
        hub.storage.add_folder(hub.storage.create("model", name), run)


def fetched(hub: Hub, *repositories: str) -> set[str]:
    """Paths that were downloaded, not only asked for."""
    starts = tuple(f"GET /{name}/resolve/" for name in repositories)
    return {request.split("/resolve/")[1].split("/", 1)[1] for request in hub.requests if request.startswith(starts)}


WEIGHTS = "diffusion_pytorch_model.safetensors"

PLACES = ("org/sd", "org/sd@main", "org/sd/vae", "https://huggingface.co/org/sd/tree/main/vae")


def test_of_a_pipelines_repository_its_autoencoder_alone_is_fetched_and_kept(
    hub: Hub, opened: Client, visited: Visited
):
    assert not any(fault.times for fault in hub.faults), "the faults were met"
    assert {visited.of[place] for place in PLACES} == {"AutoencoderPipeline torch.float32"}
    assert "org/sd is a StableDiffusionPipeline, of which vae is taken" in visited.said
    assert fetched(hub, "org/sd") == {"model_index.json", "vae/config.json", "vae/diffusion_pytorch_model.safetensors"}
    first = next(index for index, request in enumerate(hub.requests) if "/resolve/" in request)
    assert any(request.startswith("GET /api/models/org/sd") for request in hub.requests[:first])
    asked = len(hub.requests)
    assert opened("org/sd", HF_HUB_OFFLINE="1")[-1] == "AutoencoderPipeline torch.float32"
    assert len(hub.requests) == asked
    nowhere = opened("org/sd", "org/other", HF_ENDPOINT="http://127.0.0.1:9")
    assert any("the Hub can't be reached" in line and "what the cache holds is used" in line for line in nowhere)
    assert nowhere[-2] == "AutoencoderPipeline torch.float32"
    assert nowhere[-1].startswith("HubError model: org/other isn't a folder here and can't be fetched from the Hub")


RUNS = ("org/tuned", "org/run/pretrained", f"org/tuned/{WEIGHTS}")


def test_of_a_run_its_json_is_fetched_whose_resolution_decides(hub: Hub, visited: Visited):
    assert {visited.of[place] for place in RUNS} == {"AutoencoderPipeline torch.float32"}
    line = "resolution: 16 pixels, at which the model was trained by its run.json"
    assert visited.said.count(line) == len(RUNS)
    assert "run.json" in fetched(hub, "org/tuned") and "run.json" in fetched(hub, "org/run")


COMPONENTS = {
    "org/ldm": {"vqvae": "VQModel"},
    "org/kandinsky": {"movq": "VQModel", "unet": "UNet2DConditionModel"},
    "org/distilled": {"image_vae": "AutoencoderTiny"},
    "org/video": {"audio_vae": "AutoencoderOobleck", "vae": "AutoencoderKL"},
}


def add_pipelines(hub: Hub, folder: Path) -> None:
    """Of other classes, whose autoencoders have other names."""
    import diffusers

    widths = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    tiny = {**widths, "num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1)}
    made = {
        "VQModel": diffusers.VQModel(**KL, num_vq_embeddings=4),
        "AutoencoderTiny": diffusers.AutoencoderTiny(**tiny),
        "AutoencoderKL": diffusers.AutoencoderKL(**KL),
    }
    for repository, parts in COMPONENTS.items():
        root = folder / repository.replace("/", "-")
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


def test_whatever_a_pipeline_calls_its_autoencoder_nothing_larger_is_fetched(hub: Hub, visited: Visited):
    assert {visited.of[repository] for repository in COMPONENTS} == {"AutoencoderPipeline torch.float32"}
    wanted = {"org/ldm": "vqvae", "org/kandinsky": "movq", "org/distilled": "image_vae", "org/video": "vae"}
    for repository, part in wanted.items():
        assert f"{repository} is a SomePipeline, of which {part} is taken" in visited.said
    files = {f"{part}/{file}" for part in wanted.values() for file in ("config.json", WEIGHTS)}
    assert fetched(hub, *COMPONENTS) == {"model_index.json", *files}


REFUSED = {
    "org/parts/pickled": "has only diffusion_pytorch_model.bin, a pickle, which may run any code",
    "org/parts/vae bf16": "variant: org/parts/vae has no weights of variant 'bf16'; it has fp16 and plain weights",
    "org/parts/unet": "holds a UNet2DConditionModel; hfgen opens",
    "org/parts/video": "the vae of org/parts/video is a AutoencoderOfTomorrow; hfgen opens",
    "org/parts/text_encoder": "of a single file give its name: org/parts/text_encoder/model.safetensors",
    "org/parts/half": "it holds vae: name one, org/parts/half/vae",
    "org/parts/none.safetensors": "has no such file",
    "org/parts/pickled/diffusion_pytorch_model.bin": "is a pickle",
    "org/parts@none": "it has no revision none",
    "org/none": "there is none, or not for your token",
    "org/parts/vae@": "names no revision after the @",
}


VARIANTS = ("org/parts/half/vae", "org/parts/vae fp16", "org/parts/shards")


def test_variants_and_shards_are_found_and_nothing_is_fetched_of_what_is_refused(hub: Hub, visited: Visited):
    assert {visited.of[place] for place in VARIANTS} == {"AutoencoderPipeline torch.float32"}
    assert "org/parts/half/vae has only fp16 weights, which are taken" in visited.said
    for place, words in REFUSED.items():
        assert words in visited.of[place] and "get the checkpoint again" not in visited.of[place]
    weights = {path for path in fetched(hub, "org/parts") if not path.endswith(".json")}
    shards = {path for path in weights if path.startswith("shards/")}
    assert weights - shards == {f"{place}/diffusion_pytorch_model.fp16.safetensors" for place in ("vae", "half/vae")}
    assert len(shards) > 1
