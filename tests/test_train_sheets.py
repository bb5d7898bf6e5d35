"""The commands with the transformer: train, predict, draw and choose; going on after a stop, and what they reject."""
import json

import pytest

from cadvlm.app.cli import main
from cadvlm.errors import DatasetError
from cadvlm.files import read_json
from cadvlm.stages.convert import convert
from cadvlm.stages.extract import extract
from cadvlm.stages.render import render
from cadvlm.stages.synthesize import synthesize

pytest.importorskip("torch", reason="needs torch: pip install 'cadvlm[train]'")
from cadvlm.learn import fit as fitting, train_sheets as training
from cadvlm.learn.choose_file import choose_file
from cadvlm.learn.commands import predict, train
from cadvlm.learn.runs import read_rows

QUICK = dict(device="cpu", image_size=64, width=32, encoder_blocks=1, turns=2, max_length=40, steps=12, epochs=2,
             batch_size=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sheets")
    synthesize(folder / "parts", count=40, workers=1)
    extract(folder / "parts", folder / "tiny", train_size=24, val_size=8, test_size=8, order="random", workers=1)
    render(folder / "tiny", views=("sheet",), size=128, workers=1)
    convert(folder / "tiny", language="compact", sample="sheet", verify=False, workers=1)
    return folder


@pytest.fixture(scope="module")
def report(folder):
    return train(folder / "tiny", folder / "run", **QUICK)


def losses(report):
    return [row[name] for row in report["epochs"] for name in ("train_loss", "val_loss")]


def test_a_run_is_reported_and_found_finished(folder, report):
    kept = read_json(folder / "run" / "training.json")
    assert kept["epochs"] == report["epochs"] and len(kept["epochs"]) == 2 and kept["epochs"][-1]["steps"] == 12
    for word in ("sheets: each part", "samples/s", "shuffled images", "-gram", "Image ablation"):
        assert word in str(report)
    names = {p.name for p in (folder / "run").iterdir()}
    assert names == {"run.json", "checkpoint.pt", "training.json", "training.png"}
    assert train(folder / "tiny", folder / "run", **QUICK) == kept


def test_stopped_training_on_sheets_goes_on_to_the_same_losses(folder, report, tmp_path, monkeypatch):
    "Stopped in the second half, after a checkpoint; what was drawn is not drawn again."
    class Stopped(BaseException):
        pass

    step, drawn = fitting.Trainer.step, []

    def stopping(self, *args):
        if self.done == 9:
            raise Stopped
        return step(self, *args)

    with monkeypatch.context() as m:
        m.setattr(fitting.Trainer, "step", stopping)
        m.setattr(fitting, "SAVE_SECONDS", 0.0)
        with pytest.raises(Stopped):
            train(folder / "tiny", tmp_path / "run", **QUICK)
    monkeypatch.setattr(training, "sheets_of", lambda *args: drawn.append(args))
    again = train(folder / "tiny", tmp_path / "run", **QUICK)
    assert losses(again) == pytest.approx(losses(report)) and not drawn
    assert again["controls"]["loss"] == pytest.approx(report["controls"]["loss"])


def test_small_batches_before_each_step_are_one_large_batch(folder, report, tmp_path):
    again = train(folder / "tiny", tmp_path / "run", **QUICK | dict(batch_size=2, accumulate=4))
    assert losses(again) == pytest.approx(losses(report), rel=1e-3)


def test_work_of_others_is_not_overwritten(folder, report, tmp_path):
    for change, words in ((dict(width=64), "--width"), (dict(model="cnn-gru"), "--model")):
        settings = {k: v for k, v in QUICK.items() if k in ("device", "steps", "epochs", "batch_size")}
        with pytest.raises(DatasetError, match=words) as e:
            train(folder / "tiny", folder / "run", **(QUICK if "width" in change else settings) | change)
        assert e.value.reason == "other_run" and "--restart" in e.value.message
    (tmp_path / "checkpoint.pt").write_bytes(b"mine")
    with pytest.raises(DatasetError) as e:
        train(folder / "tiny", tmp_path, **QUICK)
    assert e.value.reason == "not_ours" and (tmp_path / "checkpoint.pt").read_bytes() == b"mine"


@pytest.mark.parametrize("wrong, flag", [(dict(tokenizer="x"), "tokenizer"), (dict(image_size=56), "image_size"),
                                         (dict(width=33), "width"), (dict(max_length=5), "max_length"),
                                         (dict(steps=1), "steps"), (dict(turns=49), "turns")])
def test_settings_that_no_transformer_has_are_rejected(folder, tmp_path, wrong, flag):
    with pytest.raises(DatasetError) as e:
        train(folder / "tiny", tmp_path / "x", **QUICK | wrong)
    assert e.value.reason == "bad_setting" and e.value.where == flag


def test_the_drawing_chooses(folder, report, capsys):
    line = ["predict", str(folder / "run"), str(folder / "tiny"), "--split", "validation", "--candidates", "4",
            "--choose", "drawing", "--search", "5", "--device", "cpu"]
    assert main(line) == 0
    said = capsys.readouterr().out
    assert "among 4 each" in said and "predictions_validation.png" in said
    rows = read_rows(folder / "run" / "predictions_validation.jsonl")
    candidates = read_rows(folder / "run" / "predictions_validation_candidates.jsonl")
    assert len(candidates) == 4*len(rows) == 4*len(read_json(folder / "tiny" / "val.json"))
    assert all(row["id"].endswith("_sheet") and row["drawings"] <= 5 for row in rows if "drawings" in row)
    # the greedy text is one of the candidates, and the choice never agrees less
    made = predict(folder / "run", folder / "tiny", folder / "greedy.jsonl", split="validation", device="cpu")
    greedy = read_rows(made["output"])
    assert [row["code"] for row in greedy] == [row["code"] for row in candidates[::4]]
    alone = choose_file(folder / "greedy.jsonl", folder / "tiny", workers=1)
    both = zip(rows, read_rows(alone["output"]))
    assert all(chosen["agreement"] >= one["agreement"] for chosen, one in both)
    assert main(line) == 0 and rows == read_rows(folder / "run" / "predictions_validation.jsonl")


def test_choose_goes_on_and_rejects(folder, report, capsys):
    made = predict(folder / "run", folder / "tiny", folder / "many.jsonl", candidates=3, device="cpu")
    line = ["choose", made["output"], str(folder / "tiny"), "--workers", "1"]
    assert main(line) == 0 and main(line) == 0
    rows = read_rows(folder / "many_chosen.jsonl")
    assert {row["candidates"] for row in rows} == {3} and not (folder / "many_chosen_rows.jsonl").exists()
    assert main([*line, "--search", "4"]) == 2 and "--restart" in capsys.readouterr().err
    assert main([*line, "--search", "4", "--restart"]) == 0
    better = read_rows(folder / "many_chosen.jsonl")
    assert all(new["agreement"] >= old["agreement"] for new, old in zip(better, rows))
    (folder / "mine_chosen.jsonl").write_text("mine")
    (folder / "mine.jsonl").write_text((folder / "many.jsonl").read_text())
    assert main(["choose", str(folder / "mine.jsonl"), str(folder / "tiny"), "--workers", "1"]) == 2
    assert (folder / "mine_chosen.jsonl").read_text() == "mine"


@pytest.mark.parametrize("line, words", [
    ("choose nothing.jsonl {tiny}", "no file of predictions"), ("choose {empty} {tiny}", "no predictions"),
    ("choose {other} {tiny}", "no such part"), ("predict {run} {tiny} --search 5", "--choose drawing"),
    ("predict {run} {tiny} --choose drawing", "--candidates 16"), ("predict {run} {tiny} --max-tokens 2", "allow more"),
    ("predict {run} {tiny} --candidates 2 --temperature 0", "above 0"), ("predict {tiny} {tiny}", "no checkpoint")])
def test_mistakes_are_answered(folder, report, tmp_path, line, words, capsys):
    (tmp_path / "empty").touch()
    (tmp_path / "other").write_text(json.dumps(dict(id="99999999", code="", language="compact")))
    places = dict(tiny=folder / "tiny", run=folder / "run", empty=tmp_path / "empty", other=tmp_path / "other")
    assert main([word.format(**places) for word in line.split()]) == 2
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said and len(said.strip().splitlines()) == 1
