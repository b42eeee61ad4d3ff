"""The commands that stand on the pages are ones that the command line takes."""

import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from hfgen.cli import command
from hfgen.configs import refuse_unknown, split_words
from hfgen.errors import UserError
from hfgen.recipes import recipe_names

ROOT = Path(__file__).parent.parent
_TRACKED = subprocess.run(["git", "ls-files", "*README.md"], cwd=ROOT, capture_output=True, text=True).stdout.split()
_FENCE = re.compile(r"^```(\w*)$(.*?)^```$", re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[list[str]]:
    """The words of what begins a line of a block, or is quoted in a sentence and names data; without comments."""
    blocks = [block for kind, block in _FENCE.findall(text) if kind]
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    quoted = [span for span in re.findall(r"`([^`]+)`", _FENCE.sub("", text)) if "--data" in span]
    found = []
    for line in (*lines, *quoted):
        program = re.match(r"\s*(?:\w+=\S+ )*(?:python |accelerate launch .*-m )?(hfgen|scripts/benchmark\.py) ", line)
        if program:
            # What a page leaves to the reader.
            given = re.sub(r"( --\w+)? \.\.\.", "", line[program.end() :]).replace(" SEED", " 1")
            found.append([program[1], *shlex.split(given, comments=True)])
    return found


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], None]:
    """Raises UserError or SystemExit, as the command lines do."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return _refuse


def _refuse(words: list[str]) -> None:
    program, *rest = words
    if program != "hfgen":
        import benchmark

        benchmark.make_parser().parse_args(rest)
        return
    arguments, extra = command._parser().parse_known_args(rest)
    command._place(extra, arguments)
    if rest[0] == "evaluate" and not (arguments.out or arguments.verify):
        raise UserError("out: evaluate needs it")
    if rest[0] == "train":
        recipes, settings = split_words(arguments.settings)
        refuse_unknown(settings)
        if unknown := {*recipes} - {*recipe_names(), "RECIPE"}:
            raise UserError(f"recipe: {unknown} unknown")


def test_commands_are_found_and_wrong_ones_refused(refuse: Callable[[list[str]], None]):
    page = "`hfgen evaluate RUN\n--data D`\n```bash\nA=1 hfgen sample --nothing 1  # so\n```\n"
    page += "`hfgen train vae-none --data x`"
    wrong = commands(page)
    assert [words[:3] for words in wrong] == [
        ["hfgen", "sample", "--nothing"],
        ["hfgen", "evaluate", "RUN"],
        ["hfgen", "train", "vae-none"],
    ]
    for words in [*wrong, ["scripts/benchmark.py", "quality", "--data", "x"]]:
        with pytest.raises((UserError, SystemExit)):
            refuse(words)


@pytest.mark.parametrize("page", _TRACKED)
def test_every_command_of_a_page_is_taken(page: str, refuse: Callable[[list[str]], None]):
    for words in commands((ROOT / page).read_text()):
        try:
            refuse(words)
        except (UserError, SystemExit) as error:
            if not (isinstance(error, SystemExit) and error.code == 0):
                pytest.fail(f"{' '.join(words)}: {error}")


def test_pages_have_commands():
    assert sum(len(commands((ROOT / page).read_text())) for page in _TRACKED) > 60
