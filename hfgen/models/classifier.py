"""Networks that learn the classes of the images at hand, in seconds: the shared training, and the smallest of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import update_bn

from hfgen.devices import cpu_threads
from hfgen.errors import UserError
from hfgen.images import to_float
from hfgen.seeds import derive_seed

WIDTH = 64
LARGEST_SIDE = 64
FEWEST_IMAGES = 20
_ROTATIONS = 4
_BATCH_PIXELS = 2**21
_MEASURED_ON = 2000

_MOST_STEPS, _MOST_EPOCHS, _BATCH = 468, 30, 96
_LEARNING_RATE, _WEIGHT_DECAY, _SHIFT = 4e-3, 0.02, 2


def class_numbers(labels: Tensor | None) -> Tensor | None:
    """Class numbers 0, 1, ... without gaps, or None where there is nothing to tell apart."""
    if labels is None:
        return None
    values, classes = labels.cpu().unique(return_inverse=True)
    return classes if len(values) > 1 else None


class ClassHead(nn.Module):
    """What a network gives (N, 64) -> logits of each factor of the classes, a list of (N, K)."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.sizes = sizes
        self.linear = nn.Linear(WIDTH, sum(sizes))

    def forward(self, embeddings: Tensor) -> list[Tensor]:
        """The logits."""
        return list(self.linear(embeddings.relu()).split(self.sizes, 1))


class Classifier(NamedTuple):
    """`network` and the `head` that tells the classes; `accuracy`: on a tenth of the images that it didn't see."""

    network: nn.Module
    head: ClassHead
    accuracy: float


@torch.inference_mode(False)
@torch.enable_grad()
def train_classifier(
    images: Tensor,
    classes: Tensor | None,
    purpose: str,
    build: Callable[[torch.Size], nn.Module] | None = None,
) -> Classifier:
    """The network, trained.

    It learns the classes; without them, which of four rotations was applied (RotNet, Gidaris 2018). Training
    neither reads nor moves the global random state, and runs in one CPU thread: the bits are the same again on the
    same machine, and processes that share its cores don't stall each other.

    Args:
        images: uint8 (N, C, S, S), N at least 20, on the CPU.
        classes: (N,) numbers 0, 1, ... without gaps, (N, F) of such where a class has F independent factors, or None.
        purpose: seeds it: a network that trains a model isn't the one that judges it.
        build: makes the network from (C, S, S): `classifier_inputs` -> (n, 64); by default `build_classifier`.

    Raises:
        UserError: too few images.
    """
    if len(images) < FEWEST_IMAGES:
        raise UserError(f"images: {len(images)} are too few to train on; give {FEWEST_IMAGES} or more")
    # Sums of several threads are added in any order.
    with cpu_threads(1):
        return _train(images, classes, purpose, build or build_classifier)


def _train(
    images: Tensor, classes: Tensor | None, purpose: str, build: Callable[[torch.Size], nn.Module]
) -> Classifier:
    generator = torch.Generator().manual_seed(derive_seed(purpose, "batches"))
    order = torch.randperm(len(images), generator=generator)
    held_out, seen = order.tensor_split([len(images) // 10])
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would reseed the GPUs too.
        torch.default_generator.manual_seed(derive_seed(purpose, "weights"))
        network = build(images.shape[1:])
        head = ClassHead((_ROTATIONS,) if classes is None else tuple((_factors(classes).amax(0) + 1).tolist()))
    model = nn.Sequential(network, head)
    steps = min(_MOST_STEPS, _MOST_EPOCHS * len(seen) // _BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=steps)
    for _ in range(steps):
        picks = seen[torch.randint(len(seen), (_BATCH,), generator=generator)]
        inputs, targets = _examples(images, classes, picks, generator)
        logits = model(_shifted(inputs, generator))
        losses = [F.cross_entropy(*pair) for pair in zip(logits, targets.T, strict=True)]
        loss = torch.stack(losses).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        # A moving average over so few steps would be far off.
        measured = seen[:_MEASURED_ON]
        parts = measured.tensor_split(-(-len(measured) // batch_size(images)))
        update_bn((_examples(images, classes, picks, generator)[0] for picks in parts), network)
        model.eval()
        right = 0
        for picks in held_out.split(batch_size(images)):
            inputs, targets = _examples(images, classes, picks, generator)
            right += int((predictions(model(inputs)) == targets).all(1).sum())
    return Classifier(network, head, right / len(held_out))


def predictions(logits: list[Tensor]) -> Tensor:
    """The likeliest class of each factor, (N, F)."""
    return torch.stack([factor.argmax(1) for factor in logits], 1)


def _factors(classes: Tensor) -> Tensor:
    return classes if classes.ndim == 2 else classes[:, None]


def _examples(
    images: Tensor, classes: Tensor | None, picks: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Inputs and targets (n, F) of the picked images: their classes, or rotations that are drawn here."""
    inputs = classifier_inputs(to_float(images[picks]))
    if classes is not None:
        return inputs, _factors(classes[picks])
    turns = torch.randint(_ROTATIONS, (len(inputs),), generator=generator)
    turned = torch.stack([inputs.rot90(turn, (2, 3)) for turn in range(_ROTATIONS)])
    return turned[turns, torch.arange(len(inputs))], turns[:, None]


def _shifted(inputs: Tensor, generator: torch.Generator) -> Tensor:
    """Each image moved by up to 2 pixels each way; its border is repeated."""
    side = inputs.shape[-1]
    windows = F.pad(inputs, (_SHIFT,) * 4, mode="replicate").unfold(2, side, 1).unfold(3, side, 1)
    down, right = torch.randint(2 * _SHIFT + 1, (2, len(inputs)), generator=generator)
    return windows[torch.arange(len(inputs)), :, down, right]


def in_batches(function: Callable[[Tensor], Tensor], images: Tensor, device: torch.device) -> Tensor:
    """uint8 (N, C, S, S) -> what `function` makes of them in [-1, 1] there, (N, ...), on the CPU."""
    parts = images.split(batch_size(images))
    return torch.cat([function(to_float(part.to(device))).cpu() for part in parts])


def batch_size(images: Tensor) -> int:
    """How many images (N, C, S, S) to take at once, so that the memory doesn't grow with their size."""
    return max(1, min(500, _BATCH_PIXELS // images.shape[-1] ** 2))


def classifier_inputs(images: Tensor) -> Tensor:
    """Images (N, C, S, S) in [-1, 1], averaged down to 64 pixels where they are larger."""
    return F.adaptive_avg_pool2d(images, LARGEST_SIDE) if images.shape[-1] > LARGEST_SIDE else images


def build_classifier(shape: tuple[int, ...] | torch.Size) -> nn.Sequential:
    """From `classifier_inputs` of images of shape (C, S, S) to (N, 64).

    The last map keeps 2 x 2 places: letters need them.
    """
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
        nn.Linear(96 * 4, WIDTH),
    )


def _block(inputs: int, outputs: int, stride: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return convolution, nn.GroupNorm(8, outputs), nn.ReLU(inplace=True)
