"""The `hfgen` command: one module a verb, its parser and its body together."""

from hfgen.cli.command import main

__all__ = ["main"]
