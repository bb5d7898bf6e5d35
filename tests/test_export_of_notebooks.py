"""The package and README.md are what the notebooks say, and the notebooks are clean. `make prepare` mends all three."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import figures
import pytest
from nbdev.clean import clean_nb
from nbdev.config import get_config
from nbdev.doclinks import nbglob
from PIL import Image
from readme import project_readme

NOTEBOOKS = sorted(nbglob(get_config().nbs_path, as_path=True))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def modules(folder):
    "The text of every module of a package, by path."
    return {str(path.relative_to(folder)): path.read_text(encoding="utf-8") for path in folder.rglob("*.py")}


@each_notebook
def test_notebook_is_clean(path):
    text = path.read_text(encoding="utf-8")
    cleaned = json.loads(text)
    clean_nb(cleaned)
    assert cleaned == json.loads(text), "run `make prepare`"


@each_notebook
def test_notebook_opens_with_title_and_description(path):
    first = json.loads(path.read_text(encoding="utf-8"))["cells"][0]
    pattern = r"---\ntitle: .+\ndescription: .+\n[^#]*---" if first["cell_type"] == "raw" else r"# .+\n+> .+"
    assert re.fullmatch(
        pattern, "".join(first["source"]).strip()
    ), "nbdev drops from the site whatever else is in that cell"


def test_package_is_the_export_of_the_notebooks(root, tmp_path):
    for name in ("settings.ini", "pyproject.toml", "nbs/", "cadvlm/__init__.py", "cadvlm/__main__.py"):
        source, copy = root / name, tmp_path / name
        copy.parent.mkdir(exist_ok=True)
        shutil.copytree(source, copy, symlinks=True) if source.is_dir() else shutil.copy(source, copy)
    env = {
        key: value for key, value in os.environ.items() if key != "IN_TEST"
    }  # with it nbdev_export silently does nothing
    subprocess.run([Path(sys.executable).with_name("nbdev_export")], cwd=tmp_path, env=env, check=True)
    made, kept = modules(tmp_path / "cadvlm"), modules(root / "cadvlm")
    assert made.keys() == kept.keys(), "run `make prepare`; nothing but exports belongs in cadvlm/"
    assert [name for name in made if made[name] != kept[name]] == [], "run `make prepare`"


def test_readme_is_the_index_notebook(root):
    assert (root / "README.md").read_text(encoding="utf-8") == project_readme(), "run `make prepare`"


def test_front_page_image_is_of_the_printed_code(root):
    assert "part(seed={}, index={})".format(*figures.EXAMPLE) in (root / "nbs" / "index.ipynb").read_text(
        encoding="utf-8"
    )
    drawn = io.BytesIO()
    figures.example().savefig(drawn)
    now, kept = (
        np.asarray(Image.open(f).convert("L"), dtype=float) for f in (drawn, root / "nbs" / "images" / "example.png")
    )
    assert now.shape == kept.shape and np.abs(now - kept).mean() < 1, "run `make figures`"
