"""The embedded feature extractor: a small classifier trained, seeded, on the images at hand. No downloads."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hfgen.errors import UserError
from hfgen.files import atomic_folder, cache_dir, read_json, write_bytes, write_json
from hfgen.images import to_float
from hfgen.metrics.checks import check_images
from hfgen.seeds import derive_seed

_WIDTH = 64
_FEWEST_IMAGES = 20
_LARGEST_SIDE = 64
_ROTATIONS = 4
_INFERENCE_BATCH = 500
_SCALED_ON = 5000
_WEIGHTS, _FACTS = "extractor.safetensors", "extractor.json"

_MOST_STEPS, _MOST_EPOCHS, _BATCH = 468, 30, 96
_LEARNING_RATE, _WEIGHT_DECAY, _SHIFT = 4e-3, 0.02, 2


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
        return _features(self._network, images.cpu()).double()


def embedded_extractor(
    images: Tensor, labels: Tensor | None, fingerprint: str, *, cache: Path | None = None
) -> EmbeddedExtractor:
    """Train the extractor of a data set, or read it back.

    It learns the labels; without at least two of them, which of four rotations was applied (RotNet, Gidaris
    2018). Training neither reads nor moves the global random state, and runs in one CPU thread: the bits are
    the same again on the same machine, and processes that share its cores don't stall each other.

    Args:
        images: uint8 (N, C, S, S), N at least 20; above 64 pixels the network sees them averaged down to 64.
        labels: (N,) class numbers, or None.
        fingerprint: identifies images and labels; hexadecimal, of which 12 digits name the cache entry.
        cache: the folder of the entries, by default `extractors` in hfgen's cache. Damaged ones are remade.

    Raises:
        UserError: not an image set, too few images, not squares, or labels that don't match.
    """
    check_images(images, "images")
    if len(images) < _FEWEST_IMAGES:
        raise UserError(f"images: {len(images)} are too few to train on; give {_FEWEST_IMAGES} or more")
    if images.shape[2] != images.shape[3]:
        raise UserError(f"images: {images.shape[2]} x {images.shape[3]} pixels; crop them to squares")
    if labels is not None and labels.shape != images.shape[:1]:
        raise UserError(f"labels: shape {tuple(labels.shape)}; give {len(images)}, one per image")
    classes = _compact(labels)
    kind = "rotation-v1" if classes is None else "classifier-v1"
    name = fingerprint[:12]
    folder = (cache or cache_dir() / "extractors") / f"{kind}-{name}"
    return _load(folder, images) or _make(folder, f"hfgen-{kind}/{name}", images.cpu(), classes)


def _compact(labels: Tensor | None) -> Tensor | None:
    """Class numbers 0, 1, ... without gaps, or None where there is nothing to tell apart."""
    if labels is None:
        return None
    values, classes = labels.cpu().unique(return_inverse=True)
    return classes if len(values) > 1 else None


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
    network = _network(shape)
    network.load_state_dict(safetensors.torch.load(content))
    return EmbeddedExtractor(identity, digest, accuracy, shape, network)


def _make(folder: Path, identity: str, images: Tensor, classes: Tensor | None) -> EmbeddedExtractor:
    with torch.inference_mode(False), torch.enable_grad(), _one_thread():
        network, accuracy = _train(images, classes)
    content = safetensors.torch.save(network.state_dict())
    digest = hashlib.sha256(content).hexdigest()
    shape = tuple(images.shape[1:])
    with atomic_folder(folder) as temporary:
        write_bytes(temporary / _WEIGHTS, content)
        facts = {"id": identity, "sha256": digest, "accuracy": accuracy, "shape": list(shape)}
        write_json(temporary / _FACTS, facts)
    return EmbeddedExtractor(identity, digest, accuracy, shape, network)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _train(images: Tensor, classes: Tensor | None) -> tuple[nn.Sequential, float]:
    """The network, and its accuracy on the tenth that it didn't see."""
    generator = torch.Generator().manual_seed(derive_seed("extractor", "batches"))
    order = torch.randperm(len(images), generator=generator)
    held_out, seen = order.tensor_split([len(images) // 10])
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would reseed the GPUs too.
        torch.default_generator.manual_seed(derive_seed("extractor", "weights"))
        network = _network(images.shape[1:])
        head = nn.Linear(_WIDTH, _ROTATIONS if classes is None else int(classes.max()) + 1)
    model = nn.Sequential(network, nn.ReLU(), head)
    steps = min(_MOST_STEPS, _MOST_EPOCHS * len(seen) // _BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=steps)
    for _ in range(steps):
        picks = seen[torch.randint(len(seen), (_BATCH,), generator=generator)]
        inputs, targets = _examples(images, classes, picks, generator)
        loss = F.cross_entropy(model(_shifted(inputs, generator)), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        right = 0
        for picks in held_out.split(_INFERENCE_BATCH):
            inputs, targets = _examples(images, classes, picks, generator)
            right += int((model(inputs).argmax(1) == targets).sum())
        _standardise(network, images[seen[:_SCALED_ON]])
    return network, right / len(held_out)


def _examples(
    images: Tensor, classes: Tensor | None, picks: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Inputs and targets of the picked images: their classes, or rotations that are drawn here."""
    inputs = _inputs(images[picks])
    if classes is not None:
        return inputs, classes[picks]
    turns = torch.randint(_ROTATIONS, (len(inputs),), generator=generator)
    turned = torch.stack([inputs.rot90(turn, (2, 3)) for turn in range(_ROTATIONS)])
    return turned[turns, torch.arange(len(inputs))], turns


def _shifted(inputs: Tensor, generator: torch.Generator) -> Tensor:
    """Each image moved by up to 2 pixels each way; its border is repeated."""
    side = inputs.shape[-1]
    windows = F.pad(inputs, (_SHIFT,) * 4, mode="replicate").unfold(2, side, 1).unfold(3, side, 1)
    down, right = torch.randint(2 * _SHIFT + 1, (2, len(inputs)), generator=generator)
    return windows[torch.arange(len(inputs)), :, down, right]


def _standardise(network: nn.Sequential, images: Tensor) -> None:
    """Give each feature mean 0 and variance 1: the kernel distance above all depends on the scale."""
    features = _features(network, images).double()
    last = network[-1]
    assert isinstance(last, nn.Linear)
    mean, scale = features.mean(0).float(), features.std(0).clamp(min=1e-6).float()
    last.bias.sub_(mean).div_(scale)
    last.weight.div_(scale[:, None])


def _features(network: nn.Module, images: Tensor) -> Tensor:
    return torch.cat([network(_inputs(batch)) for batch in images.split(_INFERENCE_BATCH)])


def _inputs(images: Tensor) -> Tensor:
    inputs = to_float(images)
    return F.adaptive_avg_pool2d(inputs, _LARGEST_SIDE) if inputs.shape[-1] > _LARGEST_SIDE else inputs


def _network(shape: tuple[int, ...] | torch.Size) -> nn.Sequential:
    """(N, C, S, S) in [-1, 1] -> (N, 64). The last map keeps 2 x 2 places: letters need them."""
    channels, side, _ = shape
    stem = [*_block(channels, 16, 2)] if side > 32 else []
    return nn.Sequential(
        *stem,
        *_block(16 if stem else channels, 24, 2),
        *_block(24, 48, 2),
        *_block(48, 48, 1),
        *_block(48, 96, 2),
        *_block(96, 96, 1),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(96 * 4, _WIDTH),
    )


def _block(inputs: int, outputs: int, stride: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return convolution, nn.GroupNorm(8, outputs), nn.ReLU(inplace=True)
