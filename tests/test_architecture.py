"""The design holds: floors, one command for one class of settings, chapters that can be read."""
import ast
import json
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE, CHAPTERS = ROOT / "cadvlm", sorted((ROOT / "nbs").glob("[0-9]*.ipynb"))
# the floor of each wing, and of the modules on the ground; imports only go down, and stages do not import each other
FLOORS = dict(errors=0, files=0, cad=1, text=2, settings=3, corpus=3, jobs=4, synth=5, reading=5, stages=6, learn=6)
FLOORS |= dict(measure=7, app=8)
# the first digit of a chapter is its wing
DIGITS = dict(errors=0, files=0, cad=1, text=2, corpus=3, settings=3, jobs=4, synth=5, reading=5, stages=6, learn=7)
DIGITS |= dict(measure=8, app=9)
WIDTH, CELL = 120, 60
IMPORT = ast.Import, ast.ImportFrom


@cache
def modules():
    "`(parts of the name, its import statements)` of each module."
    paths = {path.relative_to(PACKAGE).with_suffix("").parts: path for path in sorted(PACKAGE.rglob("*.py"))}
    return [(name, [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, IMPORT)])
            for name, path in paths.items() if name[-1] not in ("__init__", "__main__", "_modidx")]


def imported(name, statements):
    "The modules of the package that a module imports, as parts of their names."
    for node in statements:
        if isinstance(node, ast.ImportFrom) and node.level:
            base = name[: len(name) - node.level]
            for alias in node.names if not node.module else [None]:
                yield (*base, *(node.module.split(".") if node.module else [alias.name]))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cadvlm."):
            yield tuple(node.module.split(".")[1:])


def test_imports_only_go_down():
    wrong = []
    for name, statements in modules():
        for other in imported(name, statements):
            same = name[0] == other[0]
            if FLOORS[other[0]] > FLOORS[name[0]] or (same and name[0] == "stages"):
                wrong.append(f"{'.'.join(name)} imports {'.'.join(other)}")
    assert not wrong, wrong


def test_ground_knows_no_command_line_library():
    users = {name for name, statements in modules() if "cyclopts" in " ".join(map(ast.unparse, statements))}
    assert {name[0] for name in users} <= {"app"}


def cells():
    "`(chapter, id, type, source, outputs)` of each cell of each chapter."
    for path in CHAPTERS:
        for cell in json.loads(path.read_text())["cells"]:
            yield path.stem, cell["id"], cell["cell_type"], "".join(cell["source"]), cell.get("outputs", [])


def test_code_lines_of_chapters_are_narrow():
    wide = [f"{chapter} {id}: {len(line)}" for chapter, id, kind, source, _ in cells() if kind == "code"
            for line in source.splitlines() if len(line) > WIDTH]
    assert not wide, wide


def test_exported_cells_are_short():
    long = [f"{chapter} {id}: {source.count(chr(10)) + 1}" for chapter, id, kind, source, _ in cells()
            if kind == "code" and re.match(r"#\|\s*exports?\b", source) and source.count("\n") + 1 >= CELL]
    assert not long, long


def test_chapter_numbers_follow_the_floors():
    for chapter, _, _, source, _ in cells():
        found = re.match(r"#\| default_exp ([\w.]+)", source)
        if found:
            assert int(chapter[0]) in digits_of(found[1]), chapter


def digits_of(module):
    "The first digits that the chapter of a module may have; settings stand before the wing that they are of."
    wing, _, name = module.partition(".")
    return {DIGITS[wing]} | ({DIGITS[name]} if wing == "settings" and name in DIGITS else set())


def test_next_chapter_is_the_next_one():
    names = [path.stem for path in CHAPTERS]
    wrong = []
    for chapter, _, kind, source, _ in cells():
        found = kind == "markdown" and re.search(r"The next chapter, \[[^\]]+\]\((\w+)\.ipynb\)", source)
        if found and found[1] != names[names.index(chapter) + 1]:
            wrong.append(f"{chapter}: {found[1]}, and not {names[names.index(chapter) + 1]}")
    assert not wrong, wrong


def test_links_between_chapters_are_right():
    names = {path.stem for path in (ROOT / "nbs").glob("*.ipynb")}
    links = [(chapter, link) for chapter, _, kind, source, _ in cells() if kind == "markdown"
             for link in re.findall(r"\]\(([\w-]+)\.ipynb", source)]
    assert not [pair for pair in links if pair[1] not in names]


@pytest.mark.parametrize("pattern", [r"\w*Warning: ", r"<ipython-input", r"/tmp/", r"/work/", r"/home/", r"/root/"])
def test_stored_outputs_hold_no_warning_and_no_path(pattern):
    found = [f"{chapter} {id}" for chapter, id, _, _, outputs in cells() if re.search(pattern, text_of(outputs))]
    assert not found, found


def text_of(outputs):
    "What a cell printed or returned, as text."
    texts = [o.get("text", []) for o in outputs] + [o.get("data", {}).get("text/plain", []) for o in outputs]
    return "\n".join("".join(t) for t in texts)
