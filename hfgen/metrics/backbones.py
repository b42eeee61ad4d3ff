"""Extractors that others trained: any image network of `transformers`, and the original FID's Inception."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from hfgen.errors import UserError
from hfgen.extras import install_command
from hfgen.files import read_json, sha256, write_json
from hfgen.hub.downloads import commit_of
from hfgen.images import to_float
from hfgen.metrics.checks import check_images
from hfgen.metrics.extractors import FACTS, Extractor, load_embedded
from hfgen.metrics.placement import features_of_batches
from hfgen.models.feature_networks import BackboneFeatures
from hfgen.pipelines.places import resolve_network

_BATCH = 50


class BackboneExtractor(Extractor):
    """An image network of `transformers`, from safetensors, without remote code; one vector an image.

    Args:
        model: A local folder, or `org/name[@revision]`.

    Raises:
        UserError: it can't be fetched, or isn't one.
    """

    accuracy = None
    mode_counts = None

    def __init__(self, model: str) -> None:
        try:
            folder = resolve_network(model)
            self._network = BackboneFeatures(folder)
            self.preprocessing = {**self._network.preprocessing, "pooling": self._network.pooling}
        except UserError as error:
            reason = str(error).removeprefix("model: ")
            raise UserError(
                f"extractor: {reason}; give embedded, pixels, inception, or an image network of transformers"
            ) from None
        commit = commit_of(folder)
        self.id = f"{model.partition('@')[0]}@{commit}" if commit else model
        files = sorted(folder.glob("*.safetensors"))
        self.sha256 = sha256(files[0]) if len(files) == 1 else _joint_hash(files)

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """See `Extractor`."""
        check_images(images, "images")
        return features_of_batches(self, images.split(_BATCH)).double()

    @torch.no_grad()
    def batch_features(self, images: Tensor) -> Tensor:
        """See `Extractor`."""
        return self._network.pooled(to_float(images.to(self._network.mean.device))).cpu()

    def to(self, device: torch.device) -> BackboneExtractor:
        """See `Extractor`."""
        self._network.to(device)
        return self

    def save(self, folder: Path) -> None:
        """Its name and hash only: the weights may be large, and are fetched from where they came from."""
        write_json(folder / FACTS, {"kind": "backbone", "id": self.id, "sha256": self.sha256})


def _joint_hash(files: list[Path]) -> str:
    return hashlib.sha256("".join(map(sha256, files)).encode()).hexdigest()


class InceptionExtractor(Extractor):
    """The network of the original FID (2015-12-05, 2048 features) of torch-fidelity, which resizes as that FID does.

    Raises:
        UserError: torch-fidelity isn't there, or its weights can't be fetched.
    """

    id = "inception-v3-2015-12-05"
    accuracy = None
    mode_counts = None

    def __init__(self) -> None:
        self.preprocessing = {
            "size": 299,
            "filter": "bilinear, with TensorFlow 1's pixel centres",
            "antialias": False,
            "mean": [128 / 255],
            "std": [128 / 255],
        }
        try:
            # Not torchmetrics' network: from 1.8 on it resizes with antialiasing, which gives another FID.
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

            self._network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"]).eval()
        except ImportError as error:
            raise UserError(
                f"extractor: inception needs torch-fidelity ({str(error).splitlines()[0]}); "
                f"{install_command('inception')} beside a torchvision that fits your torch, or use another extractor"
            ) from None
        except OSError as error:
            raise UserError(f"extractor: the weights of inception can't be fetched ({error}); go online once") from None
        self.sha256 = hashlib.sha256(safetensors.torch.save(_contiguous(self._network.state_dict()))).hexdigest()

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """See `Extractor`; grey images become RGB."""
        check_images(images, "images")
        return features_of_batches(self, images.split(_BATCH)).double()

    @torch.no_grad()
    def batch_features(self, images: Tensor) -> Tensor:
        """See `Extractor`."""
        device = next(self._network.parameters()).device
        return self._network(images.to(device).expand(-1, 3, -1, -1))[0].cpu()

    def to(self, device: torch.device) -> InceptionExtractor:
        """See `Extractor`."""
        self._network.to(device)
        return self

    def save(self, folder: Path) -> None:
        """Its name and hash."""
        write_json(folder / FACTS, {"kind": "inception", "id": self.id, "sha256": self.sha256})


def _contiguous(state: dict[str, Any]) -> dict[str, Tensor]:
    return {name: value.contiguous() for name, value in state.items()}


def named_extractor(name: str) -> Extractor:
    """The extractor `inception`, or that of a folder or a Hub id. `embedded` and `pixels` are made from images.

    Raises:
        UserError: it can't be fetched.
    """
    return InceptionExtractor() if name == "inception" else BackboneExtractor(name)


def load_extractor(folder: Path) -> Extractor:
    """What `save` wrote; one that isn't embedded is fetched from where it came from.

    Raises:
        UserError: it can't be fetched, or has other weights now.
    """
    facts = read_json(folder / FACTS)
    kind = facts.get("kind") if isinstance(facts, dict) else None
    if kind in ("embedded", "pixels"):
        embedded = load_embedded(folder)
        if embedded is None:
            raise UserError(
                f"extractor: {folder} is damaged, or of a version before hfgen-classifier-v3; evaluate the model again"
            )
        return embedded
    if kind not in ("backbone", "inception"):
        raise UserError(f"extractor: {folder / FACTS} names the kind {kind!r}, which hfgen doesn't know")
    extractor = named_extractor("inception" if kind == "inception" else facts["id"])
    if extractor.sha256 != facts["sha256"]:
        raise UserError(f"extractor: {facts['id']} has other weights now than {facts['sha256'][:12]}; pin its revision")
    return extractor
