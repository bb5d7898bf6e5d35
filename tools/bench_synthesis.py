"""Measure the synthetic corpus and append to `data/results/synthesis.csv`: `python tools/bench_synthesis.py` (about 10
minutes on two cores).

Each promise of the chapter on construction histories is measured by a reference implementation: the histograms of
what was read back from the files; pieces and volumes of solids that are built from
each beginning of a history; flags of the reader; duplicates by normal form; what quantisation keeps by the volume of
what both solids have in common; and the time of the whole command.
"""
import argparse
import os
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from hashlib import blake2b
from pathlib import Path

from results import about, append, is_measured
from cadvlm.corpus.folder import FolderSource
from cadvlm.cad.normal import normal_form, to_sequence
from cadvlm.cad.curves import Circle, Line
from cadvlm.cad.sequence import CadSequence, loads
from cadvlm.errors import CadError
from cadvlm.cad.overlap import iou
from cadvlm.cad.solid import build
from cadvlm.stages.synthesize import synthesize
from cadvlm.synth.histories import DEEPCAD_HISTOGRAMS, distance, histograms

CODE = ("cad", "synth", "jobs", "stages.synthesize")
SEEN = 2e-4  # share of the volume that an extrude must change
FINE = 0.5  # units of the frame that the change must measure


def placed(solid, frame):
    "The manifold of a solid in units of another frame."
    growth = frame.scale / solid.frame.scale
    return solid.manifold.scale([growth] * 3).translate(frame.to_frame(solid.frame.centre))


def is_seen(sequence, frame):
    """Does each extrude change the solid, the beginning with it against the beginning without it, by something of half
    a unit in each direction?"""
    steps = [placed(build(CadSequence(sequence.extrudes[:i])), frame) for i in range(1, len(sequence.extrudes) + 1)]
    for before, after in zip(steps, steps[1:]):
        change = max(before - after, after - before, key=lambda m: m.volume())
        low, high = change.bounding_box()[:3], change.bounding_box()[3:]
        if change.volume() < SEEN * max(before.volume(), after.volume()) or min(b - a
            for a, b in zip(low, high)) < FINE:
            return False
    return True


def shape(sequence):
    "Is it a box or a cylinder?"
    profiles = sequence.extrudes[0].sketch.profiles
    if len(sequence.extrudes) > 1 or len(profiles) > 1 or profiles[0].holes:
        return "other"
    curves = profiles[0].outer.curves
    if [type(c) for c in curves] == [Circle]:
        return "cylinder"
    level = all(isinstance(c, Line) and min(abs(c.end[0] - c.start[0]), abs(c.end[1] - c.start[1])) < 1e-9
                for c in curves)
    return "box" if len(curves) == 4 and level else "other"


def name(features):
    "A short name of a normal form, the same for equal ones."
    return blake2b(repr(features).encode(), digest_size=12).hexdigest()


def examine(folder, id):
    "What is measured of one part."
    sequence = loads(FolderSource(folder).json_path(id).read_bytes(), id)
    solid = build(sequence)
    features = normal_form(sequence, 1.0, solid.frame)
    try:
        rough, kept = (name(normal_form(sequence, 2.0, solid.frame)),
                       iou(build(solid.frame.apply(sequence)), build(to_sequence(features))))
    except CadError:  # steps of two units may leave nothing; then no other part looks like it
        rough, kept = id, 0.0
    counts = {k: dict(h) for k, h in histograms([sequence]).items()}
    return dict(counts=counts, pieces=solid.pieces, seen=is_seen(sequence, solid.frame), flags=sequence.flags,
                name=name(features), rough=rough, kept=kept, shape=shape(sequence))


def repeated(names):
    "Share of parts, in percent, that repeat an earlier one."
    return 100 * (1 - len(set(names)) / len(names))


def together(rows):
    "The histograms of all parts."
    sums = {k: Counter() for k in DEEPCAD_HISTOGRAMS}
    for row in rows:
        for k, counts in row["counts"].items():
            sums[k].update(counts)
    return sums


def contents(folder):
    "A hash of all files of a corpus."
    digest = blake2b()
    for path in sorted((folder / "cad_json").rglob("*.json")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def measures(rows):
    "`(measure, value, unit)` of some examined parts."
    for k, h in together(rows).items():
        yield f"distance of {k}", distance(h, DEEPCAD_HISTOGRAMS[k]), "total variation"
    percent = lambda test: 100 * sum(map(test, rows)) / len(rows)
    yield "in pieces", percent(lambda r: r["pieces"] != 1), "%"
    yield "with an invisible extrude", percent(lambda r: not r["seen"]), "%"
    yield "with a flag", percent(lambda r: bool(r["flags"])), "%"
    yield "duplicates", repeated([r["name"] for r in rows]), "%"
    yield "near duplicates", repeated([r["rough"] for r in rows]), "%"
    yield "boxes", percent(lambda r: r["shape"] == "box"), "%"
    yield "cylinders", percent(lambda r: r["shape"] == "cylinder"), "%"
    yield "kept in quantisation", percent(lambda r: r["kept"] >= 0.9), "%"


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--count", type=int, default=5000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--workers", type=int, default=2)
    given = options.parse_args()
    common = about("synthetic", given.count, CODE) | dict(seed=given.seed, cores=os.cpu_count())
    if is_measured("synthesis", common, parts=given.count, seed=given.seed):
        return
    with tempfile.TemporaryDirectory() as there:
        there, rows = Path(there), []
        os.environ["TQDM_DISABLE"] = "1"
        start = time.perf_counter()
        made = synthesize(there / "two", count=given.count, seed=given.seed, workers=given.workers)
        speed = 60 * made.made / (time.perf_counter() - start)
        start = time.process_time()
        synthesize(there / "one", count=given.count, seed=given.seed, workers=1)
        effort = 1000 * (time.process_time() - start) / given.count
        equal = contents(there / "one") == contents(there / "two")
        with ProcessPoolExecutor(given.workers) as pool:
            rows = list(pool.map(partial(examine, there / "two"), FolderSource(there / "two").ids, chunksize=50))
    found = [*measures(rows), ("speed, two workers", speed, "parts/minute"), ("processor time", effort, "ms/part"),
             ("same bytes from 1 and 2 workers", 100.0 * equal, "%")]
    append("synthesis", [dict(measure=m, value=f"{v:.4g}", unit=unit) | common for m, v, unit in found])


if __name__ == "__main__":
    main()
