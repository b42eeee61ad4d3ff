"""What several verbs share: their parsers, options and ways to print."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, get_args

from hfgen.data_options import BUILT_IN, SmallImages
from hfgen.errors import ModelError, SettingsError
from hfgen.files import exists
from hfgen.imports import without_collector
from hfgen.seeds import check_seed

if TYPE_CHECKING:
    from torch import Tensor

    from hfgen.devices import Compute
    from hfgen.pipelines import ImagePipeline

COLUMNS = 8
"""Of a grid of images."""

Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


class Parser(argparse.ArgumentParser):
    """argparse with errors of one line, and without abbreviated options."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"allow_abbrev": False, **options})

    def error(self, message: str) -> NoReturn:
        """Raise the error.

        Raises:
            SettingsError: always.
        """
        raise SettingsError(f"{message}; see `{self.prog} --help`")


def add_verb(
    verbs: Verbs, name: str, run: Callable[[argparse.Namespace], int | None], help: str, **options: Any
) -> argparse.ArgumentParser:
    """The parser of a verb, whose arguments `run` takes."""
    verb = verbs.add_parser(name, help=help, description=help, **options)
    verb.set_defaults(run=run, parser=verb)
    return verb


def refuse_idle(arguments: argparse.Namespace, names: Iterable[str], why: str) -> None:
    """Refuse options that would do nothing.

    Raises:
        SettingsError: the first that isn't its default, and `why` it does nothing.
    """
    for name in names:
        if getattr(arguments, name) != arguments.parser.get_default(name):
            raise SettingsError(f"{name}: {why}; leave --{name} out")


def all_but(arguments: argparse.Namespace, *names: str) -> list[str]:
    """The verb's other options."""
    options = (action.dest for action in arguments.parser._actions if action.option_strings)
    return [name for name in options if name not in (*names, "help")]


def add_out(verb: argparse.ArgumentParser, help: str, *, default: str | None = None, required: bool = False) -> None:
    """The folder that a verb writes; it is checked while the command line is read, before any work."""
    verb.add_argument("--out", type=_output_folder, default=default, required=required, metavar="DIR", help=help)


def add_picture(verb: argparse.ArgumentParser) -> None:
    """The picture that a verb writes; checked likewise."""
    help = "file in .png, .jpg or .webp (%(default)s)"
    verb.add_argument("--out", type=_output_picture, default="grid.png", metavar="FILE", help=help)


def _output_folder(text: str) -> Path:
    from hfgen.outputs import output_folder

    return output_folder(text)


def _output_picture(text: str) -> Path:
    from hfgen.outputs import output_picture

    return output_picture(text)


def add_seed(verb: argparse.ArgumentParser, help: str) -> None:
    """The seed of what a verb draws; checked while the command line is read."""
    verb.add_argument("--seed", type=_seed, default=0, metavar="N", help=f"{help} (%(default)s)")


def _seed(text: str) -> int:
    return check_seed(int(text) if text.isdecimal() and len(text) < 20 else text)


def add_model(verb: argparse.ArgumentParser, nargs: str | None = None) -> None:
    """MODEL, which of its weights, and at which size."""
    help = "a run's, a checkpoint's or a pipeline's folder, a .safetensors file, or org/name[/folder][@revision]"
    verb.add_argument("model", metavar="MODEL", nargs=nargs, help=help)
    add_weights(verb)


def add_weights(verb: argparse.ArgumentParser) -> None:
    """Which weights, and at which size."""
    verb.add_argument("--variant", help="of the weights, such as fp16 (the plain ones, or the only ones)")
    verb.add_argument("--resolution", type=int, help="for autoencoders of any size, and samples (their own)")


def add_tile(verb: argparse.ArgumentParser) -> None:
    """In which pieces an autoencoder computes."""
    help = "side of the tiles in which an autoencoder computes, where images are too large for it as a whole"
    verb.add_argument("--tile", type=int, metavar="N", help=help)


def add_crop(verb: argparse.ArgumentParser) -> None:
    """What becomes of images that aren't square."""
    help = "center: the central square, at --resolution; none: every image with its own shape (%(default)s)"
    verb.add_argument("--crop", choices=("center", "none"), default="center", help=help)


def add_steps(verb: argparse.ArgumentParser) -> None:
    """In how many steps images are drawn."""
    verb.add_argument("--steps", type=int, help="of a model that draws an image in several, such as a flow (its own)")


def add_data(verb: argparse.ArgumentParser, default: str | None = None, *, required: bool = True) -> None:
    """Where images are from."""
    help = f"{', '.join(BUILT_IN)}, a folder of images or parquet files, or a Hub id"
    verb.add_argument("--data", default=default, required=required and default is None, help=help)
    verb.add_argument("--skip_damaged", action="store_true", help="leave damaged images out and count them")
    add_columns(verb)


def add_columns(verb: argparse.ArgumentParser) -> None:
    """Which part of a dataset is meant."""
    verb.add_argument("--image_column", metavar="NAME", help="the column of images, where the data have several")
    verb.add_argument("--label_column", metavar="NAME", help="the column of labels, likewise; none leaves them out")
    verb.add_argument("--config_name", metavar="NAME", help="the configuration, where the data's card declares several")


def add_split(verb: argparse.ArgumentParser, *, small_images: str = "refuse") -> None:
    """Which of them, and what becomes of small ones."""
    verb.add_argument("--split", default="test", help="split of the data (%(default)s)")
    help = "images below the resolution (%(default)s)"
    verb.add_argument("--small_images", choices=get_args(SmallImages), default=small_images, help=help)


def add_measurement(verb: argparse.ArgumentParser, *, data_required: bool = True, most: str = "2000") -> None:
    """All that a measurement on images takes; `most`: how many images it takes by default."""
    add_data(verb, required=data_required)
    add_split(verb)
    verb.add_argument("--n", type=int, help=f"held-out images, and samples (all, up to {most})")
    add_seed(verb, "chooses the images and draws the samples")
    help = "embedded (trained on the data), pixels, inception, or an image network of transformers: a folder or Hub id"
    verb.add_argument("--extractor", default="embedded", help=help)
    add_compute(verb)


def by_name(models: Sequence[str]) -> dict[str, str]:
    """MODELs by the names to show: NAME of NAME=MODEL, else what tells their addresses apart.

    No name is what has a `/`, or belongs to a folder that is there; it may have a `=` of its own.

    Raises:
        SettingsError: a model or a name is given twice, or a name without a model.
    """
    from hfgen.comparison.names import distinct_names

    parts = [_split(text) for text in models]
    distinct_names([place for _, place in parts])  # Refuses what is given twice.
    short = iter(distinct_names([place for given, place in parts if given is None]))
    found: dict[str, str] = {}
    for given, place in parts:
        name = next(short) if given is None else given
        if name in found:
            raise SettingsError(f"models: {found[name]} and {place} are both called {name}; give another NAME=MODEL")
        found[name] = place
    return found


def _split(text: str) -> tuple[str | None, str]:
    if exists(Path(text)):
        return None, text
    signs = [place for place, letter in enumerate(text.partition("/")[0]) if letter == "=" and text[:place].strip()]
    if not signs:
        name, _, model = text.partition("=")
        if model and exists(Path(model)):
            raise SettingsError(f"models: {name!r} can't be a model's name; leave out its /, as in NAME={model}")
        return None, text
    if not text[signs[-1] + 1 :].strip():
        raise SettingsError(f"models: {text} names no model; give NAME=MODEL")
    # A folder may have one in its name, an address hasn't.
    sign = next((place for place in signs if exists(Path(text[place + 1 :]))), signs[-1])
    return text[:sign], text[sign + 1 :]


def columns(arguments: argparse.Namespace) -> dict[str, str | None]:
    """Which part of a dataset is meant, as `hfgen.data.open_store` takes it."""
    return {name: getattr(arguments, name) for name in ("image_column", "label_column", "config_name")}


def measurement(arguments: argparse.Namespace) -> dict[str, Any]:
    """The values of `add_measurement`, without DATA."""
    names = ("split", "n", "seed", "small_images", "skip_damaged", "extractor")
    return {**{name: getattr(arguments, name) for name in names}, **columns(arguments), **compute_options(arguments)}


def add_compute(verb: argparse.ArgumentParser) -> None:
    """Where models run, and in which numbers."""
    help = "auto (a GPU if torch can use one), cpu, cuda, cuda:N or mps"
    verb.add_argument("--device", default="auto", help=help)
    help = "of models: auto, fp32, bf16 or fp16; auto is fp32, since less changes what is measured"
    verb.add_argument("--dtype", default="auto", help=help)


def compute_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The values of `add_compute`, as `hfgen.devices.choose` takes them."""
    return {"device": arguments.device, "dtype": arguments.dtype}


def open_model(arguments: argparse.Namespace) -> tuple[ImagePipeline, Compute]:
    """The model of `add_model` where `add_compute` says, and that place."""
    with without_collector(freeze=True):
        from hfgen.devices import choose
        from hfgen.pipelines import load

    compute = choose(arguments.device, arguments.dtype)
    given = {name: getattr(arguments, name, None) for name in ("variant", "resolution", "tile", "steps")}
    pipeline = load(arguments.model, **given)
    return compute.place(pipeline), compute


@contextmanager
def making_images(model: str, pipeline: ImagePipeline, compute: Compute, what: str) -> Iterator[None]:
    """Within, a model that can't make images, or gives NaN or infinity, is named in one line.

    Raises:
        ModelError: it does; images are called `what` and counted from 0.
    """
    from hfgen.pipelines.finite import counted, finite_outputs

    try:
        with compute.precise(), counted(what, 0), finite_outputs(pipeline):
            yield
    except ValueError as error:
        raise ModelError(f"model: {model}: {error}") from None


def at_least_one(n: int) -> None:
    """Refuse to make no image.

    Raises:
        SettingsError: n is below 1.
    """
    if n < 1:
        raise SettingsError(f"n: {n} images can't be drawn; give 1 or more")


def check_grid(path: Path, count: int, side: int, channels: int) -> None:
    """Refuse a grid of so many images (C, R, R) that the format or the memory has no room for, before they are made.

    Raises:
        SettingsError: they haven't.
    """
    from hfgen.images import check_memory, check_room, grid_size

    size = grid_size(count, *(side * _zoom(side),) * 2, columns=COLUMNS)
    check_room(path, size)
    check_memory(size, channels)


def save_grid(images: Tensor, path: Path) -> None:
    """Write uint8 images (N, C, R, R) as a grid of 8 columns, small ones enlarged, and print its path."""
    from hfgen.images import grid, write_picture

    write_picture(path, grid(images, columns=COLUMNS, zoom=_zoom(images.shape[-1])))
    print(path)


def _zoom(side: int) -> int:
    return max(1, 128 // side)


def print_notes(notes: Iterable[str]) -> None:
    """A line for each thing that was converted, guessed or left out."""
    for note in notes:
        print(f"note: {note}")


def print_findings(findings: Iterable[tuple[str, str]]) -> None:
    """A line for each name and what was found."""
    for name, finding in findings:
        print(f"{name:<24} {finding}")
