"""Measure how well drawings are read and append to `data/results/reading.csv`: `python tools/bench_reading.py` (half an
hour on two cores).

Five kinds of drawings: our own vector drawings of the real parts of the reference data and of 1,000 synthetic ones;
our images of 512 px of the same real parts, and of other sizes of 30 of them; Open CASCADE's exact hidden lines, and
the SVG files that CadQuery's exporter writes, of 200 real parts. The last two are written to files, three for each
part, and read from them; parts of which Open CASCADE builds another solid are left out. A part that is rejected, or
takes longer than 20 seconds of processor time (30 for images), counts with an IoU of 0.
"""
import argparse
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import orjson

from results import ROOT, SHARED, about, append, is_measured
from cadvlm.cad.drawing import project
from cadvlm.cad.overlap import iou
from cadvlm.cad.polygons import IDENTITY
from cadvlm.cad.repair import read_part
from cadvlm.cad.solid import build
from cadvlm.errors import CadError
from cadvlm.jobs.limits import attempt
from cadvlm.reading.images import rasters_of_views, read_rasters
from cadvlm.reading.reconstruct import reconstruct
from cadvlm.reading.sheet import read_drawing
from cadvlm.reading.understand import understand
from cadvlm.stages.synthesize import synthesize
from cadvlm.text.language import decode, encode

sys.path.insert(0, str(ROOT / "tests"))
from drawing_files import VIEWS, write_views

PACKAGES = ("manifold3d", "numba", "shapely", "python-sat")
CODE = ("cad", "text", "reading")
LIMIT, IMAGE_LIMIT = 20.0, 30.0  # seconds of processor time for one drawing
SAME = 0.005  # share by which the volume of Open CASCADE's solid may differ
DRAWING = 60.0  # and for another program to draw it
SIZES, FEW = (256, 384, 1024, 2048, 4000), 30  # pixels of other images, and how many parts are read from them
RIGHT, WRONG = 0.99, 0.995  # IoU above which a part is read, and below which a certified one is wrong
DIRECTIONS = dict(front=(0, -1, 0), top=(0, 0, 1), right=(1, 0, 0))  # from the part to the viewer, for CadQuery


# --- drawings by other programs


def occ_shape(path):
    "A part as Open CASCADE builds it; ValueError where that is another one."
    import occ

    shape = occ.occ_solid(orjson.loads(path.read_bytes()))
    if abs(occ.occ_volume(shape) / build(read_part(path)).volume - 1) > SAME:
        raise ValueError(f"{path.stem}: Open CASCADE builds another solid")
    return shape


def occ_lines(folder, path):
    "Open CASCADE's hidden lines as three files."
    import occ_hlr

    part = occ_hlr.Part(occ_shape(path))
    write_views(folder, {view: part.draw(view) for view in VIEWS})


def cadquery_files(folder, path):
    "What CadQuery's exporter writes."
    import cadquery

    shape = cadquery.Shape.cast(occ_shape(path))
    folder.mkdir()
    for view, direction in DIRECTIONS.items():
        options = dict(projectionDir=direction, showHidden=True, showAxes=False)
        cadquery.exporters.export(shape, str(folder / f"{view}.svg"), opt=options)


FILES = {"Open CASCADE": occ_lines, "CadQuery's SVG": cadquery_files}


def is_drawn(kind, folder, path):
    "Has another program drawn the part? Where it cannot, the part is left out."
    try:
        row = attempt(lambda _: FILES[kind](folder, path), path.stem, timeout=DRAWING)
    except Exception:
        return False
    return "value" in row


# --- one part


def read_files(folder, _):
    found = understand(read_drawing(folder))
    return found.sequence, found.reading


def read_views(solid, _):
    found = reconstruct({view: project(solid, view) for view in VIEWS})
    return found.sequence, found


def read_pixels(images, _):
    found = read_rasters(rasters_of_views(images))
    return found.sequence, found


def is_one_axis(sequence):
    "Are all extrudes along one direction?"
    normals = np.array([e.sketch.plane.normal for e in sequence.extrudes])
    return bool((np.abs(normals @ normals[0]) > 1 - 1e-6).all())


def code_ratio(found, truth, frame):
    "Length of the code of what was read, in lengths of the code of the truth; None where whole units keep one not."
    try:
        return len(encode(found, frame=IDENTITY)) / len(encode(truth, frame=frame))
    except CadError:
        return None


def code_iou(sequence, frame, solid):
    "IoU of a part with the code of a sequence on whole units; 0 where whole units keep it not."
    try:
        return iou(build(decode(encode(sequence, frame=frame))), solid, align="frame")
    except CadError:
        return 0.0


def measured(kind, path):
    "What is measured of one part; None where it cannot be drawn."
    try:
        sequence = read_part(path)
        solid = build(sequence)
        [project(solid, view) for view in VIEWS]
    except CadError:
        return None
    is_image = kind.startswith("images")
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / path.stem
        if kind in FILES and not is_drawn(kind, files, path):
            return None
        read = partial(read_files, files) if kind in FILES else partial(read_views, solid)
        if is_image:
            size = int(kind.split()[1])
            read = partial(read_pixels, {view: project(solid, view).rasterize(size) for view in VIEWS})
        start = time.process_time()
        row = attempt(lambda id: (read(id),), path.stem, timeout=IMAGE_LIMIT if is_image else LIMIT)
    common = dict(id=path.stem, seconds=time.process_time() - start, iou=0.0, certified=False)
    common |= dict(code_iou=0.0, truth_code_iou=code_iou(sequence, solid.frame, solid))
    common |= dict(one_axis=is_one_axis(sequence), memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    if "value" not in row:
        return common | dict(reason=row["reason"], message=row["message"])
    found, reading = row["value"][0]
    return common | dict(iou=iou(build(found), solid, align="frame"), certified=reading.certified,
                         code_iou=code_iou(found, IDENTITY, solid),
                         ambiguous=reading.ambiguous, fewer=len(found.extrudes) <= len(sequence.extrudes),
                         ratio=code_ratio(found, sequence, solid.frame))


# --- all parts


def share(values):
    values = list(values)
    return round(100 * sum(values) / len(values), 2) if values else ""


def summed(rows):
    "The columns of the table."
    ious, seconds = np.array([r["iou"] for r in rows]), [r["seconds"] for r in rows]
    sure = [r for r in rows if r["certified"]]
    axes = {True: [r for r in rows if r["one_axis"]], False: [r for r in rows if not r["one_axis"]]}
    ratios = [r["ratio"] for r in rows if r.get("ratio")]
    codes = [round(float(np.mean([r[name] for r in rows])), 4) for name in ("code_iou", "truth_code_iou")]
    return dict(mean_iou=round(float(ious.mean()), 4), above_99=share(r["iou"] > RIGHT for r in rows),
                certified=share(r["certified"] for r in rows),
                lowest_certified_iou=round(min((r["iou"] for r in sure), default=0.0), 5),
                certified_and_wrong=sum(r["iou"] < WRONG for r in sure), rejected=share("reason" in r for r in rows),
                ambiguous=share(r.get("ambiguous", False) for r in rows),
                seconds_median=round(float(np.median(seconds)), 3),
                seconds_95=round(float(np.percentile(seconds, 95)), 2),
                seconds_most=round(max(seconds), 1), memory_mb=round(max(r["memory"] for r in rows)),
                extrudes_no_more_one_axis=share(r.get("fewer", False) for r in axes[True]),
                extrudes_no_more_several_axes=share(r.get("fewer", False) for r in axes[False]),
                code_length_ratio=round(float(np.median(ratios)), 3) if ratios else "",
                mean_iou_whole_units=codes[0], mean_iou_whole_units_truth=codes[1])


def spread(paths, count):
    "So many of some paths, evenly spread over all."
    return [paths[k * len(paths) // count] for k in range(min(count, len(paths)))] if count else paths


def corpora(folder, parts, only):
    "`(corpus, kind, paths)` of what is measured; synthetic parts are made where they are among it."
    real = sorted((SHARED / "deepcad" / "cad_json").rglob("*.json"))
    if real:
        yield "DeepCAD, own vectors", "own", spread(real, parts)
        yield "DeepCAD, own images of 512 px", "images 512", spread(real, parts)
        for size in SIZES:
            yield f"DeepCAD, own images of {size:,} px", f"images {size}", spread(real, min(parts or FEW, FEW))
    if only in (synthetic := "synthetic, own vectors"):
        synthesize(folder / "synthetic", count=parts or 1000, workers=1)
        yield synthetic, "own", sorted((folder / "synthetic" / "cad_json").rglob("*.json"))
    for kind in FILES if real else ():
        yield f"DeepCAD, {kind}", kind, spread(real, parts or 200)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--parts", type=int, default=0, help="of each corpus; prints, and writes no row")
    options.add_argument("--only", default="", help="corpora with this in their name")
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--rows", type=Path, help="JSON lines to write, one for each part")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for corpus, kind, paths in corpora(Path(folder), given.parts, given.only):
            common = about(corpus, len(paths), CODE, PACKAGES)
            known = not given.parts and is_measured("reading", common)
            if known or given.only not in corpus:
                continue
            with ProcessPoolExecutor(given.workers) as pool:
                rows = [r for r in pool.map(partial(measured, kind), paths, chunksize=4) if r]
            if given.rows:
                with open(given.rows, "ab") as file:
                    for r in rows:
                        file.write(orjson.dumps(dict(corpus=corpus) | r, option=orjson.OPT_APPEND_NEWLINE))
            row = common | dict(parts=len(rows), skipped=len(paths) - len(rows)) | summed(rows)
            print(row) if given.parts else append("reading", [row])


if __name__ == "__main__":
    main()
