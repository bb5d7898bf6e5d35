"""What the tests share: folders that are made once, real parts that are read and built once; and how tests that run
side by side are shared out."""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from functools import lru_cache
from pathlib import Path

import pytest
from filelock import FileLock

if "PYTEST_XDIST_WORKER" in os.environ:
    # tests run side by side: more threads each would wait for those of the others; read when NumPy is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import chapters
from builders import keep_what_is_imported, module_of, sixty_parts, warm_fork_server
from cadvlm.stages.download import download
from cadvlm.cad.sequence import read
from cadvlm.errors import CadError
from cadvlm.cad.solid import build
from file_server import Server

ROOT = Path(__file__).resolve().parents[1]

# --- sharing out: one process runs all tests of a group, so that what is made for them is made once

# files of which each test is a group; they come last, when they fill what time is left to any process
APART = {"test_notebooks"}
# files that are one group, because they build real parts; any other file is a group of its own
REAL_PARTS = {f"test_{name}" for name in "bounds boolean evaluation_protocols export language reference".split()}
# groups that need no kernels, which may still be compiled; then those that take longest, so that in the end no process
# waits for another
FIRST = ["test_finetune_models", "test_finetune_classes", "real parts", "test_browser", "test_parallel"]


def group(nodeid):
    file = Path(nodeid.partition("::")[0]).stem
    return nodeid if file in APART else "real parts" if file in REAL_PARTS else file


def pytest_collection_modifyitems(items):
    place = {name: k - len(FIRST) for k, name in enumerate(FIRST)}
    items.sort(key=lambda item: item.path.stem in APART or place.get(group(item.nodeid), 0))


# --- what takes long and is done once, in the background

COMPILE = """import pathlib, sys
from cadvlm.cad.drawing import warm_up
from cadvlm.reading.reconstruct import load_kernels
try: warm_up(), load_kernels()
finally: pathlib.Path(sys.argv[1], "compiled").touch()"""


def pytest_configure(config):
    "Compile the kernels of a fresh clone once, and not in every process that needs them."
    if "PYTEST_XDIST_WORKER" not in os.environ and getattr(config.option, "numprocesses", None):
        folder = os.environ["CADVLM_TESTS"] = tempfile.mkdtemp()
        config.compiling = subprocess.Popen([sys.executable, "-c", COMPILE, folder])


def pytest_unconfigure(config):
    if hasattr(config, "compiling"):
        if config.compiling.wait():
            print("the kernels could not be compiled: see above", file=sys.stderr)
        shutil.rmtree(os.environ.pop("CADVLM_TESTS"), ignore_errors=True)


class Servers(threading.Thread):
    """Starts the processes that workers and chapters are forked from, which import everything, as soon as the kernels
    are compiled."""

    def __init__(self, folder, with_chapters):
        super().__init__(daemon=True)
        self.folder, self.with_chapters, self.chapters = Path(folder), with_chapters, None
        self.start()

    def run(self):
        while not (self.folder / "compiled").exists():
            time.sleep(0.2)
        warm_fork_server()
        if self.with_chapters:
            self.chapters = chapters.Server(self.folder)


def pytest_collection_finish(session):
    "In each process that runs tests, before the first."
    keep_what_is_imported()
    if "PYTEST_XDIST_WORKER" in os.environ:
        with_chapters = any(item.path.stem in APART for item in session.items)
        session.config.servers = Servers(os.environ["CADVLM_TESTS"], with_chapters)


@pytest.fixture(scope="session")
def chapter_server(request, shared_folder):
    "The process that runs chapters."
    servers = getattr(request.config, "servers", None)
    if servers:
        servers.join()
    server = servers.chapters if servers else chapters.Server(shared_folder)
    yield server
    if not servers:
        server.close()


def pytest_sessionfinish(session):
    "The process that runs chapters ends when all have closed, those as well that had no chapter to run."
    if servers := getattr(session.config, "servers", None):
        servers.join()
        if servers.chapters:
            servers.chapters.close()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadScopeScheduling

    config.option.loadscopereorder = False
    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = group
    return scheduler


# --- folders and parts


@pytest.fixture(scope="session")
def root():
    "The top folder of the project."
    return ROOT


@pytest.fixture(scope="session")
def shared():
    """The folder of real CAD files (`deepcad/`, `fusion360/`, `cad_coder/`); tests that need it are skipped where it is
    missing."""
    folder = Path(os.environ.get("CADVLM_SHARED", ROOT.parent / "shared"))
    if not (folder / "deepcad" / "cad_json").is_dir():
        pytest.skip("needs real DeepCAD files: put them in ../shared/deepcad, or name the folder in CADVLM_SHARED")
    return folder


class RealParts:
    "Real DeepCAD parts; each file is read once, and each part built once, in a process that runs tests."

    def __init__(self, folder):
        self.paths = sorted((folder / "cad_json").glob("*/*.json"))
        self.by_id = {path.stem: path for path in self.paths}
        self.read = lru_cache(maxsize=None)(lambda id: read(self.by_id[id]))
        self.build = lru_cache(maxsize=None)(lambda id: build(self.read(id)))

    def sequences(self):
        "Yields `(id, sequence)` of the parts that can be read."
        for id in self.by_id:
            try:
                yield id, self.read(id)
            except CadError:
                continue

    def solids(self, ids=None):
        "Yields `(id, sequence, solid)` of the parts that have a solid, by default of all."
        for id in self.by_id if ids is None else ids:
            try:
                yield id, self.read(id), self.build(id)
            except CadError:
                continue


@pytest.fixture(scope="session")
def real_parts(shared):
    return RealParts(shared / "deepcad")


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory):
    "A folder of the session, the same for all processes that run the tests."
    top = tmp_path_factory.getbasetemp()
    return top.parent if "PYTEST_XDIST_WORKER" in os.environ else top


@pytest.fixture(scope="session")
def once(shared_folder):
    "`once(name, make)`: the folder that `make(folder)` fills, once in a session, however many processes run the tests."

    def made(name, make):
        folder, mark = shared_folder / name, shared_folder / f"{name}.made"
        with FileLock(shared_folder / f"{name}.lock"):
            if not mark.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                mark.touch()
        return folder

    return made


@pytest.fixture(scope="session")
def sixty(tmp_path_factory):
    "A source of sixty parts, laid out as DeepCAD is; see `builders.sixty_parts`."
    folder = tmp_path_factory.mktemp("sixty") / "tiny"
    sixty_parts(folder)
    return folder


@pytest.fixture
def memory():
    "fsspec's object store in memory, empty before and after."
    fsspec = pytest.importorskip("fsspec", reason="needs fsspec: pip install 'cadvlm[cluster]'")
    store = fsspec.filesystem("memory")

    def clear():
        if store.ls("/"):
            store.rm("/", recursive=True)

    clear()
    yield store
    clear()


@pytest.fixture
def server(monkeypatch):
    "A server of one file on loopback; downloads try again at once."
    monkeypatch.setattr(module_of(download), "_PAUSE", 0.001)
    server = Server()
    yield server
    server.close()
