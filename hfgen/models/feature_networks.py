"""Frozen networks whose layers a perceptual distance compares."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hfgen.bars import without_bars
from hfgen.errors import ModelError
from hfgen.files import read_json
from hfgen.models.classifier import build_classifier, classifier_inputs

_LAYERS = 5
# Pillow's number, in preprocessors' configs.
_BICUBIC = 3
_LARGEST_SIDE, _LARGEST_NUMBER = 2**12, 1e6


class BackboneFeatures(nn.Module):
    """Images (N, C, R, R) in [-1, 1] -> features (N, D, ...) of a `transformers` image network, shallow to deep.

    Its hidden states: all, or five evenly spaced ones. Images are resized and scaled as its preprocessor's config
    says, but whole, not cropped, and always with antialiasing; grey ones become RGB.

    Attributes:
        preprocessing: `size`, `filter`, `antialias`, `mean` and `std` of what the network sees, pixels in [0, 1].
    """

    mean: Tensor
    std: Tensor

    def __init__(self, folder: Path) -> None:
        """Load a local folder (safetensors, config.json, preprocessor_config.json).

        Raises:
            ModelError: a file is missing or damaged, or it is no image network.
        """
        super().__init__()
        self.preprocessing = _preprocessing(folder)
        self.backbone, self._has_pooler = _load_backbone(folder)
        self.register_buffer("mean", torch.tensor(self.preprocessing["mean"]).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(self.preprocessing["std"]).view(1, -1, 1, 1), persistent=False)
        self.requires_grad_(False).eval()
        try:
            self.pooling  # noqa: B018
        except Exception as error:  # On odd configs the library raises almost anything.
            raise ModelError(f"{folder} can't be run: {_line(error)}") from error

    @cached_property
    @torch.no_grad()
    def pooling(self) -> str:
        """What `pooled` gives: `pooler`, the network's own; else `class token` or `mean` over places."""
        side = self.preprocessing["size"]
        output = self.backbone(pixel_values=torch.zeros(1, 3, side, side, device=self.mean.device))
        if self._has_pooler and getattr(output, "pooler_output", None) is not None:
            return "pooler"
        return "class token" if _has_class_token(self.backbone) else "mean"

    def pooled(self, images: Tensor) -> Tensor:
        """One vector an image, (N, D)."""
        output = self.backbone(pixel_values=self._inputs(images))
        if self.pooling == "pooler":
            return output.pooler_output.flatten(1)
        last = output.last_hidden_state
        if self.pooling == "class token":
            return last[:, 0]
        return last.mean(1) if last.ndim == 3 else last.mean((2, 3))

    def _inputs(self, images: Tensor) -> Tensor:
        inputs, side = (images + 1) / 2, self.preprocessing["size"]
        if inputs.shape[-1] != side:
            # Bicubic weights are negative in places: bright and dark edges leave [0, 1].
            filter = self.preprocessing["filter"]
            inputs = F.interpolate(inputs, (side, side), mode=filter, antialias=True).clamp(0, 1)
        return (inputs - self.mean) / self.std

    def forward(self, images: Tensor) -> list[Tensor]:
        """The features of each layer."""
        states = self.backbone(pixel_values=self._inputs(images), output_hidden_states=True).hidden_states
        count = min(_LAYERS, len(states))
        chosen = [states[round(i * (len(states) - 1) / (count - 1))] for i in range(count)]
        # Transformers' states are (N, places, D).
        return [state if state.ndim == 4 else state.transpose(1, 2) for state in chosen]


class EmbeddedFeatures(nn.Module):
    """Images (N, C, R, R) in [-1, 1] -> features (N, D, h, w) of the embedded classifier, shallow to deep.

    Its weights are random until those of a trained one are loaded into `classifier`.
    """

    def __init__(self, channels: int, resolution: int) -> None:
        super().__init__()
        self.classifier = build_classifier((channels, resolution, resolution))
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> list[Tensor]:
        """The features behind each rectifier."""
        x, found = classifier_inputs(images), []
        for layer in self.classifier:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                found.append(x)
        return found


def _load_backbone(folder: Path) -> tuple[Any, bool]:
    """The network, and whether no pooler of it lacks weights."""
    from transformers import AutoModel

    try:
        with without_bars("transformers"):
            model, info = AutoModel.from_pretrained(
                folder, use_safetensors=True, trust_remote_code=False, dtype=torch.float32, output_loading_info=True
            )
    except Exception as error:  # On odd configs and weights the library raises almost anything.
        raise ModelError(f"{folder} can't be loaded: {_line(error)}") from error
    # Checkpoints of classifiers lack the pooler, which no hidden state sees.
    missing = sorted(key for key in info["missing_keys"] if "pooler" not in key)
    if missing:
        raise ModelError(f"{folder} can't be used: weights are missing, {missing[0]} the first of {len(missing)}")
    model = getattr(model, "vision_model", model)
    if getattr(model, "main_input_name", None) != "pixel_values":
        raise ModelError(f"{folder} holds a {type(model).__name__}, which takes no images; give an image network")
    return model, not any("pooler" in key for key in info["missing_keys"])


def _three_numbers(values: Any) -> bool:
    """Whether it is a list of them, all finite."""
    numbers = isinstance(values, list) and all(type(value) in (int, float) for value in values)
    return numbers and len(values) == 3 and all(abs(value) < _LARGEST_NUMBER for value in values)


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _has_class_token(model: Any) -> bool:
    return any(name.endswith(("cls_token", "class_embedding")) for name, _ in model.named_parameters())


def _preprocessing(folder: Path) -> dict[str, Any]:
    """What the network sees: side, filter, mean and standard deviation, pixels in [0, 1]."""
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        raise ModelError(f"{folder} holds no preprocessor_config.json, which says how its images are scaled")
    values = read_json(path)
    if not isinstance(values, dict):
        raise ModelError(f"{path} holds no JSON object; get the file again")
    size = values.get("crop_size") or values.get("size")
    sides: list[Any] = list(size.values()) if isinstance(size, dict) and size else [size]
    if not all(type(side) is int and 1 <= side <= _LARGEST_SIDE for side in sides):
        raise ModelError(f"{path} gives no size of the images, 1 to {_LARGEST_SIDE} pixels: {size!r}")
    filter = "bicubic" if values.get("resample") == _BICUBIC else "bilinear"
    mean, std = [0.0] * 3, [1.0] * 3
    if values.get("do_normalize", True):
        mean, std = values.get("image_mean") or [0.5] * 3, values.get("image_std") or [0.5] * 3
    if not (_three_numbers(mean) and _three_numbers(std) and min(std) > 0):
        raise ModelError(f"{path}: image_mean {mean!r} and image_std {std!r} aren't three numbers each; get it again")
    return {"size": min(sides), "filter": filter, "antialias": True, "mean": mean, "std": std}
