"""Measure what quantisation costs and how fast conversations are made: `make bench` writes `quantisation.csv` and
`conversion.csv` of `data/results`.

The study of quantisation writes every part of the reference data (beside the project, or CADVLM_SHARED) with five
steps, reads it back, builds it, and compares: one row for each part and step, which replace those of other code.
The conversion rows are of the whole stage as a
user starts it, start-up, reading and writing included, and of its phases in one process; those of a corpus come from
one run, since machines are noisy.
"""
import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import corpora, statistics
from results import about, append, is_measured, rows_of, write
from cadvlm.text import cadquery_writer, compact
from cadvlm.corpus.dataset import Dataset
from cadvlm.files import read_json, write_bytes, write_json
from cadvlm.jobs.journal import code_fingerprint
from cadvlm.measure.results import has_row
from cadvlm.text.language import decode, encode
from cadvlm.cad.normal import normal_form
from cadvlm.cad.sequence import loads
from cadvlm.errors import CadError
from cadvlm.cad.overlap import iou
from cadvlm.cad.solid import build

WRITERS = dict(cadquery=cadquery_writer.write, compact=compact.write)
CODE = ("cad", "text", "jobs", "stages.convert")
GRIDS = {f"{bits} bits": 200 / 2**bits for bits in (6, 7, 8, 9)} | {"±100": 1.0}
PHASES = ("read", "normal form", "write", "build the part", "read the code", "build the code", "compare")


def quantised(sequence, solid, step):
    "`(IoU, characters)` of a part with a quantisation step; 0 where there is no solid."
    try:
        text = encode(sequence, "cadquery", frame=solid.frame, step=step)
        return iou(build(decode(text)), solid, align="frame"), len(text)
    except CadError:
        return 0.0, 0


def quantisation_study(paths):
    for path in paths:
        sequence = loads(path.read_bytes(), path.name)
        solid = build(sequence)
        for name, step in GRIDS.items():
            value, characters = quantised(sequence, solid, step)
            yield dict(quantisation=name, step=step, part=path.stem, iou=round(value, 5), characters=characters)


def phases(path, language):
    "Seconds of each phase of converting one part; those from `build the part` on are what verifying costs."
    spent, last = {}, time.perf_counter()

    def lap(phase):
        nonlocal last
        now = time.perf_counter()
        spent[phase] = now - last
        last = now

    data = path.read_bytes()
    sequence = loads(data, path.name)
    lap("read")
    solid = build(sequence)
    lap("build the part")
    try:
        features = normal_form(sequence, 1.0, solid.frame)
        lap("normal form")
        text = WRITERS[language](features)
        lap("write")
        back = decode(text, language)
        lap("read the code")
        again = build(back)
        lap("build the code")
        iou(solid, again, align="frame")
        lap("compare")
    except CadError:
        return None
    return spent


def measure_phases(paths, language):
    for path in paths[:5]:
        phases(path, language)
    spent = [s for s in (phases(path, language) for path in paths) if s]
    rows = [dict(what=f"phase: {p}", language=language, **statistics([1e3 * s[p] for s in spent])) for p in PHASES]
    return [row | dict(parts=len(spent)) for row in rows]


def ready(paths, folder):
    "A dataset of these files that is drawn, at the smallest size: how large images are does not matter here."
    dataset = Dataset(folder)
    for path in paths:
        write_bytes(dataset.json_path(path.stem), path.read_bytes())
    write_json(dataset.path / "train_val_split.json", dict(train=[p.stem for p in paths], validation=[], test=[]))
    cadvlm(dataset, "render", "--size", "64")
    return dataset


def cadvlm(dataset, *arguments):
    "Seconds of a command on a dataset."
    command = [sys.executable, "-c", "import sys; from cadvlm.app.cli import main; sys.exit(main())", arguments[0],
               str(dataset.path), *arguments[1:]]
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"TQDM_DISABLE": "1"})
    return time.perf_counter() - start


def measure_stage(dataset, language, verify, workers=2):
    "The row of `cadvlm convert`, with nothing left of an earlier run."
    dataset.log_path("convert", ".jsonl").unlink(missing_ok=True)
    seconds = cadvlm(dataset, "convert", "--language", language, "--verify" if verify else "--no-verify", "--workers",
                     str(workers))
    made = read_json(dataset.path / "tinyllava_metadata.json")
    conversations = sum(made["samples"].values())
    return dict(what=f"stage: {workers} processes, {'each code built and compared' if verify else 'not verified'}",
                language=language, parts=made["parts"], seconds=round(seconds, 2),
                parts_per_minute=round(60 * made["parts"] / seconds),
                conversations_per_minute=round(60 * conversations / seconds))


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--count", type=int, default=5000, help="synthetic parts (5000)")
    options.add_argument("--only", choices=("quantisation", "conversion"), help="one of the two")
    options = options.parse_args()
    for corpus, paths in corpora(options.count):
        common = about(corpus, len(paths), CODE)
        same = dict(code=code_fingerprint("cad", "text"))
        if corpus != "synthetic" and options.only != "conversion" and not has_row(rows_of("quantisation"), same):
            write("quantisation", [row | same for row in quantisation_study(paths)])
        if options.only == "quantisation" or is_measured("conversion", common):
            continue
        with tempfile.TemporaryDirectory() as folder:
            dataset = ready(paths, Path(folder) / "dataset")
            rows = [measure_stage(dataset, language, verify) for language in WRITERS for verify in (False, True)]
        rows += [row for language in WRITERS for row in measure_phases(paths[:1000], language)]
        append("conversion", [common | row for row in rows])


if __name__ == "__main__":
    main()
