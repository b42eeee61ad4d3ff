"""A folder -> one commit on the Hub. The only code that writes there; it needs no torch."""

from __future__ import annotations

from hfgen.publishing.publisher import DryRun, Published, dry_run, publish

__all__ = ["DryRun", "Published", "dry_run", "publish"]
