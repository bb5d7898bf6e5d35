"""Rules that hold for the project as a whole: versions, start-up time, settings files, tracked files, tests, stored
outputs."""

import ast
import configparser
import json
import os
import re
import subprocess
import sys
import tomllib
from collections import Counter

import pytest
import yaml

import cadvlm
from builders import CADVLM
from cadvlm.app.cli import main
from conftest import ROOT

COLUMNS = 120  # of a line of code
LOCAL_PATH = r"(?<![\w/+.:~-])(/(home|Users|root)/\w|{root}/)"
TEMPORARY = r"/tmp/\S+|/var/folders/\S+|ipykernel_\d+|<ipython-input\S*"
WARNING = r"\b\w*Warning\b: "


def test_version_and_python_agree(root):
    settings = configparser.ConfigParser()
    settings.read(root / "settings.ini")
    settings = settings["DEFAULT"]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert cadvlm.__version__ == settings["version"]
    assert project["requires-python"] == ">=" + settings["min_python"]
    assert project["description"] == settings["description"]


def test_command_line_imports_no_training_library():
    heavy = {"torch", "transformers", "dask", "OCP"}
    code = f"import {main.__module__}, sys; print(*{heavy!r} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not result.stdout.split(), "imported with the command line"


def test_help_is_quick():
    def seconds():
        "Of processor time: tests share the machine."
        before = os.times()
        subprocess.run([CADVLM, "--help"], capture_output=True, check=True)
        after = os.times()
        return sum(after[2:4]) - sum(before[2:4])

    assert min(seconds() for _ in range(3)) < 1.5  # one second is the aim


def test_config_keys_are_flags(root, capsys):
    for name in ("1k", "10k", "100k"):
        config = yaml.safe_load((root / f"config/deepcad_{name}_test.yaml").read_text())
        for command, flags in config.items():
            assert main([command, "--help"]) == 0
            shown = capsys.readouterr().out
            missing = [key for key in flags if "--" + key.replace("_", "-") not in shown]
            assert not missing, f"cadvlm {command} has no such flag: {missing}"


def tracked_files(root):
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [path for path in map(root.joinpath, filter(None, listing.stdout.split("\0"))) if path.is_file()]


def test_no_path_of_this_machine_is_tracked(root):
    pattern, found = re.compile(LOCAL_PATH.format(root=re.escape(str(root)))), []
    for path in tracked_files(root):
        if path.suffix not in {".png", ".ico", ".parquet"}:
            text = path.read_text(encoding="utf-8", errors="ignore")
            found += [f"{path.relative_to(root)}: {match[0]}" for match in pattern.finditer(text)]
    assert not found


@pytest.mark.parametrize("folder", ["tests", "tools"])
def test_no_code_line_is_over_120_columns(root, folder):
    wide = [
        f"{path.relative_to(root)}:{number}"
        for path in sorted((root / folder).glob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if len(line) > COLUMNS
    ]
    assert not wide


def test_names_of_tests_are_unique(root):
    names = Counter(
        node.name
        for path in sorted((root / "tests").glob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    )
    assert not [name for name, count in names.items() if count > 1]


@pytest.mark.parametrize("path", sorted((ROOT / "nbs").glob("*.ipynb")), ids=lambda path: path.stem)
def test_stored_outputs_hold_no_warning_and_no_temporary_path(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert not [output["text"] for output in outputs if output.get("name") == "stderr"]
    texts = [
        output.get("text") or output.get("data", {}).get(kind, "")
        for output in outputs
        for kind in ("text/plain", "text/html", "text/markdown")
    ]
    assert not [match[0] for text in texts for match in re.finditer(f"{TEMPORARY}|{WARNING}", "".join(text))]
