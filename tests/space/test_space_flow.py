"""A flow in the Space, and autoencoders of any size beside others."""

import base64
import io
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_config

from hfgen.errors import UserError
from hfgen.images import to_float, to_uint8, unit_to_uint8
from hfgen.pipelines import hfgen_pipelines_v1
from hfgen.space import knobs, views
from hfgen.space.knobs import Knobs
from hfgen.space.loaded_models import LoadedModels, open_models
from hfgen.space.side_by_side import reconstructions
from hfgen.space.views import Choices


def pixels(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))))


@pytest.fixture(scope="module")
def with_flow(untrained: Path, tmp_path_factory: pytest.TempPathFactory) -> LoadedModels:
    """vae, and a flow that decodes its latents."""
    from hfgen.pipelines import FlowPipeline
    from hfgen.pipelines.loading import open_model

    vae = open_model(str(untrained / "vae"))[0].vae
    torch.manual_seed(0)
    channels = {"in_channels": 1 + vae.config.latent_channels, "out_channels": 1, "sample_size": 16}
    blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",), "block_out_channels": (8,)}
    unet = diffusers.UNet2DModel(**channels, **blocks, norm_num_groups=4, layers_per_block=1)
    place = tmp_path_factory.mktemp("flows") / "flow"
    FlowPipeline(vae, unet, diffusers.FlowMatchEulerDiscreteScheduler()).save_pretrained(place)
    return open_models([str(untrained / "vae"), str(place)], "glyphs")


def test_a_flow_is_shown_in_every_view(with_flow: LoadedModels):
    pipeline = with_flow.models["flow"].pipeline
    own, few = (views.samples(with_flow, Choices(count=2, steps=steps)).values["models"][1] for steps in (None, 2))
    for one, steps in ((own, 20), (few, 2)):
        images = unit_to_uint8(pipeline(2, torch.Generator().manual_seed(0), "pt", steps=steps).images)
        assert (np.stack([pixels(uri) for uri in one["images"]]) == images[:, 0].numpy()).all()
    assert "steps 2" in views.samples(with_flow, Choices(count=2, steps=2)).page
    film = views.interpolation(with_flow, 3, 4).values["models"][1]["images"]
    ends = [pipeline(1, torch.Generator().manual_seed(seed), "pt").images for seed in (3, 4)]
    shown = np.stack([pixels(film[place]) for place in (0, -1)]).astype(int)
    assert np.abs(shown - unit_to_uint8(torch.cat(ends))[:, 0].numpy()).max() <= 1
    assert len(views.neighbours(with_flow, Choices(count=2)).values["models"][1]["rms"]) == 2
    with pytest.raises(UserError, match="flow: steps"):
        views.samples(with_flow, Choices(steps=-1))


def test_a_flows_latent_is_changed_as_its_vaes_and_its_noise_stays(with_flow: LoadedModels):
    flow, images = with_flow.models["flow"].pipeline, with_flow.images((16, 1))[:2]
    own = unit_to_uint8(flow.reconstruct(to_float(images), output_type="pt").images)
    assert torch.equal(knobs.reconstruct(flow, images, Knobs()).images, own)
    found, turned = with_flow.components(with_flow.models["vae"]), Knobs(keep=0.5, noise=1, seed=3)
    normal = torch.randn((2, 1, 2, *flow.latent_shape), generator=torch.Generator().manual_seed(3))[1, 0]
    seeds = [hfgen_pipelines_v1._checksum(image) for image in to_float(images)]
    with torch.no_grad():
        latents = flow.vae.encode(to_float(images)).latent_dist.mean
        latents = found.project(latents, found.kept(0.5)) + found.deviation.float() * normal
        noise = torch.stack([torch.randn((1, 16, 16), generator=torch.Generator().manual_seed(one)) for one in seeds])
        expected = to_uint8(flow.flow(latents, noise).clamp(-1, 1))
    changed = knobs.reconstruct(flow, images, turned, with_flow.components(with_flow.models["flow"]))
    assert torch.equal(changed.images, expected) and not torch.equal(expected, own)
    page = reconstructions(with_flow, 0, turned)
    assert "that of vae through flow&#x27;s, that of flow through vae&#x27;s" in page.page
    assert [one["components"] for one in page.values["models"]] == [(found.kept(0.5), len(found))] * 2


def test_a_bare_autoencoder_is_shown_at_the_size_of_the_others(tmp_path: Path):
    """Alone, one whose config says 32, as that of any `AutoencoderKL` may, is shown at 256."""
    model = tiny_config("vae", tmp_path).model
    model.pipeline(model.build(32, 1)).save_pretrained(tmp_path / "own")
    blocks: dict[str, Any] = {"block_out_channels": (4,) * 4, "norm_num_groups": 2, "layers_per_block": 1}
    blocks |= {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    network = diffusers.AutoencoderKL(**blocks, in_channels=1, out_channels=1, sample_size=32)
    network.save_pretrained(tmp_path / "bare")
    bare = str(tmp_path / "bare")
    assert {one.size for one in open_models([str(tmp_path / "own"), bare]).models.values()} == {(32, 1)}
    assert open_models([bare]).models["bare"].size == (256, 1)
