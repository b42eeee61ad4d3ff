"""Extractors of others: tiny random backbones stand for those of the Hub."""

import json
import sys
import types
from pathlib import Path

import pytest
import torch
import transformers

from hfgen.errors import UserError
from hfgen.files import sha256
from hfgen.metrics import load_extractor, named_extractor

LAYERS = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
SCALING = {"size": {"height": 32, "width": 32}, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}
KINDS = {
    "dinov2": lambda: transformers.Dinov2Model(transformers.Dinov2Config(num_hidden_layers=2, **LAYERS)),
    "vit": lambda: transformers.ViTModel(
        transformers.ViTConfig(num_hidden_layers=1, **LAYERS), add_pooling_layer=False
    ),
    "convnext": lambda: transformers.ConvNextModel(
        transformers.ConvNextConfig(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1])
    ),
}


def save(folder: Path, kind: str = "dinov2", **scaling: object) -> Path:
    torch.manual_seed(0)
    KINDS[kind]().eval().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({**SCALING, **scaling}))
    return folder


def images(side: int = 32, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (6, channels, side, side), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize(("kind", "pooling"), [("dinov2", "pooler"), ("vit", "class token"), ("convnext", "pooler")])
def test_a_backbone_gives_what_transformers_gives(kind: str, pooling: str, tmp_path: Path):
    extractor = named_extractor(str(save(tmp_path, kind)))
    pixels = (images() / 255 - torch.tensor(SCALING["image_mean"]).view(3, 1, 1)) / torch.tensor(
        SCALING["image_std"]
    ).view(3, 1, 1)
    with torch.no_grad():
        model = transformers.AutoModel.from_pretrained(tmp_path)
        output = model.eval()(pixel_values=pixels)
    wanted = output.pooler_output.flatten(1) if pooling == "pooler" else output.last_hidden_state[:, 0]
    features = extractor.features(images())
    assert features.dtype == torch.float64
    torch.testing.assert_close(features, wanted.double(), rtol=1e-4, atol=1e-5)
    assert extractor.facts()["preprocessing"]["pooling"] == pooling


@pytest.mark.parametrize(("resample", "name"), [(2, "bilinear"), (3, "bicubic"), (None, "bilinear")])
def test_preprocessing_is_antialiased_and_in_the_record(resample: int | None, name: str, tmp_path: Path):
    extractor = named_extractor(str(save(tmp_path, resample=resample)))
    described = {key: extractor.preprocessing[key] for key in ("size", "filter", "antialias", "mean", "std")}
    assert described == {
        "size": 32,
        "filter": name,
        "antialias": True,
        "mean": SCALING["image_mean"],
        "std": SCALING["image_std"],
    }
    # Without antialiasing, every fourth pixel would be all that a pattern of that period shows.
    stripes = torch.zeros(1, 1, 128, 128, dtype=torch.uint8)
    stripes[..., ::4] = 255
    shown = extractor._network._inputs(stripes / 127.5 - 1)
    assert shown[0, 0].std() < 0.1
    assert extractor.features(stripes).shape == (1, 16)


def test_a_saved_name_leads_back_to_the_same_weights_or_to_an_error(tmp_path: Path):
    extractor = named_extractor(str(save(tmp_path / "model")))
    assert extractor.sha256 == sha256(tmp_path / "model" / "model.safetensors")
    extractor.save(tmp_path / "saved")
    again = load_extractor(tmp_path / "saved")
    assert again.facts() == extractor.facts() and torch.equal(again.features(images()), extractor.features(images()))
    torch.manual_seed(1)
    transformers.Dinov2Model(transformers.Dinov2Config(num_hidden_layers=2, **LAYERS)).save_pretrained(
        tmp_path / "model"
    )
    with pytest.raises(UserError, match="has other weights now"):
        load_extractor(tmp_path / "saved")


def test_it_tells_no_classes(tmp_path: Path):
    with pytest.raises(UserError, match="tells no classes"):
        named_extractor(str(save(tmp_path))).modes(images())


@pytest.mark.parametrize("name", ["./nowhere", "inception"])
def test_what_cannot_be_had_is_one_line_with_a_remedy(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    remedy = "pip install 'torch-fidelity" if name == "inception" else "an image network of transformers"
    with pytest.raises(UserError, match=rf"^extractor: .*{remedy}") as error:
        named_extractor(name)
    assert "\n" not in str(error.value)


def test_inception_is_given_rgb_bytes(monkeypatch: pytest.MonkeyPatch):
    class Fake(torch.nn.Linear):
        def __init__(self, *_: object) -> None:
            super().__init__(1, 1)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
            assert x.dtype == torch.uint8 and x.shape[1] == 3
            return (x.float().mean((2, 3)),)

    for name in ("torch_fidelity", "torch_fidelity.feature_extractor_inceptionv3"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules[name].FeatureExtractorInceptionV3 = Fake  # type: ignore[attr-defined]
    extractor = named_extractor("inception")
    assert extractor.features(images(channels=1)).shape == (6, 3)
    assert len(extractor.sha256) == 64 and extractor.facts()["preprocessing"]["size"] == 299
