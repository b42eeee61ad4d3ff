"""The Space's folder -> a repository that runs by itself: hfgen as a wheel, models pinned, README filled in."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import yaml

from hfgen.errors import HubError, UserError
from hfgen.files import atomic_folder, read_json, write_json, write_text
from hfgen.hub.addresses import parse_address
from hfgen.hub.downloads import HubFiles
from hfgen.publishing.contents import portable
from hfgen.publishing.wheel import write_wheel
from hfgen.space import RESULTS

_LOADED = (".json", ".safetensors")
_OF_A_SPACE = ("app.py", "README.md", "requirements.txt")
_MOST_DESCRIPTION = 60
_PICTURES = "\n<!-- pictures"


class Pinned(NamedTuple):
    """A model on the Hub at one commit, and its files."""

    id: str
    sha: str
    files: tuple[str, ...]


def assemble(
    source: Path,
    models: Sequence[str],
    out: Path,
    *,
    data: str | None = None,
    results: Sequence[Path] = (),
    pin: Callable[[str], Pinned] | None = None,
) -> None:
    """Write the Space's repository to `out`, completely or not at all; the same arguments give the same bytes.

    Args:
        source: A folder with app.py, README.md and requirements.txt, such as spaces/compare.
        models: Hub ids `org/name[@revision]`; each is pinned to its commit.
        out: Replaced.
        data: Where examples are from: glyphs, stacked or a Hub id; None: what the first record names, or glyphs.
        results: Folders with one of `RESULTS`, which the Space shows as well; of posterior.json, its figures too.
        pin: Resolves a Hub id; by default by asking the Hub.

    Raises:
        UserError: `source` is no Space; there are no models, or one isn't on the Hub; a folder of `results` holds none,
            or two hold the same.
    """
    if not models:
        raise UserError("models: none given; name those that the Space shows, as org/name[@revision]")
    missing = next((name for name in _OF_A_SPACE if not (source / name).is_file()), None)
    if missing is not None:
        raise UserError(f"folder: {source} isn't a Space, for it has no {missing}; give spaces/compare")
    pinned = [(pin or pin_on_hub)(model) for model in models]
    with atomic_folder(out) as folder:
        for name in ("app.py", "requirements.txt"):
            shutil.copyfile(source / name, folder / name)
        _copy_results(results, folder)
        write_wheel(folder)
        write_json(folder / "models.json", {"models": [f"{one.id}@{one.sha}" for one in pinned], "data": data})
        card = (source / "README.md").read_text(encoding="utf-8")
        write_text(folder / "README.md", fill_card(card, pinned, data))


def _copy_results(results: Sequence[Path], folder: Path) -> None:
    for source in results:
        found = [name for name in RESULTS if (source / name).is_file()]
        if not found:
            raise UserError(f"results: {source} has none of {', '.join(RESULTS)}; give a folder that has")
        for name in found:
            if (folder / name).exists():
                raise UserError(f"results: {source} has {name}, and another folder as well; give one of them")
            # Models are named as they were typed: publishing refuses paths of this machine.
            write_json(folder / name, portable(read_json(source / name)))
        if "posterior.json" in found and (source / "figures").is_dir():
            shutil.copytree(source / "figures", folder / "figures", dirs_exist_ok=True)


def pin_on_hub(model: str) -> Pinned:
    """The commit that `org/name[@revision]` stands for now.

    Raises:
        UserError: it is a folder, or the Hub doesn't have it.
    """
    if Path(model).exists():
        command = f"hfgen publish {shlex.quote(model)} --to org/name"
        raise HubError(f"models: {model} is a folder; publish it first (`{command}`)")
    files = HubFiles(parse_address(model, field="models"), field="models")
    return Pinned(files.address.repository, files.commit, tuple(sorted(p for p in files.paths if p.endswith(_LOADED))))


def fill_card(card: str, models: Sequence[Pinned], data: str | None) -> str:
    """The README with models, data and Gradio's version in its YAML; the models are preloaded at their commits.

    Raises:
        UserError: the README has no YAML, or the Hub would refuse it.
    """
    _, head, text = [*card.split("---\n", 2), "", ""][:3]
    fields = yaml.safe_load(head) if card.startswith("---\n") else None
    if not isinstance(fields, dict):
        raise UserError("README.md: it doesn't begin with the Space's YAML; take that of spaces/compare")
    if len(fields.get("short_description", "")) > _MOST_DESCRIPTION:
        raise UserError(f"short_description: the Hub takes at most {_MOST_DESCRIPTION} characters; shorten it")
    # They lie in hfgen's repository.
    text = text.partition(_PICTURES)[0]
    fields["models"] = [model.id for model in models]
    fields["preload_from_hub"] = [f"{model.id} {','.join(model.files)} {model.sha}" for model in models]
    if data is not None and "/" in data:
        fields["datasets"] = [data.partition("@")[0]]
    if find_spec("gradio") is not None:
        fields["sdk_version"] = version("gradio")
    return f"---\n{yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=1000)}---\n{text}"
