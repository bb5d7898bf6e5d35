"""Time rewards and write `data/results/reward.csv`: `python tools/bench_reward.py` (four minutes on two cores).

The same answers are scored by `cadvlm.reward` in one worker process, and by real CadQuery executed in a child process:
a fresh one for each answer, and one that stays and has CadQuery loaded. What the child processes do is what published
rewards do: execute, triangulate, intersect with the mesh of the true part. The answers are the CadQuery programs of
parts of the reference data, or of synthetic ones where that is missing, with numbers off by one here and there; each
part is asked for four times, as in training. Reward and warm child process score all of them five times in turn, of
which the fastest counts, so that other work of the machine does not; the fresh child processes, which take seconds,
score one answer of each four, once.
"""
import argparse
import itertools
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from results import SHARED, about, append, is_measured
from cadvlm.cad.export import save
from cadvlm.cad.sequence import read
from cadvlm.errors import CadError
from cadvlm.learn.reward import Reward
from cadvlm.synth.histories import part
from cadvlm.text.language import decode, encode

EACH = 4  # answers to a question
RUNS = 5
CODE = ("cad", "text", "jobs", "learn.reward", "learn.choose")
CHILD = '''
import sys
import trimesh
def score(code, truth):
    try: return compared(code, truth)
    except Exception: return 0.0
def compared(code, truth):
    known = {}
    exec(code, known)
    vertices, faces = known["r"].val().tessellate(0.001, 0.1)
    made, truth = trimesh.Trimesh([v.toTuple() for v in vertices], faces), trimesh.load_mesh(truth)
    common = made.intersection(truth).volume
    return common / (made.volume + truth.volume - common)
import cadquery
if len(sys.argv) > 1:
    print(score(open(sys.argv[1]).read(), sys.argv[2]), flush=True)
else:
    import json
    print("ready", flush=True)
    for line in sys.stdin:
        print(score(*json.loads(line)), flush=True)
'''


def spoiled(code, draw):
    "A program with some of its numbers of two digits or more off by one."
    return re.sub(r"-?\d\d+", lambda m: str(int(m[0]) + draw.choice((-1, 0, 0, 0, 0, 0, 0, 0, 0, 1))), code)


def programs(count):
    "The corpus, and the true programs of so many of its parts."
    paths = sorted((SHARED / "deepcad" / "cad_json").rglob("*.json"))
    chosen = paths[:: max(1, len(paths) // (2 * count))]
    sequences = map(read, chosen) if paths else (part(0, k) for k in itertools.count())
    found = []
    while len(found) < count:
        try:
            found.append(encode(next(sequences)))
        except CadError:
            pass
    return "DeepCAD sample" if paths else "synthetic", found


def timed(score, pairs):
    "`(scores, milliseconds)` of `score(answer, truth)` for each pair."
    scores, times = [], []
    for answer, truth in pairs:
        start = time.perf_counter()
        scores.append(score(answer, truth))
        times.append(1000 * (time.perf_counter() - start))
    return np.array(scores), np.array(times)


def by_reward(answers, truths):
    "The answers to a question at a time, in one worker process that has started; the time of each is their mean."
    reward, scores, times = Reward(workers=1), [], []
    reward(answers[:1], code=truths[:1])
    for k in range(0, len(answers), EACH):
        start = time.perf_counter()
        scores += reward(answers[k : k + EACH], code=truths[k : k + EACH])
        times += [1000 * (time.perf_counter() - start) / len(answers[k : k + EACH])] * len(answers[k : k + EACH])
    return np.array(scores), np.array(times)


def by_fresh_child(answers, meshes, folder):
    (folder / "child.py").write_text(CHILD)

    def score(answer, mesh):
        (folder / "answer.py").write_text(answer)
        command = [sys.executable, folder / "child.py", folder / "answer.py", mesh]
        return float(subprocess.run(command, capture_output=True, check=True).stdout)

    return timed(score, zip(answers, meshes))


@contextmanager
def warm_child():
    "`score(answer, mesh)` by a child process that has loaded CadQuery."
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", CHILD], stdin=pipe, stdout=pipe, text=True) as child:
        assert child.stdout.readline() == "ready\n"

        def score(answer, mesh):
            child.stdin.write(json.dumps([answer, str(mesh)]) + "\n")
            child.stdin.flush()
            return float(child.stdout.readline())

        yield score
        child.stdin.close()


def in_turn(answers, truths, meshes):
    "What reward and warm child process find, and the least time of each answer."
    with warm_child() as score:
        score(answers[0], meshes[0])                            # the first call loads what is loaded late
        runs = [(by_reward(answers, truths), timed(score, zip(answers, meshes))) for _ in range(RUNS)]
    for way in zip(*runs):
        yield way[0][0], np.min([times for _, times in way], axis=0)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--count", type=int, default=200, help="answers (200)")
    count = options.parse_args().count
    corpus, found = programs(-(-count // EACH))
    truths = [code for code in found for _ in range(EACH)][:count]
    common = about(corpus, len(found), CODE, ("manifold3d", "numba", "cadquery", "trimesh"))
    if is_measured("reward", common):
        return
    draw = random.Random(0)
    answers = [spoiled(code, draw) for code in truths]
    with tempfile.TemporaryDirectory() as folder:
        folder, meshes = Path(folder), []
        for k, code in enumerate(truths):
            meshes.append(folder / f"{k}.stl")
            save(decode(code), meshes[-1], unit=1.0)
        ours, warm = in_turn(answers, truths, meshes)
        ways = {"cadvlm.reward": ours, "warm child process": warm,
                "fresh child process": by_fresh_child(answers[::EACH], meshes[::EACH], folder)}
    scores, times = ours
    append("reward", [
        common | dict(way=way, answers=len(t), median_ms=f"{np.median(t):.4g}", p95_ms=f"{np.percentile(t, 95):.4g}",
                      largest_ms=f"{t.max():.4g}", times_reward=f"{np.median(t) / np.median(times):.4g}",
                      median_difference_of_iou=f"{np.median(np.abs(s - scores[:: len(scores) // len(s)])):.2g}")
        for way, (s, t) in ways.items()])


if __name__ == "__main__":
    main()
