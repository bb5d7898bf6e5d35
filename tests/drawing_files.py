"""Drawings as files, for tests and for the benchmark of reading: written here, not by the package, so that nothing but
lines reaches the reader."""

from cadvlm.cad.drawing import project
from cadvlm.cad.solid import build

VIEWS = ("front", "top", "right")
HEAD = '<svg xmlns="http://www.w3.org/2000/svg">'


def view_svg(visible, hidden=()):
    "Polylines (n, 2) of one view as SVG; y points down there."

    def group(style, lines):
        paths = ("M" + " L".join(f"{x:.6f},{-y:.6f}" for x, y in line) for line in lines)
        inside = "".join(f'<path d="{d}"/>' for d in paths)
        return f'<g class="{style}" fill="none" stroke="black">{inside}</g>'

    return f'{HEAD}{group("visible", visible)}{group("hidden", hidden)}</svg>'


def write_views(folder, drawings, name=""):
    "Write `{view: (visible, hidden)}` as a file each, `NAME_front.svg` or `front.svg`."
    folder.mkdir(parents=True, exist_ok=True)
    for view, lines in drawings.items():
        (folder / f"{name}{'_' * bool(name)}{view}.svg").write_text(view_svg(*lines))


def views_of(sequence):
    "`{view: Drawing}` of a part."
    solid = build(sequence)
    return {view: project(solid, view) for view in VIEWS}


def write_part(folder, sequence, name=""):
    "Write the three views of a part."
    write_views(folder, {v: (d.visible, d.hidden) for v, d in views_of(sequence).items()}, name)
