"""Frozen networks behind the perceptual distance: tiny random ones stand for those of the Hub."""

import json
from pathlib import Path

import pytest
import torch
import transformers

from hfgen.errors import UserError
from hfgen.models.feature_networks import BackboneFeatures, EmbeddedFeatures

STAGES = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
LAYERS = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
KINDS = {
    "resnet": lambda: transformers.ResNetModel(transformers.ResNetConfig(embedding_size=8, **STAGES)),
    "classifier": lambda: transformers.ResNetForImageClassification(
        transformers.ResNetConfig(embedding_size=8, **STAGES)
    ),
    "convnext": lambda: transformers.ConvNextModel(transformers.ConvNextConfig(**STAGES)),
    "dinov2": lambda: transformers.Dinov2Model(transformers.Dinov2Config(num_hidden_layers=6, **LAYERS)),
    "clip": lambda: transformers.CLIPModel(
        transformers.CLIPConfig(
            vision_config={"num_hidden_layers": 2, **LAYERS},
            text_config={"num_hidden_layers": 1, "hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2},
        )
    ),
}
SCALING = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}}
SCALING |= {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}


def save(kind: str, folder: Path) -> Path:
    torch.manual_seed(0)
    KINDS[kind]().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(SCALING))
    return folder


def images(channels: int = 3, side: int = 32) -> torch.Tensor:
    return torch.rand(2, channels, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize(
    ("kind", "layers"), [("resnet", 5), ("classifier", 5), ("convnext", 5), ("dinov2", 5), ("clip", 3)]
)
def test_a_backbones_layers_depend_on_the_pixels_and_nothing_in_it_is_trained(kind: str, layers: int, tmp_path: Path):
    network = BackboneFeatures(save(kind, tmp_path))
    pixels = images().requires_grad_()
    features = network(pixels)
    assert len(features) == layers and all(layer.shape[0] == 2 and layer.shape[1] in (8, 16) for layer in features)
    for layer in features:
        (gradient,) = torch.autograd.grad(layer[1].square().sum(), pixels, retain_graph=True)
        assert gradient[0].eq(0).all() and gradient[1].abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert not any(module.training for module in network.modules())


def test_inputs_are_scaled_as_the_preprocessors_config_says(tmp_path: Path):
    network = BackboneFeatures(save("resnet", tmp_path))
    seen = {}
    network.backbone.register_forward_pre_hook(lambda _, __, given: seen.update(given), with_kwargs=True)
    pixels = (images() * 127.5 + 127.5).round().to(torch.uint8)
    network(pixels.float() / 127.5 - 1)
    wanted = (pixels / 255 - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)
    torch.testing.assert_close(seen["pixel_values"], wanted)


@pytest.mark.parametrize("side", [16, 24, 64, 128, 256])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_size_and_grey_images_are_resized_to_the_backbones(side: int, channels: int, tmp_path: Path):
    network = BackboneFeatures(save("dinov2", tmp_path))
    assert {layer.shape for layer in network(images(channels, side))} == {(2, 16, 17)}


def test_grey_is_rgb_with_equal_channels(tmp_path: Path):
    network = BackboneFeatures(save("resnet", tmp_path))
    grey = images(1)
    for one, other in zip(network(grey), network(grey.expand(-1, 3, -1, -1)), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("side", [16, 32, 64, 256])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_embedded_networks_layers_see_every_size(side: int, channels: int):
    features = EmbeddedFeatures(channels, side)(images(channels, side))
    assert len(features) == (6 if side > 32 else 5)
    assert all(layer.min() >= 0 and layer.std() > 0 for layer in features)


def test_a_half_precision_checkpoint_is_loaded_in_fp32(tmp_path: Path):
    KINDS["resnet"]().half().save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(SCALING))
    assert {parameter.dtype for parameter in BackboneFeatures(tmp_path).parameters()} == {torch.float32}


def damage(what: str, folder: Path) -> None:
    if what == "weights":
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-100])
    elif what == "depth":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "depths": [2, 1, 1, 1]}))
    elif what == "size":
        (folder / "preprocessor_config.json").write_text("{}")
    else:
        (folder / what).unlink()


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("weights", "can't be loaded: "),
        ("model.safetensors", "can't be loaded: .*safetensors"),
        ("depth", r"weights are missing, .*encoder\.stages"),
        ("preprocessor_config.json", r"holds no preprocessor_config\.json"),
        ("size", "gives no size"),
    ],
)
def test_a_backbone_that_is_not_whole_is_refused_in_one_line(what: str, message: str, tmp_path: Path):
    damage(what, save("resnet", tmp_path))
    with pytest.raises(UserError, match=message) as error:
        BackboneFeatures(tmp_path)
    assert "\n" not in str(error.value)


def test_a_network_of_text_is_refused(tmp_path: Path):
    config = transformers.GPT2Config(vocab_size=8, n_positions=4, n_embd=8, n_layer=1, n_head=2)
    transformers.GPT2Model(config).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(SCALING))
    with pytest.raises(UserError, match="holds a GPT2Model, which takes no images"):
        BackboneFeatures(tmp_path)
