"""Every notebook is a test: its cells run as `nbdev_test` would run them, in a process of their own."""

import json
import re
from pathlib import Path

import pytest
from nbdev.config import get_config
from nbdev.doclinks import nbglob

from builders import environment
from chapters import Server

LIGHT = {"sequence", "regions", "normal", "compact"}  # modules whose chapters are also in `make quick`


def module(path):
    "The module that a chapter exports, without its package."
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    found = re.search(r"#\| *default_exp +(\S+)", "\n".join("".join(cell["source"]) for cell in cells))
    return found[1].rpartition(".")[2] if found else ""


def chapters():
    "The last ones first: they take longest, and in the end no process waits for another."
    for path in sorted(nbglob(get_config().nbs_path, as_path=True), reverse=True):
        yield pytest.param(path, id=path.stem, marks=() if module(path) in LIGHT else pytest.mark.slow)


@pytest.fixture(scope="session")
def run(shared_folder, tmp_path_factory):
    "`run(path)`: the exit code and the output of a chapter."
    output = tmp_path_factory.mktemp("chapters") / "output"
    server = Server(shared_folder, get_config().tst_flags, environment(Path(__file__).parent))

    def one(path):
        return server.run(path, output), output.read_text(errors="replace")

    yield one
    server.close()


@pytest.mark.parametrize("path", list(chapters()))
def test_chapter_runs(path, run):
    code, output = run(path)
    assert code == 0, f"{path.name} fails:\n{output}"
