"""How often each 95 % interval of `hfgen.metrics` holds the truth, simulated at sizes in use.

The truth is known in closed form, or the mean of the values over all trials where the interval is for the mean value at
this number of images. Between 93 and 97 % is right; a lower bound of the share (Wilson, 95 %) above 97 % is too wide,
an upper one below 93 % too narrow. A number of few values, as that of codes when nearly all occur, may have no range of
them that holds 93 to 97 % of the trials: its interval is right from 93 % on.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from hfgen.metrics import Estimate, PowerSpectrum

    Trial = Callable[[int], "dict[str, Estimate]"]

_LEAST, _MOST = 0.93, 0.97
_FEATURES, _SIDE = 64, 16
_MANY, _APART = 100_000, 10**5  # images that tell a truth which no formula does, from a seed that no trial has


@dataclass(frozen=True)
class Case:
    """Estimates by name from a seed, at `n` images; `truth`: by name, the mean of the trials' values by default."""

    name: str
    n: int
    trial: Trial
    truth: dict[str, float]
    cost: int = 1


@dataclass(frozen=True)
class Row:
    """How many of the trials' intervals held the truth."""

    name: str
    n: int
    trials: int
    held: int
    truth: float
    few_values: bool

    @property
    def bounds(self) -> tuple[float, float]:
        """Of the share, by Wilson."""
        from hfgen.metrics.intervals import wilson

        found = wilson(self.held / self.trials, self.trials)
        return found.low, found.high

    @property
    def verdict(self) -> str:
        """Empty where the share may lie within 93 to 97 %; `few values` where it lies above, as it must."""
        low, high = self.bounds
        if high < _LEAST:
            return "too narrow"
        if low <= _MOST:
            return ""
        return "few values" if self.few_values else "too wide"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's settings."""
    parser.add_argument("--trials", type=int, default=400, help="of each interval; costly ones have a half or a fifth")
    parser.add_argument("--n", type=int, default=1000, help="images in a set")
    parser.add_argument("--only", default="", help="measure the cases whose names hold this")
    parser.add_argument("--check", action="store_true", help="exit 1 where one is off")


def run(arguments: argparse.Namespace) -> int:
    """Simulate, print the table, and return the exit code."""
    import torch

    torch.set_num_threads(1)
    print("| interval | n | trials | holds the truth | 95 % of the share | truth | |\n|---|---|---|---|---|---|---|")
    rows = []
    for case in cases(arguments.n):
        if arguments.only not in case.name:
            continue
        started = time.perf_counter()
        for row in simulate(case, max(20, arguments.trials // case.cost)):
            rows.append(row)
            low, high = row.bounds
            print(
                f"| {row.name} | {row.n} | {row.trials} | {row.held / row.trials:.3f} | {low:.3f} to {high:.3f} "
                f"| {row.truth:.4g} | {row.verdict} |",
                flush=True,
            )
        print(f"<!-- {case.name}: {time.perf_counter() - started:.0f} s -->", flush=True)
    return int(arguments.check and any(row.verdict.startswith("too") for row in rows))


def simulate(case: Case, trials: int) -> list[Row]:
    """Every estimate of a case in turn."""
    import torch

    found = [case.trial(seed) for seed in range(trials)]
    rows = []
    for name in found[0]:
        estimates = [each[name] for each in found]
        values = torch.tensor([estimate.value for estimate in estimates], dtype=torch.float64)
        truth = case.truth.get(name, float(values.mean()))
        slack = 1e-9 * max(1.0, abs(truth))
        held = sum(estimate.low - slack <= truth <= estimate.high + slack for estimate in estimates)
        rows.append(Row(f"{name}: {case.name}", case.n, trials, held, truth, has_few_values(values)))
    return rows


def has_few_values(values: Tensor) -> bool:
    """Whether no range of the values (T,) holds 93 to 97 % of them."""
    import torch

    counts = values.unique(return_counts=True)[1]
    up_to = torch.cat([torch.zeros(1), counts.cumsum(0)]) / len(values)
    shares = up_to - up_to[:, None]
    return not bool(((shares >= _LEAST) & (shares <= _MOST)).any())


def normal(seed: int, *shape: int) -> Tensor:
    """Standard normal numbers of one seed, float64."""
    import torch

    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cases(n: int) -> Iterator[Case]:
    """All of them."""
    yield from _of_images(n)
    yield from _of_features(n)
    yield from _of_pairs_of_models(n)
    yield from _of_bands(n)
    yield from _of_cells(n)
    yield from _of_latents(n)


def _of_images(n: int) -> Iterator[Case]:
    from hfgen import metrics

    def mean(seed: int) -> dict[str, Estimate]:
        return {"mean (psnr, rate, ...)": metrics.bootstrap_mean(normal(seed, n).exp(), seed=seed)}

    def ratios(seed: int) -> dict[str, Estimate]:
        real, fake, noise = (normal(3 * seed + i, n) for i in range(3))
        paired = real.exp() * (0.5 + 0.1 * noise)
        return {
            "ratio of sets": metrics.bootstrap_ratio(fake.exp() * 0.5, real.exp(), seed=seed, paired=False),
            "ratio of pairs": metrics.bootstrap_ratio(paired, real.exp(), seed=seed, paired=True),
        }

    yield Case("log-normal", n, mean, {"mean (psnr, rate, ...)": math.exp(0.5)})
    yield Case("log-normal powers", n, ratios, {"ratio of sets": 0.5, "ratio of pairs": 0.5})
    for change in (0.0, 0.3):

        def distance(seed: int, change: float = change) -> dict[str, Estimate]:
            real, fake = (_spectrum(2 * seed + i, n, change * i) for i in range(2))
            return {"spectral_distance": metrics.spectral_distance(real, fake)}

        truth = {"spectral_distance": change * (sum(x**2 for x in _slopes()) / 9) ** 0.5}
        yield Case(f"change of {change:g}", n, distance, truth)


def _slopes() -> list[float]:
    return [index / 4 - 1 for index in range(9)]


def _spectrum(seed: int, n: int, change: float) -> PowerSpectrum:
    import torch

    from hfgen.metrics import PowerSpectrum

    slopes = torch.tensor(_slopes(), dtype=torch.float64)
    powers = (change * slopes + 0.6 * normal(2 * seed, n, 1) + 0.4 * normal(2 * seed + 1, n, 9) - 0.26).exp()
    return PowerSpectrum(slopes[:8], powers[:, :8], powers[:, 8], powers[:, 8:], *powers[:, :3].T)


def _features(seed: int, n: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    """Features of unequal variances, as a network's are."""
    import torch

    deviations = torch.linspace(1.7, 0.1, _FEATURES, dtype=torch.float64)
    return normal(seed, n, _FEATURES) * deviations * scale + shift


def _of_features(n: int) -> Iterator[Case]:
    from hfgen import metrics

    training = _features(10**6, 2 * n)
    for name, change in (("equal sets", {}), ("scale .9", {"scale": 0.9}), ("shift .1", {"shift": 0.1})):

        def smooth(seed: int, change: dict[str, float] = change) -> dict[str, Estimate]:
            real, fake = _features(2 * seed, n), _features(2 * seed + 1, n, **change)
            found = {
                "kid": metrics.kernel_distance_interval(real, fake),
                "fd": metrics.frechet_distance_interval(real, fake, seed=seed),
                "vendi": metrics.vendi_interval(fake, seed=seed),
            }
            # Its interval is for one classifier, whose accuracy is known where there is nothing to see.
            return found if change else found | {"two_sample": metrics.two_sample_test(real, fake, seed=seed)}

        def neighbours(seed: int, change: dict[str, float] = change) -> dict[str, Estimate]:
            return metrics.prdc_intervals(_features(2 * seed, n), _features(2 * seed + 1, n, **change), seed=seed)

        def filled(seed: int, size: int = n, change: dict[str, float] = change) -> dict[str, Estimate]:
            real, fake = _features(2 * seed, size), _features(2 * seed + 1, size, **change)
            # As many bins as an evaluation of n images has.
            found = metrics.ndb(real, fake, training[: n // 2], min(100, n // 20), seed=0)
            return {"ndb": found.different, "ndb_jsd": found.jsd}

        def copies(seed: int, change: dict[str, float] = change) -> dict[str, Estimate]:
            held_out, fake = _features(2 * seed, n), _features(2 * seed + 1, n, **change)
            return {"training_distance": metrics.memorisation([training], held_out, fake, seed=seed)}

        null = {} if change else {"kid": 0.0, "fd": 0.0, "two_sample": 0.5, "training_distance": 1.0}
        yield Case(name, n, smooth, null, cost=2)
        yield Case(f"neighbours of {name}", n, neighbours, {}, cost=5)
        known = filled(_APART, _MANY)["ndb_jsd"].value if change else 0.0
        yield Case(f"bins of {name}", n, filled, {"ndb_jsd": known}, cost=2)
        yield Case(name, n, copies, null)


def _of_pairs_of_models(n: int) -> Iterator[Case]:
    from hfgen import metrics

    for name, scales in (("equal models", (0.9, 0.9)), ("scales .9 and .8", (0.9, 0.8))):

        def differences(seed: int, scales: tuple[float, float] = scales) -> dict[str, Estimate]:
            real = _features(3 * seed, n)
            first, second = (_features(3 * seed + 1 + i, n, scale) for i, scale in enumerate(scales))
            powers = [each.square().sum(1) for each in (first, second, real)]
            return {
                "difference of kid": metrics.kernel_distance_difference(real, first, second),
                "difference of hf_ratio_sample": metrics.ratio_difference(*powers),
                "kid of pairs": metrics.paired_kernel_distance(real, 0.9 * real + 0.3 * first),
            }

        def covered(seed: int, scales: tuple[float, float] = scales) -> dict[str, Estimate]:
            first, second = (_features(3 * seed + 1 + i, n, scale) for i, scale in enumerate(scales))
            return {
                "difference of coverage": metrics.coverage_difference(_features(3 * seed, n), first, second, seed=seed)
            }

        equal = scales[0] == scales[1]
        truth = {"difference of hf_ratio_sample": scales[0] ** 2 - scales[1] ** 2}
        yield Case(name, n, differences, truth | ({"difference of kid": 0.0} if equal else {}))
        yield Case(f"neighbours of {name}", n, covered, {"difference of coverage": 0.0} if equal else {}, cost=5)


def _of_bands(n: int) -> Iterator[Case]:
    import torch

    from hfgen.metrics import band_measures

    frequency = torch.fft.fftfreq(_SIDE, dtype=torch.float64)
    radius = torch.hypot(frequency[:, None], frequency)
    signal, noise = 4 / (1 + (radius / 0.1) ** 2), 0.02 + 2 * radius
    known = signal / (signal + noise)

    def images(coefficients: Tensor) -> Tensor:
        return (128 + 12 * torch.fft.ifft2(coefficients).real).round().clamp(0, 255).to(torch.uint8)[:, None]

    for name, drawn in (("conditional mean", 0.0), ("posterior sample", 1.0)):

        def measures(seed: int, drawn: float = drawn) -> dict[str, Estimate]:
            white = [torch.fft.fft2(normal(3 * seed + i, n, _SIDE, _SIDE)) for i in range(3)]
            # Contrasts that differ, so that images don't count alike.
            contrast = (0.5 * normal(seed, n, 1, 1)).exp()
            x = white[0] * signal.sqrt()
            r = known * (x + white[1] * noise.sqrt()) + drawn * white[2] * (known * noise).sqrt()
            found = band_measures(images(contrast * x), images(contrast * r))
            identity = found.averaging_identity().estimates(seed=seed)["high"]
            return {**found.estimates(seed=seed)["high"]._asdict(), "averaging_identity": identity}

        yield Case(name, n, measures, {}, cost=2)


def _of_cells(n: int) -> Iterator[Case]:
    import torch

    from hfgen.metrics import codebook_use, modes_intervals

    even, uneven = torch.ones(1000).double(), normal(0, 1000).exp()
    dropped = torch.where(torch.arange(1000) < 300, 0, uneven)
    for name, shares, size in (
        ("1000 even modes", even, 1000),
        ("1000 even modes", even, 4000),
        ("1000 even modes", even, 26_000),
        ("1000 uneven modes", uneven, 26_000),
        ("700 of 1000 modes", dropped, 26_000),
        ("10 modes, one rare", torch.tensor([1.0] * 9 + [0.02]).double(), 1000),
    ):

        def hit(seed: int, shares: Tensor = shares, size: int = size) -> dict[str, Estimate]:
            draws = torch.Generator().manual_seed(seed)
            classes = torch.multinomial(shares, size, replacement=True, generator=draws)
            classes[torch.rand(size, generator=draws) < 0.05] = -1
            use = modes_intervals(torch.full((len(shares),), 60), classes)
            return {"modes": use.hit, "modes_rejected": use.rejected} | ({"modes_kl": use.kl} if use.kl else {})

        yield Case(name, size, hit, {"modes_rejected": 0.05})
    for name, size, length, tilt in (
        ("512 codes", 512, 16, 1.5),
        ("4096 codes", 4096, 16, 1.0),
        ("4096 codes, four an image", 4096, 4, 1.0),
        ("64 codes", 64, 4, 2.0),
    ):

        def codes(seed: int, size: int = size, length: int = length, tilt: float = tilt) -> dict[str, Estimate]:
            draws = torch.Generator().manual_seed(seed)
            # Eight kinds of images, each with its own codes, which come in pairs.
            shares = (tilt * normal(1, 8, size)).exp()[torch.randint(8, (n,), generator=draws)]
            drawn = torch.multinomial(shares, length // 2, replacement=True, generator=draws)
            found = codebook_use(torch.cat([drawn, drawn ^ 1], 1), size)
            return {"codebook_usage": found.usage, "codebook_perplexity": found.perplexity}

        yield Case(name, n, codes, {}, cost=2)


def _of_latents(n: int) -> Iterator[Case]:
    import torch

    from hfgen.metrics import Estimate, active_units_interval, clustered

    for name, deviations in (
        ("16 units, 2 near", [1.0] * 8 + [0.1, 0.105] + [0.01] * 6),
        ("40 units, all near", [0.1] * 40),
    ):

        def units(seed: int, deviations: list[float] = deviations) -> dict[str, Estimate]:
            scale = torch.tensor(deviations, dtype=torch.float64)
            return {"active_units": active_units_interval(normal(seed, n, len(deviations)) * scale)}

        yield Case(name, n, units, {})

    def recipe(seed: int) -> dict[str, Estimate]:
        # Seeds differ by .5, the images that all share are off by .3, and what a seed's own draws add is .2.
        shared, *own = (normal(seed, 7) * torch.tensor([0.3] + [0.5] * 3 + [0.2] * 3)).tolist()
        values = [shared + own[i] + own[i + 3] for i in range(3)]
        reach = 1.96 * math.hypot(0.3, 0.2)
        return {"over seeds": clustered([Estimate(value, value - reach, value + reach, n) for value in values])}

    yield Case("three seeds", n, recipe, {"over seeds": 0.0})
