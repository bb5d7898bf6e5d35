"""Run notebooks in place and keep their outputs: `python tools/runsave.py nbs/13_solid.ipynb`.

Cells marked `eval: false` or with a test flag (`notest`, `slow`) are left as they are. Running twice gives the same
bytes.
"""
import json, os, sys, tempfile
from pathlib import Path

from execnb.nbio import read_nb, write_nb
from execnb.shell import CaptureShell
from fastcore.xtras import working_directory
from nbdev.clean import clean_nb
from nbdev.config import get_config
from nbdev.process import extract_directives


def is_skipped(cell, flags):
    "Is this a cell that a test run would leave out too?"
    if cell.cell_type != "code" or "nbdev_export(" in cell.source:
        return True
    directives = extract_directives(cell, remove=False)
    return directives.get("eval:", [""])[0].lower() == "false" or bool(flags & directives.keys())


def local_folders(root):
    """Folders whose names must not appear in a stored output: the checkout, the home folder, the place for temporary
    files."""
    folders = {str(root), os.path.expanduser("~"), tempfile.gettempdir()}
    return sorted(folder for folder in folders if folder != "/")


def reject_local_paths(notebook, root):
    "Raise when an output would store a path of this machine."
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            text = json.dumps({k: v for k, v in output.get("data", {}).items() if "image/" not in k}
                              | {"text": output.get("text", "")})
            for folder in local_folders(root):
                if folder + "/" in text or f"'{folder}'" in text:
                    raise ValueError(f"the output of cell {number} holds a path of this machine, {folder}: "
                                     f"{text[:300]}")


def run_and_save(path, config):
    "Run the notebook at `path` in its own folder and write it back with its outputs."
    notebook, flags = read_nb(path), set(config.tst_flags.split())
    shell = CaptureShell(path)
    with working_directory(path.parent):
        shell.run_all(notebook, exc_stop=True, preproc=lambda cell: is_skipped(cell, flags))
    reject_local_paths(notebook, config.config_path)
    clean_nb(notebook)
    write_nb(notebook, path)


if __name__ == "__main__":
    os.environ.setdefault("TQDM_DISABLE", "1")  # a progress bar differs at every run
    for name in sys.argv[1:]:
        run_and_save(Path(name).resolve(), get_config())
        print(f"ran {name}")
