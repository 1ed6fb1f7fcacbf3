"""Draws the ratios and times of a benchmark run as horizontal bars, in SVG, with nothing but the standard library.

A row is any object with label, value (None: not measured), limit (None: no target) and verdict(). Blue met its target,
orange missed it, grey has none; a black stroke marks the target and a thin line the ratio 1. The colours differ in
lightness too, and every bar has its number, so that the plot can be read in print and without colour vision.
"""

from xml.sax.saxutils import escape

WIDTH = 900
LEFT = 250  # of the bars; labels end here
RIGHT = 110  # for the numbers
NUMBER = 48  # of a number's text
ROW = 20
BAR = 13
COLOURS = {"met": "#2a6fa8", "missed": "#e08a1e"}
NO_TARGET = "#b4bac2"
LONGEST_SCALE = 3.0  # a longer bar is cut, and its number says how long it is


def text(x, y, content, size=12, anchor="start", weight="normal", colour="#1c2127"):
    return (f'<text x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" '
            f'fill="{colour}">{escape(content)}</text>')


def line(x, y1, y2, colour, width):
    return f'<line x1="{x:.1f}" y1="{y1:g}" x2="{x:.1f}" y2="{y2:g}" stroke="{colour}" stroke-width="{width:g}"/>'


def scale_end(rows):
    """The ratio at the right edge: room for the longest bar, the targets and 1."""
    needed = [1.0] + [row.value for row in rows if row.value is not None]
    needed += [row.limit for row in rows if row.limit is not None]
    return min(max(needed) * 1.05, LONGEST_SCALE)


def draw_row(row, y, end):
    """One bar, its label, target and number."""
    unit = (WIDTH - LEFT - RIGHT) / end
    parts = [text(LEFT - 8, y + BAR - 2, row.label, anchor="end")]
    if row.value is None:
        parts.append(text(LEFT + 6, y + BAR - 2, "not measured", colour="#6b7280"))
        return parts
    colour = COLOURS.get(row.verdict(), NO_TARGET)
    length = min(row.value, end) * unit
    parts.append(f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{colour}"/>')
    marks_end = length
    if row.limit is not None:
        position = min(row.limit, end) * unit
        parts.append(line(LEFT + position, y - 2.5, y + BAR + 2.5, "#000000", 2))
        if length - 6 < position < length + NUMBER:  # the number would stand on the target's stroke
            marks_end = position
    cut = " »" if row.value > end else ""
    # White below the number hides the grid where they cross.
    parts.append(f'<rect x="{LEFT + marks_end + 4:.1f}" y="{y}" width="{NUMBER - 10}" height="{BAR}" fill="#ffffff"/>')
    parts.append(text(LEFT + marks_end + 6, y + BAR - 2, f"{row.value:.3g}{cut}", weight="bold"))
    return parts


def draw_panel(title, rows, top):
    """A title, its bars and the axis below them. Returns the parts and where the next panel may begin."""
    end = scale_end(rows)
    unit = (WIDTH - LEFT - RIGHT) / end
    first = top + 32
    bottom = first + len(rows) * ROW
    parts = [text(20, top + 16, title, size=15, weight="bold")]
    step = 0.25 if end <= 1.6 else 0.5
    ticks = [i * step for i in range(int(end / step) + 1)]
    for tick in ticks:
        parts.append(line(LEFT + tick * unit, first - 4, bottom, "#6b7280" if tick == 1 else "#e3e6ea", 1))
        parts.append(text(LEFT + tick * unit, bottom + 14, f"{tick:g}", size=11, anchor="middle", colour="#4b5563"))
    for number, row in enumerate(rows):
        parts += draw_row(row, first + number * ROW, end)
    return parts, bottom + 34


def draw_legend(y):
    parts = []
    x = 20
    for verdict, label in (("met", "target met"), ("missed", "target missed"), ("", "no target")):
        colour = COLOURS.get(verdict, NO_TARGET)
        parts.append(f'<rect x="{x}" y="{y}" width="{BAR}" height="{BAR}" fill="{colour}"/>')
        parts.append(text(x + BAR + 6, y + BAR - 2, label))
        x += 130
    parts.append(line(x + 4, y - 2, y + BAR + 2, "#000000", 2))
    parts.append(text(x + 14, y + BAR - 2, "target"))
    return parts


def plot(title, notes, panels, draw_first=None):
    """The SVG text: panels is a list of (title, rows); notes are lines below the title. What draw_first(y) draws stands
    above the panels: it returns parts and the y below them, as draw_panel does."""
    parts = [text(20, 32, title, size=20, weight="bold")]
    y = 52
    for note in notes:
        parts.append(text(20, y, note, size=11, colour="#4b5563"))
        y += 16
    if draw_first is not None:
        drawn, y = draw_first(y)
        parts += drawn
    parts += draw_legend(y)
    y += 34
    for panel_title, rows in panels:
        if rows:
            drawn, y = draw_panel(panel_title, rows, y)
            parts += drawn
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}" '
            f'font-family="Helvetica, Arial, sans-serif" role="img">')
    return "\n".join([head, f"<title>{escape(title)}</title>",
                      f'<rect width="{WIDTH}" height="{y}" fill="#ffffff"/>', *parts, "</svg>"]) + "\n"
