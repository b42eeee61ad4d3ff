"""`org/name[/folder][@revision]` -> its parts; which names a repository may have."""

from __future__ import annotations

import re
from typing import NamedTuple

from hfgen.errors import HubError

_PAGE = re.compile(r"(?:https?://)?(?:huggingface\.co|hf\.co)/|hf://")
_TREE = re.compile(r"/(?:tree|blob|resolve)/([^/]+)(?:/|$)")


class Address(NamedTuple):
    """A place on the Hub.

    Attributes:
        repository: `org/name`.
        folder: Of the repository; empty: its top.
        revision: Branch, tag or commit; None: the main branch.
    """

    repository: str
    folder: str = ""
    revision: str | None = None

    def __str__(self) -> str:
        """`org/name[/folder][@revision]`."""
        place = "/".join(filter(None, (self.repository, self.folder)))
        return f"{place}@{self.revision}" if self.revision else place


def parse_address(text: str, revision: str | None = None, *, field: str = "model") -> Address:
    """Read `org/name[/folder][@revision]`, or the address of such a page on huggingface.co.

    Args:
        text: What the user wrote.
        revision: Given beside it.
        field: For errors.

    Raises:
        HubError: it isn't one, or it names another revision than `revision`.
    """
    place, at, written = _PAGE.sub("", text, count=1).partition("@")
    if page := _TREE.search(place):
        at, written = "@", page[1]
        place = f"{place[: page.start()]}/{place[page.end() :]}"
    if at and not written:
        raise HubError(f"{field}: {text!r} names no revision after the @; give org/name[/folder][@revision]")
    if at and revision not in (None, written):
        raise HubError(f"{field}: {text} names revision {written}, and revision is {revision}; give one of them")
    organisation, _, rest = place.strip("/").partition("/")
    name, _, folder = rest.partition("/")
    check_repository(f"{organisation}/{name}", field)
    if any(part in ("", ".", "..") for part in folder.split("/")) and folder:
        raise HubError(f"{field}: {folder!r} isn't a folder of a repository; give org/name[/folder][@revision]")
    return Address(f"{organisation}/{name}", folder, written or revision)


def check_repository(id: str, field: str) -> None:
    """Refuse what the Hub wouldn't take as a repository's name, without asking it.

    Raises:
        HubError: the rules of huggingface_hub forbid it, or it names no organisation; it names the `field`.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    remedy = "give ORG/NAME, each of at most 96 letters, digits, -, _ and ., no - or . at either end"
    try:
        validate_repo_id(id)
    except HFValidationError as error:
        reason = str(error).partition(":")[0].strip(" .")
        raise HubError(f"{field}: {id!r} isn't a repository's name ({reason}); {remedy}") from None
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", id, flags=re.ASCII):
        raise HubError(f"{field}: {id!r} isn't a repository's name; {remedy}")
    if len(id) > _MOST_CHARACTERS:
        raise HubError(f"{field}: {id!r} has {len(id)} characters, and the Hub takes {_MOST_CHARACTERS}; {remedy}")


_MOST_CHARACTERS = 96
