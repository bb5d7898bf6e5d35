"""Every notebook is a test: its cells run as `nbdev_test` would run them, in a process of their own."""

import json
import re
import subprocess
import sys

import pytest
from nbdev.config import get_config
from nbdev.doclinks import nbglob

LIGHT = {"sequence", "regions", "normal", "compact"}  # modules whose chapters are also in `make quick`
RUN = """
import sys
from pathlib import Path
from nbdev.test import test_nb
passed, seconds = test_nb(Path(sys.argv[1]), skip_flags=sys.argv[2].split())
sys.exit(not passed)
"""


def module(path):
    "The module that a chapter exports, without its package."
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    found = re.search(r"#\| *default_exp +(\S+)", "\n".join("".join(cell["source"]) for cell in cells))
    return found[1].rpartition(".")[2] if found else ""


def chapters():
    for path in sorted(nbglob(get_config().nbs_path, as_path=True)):
        yield pytest.param(path, id=path.stem, marks=() if module(path) in LIGHT else pytest.mark.slow)


@pytest.mark.parametrize("path", chapters())
def test_chapter_runs(path):
    command = [sys.executable, "-c", RUN, path, get_config().tst_flags]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, f"{path.name} fails:\n{result.stdout}{result.stderr}"
