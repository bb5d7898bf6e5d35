"""Run every stage at 1K, 10K and 100K for real and write `data/results/scale.csv`: `make scale`.

1,100, 11,000 and 108,946 synthetic parts, as many as the published report had, through the commands as a user types
them. A row is written as its stage ends; a run that was stopped goes on after the last of them,
unless the code has changed. The corpora and
datasets are those of
`cadvlm run --scale`, `data/synthetic_1k_source` and `data/synthetic_1k` and so on, and can be looked at afterwards.
The stage `run` is all of them but the first and `dedup` in one command, from the same corpus into another folder.
With `--stages` some of them are measured, in a folder where those before them have been; a stage does not make again
what it finds made.

Duplicates are counted in `data/results/dedup.csv`.
"""
import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from bench import peak_of_session
from results import ROOT, about, rows_of
from results import write as write_table
from cadvlm.corpus.dataset import Dataset
from cadvlm.corpus.folder import FolderSource
from cadvlm.files import read_json
from cadvlm.measure.results import has_row

STAGES = ("synthesize", "extract", "dedup", "run", "render", "convert, not verified", "convert", "validate --quick",
          "validate")
SCALES = {"1k": 1_100, "10k": 11_000, "100k": 108_946}
CODE = ("cad", "text", "corpus", "jobs", "synth", "stages")
COLUMNS = ("date", "machine", "python", "versions", "scale", "stage", "workers", "seconds", "parts", "failed",
           "parts_per_minute", "samples", "samples_per_minute", "peak_mb", "all_mb", "bytes", "bytes_per_part",
           "code")


def timed(*arguments):
    "`(seconds, megabytes of the largest process, megabytes of all processes at their peak)` of a cadvlm command."
    command = [sys.executable, "-c", "import sys; from cadvlm.app.cli import main; sys.exit(main())",
               *map(str, arguments)]
    start, peak, whole = time.perf_counter(), 0, 0
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | {"TQDM_DISABLE": "1"},
                               start_new_session=True)
    while process.poll() is None:
        peak, whole = max(peak, peak_of_session(process.pid)), max(whole, resident(process.pid))
        time.sleep(0.5)
    assert process.returncode == 0, f"cadvlm {arguments[0]} ended with {process.returncode}"
    return time.perf_counter() - start, peak, whole


def resident(session):
    "Megabytes that belong to the processes of a session now; what they share counts once (Linux; 0 elsewhere)."
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[3]) == session:
                total += next(int(line.split()[1]) for line in (folder / "smaps_rollup").read_text().splitlines()
                              if line.startswith("Pss:"))
        except (OSError, StopIteration, IndexError):
            continue  # it has ended meanwhile
    return total / 1024


def size(*paths):
    "Bytes of files and of all files in folders."
    return sum(f.stat().st_size for p in paths for f in ([p] if p.is_file() else p.rglob("*")) if f.is_file())


def stages(corpus, dataset, count, workers):
    "`(name, dataset, command, what it wrote, its summary)` of each stage, in order."
    run, path = ("--workers", workers), dataset.path
    yield "synthesize", path, ("synthesize", corpus, "--count", count, *run), [corpus / "cad_json"], None
    sizes = [x for name, ids in zip(("train", "val", "test"), FolderSource(corpus).split.values())
             for x in (f"--{name}-size", len(ids))]
    yield "extract", path, ("extract", corpus, path, *sizes, *run), [path / "cad_json"], "extraction"
    yield "dedup", path, ("dedup", path, *run), [], "dedup"
    whole = path.with_name(f"{path.name}_whole")
    answers = [f"{name}.json" for name in ("train", "val", "test")]
    made = [whole / name for name in ("cad_json", "images", *answers)]
    yield "run", whole, ("run", corpus, whole, *sizes, "--dedup", "none", *run), made, "conversion"
    yield "render", path, ("render", path, *run), [path / "images"], "rendering"
    answers = [path / name for name in answers]
    yield "convert, not verified", path, ("convert", path, "--no-verify", *run), answers, "conversion"
    yield "convert", path, ("convert", path, *run), answers, "conversion"
    yield "validate --quick", path, ("validate", path, "--quick", *run), [], "validation"
    yield "validate", path, ("validate", path, *run), [], "validation"


def row(name, command, written, summary, dataset, count):
    seconds, peak, whole = timed(*command)
    made = read_json(dataset / "logs" / f"{summary}_summary.json") if summary else dict(requested=count,
        failures=dict(not_made=count - sum(map(len, FolderSource(written[0].parent).split.values()))))
    parts, wrote = made["requested"], size(*written)
    converted = name.startswith(("convert", "run"))
    samples = sum(read_json(dataset / "tinyllava_metadata.json")["samples"].values()) if converted else 0
    figures = dict(seconds=round(seconds, 1), parts=parts, failed=sum(made["failures"].values()),
                   parts_per_minute=round(60 * parts / seconds), peak_mb=round(peak), all_mb=round(whole), bytes=wrote)
    return (figures | dict(samples=samples or "", samples_per_minute=round(60 * samples / seconds) if samples else "",
                           bytes_per_part=round(wrote / parts) if wrote else ""))


def count_duplicates(scale, dataset):
    "The row of `data/results/dedup.csv`. Of a group of duplicates all but one repeat an earlier part."
    report = read_json(dataset / "duplicates.json")
    repeats = sum(len(group) - 1 for group in report["groups"])
    percent = round(100 * repeats / report["counts"]["parts"], 3)
    row = dict(scale=scale, **report["counts"], groups=len(report["groups"]), repeats=repeats, percent=percent)
    write("dedup", [*(r for r in rows_of("dedup") if r["scale"] != scale), row])


def write(name, rows):
    "Write a table, its rows in the order of the scales and stages."
    order = list(SCALES), list(STAGES)
    write_table(name, sorted(rows, key=lambda r: (order[0].index(r["scale"]), order[1].index(r.get("stage", "dedup")))))


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--scales", nargs="+", choices=SCALES, default=list(SCALES))
    options.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    options.add_argument("--folder", type=Path, default=ROOT / "data", help="where corpora and datasets go (data)")
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--again", action="store_true", help="measure again, and replace the rows of this code")
    options = options.parse_args()
    for scale in options.scales:
        dataset, count = Dataset(options.folder / f"synthetic_{scale}"), SCALES[scale]
        corpus = dataset.path.with_name(f"synthetic_{scale}_source")
        for name, place, command, written, summary in stages(corpus, dataset, count, options.workers):
            common = {k: v for k, v in about("synthetic", count, CODE).items() if k in COLUMNS}
            same = dict(scale=scale, stage=name, code=common["code"])
            rows = [r for r in rows_of("scale") if not (options.again and has_row([r], same))]
            if name not in options.stages or has_row(rows, same):
                continue
            if name == "synthesize" and written[0].exists():
                sys.exit(f"{written[0].parent} is of an earlier run: remove it, or name another --folder")
            new = (common | dict(scale=scale, stage=name, workers=options.workers)
                   | row(name, command, written, summary, place, count))
            write("scale", [*rows, new])
            if name == "dedup":
                count_duplicates(scale, dataset.path)
            print({k: v for k, v in new.items() if k not in common}, flush=True)


if __name__ == "__main__":
    main()
