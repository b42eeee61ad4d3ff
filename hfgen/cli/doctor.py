"""`hfgen doctor`: what this machine can do."""

from __future__ import annotations

import argparse

from hfgen.cli.options import Verbs, add_verb, print_findings


def register(verbs: Verbs) -> None:
    """Add the verb's parser."""
    add_verb(verbs, "doctor", run, "say what this machine can do, and what is missing")


def run(arguments: argparse.Namespace) -> None:
    """Say what this machine can do."""
    from hfgen.doctor import findings

    print_findings(findings())
