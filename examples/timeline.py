"""A timeline of attempts as SVG: one row for each key, one mark for each attempt."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

WIDTH, GUTTER, MARGIN = 1000.0, 190.0, 24.0
TOP, LEVEL, LEVELS, ROW = 84.0, 9.0, 6, 76.0
LEAST_WAIT = 0.05  # seconds; less is the call itself
MARK = 4.0  # half the width of a mark

# Outcome → words of the legend, colour on light, colour on dark, shape. The shape alone tells them apart, too.
LOOKS = {
    "answered": ("answered", "#2a78d6", "#3987e5", "disc"),
    "fell_back": ("answered after a fallback", "#2a78d6", "#3987e5", "ring"),
    "rate_limited": ("refused: minute limit", "#b87400", "#eda100", "triangle"),
    "daily_quota": ("refused: day limit", "#d03b3b", "#e66767", "cross"),
    "overloaded": ("overloaded (529)", "#4a3aa7", "#9085e9", "diamond"),
    "failed": ("failed otherwise", "#52514e", "#c3c2b7", "square"),
}


@dataclass(frozen=True)
class Mark:
    """One attempt; moments are seconds since the start of the picture."""

    key: str
    start: float
    waited: float
    outcome: str
    words: str


def draw(
    marks: Sequence[Mark], keys: Mapping[str, str], exhausted: Mapping[str, float], title: str, subtitle: str
) -> str:
    """Return the picture as SVG text.

    Args:
        marks: the attempts, in any order.
        keys: what stands under the label of each key; one row each, in this order.
        exhausted: from when on a key had used up its day.
        title: the heading.
        subtitle: the line under it.
    """
    end = max([mark.start for mark in marks], default=0.0) * 1.02 + 0.5
    bottom = TOP + ROW * len(keys)
    parts = [_head(bottom + 96, title, subtitle), _axis(end, bottom)]
    for number, (key, note) in enumerate(keys.items()):
        parts.append(_row(number, key, note, [mark for mark in marks if mark.key == key], exhausted.get(key), end))
    parts += [_legend(bottom + 52, {mark.outcome for mark in marks}, exhausted), "</svg>"]
    return "\n".join(parts) + "\n"


def _x(seconds: float, end: float) -> float:
    return GUTTER + (WIDTH - GUTTER - MARGIN) * min(max(seconds, 0.0), end) / end


def _head(height: float, title: str, subtitle: str) -> str:
    light = "".join(f".{name}{{color:{look[1]}}}" for name, look in LOOKS.items())
    dark = "".join(f".{name}{{color:{look[2]}}}" for name, look in LOOKS.items())
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="img">
<title>{escape(title)}</title>
<style>
text{{font-family:system-ui,-apple-system,"Segoe UI","DejaVu Sans",sans-serif;font-size:13px;fill:#0b0b0b}}
.title{{font-size:18px;font-weight:600}}
.soft{{fill:#52514e}}
.ground{{fill:#fcfcfb}}
.band{{fill:#f0efec}}
.grid{{stroke:#dddcd7;stroke-width:1}}
.wait{{fill:#b9b7ae}}
.gone{{fill:#d03b3b;fill-opacity:0.13}}
.edge{{stroke:#d03b3b;stroke-width:1.5}}
.full{{fill:currentColor}}
.open{{fill:none;stroke:currentColor;stroke-width:2}}
{light}
@media (prefers-color-scheme:dark){{
text{{fill:#ffffff}}
.soft{{fill:#c3c2b7}}
.ground{{fill:#1a1a19}}
.band{{fill:#262624}}
.grid{{stroke:#3a3a37}}
.wait{{fill:#6b6a63}}
.gone{{fill:#e66767;fill-opacity:0.2}}
.edge{{stroke:#e66767}}
{dark}
}}
</style>
<rect class="ground" width="100%" height="100%"/>
<text class="title" x="{MARGIN:.0f}" y="34">{escape(title)}</text>
<text class="soft" x="{MARGIN:.0f}" y="56">{escape(subtitle)}</text>"""


def _axis(end: float, bottom: float) -> str:
    step = next((step for step in (1, 2, 5, 10, 20, 60) if end / step <= 12), 300)
    lines = []
    for second in range(0, int(end) + 1, step):
        x = _x(second, end)
        lines.append(
            f'<line class="grid" x1="{x:.1f}" y1="{TOP - 8:.1f}" x2="{x:.1f}" y2="{bottom:.1f}"/>'
            f'<text class="soft" x="{x:.1f}" y="{bottom + 18:.1f}" text-anchor="middle">{second} s</text>'
        )
    return "\n".join(lines)


def _row(number: int, key: str, note: str, marks: Iterable[Mark], gone: float | None, end: float) -> str:
    top = TOP + ROW * number
    line, right = top + ROW - 8, WIDTH - MARGIN
    parts = [
        f'<text x="{MARGIN:.0f}" y="{top + 30:.1f}">{escape(key)}</text>',
        f'<text class="soft" x="{MARGIN:.0f}" y="{top + 48:.1f}">{escape(note)}</text>',
        _rect("band", GUTTER, line, right - GUTTER, 5),
    ]
    if gone is not None:
        x, low = _x(gone, end), top + ROW - 10
        parts += [
            _rect("gone", x, top, right - x, low - top),
            f'<line class="edge" x1="{x:.1f}" y1="{top:.1f}" x2="{x:.1f}" y2="{low:.1f}"/>',
            f'<text class="soft" x="{right - 8:.1f}" y="{top + 18:.1f}" text-anchor="end">day used up</text>',
        ]
    ordered = sorted(marks, key=lambda mark: mark.start)
    waits = ((mark.start - mark.waited, mark.start) for mark in ordered if mark.waited > LEAST_WAIT)
    for start, stop in _merged(waits):
        left = _x(start, end)
        parts.append(_rect("wait", left, line, max(_x(stop, end) - left, 2), 5))
    taken = [-1e9] * LEVELS  # where the last mark of each level ends
    for mark in ordered:
        x = _x(mark.start, end)
        level = next((level for level, edge in enumerate(taken) if edge <= x - MARK), taken.index(min(taken)))
        taken[level] = x + MARK + 1
        y = top + ROW - 20 - LEVEL * level
        waited = f", after {mark.waited:.1f} s" if mark.waited > LEAST_WAIT else ""
        label = f"{mark.start:.2f} s: {mark.words}{waited}"
        parts.append(_shape(mark.outcome, x, y, label))
    return "\n".join(parts)


def _rect(name: str, x: float, y: float, width: float, height: float) -> str:
    return f'<rect class="{name}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'


def _merged(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Do the same stretch of time without overlaps."""
    merged: list[tuple[float, float]] = []
    for start, stop in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return merged


def _shape(outcome: str, x: float, y: float, label: str) -> str:
    half, side = MARK, 2 * MARK
    shapes = {
        "disc": f'<circle class="full" cx="{x:.1f}" cy="{y:.1f}" r="{half}"/>',
        "ring": f'<circle class="open" cx="{x:.1f}" cy="{y:.1f}" r="{half - 1}"/>',
        "triangle": f'<path class="full" d="M{x:.1f} {y - half - 1:.1f}l{half + 1} {side + 1}h-{side + 2}z"/>',
        "cross": f'<path class="open" d="M{x - half:.1f} {y - half:.1f}l8 8m0 -8l-8 8"/>',
        "diamond": f'<path class="full" d="M{x:.1f} {y - half - 1:.1f}l5 5l-5 5l-5 -5z"/>',
        "square": _rect("full", x - half, y - half, side, side),
    }
    shape = shapes[LOOKS[outcome][3]]
    title = f"<title>{escape(label)}</title>" if label else ""
    return f'<g class="{outcome} mark">{title}{shape}</g>'


def _legend(y: float, used: set[str], exhausted: Mapping[str, float]) -> str:
    entries = [
        (_shape(name, 0, -4, "").replace(" mark", ""), look[0]) for name, look in LOOKS.items() if name in used
    ]
    entries.append((_rect("wait", -10, -7, 20, 5), "calls waited for this key"))
    if exhausted:
        entries.append((_rect("gone", -8, -11, 16, 14), "day limit used up"))
    parts, x = [], GUTTER + 8
    for symbol, words in entries:
        width = 38 + 7.2 * len(words)
        if x + width > WIDTH - MARGIN:
            x, y = GUTTER + 8, y + 22
        parts.append(
            f'<g transform="translate({x:.1f} {y:.1f})">{symbol}<text class="soft" x="16">{words}</text></g>'
        )
        x += width
    return "\n".join(parts)
