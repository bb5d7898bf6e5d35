"""A dataset of nothing is no success: an error, and the reasons counted."""

import shutil

import orjson
import pytest

from builders import (
    bracket,
    contents,
    deepcad_json,
    deepcad_source,
    disc,
    error_line,
    module_of,
    numbers,
    raised,
    reason,
    reason_code,
    rejection,
)
from cadvlm.app.cli import main
from cadvlm.stages.convert import convert
from cadvlm.corpus.dataset import Dataset
from cadvlm.files import write_json
from cadvlm.stages.extract import extract
from cadvlm.measure.stats import stats
from cadvlm.stages.render import render
from cadvlm.cad.sequence import CadSequence, Extent, Operation
from cadvlm.errors import GeometryError
from cadvlm.stages.synthesize import synthesize
from cadvlm.stages.dedup import dedup
from cadvlm.stages.validate import validate

NAMES = [f"0000000{i}" for i in range(8)]
CUT = raised(0.02, disc(0.02), operation=Operation.CUT, extent=Extent.SYMMETRIC)
NOTHING = CadSequence((raised(0.01, disc(0.01)), CUT))


def source(folder, data, names=NAMES):
    "Eight files, of what `data` says; the split names them, or others."
    files = {id: data(i) for i, id in enumerate(NAMES)}
    return deepcad_source(folder, files, train=names[:4], validation=names[4:6], test=names[6:])


def part(i):
    return deepcad_json(bracket(i))


@pytest.mark.parametrize("order", ["official", "random", "stratified"])
def test_extract_of_unreadable_files_is_an_error(tmp_path, order, capsys):
    broken = source(tmp_path / "broken", lambda i: b"{" if i < 5 else orjson.dumps(dict(entities={}, sequence=[])))
    error = rejection(extract, broken, tmp_path / "out", order=order, workers=1)
    assert error.reason == "nothing_taken" and "8" in numbers(error.message)
    assert "5 not_json" in error.message and "3 no_extrude" in error.message
    assert main(["run", str(broken), str(tmp_path / "out"), "--order", order, "--workers", "1"]) == 2
    assert reason_code(error_line(capsys)) == "nothing_taken" and not contents(tmp_path / "out")


def test_extract_with_a_split_of_other_files_is_an_error(tmp_path):
    others = [f"0000000{c}" for c in "abcdefgh"]
    error = rejection(extract, source(tmp_path / "s", part, others), tmp_path / "out", workers=1)
    assert error.reason == "nothing_taken" and not contents(tmp_path / "out")


def test_split_sizes_of_zero(tmp_path):
    corpus = source(tmp_path / "s", part)
    assert (
        reason(extract, corpus, tmp_path / "out", train_size=0, val_size=0, test_size=0) == "bad_setting"
        and not (tmp_path / "out").exists()
    )
    assert extract(corpus, tmp_path / "out", train_size=0, val_size=0, workers=1).made == 2


def test_failed_extract_keeps_the_earlier_dataset(tmp_path):
    corpus = source(tmp_path / "s", part)
    extract(corpus, tmp_path / "out", workers=1)
    render(tmp_path / "out", size=64, workers=1)
    before = contents(tmp_path / "out")
    assert (
        reason(extract, source(tmp_path / "b" / "s", lambda i: b"["), tmp_path / "out", workers=1) == "nothing_taken"
        and contents(tmp_path / "out") == before
    )


def test_extract_replaces_rejected_ids(tmp_path):
    some = source(tmp_path / "s", lambda i: b"{" if i == 1 else part(i))
    for sizes in ({}, dict(train_size=2, val_size=1, test_size=1)):
        summary = extract(some, tmp_path / "out", workers=1, **sizes)
        assert summary.failures == dict(not_json=1)
        assert len(Dataset(tmp_path / "out").ids) == (sum(sizes.values()) or 7)  # the next ids took the places
        assert any("failures.jsonl" in note and "1" in numbers(note) for note in summary.notes)


def test_render_of_empty_solids_is_an_error(tmp_path, capsys):
    corpus = source(tmp_path / "s", lambda i: deepcad_json(NOTHING))
    assert main(["run", str(corpus), str(tmp_path / "out"), "--workers", "1"]) == 2
    error = error_line(capsys)
    assert reason_code(error) == "nothing_made" and "8 empty_solid" in error
    assert reason(render, tmp_path / "out", workers=1) == "nothing_made" and not list(
        (tmp_path / "out").rglob("*.png")
    )
    assert reason(convert, tmp_path / "out") == "missing_file"
    assert dedup(tmp_path / "out", workers=1).problems and main(["dedup", str(tmp_path / "out"), "--workers", "1"]) == 1
    assert ["8 empty_solid" in p for p in stats(tmp_path / "out", workers=1).problems] == [True]


def test_convert_without_images_is_an_error(tmp_path, capsys):
    corpus = source(tmp_path / "s", part)
    assert main(["run", str(corpus), str(tmp_path / "out"), "--size", "64", "--workers", "1"]) == 0
    before = contents(tmp_path / "out")
    shutil.move(tmp_path / "out/images", tmp_path / "away")
    assert main(["convert", str(tmp_path / "out"), "--workers", "1"]) == 2
    error = error_line(capsys)
    assert reason_code(error) == "nothing_made" and "8 missing_image" in error
    shutil.move(tmp_path / "away", tmp_path / "out/images")
    after = contents(tmp_path / "out")
    assert {k: v for k, v in before.items() if k != "SHA256SUMS"} == after


def test_synthesize_that_makes_nothing_is_an_error(tmp_path, monkeypatch):
    def none(*_):
        raise GeometryError("no_part", "", "none")

    monkeypatch.setattr(module_of(synthesize), "part", none)
    error = rejection(synthesize, tmp_path / "out", count=5, workers=1)
    assert error.reason == "nothing_made" and "5 no_part" in error.message and not contents(tmp_path / "out")


def test_validate_rejects_an_empty_dataset(tmp_path):
    corpus = source(tmp_path / "s", part)
    assert main(["run", str(corpus), str(tmp_path / "out"), "--size", "64", "--workers", "1"]) == 0
    write_json(tmp_path / "out/train_val_split.json", dict(train=[], validation=[], test=[]))
    assert (
        any("[empty]" in p for p in validate(tmp_path / "out", workers=1).problems)
        and not Dataset(tmp_path / "out").ids
    )
