"""Draw the images of the front page into `nbs/images/`, and those of the validation page: `make figures`, or
`python tools/figures.py NAME …`.

Two of them, `contact_sheet` and `open_cascade`, show real DeepCAD parts: they need the reference data beside the
project (or in CADVLM_SHARED), the second also `cadvlm[cad]`, and are left as they are without.
"""

import json
import math
import re
import sys
import tomllib

import numpy as np
from matplotlib.figure import Figure

from results import ROOT, SHARED
from cadvlm.cad.drawing import Drawing, encode_png, project
from cadvlm.cad.curves import Loop, Profile
from cadvlm.cad.sequence import CadSequence, Extrude, Operation, Plane, Sketch, read
from cadvlm.cad.solid import build
from cadvlm.cad.view import shaded_image
from cadvlm.errors import CadError
from cadvlm.reading.reconstruct import reconstruct
from cadvlm.synth.histories import part
from cadvlm.text.language import decode, encode

IMAGES = ROOT / "nbs" / "images"
EXAMPLE = (0, 987)  # seed and index of the synthetic part on the front page
BLUE, GREY = (120, 175, 220), (190, 196, 202)
WIDE = 112.0  # units from the middle to the border of a square
TRAINED = {"1k": "1,000", "10k": "10,000", "100k": "98,000"}  # parts in the training split
COMPARED = {  # parts drawn beside Open CASCADE's drawing: id and view
    "00010112": "iso",
    "00013811": "iso",
    "00016373": "right",
    "00010783": "iso",
    "00017110": "iso",
    "00015031": "iso",
    "00010622": "top",
    "00013881": "top",
    "00019935": "iso",
    "00307274": "iso",
    "00010443": "front",
    "00018061": "iso",
}


def example():
    "A figure of one synthetic part: its sheet, its code in the compact language, and the solid that the code builds."
    sequence = part(*EXAMPLE)
    code = encode(sequence, "compact")
    figure = Figure(figsize=(9.4, 3.3), dpi=150)
    boxes = (0, 0.05, 0.34, 0.95), (0.34, 0, 0.37, 1), (0.71, 0.03, 0.29, 0.97)
    sheet, text, solid = map(figure.add_axes, boxes)
    project(build(sequence), "sheet").plot(sheet, line_width=2.8)
    solid.imshow(shaded_image([build(decode(code, "compact"))], (BLUE,), size=560))
    text.text(0.5, 0.5, code, family="monospace", fontsize=9.2, linespacing=2, ha="center", va="center", ma="left")
    for axes in (text, solid):
        axes.axis("off")
    for x in (0.345, 0.71):
        figure.text(x, 0.51, "→", fontsize=16, ha="center", va="center", color="0.45")
    for x, words in ((0.17, "drawing"), (0.525, "code"), (0.855, "part")):
        figure.text(x, 0.01, words, fontsize=9, ha="center", va="bottom", color="0.35")
    return figure


def bracket():
    "A bracket with a hole through its base and one through its wall."
    base, wall = Loop.rectangle(0, 0, 80, 50), Loop.rectangle(0, 0, 14, 50)
    side = Plane((0, 0, 36), (0, 1, 0), (0, 0, 1))
    return CadSequence(
        (
            Extrude.between(base, 0, 12),
            Extrude.between(wall, 0, 60, Operation.JOIN),
            Extrude.between(Loop.circle(11, 52, 25), 0, 12, Operation.CUT),
            Extrude.between(Loop.circle(8, 25, 0), 0, 14, Operation.CUT, side),
        )
    )


def folded(code, width, joint=r"(?<=\))(?=\.)"):
    "Code whose long lines go on below, indented; they are broken at joints, which are between calls by default."
    lines = []
    for line in code.splitlines():
        short = ""
        for call in re.split(joint, line):
            if short.strip() and len(short + call) > width:
                lines.append(short)
                short = "    "
            short += call
        lines.append(short)
    return "\n".join(lines)


def reading():
    "A figure of a drawing that is read: its three views, the code that was found, and the part that the code builds."
    views = {v: project(build(bracket()), v) for v in ("front", "top", "right")}
    found = reconstruct(views)
    assert found.certified
    figure = Figure(figsize=(9.4, 3.3), dpi=150)
    places = dict(top=(0.0, 0.5), front=(0.0, 0.04), right=(0.17, 0.04))
    for view, (x, y) in places.items():
        views[view].plot(figure.add_axes((x, y, 0.17, 0.48)), line_width=4)
    code = folded(encode(found.sequence), 60)
    text, solid = figure.add_axes((0.37, 0, 0.36, 1)), figure.add_axes((0.74, 0.05, 0.26, 0.95))
    text.text(0, 0.53, code, family="monospace", fontsize=6.6, linespacing=1.8, ha="left", va="center")
    solid.imshow(shaded_image([build(found.sequence)], (BLUE,), size=560))
    for axes in (text, solid):
        axes.axis("off")
    for x in (0.355, 0.745):
        figure.text(x, 0.53, "→", fontsize=16, ha="center", va="center", color="0.45")
    for x, words in ((0.17, "drawing"), (0.55, "code"), (0.87, "part, drawn again: the same lines")):
        figure.text(x, 0.0, words, fontsize=9, ha="center", va="bottom", color="0.35")
    return figure


def shown(axes, text, title, iou=None, color=BLUE):
    "A part, built from text in the compact language and shaded; a cross where the text builds no solid."
    try:
        axes.imshow(shaded_image([build(decode(text, "compact"))], (color,), size=300))
        title += f"IoU {iou:.2f}" if iou is not None else ""
    except CadError:
        axes.plot((0.2, 0.8), (0.2, 0.8), "0.7", transform=axes.transAxes)
        axes.plot((0.2, 0.8), (0.8, 0.2), "0.7", transform=axes.transAxes)
        title += "invalid"
    axes.set_title(title, fontsize=9, color="0.25", pad=2)


def answers(rows):
    """A figure with a line for each answer: the sheet that a model was given, its code, the part of it, the true part.

    Parameters
    ----------
    rows : list of dict
        With truth and code in the compact language, and iou.
    """
    figure = Figure(figsize=(9.4, 2.2 * len(rows)), dpi=130)
    grid = figure.add_gridspec(len(rows), 4, width_ratios=(1, 1.45, 1, 1))
    for line, row in enumerate(rows):
        sheet, text, answer, truth = (figure.add_subplot(grid[line, k]) for k in range(4))
        project(build(decode(row["truth"], "compact")), "sheet").plot(sheet, line_width=4)
        sheet.set_title("input: the sheet", fontsize=9, color="0.25", pad=2)
        code = folded(row["code"], 36, r"(?= [A-Z] )")
        text.text(0.02, 0.5, code, family="monospace", fontsize=7, linespacing=1.7, va="center")
        text.set_title("what the model wrote", fontsize=9, color="0.25", pad=2)
        shown(answer, row["code"], "its part: ", row["iou"])
        shown(truth, row["truth"], "the true part", color=GREY)
        for axes in (sheet, text, answer, truth):
            axes.axis("off")
    figure.tight_layout(pad=0.3)
    return figure


def scales(rows, test="held_out", count=4):
    """What one model wrote after trainings on more and more parts: the image that it saw, the true part, its answers.

    Parameters
    ----------
    rows : list of dict
        `data/results/compare_examples.json`: the first parts of each test in the order of their ids, none chosen.
    test : str
    count : int
    """
    rows = [row for row in rows if row["test"] == test]
    ids = sorted({row["id"] for row in rows})[:count]
    names = list(dict.fromkeys(row["scale"] for row in rows))
    figure = Figure(figsize=(1.95 * (2 + len(names)), 1.95 * count), dpi=110)
    for line, id in zip(figure.subplots(count, 2 + len(names)), ids):
        made = {row["scale"]: row for row in rows if row["id"] == id}
        first = made[names[0]]
        project(build(decode(first["truth"], "compact")), first["view"]).plot(line[0], line_width=5)
        line[0].set_title(f"input: {first['view']} view", fontsize=9, color="0.25", pad=2)
        shown(line[1], first["truth"], "truth", color=GREY)
        for axes, name in zip(line[2:], names):
            title = f"{TRAINED[name.rpartition('_')[2]]} parts: "
            shown(axes, made[name]["code"], title, made[name]["iou"])
        for axes in line:
            axes.axis("off")
    figure.tight_layout(pad=0.3)
    return figure


def real_parts(folder, count):
    "The first `count` of an even sample of the folder that build into one piece of 60 to 3,000 triangles."
    paths, found = sorted(folder.rglob("*.json")), []
    for path in paths[:: max(1, len(paths) // (4 * count))]:
        try:
            solid = build(read(path))
        except CadError:
            continue
        if 60 < len(solid.mesh[1]) < 3000 and solid.pieces == 1:
            found.append((path.stem, solid))
    return found[:count]


def contact_sheet(parts, columns=4):
    "A figure with one third-angle sheet for each part."
    rows = -(-len(parts) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.75 * rows), dpi=120)
    for axes, (name, solid) in zip(figure.subplots(rows, columns).flat, parts):
        project(solid, "sheet").plot(axes).set_title(name, fontsize=8, color="gray")
    figure.tight_layout(pad=0.3)
    return figure


def both(path, view):
    "A part as drawn by cadvlm and by Open CASCADE, and the share of ink that agrees."
    sys.path.insert(0, str(ROOT / "tests"))
    import occ
    import occ_hlr

    ours = project(build(read(path)), view)
    theirs = occ_hlr.occ_drawing(occ.occ_solid(json.loads(path.read_bytes())), view)
    agree = occ_hlr.ink_agreement((ours.visible, ours.hidden), theirs, zoom=0.75 if view == "iso" else 1.0)
    return ours, Drawing(view, *theirs), min(agree.values())


def open_cascade(folder, parts, columns=3, side=1.9, foot=0.35):
    "A figure with a pair of drawings for each part, in squares of `side` inches with captions of `foot` inches."
    rows = -(-len(parts) // columns)
    width, height = columns * (2 * side + 0.3), rows * (side + foot)
    figure = Figure(figsize=(width, height), dpi=110)
    for i, (name, view) in enumerate(parts.items()):
        *drawings, agree = both(folder / name[:4] / f"{name}.json", view)
        x, y = i % columns * (2 * side + 0.3) + 0.1, height - (i // columns + 1) * (side + foot) + foot
        for k, (drawing, label) in enumerate(zip(drawings, ("cadvlm", "Open CASCADE"))):
            axes = drawing.plot(figure.add_axes(((x + k * side) / width, y / height, side / width, side / height)))
            axes.set(xlim=np.multiply(axes.get_xlim(), WIDE / 125), ylim=np.multiply(axes.get_ylim(), WIDE / 125))
            middle = (x + (k + 0.5) * side) / width
            figure.text(middle, (y - 0.1) / height, label, ha="center", fontsize=8, color="gray")
        caption = f"{name} {view}\n{math.floor(1000 * agree) / 10:g} %"
        figure.text((x + side) / width, (y - 0.1) / height, caption, ha="center", va="center", fontsize=7)
    return figure


def cube():
    "A cube, 64 pixels wide, as PNG."
    square = Profile(Loop.rectangle(0.0, 0.0, 1.0, 1.0))
    solid = build(CadSequence((Extrude(Sketch(Plane(), (square,)), 1.0),)))
    return encode_png(shaded_image([solid], ((86, 180, 233),), size=64))


def badge(name, value, color):
    "An SVG badge, as wide as its two words need."
    left, right = (round(6.2 * len(word)) + 12 for word in (name, value))
    size = f'width="{left + right}" height="20"'
    return f"""<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{name}: {value}">
<rect rx="3" {size} fill="#444"/>
<path d="M{left} 0h{right - 3}a3 3 0 0 1 3 3v14a3 3 0 0 1-3 3h-{right - 3}z" fill="{color}"/>
<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle">
<text x="{left / 2}" y="14">{name}</text><text x="{left + right / 2}" y="14">{value}</text>
</g>
</svg>
"""


def badges(project):
    "The badges of the front page by name, from pyproject.toml: nothing that must be asked elsewhere."
    status = next(c.rpartition(" - ")[2].lower() for c in project["classifiers"] if c.startswith("Development Status"))
    facts = dict(
        python=(project["requires-python"].replace(">=", "") + " or newer", "#1f6fb2"),
        license=(project["license"], "#2a7d3f"),
        status=(f"{status}, no release", "#a65f00"),
    )
    return {name: badge(name, value, color) for name, (value, color) in facts.items()}


def draw_badges():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name, text in badges(project).items():
        (IMAGES / f"badge_{name}.svg").write_text(text, encoding="utf-8")


def result(name):
    "What a measurement has left in `data/results/`."
    return json.loads((ROOT / "data" / "results" / f"{name}.json").read_text())


def draw_predicted():
    "The first example of the ladder: chosen among sixteen, then searched from."
    row = result("ladder_examples")[0]
    made = dict(truth=row["truth"], code=row["searched"], iou=row["searched_iou"])
    answers([made]).savefig(IMAGES / "predicted.png")


def draw_real_parts(name, figure):
    "Save a figure of real parts, or say that the reference data is missing."
    folder = SHARED / "deepcad" / "cad_json"
    if folder.is_dir():
        figure(folder).savefig(IMAGES / f"{name}.png")
    else:
        print(f"no reference data at {SHARED}: {name}.png is left as it is")


FIGURES = {
    "badges": draw_badges,
    "favicon": lambda: (IMAGES / "favicon.png").write_bytes(cube()),
    "example": lambda: example().savefig(IMAGES / "example.png"),
    "reading": lambda: reading().savefig(IMAGES / "reading.png"),
    "training": lambda: answers(result("first_training_examples")).savefig(IMAGES / "training.png"),
    "predicted": draw_predicted,
    "scales": lambda: scales(result("compare_examples")).savefig(IMAGES / "scales.png"),
    "contact_sheet": lambda: draw_real_parts("contact_sheet", lambda folder: contact_sheet(real_parts(folder, 24))),
    "open_cascade": lambda: draw_real_parts("open_cascade", lambda folder: open_cascade(folder, COMPARED)),
}


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    for name in sys.argv[1:] or FIGURES:
        FIGURES[name]()
