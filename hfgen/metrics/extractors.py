"""The embedded feature extractor: a small classifier trained, seeded, on the images at hand. No downloads."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from hfgen.errors import UserError
from hfgen.files import atomic_folder, cache_dir, read_json, write_bytes, write_json
from hfgen.metrics.checks import check_images
from hfgen.models.classifier import build_classifier, class_numbers, features, train_classifier

_WEIGHTS, _FACTS = "extractor.safetensors", "extractor.json"


@dataclass(frozen=True)
class EmbeddedExtractor:
    """A trained network and what a record says of it.

    `id`: what it learnt, and on which data. `sha256`: of its weights as safetensors. `accuracy`: the share of
    a held-out tenth of the images that it classified rightly. `shape`: (C, S, S) of its images.
    """

    id: str
    sha256: str
    accuracy: float
    shape: tuple[int, ...]
    _network: nn.Module

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """uint8 (N, C, S, S) -> float64 (N, 64), on the CPU; mean 0 and variance 1 over the training images.

        Raises:
            UserError: not an image set, an empty one, or of another shape than the training images.
        """
        check_images(images, "images")
        if images.shape[1:] != self.shape:
            found, wanted = (" x ".join(map(str, shape)) for shape in (images.shape[1:], self.shape))
            raise UserError(f"images: {found}, but the extractor was trained on {wanted}; resize them")
        return features(self._network, images.cpu()).double()


def embedded_extractor(
    images: Tensor, labels: Tensor | None, fingerprint: str, *, cache: Path | None = None
) -> EmbeddedExtractor:
    """Train the extractor of a data set, or read it back.

    It learns the labels; without at least two of them, which of four rotations was applied. The bits are the same
    again on the same machine.

    Args:
        images: uint8 (N, C, S, S), N at least 20; above 64 pixels the network sees them averaged down to 64.
        labels: (N,) class numbers, or None.
        fingerprint: identifies images and labels; hexadecimal, of which 12 digits name the cache entry.
        cache: the folder of the entries, by default `extractors` in hfgen's cache. Damaged ones are remade.

    Raises:
        UserError: not an image set, too few images, not squares, or labels that don't match.
    """
    check_images(images, "images")
    if images.shape[2] != images.shape[3]:
        raise UserError(f"images: {images.shape[2]} x {images.shape[3]} pixels; crop them to squares")
    if labels is not None and labels.shape != images.shape[:1]:
        raise UserError(f"labels: shape {tuple(labels.shape)}; give {len(images)}, one per image")
    classes = class_numbers(labels)
    kind = "rotation-v1" if classes is None else "classifier-v1"
    name = fingerprint[:12]
    folder = (cache or cache_dir() / "extractors") / f"{kind}-{name}"
    return _load(folder, images) or _make(folder, f"hfgen-{kind}/{name}", images.cpu(), classes)


def cached_extractor(
    identity: str, digest: str, shape: tuple[int, ...], *, cache: Path | None = None
) -> EmbeddedExtractor | None:
    """The extractor that a record names by its `id` and `sha256`, if this machine's cache has it.

    `shape`: (C, S, S) of the images. `cache`: as in `embedded_extractor`.
    """
    folder = (cache or cache_dir() / "extractors") / identity.removeprefix("hfgen-").replace("/", "-")
    extractor = _load(folder, torch.empty(0, *shape))
    return extractor if extractor is not None and extractor.sha256 == digest else None


def _load(folder: Path, images: Tensor) -> EmbeddedExtractor | None:
    try:
        facts = read_json(folder / _FACTS)
        identity, digest, accuracy = facts["id"], facts["sha256"], facts["accuracy"]
        content = (folder / _WEIGHTS).read_bytes()
    except (UserError, OSError, KeyError, TypeError):
        return None
    shape = tuple(images.shape[1:])
    if digest != hashlib.sha256(content).hexdigest() or facts["shape"] != list(shape):
        return None
    network = build_classifier(shape)
    network.load_state_dict(safetensors.torch.load(content))
    return EmbeddedExtractor(identity, digest, accuracy, shape, network)


def _make(folder: Path, identity: str, images: Tensor, classes: Tensor | None) -> EmbeddedExtractor:
    network, accuracy = train_classifier(images, classes, "extractor")
    content = safetensors.torch.save(network.state_dict())
    digest = hashlib.sha256(content).hexdigest()
    shape = tuple(images.shape[1:])
    with atomic_folder(folder) as temporary:
        write_bytes(temporary / _WEIGHTS, content)
        facts = {"id": identity, "sha256": digest, "accuracy": accuracy, "shape": list(shape)}
        write_json(temporary / _FACTS, facts)
    return EmbeddedExtractor(identity, digest, accuracy, shape, network)
