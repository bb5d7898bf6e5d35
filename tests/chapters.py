"""A process that runs chapters: it imports once what chapters import, and forks for each of them, so that every chapter
has a process of its own and none waits for imports. All processes that run tests side by side ask the same one, at a
Unix socket, with `path of a notebook`, tab, `path for its output`; it answers with the exit code of the process that
ran the notebook, and ends when all who have asked are gone.
"""

import importlib
import inspect
import os
import pkgutil
import selectors
import socket
import subprocess
import sys
import time
import types
from contextlib import suppress
from multiprocessing import forkserver
from pathlib import Path

import numba
import numpy as np
from filelock import FileLock
from nbdev.config import get_config

import cadvlm
from builders import environment, keep_what_is_imported, warm_fork_server

COMMON = ("matplotlib.pyplot", "pandas", "PIL.Image", "IPython.display", "torchvision", "transformers")
SERVE = "import sys; from chapters import serve; serve(sys.argv[1], sys.argv[2].split())"


def same_value(a, b):
    "Are two values of a name the same object, or equal constants?"
    if a is b:
        return True
    if type(a) is not type(b) or not isinstance(a, (int, float, str, tuple, np.ndarray)):
        return False
    return np.array_equal(a, b) if isinstance(a, np.ndarray) else repr(a) == repr(b)


def names_in(code):
    "Names that a function looks up, and the functions in it."
    return {*code.co_names}.union(*(names_in(c) for c in code.co_consts if isinstance(c, types.CodeType)))


def same_kernel(function, kernel):
    "Does a function of a notebook do what a kernel of the package does, with the same kernels and constants?"
    known, missing = kernel.py_func, object()
    if inspect.getsource(function) != inspect.getsource(known) or function.__closure__ or known.__closure__:
        return False
    names = names_in(function.__code__) & {*known.__globals__}
    return all(same_value(function.__globals__.get(n, missing), known.__globals__[n]) for n in names)


def njit_of_chapters(njit):
    """`numba.njit` that takes the compiled kernel of the package where a notebook defines the same one again: what the
    package has compiled is on disk, and a notebook would compile it anew, every time."""
    modules = [m for name, m in sys.modules.items() if name.startswith("cadvlm.")]
    kernels = [k for m in modules for k in vars(m).values() if hasattr(k, "py_func")]

    def made(*words, **options):
        if words:
            return njit(*words, **options)

        def one(function):
            alike = [k for k in kernels if k.__name__ == function.__name__ and function.__module__ == "__main__"]
            return next((k for k in alike if same_kernel(function, k)), None) or njit(**options)(function)

        return one

    return made


def draw_once():
    "Let a figure be drawn once, when it is shown, and small: nobody looks at it."
    from execnb.shell import CaptureShell
    from matplotlib import pyplot

    begin = CaptureShell.__init__

    def begin_small(self, *args, **options):
        begin(self, *args, **options)
        self._run("set_matplotlib_formats('png', dpi=40, bbox_inches=None)")

    CaptureShell.__init__ = begin_small
    pyplot.draw_all = lambda *_: None


def preload():
    "Import the package, where its libraries are installed, and what most chapters import beside it."
    import nbdev.test  # noqa: F401, loads IPython

    modules = [m.name for m in pkgutil.walk_packages(cadvlm.__path__, "cadvlm.") if "__main__" not in m.name]
    for name in (*modules, *COMMON):
        try:
            importlib.import_module(name)
        except (ImportError, cadvlm.errors.CadError):
            continue  # an extra that is missing; the chapters say so
    cadvlm.cad.drawing.warm_up()
    cadvlm.reading.reconstruct.load_kernels()
    numba.njit = njit_of_chapters(numba.njit)
    draw_once()
    if vocabulary := sys.modules.get("cadvlm.learn.vocabulary"):
        vocabulary.automaton()
    warm_fork_server()
    keep_what_is_imported()


def run(path, flags):
    "Run the cells of a notebook in this process; returns the exit code."
    from nbdev.test import test_nb

    try:
        return 0 if test_nb(path, skip_flags=flags)[0] else 1
    finally:
        sys.stdout.flush(), sys.stderr.flush()


def forked(path, output, flags):
    "A child that runs a notebook, and whose output goes to a file."
    child = os.fork()
    if not child:
        code = 70
        # all chapters fork their workers from the server of this process; none can wait for it, which is not its child
        forkserver.ensure_running = forkserver._forkserver.ensure_running = lambda: None
        try:
            file = os.open(output, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
            for stream in (1, 2):
                os.dup2(file, stream)
            code = run(path, flags)
        finally:
            os._exit(code)
    return child


def serve(address, flags=()):
    "Run what is asked for at a Unix socket, as much at a time as is asked for."
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    preload()
    ready, running = selectors.DefaultSelector(), {}
    ready.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in ready.select(0.02 if running else None):
            if key.fileobj is listener:
                ready.register(listener.accept()[0], selectors.EVENT_READ)
            elif asked := key.fileobj.recv(10_000).decode():
                path, output = asked.split("\t")
                running[forked(Path(path), output, flags)] = key.fileobj
            else:
                ready.unregister(key.fileobj)
                if len(ready.get_map()) == 1:
                    os.unlink(address)  # whoever comes later starts another
                    os._exit(0)  # what has been imported takes long to go
        for child, asker in list(running.items()):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                del running[child]
                with suppress(OSError):  # who has asked is gone
                    asker.send(f"{os.waitstatus_to_exitcode(status)}".encode())


def connected(address):
    "A connection to a server that has begun to listen."
    for _ in range(600):
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(address)
            return connection
        except OSError:
            connection.close()
            time.sleep(0.05)
    raise TimeoutError(f"nobody listens at {address}")


class Server:
    "The server of all processes that run tests; the first who needs it starts it, in a folder that all of them have."

    def __init__(self, folder):
        address, self.process = str(folder / "chapters"), None
        with FileLock(folder / "chapters.lock"):
            if not Path(address).exists():
                command = [sys.executable, "-c", SERVE, address, get_config().tst_flags]
                self.process = subprocess.Popen(command, env=environment(Path(__file__).parent))
            self.connection = connected(address)

    def run(self, path, output):
        "The exit code of a chapter."
        self.connection.send(f"{path}\t{output}".encode())
        code = self.connection.recv(100)
        assert code, f"the process that runs chapters has died with {path.name}"
        return int(code)

    def close(self):
        "Leave; who has started the server waits until it ends."
        self.connection.close()
        if self.process:
            self.process.wait()
