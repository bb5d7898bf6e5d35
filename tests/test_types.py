"""Types: the package, the tools and typical calls of the public names pass the checker."""

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_package_and_typical_calls_pass_the_type_checker(root):
    "`[tool.mypy]` in pyproject.toml says what is checked; wrong calls in `typed_calls.py` must be found."
    pytest.importorskip("mypy", reason="needs mypy: pip install 'cadvlm[dev]'")
    command = [sys.executable, "-m", "mypy", "--no-error-summary"]
    made = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert made.returncode == 0, made.stdout + made.stderr
