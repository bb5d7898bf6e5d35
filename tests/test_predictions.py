"""Predictions and truths as other projects leave them: each form scores as the same answers in lines of cadvlm do, and
hostile files cost little."""

import os

import h5py
import numpy as np
import orjson
import pytest

from builders import error_line, numbers, reason, reason_code
from cadvlm.app.cli import main
from cadvlm.cad.sequence import to_deepcad
from cadvlm.corpus.dataset import Dataset
from cadvlm.files import write_json
from cadvlm.measure import predictions
from cadvlm.measure.evaluate import evaluate
from cadvlm.measure.predictions import MAX_LINE, read_predictions
from cadvlm.measure.summary import hints
from cadvlm.synth.histories import part
from cadvlm.text.language import MAX_ANSWER, encode
from cadvlm.text.vectors import to_vectors

PARTS = {f"{k:08}": part(0, k) for k in (3, 9, 10)}
CODES = {i: encode(p) for i, p in PARTS.items()} | {"00000010": "r = open('/etc/passwd')"}
MEASURES = ["valid", "reason", "iou", "cd", "acc_cmd", "f1_line", "exact"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    dataset = Dataset(tmp_path_factory.mktemp("truth") / "dataset")
    for id, sequence in PARTS.items():
        write_json(dataset.json_path(id), to_deepcad(sequence))
    write_json(dataset.path / "train_val_split.json", dict(train=[], validation=[], test=[*PARTS]))
    return dataset.path


@pytest.fixture(scope="module")
def expected(dataset):
    found = scored([dict(id=i, code=c, language="cadquery") for i, c in CODES.items()], dataset)
    assert found.valid.tolist() == [True, True, False] and found.iou[:2].min() > 0.95
    return found


def scored(said, truth, protocol="cadvlm"):
    return evaluate(said, truth, protocol, workers=1).set_index("id")[MEASURES]


def cadbench(folder, form):
    lines = [dict(file_id=form.format(i), generated=c) for i, c in CODES.items()]
    (folder / "said.jsonl").write_bytes(b"\n".join(map(orjson.dumps, lines)))
    return folder / "said.jsonl"


def programs(folder, form):
    for i, c in CODES.items():
        path = folder / form.format(i)
        path.parent.mkdir(exist_ok=True)
        path.write_text(c)
    return folder


FORMS = [
    (cadbench, "{}"),
    (cadbench, "0000/{}"),
    (programs, "{}.py"),
    (programs, "0000/{}.py"),
    (programs, "{}+0.py"),
]


@pytest.mark.parametrize("make, form", FORMS)
def test_form_scores_as_lines_do(make, form, dataset, expected, tmp_path):
    assert scored(make(tmp_path, form), dataset).equals(expected)


def test_single_files_are_scored(dataset, expected, tmp_path):
    programs(tmp_path, "{}.py")
    truth = next(dataset.glob("cad_json/**/00000009.json"))
    assert scored(tmp_path / "00000009.py", truth).equals(expected.loc[["00000009"]])


def test_folder_of_json_is_a_truth(dataset, expected, tmp_path):
    said = programs(tmp_path, "{}.py")
    assert scored(said, dataset / "cad_json").equals(expected)


def test_deepcad_release_is_a_truth_with_its_split(dataset, expected, tmp_path):
    (tmp_path / "cad_json").symlink_to(dataset / "cad_json", target_is_directory=True)
    split = dict(train=["0000/00000010"], validation=[], test=["0000/00000003", "0000/00000009"])
    write_json(tmp_path / "train_val_test_split.json", split)
    assert scored(cadbench(tmp_path, "{}"), tmp_path).equals(expected.iloc[:2])


def test_deepcad_predictions_are_compared_with_json(dataset, tmp_path):
    for i, p in PARTS.items():
        rows = to_vectors(p, limits=False)
        with h5py.File(tmp_path / f"{i}_vec.h5", "w") as file:
            file["out_vec"], file["gt_vec"] = rows[:-1].astype(float), rows
    found = evaluate(tmp_path, dataset / "cad_json", "deepcad", workers=1)
    assert found.acc_cmd.tolist() == [1] * 3 == found.acc_param.tolist() and found.language.eq("vectors").all()


def test_this_folder_is_scored(dataset, tmp_path, monkeypatch):
    (tmp_path / "said").mkdir()
    monkeypatch.chdir(programs(tmp_path / "said", "{}.py"))
    assert main(["evaluate", ".", str(dataset), "--workers", "1"]) == 0
    assert (tmp_path / "said_cadvlm" / "evaluation.json").is_file()


# --- STEP


@pytest.fixture(scope="module")
def solids(tmp_path_factory):
    "Parts as STEP files in the frame of answers, one of them in metres, and one that is none."
    pytest.importorskip("OCP")
    from cadvlm.cad.solid import build
    from cadvlm.cad.step import step_file

    folder = tmp_path_factory.mktemp("solids")
    for (i, p), unit, ending in zip(PARTS.items(), (1.0, 1e-3), ("step", "STP")):
        frame = build(p).frame
        placed = p.scaled(frame.scale, frame.shift)
        (folder / f"{i}.{ending}").write_bytes(step_file(placed, i, unit=unit)[0])
    (folder / "00000010.step").write_text("ISO-10303-21; nothing more")
    return folder


@pytest.mark.occ
def test_step_answers_are_scored_without_their_history(dataset, solids):
    table = evaluate(solids, dataset, workers=1)
    assert table.valid.tolist() == [True, True, False] and table.reason[2] == "bad_step"
    assert table.iou[0] > 0.98 and table.iou[1] < 0.01
    assert table.acc_cmd.isna().all() and table.vectors.isna().all() and table.extrudes.notna().all()
    assert "another_frame" in [h["hint"] for h in hints(table, None)]
    assert np.isclose(table.size_ratio[1], 1e-3, rtol=0.01) and table.iou_aligned[1] > 0.98


@pytest.mark.occ
@pytest.mark.parametrize("protocol", ["cadrille", "cad-coder"])
def test_step_answers_are_compared_with_step_truths(solids, protocol):
    table = evaluate(solids, solids, protocol, workers=1)
    assert table.iou[:2].min() > 0.999 and table.no_truth[2] == "bad_step"


@pytest.mark.occ
def test_program_is_compared_with_a_step_file(solids, tmp_path):
    programs(tmp_path, "{}.py")
    table = evaluate(tmp_path / "00000003.py", solids / "00000003.step", "cadrille", workers=1)
    assert table.iou[0] > 0.95


# --- mistakes, and hostile files


def test_folder_with_two_kinds_of_answers_is_rejected(dataset, tmp_path, capsys):
    programs(tmp_path, "{}.py")
    (tmp_path / "00000003.step").write_text("")
    assert main(["evaluate", str(tmp_path), str(dataset)]) == 2
    error = error_line(capsys)
    assert reason_code(error) == "mixed_predictions" and "3 .py" in error and "1 .step" in error


def test_two_answers_of_cadrille_to_one_part_are_rejected(tmp_path):
    programs(tmp_path, "{}+0.py")
    programs(tmp_path, "{}+1.py")
    assert reason(read_predictions, tmp_path) == "duplicate_prediction"


def test_two_truths_of_one_part_are_rejected(dataset, tmp_path):
    for name in "ab":
        write_json(tmp_path / name / "00000003.json", to_deepcad(PARTS["00000003"]))
    assert reason(evaluate, [], tmp_path, workers=1) == "duplicate_truth"


@pytest.mark.parametrize("line", [dict(id="7", code="/etc/passwd", language="step"), dict(file_id=7, generated="")])
def test_line_cannot_name_a_file_or_lack_an_id(line):
    assert reason(read_predictions, [line]) == "bad_prediction"


def test_long_line_is_named(tmp_path, capsys, dataset):
    path = tmp_path / "said.jsonl"
    path.write_bytes(b'{"id": "00000003", "code": "", "language": "compact"}\n')
    os.truncate(path, 100 * MAX_LINE)
    assert main(["evaluate", str(path), str(dataset)]) == 2
    error = error_line(capsys)
    assert reason_code(error) == "line_too_long" and "2" in numbers(error)


def test_huge_program_is_an_invalid_answer(dataset, tmp_path):
    (tmp_path / "00000003.py").touch()
    os.truncate(tmp_path / "00000003.py", 2**36)
    assert MAX_ANSWER < len(read_predictions(tmp_path)["00000003"][0]) < 5 * MAX_ANSWER
    assert not scored(tmp_path, dataset).valid.any()


def test_program_of_other_bytes_is_an_invalid_answer(dataset, tmp_path):
    (tmp_path / "00000003.py").write_bytes(bytes(range(256)))
    assert not scored(tmp_path, dataset).valid.any()


@pytest.mark.parametrize("shape", [(10**12, 17), (10**12,), (3, 10**9)])
def test_huge_table_is_an_invalid_answer(shape, dataset, tmp_path):
    with h5py.File(tmp_path / "00000003.h5", "w") as file:
        file.create_dataset("out_vec", shape, "i8", chunks=tuple(min(n, 16) for n in shape))
    assert evaluate(tmp_path, dataset, workers=1).reason[0] == "bad_vectors"


def test_folder_with_too_many_files_is_rejected(tmp_path, monkeypatch):
    monkeypatch.setattr(predictions, "MAX_FILES", 2)
    assert reason(read_predictions, programs(tmp_path, "{}.py")) == "too_many_files"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes in folders")
def test_pipes_hidden_files_and_loops_are_passed_over(tmp_path):
    programs(tmp_path, "{}.py")
    os.mkfifo(tmp_path / "00000077.py")
    (tmp_path / "._00000003.py").write_bytes(b"\0")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert list(read_predictions(tmp_path)) == [*CODES]
