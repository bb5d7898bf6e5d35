"""Count how programs of other people for CadQuery are read: `python tools/bench_cadquery_public.py FOLDER` writes
`data/results/cadquery_public.csv`.

Each folder in FOLDER is one kind of programs, `KIND/NAME.py`; what the programs say is nowhere in this project. They
are executed, each in a process with little time and memory: run only what you would run yourself. A program is valid
when CadQuery builds a solid of it. A valid one is equal, where volume, area, box and number of pieces of what is read
agree with what is executed, wrong, outside of the language, or rejected for another reason.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from datetime import date
from pathlib import Path

import numpy as np

from cadvlm.cad.solid import build
from cadvlm.errors import CadError
from cadvlm.measure.execute import check_cadquery
from cadvlm.text.cadquery_reader import read
from results import RESULTS, rows_of, write

VOLUME, AREA, BOX = 5e-3, 2e-2, 2e-3  # shares of volume, area and size by which circles in chords may differ
SECONDS, BYTES = 60, 12 * 2**30
COLUMNS = ("equal", "wrong", "outside_language", "rejected")

CHILD = """
import json, os, resource, sys, types
import cadquery
nothing = lambda *_, **__: None
for name in ('ocp_vscode', 'cq_vscode', 'jupyter_cadquery', 'cadquery.vis'):     # viewers draw nothing of the part
    viewer = sys.modules[name] = types.ModuleType(name)
    for each in ('show', 'show_object', 'save_screenshot', 'set_port', 'set_defaults', 'display', 'reset_show'):
        setattr(viewer, each, nothing)
cadquery.exporters.export = cadquery.Shape.exportStl = cadquery.Shape.exportStep = nothing
seconds, size, kinds = int(sys.argv[1]), int(sys.argv[2]), (cadquery.Workplane, cadquery.Shape)

def built(text):
    shown = []
    names = dict(__name__='__main__', print=nothing, show_object=lambda part, *_, **__: shown.append(part))
    exec(compile(text, 'program', 'exec'), names)
    last = [names.get('result'), names.get('r'), *shown[::-1], *list(names.values())[::-1]]
    part = next(p for p in last if isinstance(p, kinds))
    shapes = [part] if isinstance(part, cadquery.Shape) else [s for s in part.vals() if isinstance(s, cadquery.Shape)]
    shapes = [solid for s in shapes for solid in s.Solids()]
    box = cadquery.Compound.makeCompound(shapes).BoundingBox(1e-6)
    return dict(volume=sum(s.Volume() for s in shapes), area=sum(s.Area() for s in shapes), pieces=len(shapes),
                valid=all(s.isValid() for s in shapes),
                box=[box.xmin, box.ymin, box.zmin, box.xmax, box.ymax, box.zmax])

for text in json.load(sys.stdin):
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
        try: found = built(text)
        except BaseException as e: found = dict(error=repr(e)[:200])
        os.write(theirs, json.dumps(found).encode())
        os._exit(0)
    os.close(theirs)
    found = os.read(ours, 2**16)
    os.close(ours)
    os.waitpid(child, 0)
    print(found.decode() or json.dumps(dict(error='too much time or memory')), flush=True)
"""


def executed(texts, seconds=SECONDS):
    "What CadQuery builds of programs: volume, area, number of pieces and box of each, or an error."
    with tempfile.TemporaryDirectory() as place:
        done = subprocess.run(
            [sys.executable, "-I", "-c", CHILD, str(seconds), str(BYTES)], input=json.dumps(texts), text=True,
            stdout=subprocess.PIPE, cwd=place, env=dict(PATH=os.defpath, HOME=place), check=True)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def is_equal(solid, true):
    "Do volume, area, box and number of pieces of a solid agree with what was executed?"
    box = np.array(true["box"]).reshape(2, 3)
    off = np.abs(solid.bounds - box).max() / np.ptp(box, axis=0).max()
    shares = abs(solid.volume / true["volume"] - 1), abs(solid.area / true["area"] - 1)
    return bool(shares[0] < VOLUME and shares[1] < AREA and off < BOX and solid.pieces == true["pieces"])


def verdict(text, true):
    "`(what the reader makes of a valid program, the message where it is rejected)`."
    try:
        solid = build(read(text))
    except CadError as error:
        return ("outside_language" if error.reason == "outside_language" else "rejected"), f"{error.reason}: {error}"
    return ("equal" if is_equal(solid, true) else "wrong"), ""


def measured(folder, seconds=SECONDS):
    "The row of the programs of a folder; what is not equal is printed."
    texts = {path.stem: path.read_text(encoding="utf-8", errors="replace") for path in sorted(folder.glob("*.py"))}
    found = []
    for (name, text), true in zip(texts.items(), executed([*texts.values()], seconds), strict=True):
        if not true.get("volume", 0) > 0:
            print(f"{name}: CadQuery builds no solid, {true.get('error', 'of volume 0')}", file=sys.stderr)
            continue
        found.append(verdict(text, true))
        if found[-1][0] != "equal":
            print(f"{name}: {': '.join(found[-1])}{'' if true['valid'] else ' (invalid solid)'}", file=sys.stderr)
    counts = Counter(what for what, _ in found)
    reasons = Counter(message.partition(":")[0] for what, message in found if what == "rejected")
    read_ = dict(read=counts["equal"] + counts["wrong"]) | {c: counts[c] for c in COLUMNS}
    return dict(kind=folder.name, date=f"{date.today()}", programs=len(texts), valid=len(found)) | read_ | dict(
        reasons=" ".join(f"{reason}={n}" for reason, n in sorted(reasons.items())))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a folder of folders of programs, one for each kind")
    folder = parser.parse_args().folder
    check_cadquery()
    rows = [measured(path) for path in sorted(folder.iterdir()) if path.is_dir() and any(path.glob("*.py"))]
    if not rows:
        sys.exit(f"{folder} holds no folder with programs, KIND/NAME.py")
    kinds = {row["kind"] for row in rows}
    write("cadquery_public", [r for r in rows_of("cadquery_public") if r["kind"] not in kinds] + rows)
    print(f"{RESULTS / 'cadquery_public.csv'}: {len(rows)} rows")


if __name__ == "__main__":
    main()
