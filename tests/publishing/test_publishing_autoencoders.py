"""A stock autoencoder alone, such as fine-tuning leaves, is published as what it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from hfgen.errors import UserError
from hfgen.publishing.publisher import dry_run


@pytest.fixture
def tuned(tmp_path: Path) -> Path:
    """The folder of a run that fine-tuned the autoencoder of a pipeline's repository."""
    from diffusers import AutoencoderTiny

    torch.manual_seed(0)
    widths = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    network = AutoencoderTiny(**widths, num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1))
    network.save_pretrained(tmp_path / "run" / "pretrained")
    settings = {"data": "org/photos", "split": "train", "max_images": 10, "batch_size": 2, "seed": 0}
    settings |= {"precision": "fp32", "model": {}, "start_from": "org/flux/vae@main", "resolution": 64}
    (tmp_path / "run" / "run.json").write_text(json.dumps({"config": settings}))
    return tmp_path / "run"


def test_it_is_published_with_a_card_that_loads_its_class(tuned: Path):
    found = dry_run(tuned, "org/tuned")
    assert {"config.json", "diffusion_pytorch_model.safetensors", "run.json", "README.md"} == set(found.sizes)
    assert "base_model: org/flux\n" in found.card and "pipeline_tag: image-to-image" in found.card
    assert 'autoencoder = AutoencoderTiny.from_pretrained("org/tuned")' in found.card
    assert "trust_remote_code" not in found.card and "pipe.reconstruct(" in found.card
    assert "reconstructs images: a `AutoencoderTiny` of diffusers, 64 px" in found.card
    assert "It was trained on square images of 64 px." in found.card


def test_what_plain_diffusers_cannot_load_is_refused(tuned: Path):
    config = tuned / "pretrained" / "config.json"
    written = json.loads(config.read_text())
    config.write_text(json.dumps({**written, "num_decoder_blocks": [1, 2]}))
    with pytest.raises(UserError, match="weights and config don't fit: missing_keys"):
        dry_run(tuned, "org/tuned")


def test_without_a_run_nothing_is_said_of_its_size(tuned: Path):
    (tuned / "run.json").unlink()
    card = dry_run(tuned, "org/tuned").card
    assert "None px" not in card and "square images" not in card and "a `AutoencoderTiny` of diffusers" in card
