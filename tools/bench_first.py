"""Measure the training of the front page and write `data/results/first_training.csv`: part of `make bench`.

Half an hour on two cores: the commands of the front page on 1,100 synthetic parts, with three seeds; then a longer
training of the same model with more positions of each part. Each row is one way of answering: the likeliest text, the
best of 16 by the drawing, that one searched from, and as controls the likeliest text for the sheet of another part and
for a blank one. Failures count as IoU 0. Of the first run, the answers for the first three parts of the test split,
chosen of 16, are kept in `data/results/first_training_examples.json`, for the image on the front page.
"""
import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from cadvlm.app.run import run
from cadvlm.corpus.dataset import Dataset
from cadvlm.files import write_json
from cadvlm.learn.choose_file import sheet_image
from cadvlm.learn.commands import predict, read_model, train
from cadvlm.learn.ink import ink_of_image
from cadvlm.learn.runs import read_rows
from cadvlm.learn.train_sheets import load_parts
from cadvlm.learn.transformer import write
from cadvlm.measure.evaluate import evaluate
from results import RESULTS, about, append, is_measured

NAME = "first_training"
CODE = ("cad", "text", "learn", "measure")
RUNS = [("front page", seed, {}) for seed in (0, 1, 2)] + [("longer", 0, dict(steps=12_000, turns=16))]
CHOOSE = dict(candidates=16, choose="drawing")
SHOWN = ("parameters", "image_size", "steps", "batch_size", "turns", "train_samples", "sheets")
ANSWERS = {"likeliest": {}, "chosen of 16": CHOOSE, "chosen and searched": CHOOSE | dict(search=100)}


def scored(predictions, dataset):
    "Mean IoU with failures as 0, and the invalid ratio."
    table = evaluate(predictions, dataset)
    return dict(iou=float(table.iou.fillna(0).mean()), invalid_ratio=float(1 - table.valid.mean()), parts=len(table))


def examples(predictions, dataset, count=3):
    "The answers for the first parts of the test split, beside the truth."
    truth = {s.id: s.text for s in load_parts(Dataset(dataset), "test")}
    found = evaluate(predictions, dataset).set_index("id").iou
    return [dict(id=row["id"], truth=truth[row["id"]], code=row["code"], iou=round(float(found[row["id"]]), 4))
            for row in read_rows(predictions)[:count]]


def controls(run, dataset):
    "The likeliest texts for the sheets of other parts, and for blank ones, by name."
    samples, (model, _) = load_parts(Dataset(dataset), "test"), read_model(run)
    own = np.stack([ink_of_image(sheet_image(Dataset(dataset), s.part), model.size.image) for s in samples])
    for name, ink in (("another part's sheet", np.roll(own, 1, 0)), ("blank sheet", np.zeros_like(own))):
        texts = write(model, torch.from_numpy(ink))
        yield name, [dict(id=s.id, code=t, language="compact") for s, (t,) in zip(samples, texts)]


def measured(dataset, output, common, settings):
    "The rows of a run, whose name and seed are in what its rows have in common."
    start = time.perf_counter()
    report, seed = train(dataset, output, seed=common["seed"], device="cpu", **settings), common["seed"]
    common |= {k: report[k] for k in SHOWN}
    common |= dict(seconds=round(time.perf_counter() - start, 1), train_seconds=round(report["time"]["seconds"], 1),
                   train_loss=report["epochs"][-1]["train_loss"])
    common |= {k: report["controls"][k] for k in ("loss", "ngram")}
    common |= {f"{k}_loss": report["controls"][k]["loss"] for k in ("shuffled", "blank")}
    for answer, flags in ANSWERS.items():
        start = time.perf_counter()
        made = predict(output, dataset, output / f"{answer.replace(' ', '_')}.jsonl", seed=seed, device="cpu", **flags)
        took = round(time.perf_counter() - start, 1)
        if (answer, common["run"], seed) == ("chosen of 16", "front page", 0):
            write_json(RESULTS / f"{NAME}_examples.json", examples(made["output"], dataset))
        certified = sum(row.get("certified", 0) for row in read_rows(made["output"]))
        yield common | dict(answer=answer, predict_seconds=took, certified=certified) | scored(made["output"], dataset)
    for answer, rows in controls(output, dataset):
        yield common | dict(answer=answer) | scored(rows, dataset)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--dataset", type=Path, help="one that cadvlm run --scale 1k --sample sheet has made")
    options.add_argument("runs", nargs="*", choices=["front page", "longer", []], help="which; by default both")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as place:
        dataset = given.dataset or Path(place) / "synthetic_1k"
        if not given.dataset:
            run(output=dataset, scale="1k", sample="sheet", language="compact")
        for number, (name, seed, settings) in enumerate(RUNS):
            common = about("synthetic", 1100, CODE, ("torch", "manifold3d")) | dict(run=name, seed=seed)
            if is_measured(NAME, common, run=name, seed=seed) or (given.runs and name not in given.runs):
                continue
            rows = [{k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}
                    for row in measured(dataset, Path(place) / str(number), common, settings)]
            append(NAME, rows)


if __name__ == "__main__":
    main()
