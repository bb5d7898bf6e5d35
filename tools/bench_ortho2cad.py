"""Measure how well the public sheets of Ortho2CAD are read and append to `data/results/ortho2cad.csv`:
`python tools/bench_ortho2cad.py` (two minutes).

The drawings and STEP solids are those of the reference data. Each sheet is read, written as code, built from it again,
and compared by the protocol `ortho2cad`; with our own alignment of frames, which neither turns nor forgives a
position, the mean is in the column `mean_iou_frame`. A sheet that is rejected counts with an IoU of 0.

With `--changes`, ten sheets of each set are read as a scanner or a phone would give them, and the rows go to
`data/results/ortho2cad_changed.csv`: which share is read, rejected, certified, and certified but wrong.
"""
import argparse
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import orjson
from PIL import Image

from results import ROOT, SHARED, about, append, is_measured
from cadvlm.cad.overlap import iou
from cadvlm.cad.polygons import IDENTITY
from cadvlm.cad.solid import build
from cadvlm.cad.step import load_step
from cadvlm.corpus.answer import answer
from cadvlm.jobs.limits import attempt
from cadvlm.measure.summary import interval
from cadvlm.reading.sheet_image import read_sheet_image
from cadvlm.text.language import decode

sys.path.insert(0, str(ROOT / "tests"))
from spoiled_sheets import CHANGES

CORPORA = {"Ortho2CAD, DeepCAD": "deepcad", "Ortho2CAD, Fusion 360": "fusion360"}
PACKAGES = ("manifold3d", "numba", "opencv-python-headless", "python-sat")
CODE = ("cad", "text", "reading")
LIMIT = 30.0  # seconds of processor time for one sheet
WRONG = 0.98  # IoU below which a certified part is wrong


def read(path, change="as it is"):
    "`(code, is it certified?)` of a sheet."
    reading, _ = read_sheet_image(CHANGES[change](np.asarray(Image.open(path).convert("L"))))
    code = answer(reading.sequence, build(reading.sequence), "cadquery", "exact", IDENTITY)["code"]
    return code, reading.certified


def measured(path, change="as it is"):
    "What is measured of one sheet."
    start = time.process_time()
    row = attempt(lambda _: read(path, change), path.stem, timeout=LIMIT)
    common = dict(id=path.stem, seconds=time.process_time() - start, iou=0.0, iou_frame=0.0, certified=False)
    if "value" not in row:
        return common | dict(reason=row["reason"], message=row["message"])
    (code, certified), truth = row["value"], load_step(path.with_suffix(".step"))
    solid = build(decode(code, "cadquery"))
    found = {name: iou(truth, solid, align=align) for name, align in (("iou", "inertia"), ("iou_frame", "frame"))}
    return common | found | dict(certified=bool(certified))


def summed(rows):
    "The columns of the table."
    ious, seconds = np.array([r["iou"] for r in rows]), [r["seconds"] for r in rows]
    sure = [r["iou"] for r in rows if r["certified"]]
    low, high = interval(ious, [r["id"] for r in rows])
    return dict(mean_iou=round(float(ious.mean()), 4), low=round(float(low), 4), high=round(float(high), 4),
                mean_iou_frame=round(float(np.mean([r["iou_frame"] for r in rows])), 4),
                median_iou=round(float(np.median(ious)), 4), above_98=round(100 * float(np.mean(ious > WRONG)), 1),
                rejected=sum("reason" in r for r in rows), certified=round(100 * len(sure) / len(rows), 1),
                lowest_certified_iou=round(min(sure, default=0.0), 5),
                certified_and_wrong=sum(i < WRONG for i in sure),
                seconds_median=round(float(np.median(seconds)), 3), seconds_most=round(max(seconds), 1))


def measure_changes(workers):
    "Rows of sheets that were changed."
    paths = [p for name in CORPORA.values() for p in sorted((SHARED / "ortho2cad" / name).glob("*.png"))[::4]]
    common = about("Ortho2CAD, every fourth sheet", len(paths), CODE, PACKAGES)
    with ProcessPoolExecutor(workers) as pool:
        for change in CHANGES if paths else ():
            if is_measured("ortho2cad_changed", common, change=change):
                continue
            rows = list(pool.map(partial(measured, change=change), paths))
            reasons = Counter(r["reason"] for r in rows if "reason" in r)
            counted = {k: v for k, v in summed(rows).items() if k in ("mean_iou", "median_iou", "certified",
                       "certified_and_wrong", "seconds_median")}
            read = round(100 * sum("reason" not in r for r in rows) / len(rows), 1)
            named = ", ".join(f"{k} {n}" for k, n in reasons.most_common())
            append("ortho2cad_changed", [common | dict(change=change, read=read) | counted | dict(rejected=named)])


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", default="", help="corpora with this in their name")
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--rows", type=Path, help="JSON lines to write, one for each sheet")
    options.add_argument("--changes", action="store_true", help="sheets as scanners and phones give them")
    given = options.parse_args()
    if given.changes:
        return measure_changes(given.workers)
    for corpus, name in CORPORA.items():
        paths = sorted((SHARED / "ortho2cad" / name).glob("*.png"))
        common = about(corpus, len(paths), CODE, PACKAGES)
        if not paths or given.only not in corpus or is_measured("ortho2cad", common):
            continue
        with ProcessPoolExecutor(given.workers) as pool:
            rows = list(pool.map(measured, paths))
        if given.rows:
            with open(given.rows, "ab") as file:
                for r in rows:
                    row = dict(corpus=corpus) | r
                    file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY))
        append("ortho2cad", [common | summed(rows)])


if __name__ == "__main__":
    main()
