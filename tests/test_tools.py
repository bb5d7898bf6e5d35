"""The scripts in `tools/`: they call commands as these are, and measure nothing twice. `test_types.py` finds names that
are not there."""

import ast

import pytest

import bench_bounds
import results
from cadvlm.app.cli import COMMANDS
from cadvlm.settings.base import ordered
from conftest import ROOT

FUNCTIONS = {f"cadvlm.{cls.function}": cls for cls in COMMANDS.values()}


def calls_of_commands(tree):
    "`(class of settings, call)` of each call of a command that a script imports by its name."
    named = {
        alias.asname or alias.name: FUNCTIONS[f"{node.module}:{alias.name}"]
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if f"{node.module}:{alias.name}" in FUNCTIONS
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in named:
            yield named[node.func.id], node


def wrong(cls, call):
    "What a call has that a command does not take: arguments stand before the settings, and settings are named."
    words = [k.arg for k in call.keywords if k.arg]
    return [w for w in words if w not in (*cls.arguments, *ordered(cls))] + call.args[len(cls.arguments) :]


def test_calls_of_commands_are_checked():
    calls = "synthesize('a', 5, sead=1)", "synthesize('a', count=5)"
    tree = ast.parse("\n".join(["from cadvlm.stages.synthesize import synthesize", *calls]))
    assert [len(wrong(*call)) for call in calls_of_commands(tree)] == [2, 0]


@pytest.mark.parametrize("path", sorted((ROOT / "tools").glob("*.py")), ids=lambda path: path.stem)
def test_tools_call_commands_with_their_settings(path):
    calls = calls_of_commands(ast.parse(path.read_text()))
    assert not [ast.unparse(call) for cls, call in calls if wrong(cls, call)]


def test_what_the_same_code_has_measured_is_not_measured_again(real_parts, tmp_path, monkeypatch):
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    folder = tmp_path / "few"
    folder.mkdir()
    for path in real_parts.paths[:60:20]:
        (folder / path.name).write_bytes(path.read_bytes())
    rows = []
    for code in (("cad",), ("cad",), ("text",)):
        monkeypatch.setattr(bench_bounds, "CODE", code)
        bench_bounds.main(folder)
        rows.append(results.rows_of("bounds"))
    assert rows[0] and rows[1] == rows[0] and rows[2][: len(rows[0])] == rows[0] and len(rows[2]) == 2 * len(rows[0])
