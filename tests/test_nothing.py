"""A dataset of nothing is no success: an error, and the reasons counted."""
import shutil

import orjson
import pytest

import cadvlm.synth.histories as synthesis
from cadvlm.app.cli import main
from cadvlm.stages.convert import convert
from cadvlm.corpus.dataset import Dataset
from cadvlm.files import write_json
from cadvlm.stages.extract import extract
from cadvlm.measure.stats import stats
from cadvlm.stages.render import render
from cadvlm.cad.sequence import CadSequence, Extent, Extrude, Operation, Sketch, to_deepcad
from cadvlm.errors import CadError, GeometryError
from cadvlm.stages.dedup import dedup
from cadvlm.stages.validate import validate
from test_stages import GROUND, contents, disc, part

NAMES = [f"0000000{i}" for i in range(8)]
NOTHING = CadSequence((Extrude(Sketch(GROUND, (disc(0.01),)), 0.01), Extrude(Sketch(GROUND, (disc(0.02),)), 0.02, Operation.CUT, Extent.SYMMETRIC)))


def source(folder, data, names=NAMES):
    "Eight files, of what `data` says; the split names them, or others."
    for i, id in enumerate(NAMES):
        path = folder / f"cad_json/0000/{id}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data(i))
    split = [f"0000/{i}" for i in names]
    write_json(folder / "train_val_test_split.json", dict(train=split[:4], validation=split[4:6], test=split[6:]))
    return folder


def told(function, *args, **settings):
    with pytest.raises(CadError) as caught:
        function(*args, **settings)
    return caught.value.reason, caught.value.message


@pytest.mark.parametrize("order", ["official", "random", "stratified"])
def test_nothing_taken(tmp_path, order, capsys):
    broken = source(tmp_path / "broken", lambda i: b"{" if i < 5 else orjson.dumps(dict(entities={}, sequence=[])))
    reason, message = told(extract, broken, tmp_path / "out", order=order, workers=1)
    assert reason == "nothing_taken" and "8 files" in message and "5 not_json, 3 no_extrude" in message
    assert main(["run", str(broken), str(tmp_path / "out"), "--order", order, "--workers", "1"]) == 2
    out, error = capsys.readouterr()
    assert error.count("\n") == 1 and "[nothing_taken]" in error and "well" not in out and "places" not in out and not contents(tmp_path / "out")


def test_a_split_of_other_files(tmp_path):
    reason, message = told(extract, source(tmp_path / "s", lambda i: orjson.dumps(to_deepcad(part(i))), [f"0000000{c}" for c in "abcdefgh"]), tmp_path / "out", workers=1)
    assert reason == "nothing_taken" and "split" in message and not contents(tmp_path / "out")


def test_sizes_of_nothing(tmp_path):
    corpus = source(tmp_path / "s", lambda i: orjson.dumps(to_deepcad(part(i))))
    assert told(extract, corpus, tmp_path / "out", train_size=0, val_size=0, test_size=0)[0] == "bad_setting" and not (tmp_path / "out").exists()
    assert extract(corpus, tmp_path / "out", train_size=0, val_size=0, workers=1).done == 2


def test_an_earlier_dataset_stays(tmp_path):
    corpus = source(tmp_path / "s", lambda i: orjson.dumps(to_deepcad(part(i))))
    extract(corpus, tmp_path / "out", workers=1)
    render(tmp_path / "out", size=64, workers=1)
    before = contents(tmp_path / "out")
    assert told(extract, source(tmp_path / "b" / "s", lambda i: b"["), tmp_path / "out", workers=1)[0] == "nothing_taken" and contents(tmp_path / "out") == before


def test_the_next_ids_took_no_places(tmp_path):
    some = source(tmp_path / "s", lambda i: b"{" if i == 1 else orjson.dumps(to_deepcad(part(i))))
    notes = lambda **sizes: [n for n in extract(some, tmp_path / "out", workers=1, **sizes).notes if "refused" in n]
    assert notes() == ["1 files were refused (failures.jsonl)"]
    assert notes(train_size=2, val_size=1, test_size=1) == ["1 files were refused (failures.jsonl); the next ids took their places"]


def test_nothing_drawn(tmp_path, capsys):
    corpus = source(tmp_path / "s", lambda i: orjson.dumps(to_deepcad(NOTHING)))
    assert main(["run", str(corpus), str(tmp_path / "out"), "--workers", "1"]) == 2
    out, error = capsys.readouterr()
    assert error.count("\n") == 1 and "none of the 8 parts" in error and "8 empty_solid" in error and "[nothing_drawn]" in error and "well" not in out
    assert told(render, tmp_path / "out", workers=1)[0] == "nothing_drawn" and not list((tmp_path / "out").rglob("*.png"))
    assert told(convert, tmp_path / "out")[0] == "missing_file"
    assert dedup(tmp_path / "out", workers=1).problems and main(["dedup", str(tmp_path / "out"), "--workers", "1"]) == 1
    assert stats(tmp_path / "out", workers=1).problems == ["no part could be measured: 8 empty_solid"]


def test_nothing_converted(tmp_path, capsys):
    corpus = source(tmp_path / "s", lambda i: orjson.dumps(to_deepcad(part(i))))
    assert main(["run", str(corpus), str(tmp_path / "out"), "--size", "64", "--workers", "1"]) == 0
    before = contents(tmp_path / "out")
    shutil.move(tmp_path / "out/images", tmp_path / "away")
    assert main(["convert", str(tmp_path / "out"), "--workers", "1"]) == 2 and "8 missing_image" in (said := capsys.readouterr().err) and "[nothing_converted]" in said
    shutil.move(tmp_path / "away", tmp_path / "out/images")
    after = contents(tmp_path / "out")
    assert {k: v for k, v in before.items() if k != "SHA256SUMS"} == after


def test_nothing_made(tmp_path, monkeypatch):
    def part(*_): raise GeometryError("no_part", "", "none")
    monkeypatch.setattr(synthesis, "part", part)
    assert told(synthesis.synthesize, tmp_path / "out", 5, workers=1) == ("nothing_made", "none of 5 parts could be made: 5 no_part") and not contents(tmp_path / "out")


def test_an_empty_dataset_is_not_well(tmp_path):
    corpus = source(tmp_path / "s", lambda i: orjson.dumps(to_deepcad(part(i))))
    assert main(["run", str(corpus), str(tmp_path / "out"), "--size", "64", "--workers", "1"]) == 0
    write_json(tmp_path / "out/train_val_split.json", dict(train=[], validation=[], test=[]))
    assert any("[empty]" in p for p in validate(tmp_path / "out", workers=1).problems) and not Dataset(tmp_path / "out").ids
