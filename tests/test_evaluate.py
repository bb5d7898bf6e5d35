"""Evaluation against independent computations: Open CASCADE, brute force, SciPy's bootstrap, definitions written out;
and what hostile or broken predictions do."""

import itertools
import json
import math
import time
import tracemalloc

import numpy as np
import orjson
import pandas as pd
import pytest
from scipy import stats

from builders import circle, disc, error_line, module_of, numbers, raised, reason, rectangle, some
from cadvlm.app.cli import main
from cadvlm.corpus.dataset import Dataset, record_failures
from cadvlm.errors import DatasetError, error_of
from cadvlm.files import write_json
from cadvlm.measure.evaluate import evaluate, read_predictions
from cadvlm.measure.execute import executed
from cadvlm.measure.metrics import accuracy, chamfer, curve_f1, in_world, surface_points
from cadvlm.measure.protocols import PROTOCOLS, as_truth, score
from cadvlm.measure.summary import interval, summarize
from cadvlm.text.language import decode, encode, extract_code
from cadvlm.text.vectors import load_vectors, to_vectors
from cadvlm.cad.curves import Arc, Circle, Line, Loop, Profile
from cadvlm.cad.sequence import CadSequence, Extent, Operation, read, to_deepcad
from cadvlm.errors import CadError
from cadvlm.cad.overlap import iou
from cadvlm.cad.polygons import IDENTITY
from cadvlm.cad.solid import build
from cadvlm.synth.histories import part
from hostile import plate_with_holes

IDS = [f"{i:08}" for i in range(12)]
GONE = "00000012"


@pytest.fixture(scope="module")
def sequences():
    "Synthetic parts of one to four extrudes, with lines, arcs and circles; part 7 of the corpus is slow to score."
    return {i: part(0, k if k != 7 else 38) for k, i in enumerate(IDS)}


@pytest.fixture(scope="module")
def dataset(sequences, tmp_path_factory):
    "Twelve synthetic parts, all in the test split, and one that cuts itself away."
    dataset = Dataset(tmp_path_factory.mktemp("truth") / "dataset")
    nothing = CadSequence(
        (
            raised(0.01, rectangle(0.02, 0.02)),
            raised(0.09, disc(0.09), operation=Operation.CUT, extent=Extent.SYMMETRIC),
        )
    )
    for id, sequence in (sequences | {GONE: nothing}).items():
        write_json(dataset.json_path(id), to_deepcad(sequence))
    write_json(dataset.path / "train_val_split.json", dict(train=[], validation=[GONE], test=IDS))
    return dataset


def copies(sequences, language="compact"):
    return [dict(id=i, code=encode(s, language), language=language) for i, s in sequences.items()]


def written(path, predictions):
    path.write_bytes(b"".join(orjson.dumps(p) + b"\n" for p in predictions))
    return path


# --- measures against independent computations


def test_surface_points_are_uniform_by_area():
    solid = in_world(build(part(3, 7)))
    points, (vertices, faces) = surface_points(solid, 40_000, np.random.default_rng(0)), solid.mesh
    a, b, c = vertices[faces].transpose(1, 0, 2)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
    centre = (area[:, None] * (a + b + c) / 3).sum(axis=0) / area.sum()
    assert np.allclose(points.mean(axis=0), centre, atol=0.02 * np.ptp(vertices, axis=0).max())
    normals = np.cross(b - a, c - a) / np.maximum(2 * area, 1e-12)[:, None]
    off = np.abs(np.einsum("fk,pk->pf", normals, points[:300]) - np.einsum("fk,fk->f", normals, a)).min(axis=1)
    assert off.max() < 1e-9 * np.abs(vertices).max() + 1e-9  # each lies in the plane of a triangle


def test_chamfer_matches_brute_force():
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=(200, 3)), rng.normal(1, 2, size=(170, 3))
    squares = ((a[:, None] - b) ** 2).sum(axis=2)
    assert math.isclose(chamfer(a, b), squares.min(axis=1).mean() + squares.min(axis=0).mean()) and chamfer(a, a) == 0


def test_chamfer_of_a_scaled_cube():
    """A cube of half the side inside another: from the outer surface to the inner one, by a fine grid; and back,
    1/4 of the side everywhere."""
    outer, inner = (
        in_world(build(CadSequence((raised(s, rectangle(s, s, -s / 2, -s / 2), extent=Extent.SYMMETRIC),)).scaled(1.0)))
        for s in (1.0, 0.5)
    )
    rng = np.random.default_rng(0)
    a, b = surface_points(outer, 30_000, rng), surface_points(inner, 30_000, rng)
    beyond = lambda p, box: np.maximum(np.abs(p) - box, 0)  # a cube sticks out symmetric: its box is known
    size = np.abs(inner.mesh[0]).max(axis=0)
    outward = (beyond(a, size) ** 2).sum(axis=1).mean()
    inward = ((np.abs(outer.mesh[0]).max(axis=0) - np.abs(b)).min(axis=1) ** 2).mean()
    assert math.isclose(chamfer(a, b), outward + inward, rel_tol=0.01)


@pytest.mark.occ
def test_iou_matches_open_cascade(sequences):
    pytest.importorskip("OCP", reason="needs Open CASCADE: pip install cadvlm[cad]")
    from OCP.BRepAlgoAPI import BRepAlgoAPI_Common

    import occ

    count = 0
    for sequence in list(sequences.values())[:8]:
        moved = sequence.scaled(1.0, (0.05 * np.ptp(build(sequence).bounds, axis=0)).tolist())
        try:
            a, b = (occ.occ_solid(to_deepcad(s)) for s in (sequence, moved))
        except occ.OccFailure:
            continue
        common = occ.occ_volume(BRepAlgoAPI_Common(a, b).Shape())
        expected = common / (occ.occ_volume(a) + occ.occ_volume(b) - common)
        truth = build(sequence)
        assert math.isclose(iou(in_world(truth), in_world(build(moved))), expected, abs_tol=0.01)
        count += 1
    assert count >= 5


USED = {0: "xy", 1: "xyaf", 2: "xyr", 5: "tpgXYZs12bu"}
PLACES = "xyafrtpgXYZs12bu"


def by_the_letter(rows, truth):
    "ACC as its definition says, one argument at a time."
    truth = list(itertools.takewhile(lambda r: r[0] != 3, truth.tolist()))
    right, close = [], []
    for i, row in enumerate(truth):
        said = rows[i].tolist() if i < len(rows) else [3] + [-1] * 16
        right.append(said[0] == row[0])
        for name in USED.get(row[0], "") if right[-1] else "":
            a, b = said[1 + PLACES.index(name)], row[1 + PLACES.index(name)]
            close.append(a == b if name in "fbu" else abs(a - b) < 3)
    return np.mean(right), np.mean(close) if close else math.nan


def test_accuracy_matches_its_definition(sequences):
    rng = np.random.default_rng(0)
    tables = [to_vectors(s, limits=False) for s in sequences.values()]
    for truth, other in itertools.product(tables, tables[:6]):
        noisy = truth + rng.integers(-4, 5, truth.shape) * (rng.random(truth.shape) < 0.3)
        for rows in (other, noisy, noisy[:4], np.concatenate((noisy, other))):
            assert np.allclose(accuracy(rows, truth), by_the_letter(rows, truth), equal_nan=True)


def test_official_vectors_score_perfectly_under_deepcad(shared):
    "The official vectors, as predictions, against the truth from the JSON files."
    files = sorted((shared / "deepcad" / "cad_vec").rglob("*.h5"))[:40]
    if not files:
        pytest.skip("needs official vectors in ../shared/deepcad/cad_vec")
    scores = []
    for path in files:
        truth = as_truth(read(shared / "deepcad" / "cad_json" / path.stem[:4] / f"{path.stem}.json"), "vectors")
        scores.append(score(load_vectors(path).tolist(), "vectors", truth, "deepcad"))
    assert all(s["acc_cmd"] == s["acc_param"] == 1 for s in scores)
    assert np.median([s["cd"] for s in scores if s["valid"]]) < 5e-3


def test_curve_f1_matches_brute_force_assignment():
    "Loops in another order, of other kinds and moved: the cheapest of all permutations says how many kinds agree."
    half = Loop((Arc((3.0, 0.0), (1.0, 0.0), (2.0, 0.0), math.pi), Line((1.0, 0.0), (3.0, 0.0))))
    profile = lambda *holes: Profile(rectangle(10.0, 10.0, -5.0, -5.0).outer, holes)
    holes = [circle(0.5, -3.0, -3.0), circle(0.6, 3.0, -3.0), half, rectangle(1.0, 1.0, -3.0, 3.0).outer]
    truth = CadSequence((raised(1.0, profile(*holes)),))
    assert all(
        set(curve_f1(CadSequence((raised(1.0, profile(*order)),)), truth).values()) == {1.0}
        for order in itertools.permutations(holes)
    )
    changed = [rectangle(1.0, 1.0, -3.5, -3.5).outer, *holes[1:]]  # a square in place of a disc
    said = CadSequence((raised(1.0, profile(*changed)),))
    box = lambda loop: np.ravel(loop.bounds)
    cost = lambda order: sum(np.linalg.norm(box(a) - box(b)) for a, b in zip(changed, order))
    best = min(itertools.permutations(holes), key=cost)
    circles = sum(isinstance(a.curves[0], Circle) and isinstance(b.curves[0], Circle) for a, b in zip(changed, best))
    found = curve_f1(said, truth)
    assert (
        circles == 1
        and math.isclose(found["f1_circle"], 2 * circles / (1 + 2))
        and math.isclose(found["f1_line"], 2 * 9 / (9 + 13))
        and found["f1_arc"] == 1
    )


@pytest.mark.parametrize("statistic", [np.nanmean, np.nanmedian])
def test_bootstrap_intervals_match_scipy(statistic):
    values = np.random.default_rng(2).beta(2, 1, 150)
    expected = stats.bootstrap(
        (values,),
        statistic,
        n_resamples=4000,
        method="percentile",
        axis=-1,
        vectorized=False,
        random_state=np.random.default_rng(0),
    ).confidence_interval
    assert np.allclose(interval(values, np.arange(150), statistic), expected, atol=0.012)
    assert (
        interval(values, np.arange(150), statistic) == interval(values, np.arange(150), statistic)
        and interval(values[:1], ["a"]) is None
    )


# --- protocols


@pytest.mark.parametrize("language", ["cadquery", "compact", "vectors"])
def test_copy_scores_perfectly_in_every_language(sequences, language):
    for sequence in some(sequences, 2).values():
        truth = as_truth(sequence, language)
        code = (encode(sequence, language) if language != "vectors"
                else json.dumps(to_vectors(sequence, limits=False).tolist()) )
        found = score(code, language, truth)
        assert found["valid"] and found["exact"] == found["acc_cmd"] == found["acc_param"] == found["f1_extrude"] == 1
        assert all(math.isnan(found[k]) or found[k] == 1 for k in ("f1_line", "f1_arc", "f1_circle"))
        assert all(set(score(code, language, truth, p)) == {"valid", *rule.measures} for p, rule in PROTOCOLS.items())


def test_real_parts_score_perfectly_against_themselves(shared):
    paths, count = some(sorted((shared / "deepcad" / "cad_json").glob("*/*.json"))[:400:8], 2), 0
    for path in paths:
        try:
            sequence = read(path)
            truth = as_truth(sequence)
        except CadError:
            continue
        if truth.written is None:
            continue
        found, exact = (score(encode(sequence, exact=e), "cadquery", truth) for e in (False, True))
        assert found["exact"] == found["acc_cmd"] == found["acc_param"] == 1 and exact["iou"] > 0.999, path.stem
        count += 1
    assert count > 0.7 * len(paths)


def test_protocols_ignore_translation_and_scale_as_documented():
    "A plate 200 x 100 x 20 at its place; moved by 40; of half size."
    plate = CadSequence((raised(20.0, rectangle(200.0, 100.0, -100.0, -50.0)),)).scaled(1.0, (0.0, 0.0, -10.0))
    truth = as_truth(plate.scaled(1e-3, (1.0, 2.0, 3.0)))
    say = lambda s, protocol: score(encode(s, frame=IDENTITY), "cadquery", truth, protocol)
    moved, half = plate.scaled(1.0, (40.0, 0.0, 0.0)), plate.scaled(0.5)
    in_the_corner = plate.scaled(0.5, (-50.0, -25.0, -5.0))
    assert math.isclose(say(moved, "cadvlm")["iou"], 160 / 240, rel_tol=1e-6) and math.isclose(
        say(half, "cadvlm")["iou"], 1 / 8, rel_tol=1e-6
    )
    assert say(plate, "cadvlm")["exact"] == 1 and say(moved, "cadvlm")["exact"] == 0
    assert all(math.isclose(say(s, "cadrille")["iou"], 1, rel_tol=1e-6) for s in (plate, moved, half))
    floor = say(plate, "cadrille")["cd"]
    forgiven = ((moved, "cadrille"), (half, "cadrille"), (in_the_corner, "text2cad"))
    assert all(math.isclose(say(s, p)["cd"], floor, rel_tol=0.2) for s, p in forgiven)
    assert say(half, "text2cad")["cd"] > 30 * floor
    assert (
        say(moved, "text2cad")["cd"] > 3 * floor
        and say(moved, "cadvlm")["cd"] > 3 * floor
        and say(half, "cadvlm")["cd"] > 30 * floor
    )
    # the unit of deepcad is that of the table: the part's own metres, furthest coordinate at 0.75, and 3.01 m are
    # furthest
    far = truth.unit / 200
    few = 1e-3 * floor * 8192 / 2000  # a floor goes with the number of points
    assert math.isclose(say(plate, "deepcad")["cd"], few / far**2, rel_tol=0.2) and math.isclose(
        truth.unit, 3.01 / 0.75 * 1000, rel_tol=1e-6
    )
    assert say(half, "deepcad")["acc_cmd"] == 1 > say(half, "deepcad")["acc_param"]


def test_unbuildable_vectors_have_an_accuracy(sequences):
    truth = as_truth(sequences[IDS[0]], "vectors")
    rows = truth.vectors.copy()
    rows[rows[:, 0] == 5, 12] = 0  # a sketch of no size
    found = score(rows.tolist(), "vectors", truth, "drawing2cad")
    assert not found["valid"] and found["acc_cmd"] == 1 > found["acc_param"] > 0.5


def test_predictions_are_scored_against_their_own_id(sequences, dataset):
    "Shuffled answers are scored where they were given: no id gets the answer that fits it best."
    codes = [p["code"] for p in copies(sequences)]
    wrong = [dict(id=i, code=c, language="compact") for i, c in zip(IDS, codes[1:] + codes[:1])]
    assert (
        evaluate(wrong, dataset.path, workers=1).exact.sum() == 0
        and evaluate(copies(sequences), dataset.path, workers=1).exact.sum() == 12
    )


# --- what models may write


HOSTILE = {
    "runs": "import os\nos.system('touch executed')",
    "reads": "r = open('/etc/passwd').read()",
    "dunder": "r = ().__class__.__base__.__subclasses__()",
    "endless": "import cadquery as cq\nwhile True: pass",
    "huge number": "import cadquery as cq\nr = cq.Workplane('XY').rect(1e999, 10).extrude(1)",
    "power": "import cadquery as cq\nr = cq.Workplane('XY').rect(9**9**9, 10).extrude(1)",
    "nan": "import cadquery as cq\nr = cq.Workplane('XY').rect(float('nan'), 10).extrude(1)",
    "deep": "r = " + "(" * 5000 + ")" * 5000,
    "long": "import cadquery as cq\nr = cq.Workplane('XY')" + ".rect(1, 1)" * 50_000,
    "nothing": "import cadquery as cq\nr = cq.Workplane('XY')",
    "flat": "import cadquery as cq\nr = cq.Workplane('XY').rect(10, 10).extrude(0)",
    "prose": "Sure! Here is the CAD code you asked for.",
    "nul": "\x00\x00\ud83d",
    "none": None,
    "number": 7,
    "object": {"r": 1},
}


@pytest.mark.parametrize("code", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("language", ["cadquery", "compact"])
def test_hostile_prediction_text_is_invalid(code, language, sequences, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = score(code, language, as_truth(sequences[IDS[0]], language))
    assert not found["valid"] and found["reason"] not in ("internal_error", "timeout") and not list(tmp_path.iterdir())


ROWS = [
    "",
    "[[",
    "{}",
    "[]",
    [],
    [[]],
    [[1, 2], [3]],
    [[4] * 17, [2**70] * 17],
    [[5] * 17],
    [["a"] * 17],
    [[0.5] * 17],
    [[3] + [-1] * 16],
    [[4] + [-1] * 16] * 3000,
    None,
    [[[1] * 17]],
    [[2**63] * 17],
    [[-(2**63)] * 17],
]


@pytest.mark.parametrize("code", ROWS, ids=range(len(ROWS)))
def test_hostile_prediction_vectors_are_invalid(code, sequences):
    found = score(code, "vectors", as_truth(sequences[IDS[0]], "vectors"))
    assert not found["valid"] and found["reason"] not in ("internal_error", "timeout")


def test_internal_error_is_an_invalid_prediction(sequences, dataset, monkeypatch):
    """A mistake of our own in one sample is a reason, and the other samples are scored; what the part has to
    offer is counted all the same."""
    whole = score
    broken = lambda code, *rest: whole(code, *rest) if code else 1 / 0
    monkeypatch.setattr(module_of(evaluate), "score", broken)
    said = copies(sequences)
    said[4]["code"] = ""
    table = evaluate(said, dataset.path, workers=1)
    assert table.valid.sum() == 11 and table.reason[4] == "internal_error" and table.vectors.notna().all()
    assert summarize(table)["measures"]["acc_cmd"]["failures_as_zero"]["mean"] == 11 / 12


def test_evaluate_reads_a_changed_part_again(sequences, tmp_path):
    dataset = Dataset(tmp_path / "dataset")
    write_json(dataset.path / "train_val_split.json", dict(train=[], validation=[], test=IDS[:1]))
    exact = []
    for i in IDS[:2]:
        write_json(dataset.json_path(IDS[0]), to_deepcad(sequences[i]))
        exact += evaluate(copies(sequences)[:1], dataset.path, workers=1).exact.tolist()
    assert exact == [1, 0]


def test_evaluate_has_a_time_limit(sequences):
    language, code = plate_with_holes(16, 0.3)  # takes half a second
    found = score(code, language, as_truth(sequences[IDS[0]], language), timeout=0.02)
    assert not found["valid"] and found["reason"] == "timeout"


def test_part_below_the_quantisation_step_is_valid_with_low_iou(sequences):
    found = score(
        "import cadquery as cq\nr = cq.Workplane('XY').rect(0.01, 0.01).extrude(0.01)",
        "cadquery",
        as_truth(sequences[IDS[0]]),
    )
    assert found["valid"] and found["exact"] == 0 and 0 <= found["iou"] < 1e-3


# --- files and the command


@pytest.mark.parametrize(
    "lines, code, line",
    [
        ('{"id": "00000001", "code": "", "language": "compact"}\n\n{"id": ', "not_json", 3),
        ("[1, 2]", "bad_prediction", 1),
        ('{"id": "00000001", "code": ""}', "bad_prediction", 1),
        ('{"id": 7, "code": "", "language": "compact"}', "bad_prediction", 1),
        (
            (
                '{"id": "00000001", "code": "", "language": "compact"}\n{"id": "00000001", "code": "+", "language":'
                ' "compact"}'
            ),
            "duplicate_prediction",
            2,
        ),
    ],
)
def test_bad_line_of_predictions_is_named(lines, code, line, tmp_path, capsys, dataset):
    path = tmp_path / "bad.jsonl"
    path.write_text(lines)
    with pytest.raises(DatasetError) as error:
        read_predictions(path)
    assert error.value.reason == code and str(path) in error.value.where and numbers(error.value.where)[-1] == str(line)
    assert main(["evaluate", str(path), str(dataset.path)]) == 2 and str(line) in numbers(error_line(capsys))
    assert not (tmp_path / "bad_cadvlm").exists()


def test_missing_predictions_are_invalid_and_views_are_samples(sequences, dataset):
    said = [p | dict(id=f"{p['id']}_{v}") for p in copies(sequences)[:6] for v in ("front", "top")][:-1]
    table = evaluate(said, dataset.path, workers=1)
    assert len(table) == 24 and table.part.nunique() == 12 and table.valid.sum() == 11
    assert table.reason.value_counts().to_dict() == dict(no_prediction=13) and set(table.id) == {
        f"{i}_{v}" for i in IDS for v in ("front", "top")
    }
    made = summarize(table)
    assert (made["samples"], made["parts"], made["valid"], made["invalid_ratio"]) == (24, 12, 11, 13 / 24)
    assert (
        math.isclose(made["measures"]["exact"]["failures_as_zero"]["mean"], 11 / 24)
        and made["measures"]["exact"]["valid"]["mean"] == 1
    )
    none = summarize(evaluate([], dataset.path, workers=1))
    assert (
        none["invalid_ratio"] == 1
        and none["measures"]["iou"]["valid"] == dict(n=0)
        and none["measures"]["iou"]["failures_as_zero"]["mean"] == 0
    )


def test_f1_of_a_curve_kind_counts_parts_that_have_it(sequences, dataset):
    said = copies(sequences)
    said[0]["code"] = "nonsense"
    table = evaluate(said, dataset.path, "text2cad", workers=1)
    made = summarize(table)["measures"]
    for name in ("line", "arc", "circle"):
        there = table[f"{name}s"] > 0
        assert (
            made[f"f1_{name}"]["failures_as_zero"]["n"] == there.sum()
            and made[f"f1_{name}"]["valid"]["n"] == (there & table.valid).sum()
        )
    assert made["f1_extrude"]["failures_as_zero"]["mean"] == 11 / 12 and made["cd"]["failures_as_zero"] is None


def test_parts_without_truth_are_not_counted(sequences, dataset):
    said = [*copies(sequences), dict(id=GONE, code="+", language="compact")]
    table = evaluate(said, dataset.path, split="all", workers=1)
    made = summarize(table)
    assert made["without_truth"] == dict(empty_solid=1) and made["invalid_ratio"] == 0 and made["samples"] == 12
    try:
        record_failures(dataset, "render", [dict(id=IDS[3], reason="timeout", message="")])
        assert len(evaluate(said, dataset.path, workers=1)) == 11
    finally:
        (dataset.path / "failures.jsonl").unlink()


def test_evaluate_command(sequences, dataset, tmp_path, capsys):
    said = copies(sequences)
    said[1]["code"], said[2] = said[1]["code"][:-2] + "x", dict(
        id=IDS[2], code=to_vectors(sequences[IDS[2]], limits=False).tolist(), language="vectors"
    )
    path = written(tmp_path / "model.jsonl", said[:-1])
    assert main(["evaluate", str(path), str(dataset.path), "--protocol", "deepcad", "--workers", "2"]) == 0
    shown = capsys.readouterr().out
    assert "deepcad" in shown and "IR" in shown and all(m in shown for m in PROTOCOLS["deepcad"].measures)
    assert all(
        "IR" in line
        for line in shown.splitlines()
        if line.split()[:1] and line.split()[0] in PROTOCOLS["deepcad"].measures
    )
    made = orjson.loads((tmp_path / "model_deepcad" / "evaluation.json").read_bytes())
    assert (
        made["protocol"] == "deepcad"
        and made["languages"] == dict(compact=11, vectors=1)
        and made["reasons"] == dict(no_prediction=1, syntax=1)
        and made["settings"]["split"] == "test"
    )
    table = pd.read_parquet(tmp_path / "model_deepcad" / "evaluation.parquet")
    assert len(table) == 12 and set(table.protocol) == {"deepcad"} and table.valid.sum() == 10
    assert (
        math.isclose(made["measures"]["cd"]["valid"]["mean"], table.cd.mean())
        and sum(b["samples"] for b in made["extrudes"].values()) == 12
    )
    assert (
        main(
            [
                "evaluate",
                str(path),
                str(dataset.path),
                "--protocol",
                "deepcad",
                "--workers",
                "1",
                "--output",
                str(tmp_path / "again"),
            ]
        )
        == 0
    )
    for name in ("evaluation.json", "evaluation.parquet"):  # workers change nothing
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "model_deepcad" / name).read_bytes()
    assert (
        main(["evaluate", str(path), str(dataset.path), "--protocol", "best"]) == 2
        and main(["evaluate", str(tmp_path / "none.jsonl"), str(dataset.path)]) == 2
    )
    assert main(["evaluate", str(path), str(tmp_path)]) == 2


def test_evaluate_seed_changes_sampled_points_only(sequences, dataset):
    said = copies(sequences)
    a, b, c = (evaluate(said, dataset.path, seed=s, workers=1) for s in (0, 0, 1))
    pd.testing.assert_frame_equal(a, b)
    assert (a.cd != c.cd).all() and np.allclose(a.cd, c.cd, rtol=0.3)
    pd.testing.assert_frame_equal(a.drop(columns="cd"), c.drop(columns="cd"))


# --- what models put around their code, and answers that are not read


def wrapped(code):
    "A text of code as chat models put it, with where the code is."
    return {
        "alone": (code, ""),
        "a fence with a language": (
            f"Sure! Here is the part:\n\n```python\n{code}\n```\n\nIt has **one** hole.",
            "fence",
        ),
        "a fence without a language": (f"```\n{code}\n```", "fence"),
        "tildes": (f"~~~ text\n{code}\n~~~", "fence"),
        "a fence that is not closed": (f"Here it is.\n```py\n{code}", "fence"),
        "a list": (
            "1. The code:\n\n   ```python\n"
            + "".join(f"   {line}\n" for line in code.splitlines())
            + "   ```\n2. Done.",
            "fence",
        ),
        "a shell command first": (f"```bash\npip install cadquery\n```\n```\n{code}\n```", "fence"),
        "thoughts with a draft": (f"<think>Maybe\n```\n{code[:25]}\n```\nno.</think>\n```\n{code}\n```", "fence"),
        "a sentence before": (f"The part is as follows:\n\n{code}", "text"),
        "sentences around": (f"Here you are.\n\n{code}\n\nThe plate is extruded by ten units.\nEnjoy!", "text"),
    }


@pytest.mark.parametrize("language", ["cadquery", "compact", "vectors"])
def test_code_is_extracted_from_fences_and_sentences(sequences, language):
    for sequence in (sequences[IDS[k]] for k in (0, 5, 6, 10)):
        code = (json.dumps(to_vectors(sequence, limits=False).tolist()) if language == "vectors"
                else encode(sequence, language) )
        truth = as_truth(sequence, language)
        alone = score(code, language, truth)
        for name, (text, where) in wrapped(code.strip()).items():
            assert score(text, language, truth) == alone | (dict(taken_from=where) if where else {}), name


def test_bare_program_is_not_changed(sequences):
    for sequence in sequences.values():
        for text in (
            encode(sequence),
            "# ```\n" + encode(sequence),
            '"""Not ```python\nr = cq.\n``` but this."""\n' + encode(sequence),
            encode(sequence).rstrip("\n") + "  \n\n",
        ):
            code, where = extract_code(text)
            assert code is text and where == ""


def test_several_code_blocks_and_corrections():
    steps = "First\n```\nimport cadquery as cq\nw = cq.Workplane('XY')\n```\nthen\n```\nr = w.box(3, 2, 1)\n```\n"
    corrected = (
        "```\nr = cq.Workplane('XY').box(9, 9, 9)\n```\nNo:\n```\nr = cq.Workplane('XY').box(3, 2, 1)\n```\nThat is it."
    )
    for text in (steps, corrected):
        assert build(decode(extract_code(text)[0])).volume == pytest.approx(6)


def test_code_extraction_of_hostile_answers_is_quick():
    for text in (
        "```" * 90_000,
        "~~~\n" * 70_000,
        "[[" * 140_000,
        " \n" * 140_000,
        "import a\n" + "a" * 250_000,
        ("import a\n" + '"' * 3 + "\n") * 20_000,
        "x=(\n" * 60_000,
        "+ z " * 70_000,
    ):
        for language in ("cadquery", "compact", "vectors"):
            start = time.process_time()
            extract_code(text, language)
            assert time.process_time() - start < 1


def test_evaluation_summary_counts_causes_of_invalid_predictions(sequences, dataset, tmp_path, capsys):
    code = {i: encode(s) for i, s in sequences.items()}
    in_metres = lambda i: encode(decode(code[i]).scaled(0.0075, (0.2, 0, 0)), exact=True, frame=IDENTITY)
    said = [
        f"```python\n{code[IDS[0]]}```",
        f"A plate:\n{code[IDS[1]]}",
        in_metres(IDS[2]),
        in_metres(IDS[3]),
        code[IDS[4]] + "r = r.edges('|Z').fillet(2)",
        "with open('a') as f: print(f)",
        code[IDS[6]][:-15],
        "I cannot read this drawing.",
        "",
        code[IDS[9]],
        code[IDS[10]],
    ]
    predictions = written(tmp_path / "said.jsonl", [dict(id=i, code=c, language="cadquery") for i, c in zip(IDS, said)])
    table = evaluate(predictions, dataset.path, workers=1).set_index("id")
    made = summarize(table.reset_index())
    assert made["invalid"] == dict(not_read=1, broken=2, not_answered=2) and made["outside_language"] == 1
    assert made["invalid_ratio"] == sum(made["invalid"].values()) / made["samples"] == 5 / 12
    assert made["taken_from"] == dict(fence=1, text=1)
    assert table.unsupported.fillna(False).tolist() == [False] * 4 + [True] * 2 + [
        False
    ] * 6 and table.taken_from.dropna().tolist() == ["fence", "text"]
    assert (
        made["another_frame"]["samples"] == 2
        and made["another_frame"]["iou_aligned"] > 0.9
        and table.iou[IDS[2]] < 1e-3
    )
    assert main(["evaluate", str(predictions), str(dataset.path), "--workers", "1"]) in (0, None)
    assert "--protocol cadrille" in capsys.readouterr().out


@pytest.mark.occ
def test_answers_outside_of_the_language_are_executed_on_request(sequences, dataset, tmp_path):
    pytest.importorskip("cadquery", reason="needs CadQuery: pip install cadvlm[cad]")
    code = encode(sequences[IDS[0]])
    said = [code + "r = r.edges().fillet(0.01)", code + "r = r.edges().fillet(1e6)", code + "open('/etc/passwd')"]
    rows = [dict(id=i, code=c, language="cadquery") for i, c in zip(IDS, said)]
    for execute in (False, True):
        table = evaluate(rows, dataset.path, workers=1, only_answered=True, execute=execute)
        table = table.set_index("id").loc[IDS[:3]]
        made = summarize(table.reset_index())
        assert (made["outside_language"], made["executed"]) == ((0, 2) if execute else (2, 0))
        assert table.executed.fillna(False).tolist() == [execute, execute, False]
    assert table.valid.tolist() == [True, False, False] and table.iou[IDS[0]] > 0.9
    assert table.reason[IDS[1]] == "execution_failed"


@pytest.mark.occ
def test_what_an_executed_program_prints_is_not_kept_and_what_it_starts_is_not_waited_for():
    pytest.importorskip("cadquery", reason="needs CadQuery: pip install cadvlm[cad]")
    start, waits = "import cadquery as cq, os, sys, time\n", "if not os.fork():\n    time.sleep(100)\n    os._exit(0)\n"
    prints = "for _ in range(400): sys.stdout.write('a' * 10**6)\n"
    tracemalloc.start()
    begin = time.monotonic()
    try:
        assert executed(start + waits + prints + "r = cq.Workplane().box(1, 2, 3)").volume == pytest.approx(6)
        assert tracemalloc.get_traced_memory()[1] < 2e8  # a STEP file is read at once
    finally:
        tracemalloc.stop()
    assert time.monotonic() - begin < 90
    endless = "while True: sys.stderr.write('a' * 10**6)"
    assert error_of(executed, start + endless).reason in ("execution_failed", "timeout")


def test_lone_surrogate_is_an_invalid_prediction(sequences, dataset, tmp_path):
    good = dict(id=IDS[0], code=encode(sequences[IDS[0]]), language="cadquery")
    lines = [
        json.dumps(good).encode(),
        b'{"id": "%s", "language": "cadquery", "code": "r = \\ud83d"}' % IDS[1].encode(),
        json.dumps(dict(good, id=IDS[2], code="r = \ud800"), ensure_ascii=False).encode("utf-8", "surrogatepass"),
    ]
    path = tmp_path / "said.jsonl"
    path.write_bytes(b"\n".join(lines))
    table = evaluate(path, dataset.path, workers=1)
    table.to_parquet(tmp_path / "table.parquet")
    assert table.valid.tolist()[:3] == [True, False, False] and set(table.reason[1:3]) <= {"syntax", "not_allowed"}
    for bad in (b'{"id": NaN, "code": "\\ud800"}', b"{\xff}", b'{"id": "\\ud800"'):
        path.write_bytes(bad)
        with pytest.raises(DatasetError) as error:
            evaluate(path, dataset.path, workers=1)
        assert error.value.reason == "not_json"


def test_folder_of_deepcad_predictions(sequences, dataset, tmp_path):
    "As its test.py saves them: out_vec, floats, up to the end mark, beside the truth."
    h5py = pytest.importorskip("h5py")
    for i, sequence in list(sequences.items())[:4]:
        rows = to_vectors(sequence, limits=False)
        with h5py.File(tmp_path / f"{i}_vec.h5", "w") as file:
            file["out_vec"], file["gt_vec"] = rows[:-1].astype(float), rows
    (tmp_path / f"{IDS[4]}_vec.h5").write_text("no table")
    table = evaluate(tmp_path, dataset.path, "deepcad", workers=1)
    assert (
        table.acc_cmd.tolist()[:4] == [1] * 4 == table.acc_param.tolist()[:4]
        and table.reason[4] == "bad_vectors"
        and (table.reason[5:] == "no_prediction").all()
    )
    assert reason(evaluate, dataset.path, dataset.path, workers=1) == "missing_file"
