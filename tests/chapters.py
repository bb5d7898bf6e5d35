"""A process that runs chapters: it imports once what chapters import, and forks for each of them, so that every chapter
has a process of its own and none waits for imports.

`python -c "from chapters import serve; serve()"` reads `path of a notebook`, tab, `path for its output` from each line
of its input, and answers each with the exit code of the process that ran the notebook.
"""

import gc
import importlib
import os
import pkgutil
import sys
from pathlib import Path

import cadvlm

COMMON = ("matplotlib.pyplot", "pandas", "PIL.Image", "IPython.display", "torchvision", "transformers")


def preload():
    "Import the package, where its libraries are installed, and what most chapters import beside it."
    modules = [m.name for m in pkgutil.walk_packages(cadvlm.__path__, "cadvlm.") if "__main__" not in m.name]
    for name in (*modules, *COMMON):
        try:
            importlib.import_module(name)
        except (ImportError, cadvlm.errors.CadError):
            continue  # an extra that is missing; the chapters say so
    cadvlm.cad.drawing.warm_up()
    if vocabulary := sys.modules.get("cadvlm.learn.vocabulary"):
        vocabulary.automaton()
    gc.collect()
    gc.freeze()  # what is imported stays: a collection of garbage that looks at all of it takes half a second


def run(path, flags):
    "Run the cells of a notebook in this process; returns the exit code."
    from nbdev.test import test_nb

    try:
        return 0 if test_nb(path, skip_flags=flags)[0] else 1
    finally:
        sys.stdout.flush(), sys.stderr.flush()


def forked(path, output, flags):
    "The exit code of a child that runs a notebook, and whose output goes to a file."
    child = os.fork()
    if not child:
        code = 70
        try:
            file = os.open(output, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
            for stream in (1, 2):
                os.dup2(file, stream)
            code = run(path, flags)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def serve(flags=()):
    "Run what the lines of the input name, one after the other."
    import nbdev.test  # noqa: F401, loads IPython

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    preload()
    for line in sys.stdin:
        path, _, output = line.rstrip("\n").partition("\t")
        print(forked(Path(path), output, flags), file=answers, flush=True)
    os._exit(0)  # what has been imported takes long to go
