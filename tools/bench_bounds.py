"""How far real parts are from each bound: `python tools/bench_bounds.py [FOLDER]` appends to data/results/bounds.csv.

FOLDER holds DeepCAD files, at any depth; by default those of the reference data, beside the project or in
CADVLM_SHARED.
"""
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from results import SHARED, about, append, is_measured
from cadvlm.cad import bounds, hidden, overlap, solid
from cadvlm.cad.contact import in_shared_axes, keep_areas, share_corners, turns_to_z
from cadvlm.cad.polygons import NOISE
from cadvlm.cad.sequence import read
from cadvlm.errors import CadError

CODE = ("cad",)
FAR = 1e7
REASONS = dict(reach="size_ratio", width="size_ratio", triangles="too_many_triangles")  # of others: too_complex


def sketches(sequence, frame):
    "Corners, sketch width and outlines of each extrude, in frame units."
    for extrude in sequence.extrudes:
        corners, width = solid._reach(extrude, frame)
        rings = [r for p in extrude.sketch.profiles for r in solid._rings(p, frame.scale)]
        yield np.abs(corners).max(), width, bounds.crossings(rings, 10**6) if rings else 0


def looks(part, view):
    "Tests of edges against triangles that one view takes."
    (vertices, faces), edges = part.mesh, part.edges
    points = vertices @ hidden.VIEWS[view].T
    drawn, facing = hidden.drawn_edges(part, view)
    sides, low = edges.faces[drawn], points[:, :2].min(axis=0)
    occluded = (facing[sides] < 0).all(axis=1)
    screen = hidden._screen(points, faces, facing)
    _, left = hidden._hide(points, edges.ends[drawn], sides, occluded, *screen, low,
                           (points[:, :2].max(axis=0) - low).max())
    return hidden._MAX_TESTS - left


def comparing(part):
    "Estimated work of comparing a part with itself; none where that is done by sections."
    sectioned = overlap._sectioned_volume(part.manifold, part.manifold, [part.mesh, part.mesh]) is not None
    return 0 if sectioned else bounds.compare_work(part.mesh, part.mesh, FAR)


def demands(sequence):
    "What a part asks for, by bound."
    part, frame = solid.build(sequence), solid._rough_frame(sequence)
    shared = share_corners(keep_areas(in_shared_axes(sequence), frame.scale), NOISE / frame.scale)
    turns = turns_to_z(shared)
    meshes = [(v @ t, f) for (v, f), t in zip(solid._welded_prisms(solid._outlined(shared, frame)), turns)]
    reach, width, crossed = zip(*sketches(sequence, frame))
    return dict(reach=max(reach), width=min(width), crossings=max(crossed), triangles=sum(len(f) for _, f in meshes),
                building=bounds.build_work(meshes, FAR)[0], comparing=comparing(part),
                looks=max(looks(part, view) for view in ("front", "top", "right", "iso")))


def measured(folder):
    "A table of what each part in a folder asks for, by id and bound."
    found = {}
    for path in sorted(folder.rglob("*.json")):
        try:
            found[path.stem] = demands(read(path))
        except CadError:
            pass
    return pd.DataFrame.from_dict(found, orient="index")


def main(folder=SHARED / "deepcad" / "cad_json"):
    folder = Path(folder)
    corpus = "DeepCAD sample" if folder.parent.name == "deepcad" else folder.name
    common = about(corpus, len([*folder.rglob("*.json")]), CODE)
    if is_measured("bounds", common):
        return
    table = measured(folder)
    limits = dict(reach=solid.MAX_REACH, width=NOISE, crossings=bounds.MAX_CROSSINGS,
                  triangles=solid.MAX_TRIANGLES, building=bounds.MAX_BUILDING, comparing=bounds.MAX_COMPARING,
                  looks=hidden._MAX_TESTS)
    rows = [dict(bound=k, reason=REASONS.get(k, "too_complex"), limit=limit,
                 part=table[k].idxmin() if k == "width" else table[k].idxmax(),
                 worst=table[k].min() if k == "width" else table[k].max(), median=table[k].median(), parts=len(table))
            for k, limit in limits.items()]
    append("bounds", [common | {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows])


if __name__ == "__main__":
    main(*sys.argv[1:])
