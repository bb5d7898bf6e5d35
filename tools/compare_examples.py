"""What the compared models wrote for some parts, for the pictures of chapter 18: `python tools/compare_examples.py data/compare data/held_out data/real` writes `data/results/compare_examples.json`.

The parts are the first of each test in the order of their ids, whatever was written for them; of each model its first seed.
"""
import argparse
from pathlib import Path

import orjson
import pandas as pd

from bench import ROOT
from cadvlm.corpus.dataset import Dataset
from cadvlm.files import write_json
from cadvlm.learn.train import load_samples


def examples(runs, dataset, count):
    "Rows of the first parts that every model has written for."
    truth = {s.id: s for split in ("train", "validation", "test") for s in load_samples(dataset, split)}
    rows = []
    for run in sorted(runs.glob("*_seed0"), key=lambda p: len(p.name)):
        path = run / f"predictions_{dataset.name}.jsonl"
        if not path.exists():
            continue
        said, scores = ({r["id"]: r["code"] for r in map(orjson.loads, path.read_text().splitlines())},
                        pd.read_parquet(run / f"evaluation_{dataset.name}.parquet").set_index("id"))
        for id in sorted(said)[:count]:
            score = scores.loc[id]
            rows.append(dict(test=dataset.name, scale=run.name.removesuffix("_seed0"), id=id, view=truth[id].view,
                             truth=truth[id].text, code=said[id], iou=None if pd.isna(score.iou)
                             else round(float(score.iou), 3)))
    return rows


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("runs", type=Path, help="folder of cadvlm compare")
    options.add_argument("tests", type=Path, nargs="+", help="its test datasets")
    options.add_argument("--count", type=int, default=7)
    options = options.parse_args()
    write_json(ROOT / "data" / "results" / "compare_examples.json",
               [row for test in options.tests for row in examples(options.runs, Dataset(test), options.count)])


if __name__ == "__main__":
    main()
