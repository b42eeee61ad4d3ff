"""The commands that stand on the pages are ones that the command line takes."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from test_pages import PAGES, name

from hfgen.cli import command
from hfgen.configs import load_config, refuse_unknown, split_words
from hfgen.errors import UserError

SCRIPTS = Path(__file__).parent.parent / "scripts"
_FENCE = re.compile(r"^```(\w*)$(.*?)^```$", re.DOTALL | re.MULTILINE)
# The changelog names single options.
_COMPLETE = [page for page in PAGES if page.name == "README.md"]

Refuse = Callable[[list[str]], None]


def commands(text: str) -> list[list[str]]:
    """The words of what begins a line of a block, or is quoted in a sentence with options; without comments."""
    blocks = [block for kind, block in _FENCE.findall(text) if kind]
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    quoted = [span for span in re.findall(r"`([^`]+)`", _FENCE.sub("", text)) if " --" in " ".join(span.split())]
    found = []
    for line in (*lines, *quoted):
        program = re.match(r"\s*(?:\w+=\S+ )*(?:python |accelerate launch .*-m )?(hfgen|scripts/benchmark\.py) ", line)
        if program:
            # What a page leaves to the reader.
            given = re.sub(r"( --\w+)? \.\.\.", "", line[program.end() :])
            given = re.sub(r"(?<= )(SEED|N)\b", "1", given)
            found.append([program[1], *shlex.split(given, comments=True)])
    return found


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """Raises UserError or SystemExit, as the command lines do before they run."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import benchmark

    parser = benchmark.make_parser()

    def check(words: list[str]) -> None:
        program, *rest = words
        if program != "hfgen":
            parser.parse_args(rest)
            return
        arguments, extra = command._parser().parse_known_args(rest)
        command._place(extra, arguments)
        if arguments.verb == "evaluate" and not (arguments.out or arguments.verify):
            raise UserError("out: evaluate needs --out")
        if arguments.verb == "train":
            recipes, settings = split_words(arguments.settings)
            refuse_unknown(settings)
            for recipe in recipes:
                if recipe != "RECIPE":
                    load_config(recipe, settings)

    return check


def test_commands_are_found():
    page = "`hfgen evaluate RUN\n--data D`\n```bash\nA=1 hfgen sample RUN --nothing 1  # so\n```\n`hfgen train`"
    assert commands(page) == [
        ["hfgen", "sample", "RUN", "--nothing", "1"],
        ["hfgen", "evaluate", "RUN", "--data", "D"],
    ]
    assert sum(len(commands(page.read_text())) for page in _COMPLETE) > 80


@pytest.mark.parametrize(
    "wrong, said",
    [
        ("hfgen sample RUN --out grid.png --nothing 1", "--nothing"),
        ("hfgen evaluate RUN --data D", "needs --out"),
        ("hfgen train vae-none --data D", "vae-none"),
        ("hfgen train vae-glyphs --model.codes 16", "model.codes"),
        ("scripts/benchmark.py quality --data glyphs", "2"),
    ],
)
def test_wrong_commands_are_refused(wrong: str, said: str, refuse: Refuse):
    with pytest.raises((UserError, SystemExit), match=said):
        refuse(wrong.split())


@pytest.mark.parametrize("page", _COMPLETE, ids=name)
def test_every_command_of_a_page_is_taken(page: Path, refuse: Refuse):
    for words in commands(page.read_text()):
        try:
            refuse(words)
        except (UserError, SystemExit) as error:
            if not (isinstance(error, SystemExit) and error.code == 0):
                pytest.fail(f"{' '.join(words)}: {error}")
