"""A small network that reads the letters of drawn lines: trained once a machine, seeded, and cached."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from hfgen.data.glyphs import CLASSES
from hfgen.data.lines import HEIGHTS, Lines, cut_out, draw_lines
from hfgen.errors import UserError
from hfgen.files import atomic_folder, cache_dir, read_json, write_bytes, write_json
from hfgen.metrics.judge_power import blurred
from hfgen.models.classifier import WIDTH, ClassHead, in_batches, predictions, train_classifier
from hfgen.seeds import derive_seed

VERSION = "hfgen-reader-v1"

_SIDE, _IMAGES, _RESOLUTION, _LETTERS, _SPOTS = 16, 320, 128, 450, 16
# The blur of each fourth training image, in pixels: degraded letters count as read where they can be. Dark and light
# ink, and plain and uneven grounds, take turns in other steps.
_BLURS = (0.0, 0.0, 0.7, 1.5)
_WEIGHTS, _FACTS = "reader.safetensors", "reader.json"


@dataclass(frozen=True)
class Reader:
    """Attributes:
    sha256: Of the weights.
    accuracy: Share of letters that it read rightly, of a tenth that it wasn't trained on.
    """

    sha256: str
    accuracy: float
    _model: nn.Sequential
    _content: bytes

    def read(self, images: Tensor, lines: Lines) -> Tensor:
        """Which of the classes (L,) of `glyphs` it takes each letter of `lines` for, in images like theirs."""
        return self.read_cells(cut_out(images, lines, _SIDE))

    @torch.no_grad()
    def read_cells(self, cells: Tensor) -> Tensor:
        """The same of what `cut_out` gives."""
        network, head = self._model
        return predictions(head(in_batches(network, _levels(cells), torch.device("cpu"))))[:, 0]

    def facts(self) -> dict[str, object]:
        """For the record."""
        return {"id": VERSION, "sha256": self.sha256, "accuracy": self.accuracy}


@lru_cache(maxsize=1)
def reader(cache: Path | None = None) -> Reader:
    """The reader, trained or read back from `cache`, by default the folder `readers` in hfgen's cache.

    Training takes 4 s of one core; the bits are the same again on the same machine. A damaged entry is remade.
    """
    folder = (cache or cache_dir() / "readers") / VERSION
    found = _load(folder)
    if found is None:
        found = _train()
        with atomic_folder(folder) as temporary:
            write_bytes(temporary / _WEIGHTS, found._content)
            write_json(temporary / _FACTS, {"sha256": found.sha256, "accuracy": found.accuracy})
    return found


def _train() -> Reader:
    generator = torch.Generator().manual_seed(derive_seed("reader"))
    dark = [index % 2 == 0 for index in range(_IMAGES)]
    lines = draw_lines(_backgrounds(dark, generator), dark, list(HEIGHTS), _LETTERS, generator)
    images = torch.empty_like(lines.images)
    for index, deviation in enumerate(_BLURS):
        images[index::4] = blurred(lines.images[index::4], deviation) if deviation else lines.images[index::4]
    labels = torch.tensor([cell.label for cell in lines.cells])
    trained = train_classifier(_levels(cut_out(images, lines, _SIDE)), labels, "reader", _network)
    model = nn.Sequential(trained.network, trained.head)
    content = safetensors.torch.save({name: value.contiguous() for name, value in model.state_dict().items()})
    return Reader(hashlib.sha256(content).hexdigest(), trained.accuracy, model, content)


def _backgrounds(dark: list[bool], generator: torch.Generator) -> Tensor:
    """Plain white for black ink, plain black for white; each second one uneven, as photographs are."""
    levels = torch.tensor([255.0 if is_dark else 0.0 for is_dark in dark]).view(-1, 1, 1, 1)
    spots = torch.randn(len(dark), 1, _SPOTS, _SPOTS, generator=generator)
    fields = interpolate(spots, size=(_RESOLUTION, _RESOLUTION), mode="bilinear", align_corners=False)
    uneven = levels + (128 - levels) / 2 + 50 * fields
    is_uneven = (torch.arange(len(dark)) // 2 % 2 == 1).view(-1, 1, 1, 1)
    return torch.where(is_uneven, uneven, levels).clamp(0, 255).to(torch.uint8)


def _load(folder: Path) -> Reader | None:
    try:
        facts, content = read_json(folder / _FACTS), (folder / _WEIGHTS).read_bytes()
        digest, accuracy = facts["sha256"], float(facts["accuracy"])
        if digest != hashlib.sha256(content).hexdigest():
            return None
        model = nn.Sequential(_network((1, _SIDE, _SIDE)), ClassHead((len(CLASSES),)))
        model.load_state_dict(safetensors.torch.load(content))
    except (UserError, OSError, KeyError, TypeError, ValueError, RuntimeError):
        return None
    return Reader(digest, accuracy, model.eval(), content)


def _network(shape: tuple[int, ...] | torch.Size) -> nn.Sequential:
    """(N, 1, 16, 16) -> (N, 64)."""
    return nn.Sequential(
        *_block(shape[0], 12, 2),
        *_block(12, 32, 2),
        *_block(32, 48, 1),
        nn.Flatten(),
        nn.Linear(48 * 16, WIDTH),
    )


def _block(inputs: int, outputs: int, stride: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)


def _levels(cells: Tensor) -> Tensor:
    """Three deviations each way, as uint8."""
    return (cells * 42 + 128).round().clamp(0, 255).to(torch.uint8)
