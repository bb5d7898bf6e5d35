"""Every notebook is a test: its cells run as `nbdev_test` would run them, in a process of their own."""
import subprocess, sys

import pytest
from nbdev.config import get_config
from nbdev.doclinks import nbglob

RUN = """
import sys
from pathlib import Path
from nbdev.test import test_nb
passed, seconds = test_nb(Path(sys.argv[1]), skip_flags=sys.argv[2].split())
sys.exit(not passed)
"""


@pytest.mark.parametrize("path", sorted(nbglob(get_config().nbs_path, as_path=True)), ids=lambda path: path.stem)
def test_notebook(path):
    result = subprocess.run([sys.executable, "-c", RUN, path, get_config().tst_flags], capture_output=True, text=True)
    assert result.returncode == 0, f"{path.name} fails:\n{result.stdout}{result.stderr}"
