"""A folder -> one commit on the Hub. The only code that writes there; it needs no torch."""

from __future__ import annotations

from hfgen.publishing.publisher import Plan, Published, plan, publish

__all__ = ["Plan", "Published", "plan", "publish"]
