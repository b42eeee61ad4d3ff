"""`hfgen publish`: a model, a dataset or a Space, as one commit."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hfgen.cli.options import Verbs, add_verb, print_findings, refuse_idle
from hfgen.data_options import BUILT_IN


def register(verbs: Verbs) -> None:
    """Add the verb's parser."""
    verb = add_verb(verbs, "publish", run, "put a model, a dataset or a Space on the Hub, as one commit")
    help = f"a run, an evaluation's folder or a Space's; or {' or '.join(BUILT_IN)}, drawn as a dataset"
    verb.add_argument("folder", metavar="DIR", type=Path, help=help)
    verb.add_argument("--to", required=True, metavar="ORG/NAME", help="the repository; it is made if it isn't there")
    verb.add_argument("--dry_run", action="store_true", help="list files, sizes and the card, without the network")
    verb.add_argument("--private", action="store_true", help="make the repository private")
    verb.add_argument("--revision", metavar="BRANCH", default="main", help="branch to write to (%(default)s)")
    verb.add_argument("--create_pr", action="store_true", help="open a pull request instead")
    verb.add_argument("--collection", metavar="NAME", help="title or slug of a collection to put it into")
    verb.add_argument("--license", help="identifier such as apache-2.0 (what the README says)")
    verb.add_argument("--record", type=Path, help="a model's record.json, where it isn't in DIR")
    verb.add_argument("--diagnosis", type=Path, help="likewise its diagnosis.json")
    verb.add_argument("--study", type=Path, help="study.json, whose verdicts a model's card tells")
    help = "folder of `hfgen study posterior`, whose answer of the model its card shows"
    verb.add_argument("--posterior", type=Path, metavar="DIR", help=help)
    verb.add_argument("--models", nargs="+", metavar="ORG/NAME", help="what a Space shows, each pinned to its commit")
    verb.add_argument("--data", help="where a Space's examples are from (what its first model was measured on)")
    help = "folders of `hfgen compare` and `hfgen study`, for a Space to show as well"
    verb.add_argument("--results", type=Path, metavar="DIR", nargs="+", default=(), help=help)
    verb.add_argument("--resolution", type=int, default=32, help=f"of {' and '.join(BUILT_IN)} (%(default)s)")


def run(arguments: argparse.Namespace) -> None:
    """Publish a folder, or say what that would do."""
    from hfgen.hub.addresses import check_repository
    from hfgen.publishing import dry_run, publish

    to = arguments.to
    check_repository(to, "to")
    said = {name: getattr(arguments, name) for name in ("license", "record", "diagnosis", "study", "posterior")}
    with _published_folder(arguments) as folder:
        if arguments.dry_run:
            would = dry_run(folder, to, **said)
            print(f"{would.kind} {to}")
            print_findings((name, f"{size:,} bytes") for name, size in would.sizes.items())
            print(would.card)
            return
        where = {name: getattr(arguments, name) for name in ("private", "revision", "create_pr", "collection")}
        published = publish(folder, to, **said, **where)
    print(f"{published.url} {published.commit}" + ("" if published.changed else " (nothing had changed)"))


@contextmanager
def _published_folder(arguments: argparse.Namespace) -> Iterator[Path]:
    """The folder as it is, or a temporary one that is made: a Space of models, or a built-in set."""
    import tempfile

    source = arguments.folder
    is_built_in = str(source) in BUILT_IN and not source.exists()
    as_it_is = f"and {source} is published as it is"
    if is_built_in:
        refuse_idle(arguments, ["models"], f"it is for a Space of --models, {as_it_is}")
    else:
        refuse_idle(arguments, ["resolution"], f"only {' and '.join(BUILT_IN)} are drawn, {as_it_is}")
    if arguments.models is None:
        refuse_idle(arguments, ("data", "results"), f"it is for a Space of --models, {as_it_is}")
    if not is_built_in and arguments.models is None:
        yield source
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / source.name
        if is_built_in:
            from hfgen.data.export import export

            export(str(source), folder, arguments.resolution)
        else:
            from hfgen.space.assemble import assemble

            assemble(source, arguments.models, folder, data=arguments.data, results=arguments.results)
        yield folder
