"""The pages: short, linked, and each says first what it answers."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    path
    for path in (
        *ROOT.glob("*.md"),
        *(ROOT / ".github").glob("*.md"),
        *ROOT.glob("*/**/README.md"),
        ROOT / "scripts/README.md",
    )
    if not any(part in (".venv", "runs") for part in path.relative_to(ROOT).parts)
)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def links(page: Path) -> list[str]:
    outside_code = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL)
    return [link for link in _LINK.findall(outside_code) if not re.match(r"https?://|#", link)]


def test_links_are_found_and_missing_ones_would_be(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("[a](b.md) ![c](d.png) [e](https://f) `[g](h)`\n```\n[i](j)\n```\n")
    assert links(page) == ["b.md", "d.png"]
    assert sum(len(links(page)) for page in PAGES) > 12


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_to_a_file(page: Path):
    missing = [link for link in links(page) if not (page.parent / link.partition("#")[0]).exists()]
    assert not missing


@pytest.mark.parametrize("page", [page for page in PAGES if page.name == "README.md"], ids=name)
def test_a_page_of_a_folder_opens_with_what_it_answers(page: Path):
    if page.parent in (ROOT, ROOT / "spaces" / "compare"):
        return  # The front door, and the page that a Space shows.
    title, _, opening, *_ = page.read_text().splitlines()
    assert title.startswith("# ") and opening.startswith("This page answers: ")


def test_the_front_door_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200
