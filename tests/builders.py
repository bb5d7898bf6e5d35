"""What several test files build: outlines, parts, sources, archives and child processes; and how an error is caught."""

import gc
import os
import pkgutil
import re
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import orjson
import pytest

import cadvlm.stages
from cadvlm.files import write_json
from cadvlm.cad.curves import Arc, Circle, Line, Loop, Profile
from cadvlm.cad.sequence import CadSequence, Extent, Extrude, Operation, Plane, Sketch, to_deepcad
from cadvlm.errors import CadError
from cadvlm.jobs import workers

CADVLM = Path(sys.executable).with_name("cadvlm")  # the installed command
COMMAND = (sys.executable, "-m", "cadvlm")  # the command of the package that is tested
GROUND, WALL = Plane(), Plane((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0))  # the xy and the xz plane


def cases(count):
    """How many random cases a test takes: `count`, or CADVLM_CASES times as many, before a release or after a
    deep change."""
    return count * int(os.environ.get("CADVLM_CASES", 1))


def some(items, every):
    "One of so many items of a list, or of a dict, in their order; all of them with CADVLM_CASES=10."
    if isinstance(items, dict):
        return dict(some([*items.items()], every))
    return items[:: max(1, every // cases(1))]


def pace():
    """How many times as long the same work takes here and now as where bounds in seconds were set: a machine that is
    shared changes its pace by the minute. At most 1.8, so that a bound stays one on any machine."""

    def additions():
        start, total = time.process_time(), 0
        for i in range(300_000):
            total += i
        return time.process_time() - start

    return min(1.8, min(additions() for _ in range(3)) / 0.0105)  # seconds there


def keep_what_is_imported():
    "Look for garbage seldom, and not among what is imported, which stays: looking at all of it takes half a second."
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)


def warm_fork_server():
    """Start the server that worker processes are forked from, with all that they import and the compiled kernels: the
    tests start a hundred pools."""
    stages = [f"cadvlm.stages.{m.name}" for m in pkgutil.iter_modules(cadvlm.stages.__path__)]
    workers.PRELOADED += [*stages, "cadvlm.app.cli", "cadvlm.measure.stats", "cadvlm.measure.evaluate"]
    workers.PRELOADED += ["pytest", "matplotlib.backends.backend_agg"]
    workers.start_fork_server()


# --- outlines and parts


def closed(*points):
    "The loop of lines through points."
    return Loop(tuple(Line(a, b) for a, b in zip(points, points[1:] + points[:1])))


def circle(radius, x=0.0, y=0.0):
    return Loop((Circle((x, y), radius),))


def polygonal(*points):
    return Profile(closed(*points))


def rectangle(width, height, x=0.0, y=0.0):
    "The rectangle whose lowest corner is (x, y)."
    return polygonal((x, y), (x + width, y), (x + width, y + height), (x, y + height))


def disc(radius, x=0.0, y=0.0):
    return Profile(circle(radius, x, y))


def ring(outer, inner, x=0.0, y=0.0):
    return Profile(circle(outer, x, y), (circle(inner, x, y),))


def raised(depth, *profiles, operation=Operation.NEW, plane=GROUND, extent=Extent.ONE_SIDE):
    "Profiles of one sketch, extruded."
    return Extrude(Sketch(plane, profiles), depth, operation, extent)


def bracket(i):
    "An angle bracket or a disc, each with a hole; every number gives another."
    w, h = 0.05 + 0.004 * i, 0.03 + 0.002 * i
    angle = polygonal((0.0, 0.0), (w, 0.0), (w, 0.008), (0.008, 0.008), (0.008, h), (0.0, h))
    body = raised(0.02, angle, plane=WALL, extent=Extent.SYMMETRIC) if i % 2 else raised(0.01, disc(w))
    return CadSequence((body, raised(0.03, disc(0.006, 0.03), operation=Operation.CUT, extent=Extent.SYMMETRIC)))


def with_axes_rolled(sequence, steps=1):
    "The part on another side: x, y and z exchanged in a circle."

    def roll(v):
        return (*v[-steps:], *v[:-steps]) if steps else v

    def move(plane):
        return Plane(roll(plane.origin), roll(plane.x_axis), roll(plane.y_axis))

    extrudes = (replace(e, sketch=replace(e.sketch, plane=move(e.sketch.plane))) for e in sequence.extrudes)
    return CadSequence(tuple(extrudes))


def reordered(sequence, rng):
    """The same part by another history: profiles and holes shuffled, loops from another corner and the other way
    round, runs of equal operations shuffled, one extrude of each run repeated."""

    def loop(l):
        k = rng.randrange(len(l.curves))
        other = Loop(l.curves[k:] + l.curves[:k])
        return other.reversed() if rng.random() < 0.5 else other

    def profile(p):
        return Profile(loop(p.outer), tuple(rng.sample([loop(h) for h in p.holes], len(p.holes))))

    def extrude(e):
        profiles = [profile(p) for p in e.sketch.profiles]
        return replace(e, sketch=replace(e.sketch, profiles=tuple(rng.sample(profiles, len(profiles)))))

    def kind(e):
        return Operation.JOIN if e.operation is Operation.NEW else e.operation

    first, *rest = map(extrude, sequence.extrudes)
    runs = [list(run) for _, run in groupby([replace(first, operation=Operation.JOIN), *rest], key=kind)]
    return replace(sequence, extrudes=tuple(e for run in runs for e in rng.sample(run, len(run)) + run[:1]))


# --- sources and folders


def deepcad_json(sequence):
    "The bytes of a DeepCAD file of a part."
    return orjson.dumps(to_deepcad(sequence))


def write(path, data):
    "Write bytes, below folders that are made."
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


SIXTY = [f"{i // 20:04}{i:04}" for i in range(60)]  # ids of the source `sixty`
TORN = SIXTY[4]  # the one whose file is no JSON


def one_of_sixty(i):
    "One to four extrudes of lines, of lines and an arc, or of circles."
    r = 0.01 + 0.001 * i
    corners = [(0.0, 0.0), (r, 0.0), (r, r), (0.0, r)]
    square = closed(*corners)
    arched = Loop((*square.curves[:-1], Arc.through(corners[3], (-r / 9, r / 2), corners[0])))
    first = Profile((square, square, square, arched, circle(r))[i % 5])
    more = raised(0.02, rectangle(0.005, 0.005), operation=Operation.JOIN)
    return CadSequence((raised(0.01, first), *[more] * (i % 7 // 2)))


def sixty_parts(folder):
    "Fill a folder with sixty parts in three subfolders; one file is torn, one id has no split, one has no file."
    files = {id: b"{" if id == TORN else deepcad_json(one_of_sixty(i)) for i, id in enumerate(SIXTY)}
    deepcad_source(folder, files, train=["00770000", *SIXTY[:45]], validation=SIXTY[45:50], test=SIXTY[50:59])


def deepcad_source(folder, files, **splits):
    "A folder laid out as DeepCAD is: `files` are bytes by id, `splits` the ids of train, validation and test."
    for id, data in files.items():
        write(folder / f"cad_json/{id[:4]}/{id}.json", data)
    write_json(folder / "train_val_test_split.json", {s: [f"{i[:4]}/{i}" for i in ids] for s, ids in splits.items()})
    return folder


def all_files(folder):
    "`{path: bytes}` of all files below a folder."
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(Path(folder).rglob("*")) if p.is_file()}


def contents(folder):
    "`{path: bytes}` of all files outside `logs/`, whose lines hold times."
    return {path: data for path, data in all_files(folder).items() if "logs" not in Path(path).parts}


def tar(folder, path, prefix="data", mode="w"):
    "An archive of a folder, below a prefix."
    with tarfile.open(path, mode) as archive:
        archive.add(folder, prefix)
    return path


def zipped(folder, path, prefix="data", method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, f"{prefix}/{file.relative_to(folder)}")
    return path


# --- rejections


def rejection(function, *args, **kwargs):
    "The `CadError` that a call raises."
    with pytest.raises(CadError) as caught:
        function(*args, **kwargs)
    return caught.value


def reason(function, *args, **kwargs):
    "The reason code of the error that a call raises."
    return rejection(function, *args, **kwargs).reason


def error_line(capsys):
    "The one line on stderr with which a command ended."
    error = capsys.readouterr().err
    assert error.startswith("cadvlm: ") and error.count("\n") == 1, error
    return error.strip()


def reason_code(line):
    "The reason code at the end of an error line."
    return re.search(r"\[(\w+)\]$", line.strip())[1]


def numbers(text):
    "The numbers in a text, as they are written."
    return re.findall(r"\d+(?:\.\d+)?", text.replace(",", ""))


# --- modules and processes


def module_of(function):
    "The module that defines a function, for tests that replace something in it."
    return sys.modules[function.__module__]


def start(*command, **options):
    "A child process that hears Ctrl-C, also where the tests themselves do not: `nohup make test &` ignores SIGINT."
    return subprocess.Popen(command, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), **options)


def environment(*folders, **variables):
    "Environment of a child that imports this cadvlm, and first from other folders."
    path = [*map(str, folders), str(Path(cadvlm.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return os.environ | dict(PYTHONPATH=os.pathsep.join(path)) | variables


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
