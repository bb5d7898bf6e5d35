"""How far real parts are from each bound: `python tools/bench_bounds.py [FOLDER]` writes data/results/bounds.csv.

FOLDER holds DeepCAD files, at any depth; by default ../shared/deepcad/cad_json.
"""
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from results import ROOT, write
from cadvlm import bounds, drawing, solid
from cadvlm.cad.sequence import read
from cadvlm.errors import CadError

FAR = 1e7


def sketches(sequence, frame):
    "Corners, sketch width and outlines of each extrude, in frame units."
    for extrude in sequence.extrudes:
        corners, width = solid._reach(extrude, frame)
        rings = [r for p in extrude.sketch.profiles for r in solid._rings(p, frame.scale)]
        yield np.abs(corners).max(), width, bounds.crossings(rings, 10**6) if rings else 0


def looks(part, view):
    "Looks from edges to triangles that one view takes."
    allowed = drawing._MAX_LOOKS
    (vertices, faces), edges = part.mesh, part.edges
    points = vertices @ drawing.VIEWS[view].T
    drawn, facing = drawing.outline(part, view)
    sides, low = edges.faces[drawn], points[:, :2].min(axis=0)
    hidden = (facing[sides] < 0).all(axis=1)
    screen = drawing._screen(points, faces, facing)
    _, left = drawing._hide(points, edges.ends[drawn], sides, hidden, *screen, low,
                            (points[:, :2].max(axis=0) - low).max())
    return allowed - left


def comparing(part):
    "Estimated work of comparing a part with itself; none where that is done by sections."
    sectioned = solid._sectioned_volume(part.manifold, part.manifold, [part.mesh, part.mesh]) is not None
    return 0 if sectioned else bounds.compare_work(part.mesh, part.mesh, FAR)


def demands(sequence):
    "What a part asks for, by bound."
    part, frame = solid.build(sequence), solid._rough_frame(sequence)
    turns = solid._turns(sequence)
    shared = solid.share_corners(sequence, solid._NOISE / frame.scale)
    meshes = [(v @ t, f) for (v, f), t in zip(solid._welded_prisms(shared, frame, turns), turns)]
    reach, width, crossed = zip(*sketches(sequence, frame))
    return dict(reach=max(reach), width=min(width), crossings=max(crossed), triangles=sum(len(f) for _, f in meshes),
                building=bounds.build_work(meshes, FAR)[0], comparing=comparing(part),
                looks=max(looks(part, view) for view in ("front", "top", "right", "iso")))


def main(folder=ROOT.parent / "shared" / "deepcad" / "cad_json"):
    found = {}
    for path in sorted(Path(folder).rglob("*.json")):
        try:
            found[path.stem] = demands(read(path))
        except CadError:
            pass
    table = pd.DataFrame.from_dict(found, orient="index")
    limits = dict(reach=solid.MAX_REACH, width=solid._NOISE, crossings=bounds.MAX_CROSSINGS,
                  triangles=solid.MAX_TRIANGLES, building=bounds.MAX_BUILDING, comparing=bounds.MAX_COMPARING,
                  looks=drawing._MAX_LOOKS)
    rows = [dict(bound=k,
                 reason={"reach": "size_ratio", "width": "size_ratio", "triangles": "too_many_triangles"}.get(k,
            "too_complex"), limit=limit, part=(table[k].idxmin() if k == "width" else table[k].idxmax()),
                 worst=table[k].min() if k == "width" else table[k].max(), median=table[k].median(), parts=len(table))
            for k, limit in limits.items()]
    write("bounds", [{k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows])


if __name__ == "__main__":
    main(*sys.argv[1:])
