"""Measure training and write `data/results/training.csv`: part of `make bench` (about 3 minutes on two cores).

1,000 synthetic parts; the first row has the settings of the published report (5 epochs of 100 samples in batches of
2, validated on 20), the others a number of steps of larger batches. One process, one run after the other: compare the
rows with each other.
"""
import argparse
import tempfile
from pathlib import Path

from results import about, append, is_measured
from cadvlm.stages.convert import convert
from cadvlm.stages.extract import extract
from cadvlm.stages.render import render
from cadvlm.stages.synthesize import synthesize
from cadvlm.learn.commands import train

CODE = ("learn",)


def prepared(folder, count):
    "A dataset of synthetic parts."
    few = count // 20
    synthesize(output=folder / "parts", count=count)
    extract(folder / "parts", folder / "dataset", train_size=count - 2 * few, val_size=few, test_size=few)
    render(folder / "dataset")
    convert(folder / "dataset", language="compact", verify=False)
    return folder / "dataset"


def measured(dataset, output, name, **settings):
    report = train(dataset, output, model="cnn-gru", **settings)
    figures = ({k: report[k] for k in ("device", "threads", "parameters", "image_size", "batch_size")}
               | {k: round(report["time"][k], 1)
                  for k in ("batches", "batch_ms", "first_batch_ms", "samples_per_second")})
    losses = dict(train_loss=report["epochs"][-1]["train_loss"], val_loss=report["epochs"][-1]["val_loss"],
                  ngram_loss=report["controls"]["ngram"])
    return (dict(settings=name) | figures | {k: round(v, 4) for k, v in losses.items()}
            | dict(image_matters=report["controls"]["grounded"]))


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--count", type=int, default=1000, help="parts (1000)")
    options.add_argument("--device", help="cuda, mps or cpu")
    options = options.parse_args()
    common = about("synthetic", options.count, CODE, ("torch", "tokenizers", "numpy"))
    if is_measured("training", common, parts=options.count):
        return
    with tempfile.TemporaryDirectory() as folder:
        dataset, runs = prepared(Path(folder), options.count), Path(folder) / "runs"
        rows = [measured(dataset, runs / "report", "as the published report", device=options.device)]
        for batch_size in (8, 32, 128):
            few = dict(steps=60, epochs=1, batch_size=batch_size, train_samples=0)
            rows.append(measured(dataset, runs / str(batch_size), "throughput", device=options.device, **few))
    append("training", [common | row for row in rows])


if __name__ == "__main__":
    main()
