"""Measure rendering and append to `data/results/rendering.csv`: `make bench`.

On the real files of the reference data (beside the project, or CADVLM_SHARED) and on 5,000 synthetic parts:
milliseconds of each phase in one process, parts per minute of the
whole stage with one and with two processes (start-up, reading and writing included), and Open CASCADE's hidden lines
on the same files. All rows of a corpus come from one run, since
machines are noisy: compare them with each other rather than with rows of another day.
"""
import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import orjson

from results import ROOT, SHARED, about, append, is_measured

from cadvlm.corpus.dataset import Dataset
from cadvlm.files import write_bytes, write_json
from cadvlm.cad.drawing import Drawing, encode_png
from cadvlm.cad.hidden import hidden_lines
from cadvlm.cad.lines import merge_collinear, polylines
from cadvlm.cad.sequence import loads
from cadvlm.errors import CadError
from cadvlm.cad.solid import build

VIEWS = ("front", "top", "right")
PHASES = ("read", "build", "edges", "hidden lines", "draw", "encode", "write")
CODE = ("cad", "jobs", "stages.render")


def phases(path, folder):
    "Seconds of each phase for one part, all three views."
    spent, last = dict.fromkeys(PHASES, 0.0), time.perf_counter()

    def lap(phase):
        nonlocal last
        now = time.perf_counter()
        spent[phase] += now - last
        last = now

    sequence = loads(path.read_bytes(), path.name)
    lap("read")
    solid = build(sequence)
    solid.mesh
    lap("build")
    solid.edges
    lap("edges")
    for view in VIEWS:
        pieces = merge_collinear(hidden_lines(solid, view))
        drawing = Drawing(view, polylines(pieces[pieces[:, 4] == 0]), polylines(pieces[pieces[:, 4] == 1]))
        lap("hidden lines")
        image = drawing.rasterize(512)
        lap("draw")
        data = encode_png(image)
        lap("encode")
        write_bytes(folder / f"{path.stem}_{view}.png", data)
        lap("write")
    return spent


def statistics(milliseconds):
    return dict(median_ms=round(float(np.median(milliseconds)), 3), mean_ms=round(float(np.mean(milliseconds)), 3),
                p95_ms=round(float(np.percentile(milliseconds, 95)), 3))


def measure_phases(paths):
    "Rows of the phases and of their sum; the first parts are drawn twice, so that compiling is not counted."
    with tempfile.TemporaryDirectory() as folder:
        for path in paths[:5]:
            phases(path, Path(folder))
        spent = [phases(path, Path(folder)) for path in paths]
    rows = [dict(what=f"phase: {p}", **statistics([1e3 * s[p] for s in spent])) for p in PHASES]
    total = [1e3 * sum(s.values()) for s in spent]
    return rows + [dict(what="phase: all", **statistics(total), parts_per_minute=round(60e3 / np.mean(total)))]


def peak_of_session(session):
    "Megabytes of the largest process of a session so far (Linux; 0 elsewhere)."
    peak = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[3]) == session:
                peak = max(peak,
                           *(int(line.split()[1]) for line in (folder / "status").read_text().splitlines()
                             if line.startswith("VmHWM")))
        except (OSError, TypeError):
            continue  # it has ended meanwhile
    return peak / 1024


def measure_stage(paths, workers, times=1):
    """The row of `cadvlm render` on a dataset of these files, as a user starts it.

    With `times` each of them is there so many times under other ids, so that start-up weighs as in a larger corpus.
    """
    with tempfile.TemporaryDirectory() as folder:
        dataset = Dataset(Path(folder) / "dataset")
        files = {f"{k}{path.stem[1:]}": path for k in range(times) for path in paths}
        for id, path in files.items():
            write_bytes(dataset.json_path(id), path.read_bytes())
        write_json(dataset.path / "train_val_split.json", dict(train=list(files), validation=[], test=[]))
        start, peak = time.perf_counter(), 0
        command = [sys.executable, "-c", "import sys; from cadvlm.app.cli import main; sys.exit(main())", "render",
                   str(dataset.path), "--workers", str(workers)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | {"TQDM_DISABLE": "1"},
                                   start_new_session=True)
        while process.poll() is None:
            peak = max(peak, peak_of_session(process.pid))
            time.sleep(0.2)
        seconds = time.perf_counter() - start
        images = sum(1 for _ in dataset.path.glob("images/*/*.png"))
        assert process.returncode == 0 and images == len(
            VIEWS) * len(files), f"exit code {process.returncode}, {images} images of {len(files)} parts"
    return dict(what=f"stage: {workers} process{'es' if workers > 1 else ''}{f', {times} times over' * (times > 1)}",
                parts=len(files), mean_ms=round(1e3 * seconds * workers / len(files), 3),
                parts_per_minute=round(60 * len(files) / seconds), peak_mb=round(peak))


def measure_open_cascade(paths, seconds):
    """Rows of cadvlm and of Open CASCADE on the same files, three views, in this process and with the files in turn:

    `hidden lines` is what turns a finished solid into polylines: HLRBRep_Algo there, edges, hiding, merging and
    chaining here. `part and hidden lines` has the building of the solid in it, and what the
    algorithm wants of it (united faces there).
    """
    sys.path.insert(0, str(ROOT / "tests"))
    import occ
    import occ_hlr

    times, end, now = [], time.perf_counter() + seconds, time.perf_counter
    for path in paths:
        if now() > end:
            break
        data, a = path.read_bytes(), now()
        try:
            part = occ_hlr.Part(occ.occ_solid(orjson.loads(data)))
        except occ.OccFailure:
            continue
        b = now()
        for view in VIEWS:
            part.draw(view)
        c = now()
        solid = build(loads(data))
        solid.mesh
        d = now()
        for view in VIEWS:
            pieces = merge_collinear(hidden_lines(solid, view))
            polylines(pieces[pieces[:, 4] == 0]), polylines(pieces[pieces[:, 4] == 1])
        times.append((d, now(), c - b, c - a, d - c))
    ours, theirs, theirs_all, our_build = (np.array([1e3 * t for t in column])
                                           for column in ([t[1] - t[0] for t in times], *zip(*[t[2:] for t in times])))
    rows = [("hidden lines, cadvlm", ours), ("hidden lines, Open CASCADE HLRBRep_Algo", theirs),
            ("part and hidden lines, cadvlm", ours + our_build), ("part and hidden lines, Open CASCADE", theirs_all)]
    return [dict(what=what, parts=len(times), **statistics(ms)) for what, ms in rows]


def buildable(paths):
    "The files that build."
    for path in paths:
        try:
            build(loads(path.read_bytes(), path.name))
        except CadError:
            continue
        yield path


def corpora(count):
    "`(name, files)` of the corpora: real files where they are, and synthetic ones made for the occasion."
    real = list(buildable(sorted((SHARED / "deepcad" / "cad_json").rglob("*.json"))))
    if real:
        yield "DeepCAD sample", real
    with tempfile.TemporaryDirectory() as folder:
        from cadvlm.stages.synthesize import synthesize

        synthesize(output=Path(folder) / "synthetic", count=count)
        yield "synthetic", sorted((Path(folder) / "synthetic" / "cad_json").rglob("*.json"))


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--count", type=int, default=5000, help="synthetic parts (5000)")
    options.add_argument("--occ-seconds", type=float, default=600, help="time for Open CASCADE (600)")
    options.add_argument("--again", action="store_true", help="measure what has been measured with this code")
    options = options.parse_args()
    for corpus, paths in corpora(options.count):
        common = about(corpus, len(paths), CODE)
        if not options.again and is_measured("rendering", common, parts=len(paths)):
            continue
        rows = measure_phases(paths[:1000]) + [measure_stage(paths, workers) for workers in (1, 2)]
        if corpus != "synthetic":
            rows.append(measure_stage(paths, 2, times=10))
            rows += measure_open_cascade(paths, options.occ_seconds)
        append("rendering", [common | row for row in rows])


if __name__ == "__main__":
    main()
