"""What each judge sees of known degradations of held-out images, against other real images.

For each set of images: KID over its standard error, then coverage / recall / precision. Other held-out images and
training images should be seen as real: KID within two standard errors of 0. `--seeds 5` splits the held-out images
anew with each seed, and adds a table of real against real over them. `unlabelled` is `embedded` that learns
rotations, `embedded-v2` the judge before, `untrained` the network of `embedded` with random weights.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor

    from hfgen.data import ImageStore

JUDGES = ("embedded", "unlabelled", "embedded-v2", "untrained", "pixels")
_NEIGHBOURS = 5
_OTHER = "other real images"


class Seen(NamedTuple):
    """What a judge says of a set: KID's value over its standard error, and the shares of `prdc`."""

    z: float
    kid: float
    coverage: float
    recall: float
    precision: float

    def __str__(self) -> str:
        return f"{self.z:.1f}, {self.coverage:.2f} / {self.recall:.2f} / {self.precision:.2f}"


Judge = Callable[["Tensor"], "Tensor"]
BARS: list[tuple[str, Callable[[dict[str, Seen]], bool]]] = [
    (f"{_OTHER}: KID within 2 standard errors", lambda s: abs(s[_OTHER].z) <= 2),
    ("noise of sd 15: coverage below .5", lambda s: s["white noise, sd 15"].coverage < 0.5),
    ("blur of .5 px: KID at least 5 standard errors", lambda s: s["blur, .5 px"].z >= 5),
]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's settings."""
    parser.add_argument("--data", required=True, help="as `hfgen train` takes it; smaller images are padded")
    parser.add_argument("--resolution", type=int, default=32, help="in pixels (%(default)s)")
    parser.add_argument("--judges", nargs="+", default=JUDGES, help=f"{', '.join(JUDGES)}, or any --extractor (these)")
    parser.add_argument("--n", type=int, default=2000, help="images a set; half of the split at most (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="chooses and degrades the images (%(default)s)")
    parser.add_argument("--seeds", type=int, default=1, help="of real against real (%(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="folder of judge.json")
    parser.add_argument("--check", action="store_true", help="exit 1 where `embedded` misses a bar")


def run(arguments: argparse.Namespace) -> int:
    """Judge every set, print the table, return the exit code."""
    from hfgen.data import open_store
    from hfgen.files import write_json
    from hfgen.metrics.judge_power import judge_power

    torch.set_num_threads(1)
    options: dict[str, Any] = {"resolution": arguments.resolution, "channels": "auto", "small_images": "pad"}
    training = open_store(arguments.data, split="train", **options)
    held_out = open_store(arguments.data, split="test", **options)
    real, sets = image_sets(training, held_out, arguments.n, arguments.seed)
    found: dict[str, dict[str, Seen]] = {}
    spread: dict[str, list[Seen]] = {}
    facts: dict[str, dict[str, Any]] = {}
    for name in arguments.judges:
        started = time.process_time()
        extractor = make_judge(name, training)
        facts[name] = {"seconds": time.process_time() - started}
        found[name] = look(extractor.features, real, sets)
        if arguments.seeds > 1:
            spread[name] = [
                look(extractor.features, *real_pair(held_out, len(real), arguments.seed + turn))[_OTHER]
                for turn in range(arguments.seeds)
            ]
        power = judge_power(extractor, extractor.features(real), sets["training images"], seed=arguments.seed)
        facts[name] |= {"accuracy": extractor.accuracy, "id": extractor.id, "power": power.as_dict()}
        print(f"{name}: {facts[name]['seconds']:.1f} s of one core; {power}", flush=True)
    print(table(found))
    if spread:
        print(table_of_seeds(spread, len(real)))
    result = {"data": arguments.data, "n": len(real), "seed": arguments.seed, "facts": facts}
    seen = {name: {row: judged._asdict() for row, judged in rows.items()} for name, rows in found.items()}
    seeds = {name: [judged._asdict() for judged in turns] for name, turns in spread.items()}
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_json(arguments.out / "judge.json", {**result, "judges": seen, "seeds": seeds})
    held = [(text, holds(found["embedded"])) for text, holds in BARS] if "embedded" in found else []
    for text, holds in held:
        print(f"{'held' if holds else 'missed'}: {text}")
    return int(arguments.check and not all(holds for _, holds in held))


def table(found: dict[str, dict[str, Seen]]) -> str:
    """A row a set, a column a judge."""
    lines = [f"| images | {' | '.join(found)} |", f"|{'---|' * (1 + len(found))}"]
    for row in next(iter(found.values())):
        lines.append(f"| {row} | {' | '.join(str(rows[row]) for rows in found.values())} |")
    return "\n".join(lines)


def table_of_seeds(spread: dict[str, list[Seen]], n: int) -> str:
    """Real against real: a row a judge, over seeds; KID's z is 0 on average with a deviation of 1."""
    from hfgen.metrics import expected_coverage

    expected = expected_coverage(n, n, _NEIGHBOURS)
    lines = [f"| real against real, n = {n} | KID over its standard error | coverage ({expected:.3f} expected) |"]
    lines.append("|---|---|---|")
    for name, turns in spread.items():
        z, covered = (torch.tensor([getattr(seen, of) for seen in turns]) for of in ("z", "coverage"))
        cells = [
            f"{values.mean():.{digits}f}, sd {values.std():.{digits}f} [{values.min():.{digits}f}, "
            f"{values.max():.{digits}f}]"
            for values, digits in ((z, 1), (covered, 3))
        ]
        lines.append(f"| {name}, {len(turns)} seeds | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def real_pair(held_out: ImageStore, n: int, seed: int) -> tuple[Tensor, dict[str, Tensor]]:
    """`n` held-out images and as many others, split by `seed`."""
    from hfgen.data import batch_indices

    first, second = (held_out.gather(rows) for rows in batch_indices(len(held_out), 0, 2 * n, seed).split(n))
    return first, {_OTHER: second}


def image_sets(training: ImageStore, held_out: ImageStore, n: int, seed: int) -> tuple[Tensor, dict[str, Tensor]]:
    """`n` held-out images, and sets to judge by them: as many others, degraded, none of them among the first."""
    from hfgen.data import batch_indices

    if 2 * n > len(held_out):
        print(f"n: {len(held_out) // 2}, half of the {len(held_out)} images that {held_out.source} holds out")
        n = len(held_out) // 2
    chosen, others = batch_indices(len(held_out), 0, 2 * n, seed).split(n)
    images = held_out.gather(others)
    labels = None if held_out.labels is None else held_out.labels[others]
    sets = {
        _OTHER: images,
        "training images": training.gather(batch_indices(len(training), 0, n, seed)),
        **degraded(images, labels, seed),
    }
    return held_out.gather(chosen), sets


def make_judge(name: str, training: ImageStore) -> Any:
    """The extractor of that name, made from training images and not read from a cache."""
    import tempfile

    from hfgen import metrics

    if name == "embedded-v2":
        return _Before(training)
    with tempfile.TemporaryDirectory() as folder:
        cache, images = Path(folder), training.targets
        if name == "untrained":
            return _Untrained(training)
        if name == "embedded":
            labels, factors = training.labels, training.label_factors
            return metrics.embedded_extractor(images, labels, training.fingerprint, factors=factors, cache=cache)
        if name == "unlabelled":
            return metrics.embedded_extractor(images, None, training.fingerprint, cache=cache)
        if name == "pixels":
            return metrics.pixel_extractor(images, training.fingerprint, cache=cache)
    return metrics.named_extractor(name)


class _Before:
    """The judge before: 64 features of a classifier with GroupNorm, standardised."""

    id = "hfgen-classifier-v2"

    def __init__(self, training: ImageStore) -> None:
        from hfgen.models.classifier import class_numbers, train_classifier

        trained = train_classifier(training.targets, class_numbers(training.labels), "extractor")
        self.accuracy, self._network = trained.accuracy, trained.network
        self._mean, self._scale = torch.zeros(()), torch.ones(())
        values = self.features(training.targets[:5000])
        self._mean, self._scale = values.mean(0), values.std(0).clamp(min=1e-6)

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        from hfgen.models.classifier import classifier_inputs, in_batches

        cpu = torch.device("cpu")
        found = in_batches(lambda batch: self._network(classifier_inputs(batch)), images, cpu)
        return (found.double() - self._mean) / self._scale


class _Untrained:
    """The judge's network as it begins, whitened."""

    id, accuracy = "untrained", None

    @torch.no_grad()
    def __init__(self, training: ImageStore) -> None:
        from torch.optim.swa_utils import update_bn

        from hfgen.images import to_float
        from hfgen.models.classifier import in_batches
        from hfgen.models.judge import JudgeNetwork

        images = training.targets[:5000]
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            self._network = JudgeNetwork(images.shape[1:])
        update_bn((to_float(part) for part in images[:2000].split(500)), self._network)
        self._network.eval()
        statistics = in_batches(self._network.statistics, images, torch.device("cpu"))
        self._network.whitening.fit(statistics)

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        from hfgen.models.classifier import in_batches

        return in_batches(self._network.features, images, torch.device("cpu")).double()


def look(features: Judge, real: Tensor, sets: dict[str, Tensor]) -> dict[str, Seen]:
    """What a judge says of each set, compared with the real images."""
    from hfgen.metrics import kernel_distance_interval, prdc

    own, found = features(real), {}
    for name, images in sets.items():
        theirs = features(images)
        kid = kernel_distance_interval(own, theirs)
        # Coverage falls with fewer images: a set of half as many is compared with half.
        shares = prdc(own[: len(theirs)], theirs, _NEIGHBOURS)
        error = (kid.high - kid.low) / (2 * 1.96)
        found[name] = Seen(kid.value / error, kid.value, shares.coverage, shares.recall, shares.precision)
    return found


def degraded(images: Tensor, labels: Tensor | None, seed: int) -> dict[str, Tensor]:
    """The images, each set with one known fault; uint8 (n, C, R, R), or half as many."""
    from hfgen.metrics.judge_power import blurred, noisy

    generator = torch.Generator().manual_seed(seed)
    n = len(images)
    sets = {
        "blur, .5 px": blurred(images, 0.5),
        "blur, 1 px": blurred(images, 1.0),
        "white noise, sd 5": noisy(images, 5, seed),
        "white noise, sd 15": noisy(images, 15, seed),
        "JPEG, quality 50": _jpeg(images, 50),
        "elastic, 1/32 of the side": _elastic(images, generator),
        "neighbouring patches swapped": _shuffled(images, generator),
        "upscaled from half": _upscaled(images),
        "contrast x .8": _rounded((images.float() - 127.5) * 0.8 + 127.5),
        "30 % of another image": _rounded(0.7 * images.float() + 0.3 * images.float().roll(1, 0)),
        "a tenth with blur, 2 px": torch.cat([blurred(images[: n // 10], 2.0), images[n // 10 :]]),
        "a twentieth, 20 times": images[: n // 20].repeat(20, 1, 1, 1),
    }
    if images.shape[1] == 3:
        grey = images.float().mean(1, keepdim=True)
        sets["half of the colour"] = _rounded(grey + 0.5 * (images - grey))
        sets["red x 1.05, blue x .95"] = _rounded(images * torch.tensor([1.05, 1, 0.95]).view(3, 1, 1))
    if labels is not None:
        classes = labels.unique()
        sets["half of the classes"] = images[labels < classes[len(classes) // 2]]
    return sets


def _rounded(images: Tensor) -> Tensor:
    return images.round().clamp(0, 255).to(torch.uint8)


def _jpeg(images: Tensor, quality: int) -> Tensor:
    from PIL import Image

    from hfgen.images import from_pil, to_pil

    files = []
    for image in to_pil(images):
        files.append(io.BytesIO())
        image.save(files[-1], "JPEG", quality=quality)
    return from_pil([Image.open(file) for file in files], images.shape[1])


def _elastic(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each place moved by a smooth random field: sd 1/32 of the side each way, alike over an eighth of it."""
    from scipy.ndimage import gaussian_filter

    n, _, side, _ = images.shape
    field = torch.randn(n, side, side, 2, generator=generator).numpy()
    smooth = torch.from_numpy(gaussian_filter(field, (0, side / 8, side / 8, 0), mode="wrap"))
    # grid_sample's side is 2.
    places = F.affine_grid(torch.eye(2, 3).expand(n, 2, 3), [n, 1, side, side], align_corners=False)
    places = places + smooth / smooth.std() * 2 / 32
    moved = F.grid_sample(images.float(), places, mode="bicubic", padding_mode="border", align_corners=False)
    return _rounded(moved)


def _shuffled(images: Tensor, generator: torch.Generator) -> Tensor:
    """8 x 8 patches; the four of each quarter of a quarter change places at random."""
    n, channels, side, _ = images.shape
    part = side // 8
    blocks = images.view(n, channels, 4, 2, part, 4, 2, part).permute(0, 2, 5, 3, 6, 1, 4, 7)
    blocks = blocks.reshape(n, 16, 4, channels, part, part)
    order = torch.rand(n, 16, 4, generator=generator).argsort(-1)[..., None, None, None]
    blocks = blocks.gather(2, order.expand_as(blocks)).reshape(n, 4, 4, 2, 2, channels, part, part)
    return blocks.permute(0, 5, 1, 3, 6, 2, 4, 7).reshape(images.shape)


def _upscaled(images: Tensor) -> Tensor:
    small = F.avg_pool2d(images.float(), 2)
    return _rounded(F.interpolate(small, scale_factor=2, mode="bicubic", align_corners=False))
