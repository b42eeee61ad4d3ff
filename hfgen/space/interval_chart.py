"""A number and its interval against the bounds that a verdict sets, as a small inline SVG."""

from __future__ import annotations

from html import escape

_WIDTH, _HEIGHT, _SIDE, _MIDDLE = 300, 58, 14, 22


def interval_chart(value: float, ends: tuple[float, float], wanted: tuple[float | None, float | None], alt: str) -> str:
    """The interval in the card's colour, `--mark`; the band is where the number has to lie: above, below or between."""
    above, below = wanted
    marks = [value, *ends, *(bound for bound in wanted if bound is not None)]
    margin = 0.18 * ((max(marks) - min(marks)) or abs(value) or 1.0)
    low, high = min(marks) - margin, max(marks) + margin

    def place(number: float) -> float:
        return _SIDE + (_WIDTH - 2 * _SIDE) * (number - low) / (high - low)

    left, right = place(low if above is None else above), place(high if below is None else below)
    wide, tall = max(0.0, right - left), 2 * _MIDDLE - 8
    parts = [
        f'<rect class="hf-wanted" x="{left:.1f}" y="4" width="{wide:.1f}" height="{tall}"/>',
        f'<path class="hf-grid" d="M{_SIDE} {_MIDDLE}H{_WIDTH - _SIDE}"/>',
    ]
    # Two labels side by side, so that near ones don't overlap.
    anchors = ("end", "start") if None not in wanted else ("middle", "middle")
    for bound, anchor in zip(wanted, anchors, strict=True):
        if bound is not None:
            x = place(bound)
            parts.append(f'<path class="hf-bound" d="M{x:.1f} 4V{2 * _MIDDLE - 4}"/>')
            parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - 4}" text-anchor="{anchor}">{bound:.3g}</text>')
    parts.append(
        f'<path class="hf-ends" d="M{place(ends[0]):.1f} {_MIDDLE}H{place(ends[1]):.1f}"/>'
        f'<circle class="hf-value" cx="{place(value):.1f}" cy="{_MIDDLE}" r="6"/>'
    )
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(alt)}">{"".join(parts)}</svg>'
