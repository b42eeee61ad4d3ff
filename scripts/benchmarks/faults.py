"""Models with a planted fault each: does `hfgen diagnose` name it first?

Small models of 16 px are trained on ten classes of each `--data` (the digits of `glyphs`), once: entries share them.
What `--out` holds isn't trained again, nor diagnosed again by the same rules. The bars: nine of ten planted causes are
named first, where an honest "unknown" counts half; of four pairs of five, both are among the first three; no healthy
model is called ill. What isn't healthy by its numbers, whatever the diagnosis says, is listed and not counted.
"""

from __future__ import annotations

import argparse
import pkgutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.fault_data import RESOLUTION, channels_of, write_data
from benchmarks.fault_models import Job
from benchmarks.fault_plants import FAULTS, Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

_TOP_1, _PAIRS = 0.9, 0.8
_UNKNOWN = ("unknown", "unexplained")
# Of a healthy model: PSNR of its reconstructions (dB); KID of its samples beyond real images', in units of what a
# slight blur adds to the real images' own; and the share of them that are near real images, over that of real images.
_CLEAR, _REAL, _PRECISE = 27.0, 2.0, 0.5


class Named(NamedTuple):
    """What one diagnosis said, in order, and how long it took."""

    data: str
    fault: str
    seed: int
    planted: Fault
    causes: list[str]
    seconds: float
    excluded: bool = False

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
    parser.add_argument("--data", nargs="+", default=["glyphs"], help="labelled, as `hfgen train` takes it (glyphs)")
    parser.add_argument("--budget", choices=("small", "full"), default="small", help="of the diagnoses (%(default)s)")
    parser.add_argument(
        "--refits",
        choices=("all", "needed", "none"),
        default="all",
        help="`needed`: only of models whose fault nothing else tells; `none`: leave those out (%(default)s)",
    )
    parser.add_argument(
        "--faults",
        nargs="+",
        choices=list(FAULTS),
        default=list(FAULTS),
        metavar="FAULT",
        help=f"of {', '.join(FAULTS)} (all)",
    )
    parser.add_argument("--healthy", nargs="+", default=[], metavar="RUN", help="trained runs, on their own data")
    parser.add_argument("--seeds", type=int, default=3, help="models of each fault (%(default)s)")
    parser.add_argument("--first_seed", type=int, default=0, help="(%(default)s)")
    parser.add_argument("--n", type=int, help="held-out images of a diagnosis (the budget's)")
    parser.add_argument("--extractor", default="embedded", help="the judge of the diagnoses (%(default)s)")
    parser.add_argument("--recipe", action="store_true", help="networks as wide as the recipes' instead of half of it")
    parser.add_argument(
        "--images", type=int, default=16_000, help="that a model sees; GAN and VQ-VAE, twice or more (%(default)s)"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/faults"), help="folder of the models (%(default)s)")
    parser.add_argument("--check", action="store_true", help="exit 1 where a bar is missed")


def run(arguments: argparse.Namespace) -> int:
    """Train, diagnose, print the tables; returns the exit code."""
    print(f"rules: {_rules()}\n")
    print("| data | planted | seed | named first | score | then | seconds |\n|---|---|---|---|---|---|---|")
    named = []
    for entry in (*_planted(arguments), *_runs(arguments)):
        named.append(entry)
    return int(_summary(named) and arguments.check)


def _planted(arguments: argparse.Namespace) -> Iterator[Named]:
    for data in arguments.data:
        out = arguments.out / Path(data).name
        if not (out / "data" / "complete").is_dir():
            write_data(data, out / "data")
        colour = channels_of(out / "data") == 3
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
            job = Job(out / "data", out / "models", arguments.images, seed, arguments.recipe)
            for name in arguments.faults:
                fault = FAULTS[name]
                if (fault.colour and not colour) or (fault.refits and arguments.refits == "none"):
                    continue
                folder = out / f"{name}{' (recipe)' if arguments.recipe else ''}-{seed}"
                refits = None if arguments.refits == "all" or fault.refits else False

                def model(fault: Fault = fault, job: Job = job, folder: Path = folder) -> Any:
                    return fault.load(job, folder)

                yield _diagnosed(
                    Path(data).name, name, fault, job.data / fault.judged, folder, model, seed, refits, arguments
                )


def _runs(arguments: argparse.Namespace) -> Iterator[Named]:
    """Models that were trained elsewhere, on the data of their runs, in their own size."""
    from hfgen.files import read_json

    for run in map(Path, arguments.healthy):
        config = read_json(run / "run.json")["config"]
        name, out = f"{config['family']} of {run.name}", arguments.out / "runs" / str(run).strip("/").replace("/", "-")
        refits = None if arguments.refits == "all" else False
        fault = Fault(("sharp",))
        yield _diagnosed(
            Path(config["data"]).name, name, fault, config["data"], out, lambda run=run: run, 0, refits, arguments, None
        )


def _diagnosed(
    data: str,
    name: str,
    fault: Fault,
    judged: Any,
    folder: Path,
    model: Any,
    seed: int,
    refits: bool | None,
    arguments: argparse.Namespace,
    resolution: int | None = RESOLUTION,
) -> Named:
    """One row, printed."""
    from hfgen.diagnosis.diagnose import diagnose
    from hfgen.documents import DIAGNOSIS

    started = time.perf_counter()
    done = folder / f"diagnosis-{arguments.budget}{'' if refits is None else '-gates'}-{_rules()}"
    if (done / "diagnosis.json").is_file():
        document = DIAGNOSIS.read(done / "diagnosis.json")
    else:
        options = {"budget": arguments.budget, "n": arguments.n, "seed": seed, "extractor": arguments.extractor}
        document = diagnose(model(), str(judged), out=done, resolution=resolution, refits=refits, **options)
    ranking, took = document["ranking"], time.perf_counter() - started
    ill = _is_ill(document, fault.healthy) if fault.healthy or fault.as_before else ""
    then = ", ".join(f"{row['cause']} {row['score']:.2f}" for row in ranking[1:3])
    first = f"{ranking[0]['cause']} | {ranking[0]['score']:.2f} | {then}{f' (not counted: {ill})' if ill else ''}"
    print(f"| {data} | {name} | {seed} | {first} | {took:.0f} |", flush=True)
    return Named(data, name, seed, fault, [row["cause"] for row in ranking], took, bool(ill))


def _is_ill(document: dict[str, Any], samples: bool = True) -> str:
    """What numbers that no rule of the diagnosis asks say against a model being healthy; "" where it is."""
    links = {link["stage"]: link for link in document["chain"]}
    if "mean" in links and (psnr := links["mean"]["psnr"]["value"]) < _CLEAR:
        return f"PSNR {psnr:.1f} dB"
    if samples and "kid" in links.get("prior_sample", {}):
        excess = links["prior_sample"]["kid"]["value"] - document["baseline"]["kid"]["value"]
        if excess > _REAL * document["kid_of_blur"]:
            return f"KID of samples {excess / document['kid_of_blur']:.1f} times that of a slight blur"
    if samples and "precision" in (document.get("variety") or {}):
        precision, real = (part["precision"]["value"] for part in (document["variety"], document["baseline"]))
        if precision < _PRECISE * real:
            return f"precision of samples {precision:.2f}, of real images {real:.2f}"
    return ""


def _rules() -> str:
    """A digest of the diagnosis' own code, without comments."""
    import hfgen
    from hfgen.studies.code_version import code_of

    others = [f"hfgen.{module.name}" for module in pkgutil.iter_modules(hfgen.__path__) if module.name != "diagnosis"]
    return code_of(("hfgen.diagnosis.diagnose",), others)[:8]


def _summary(named: list[Named]) -> bool:
    """Print how often which cause was named, and the bars; whether one was missed."""
    if not (named := [each for each in named if not each.excluded]):
        return True
    columns = sorted({each.causes[0] for each in named})
    print(f"\n| planted | should be | {' | '.join(columns)} |\n|{'---|' * (2 + len(columns))}")
    for fault in dict.fromkeys(each.fault for each in named):
        first = [each.causes[0] for each in named if each.fault == fault]
        plant = next(each.planted for each in named if each.fault == fault)
        should = (" and " if plant.pair else " or ").join(plant.causes)
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
    bars = (("nine of ten first", single), ("four of five pairs", pairs), ("no false alarm", healthy))
    for (bar, tested), is_missed in zip(bars, missed, strict=True):
        print(f"{'missed' if is_missed else 'held' if tested else 'not tested'}: {bar}")
    return any(missed)


def _share(what: str, found: list[bool]) -> None:
    from hfgen.metrics.intervals import wilson

    if found:
        share = wilson(sum(found) / len(found), len(found))
        print(f"{what}: {sum(found)} of {len(found)}, {share.value:.2f} [{share.low:.2f}, {share.high:.2f}]")
