"""Every notebook is a test: its cells run as `nbdev_test` would run them, in a process of their own."""

import json
import re
from pathlib import Path

import pytest
from nbdev.config import get_config
from nbdev.doclinks import nbglob

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


@pytest.mark.parametrize("path", list(chapters()))
def test_chapter_runs(path, chapter_server, tmp_path):
    code = chapter_server.run(path, tmp_path / "output")
    assert code == 0, f"{path.name} fails:\n{(tmp_path / 'output').read_text(errors='replace')}"
