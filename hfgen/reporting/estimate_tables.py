"""Estimates as tables: for a terminal, a notebook and pandas."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from hfgen.metrics import Estimate
from hfgen.reporting.numbers import number

if TYPE_CHECKING:
    import pandas as pd


class Estimates(dict[str, Estimate]):
    """Estimates by name. Printed, or at the end of a notebook's cell, they are a table.

    Attributes:
        notes: What was left out, converted or guessed, a line each.
    """

    def __init__(self, estimates: Mapping[str, Estimate], notes: list[str] | None = None) -> None:
        super().__init__(estimates)
        self.notes = list(notes or [])

    @property
    def values_only(self) -> dict[str, float]:
        """The values without their intervals, for a tracker: `wandb.log(estimates.values_only)`."""
        return {name: estimate.value for name, estimate in self.items()}

    def lines(self) -> str:
        """The table alone, without notes."""
        rows = [f"{name:<34} {one.value:>9.4g}   [{one.low:.4g}, {one.high:.4g}]" for name, one in self.items()]
        return "\n".join(rows)

    def __repr__(self) -> str:
        return "\n".join([self.lines(), *(f"note: {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        return html_table({"value [95 % interval]": self}, self.notes)

    def to_pandas(self) -> pd.DataFrame:
        """A row a metric: `value`, `low`, `high`, `n`."""
        import pandas as pd

        frame = pd.DataFrame([one.as_dict() for one in self.values()], index=pd.Index(self, name="metric"))
        return frame.reindex(columns=["value", "low", "high", "n"])


def html_table(columns: Mapping[str, Mapping[str, Estimate]], notes: list[str] | None = None) -> str:
    """A row a metric, a column a model; names and notes are escaped."""
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    head = "".join(f"<th>{escape(title)}</th>" for title in columns)
    rows = [f"<tr><th>metric</th>{head}</tr>"]
    for name in names:
        cells = (number(column[name]) if name in column else "" for column in columns.values())
        rows.append(f"<tr><td>{escape(name)}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    said = "".join(f"<li>{escape(note)}</li>" for note in notes or [])
    return f"<table>{''.join(rows)}</table>" + (f"<ul>{said}</ul>" if said else "")


def as_estimates(record: Mapping[str, Any]) -> Estimates:
    """Those of a record, with its notes."""
    return Estimates({name: Estimate(**entry) for name, entry in record["metrics"].items()}, record.get("notes"))
