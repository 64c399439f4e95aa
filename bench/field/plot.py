"""Bars as SVG: a panel for each figure, a bar for each subject, a line from the first quartile to the third."""
from html import escape

WIDTH, NAME_WIDTH, PANEL_GAP, BAR, GAP, TOP, TITLE = 900, 120, 30, 14, 6, 44, 18
INK, FAINT, PAPER = "#222", "#999", "#fff"


def colour(subject):
    if subject.startswith("adit"):
        return "#c2410c"
    return {"direct": "#64748b", "nginx": "#94a3b8", "haproxy": "#94a3b8"}.get(subject, "#3b82a0")


def text(x, y, words, anchor="start", size=12, fill=INK, weight="normal"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{fill}" '
            f'font-weight="{weight}">{escape(words)}</text>')


def panel(left, width, title, rows, subjects, digits):
    """rows: subject -> quartiles and median."""
    room = width - 60
    most = max((values[2] for values in rows.values()), default=1) or 1
    parts = [text(left, TOP - 8, title, size=12, weight="bold")]
    for n, subject in enumerate(subjects):
        y = TOP + n * (BAR + GAP)
        if subject not in rows:
            parts.append(text(left, y + BAR - 3, "-", fill=FAINT, size=11))
            continue
        low, middle, high = (value / most * room for value in rows[subject])
        parts.append(f'<rect x="{left:.1f}" y="{y}" width="{max(middle, 0.5):.1f}" height="{BAR}" '
                     f'fill="{colour(subject)}"/>')
        if high - low > 1:
            parts.append(f'<path d="M{left + low:.1f} {y + BAR / 2}H{left + high:.1f}" stroke="{INK}" '
                         f'stroke-width="1.5"/>')
        parts.append(text(left + max(middle, high) + 4, y + BAR - 3, f"{rows[subject][1]:.{digits}f}", size=11))
    return parts


def bars(title, panels):
    """panels: (title, digits, {subject: (q1, median, q3)}), of the same subjects mostly."""
    subjects = list(dict.fromkeys(name for _, _, rows in panels for name in rows))
    height = TOP + len(subjects) * (BAR + GAP) + 10
    width = (WIDTH - NAME_WIDTH) / len(panels)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">',
             f'<title>{escape(title)}</title>', f'<rect width="{WIDTH}" height="{height}" fill="{PAPER}"/>',
             text(8, TITLE, title, size=14, weight="bold")]
    for n, subject in enumerate(subjects):
        parts.append(text(NAME_WIDTH - 8, TOP + n * (BAR + GAP) + BAR - 3, subject, "end", 12))
    for n, (panel_title, digits, rows) in enumerate(panels):
        parts += panel(NAME_WIDTH + n * width, width - PANEL_GAP, panel_title, rows, subjects, digits)
    return "\n".join([*parts, "</svg>"]) + "\n"
