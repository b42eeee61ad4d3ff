"""The hash of a model's weights: of what is loaded, wherever it lies, and of nothing else."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import AutoencoderKL
from torch import nn

import hfgen
from hfgen.devices import choose
from hfgen.errors import ModelError
from hfgen.pipelines.given import networks_of, opened
from hfgen.pipelines.weight_digest import digest_of_folder, digest_of_networks, is_of


class Tied(nn.Module):
    """Two layers that share their weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3, bias=False)
        self.second = nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight


def network() -> AutoencoderKL:
    torch.manual_seed(0)
    return AutoencoderKL(block_out_channels=(4,), norm_num_groups=2, latent_channels=1)


def test_the_digest_is_that_of_the_numbers_wherever_they_lie(tmp_path: Path):
    model = network()
    model.save_pretrained(tmp_path / "one")
    model.save_pretrained(tmp_path / "shards", max_shard_size="2KB")
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    known = digest_of_networks([model])
    assert {digest_of_folder(tmp_path / name) for name in ("one", "copy", "shards")} == {known}
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += 1e-6
    assert digest_of_networks([model]) != known
    assert digest_of_networks([network().double()]) != known
    assert digest_of_networks([Tied()]) != digest_of_networks([nn.Linear(3, 3, bias=False)])


def test_of_several_variants_those_that_are_loaded_count(tmp_path: Path):
    """Of a repository only those are fetched, so that its copy here has no others."""
    plain, half = network(), network().half()
    size = "2KB"
    plain.save_pretrained(tmp_path / "plain")
    half.save_pretrained(tmp_path / "half", variant="fp16")
    plain.save_pretrained(tmp_path / "both")
    half.save_pretrained(tmp_path / "both", variant="fp16")
    plain.save_pretrained(tmp_path / "shards", max_shard_size=size)
    half.save_pretrained(tmp_path / "shards", variant="fp16", max_shard_size=size)
    for name in ("plain", "both", "shards"):
        assert digest_of_folder(tmp_path / name) == digest_of_networks([plain]), name
    for name in ("half", "both", "shards"):
        assert digest_of_folder(tmp_path / name, "fp16") == digest_of_networks([half]), name
    # There are no plain ones, and none of bf16.
    assert digest_of_folder(tmp_path / "half") == digest_of_networks([half])
    assert digest_of_folder(tmp_path / "both", "bf16") == digest_of_networks([plain])


def test_what_is_not_loaded_does_not_count(tmp_path: Path):
    """Such as the extractor of an evaluation, or a training's state, that was written into the model's folder."""
    model = network()
    model.save_pretrained(tmp_path)
    known = digest_of_folder(tmp_path)
    network().double().save_pretrained(tmp_path / "dataset" / "extractor")
    network().double().save_pretrained(tmp_path / "checkpoint-500")
    (tmp_path / "ema.safetensors").write_bytes(b"nothing")
    assert digest_of_folder(tmp_path) == known == digest_of_networks([model])


def test_a_pipelines_networks_count_and_its_other_folders_do_not(trained_of: Callable[[str], Path], tmp_path: Path):
    for family in ("vqvae", "flow"):
        run = trained_of(family)
        folder = Path(shutil.copytree(run / "pretrained", tmp_path / family))
        known = digest_of_networks(networks_of(hfgen.load(run)))
        network().save_pretrained(folder / "discriminator")
        assert digest_of_folder(folder) == known, family


def test_shards_of_any_name_count(tmp_path: Path):
    found = set()
    for name, scale in (("a", 1.0), ("b", 2.0)):
        model = network()
        with torch.no_grad():
            next(model.parameters()).mul_(scale)
        model.save_pretrained(tmp_path / name, max_shard_size="2KB")
        (index,) = (tmp_path / name).glob("*.index.json")
        index.write_text(index.read_text().replace("diffusion_pytorch_model-", "vae-"))
        for shard in (tmp_path / name).glob("*.safetensors"):
            shard.rename(shard.with_name(shard.name.replace("diffusion_pytorch_model-", "vae-")))
        assert digest_of_folder(tmp_path / name) == digest_of_networks([model])
        found.add(digest_of_folder(tmp_path / name))
    assert len(found) == 2


def test_a_record_is_of_a_model_in_whichever_variant_it_was_measured(tmp_path: Path):
    half = network().half()
    network().save_pretrained(tmp_path / "both")
    half.save_pretrained(tmp_path / "both", variant="fp16")
    half.save_pretrained(tmp_path / "alone", variant="fp16")
    network().bfloat16().save_pretrained(tmp_path / "alone", variant="bf16")
    for name, variant in (("both", None), ("both", "fp16"), ("alone", "fp16"), ("alone", "bf16")):
        weights = digest_of_folder(tmp_path / name, variant)
        assert is_of({"model": {"weights": weights}}, tmp_path / name), (name, variant)
    assert not is_of({"model": {"weights": "0" * 64}}, tmp_path / "alone")
    assert is_of({"model": {}}, tmp_path / "nowhere")


def test_what_is_loaded_has_the_digest_of_its_files(tmp_path: Path):
    """However it was wrapped, and though half precision is loaded as float32."""
    network().save_pretrained(tmp_path / "plain")
    network().half().save_pretrained(tmp_path / "half")
    plain = AutoencoderKL.from_pretrained(tmp_path / "plain")
    bundle = SimpleNamespace(components={"vae": plain, "unet": nn.Conv2d(1, 1, 1)})
    for name, model in (
        ("plain", plain),
        ("plain", torch.compile(plain)),
        ("plain", nn.DataParallel(plain)),
        ("plain", bundle),
        ("half", hfgen.load(tmp_path / "half")),
    ):
        with opened(model, choose("cpu"), resolution=16) as (_, origin):
            assert origin.facts() == {"weights": digest_of_folder(tmp_path / name)}, (name, type(model))


def test_tied_weights_count_once_as_in_a_file(tmp_path: Path):
    from safetensors.torch import save_model

    model = Tied()
    save_model(model, str(tmp_path / "model.safetensors"))
    assert digest_of_folder(tmp_path) == digest_of_networks([model])


def test_a_damaged_file_is_named(tmp_path: Path):
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"model\.safetensors can't be loaded"):
        digest_of_folder(tmp_path)
