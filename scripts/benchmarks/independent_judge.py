"""The judge by which tables are reported, and by which nothing of hfgen was chosen.

Of another architecture, seed and training split than hfgen's extractors: a plain classifier of three convolution
stages, trained for some epochs without shifts or weight decay on those held-out images that aren't the reference. Its
statistics are the 64 numbers after its last ReLU and the mean of each channel of each stage, since letters are told in
spite of noise; its features are their principal components, of one scale over the images that it was trained on, or
brightness would decide nearly alone.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hfgen.devices import cpu_threads
from hfgen.files import write_bytes
from hfgen.images import to_float
from hfgen.metrics import Extractor
from hfgen.models.classifier import in_batches
from hfgen.models.judge import Whitening
from hfgen.seeds import derive_seed

if TYPE_CHECKING:
    from hfgen.evaluation.held_out import HeldOut

EMBEDDING = 64
_EPOCHS, _FEWEST_STEPS, _BATCH, _RATE = 8, 600, 64, 1e-3
_WIDTHS = (16, 32, 64)
_TURNS = 4
# It names the judge of the published tables.
_SEED = "second judge"


class IndependentJudge(Extractor):
    """The classifier, trained; without at least two classes it tells which of four rotations was applied.

    Args:
        images: To train on, uint8 (N, C, S, S).
        labels: Their classes (N,), each in [0, classes), or None.
        classes: How many there are.
        folder: Where its weights are kept, to be read by the next call on the same images.
        steps: Of training; by default eight epochs, and 600 at least.
    """

    accuracy = None
    preprocessing: dict[str, Any] = {"size": "as it is", "filter": "none", "mean": [0.5], "std": [0.5]}  # noqa: RUF012
    is_light = True

    def __init__(
        self, images: Tensor, labels: Tensor | None, classes: int, folder: Path, steps: int | None = None
    ) -> None:
        steps = max(_FEWEST_STEPS, _EPOCHS * len(images) // _BATCH) if steps is None else steps
        known = None if labels is None or classes < 2 else labels
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(derive_seed(_SEED, "weights"))
            self._network = _network(images.shape[1:], classes if known is not None else _TURNS)
        self.mode_counts = None if known is None else torch.bincount(known, minlength=classes)
        seen = images.contiguous().numpy().tobytes() + (b"" if known is None else known.numpy().tobytes())
        digest = hashlib.sha256(seen + repr((steps, _BATCH, _RATE, _WIDTHS)).encode()).hexdigest()[:12]
        self.id, path = f"three-stages-whitened/{digest}", folder / f"independent-judge-{digest}.safetensors"
        if path.is_file():
            self._network.load_state_dict(safetensors.torch.load_file(path))
        else:
            with cpu_threads(1):
                _train(self._network, images, known, steps)
            folder.mkdir(parents=True, exist_ok=True)
            write_bytes(path, safetensors.torch.save(self._network.state_dict()))
        self.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        self._network.eval()
        self._whitening = Whitening(EMBEDDING + sum(_WIDTHS))
        with torch.no_grad():
            self._whitening.fit(in_batches(self._statistics, images, torch.device("cpu")))

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """See `Extractor`."""
        return in_batches(self._whitened, images, torch.device("cpu")).double()

    @torch.no_grad()
    def batch_features(self, images: Tensor) -> Tensor:
        """See `Extractor`."""
        return self._whitened(to_float(images)).cpu()

    def _whitened(self, images: Tensor) -> Tensor:
        whitened: Tensor = self._whitening(self._statistics(images))
        return whitened

    def _statistics(self, images: Tensor) -> Tensor:
        found, values = [], images
        for layer in list(self._network)[:-1]:
            values = layer(values)
            if isinstance(layer, nn.MaxPool2d):
                found.append(values.mean((2, 3)))
        return torch.cat([values, *found], 1)

    @torch.no_grad()
    def modes(self, images: Tensor) -> Tensor:
        """See `Extractor`."""
        if self.mode_counts is None:
            return super().modes(images)
        return in_batches(self._network, images, torch.device("cpu")).argmax(1)

    def to(self, device: torch.device) -> IndependentJudge:
        """It stays on the CPU."""
        return self

    def save(self, folder: Path) -> None:
        """Its weights are kept where it was made."""


def independent_judge(held: HeldOut, folder: Path, seed: int = 0) -> HeldOut:
    """The same reference images, seen by the independent judge, which is trained on the rest of their split.

    Raises:
        ValueError: the reference is more than half of the split.
    """
    from hfgen.data import batch_indices
    from hfgen.evaluation.held_out import HeldOut
    from hfgen.evaluation.real_images import real_images

    store, n = held.store, len(held.images)
    if 2 * n > len(store):
        raise ValueError(f"n: {n} of {len(store)} held-out images; half of them at most, or the judge has too few")
    rest = batch_indices(len(store), n, len(store) - n, seed)
    labels = None if store.labels is None or not store.classes else store.labels[rest]
    judge = IndependentJudge(store.gather(rest), labels, store.classes, folder)
    seen = real_images(held.images, held.others, held.labels, judge, seed)
    return HeldOut(**vars(seen), store=store, inputs=held.inputs, training=held.training)


def _network(shape: torch.Size, outputs: int) -> nn.Sequential:
    channels, side, _ = shape
    stages: list[nn.Module] = []
    for a, b in zip((channels, *_WIDTHS), _WIDTHS, strict=False):
        stages += [nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    flat = _WIDTHS[-1] * (side // 2 ** len(_WIDTHS)) ** 2
    return nn.Sequential(*stages, nn.Flatten(), nn.Linear(flat, EMBEDDING), nn.ReLU(), nn.Linear(EMBEDDING, outputs))


def _train(network: nn.Module, images: Tensor, labels: Tensor | None, steps: int) -> None:
    """By Adam, on batches drawn by a seed of its own, the rate falling to 0."""
    generator = torch.Generator().manual_seed(derive_seed(_SEED, "batches"))
    optimizer = torch.optim.Adam(network.parameters(), _RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    with torch.enable_grad():
        for _ in range(steps):
            rows = torch.randint(len(images), (_BATCH,), generator=generator)
            inputs = to_float(images[rows])
            if labels is None:
                targets = torch.randint(_TURNS, (_BATCH,), generator=generator)
                turned = torch.stack([inputs.rot90(turn, (2, 3)) for turn in range(_TURNS)])
                inputs = turned[targets, torch.arange(_BATCH)]
            else:
                targets = labels[rows]
            optimizer.zero_grad()
            F.cross_entropy(network(inputs), targets).backward()
            optimizer.step()
            schedule.step()
