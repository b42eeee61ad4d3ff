"""Models with a planted fault each: does `hfgen diagnose` name it first?

Small models of 16 px are trained on ten classes of `--data` (the digits of `glyphs`), once: what `--out` holds isn't
trained or diagnosed again. The bars: nine of ten planted causes are named first, where an honest "unknown" counts half;
of four pairs of five, both are among the first three; no healthy model is called ill.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.fault_plants import FAULTS, RESOLUTION, Fault, Job, healthy_vae

if TYPE_CHECKING:
    from torch import Tensor

    from hfgen.data import ImageStore

CLASSES = 10
LEFT_OUT = (1, 4, 8)
_TRAIN, _TEST = 6000, 1000
_TOP_1, _PAIRS = 0.9, 0.8
_UNKNOWN = ("unknown", "unexplained")


class Named(NamedTuple):
    """What one diagnosis said, in order, and how long it took."""

    fault: str
    seed: int
    causes: list[str]
    seconds: float

    @property
    def planted(self) -> Fault:
        """What it should say."""
        return FAULTS[self.fault]

    def within(self, first: int) -> bool:
        """Whether a planted cause is among the first ones; of a pair, both."""
        found = [cause in self.causes[:first] for cause in self.planted.causes]
        return all(found) if self.planted.pair else any(found)

    @property
    def score(self) -> float:
        """1, or a half where it says that it doesn't know."""
        return 1.0 if self.within(1) else 0.5 * (self.causes[0] in _UNKNOWN)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's settings."""
    parser.add_argument("--data", default="glyphs", help="labelled, as `hfgen train` takes it (%(default)s)")
    parser.add_argument("--budget", choices=("small", "full"), default="small", help="of the diagnoses (%(default)s)")
    parser.add_argument(
        "--faults",
        nargs="+",
        choices=list(FAULTS),
        default=list(FAULTS),
        metavar="FAULT",
        help=f"of {', '.join(FAULTS)} (all)",
    )
    parser.add_argument("--seeds", type=int, default=3, help="models of each fault (%(default)s)")
    parser.add_argument("--first_seed", type=int, default=0, help="(%(default)s)")
    parser.add_argument("--n", type=int, help="held-out images of a diagnosis (the budget's)")
    parser.add_argument(
        "--images", type=int, default=16_000, help="that a model sees; GAN and VQ-VAE, twice or more (%(default)s)"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/faults"), help="folder of the models (%(default)s)")
    parser.add_argument("--check", action="store_true", help="exit 1 where a bar is missed")


def run(arguments: argparse.Namespace) -> int:
    """Train, diagnose, print the tables; returns the exit code."""
    data = arguments.out / "data"
    if not (data / "complete").is_dir():
        _write_data(arguments.data, data)
    named = []
    print("| planted | seed | named first | score | then | seconds |\n|---|---|---|---|---|---|")
    for name in arguments.faults:
        if FAULTS[name].colour and _channels(data) != 3:
            continue
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
            started = time.perf_counter()
            ranking = _diagnose(name, Job(data, arguments.images, seed), arguments)
            first, rest = ranking[0], ", ".join(f"{row['cause']} {row['score']:.2f}" for row in ranking[1:3])
            took = time.perf_counter() - started
            named.append(Named(name, seed, [row["cause"] for row in ranking], took))
            print(f"| {name} | {seed} | {first['cause']} | {first['score']:.2f} | {rest} | {took:.0f} |", flush=True)
    return int(_summary(named) and arguments.check)


def _summary(named: list[Named]) -> bool:
    """Print how often which cause was named, and the bars; whether one was missed."""
    columns = sorted({each.causes[0] for each in named})
    print(f"\n| planted | should be | {' | '.join(columns)} |\n|{'---|' * (2 + len(columns))}")
    for fault in dict.fromkeys(each.fault for each in named):
        first = [each.causes[0] for each in named if each.fault == fault]
        should = (" and " if FAULTS[fault].pair else " or ").join(FAULTS[fault].causes)
        print(f"| {fault} | {should} | {' | '.join(str(first.count(cause) or '') for cause in columns)} |")
    healthy = [each for each in named if each.planted.healthy]
    pairs = [each for each in named if each.planted.pair]
    single = [each for each in named if not each.planted.healthy and not each.planted.pair]
    alarms = [each for each in healthy if not each.within(1)]
    print()
    _share("named first", [each.within(1) for each in single])
    _share("among the first two", [each.within(2) for each in single])
    _share("pairs, both among the first three", [each.within(3) for each in pairs])
    print(f"healthy models that are called ill: {len(alarms)} of {len(healthy)}")
    seconds = sorted(each.seconds for each in named)
    print(f"a model's training, where it wasn't there, and diagnosis: {seconds[len(seconds) // 2]:.0f} s (median)")
    missed = [
        bool(single) and sum(each.score for each in single) < _TOP_1 * len(single),
        bool(pairs) and sum(each.within(3) for each in pairs) < _PAIRS * len(pairs),
        bool(alarms),
    ]
    for bar, is_missed in zip(("nine of ten first", "four of five pairs", "no false alarm"), missed, strict=True):
        print(f"{'missed' if is_missed else 'held'}: {bar}")
    return any(missed)


def _share(what: str, found: list[bool]) -> None:
    from hfgen.metrics.intervals import wilson

    if found:
        share = wilson(sum(found) / len(found), len(found))
        print(f"{what}: {sum(found)} of {len(found)}, {share.value:.2f} [{share.low:.2f}, {share.high:.2f}]")


def _diagnose(name: str, job: Job, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The ranking of one model's diagnosis, from `out` where it is there."""
    from hfgen.diagnosis.diagnose import diagnose
    from hfgen.documents import DIAGNOSIS

    fault, folder = FAULTS[name], arguments.out / f"{name}-{job.seed}"
    done, judged = folder / f"diagnosis-{arguments.budget}", str(job.data / fault.judged)
    if (done / "diagnosis.json").is_file():
        return DIAGNOSIS.read(done / "diagnosis.json")["ranking"]
    model: Any = folder
    if fault.after is not None:
        model = _changed_images(healthy_vae(job, str(job.data / fault.data), folder), fault.after)
    elif fault.make is not None and not (folder / "pretrained").is_dir():
        fault.make(job, str(job.data / fault.data), folder)
    options = {"budget": arguments.budget, "n": arguments.n, "seed": job.seed}
    return diagnose(model, judged, out=done, resolution=RESOLUTION, **options)["ranking"]


def _changed_images(pipeline: Any, change: Any) -> Any:
    """A pair of functions around a VAE: nothing in them is known but what they give."""

    def decode(latents: Tensor) -> Tensor:
        return change(pipeline.vae.decode(latents).sample)

    def encode(images: Tensor) -> Tensor:
        return pipeline.vae.encode(images).latent_dist.mean

    return {"encode": encode, "decode": decode}


def _channels(data: Path) -> int:
    from hfgen.data import open_store

    return open_store(str(data / "complete"), split="test", resolution=RESOLUTION).channels


def _write_data(data: str, folder: Path) -> None:
    """`complete`, `smooth`; `incomplete`: the train split lacks three classes; `blurred`: halved and upscaled again."""
    import torch

    from hfgen.data import open_store
    from hfgen.files import atomic_folder

    kinds = {"blurred": _upscaled, "smooth": _smooth, "incomplete": _same, "complete": _same}
    for split, most in (("train", _TRAIN), ("test", _TEST)):
        images, labels = _first(open_store(data, split=split, resolution=RESOLUTION), most)
        left_out = torch.isin(labels, torch.tensor(LEFT_OUT)) & (split == "train")
        for kind, change in kinds.items():
            rows = ~left_out if kind == "incomplete" else torch.ones_like(left_out)
            with atomic_folder(folder / f"{kind}-{split}") as temporary:
                _write_split(change(images[rows]), labels[rows], temporary / f"{split}.parquet")
    for kind in kinds:
        with atomic_folder(folder / kind) as temporary:
            for split in ("train", "test"):
                (folder / f"{kind}-{split}" / f"{split}.parquet").rename(temporary / f"{split}.parquet")


def _same(images: Tensor) -> Tensor:
    return images


def _smooth(images: Tensor) -> Tensor:
    """As subjects are that have no edges: blurred by 1.5 pixels, at the resolution that they have."""
    import torch
    from torch.nn.functional import conv2d, pad

    line = torch.exp(-0.5 * (torch.arange(-4, 5) / 1.5) ** 2)
    kernel = (line[:, None] * line / line.sum() ** 2).expand(images.shape[1], 1, -1, -1)
    framed = pad(images.float(), (4, 4, 4, 4), mode="replicate")
    return conv2d(framed, kernel, groups=images.shape[1]).round().clamp(0, 255).to(images.dtype)


def _first(store: ImageStore, most: int) -> tuple[Tensor, Tensor]:
    """The first images of the first ten classes."""
    if store.labels is None:
        raise SystemExit("data: it has no labels; give labelled data")
    rows = ((store.labels >= 0) & (store.labels < CLASSES)).nonzero()[:most, 0]
    return store.gather(rows), store.labels[rows]


def _upscaled(images: Tensor) -> Tensor:
    from torch.nn.functional import interpolate

    small = interpolate(images.float(), scale_factor=0.5, mode="area")
    large = interpolate(small, scale_factor=2, mode="bilinear")
    return large.round().clamp(0, 255).to(images.dtype)


def _write_split(images: Tensor, labels: Tensor, path: Path) -> None:
    from datasets import ClassLabel, Dataset, Features, Image

    from hfgen.images import to_pil

    features = Features({"image": Image(), "label": ClassLabel(num_classes=CLASSES)})
    Dataset.from_dict({"image": to_pil(images), "label": labels.tolist()}, features=features).to_parquet(path)
