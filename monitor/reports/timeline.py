"""A picture of drift over time: score over threshold of the worst features, as SVG without scripts. Pure."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from html import escape

from monitor.records import DriftResult

WIDTH, HEIGHT = 960, 360
LEFT, RIGHT, TOP, BOTTOM = 48, 220, 28, 36
MAX_LINES = 8
# More points than pixels cannot be seen.
MAX_POINTS = WIDTH
# Distinct for colour-blind readers. Source: M. Okabe and K. Ito, Color Universal Design, 2008.
COLOURS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7"),
    *("#e69f00", "#56b4e9", "#000000", "#a0a000"),
)


def timeline_svg(results: Sequence[DriftResult], *, title: str) -> str:
    """Lines of score / threshold over time, worst features first; above the dashed line at 1 is drift.

    results: of one model, oldest first; may be empty. title: any text.
    """
    lines = _worst_lines(results)
    times = [time for line in lines.values() for time, _ in line]
    start = min(times, default=None)
    span = max(max(times) - min(times), timedelta(seconds=1)) if times else timedelta(seconds=1)
    highest = max([1.25, *(ratio for line in lines.values() for _, ratio in line)]) * 1.05
    parts = [_frame(title, highest)]
    if start is not None:
        parts.append(_time_labels(start, span))
    for index, (feature, line) in enumerate(lines.items()):
        points = " ".join(
            f"{_x((time - start) / span if start else 0.0):.1f},{_y(ratio / highest):.1f}"
            for time, ratio in _thinned(line)
        )
        parts.append(_drawn_line(index, feature, points))
    return "\n".join([*parts, "</svg>\n"])


def _worst_lines(results: Sequence[DriftResult]) -> dict[str, list[tuple[datetime, float]]]:
    lines: dict[str, list[tuple[datetime, float]]] = defaultdict(list)
    for result in results:
        lines[result.score.feature].append(
            (result.ticked_at, result.score.score / max(result.score.threshold, 1e-9))
        )
    worst = sorted(lines, key=lambda name: (-max(ratio for _, ratio in lines[name]), name))
    return {name: lines[name] for name in worst[:MAX_LINES]}


def _thinned(line: list[tuple[datetime, float]]) -> list[tuple[datetime, float]]:
    return line[:: len(line) // MAX_POINTS + 1]


def _frame(title: str, highest: float) -> str:
    limit = _y(1 / highest)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="sans-serif" font-size="12">\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>\n'
        f'<text x="{LEFT}" y="18" font-size="14">{escape(title)}</text>\n'
        f'<path d="M{_x(0.0)},{_y(1.0)} V{_y(0.0)} H{_x(1.0)}" fill="none" stroke="#666666"/>\n'
        f'<path d="M{_x(0.0)},{limit:.1f} H{_x(1.0)}" stroke="#c00000" stroke-dasharray="6 4"/>\n'
        f'<text x="6" y="{limit + 4:.1f}" fill="#c00000">limit</text>\n'
        f'<text x="6" y="{_y(0.0):.1f}">0</text>'
    )


def _time_labels(start: datetime, span: timedelta) -> str:
    y = HEIGHT - 12
    return (
        f'<text x="{LEFT}" y="{y}">{start:%Y-%m-%d %H:%M:%S} UTC</text>\n'
        f'<text x="{_x(1.0)}" y="{y}" text-anchor="end">{start + span:%Y-%m-%d %H:%M:%S} UTC</text>'
    )


def _drawn_line(index: int, feature: str, points: str) -> str:
    colour = COLOURS[index % len(COLOURS)]
    y = TOP + 12 + index * 18
    return (
        f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>\n'
        f'<text x="{WIDTH - RIGHT + 14}" y="{y}" fill="{colour}">{escape(feature)}</text>'
    )


def _x(share: float) -> float:
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)
