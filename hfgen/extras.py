"""What hfgen's own metadata say that it needs, and what installs the optional packages."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, requires


def requirements(extra: str | None = None) -> list[str]:
    """What hfgen needs, such as `gradio>=6`, always (None) or for an extra; empty where its metadata are missing."""
    try:
        lines = requires("hfgen") or []
    except PackageNotFoundError:
        return []
    split = (line.replace("'", '"').partition(";") for line in lines)
    wanted = "" if extra is None else f'extra == "{extra}"'
    return [needed.strip() for needed, _, condition in split if condition.strip() == wanted]


def install_command(extra: str) -> str:
    """The command that installs an extra's packages, such as `pip install 'gradio>=6'` for `space`.

    It names them one by one: no index has hfgen, so `hfgen[space]` installs nothing.
    """
    needed = " ".join(f"'{line}'" for line in requirements(extra))
    return f"pip install {needed}" if needed else f"pip install -e '.[{extra}]' (in a checkout of hfgen)"
