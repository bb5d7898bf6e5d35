"""Draw the page picture of 12 real parts by cadvlm and by Open CASCADE: `python tools/compare_views.py` (needs `cadvlm[cad]` and the reference data).

`nbs/images/open_cascade.png` shows each part twice, side by side: left as cadvlm draws it, right as Open CASCADE's exact hidden-line algorithm does,
with the share of ink that agrees.
"""
import math
import os
import sys
from pathlib import Path

import orjson
from matplotlib.figure import Figure

from cadvlm.cad.drawing import Drawing, project
from cadvlm.cad.sequence import read
from cadvlm.cad.solid import build

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
import occ
import occ_hlr

PICTURE = ROOT / "nbs" / "images" / "open_cascade.png"
PARTS = {  # id: view
    "00010112": "iso", "00013811": "iso", "00016373": "right",
    "00010783": "iso", "00017110": "iso", "00015031": "iso",
    "00010622": "top", "00013881": "top", "00019935": "iso",
    "00307274": "iso", "00010443": "front", "00018061": "iso",
}
WIDE = 112.         # units from the middle to the border of a square


def both(path, view):
    "A part as drawn by cadvlm and by Open CASCADE, and the share of ink that agrees."
    ours = project(build(read(path)), view)
    theirs = occ_hlr.occ_drawing(occ.occ_solid(orjson.loads(path.read_bytes())), view)
    agree = occ_hlr.ink_agreement((ours.visible, ours.hidden), theirs, zoom=0.75 if view == "iso" else 1.0)
    return ours, Drawing(view, *theirs), min(agree.values())


def picture(folder, parts, columns=3, side=1.9, foot=0.35):
    """A figure with a pair of drawings for each part, each in a square of `side` inches with a caption of `foot` inches
    below."""
    rows = -(-len(parts) // columns)
    width, height = columns * (2 * side + 0.3), rows * (side + foot)
    figure = Figure(figsize=(width, height), dpi=110)
    for i, (name, view) in enumerate(parts.items()):
        ours, theirs, agree = both(folder / name[:4] / f"{name}.json", view)
        x, y = i % columns * (2 * side + 0.3) + 0.1, height - (i // columns + 1) * (side + foot) + foot
        for k, drawing in enumerate((ours, theirs)):
            axes = figure.add_axes(((x + k * side) / width, y / height, side / width, side / height))
            drawing.plot(axes).set(xlim=_zoomed(axes.get_xlim()), ylim=_zoomed(axes.get_ylim()))
            figure.text((x + (k + 0.5) * side) / width, (y - 0.1) / height, ("cadvlm", "Open CASCADE")[k], ha="center",
                        fontsize=8, color="gray")
        figure.text((x + side) / width, (y - 0.1) / height, f"{name} {view}\n{math.floor(1000 * agree) / 10:g} %",
                    ha="center", va="center", fontsize=7)
    return figure


def _zoomed(limits):
    "The limits of an axis without the border of a picture."
    return [WIDE / 125 * limit for limit in limits]


if __name__ == "__main__":
    shared = Path(os.environ.get("CADVLM_SHARED", ROOT.parent / "shared"))
    if not shared.exists():
        raise SystemExit(f"no reference data at {shared}: {PICTURE.name} is left as it is")
    PICTURE.parent.mkdir(exist_ok=True)
    picture(shared / "deepcad" / "cad_json", PARTS).savefig(PICTURE)
