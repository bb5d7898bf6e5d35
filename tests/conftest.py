"""What the tests share."""
import os
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side: more threads each would wait for those of the others

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root():
    "The top folder of the project."
    return ROOT


@pytest.fixture(scope="session")
def shared():
    "The folder of real CAD files (`deepcad/`, `fusion360/`, `cad_coder/`); tests that need it are skipped where it is missing."
    folder = Path(os.environ.get("CADVLM_SHARED", ROOT.parent / "shared"))
    if not (folder / "deepcad" / "cad_json").is_dir():
        pytest.skip("needs real DeepCAD files: put them in ../shared/deepcad, or name the folder in CADVLM_SHARED")
    return folder
