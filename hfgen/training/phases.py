"""What a family hands to the trainer: networks, the phases of a step, and a pipeline."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from hfgen.data import ImageStore
from hfgen.seeds import derive_seed

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

Networks = Mapping[str, Any]


class Loss(NamedTuple):
    """What a phase minimises (scalar), and its named terms, detached, for the log."""

    total: Tensor
    terms: dict[str, Tensor]


class Draws:
    """The random numbers of one step.

    They derive from the run's seed and the images seen, and are drawn for the whole batch and cut for this
    process, so that neither a resume nor the number of processes changes them.
    """

    def __init__(self, seed: int, images_seen: int, device: torch.device, rank: int = 0, processes: int = 1) -> None:
        self._generator = torch.Generator(device).manual_seed(derive_seed("step", seed, images_seen))
        self._device, self._rank, self._processes = device, rank, processes

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        """Standard normal numbers of this process's shape (n, ...)."""
        return self._cut(torch.randn, shape)

    def uniform(self, shape: tuple[int, ...]) -> Tensor:
        """Numbers in [0, 1) of this process's shape (n, ...)."""
        return self._cut(torch.rand, shape)

    def integers(self, high: int, count: int) -> Tensor:
        """`count` integers in [0, high), the same on every process."""
        return torch.randint(high, (count,), generator=self._generator, device=self._device)

    def _cut(self, draw: Callable[..., Tensor], shape: tuple[int, ...]) -> Tensor:
        whole = (shape[0] * self._processes, *shape[1:])
        drawn = draw(whole, generator=self._generator, device=self._device)
        return drawn[self._rank * shape[0] : (self._rank + 1) * shape[0]]


@dataclasses.dataclass
class Step:
    """What a loss sees of one step.

    Attributes:
        images: This process's share of the batch, (n, C, R, R) in [-1, 1].
        labels: Their classes (n,), or None.
        draws: Where every random number comes from.
        averages: The averaged networks, as they will be published.
        index: Number of the step, from 0.
        progress: Share of the run's images already seen, in [0, 1).
        gather: Joins a tensor (n, ...) over the processes, in their order; no gradient flows through it.
        join: Joins a tensor (n, ...) too, with its gradient, and says where this process's lies in it; None in one.
        carry: What a phase leaves for the phases after it in the same step.
    """

    images: Tensor
    labels: Tensor | None
    draws: Draws
    averages: Networks
    index: int
    progress: float
    gather: Callable[[Tensor], Tensor] = lambda tensor: tensor
    join: Callable[[Tensor], tuple[Tensor, slice]] | None = None
    carry: dict[str, Tensor] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Phase:
    """One update within a step.

    Attributes:
        name: Prefix of its terms in the log.
        trains: Names of the networks that its optimizer updates; all others are frozen meanwhile.
        loss: (networks, step) -> Loss, a mean over the images, so that processes average to the whole batch.
        lr: Peak learning rate of AdamW.
        betas: AdamW's betas.
        weight_decay: AdamW's weight decay.
        lr_end: Learning rate at the end, as a fraction of `lr`; between them a cosine.
        begin: Share of the run's images at which the phase starts.
        end: Share of the run's images at which the phase stops.
        after: (networks, step), called after the update: changes that aren't gradients, e.g. a codebook's.
        clip: Largest gradient norm.
        watch: (the means of its terms since the last log line), called at each: what has collapsed, in words and
            numbers, or None.
        start: (networks, the training images), called before the first step of the run, whenever the phase begins: what
            frozen networks learn ahead of it.
        fit: (the averages, first), called before they are published: what of them is measured on images instead of
            learnt. `first(n)` yields batches (b, C, R, R) in [-1, 1] of the first n images that the run sees.
        early: (networks) -> weights whose gradient some loss asks for ahead of the update's.
        unsharded: Whether FSDP leaves what it trains unsharded: some loss calls `torch.autograd.grad` through it.
    """

    name: str
    trains: tuple[str, ...]
    loss: Callable[[Networks, Step], Loss]
    lr: float
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    lr_end: float = 0.1
    begin: float = 0.0
    end: float = 1.0
    after: Callable[[Networks, Step], None] | None = None
    clip: float | None = None
    watch: Callable[[Mapping[str, float]], str | None] | None = None
    start: Callable[[Networks, ImageStore], None] | None = None
    fit: Callable[[Networks, Callable[[int], Iterator[Tensor]]], None] | None = None
    early: Callable[[Networks], Sequence[Tensor]] | None = None
    unsharded: bool = False


class Family(abc.ABC):
    """A kind of generator: a frozen dataclass of its settings, with three methods that say how it learns."""

    @property
    def paired_with(self) -> tuple[str, int] | None:
        """(column, channels) of images that the data must bring beside the others; None: it needs no pairs.

        `Step.images` hold their channels behind the images' own.
        """
        return None

    @property
    def needs_start(self) -> str | None:
        """Why the settings can't start from random weights, in one line with the remedy; None: they can."""
        return None

    @property
    def trains_its_start(self) -> bool:
        """Whether a run trains the very network of the model that it starts from, which `build_from` takes."""
        return False

    def build_from(self, pipeline: Any, resolution: int, channels: int) -> dict[str, nn.Module]:
        """Make the networks around that of a published model, where `trains_its_start`."""
        raise NotImplementedError

    @abc.abstractmethod
    def build(self, resolution: int, channels: int, classes: int = 0) -> dict[str, nn.Module]:
        """Make the networks, randomly initialised from torch's global generator; 0 classes: images without labels."""

    @abc.abstractmethod
    def phases(self) -> list[Phase]:
        """List the updates of one step, in order."""

    @abc.abstractmethod
    def pipeline(self, networks: Networks) -> DiffusionPipeline:
        """Wrap (averaged) networks as what is published."""
