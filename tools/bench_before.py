"""Measure the stages of an earlier commit and of this code in turns, from the same corpus, and write
`data/results/before.csv`: `python tools/bench_before.py --commit 96f4742` (20 minutes on two cores).

Seconds of two days, or of two machines, say little of the code; what this code takes of the time of an earlier one, in
one run, does. The last row compares all stages of the earlier code with the one command `cadvlm run` of this one.
"""
import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from results import ROOT, about, append, is_measured
from cadvlm.corpus.folder import FolderSource
from cadvlm.stages.synthesize import synthesize

CODE = ("cad", "text", "corpus", "jobs", "synth", "stages")


def seconds(code, *arguments):
    "How long a command takes with the code of a folder, start-up included."
    module = "cadvlm.app.cli" if (code / "cadvlm" / "app").exists() else "cadvlm.cli"      # where it was at first
    run = f"import sys; from {module} import main; sys.exit(main())"
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", run, *map(str, arguments)], check=True, cwd=code, stdout=subprocess.DEVNULL,
                   env=os.environ | {"TQDM_DISABLE": "1", "PYTHONPATH": str(code)})
    return time.perf_counter() - start


def compared(before, folder, workers):
    "Rows of each stage, and of all of them, for the corpus in a folder."
    corpus = folder / "corpus"
    split, run = FolderSource(corpus).split.values(), ("--workers", workers)
    sizes = [x for name, ids in zip(("train", "val", "test"), split) for x in (f"--{name}-size", len(ids))]
    old, new, total = folder / "old", folder / "new", 0.
    stages = {"extract": lambda path: ("extract", corpus, path, *sizes, *run)}
    stages |= {name: lambda path, name=name: (name, path, *run) for name in ("render", "convert", "validate")}
    for name, command in stages.items():
        then, now = seconds(before, *command(old)), seconds(ROOT, *command(new))
        total += then
        yield dict(stage=name, before_seconds=round(then, 1), seconds=round(now, 1), ratio=round(now / then, 3))
    now = seconds(ROOT, "run", corpus, folder / "whole", *sizes, *run)
    yield dict(stage="run", before_seconds=round(total, 1), seconds=round(now, 1), ratio=round(now / total, 3))


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--commit", default="96f4742", help="the earlier code (96f4742, of 2026-11-25)")
    options.add_argument("--count", type=int, default=11_000, help="synthetic parts (11,000)")
    options.add_argument("--workers", type=int, default=2)
    options = options.parse_args()
    common = about("synthetic", options.count, CODE) | dict(before=options.commit, workers=options.workers)
    if is_measured("before", common, before=options.commit, stage="run", parts=options.count):
        return
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder).resolve()
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", folder / "code", options.commit], check=True,
                       cwd=ROOT)
        try:
            for name, count in (("few", 40), ("all", options.count)):       # the few, so that compiled code is there
                synthesize(output=folder / name / "corpus", count=count, workers=options.workers)
                for row in compared(folder / "code", folder / name, options.workers):
                    if name == "all":
                        append("before", [common | row])
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", folder / "code"], check=True, cwd=ROOT)


if __name__ == "__main__":
    main()
