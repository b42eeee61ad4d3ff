"""hfgen's recipes and what a user would otherwise run on the same images, for the same time, judged alike.

Each model trains from nothing for `--minutes` of one core's processor time, so that other work on the machine costs no
model images: of a recipe the whole command's, start-up included, of a peer its loop's. The table is reported by a judge
by which nothing of hfgen was chosen (`independent_judge`), and by pixels; the second table is by hfgen's own extractor,
by which its settings were chosen. Powers, gain and coherence are of the high-frequency band. What is finished in
`--out` is judged again and not trained again; `quality.json` and a sheet of pictures a model are there too.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.quality_bars import BARS, disagreements, judge_bar
from benchmarks.quality_models import OWN, PEERS, Job, jobs, made_of, run_config

if TYPE_CHECKING:
    from benchmarks.quality_rows import Judges, Row


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's settings."""
    parser.add_argument("--data", required=True, help="as `hfgen train` takes it; smaller images are padded")
    parser.add_argument("--recipes", default="fashion", help="the recipes' data: vae-NAME, gan-NAME, ... (%(default)s)")
    parser.add_argument("--models", nargs="+", choices=[*OWN, *PEERS], default=[*OWN, *PEERS], help="(all)")
    parser.add_argument("--resolution", type=int, help="in pixels (the recipe's)")
    parser.add_argument("--channels", choices=["auto", "1", "3"], help="(the recipe's)")
    parser.add_argument(
        "--settings", nargs="+", default=[], metavar="[MODEL:]NAME=VALUE", help="of `hfgen train`, for all or for one"
    )
    parser.add_argument("--minutes", type=float, default=20, help="of one core's processor time, each (%(default)s)")
    parser.add_argument("--n", type=int, default=2000, help="images, and samples; half of the split at most (2000)")
    parser.add_argument("--train_images", nargs="+", type=int, default=[], metavar="K", help="GANs on the first K, too")
    parser.add_argument("--out", type=Path, required=True, help="folder of the models, quality.json and sheets")
    parser.add_argument("--check", action="store_true", help="exit 1 unless every bar is held")


def run(arguments: argparse.Namespace) -> int:
    """Train, judge, print the tables; returns the exit code."""
    from benchmarks.quality_rows import OF_A_JUDGE, OF_PIXELS, cells, header, measure, other_real, table, write_sheet
    from hfgen.errors import UserError

    torch.set_num_threads(1)
    # Settings that don't exist are refused before a judge is trained.
    asked, judges = list(jobs(arguments)), _judges(arguments)
    rows: list[Row] = []
    names, real = {**OF_PIXELS, **OF_A_JUDGE}, judges.independent
    print(header(("model", "images seen", "minutes"), names), flush=True)
    for job in asked:
        try:
            made = made_of(job, arguments, real)
        except UserError as error:
            print(f"{job.name}: left out, {error}", flush=True)
            continue
        row = measure(job.name, made, judges)
        spent = f"{made.images:,} | {made.seconds / 60:.1f}"
        print(f"| {row.name} | {spent} | {cells({**row.pixels, **row.independent}, names)} |", flush=True)
        rows.append(row)
        write_sheet(arguments.out / "sheets" / f"{job.name}.png", real.images, made)
        _save(arguments, judges, rows)
    rows.append(row := other_real(judges))
    print(f"| {row.name} | - | - | {cells({**row.pixels, **row.independent}, names)} |")
    print(f"\nBy {judges.own.extractor.id}, by which settings were chosen:")
    print(table(rows, attrgetter("own"), OF_A_JUDGE), end="\n\n")
    for line in _remarks(asked, rows):
        print(line)
    return _verdicts(arguments, judges, rows)


def _remarks(asked: list[Job], rows: list[Row]) -> Iterator[str]:
    """A line on each thing that was set, adapted or left out."""
    for job in asked:
        if job.recipe:
            yield f"{job.name}: {' '.join(('hfgen train', job.recipe, *job.settings))}"
    for row in rows:
        yield from (f"{row.name}: {note}" for note in (row.facts.get("note"), *row.notes) if note)
    known = [f"{row.name} {row.facts['precision']}" for row in rows if "precision" in row.facts]
    yield from [f"precision: {', '.join(known)}"] if known else []


def _judges(arguments: argparse.Namespace) -> Judges:
    from benchmarks.independent_judge import independent_judge
    from benchmarks.quality_rows import Judges
    from hfgen.data import split_size
    from hfgen.evaluation.held_out import held_out_images

    config = run_config(arguments)
    _, there = split_size(arguments.data, "test")
    if arguments.n > there // 2:
        print(f"n: {there // 2}, half of the {there} held-out images; the independent judge is trained on the others")
    channels: Any = config.channels if config.channels == "auto" else int(config.channels)
    own = held_out_images(
        arguments.data,
        n=min(arguments.n, there // 2),
        resolution=config.resolution,
        channels=channels,
        small_images="pad",
    )
    judges = Judges(independent_judge(own, arguments.out), own)
    print(f"{arguments.data}: {len(own.training)} training images, {config.resolution} px, {own.store.channels} ch.")
    for name, judge in judges._asdict().items():
        print(f"{name} judge: {judge.extractor.id}; {judge.judge_power}")
    return judges


def _save(arguments: argparse.Namespace, judges: Judges, rows: list[Row], bars: tuple[Any, ...] = ()) -> None:
    from hfgen.files import write_json

    asked = {name: str(value) if isinstance(value, Path) else value for name, value in vars(arguments).items()}
    asked.pop("run", None)
    facts = {name: judge.extractor.id for name, judge in judges._asdict().items()}
    models = {row.name: row.as_dict() for row in rows}
    write_json(arguments.out / "quality.json", {"asked": asked, "judges": facts, "models": models, "bars": bars})


def _verdicts(arguments: argparse.Namespace, judges: Judges, rows: list[Row]) -> int:
    """Print each bar by the independent judge, with the word of hfgen's own, and where the two disagree."""
    from benchmarks.quality_rows import Judges, cell

    independent, own = ({row.name: {**row.pixels, **getattr(row, of)} for row in rows} for of in Judges._fields)
    bars: list[dict[str, Any]] = []
    for bar in (bar for bar in BARS if bar.models <= set(arguments.models)):
        reported, other = judge_bar(bar, independent), judge_bar(bar, own)
        if reported is None or other is None:
            print(f"not judged: {bar.text} (a model or a value is lacking)")
            bars.append({"bar": bar.text, "verdict": "not judged"})
            continue
        parts = {name: cell(margin) for name, (_, margin) in reported.parts.items()}
        said = "; ".join(f"{name} by {value}" for name, value in parts.items())
        print(f"{reported.verdict}: {bar.text} ({said}; own judge: {other.verdict})")
        bars.append({"bar": bar.text, "verdict": reported.verdict, "own_judge": other.verdict, "margins": parts})
    for line in disagreements(independent, own):
        print(line)
    _save(arguments, judges, rows, tuple(bars))
    return int(arguments.check and not (bars and all(bar["verdict"] == "held" for bar in bars)))
