"""Read, build, compare and draw programs, each in a process of its own: `{name: [language, code]}` as JSON in, a JSON
row a line out.

The processes are forked from this one, which has everything imported and the kernels loaded, so that only the work of
the program itself counts. They run on one processor: threads that wait for each other are no work.
"""

import gc
import json
import os
import resource
import sys
import time
import traceback

from cadvlm.cad.drawing import project, warm_up
from cadvlm.text.language import decode
from cadvlm.errors import CadError
from cadvlm.cad.overlap import iou
from cadvlm.cad.solid import build
from hostile import programs

SECONDS, BYTES = 8, 2**30  # a process that goes further is ended
OTHERS = (
    "plate_with_holes(8, 0.3, 1, 0.0)",
    "woven(40)",
    "rods(10, 30, 50, 0.4)",
)  # what a solid is compared with, besides itself


def stages(language, code, made):
    """The stages of scoring and drawing a program, one after the other; they yield their names when they are
    done. The solid is appended to `made`."""
    sequence = decode(code, language)
    yield "read"
    solid = build(sequence)
    made.append(solid)
    yield "build"
    for view in ("front", "top", "right", "iso"):
        project(solid, view)
        yield view
    iou(solid, solid)
    yield "iou"


def report(write, done):
    "Write seconds of processor time of each stage as it ends, and why it was rejected."
    start = time.process_time()
    try:
        for stage in done:
            write({stage: time.process_time() - start})
            start = time.process_time()
    except CadError as error:
        write(dict(reason=error.reason, message=str(error), rejected=time.process_time() - start))
    except Exception:
        write(dict(error=traceback.format_exc()))


def compared(solid, others):
    "Seconds of comparisons with other solids."
    for name, other in others.items():
        start = time.process_time()
        try:
            iou(other, solid)
        except CadError:
            pass
        yield {f"beside {name}": time.process_time() - start}


def anonymous():
    "Bytes of this process that are no file's, and of files."
    with open("/proc/self/status") as file:
        rows = dict(line.split(":", 1) for line in file)
    return [1024 * int(rows[name].split()[0]) for name in ("RssAnon", "RssFile")]


def child(write, language, code, others):
    "What a forked process does."
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_DATA, (BYTES, BYTES))
    before, _ = anonymous()
    made = []
    report(write, stages(language, code, made))
    most = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - anonymous()[1]
    write(dict(megabytes=max(0, most - before) / 2**20))
    for solid in made:
        for row in compared(solid, others):
            write(row)
    write(dict(whole=True))


def measured(name, language, code, others):
    """The row of a program: seconds of each stage, memory above that of the process it was forked from, and
    whether it came to an end."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            child(lambda row: os.write(theirs, json.dumps(row).encode() + b"\n"), language, code, others)
        finally:
            os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as file:
        rows = [json.loads(line) for line in file]
    os.waitpid(pid, 0)
    found = dict(name=name, whole=False, megabytes=BYTES / 2**20)
    for row in rows:
        found |= row
    return found | dict(
        seconds=sum(found.get(s, 0) for s in ("read", "build", "front", "top", "right", "iso", "iou", "rejected"))
    )


def main():
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    warm_up()
    known = programs()
    others = {name: build(decode(code, language)) for name in OTHERS for language, code in [known[name]]}
    gc.disable()
    gc.freeze()  # pages that nobody writes to stay shared
    for name, (language, code) in json.load(sys.stdin).items():
        print(json.dumps(measured(name, language, code, others)), flush=True)


if __name__ == "__main__":
    main()
