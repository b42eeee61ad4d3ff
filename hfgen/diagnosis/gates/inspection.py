"""All gates, in their order, and how they are passed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from hfgen.diagnosis.gates.alignment import orientation, placement
from hfgen.diagnosis.gates.bookkeeping import classes, code_order, prior_of_codes, prior_of_latents
from hfgen.diagnosis.gates.context import Context
from hfgen.diagnosis.gates.data_history import history
from hfgen.diagnosis.gates.detail import detail
from hfgen.diagnosis.gates.few_levels import few_levels
from hfgen.diagnosis.gates.findings import Finding
from hfgen.diagnosis.gates.fixed_pattern import fixed_pattern
from hfgen.diagnosis.gates.known_detail import known_detail
from hfgen.diagnosis.gates.latent_scaling import scaling
from hfgen.diagnosis.gates.latent_use import codes, units
from hfgen.diagnosis.gates.levels import clipped, given_range, invented_colour, levels
from hfgen.diagnosis.gates.linear_floor import floor
from hfgen.diagnosis.gates.network_state import state
from hfgen.diagnosis.gates.non_finite import finite
from hfgen.diagnosis.gates.patterns import patterns
from hfgen.diagnosis.gates.sample_set import samples
from hfgen.diagnosis.gates.white_noise import noise
from hfgen.errors import UserError

Gate = Callable[[Context], Iterator[Finding]]

GATES: tuple[Gate, ...] = (
    finite,
    state,
    few_levels,
    given_range,
    orientation,
    placement,
    levels,
    clipped,
    invented_colour,
    fixed_pattern,
    patterns,
    known_detail,
    noise,
    detail,
    floor,
    history,
    scaling,
    code_order,
    prior_of_codes,
    prior_of_latents,
    classes,
    samples,
    units,
    codes,
)
"""In the order in which they are run: a later one may ask what an earlier one found."""


class Inspection(NamedTuple):
    """`findings` of all gates in order; `notes`: which of them couldn't look, or looked otherwise, and why."""

    findings: list[Finding]
    notes: list[str]


def inspect(context: Context, gates: tuple[Gate, ...] = GATES) -> Inspection:
    """Pass the gates, one after the other; after outputs that aren't finite, none is left to pass."""
    notes = []
    for gate in gates:
        try:
            context.found.extend(gate(context))
        except UserError as error:
            notes.append(f"gate {gate.__name__}: left out ({str(error).partition(';')[0]})")
        except (RuntimeError, ValueError, ArithmeticError) as error:
            # Of odd networks; the other gates stand.
            reason = str(error).strip().partition("\n")[0]
            notes.append(f"gate {gate.__name__}: left out ({type(error).__name__}: {reason})")
        if context.broken("non_finite"):
            break
    return Inspection(context.found, [*notes, *context.notes])
