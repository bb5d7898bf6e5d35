"""What CadQuery builds of programs, in a process of its own, each program in a fork with little memory and time."""

import json
import subprocess
import sys

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
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], input=json.dumps(texts), capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith(("{", "null"))]
