"""Tables of results: a run appends its rows to `data/results/NAME.csv`, and skips what has been measured with the
same versions."""
import csv
import datetime
import os
import platform
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "data" / "results"
GEOMETRY = ("cadvlm", "manifold3d", "numba", "matplotlib", "zlib-ng")


def machine():
    "Processor and number of cores."
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def versions(names=GEOMETRY):
    "Versions of the packages that a figure depends on, as one text."
    return " ".join(f"{name} {version(name)}" for name in names)


def about(corpus, parts, names=GEOMETRY):
    "The columns that say when, where and of what the rows are."
    return dict(date=datetime.date.today().isoformat(), machine=machine(), python=platform.python_version(),
                versions=versions(names), corpus=corpus, parts=parts)


def rows_of(name):
    "The rows of a table, as text; none where there is no table yet."
    path = RESULTS / f"{name}.csv"
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def is_measured(name, **same):
    "Has a table a row with these values?"
    return any(all(row.get(k) == str(v) for k, v in same.items()) for row in rows_of(name))


def write(name, rows):
    "Replace a table; written beside and renamed."
    path = RESULTS / f"{name}.csv"
    columns = list(dict.fromkeys(k for row in rows for k in row))
    part = path.with_suffix(".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    with part.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    part.replace(path)


def append(name, rows):
    "Add rows to a table, and print them."
    rows = list(rows)
    write(name, [*rows_of(name), *rows])
    for row in rows:
        print({k: v for k, v in row.items() if k not in ("machine", "python", "versions")}, flush=True)
