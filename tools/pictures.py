"""Draw the pictures of the front page: `python tools/pictures.py` (needs the reference data beside the project, or CADVLM_SHARED).

`nbs/images/contact_sheet.png` shows 24 real DeepCAD parts; `nbs/images/example.png` the part whose code the front page prints;
`nbs/images/favicon.png` a cube.
"""
import os
from pathlib import Path

from matplotlib.figure import Figure

from cadvlm.cad.drawing import encode_png, project
from cadvlm.cad.sequence import CadSequence, Extrude, Line, Loop, Plane, Profile, Sketch, read
from cadvlm.errors import CadError
from cadvlm.cad.solid import build
from cadvlm.synth.histories import part
from cadvlm.cad.view import picture

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "nbs" / "images"
EXAMPLE = (0, 987)  # seed and index of the synthetic part on the front page


def real_parts(folder, count):
    """The first `count` files in an even spread over the folder that build into one piece of some interest: 60 to 3,000
    triangles."""
    paths, found = sorted(folder.rglob("*.json")), []
    for path in paths[:: max(1, len(paths) // (4 * count))]:
        try:
            solid = build(read(path))
        except CadError:
            continue
        if 60 < len(solid.mesh[1]) < 3000 and solid.pieces == 1:
            found.append((path.stem, solid))
    return found[:count]


def contact_sheet(parts, columns):
    "A figure with one third-angle sheet for each part."
    rows = -(-len(parts) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.75 * rows), dpi=120)
    for axes, (name, solid) in zip(figure.subplots(rows, columns).flat, parts):
        project(solid, "sheet").plot(axes).set_title(name, fontsize=8, color="gray")
    figure.tight_layout(pad=0.3)
    return figure


def example():
    "A figure of one synthetic part: front, top, right, iso."
    solid, figure = build(part(*EXAMPLE)), Figure(figsize=(10, 2.6), dpi=110)
    for axes, view in zip(figure.subplots(1, 4), ("front", "top", "right", "iso")):
        project(solid, view).plot(axes)
    figure.tight_layout(pad=0.2)
    return figure


def cube():
    "A cube, 64 pixels wide."
    corners = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
    square = Profile(Loop(tuple(Line(a, b) for a, b in zip(corners, corners[1:] + corners[:1]))))
    return encode_png(picture([build(CadSequence((Extrude(Sketch(Plane(), (square,)), 1.0),)))], ((86, 180, 233),),
                              size=64))


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    (IMAGES / "favicon.png").write_bytes(cube())
    example().savefig(IMAGES / "example.png")
    shared = Path(os.environ.get("CADVLM_SHARED", ROOT.parent / "shared"))
    if not shared.exists():
        raise SystemExit(f"no reference data at {shared}: contact_sheet.png is left as it is")
    contact_sheet(real_parts(shared / "deepcad" / "cad_json", 24), 4).savefig(IMAGES / "contact_sheet.png")
