"""The scripts in `tools/`: they call commands as these are, and measure nothing twice. `test_types.py` finds names that
are not there."""

import ast
import importlib.util
import inspect

import pytest

import bench_bounds
import bench_cadquery_public
import results
from cadvlm.app.cli import COMMANDS
from cadvlm.settings.base import ordered
from conftest import ROOT


def signature_of(cls):
    "The signature of a command: arguments, then settings by their names. No command is imported for it."
    Parameter = inspect.Parameter
    before = [Parameter(n, Parameter.POSITIONAL_OR_KEYWORD, default=a.default) for n, a in cls.arguments.items()]
    return inspect.Signature([*before, *(Parameter(n, Parameter.KEYWORD_ONLY, default=None) for n in ordered(cls))])


FUNCTIONS = {f"cadvlm.{cls.function}": signature_of(cls) for cls in COMMANDS.values()}
FUNCTIONS |= {f"results:{f.__name__}": inspect.signature(f) for f in (results.about, results.is_measured)}


def known_calls(tree):
    "`(signature, call)` of each call of a command, or of a function of `results`, that a script imports by its name."
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


def fits(signature, call):
    "May a function be called in this way? What `*` and `**` bring is not known."
    words = {k.arg: None for k in call.keywords if k.arg}
    whole = len(words) == len(call.keywords) and not any(isinstance(a, ast.Starred) for a in call.args)
    before = [p for p in signature.parameters.values() if p.kind is p.POSITIONAL_ONLY and p.default is p.empty]
    try:
        (signature.bind if whole else signature.bind_partial)(*call.args, **words)
    except TypeError:
        return False
    return len(call.args) >= len(before)


def test_calls_of_commands_are_checked():
    calls = "synthesize('a', 5)", "synthesize('a', sead=1)", "synthesize()", "synthesize('a', count=5)"
    tree = ast.parse("\n".join(["from cadvlm.stages.synthesize import synthesize", *calls]))
    assert [fits(*call) for call in known_calls(tree)] == [False, False, False, True]


@pytest.mark.parametrize("path", sorted((ROOT / "tools").glob("*.py")), ids=lambda path: path.stem)
def test_tools_call_commands_with_their_settings(path):
    calls = known_calls(ast.parse(path.read_text()))
    assert not [ast.unparse(call) for signature, call in calls if not fits(signature, call)]


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


# --- comparison with published scripts


def test_functions_of_a_published_script_are_taken_without_running_it(tmp_path):
    pytest.importorskip("cadquery")
    from bench_official import functions, origin

    (tmp_path / "script.py").write_text("def twice(x):\n    return factor * x\n\n\nraise SystemExit('it was run')\n")
    assert functions(tmp_path / "script.py", "twice", factor=2).twice(3) == 6
    (tmp_path / "ORIGIN").write_text("owner/name 0123456789abcdef\n")
    assert origin(tmp_path) == dict(source="owner/name", commit="0123456789ab")


def test_pairs_without_a_number_are_counted_apart():
    pytest.importorskip("cadquery")
    from bench_official import summed

    values = ((0.5, 0.4, 0.4), (0.2, 0.2, 0.3), (None, 0.1, 0.1), (float("nan"), None, None), (0.7, None, None))
    found = summed([dict(zip(("official", "own", "again"), v)) for v in values])
    assert (found["both"], found["own_alone"], found["official_alone"]) == (2, 1, 1)
    assert found["largest_difference"] == found["largest_between_seeds"] == 0.1 and found["beyond_a_hundredth"] == 1


def test_changed_vectors_stay_near():
    pytest.importorskip("cadquery")
    import numpy as np
    from bench_official import LEVELS, changed
    from cadvlm.synth.histories import part
    from cadvlm.text.vectors import to_vectors

    vectors = to_vectors(part(0, 3))
    apart = np.abs(changed(vectors, 0) - vectors)
    assert 0 < apart.max() <= LEVELS and not apart[:, [0, 4, 6, 7, 8, 15, 16]].any()


@pytest.mark.occ
@pytest.mark.skipif(importlib.util.find_spec("cadquery") is None, reason="needs CadQuery: pip install cadvlm[dev]")
def test_public_programs_are_counted(tmp_path):
    box = "import cadquery as cq\nfrom ocp_vscode import show\nr = cq.Workplane().box(9, 9, 4)"
    programs = dict(
        read=box + ".faces('>Z').hole(4)\nshow(r)",
        outside=box + ".edges('|Z').fillet(1)",
        rejected=box + ".faces('>Z').wires().toPending().extrude(1)",
        invalid=box + ".edges('|Z').fillet(99)",
        endless=box + "\nwhile True: pass",
    )
    for name, text in programs.items():
        (tmp_path / f"{name}.py").write_text(text)
    row = bench_cadquery_public.measured(tmp_path, seconds=3)
    assert [row[c] for c in ("programs", "valid", "read", "equal", "wrong")] == [5, 3, 1, 1, 0]
    assert (row["outside_language"], row["rejected"], row["reasons"]) == (1, 1, "not_allowed=1")
