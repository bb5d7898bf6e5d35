"""Tables of results: a run appends its rows to `data/results/NAME.csv`, and skips what has been measured with the
same code and the same versions."""
import os
from pathlib import Path

from cadvlm.measure.results import add_rows, has_row, provenance, read_rows

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "data" / "results"
SHARED = Path(os.environ.get("CADVLM_SHARED", ROOT.parent / "shared"))  # reference data, beside the project
GEOMETRY = ("manifold3d", "numba", "matplotlib", "zlib-ng")
KEY = ("corpus", "versions", "code")


def about(corpus, parts, code, packages=GEOMETRY, /):
    "The columns that say when, where, with which versions and which code of cadvlm, and of what the rows are."
    return provenance(*packages, code=code) | dict(corpus=corpus, parts=parts)


def rows_of(name):
    "The rows of a table, as text; none where there is no table yet."
    return read_rows(RESULTS / f"{name}.csv")


def is_measured(name, common, /, **more):
    "Has a table a row with the key of `about(...)`, and with more values?"
    return has_row(rows_of(name), {k: common[k] for k in KEY} | more)


def write(name, rows):
    "Replace a table; it is written beside and renamed."
    path = RESULTS / f"{name}.csv"
    beside = path.with_name(f"{path.name}.part")
    beside.unlink(missing_ok=True)
    add_rows(beside, rows)
    beside.replace(path)


def append(name, rows):
    "Add rows to a table, and print them."
    rows = list(rows)
    add_rows(RESULTS / f"{name}.csv", rows)
    for row in rows:
        print({k: v for k, v in row.items() if k not in ("machine", "python", "versions", "code")}, flush=True)
