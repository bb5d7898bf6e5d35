"""`cadvlm reconstruct`: what is one drawing, what is written, going on after a stop, limits, files of others."""

import json
import re
import shutil
import subprocess

import pytest

from builders import COMMAND, all_files, bracket, deepcad_json, environment, error_line, module_of, reason, reason_code
from builders import rectangle, raised, write
from cadvlm.app.cli import main
from cadvlm.app.readings import reconstruct
from cadvlm.cad.overlap import iou
from cadvlm.cad.sequence import CadSequence, Operation, Plane
from cadvlm.cad.solid import build
from cadvlm.corpus.dataset import Dataset, failures
from cadvlm.files import read_json, write_json
from cadvlm.measure.evaluate import evaluate
from cadvlm.reading.layout import lay_out
from cadvlm.reading.sheet_files import dxf_sheet, svg_sheet
from cadvlm.stages.reconstruct import drawings_of, read_drawings
from cadvlm.text.language import decode
from drawing_files import VIEWS, HEAD, write_part

MINE = b"of another program\n"
ANGLE = bracket(1)
# of 3 x 3 x 3 cubes; with the cube (0, 1, 0) or without, the three views are the same
CUBES = ["001 002 010 012 020 021 022", "100 101 102 111 112 120 121 122", "200 201 202 210 211 212 220"]


def cubes(names):
    "A part of unit cubes at `xyz`."
    places = [tuple(map(float, name)) for name in names]
    made = (raised(1.0, rectangle(1.0, 1.0, x, y), operation=Operation.JOIN, plane=Plane((0.0, 0.0, z)))
            for x, y, z in places)
    return CadSequence(tuple(made))


def predictions(output):
    rows = (output / "predictions.jsonl").read_text().splitlines()
    return {row["id"]: row for row in map(json.loads, rows)}


def same_part(code, sequence, language="cadquery"):
    return iou(build(decode(code, language)), build(sequence), align="frame")


@pytest.fixture
def sheets(tmp_path):
    "A folder with a sheet in each format, and three files of one part."
    folder = tmp_path / "sheets"
    for i, sheet in ((1, svg_sheet), (2, dxf_sheet)):
        suffix = "svg" if sheet is svg_sheet else "dxf"
        write(folder / f"sheet {i}.{suffix}", sheet(lay_out(build(bracket(i)))))
    write_part(folder, bracket(3), "angle")
    return folder


@pytest.fixture(scope="module")
def six(tmp_path_factory):
    "A dataset of six brackets, four of them in the test split."
    dataset = Dataset(tmp_path_factory.mktemp("six") / "six")
    ids = [f"{i:08}" for i in range(6)]
    for i, id in enumerate(ids):
        write(dataset.json_path(id), deepcad_json(bracket(i)))
    write_json(dataset.path / "train_val_split.json", dict(train=ids[:1], validation=ids[1:2], test=ids[2:]))
    return dataset


# --- what is one drawing


def test_folder_holds_a_drawing_for_each_file_and_each_group_of_views(sheets, tmp_path):
    made = reconstruct(sheets, tmp_path / "out", workers=1)
    found = predictions(tmp_path / "out")
    assert made.made == 3 and made.failures == {} and found.keys() == {"sheet 1", "sheet 2", "angle"}
    for id, i in (("sheet 1", 1), ("sheet 2", 2), ("angle", 3)):
        assert found[id]["certified"] and same_part(found[id]["code"], bracket(i)) > 0.94, id


@pytest.mark.parametrize("names", [VIEWS, ("a", "b", "c"), ("Shaft 7 FRONT", "Shaft 7 TOP", "Shaft 7 SIDE")])
def test_folder_of_three_files_is_one_drawing(tmp_path, names):
    write_part(tmp_path / "shaft", ANGLE)
    for view, name in zip(VIEWS, names):
        (tmp_path / f"shaft/{view}.svg").rename(tmp_path / f"shaft/{name}.svg")
    made = reconstruct(tmp_path / "shaft", tmp_path / "out", workers=1, exact=True)
    (found,) = predictions(tmp_path / "out").values()
    assert made.requested == 1 and found["certified"] and same_part(found["code"], ANGLE) > 0.9999


def test_folders_in_a_folder_are_drawings(tmp_path):
    for i in range(2):
        write_part(tmp_path / f"in/part {i}", bracket(i))
    write(tmp_path / "in/notes/read me.txt", b"")
    write(tmp_path / "in/.hidden/front.svg", b"")
    assert {k: len(v) for k, v in drawings_of(tmp_path / "in").items()} == {"part 0": 3, "part 1": 3}


def test_three_sheets_are_three_drawings(tmp_path):
    for i in range(3):
        write(tmp_path / f"in/{i}.svg", svg_sheet(lay_out(build(bracket(i)))))
    assert [len(files) for files in drawings_of(tmp_path / "in").values()] == [1, 1, 1]


def test_images_are_rejected_by_name(tmp_path):
    write(tmp_path / "in/part/scan.png", b"\x89PNG")
    made = reconstruct(tmp_path / "in", tmp_path / "out", workers=1)
    assert made.failures == {"not_vectors": 1}
    assert len(made.problems) == 1 and made.problems[0].count("part: ") == 1
    assert [r["id"] for r in failures(Dataset(tmp_path / "out"))] == ["part"]


@pytest.mark.parametrize("source", ["nowhere", "empty", "nowhere.svg"])
def test_source_without_a_drawing_is_rejected(tmp_path, source):
    (tmp_path / "empty").mkdir()
    assert reason(reconstruct, tmp_path / source, tmp_path / "out") in ("missing_file", "no_drawing")
    assert not (tmp_path / "out").exists()


# --- the reader sees the drawing alone


def test_reader_sees_the_drawing_alone(tmp_path):
    "One file in an empty folder, read by another process: the part comes from its lines."
    write(tmp_path / "here/drawing.svg", svg_sheet(lay_out(build(ANGLE))))
    env = {k: v for k, v in environment().items() if k != "CADVLM_SHARED"} | dict(HOME=str(tmp_path / "here"))
    command = [*COMMAND, "reconstruct", "drawing.svg", "out", "--exact", "--workers", "1"]
    made = subprocess.run(command, cwd=tmp_path / "here", env=env, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    found = predictions(tmp_path / "here/out")["drawing"]
    assert found["certified"] and same_part(found["code"], ANGLE) > 0.9999


def test_reader_of_a_dataset_gets_lines_and_nothing_else(six, tmp_path, monkeypatch):
    seen, module = [], module_of(read_drawings)
    whole = module.reconstruct

    def watched(views, styles):
        seen.append((views, styles))
        return whole(views, styles)

    monkeypatch.setattr(module, "reconstruct", watched)
    reconstruct(six.path, tmp_path / "full", workers=1)
    reconstruct(six.path, tmp_path / "plain", workers=1, styles="visible")
    assert len(seen) == 8 and all(views.keys() == set(VIEWS) for views, _ in seen)
    assert any(d.hidden for views, _ in seen[:4] for d in views.values())
    assert not any(d.hidden for views, _ in seen[4:] for d in views.values())


# --- what is written


def test_evaluate_scores_the_predictions(six, tmp_path):
    "In whole units and exactly; the frame of the drawing is the frame of the truth."
    for exact, least in ((False, 0.94), (True, 0.9999)):
        output = tmp_path / str(exact)
        made = reconstruct(six.path, output, workers=1, exact=exact, language="compact")
        assert made.requested == made.made == 4
        scores = evaluate(output / "predictions.jsonl", six.path, workers=1)
        assert len(scores) == 4 and scores["valid"].all() and scores["iou"].min() > least
    assert main(["evaluate", str(output / "predictions.jsonl"), str(six.path), "--workers", "1"]) == 0


def test_rows_say_what_is_known(six, tmp_path):
    reconstruct(six.path, tmp_path / "out", workers=1, split="all")
    for row in predictions(tmp_path / "out").values():
        assert row["language"] == "cadquery" and row["seconds"] > 0
        assert row["agreement"].keys() == set(VIEWS)
        assert all(styles.keys() == {"visible", "hidden"} for styles in row["agreement"].values())
        assert row["certified"] and not row["ambiguous"] and "alternatives" not in row
    about = read_json(tmp_path / "out/reconstruction.json")
    assert (about["parts"], about["certified"], about["source"]) == (6, 6, "six")


def test_ambiguous_drawing_keeps_both_parts(tmp_path):
    names = " ".join(CUBES).split()
    both = cubes(names), cubes([n for n in names if n != "010"])
    write_part(tmp_path / "in", both[0])
    made = reconstruct(tmp_path / "in", tmp_path / "out", workers=1, exact=True)
    (row,) = predictions(tmp_path / "out").values()
    assert row["ambiguous"] and not row["certified"] and made.facts["ambiguous"] == "1"
    codes = [row["code"], *row["alternatives"]]
    assert len(codes) == 2 and all(max(same_part(c, part) for c in codes) > 0.999 for part in both)
    assert "which draws the same" in (tmp_path / "out/index.html").read_text()


def test_part_that_whole_units_lose_is_written_finer(tmp_path):
    "A sheet of 200 x 200 x 0.6 units."
    thin = CadSequence((raised(0.0003, rectangle(0.1, 0.1)),))
    write(tmp_path / "thin.svg", svg_sheet(lay_out(build(thin), 2.0)))
    reconstruct(tmp_path / "thin.svg", tmp_path / "out", workers=1)
    row = predictions(tmp_path / "out")["thin"]
    assert row["quantisation_step"] < 1 and row["quantisation_iou"] > 0.9 and same_part(row["code"], thin) > 0.9
    made = reconstruct(tmp_path / "thin.svg", tmp_path / "out", workers=1, on_quantisation_loss="drop")
    assert made.failures == {"lost_in_quantisation": 1}


def test_page_shows_every_drawing_and_every_rejection(tmp_path):
    write(tmp_path / "in/<b>bold.svg", svg_sheet(lay_out(build(ANGLE))))
    write(tmp_path / "in/broken.svg", b"<svg>")
    holed = CadSequence((*ANGLE.extrudes, raised(0.03, rectangle(0.006, 0.003), operation=Operation.CUT)))
    cut = re.sub("<circle[^>]*>", "", svg_sheet(lay_out(build(holed))).decode())  # the hole is gone from one view
    write(tmp_path / "in/cut.svg", cut.encode())
    reconstruct(tmp_path / "in", tmp_path / "out", workers=1)
    page = (tmp_path / "out/index.html").read_text()
    assert "<b>bold" not in page and "&lt;b&gt;bold" in page
    assert "bad_svg" in page and page.count("<article") == 2
    red = [svg for svg in re.findall("<svg.*?</svg>", page) if 'class="missing' in svg]
    assert red and not re.findall(r'(?:src|href)="(?!data:|#)', page)


def test_number_of_workers_changes_nothing(six, tmp_path):
    for workers in (1, 2):
        reconstruct(six.path, tmp_path / str(workers), workers=workers, split="all")
    one, two = (predictions(tmp_path / n) for n in "12")
    assert list(one) == list(two)
    assert all({**one[i], "seconds": 0} == {**two[i], "seconds": 0} for i in one)


# --- going on, and limits


def test_second_run_reads_only_what_changed(sheets, tmp_path):
    reconstruct(sheets, tmp_path / "out", workers=1)
    assert reconstruct(sheets, tmp_path / "out", workers=1).cached == 3
    write(sheets / "sheet 1.svg", svg_sheet(lay_out(build(bracket(5)))))
    assert reconstruct(sheets, tmp_path / "out", workers=1).cached == 2
    assert same_part(predictions(tmp_path / "out")["sheet 1"]["code"], bracket(5)) > 0.94
    again = reconstruct(sheets, tmp_path / "out", workers=1, language="compact")
    assert again.cached == 0 and "language cadquery → compact" in again.notes[0]


def test_killed_run_goes_on(six, tmp_path, monkeypatch):
    module, reading = module_of(read_drawings), module_of(read_drawings).reconstruct
    calls = []

    def third_stops(*args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return reading(*args)

    with monkeypatch.context() as patch:
        patch.setattr(module, "reconstruct", third_stops)
        with pytest.raises(KeyboardInterrupt):
            reconstruct(six.path, tmp_path / "out", workers=1)
    assert not (tmp_path / "out/predictions.jsonl").exists()
    made = reconstruct(six.path, tmp_path / "out", workers=1)
    assert (made.cached, made.made) == (2, 2) and len(predictions(tmp_path / "out")) == 4


def test_slow_drawing_is_given_up(six, tmp_path, monkeypatch):
    module, reading, first = module_of(read_drawings), module_of(read_drawings).reconstruct, []

    def one_is_endless(views, styles):
        first.append(views)
        if str(views["front"].visible) == str(first[0]["front"].visible):
            while True:
                pass
        return reading(views, styles)

    monkeypatch.setattr(module, "reconstruct", one_is_endless)
    made = reconstruct(six.path, tmp_path / "out", workers=1, timeout=0.3)
    assert made.failures == {"timeout": 1} and made.made == 3
    assert "tried again alone with 1.2 s" in made.notes[0]
    assert read_json(tmp_path / "out/reconstruction.json")["met_limits"] == {"timeout": [six.split["test"][0]]}


def test_hostile_files_are_rejected_and_the_others_are_read(tmp_path):
    write(tmp_path / "in/good.svg", svg_sheet(lay_out(build(ANGLE))))
    write(tmp_path / "in/entities.svg", b'<!DOCTYPE svg [<!ENTITY a "b">]><svg>&a;</svg>')
    write(tmp_path / "in/nan.svg", f'{HEAD}<path stroke="black" d="M0,0 L1e999,5 L3,4"/></svg>'.encode())
    lines = " L".join(f"{i},{i % 7}" for i in range(210_000))
    write(tmp_path / "in/many.svg", f'{HEAD}<path stroke="black" fill="none" d="M{lines}"/></svg>'.encode())
    made = reconstruct(tmp_path / "in", tmp_path / "out", workers=2)
    assert made.made == 1 and made.failures.keys() <= {"has_entities", "not_finite", "too_many_lines", "bad_svg"}
    assert sum(made.failures.values()) == 3


def test_rejected_drawing_ends_with_its_reason(tmp_path, capsys):
    write(tmp_path / "one.svg", f'{HEAD}<path stroke="black" d="M0,0 L9,0 L9,9 L0,9 Z"/></svg>'.encode())
    assert main(["reconstruct", str(tmp_path / "one.svg"), str(tmp_path / "out"), "--workers", "1"]) == 1
    assert "[not_three_views]" in capsys.readouterr().out
    assert failures(Dataset(tmp_path / "out"))[0]["reason"] == "not_three_views"


# --- files of other programs


@pytest.mark.parametrize("place", ["predictions.jsonl", "failures.jsonl", "index.html", "reconstruction.json",
                                   "logs/reconstruction.jsonl", "logs/reconstruction.log", "logs/lock"])
def test_foreign_files_are_kept(six, tmp_path, capsys, place):
    write(tmp_path / "out" / place, MINE)
    assert main(["reconstruct", str(six.path), str(tmp_path / "out"), "--workers", "1"]) == 2
    assert reason_code(error_line(capsys)) == "not_ours"
    left = all_files(tmp_path / "out")
    assert left.pop(place) == MINE and set(left) <= {"logs/reconstruction.log"}


def test_unrelated_files_are_kept(six, tmp_path):
    files = [write(tmp_path / "out" / name, MINE) for name in ("notes.txt", "evaluation.json", "predictions.part")]
    reconstruct(six.path, tmp_path / "out", workers=1)
    assert all(f.read_bytes() == MINE for f in files)


def test_output_may_not_be_a_dataset(six, tmp_path):
    "The failures of reading would be taken for parts that have no drawing."
    copy = shutil.copytree(six.path, tmp_path / "copy")
    before = all_files(copy)
    assert reason(reconstruct, copy, copy, workers=1) == "bad_setting" and all_files(copy) == before
    reconstruct(copy, copy / "read", workers=1)
    assert {k: v for k, v in all_files(copy).items() if not k.startswith("read/")} == before
