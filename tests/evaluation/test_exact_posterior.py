"""An exact posterior is found by the weights that it is of, wherever they lie, and by no other's."""

import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from torch import nn

from hfgen.documents import POSTERIOR
from hfgen.errors import ModelError, UserError
from hfgen.evaluation.exact_posterior import entry_of, read_entry
from hfgen.files import write_json
from hfgen.pipelines.weight_digest import digest_of_folder, digest_of_networks


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
    model.save_pretrained(tmp_path / "shards" / "vae", max_shard_size="2KB")
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    assert len(list((tmp_path / "shards" / "vae").glob("*.safetensors"))) > 1
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
    """Such as the extractor of an evaluation that was written into the model's folder."""
    model = network()
    model.save_pretrained(tmp_path / "vae")
    known = digest_of_folder(tmp_path)
    network().half().save_pretrained(tmp_path / "dataset" / "extractor")
    (tmp_path / "vae" / "ema.safetensors").write_bytes(b"nothing")
    assert digest_of_folder(tmp_path) == digest_of_folder(tmp_path / "vae") == known == digest_of_networks([model])


def test_tied_weights_count_once_as_in_a_file(tmp_path: Path):
    from safetensors.torch import save_model

    model = Tied()
    save_model(model, str(tmp_path / "model.safetensors"))
    assert digest_of_folder(tmp_path) == digest_of_networks([model])


def test_a_damaged_file_is_named(tmp_path: Path):
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"model\.safetensors can't be loaded"):
        digest_of_folder(tmp_path)


def entry(name: str, weights: str | None, n: int = 4) -> dict[str, object]:
    given = {} if weights is None else {"weights": weights}
    return {"name": name, "id": name, **given, "resolution": 16, "n": n, "converged": n, "metrics": {}, "images": []}


def document(*models: dict[str, object]) -> dict[str, object]:
    budget = {"name": "full", "n": 4, "points": 1, "particles": 1, "sweeps": 1, "attempts": 1}
    return {"schema": POSTERIOR.version, "budget": budget, "seed": 0, "versions": {}, "models": list(models)}


def test_the_entry_is_that_of_these_weights_at_this_size(tmp_path: Path):
    mine, other = "a" * 64, "b" * 64
    made = document(entry("x", other), entry("y", mine), entry("y again", mine, 9))
    found = entry_of(made, mine, 16)
    assert found is not None and found["name"] == "y again"
    assert entry_of(made, mine, 32) is None and entry_of(made, "c" * 64, 16) is None
    write_json(tmp_path / "posterior.json", made)
    assert read_entry(tmp_path, other, 16, "runs/x")["name"] == "x"
    assert read_entry(tmp_path / "posterior.json", other, 16, "runs/x")["name"] == "x"
    with pytest.raises(UserError, match="none has the weights of runs/z at 16 px; run `hfgen study posterior runs/z"):
        read_entry(tmp_path, "c" * 64, 16, "runs/z")
    with pytest.raises(UserError, match="there is no "):
        read_entry(tmp_path / "nowhere", mine, 16, "runs/x")


def test_a_file_of_before_is_refused_with_the_command_that_renews_it(tmp_path: Path):
    write_json(tmp_path / "posterior.json", document(entry("x", None)))
    with pytest.raises(UserError, match=r"doesn't say which weights it is of; run .* again, which keeps its images'"):
        read_entry(tmp_path, "a" * 64, 16, "runs/x")
