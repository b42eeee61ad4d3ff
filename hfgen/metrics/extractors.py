"""Feature extractors: what a record says of one, and two that are made from the images at hand. No downloads."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from torch import Tensor, nn

from hfgen.devices import cpu_threads
from hfgen.errors import UserError
from hfgen.files import atomic_folder, cache_dir, read_json, write_bytes, write_json
from hfgen.images import to_float
from hfgen.metrics.checks import check_images
from hfgen.metrics.placement import at_once, features_of_batches
from hfgen.models.classifier import (
    FEWEST_IMAGES,
    ClassHead,
    class_numbers,
    in_batches,
    predictions,
    train_classifier,
)
from hfgen.models.judge import FITTED_ON, JudgeNetwork
from hfgen.models.pixel_statistics import PixelStatistics
from hfgen.seeds import derive_seed

PIXEL_JUDGE = "hfgen-pixels"
"""Begins the ids of what `pixel_extractor` makes."""

_NUMBERS = 2**20
_WEIGHTS, FACTS = "extractor.safetensors", "extractor.json"
_AS_IT_IS = {"size": "as it is", "antialias": True, "mean": [0.5], "std": [0.5]}
_PREPROCESSING = {
    "embedded": {**_AS_IT_IS, "filter": "area above 64 pixels, and none beside it"},
    "pixels": {**_AS_IT_IS, "filter": "none"},
}
_NETWORKS: dict[str, Callable[[tuple[int, ...]], JudgeNetwork | PixelStatistics]] = {
    "embedded": JudgeNetwork,
    "pixels": PixelStatistics,
}


class Extractor(ABC):
    """A frozen network; numbers of different ones, or of other preprocessing, can't be compared.

    Attributes:
        id: Its name, with what pins it: a data set's fingerprint or a commit.
        sha256: Of its weights.
        accuracy: Share of held-out images that it classified rightly; None where it wasn't trained here.
        preprocessing: `size`, `filter`, `antialias`, `mean`, `std`: how pixels in [0, 1] become its inputs.
        mode_counts: Images of each known class in the training data (K,); None where it can't tell classes.
        is_light: Whether features cost little: milliseconds of one core an image, at most.
    """

    id: str
    sha256: str
    accuracy: float | None
    preprocessing: dict[str, Any]
    mode_counts: Tensor | None
    is_light = False

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """uint8 (N, C, S, S) -> float64 (N, D), on the CPU."""

    @abstractmethod
    def batch_features(self, images: Tensor) -> Tensor:
        """Those of a batch, which the network takes at once: float32 (N, D), on the CPU."""

    @abstractmethod
    def to(self, device: torch.device) -> Extractor:
        """Move the network there, in place; returns itself. It computes in float32 everywhere."""

    def modes(self, images: Tensor) -> Tensor:
        """uint8 (N, C, S, S) -> the class (N,) that it takes each image for; an index into `mode_counts`."""
        raise UserError(f"extractor: {self.id} tells no classes; use the embedded one, on labelled data")

    def embeddings(self, images: Tensor) -> Tensor:
        """uint8 (N, C, S, S) -> what it tells classes by, float64 (N, D), on the CPU; errors as `modes`."""
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
    """A judge made from the images at hand, by its `kind`.

    `embedded` was trained on them, `pixels` are known statistics, scaled by theirs. `shape`: (C, S, S) of the images.
    """

    is_light = True

    id: str
    sha256: str
    accuracy: float | None
    kind: Literal["embedded", "pixels"]
    shape: tuple[int, ...]
    mode_counts: Tensor | None
    _network: JudgeNetwork | PixelStatistics
    _head: ClassHead | None
    _content: bytes

    @property
    def preprocessing(self) -> dict[str, Any]:  # type: ignore[override]
        """See `Extractor`."""
        return _PREPROCESSING[self.kind]

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """uint8 (N, C, S, S) -> float64 (N, 64 or fewer), on the CPU; see `Whitening`: over the training images nearly
        uncorrelated, with mean about 0 and deviation about .7, less of few images.

        Raises:
            UserError: not an image set, an empty one, or of another shape than the training images.
        """
        self._check(images)
        return features_of_batches(self, images.split(at_once(images, _NUMBERS))).double()

    @torch.no_grad()
    def batch_features(self, images: Tensor) -> Tensor:
        """See `Extractor`."""
        return self._network.features(to_float(images.to(self._device))).cpu()

    def to(self, device: torch.device) -> EmbeddedExtractor:
        """See `Extractor`; the head, which takes what the network gives, stays on the CPU."""
        self._network.to(device)
        return self

    @torch.no_grad()
    def modes(self, images: Tensor) -> Tensor:
        """See `Extractor`; errors as `features`."""
        if self.mode_counts is None or self._head is None:
            return super().modes(images)
        mode = torch.zeros(len(images), dtype=torch.int64)
        for size, factor in zip(self._head.sizes, predictions(self._logits(self._head, images)).T, strict=True):
            mode = mode * size + factor
        return mode

    @torch.no_grad()
    def embeddings(self, images: Tensor) -> Tensor:
        """See `Extractor`; errors as `features`."""
        if self.mode_counts is None:
            return super().embeddings(images)
        self._check(images)
        return in_batches(self._network, images, self._device).double()

    @torch.no_grad()
    def confidences(self, images: Tensor) -> Tensor:
        """See `Extractor`: the product over factors; errors as `features`."""
        if self.mode_counts is None or self._head is None:
            return super().confidences(images)
        factors = [logits.softmax(1).amax(1) for logits in self._logits(self._head, images)]
        return torch.stack(factors).prod(0).double()

    def _logits(self, head: ClassHead, images: Tensor) -> list[Tensor]:
        self._check(images)
        return head(in_batches(self._network, images, self._device))

    def save(self, folder: Path) -> None:
        """See `Extractor`."""
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(folder / _WEIGHTS, self._content)
        counts = None if self.mode_counts is None else self.mode_counts.tolist()
        facts = {"kind": self.kind, "id": self.id, "sha256": self.sha256, "accuracy": self.accuracy}
        sizes = None if self._head is None else self._head.sizes
        write_json(folder / FACTS, {**facts, "shape": self.shape, "factors": sizes, "mode_counts": counts})

    @property
    def _device(self) -> torch.device:
        return self._network.whitening.mean.device

    def _check(self, images: Tensor) -> None:
        check_images(images, "images")
        if images.shape[1:] != self.shape:
            found, wanted = (" x ".join(map(str, shape)) for shape in (images.shape[1:], self.shape))
            raise UserError(f"images: {found}, but the extractor was made from {wanted}; resize them")


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
    again on the same machine. Training takes about half a minute of one core.

    Args:
        images: uint8 (N, C, S, S), N at least 20; see `JudgeNetwork` for those above 64 pixels.
        labels: (N,) class numbers, or None.
        fingerprint: identifies images and labels; hexadecimal, of which 12 digits name the cache entry.
        factors: sizes of the independent factors that make up a label, the most significant first; each is learnt
            by itself, since a thousand classes would have too few images each.
        cache: the folder of the entries, by default `extractors` in hfgen's cache. Damaged ones are remade.

    Raises:
        UserError: not an image set, too few images, not squares, or labels that don't match.
    """
    _check_training(images)
    if labels is not None and labels.shape != images.shape[:1]:
        raise UserError(f"labels: shape {tuple(labels.shape)}; give {len(images)}, one per image")
    classes, counts = _classes(labels, factors)
    name = f"{'rotation' if classes is None else 'classifier'}-v3-{fingerprint[:12]}"
    return _cached(name, images, cache, lambda identity: _train(identity, images.cpu(), classes, counts))


def pixel_extractor(images: Tensor, fingerprint: str, *, cache: Path | None = None) -> EmbeddedExtractor:
    """A judge of another kind: statistics of pixels and spectra (`PixelStatistics`), which nothing was trained for.

    It sees noise, blur, compression, colour and layout, but no meaning. Arguments and errors as `embedded_extractor`.
    """
    _check_training(images)
    return _cached(f"pixels-v1-{fingerprint[:12]}", images, cache, lambda identity: _describe(identity, images))


def pixel_judge(images: Tensor) -> EmbeddedExtractor:
    """`pixel_extractor` of the images at hand, named by their bytes and kept nowhere; errors likewise."""
    _check_training(images)
    digest = hashlib.sha256(images.cpu().contiguous().numpy().data).hexdigest()
    return _describe(f"{PIXEL_JUDGE}-v1/{digest[:12]}", images)


def _check_training(images: Tensor) -> None:
    check_images(images, "images")
    if images.shape[2] != images.shape[3]:
        raise UserError(f"images: {images.shape[2]} x {images.shape[3]} pixels; crop them to squares")
    if len(images) < FEWEST_IMAGES:
        raise UserError(f"images: {len(images)} are too few to train on; give {FEWEST_IMAGES} or more")


def _cached(
    name: str, images: Tensor, cache: Path | None, make: Callable[[str], EmbeddedExtractor]
) -> EmbeddedExtractor:
    folder = (cache or cache_dir() / "extractors") / name
    found = load_embedded(folder)
    if found is None or found.shape != tuple(images.shape[1:]):
        version, _, fingerprint = name.rpartition("-")
        found = make(f"hfgen-{version}/{fingerprint}")
        with atomic_folder(folder) as temporary:
            found.save(temporary)
    return found


def load_embedded(folder: Path) -> EmbeddedExtractor | None:
    """What `EmbeddedExtractor.save` wrote; None where it is missing, damaged, or of a version without its network."""
    try:
        facts = read_json(folder / FACTS)
        content = (folder / _WEIGHTS).read_bytes()
        kind, shape, factors = facts["kind"], tuple(facts["shape"]), facts["factors"]
        identity, digest, accuracy = facts["id"], facts["sha256"], facts["accuracy"]
        counts = None if facts["mode_counts"] is None else torch.tensor(facts["mode_counts"])
        network = _NETWORKS[kind](shape)
    except (UserError, OSError, KeyError, TypeError):
        return None
    if digest != hashlib.sha256(content).hexdigest():
        return None
    head = None if factors is None else ClassHead(tuple(factors))
    try:
        _modules(network, head).load_state_dict(safetensors.torch.load(content))
    except RuntimeError:
        return None
    network.eval()
    return EmbeddedExtractor(identity, digest, accuracy, kind, shape, counts, network, head, content)


def _train(identity: str, images: Tensor, classes: Tensor | None, counts: Tensor | None) -> EmbeddedExtractor:
    trained = train_classifier(images, classes, "extractor", JudgeNetwork)
    assert isinstance(trained.network, JudgeNetwork)
    return _fitted(identity, "embedded", images, trained.network, trained.head, trained.accuracy, counts)


def _describe(identity: str, images: Tensor) -> EmbeddedExtractor:
    return _fitted(identity, "pixels", images, PixelStatistics(images.shape[1:]), None, None, None)


@torch.no_grad()
def _fitted(
    identity: str,
    kind: Literal["embedded", "pixels"],
    images: Tensor,
    network: JudgeNetwork | PixelStatistics,
    head: ClassHead | None,
    accuracy: float | None,
    counts: Tensor | None,
) -> EmbeddedExtractor:
    """Whiten the network's statistics by those of some of the images."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(derive_seed("whitening")))
    with cpu_threads(1):
        chosen = images[order[:FITTED_ON].to(images.device)]
        network.whitening.fit(in_batches(network.statistics, chosen, torch.device("cpu")))
    weights = _modules(network, head).state_dict()
    content = safetensors.torch.save({name: weight.contiguous() for name, weight in weights.items()})
    digest = hashlib.sha256(content).hexdigest()
    shape = tuple(images.shape[1:])
    return EmbeddedExtractor(identity, digest, accuracy, kind, shape, counts, network, head, content)


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


def _modules(network: nn.Module, head: ClassHead | None) -> nn.ModuleDict:
    return nn.ModuleDict({"network": network} if head is None else {"network": network, "head": head})
