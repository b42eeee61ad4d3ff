"""Feature extractors: what a record says of one, and the embedded one, trained on the images at hand. No downloads."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from hfgen.errors import UserError
from hfgen.files import atomic_folder, cache_dir, read_json, write_bytes, write_json
from hfgen.metrics.checks import check_images
from hfgen.models.classifier import (
    ClassHead,
    Classifier,
    build_classifier,
    class_numbers,
    features,
    predictions,
    train_classifier,
)

_WEIGHTS, FACTS = "extractor.safetensors", "extractor.json"
_PREPROCESSING = {"size": "as it is", "filter": "area above 64 pixels", "antialias": True, "mean": [0.5], "std": [0.5]}


class Extractor(ABC):
    """A frozen network; numbers of different ones, or of other preprocessing, can't be compared.

    Attributes:
        id: Its name, with what pins it: a data set's fingerprint or a commit.
        sha256: Of its weights.
        accuracy: Share of held-out images that it classified rightly; None where it wasn't trained here.
        preprocessing: `size`, `filter`, `antialias`, `mean`, `std`: how pixels in [0, 1] become its inputs.
        mode_counts: Images of each known class in the training data (K,); None where it can't tell classes.
    """

    id: str
    sha256: str
    accuracy: float | None
    preprocessing: dict[str, Any]
    mode_counts: Tensor | None

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """uint8 (N, C, S, S) -> float64 (N, D), on the CPU."""

    @abstractmethod
    def to(self, device: torch.device) -> Extractor:
        """Move the network there, in place; returns itself. It computes in float32 everywhere."""

    def modes(self, images: Tensor) -> Tensor:
        """uint8 (N, C, S, S) -> the class (N,) that it takes each image for; an index into `mode_counts`."""
        raise UserError(f"extractor: {self.id} tells no classes; use the embedded one, on labelled data")

    def confidences(self, images: Tensor) -> Tensor:
        """uint8 (N, C, S, S) -> how sure it is of each image's class (N,), in [0, 1]; errors as `modes`."""
        raise UserError(f"extractor: {self.id} tells no classes; use the embedded one, on labelled data")

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write what `hfgen.metrics.load_extractor` reads."""

    def facts(self) -> dict[str, Any]:
        """For the record."""
        return {name: getattr(self, name) for name in ("id", "sha256", "accuracy", "preprocessing")}


@dataclass(frozen=True)
class EmbeddedExtractor(Extractor):
    """The small classifier, trained. `shape`: (C, S, S) of its images."""

    id: str
    sha256: str
    accuracy: float
    shape: tuple[int, ...]
    mode_counts: Tensor | None
    _classifier: Classifier
    _content: bytes

    @property
    def preprocessing(self) -> dict[str, Any]:  # type: ignore[override]
        """See `Extractor`."""
        return _PREPROCESSING

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """uint8 (N, C, S, S) -> float64 (N, 64), on the CPU; mean 0 and variance 1 over the training images.

        Raises:
            UserError: not an image set, an empty one, or of another shape than the training images.
        """
        self._check(images)
        return features(self._classifier.network, images).double()

    def to(self, device: torch.device) -> EmbeddedExtractor:
        """See `Extractor`; the head, which takes features, stays on the CPU."""
        self._classifier.network.to(device)
        return self

    @torch.no_grad()
    def modes(self, images: Tensor) -> Tensor:
        """See `Extractor`; errors as `features`."""
        if self.mode_counts is None:
            return super().modes(images)
        head = self._classifier.head
        mode = torch.zeros(len(images), dtype=torch.int64)
        for size, factor in zip(head.sizes, predictions(head(self.features(images).float())).T, strict=True):
            mode = mode * size + factor
        return mode

    @torch.no_grad()
    def confidences(self, images: Tensor) -> Tensor:
        """See `Extractor`: the product over factors; errors as `features`."""
        if self.mode_counts is None:
            return super().confidences(images)
        head = self._classifier.head
        factors = [logits.softmax(1).amax(1) for logits in head(self.features(images).float())]
        return torch.stack(factors).prod(0).double()

    def save(self, folder: Path) -> None:
        """See `Extractor`."""
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(folder / _WEIGHTS, self._content)
        counts = None if self.mode_counts is None else self.mode_counts.tolist()
        facts = {"kind": "embedded", "id": self.id, "sha256": self.sha256, "accuracy": self.accuracy}
        sizes = self._classifier.head.sizes
        write_json(folder / FACTS, {**facts, "shape": self.shape, "factors": sizes, "mode_counts": counts})

    def _check(self, images: Tensor) -> None:
        check_images(images, "images")
        if images.shape[1:] != self.shape:
            found, wanted = (" x ".join(map(str, shape)) for shape in (images.shape[1:], self.shape))
            raise UserError(f"images: {found}, but the extractor was trained on {wanted}; resize them")


def embedded_extractor(
    images: Tensor,
    labels: Tensor | None,
    fingerprint: str,
    *,
    factors: tuple[int, ...] | None = None,
    cache: Path | None = None,
) -> EmbeddedExtractor:
    """Train the extractor of a data set, or read it back.

    It learns the labels; without at least two of them, which of four rotations was applied. The bits are the same
    again on the same machine.

    Args:
        images: uint8 (N, C, S, S), N at least 20; above 64 pixels the network sees them averaged down to 64.
        labels: (N,) class numbers, or None.
        fingerprint: identifies images and labels; hexadecimal, of which 12 digits name the cache entry.
        factors: sizes of the independent factors that make up a label, the most significant first; each is learnt
            by itself, since a thousand classes would have too few images each.
        cache: the folder of the entries, by default `extractors` in hfgen's cache. Damaged ones are remade.

    Raises:
        UserError: not an image set, too few images, not squares, or labels that don't match.
    """
    check_images(images, "images")
    if images.shape[2] != images.shape[3]:
        raise UserError(f"images: {images.shape[2]} x {images.shape[3]} pixels; crop them to squares")
    if labels is not None and labels.shape != images.shape[:1]:
        raise UserError(f"labels: shape {tuple(labels.shape)}; give {len(images)}, one per image")
    classes, counts = _classes(labels, factors)
    kind = "rotation-v2" if classes is None else "classifier-v2"
    name = fingerprint[:12]
    folder = (cache or cache_dir() / "extractors") / f"{kind}-{name}"
    found = load_embedded(folder)
    if found is None or found.shape != tuple(images.shape[1:]):
        found = _train(f"hfgen-{kind}/{name}", images.cpu(), classes, counts)
        with atomic_folder(folder) as temporary:
            found.save(temporary)
    return found


def load_embedded(folder: Path) -> EmbeddedExtractor | None:
    """What `EmbeddedExtractor.save` wrote; None where it is missing or damaged."""
    try:
        facts = read_json(folder / FACTS)
        content = (folder / _WEIGHTS).read_bytes()
        shape, factors, counts = tuple(facts["shape"]), tuple(facts["factors"]), facts["mode_counts"]
        identity, digest, accuracy = facts["id"], facts["sha256"], facts["accuracy"]
    except (UserError, OSError, KeyError, TypeError):
        return None
    if digest != hashlib.sha256(content).hexdigest():
        return None
    classifier = Classifier(build_classifier(shape), ClassHead(factors), accuracy)
    _modules(classifier).load_state_dict(safetensors.torch.load(content))
    counts = None if counts is None else torch.tensor(counts)
    return EmbeddedExtractor(identity, digest, accuracy, shape, counts, classifier, content)


def _train(identity: str, images: Tensor, classes: Tensor | None, counts: Tensor | None) -> EmbeddedExtractor:
    classifier = train_classifier(images, classes, "extractor")
    content = safetensors.torch.save(_modules(classifier).state_dict())
    digest = hashlib.sha256(content).hexdigest()
    return EmbeddedExtractor(
        identity, digest, classifier.accuracy, tuple(images.shape[1:]), counts, classifier, content
    )


def _classes(labels: Tensor | None, factors: tuple[int, ...] | None) -> tuple[Tensor | None, Tensor | None]:
    """What to learn, (N,) or (N, F), and how many images each mode has; None twice without classes."""
    classes = class_numbers(labels)
    if classes is None or labels is None:
        return None, None
    if factors is None or len(factors) < 2:
        return classes, None if int(labels.min()) < 0 else classes.bincount()
    rest, digits = labels.cpu().long(), []
    for size in reversed(factors):
        digits.append(rest % size)
        rest = rest // size
    learnt = torch.stack(digits[::-1], 1)
    if (learnt.amax(0) + 1).tolist() != list(factors):
        raise UserError(f"labels: not every one of the factors {factors} is there; give more images")
    return learnt, labels.cpu().bincount(minlength=int(torch.tensor(factors).prod()))


def _modules(classifier: Classifier) -> nn.ModuleDict:
    return nn.ModuleDict({"network": classifier.network, "head": classifier.head})
