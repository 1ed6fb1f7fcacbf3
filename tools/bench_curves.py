"""Draws times by percentile as small charts side by side, one curve an allocator, on one logarithmic axis for all.

A chart is (title, {allocator: values in ns, None where there is none}). The curves differ in colour, lightness and
dashes, so that they can be told apart in print and without colour vision.
"""

import math

from bench_plot import WIDTH, line, text

COLUMNS = 3
MARGIN = 20
AXIS = 44  # of the numbers left of a chart
GAP = 10
HEIGHT = 150  # of a chart's grid
CHART = HEIGHT + 56  # with its title and its percentiles
STYLES = {
    "gcrt": ("#2a6fa8", 2.6, ""),
    "gcrt-none": ("#2a6fa8", 1.6, "5 3"),
    "bdwgc": ("#e08a1e", 1.6, ""),
    "bdwgc-inc": ("#e08a1e", 1.6, "5 3"),
    "malloc": ("#1c2127", 1.6, "2 2"),
    "go": ("#5d9c59", 1.6, "8 3 2 3"),
}
UNITS = ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1, "ns"))


def duration(nanoseconds):
    for size, unit in UNITS:
        if nanoseconds >= size:
            return f"{nanoseconds / size:g} {unit}"
    return "0"


def decades(charts):
    """The powers of ten around all values."""
    values = [value for _, curves in charts for curve in curves.values() for value in curve if value]
    if not values:
        return 3, 9
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def draw_grid(left, top, width, low, high, labels):
    parts = []
    for power in range(low, high + 1):
        y = top + HEIGHT * (high - power) / (high - low)
        parts.append(f'<line x1="{left:.1f}" y1="{y:.1f}" x2="{left + width:.1f}" y2="{y:.1f}" stroke="#e3e6ea"/>')
        parts.append(text(left - 5, y + 4, duration(10**power), size=10, anchor="end", colour="#4b5563"))
    for number, label in enumerate(labels):
        x = left + width * (number + 0.5) / len(labels)
        parts.append(line(x, top, top + HEIGHT, "#f0f2f4", 1))
        parts.append(text(x, top + HEIGHT + 13, label, size=10, anchor="middle", colour="#4b5563"))
    return parts


def draw_curve(allocator, values, left, top, width, low, high):
    colour, thickness, dashes = STYLES[allocator]
    points = [(left + width * (number + 0.5) / len(values), top + HEIGHT * (high - math.log10(value)) / (high - low))
              for number, value in enumerate(values) if value]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    parts = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{thickness}" '
             f'stroke-dasharray="{dashes or "none"}"/>']
    parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.2" fill="{colour}"/>' for x, y in points]
    return parts


def draw_legend(y):
    parts = []
    for number, (allocator, (colour, thickness, dashes)) in enumerate(STYLES.items()):
        x = MARGIN + number * 120
        parts.append(f'<line x1="{x}" y1="{y}" x2="{x + 30}" y2="{y}" stroke="{colour}" stroke-width="{thickness}" '
                     f'stroke-dasharray="{dashes or "none"}"/>')
        parts.append(text(x + 37, y + 4, allocator))
    return parts


def draw(title, charts, labels, top):
    """Returns the parts and where the next drawing may begin."""
    parts = [text(MARGIN, top + 16, title, size=15, weight="bold"), *draw_legend(top + 34)]
    low, high = decades(charts)
    width = (WIDTH - 2 * MARGIN - COLUMNS * AXIS - (COLUMNS - 1) * GAP) / COLUMNS
    first = top + 50
    for number, (name, curves) in enumerate(charts):
        left = MARGIN + AXIS + (number % COLUMNS) * (width + AXIS + GAP)
        y = first + number // COLUMNS * CHART + 24
        parts.append(text(left, y - 8, name, weight="bold"))
        parts += draw_grid(left, y, width, low, high, labels)
        # The library's own curve comes last, above the others.
        for allocator in sorted(curves, key=lambda name: name == "gcrt"):
            parts += draw_curve(allocator, curves[allocator], left, y, width, low, high)
    return parts, first + math.ceil(len(charts) / COLUMNS) * CHART + 10
