"""What CadQuery builds of programs, in a process of its own, each program in a fork with little memory and time; and
a process that has imported CadQuery, which takes seconds, and forks for each script that needs it."""

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

SERVE = """
import json, os, sys, traceback
import cadquery

def run(script, folder):
    for stream, name in enumerate(('in', 'out', 'err')):
        os.dup2(os.open(os.path.join(folder, name), os.O_RDONLY if name == 'in' else os.O_WRONLY | os.O_CREAT), stream)
    sys.stdin, code = open(0), 1
    try:
        exec(script, dict(__name__='__main__'))
        code = 0
    except BaseException: traceback.print_exc()
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)

for line in sys.stdin:
    child = os.fork()
    if not child: run(*json.loads(line))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@lru_cache
def server():
    "The process that has imported CadQuery, for all tests of this process."
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
    process = subprocess.Popen([sys.executable, "-c", SERVE], **pipes)
    atexit.register(end, process)
    return process


def end(process):
    "Kill it and what it has forked."
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def printed(script, given, seconds):
    "What a Python script with CadQuery prints, in a fork that imported it before; `given` is its input, as JSON."
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "in").write_text(json.dumps(given))
        process = server()
        alarm = threading.Timer(seconds, end, [process])
        alarm.start()
        try:
            print(json.dumps((script, folder)), file=process.stdin, flush=True)
            code = process.stdout.readline().strip()
        finally:
            alarm.cancel()
        if not code:
            server.cache_clear()  # it was killed: the next script has another
        assert code == "0", Path(folder, "err").read_text()[-2000:] if code else f"no end in {seconds} s"
        return Path(folder, "out").read_text()

SCRIPT = """
import json, os, resource, sys
from cadquery import Shape, Workplane

def shapes(work): return [s for s in work.vals() if isinstance(s, Shape)]
def watched(method):
    def call(self, *args, **kwargs):
        made = method(self, *args, **kwargs)
        sound.append(all(s.isValid() for s in shapes(made)))
        return made
    return call
for name in 'extrude cutBlind cutThruAll hole cboreHole box cylinder union cut intersect'.split():
    setattr(Workplane, name, watched(getattr(Workplane, name)))

def built(text):
    names = {}
    exec(text, names)
    part = shapes(names['r'])
    boxes = [s.BoundingBox(1e-6) for s in part]
    low = [min(getattr(b, axis + 'min') for b in boxes) for axis in 'xyz']
    high = [max(getattr(b, axis + 'max') for b in boxes) for axis in 'xyz']
    return dict(volume=sum(s.Volume() for s in part), area=sum(s.Area() for s in part), box=low + high)

for text in json.load(sys.stdin):
    pid, sound = os.fork(), []
    if not pid:
        resource.setrlimit(resource.RLIMIT_AS, (12 * 2**30,) * 2)
        resource.setrlimit(resource.RLIMIT_CPU, (10, 10))
        try: found = built(text) | dict(sound=all(sound))
        except BaseException as e: found = dict(volume=0, error=repr(e)[:200], sound=all(sound))
        print(json.dumps(found), flush=True)
        os._exit(0)
    if os.waitpid(pid, 0)[1]: print(json.dumps(None), flush=True)
"""


def executed(texts):
    """Volume, area and box that CadQuery builds of programs, or an `error`, and whether each solid on the way is
    `sound`; None for a program that takes too long."""
    lines = printed(SCRIPT, texts, 1200).splitlines()
    return [json.loads(line) for line in lines if line.startswith(("{", "null"))]
