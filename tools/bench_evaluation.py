"""Measure `cadvlm evaluate` and write `data/results/evaluation.csv`: `python tools/bench_evaluation.py` (about 10
minutes on two cores).

1,000 synthetic parts, and as predictions their own programs with numbers off by one here and there and each twentieth
cut off; the whole command by each protocol, with one process and with two.
"""
import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import orjson

from results import about, append, is_measured
from cadvlm.corpus.dataset import Dataset
from cadvlm.files import write_json, write_jsonl
from cadvlm.measure.protocols import PROTOCOLS
from cadvlm.text.language import encode
from cadvlm.cad.sequence import read
from cadvlm.stages.synthesize import synthesize

CODE = ("cad", "text", "jobs", "measure")
RUN = "import sys; from cadvlm.app.cli import main; sys.exit(main())"


def spoiled(code, draw):
    "A program with each fifth number of two digits or more off by one; each twentieth program is cut off."
    off = re.sub(r"-?\d\d+", lambda m: str(int(m[0]) + draw.choice((-1, 0, 0, 0, 0, 0, 0, 0, 0, 1))), code)
    return off[: len(off) // 2] if draw.random() < 0.05 else off


def prepared(folder, count):
    "`(dataset, predictions)`, made in a folder."
    synthesize(output=folder / "dataset", count=count)
    dataset, draw = Dataset(folder / "dataset"), random.Random(0)
    ids = sorted(p.stem for p in (dataset.path / "cad_json").rglob("*.json"))
    write_json(dataset.path / "train_val_split.json", dict(train=[], validation=[], test=ids))
    write_jsonl(folder / "predictions.jsonl",
                (dict(id=i, code=spoiled(encode(read(dataset.json_path(i))), draw), language="cadquery") for i in ids))
    return dataset.path, folder / "predictions.jsonl"


def measured(dataset, predictions, protocol, workers):
    "The row of one run, as a user starts it."
    start, output = time.perf_counter(), predictions.parent / f"{protocol}_{workers}_{time.time_ns()}"
    command = [sys.executable, "-c", RUN, "evaluate", str(predictions), str(dataset), "--protocol", protocol,
               "--workers", str(workers), "--output", str(output)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"TQDM_DISABLE": "1"})
    seconds, samples = time.perf_counter() - start, sum(1 for _ in open(predictions))
    ratio = orjson.loads((output / "evaluation.json").read_bytes())["invalid_ratio"]
    return dict(protocol=protocol, workers=workers, seconds=round(seconds, 1),
                samples_per_minute=round(60 * samples / seconds), invalid_ratio=round(ratio, 4))


def compared(dataset, predictions, protocol):
    """Rows for one and for two workers: the faster of two runs each, in turn, so that a busy moment does not fall on
    one of them alone."""
    runs = [measured(dataset, predictions, protocol, workers) for workers in (1, 2, 2, 1)]
    rows = [min((r for r in runs if r["workers"] == workers), key=lambda r: r["seconds"]) for workers in (1, 2)]
    return [row | dict(times_one_worker=round(rows[0]["seconds"] / row["seconds"], 2)) for row in rows]


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--count", type=int, default=1000, help="parts (1000)")
    count = options.parse_args().count
    common = about("synthetic", count, CODE)
    with tempfile.TemporaryDirectory() as folder:
        dataset, predictions = prepared(Path(folder), count)
        for protocol in PROTOCOLS:
            if not is_measured("evaluation", common, protocol=protocol, parts=count):
                append("evaluation", [common | row for row in compared(dataset, predictions, protocol)])


if __name__ == "__main__":
    main()
