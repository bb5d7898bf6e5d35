"""Mistakes that people make at the command line: one line, the remedy, an exit code that is not 0, never a traceback.

Each row is a command, what it is tried on, its exit code, and words that must be in the reply: names of flags, files,
commands and choices.
"""
import errno
import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest

from builders import module_of
from cadvlm.app.cli import main
from cadvlm.corpus.dataset import Dataset, failures
from cadvlm.files import read_json
from cadvlm.jobs.cluster import ClusterSize, cluster
from cadvlm.stages.convert import convert
from cadvlm.stages.extract import extract
from cadvlm.stages.render import render
from cadvlm.stages.synthesize import synthesize
from cadvlm.stages.validate import validate

# D is a dataset that is whole, E one that is only extracted, R one that is rendered, S a source
MISTAKES = [
    ("redner D", 2, ["Unknown command", "render"]),
    ("render D --veiws front", 2, ["--veiws", "--views"]),
    ("render D --views fornt", 2, ["--views", "front", "fornt"]),
    ("convert D --language cadqery", 2, ["--language", "cadquery"]),
    ("run --scale 2k", 2, ["--scale", "1k"]),
    ("extract nosuch out", 2, ["nosuch"]),
    ("render nosuch", 2, ["nosuch", "cadvlm extract"]),
    ("extract D/train.json out", 2, ["train.json"]),
    ("convert E", 2, ["cadvlm render"]),
    ("validate E", 2, ["cadvlm render"]),
    ("validate R", 2, ["cadvlm convert"]),
    ("upload R file:///tmp/nowhere", 2, ["cadvlm validate"]),
    ("extract S S", 2, ["source", "another output"]),
    ("extract S D/train.json", 2, ["file", "another output"]),
    ("extract S out --train-size 0 --val-size 0 --test-size 0", 2, ["train_size", "val_size"]),
    ("render D --size 512.5", 2, ["--size", "whole number"]),
    ("render D --size 100000", 2, ["--size", "4,096"]),
    ("render D --size -5", 2, ["--size"]),
    ("render D --workers 0", 2, ["--workers"]),
    ("render D --line-width nan", 2, ["--line-width"]),
    ("render D --timeout -1", 2, ["--timeout"]),
    ("render D --timeout 0", 2, ["--timeout"]),
    ("extract S out --seed -1", 2, ["--seed"]),
    ("synthesize out --count 100000000000", 2, ["--count"]),
    ("render --views front top D", 2, ["--views takes all words", "first"]),
    ("convert R --on-quantisation-loss drop --no-verify", 2, ["--on-quantisation-loss", "--no-verify"]),
    ("convert R --sample sheet", 2, ["--views sheet"]),
    ("run", 2, ["--output", "cadvlm run --scale 1k"]),
    ("export nosuch out.step", 2, ["--dataset"]),
    ("export 99999999 out.step --dataset D", 2, ["99999999", "D"]),
    ("export 00000000 out.dwg --dataset D", 2, [".step"]),
    ("render D --scheduler tcp://127.0.0.1:1", 2, ["scheduler"]),
    ("stats nosuch", 2, ["nosuch"]),
    ("evaluate nosuch.jsonl D", 2, ["nosuch.jsonl"]),
    ("evaluate D/train.json D --protocol iou", 2, ["--protocol", "cadvlm"]),
    ("extract out S", 2, ["out", "no such folder"]),
    ("extract steps out", 2, ["STEP", "construction history"]),
    ("run --scale 1k --train-size 5", 2, ["--train-size", "--scale 1k"]),
    ("demo D/train.json", 2, ["not a directory", "another place"]),
    ("report E", 2, ["cadvlm render"]),
    ("export program.py keep.stl", 2, ["keep.stl", "--overwrite"]),
    ("render D --scheduler tcp://127.0.0.1:1 --workers 2", 2, ["--workers", "scheduler"]),
    ("upload D nothing://place", 2, ["nothing"]),
    ("evaluate twice.jsonl D", 2, ["twice.jsonl, line 2", "line 1"]),
    ("evaluate unknown.jsonl D", 2, ["99999999", "D"]),
    ("evaluate keys.jsonl D", 2, ["keys.jsonl, line 1", "id, code and language"]),
    ("evaluate nan.jsonl D", 2, ["nan.jsonl, line 1", "JSON"]),
]
# the same, of commands that need the libraries of training
TRAINING = [
    ("train E", ["cadvlm convert E"]),
    ("train nosuch", ["nosuch", "cadvlm run"]),
    ("train D x --image-size 5", ["--image-size", "32 to 512"]),
    ("train D x --image-size 113", ["--image-size", "multiple of 16"]),
    ("train D x --epochs 2.7", ["--epochs", "whole number"]),
    ("train D x --stesp 5", ["--stesp", "--steps"]),
    ("train D x --tokenizer y", ["--tokenizer", "--model cnn-gru"]),
    ("train D x --model cnn-gru --turns 3", ["--turns", "--model transformer"]),
    ("train D x --val-samples 1", ["--val-samples", "more"]),
    ("predict nosuch D", ["nosuch", "cadvlm train"]),
    ("predict D/train.json D", ["D/train.json", "no checkpoint", "cadvlm train"]),
    ("predict D D --choose drawing", ["--candidates 16"]),
    ("choose D/train.json D", ["D/train.json, line 1", "JSON"]),
    ("finetune D x", ["--base", "--tiny"]),
    ("compare D", ["--tests"]),
]
# answers that all score 0, and the words of the note that says why
ZEROS = [("fences.jsonl", 0, "Markdown fences"), ("compact.jsonl", 0, '"language": "cadquery"'),
         ("train.jsonl", 0, "--split train"), ("empty.jsonl", 0, "no prediction")]
FILES = [
    ("render:\n  veiws: [front]", ["render.veiws", "did you mean views"]),
    ("rendr:\n  size: 64", ["rendr", "did you mean render"]),
    ("render:\n  size: 2.7", ["render.size", "whole number"]),
    ("render:\n  views: [fornt]", ["render.views", "front"]),
    ("render: 5", ["render", "settings"]),
    ("render: [", ["YAML"]),
]


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    "A source, and datasets that have been through some of the stages."
    folder = tmp_path_factory.mktemp("mistakes")
    synthesize(folder / "S", count=12, workers=1)
    for name in "DER":
        extract(folder / "S", folder / name, train_size=3, val_size=1, test_size=1, workers=1)
    for name in "DR":
        render(folder / name, size=64, workers=1)
    convert(folder / "D", workers=1)
    assert not validate(folder / "D", workers=1).problems
    files_of_answers(folder)
    return folder


def files_of_answers(folder):
    "Files of answers with the mistakes that people make, and other files."
    codes = {s["id"]: s["conversations"][1]["value"] for name in ("train", "test")
             for s in read_json(folder / "D" / f"{name}.json")}
    test, train = ([s["id"] for s in read_json(folder / "D" / f"{name}.json")] for name in ("test", "train"))

    def write(name, rows):
        (folder / f"{name}.jsonl").write_text("".join(row + "\n" for row in rows))

    def row(id, code, language="cadquery"):
        return json.dumps(dict(id=id, code=code, language=language))

    write("fences", [row(i, f"Here it is:\n```python\n{codes[i]}\n```") for i in test])
    write("compact", [row(i, codes[i], "compact") for i in test])
    write("train", [row(i, codes[i]) for i in train])
    write("empty", [])
    write("twice", [row(test[0], codes[test[0]])] * 2)
    write("unknown", [row("99999999", "")])
    write("keys", [json.dumps(dict(name=test[0], text=""))])
    write("nan", ['{"id": "%s", "code": NaN, "language": "cadquery"}' % test[0]])
    (folder / "steps").mkdir()
    (folder / "steps" / "bracket.step").write_text("ISO-10303-21;")
    (folder / "program.py").write_text(codes[test[0]])
    (folder / "keep.stl").write_text("mine")


def typed(line, folder, monkeypatch, capfd):
    "`(exit code, what is printed)` of a command that is typed in a folder."
    monkeypatch.chdir(folder)
    monkeypatch.setattr(module_of(cluster), "_CONNECT_TIMEOUT", 0.3)
    capfd.readouterr()
    code = main(line.split())
    out, err = capfd.readouterr()
    return code, out + err


@pytest.mark.parametrize("line, code, words", MISTAKES, ids=[m[0] for m in MISTAKES])
def test_mistake_is_answered_on_one_line(line, code, words, places, monkeypatch, capfd):
    found, text = typed(line, places, monkeypatch, capfd)
    assert found == code, text
    assert "Traceback" not in text and "internal_error" not in text
    assert text.startswith("cadvlm: ") and len(text.strip().splitlines()) == 1, text
    assert all(word in text for word in words), text


@pytest.mark.parametrize("line, words", TRAINING, ids=[m[0] for m in TRAINING])
def test_mistake_in_training_is_answered_on_one_line(line, words, places, monkeypatch, capfd):
    pytest.importorskip("torch", reason="needs torch: pip install 'cadvlm[train]'")
    test_mistake_is_answered_on_one_line(line, 2, words, places, monkeypatch, capfd)


@pytest.mark.parametrize("command", ["train D x", "finetune D x --tiny", "answer D D"])
def test_graphics_card_that_is_not_there_is_said(command, places, monkeypatch, capfd):
    torch = pytest.importorskip("torch", reason="needs torch: pip install 'cadvlm[train]'")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    line, words = f"{command} --device cuda", ["NVIDIA", "--device"]
    test_mistake_is_answered_on_one_line(line, 2, words, places, monkeypatch, capfd)


def test_base_model_without_a_network_is_one_line(places, monkeypatch, capfd):
    pytest.importorskip("transformers", reason="needs transformers: pip install 'cadvlm[train]'")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    code, text = typed("finetune D x --base nobody/nothing", places, monkeypatch, capfd)
    assert code == 2 and "nobody/nothing" in text and "--tiny" in text and "Traceback" not in text


@pytest.mark.parametrize("file, code, words", ZEROS, ids=[m[0] for m in ZEROS])
def test_score_that_tells_nothing_says_why(file, code, words, places, monkeypatch, capfd):
    found, text = typed(f"evaluate {file} D --workers 1", places, monkeypatch, capfd)
    assert found == code and words in text, text


@pytest.mark.parametrize("config, words", FILES, ids=[words[0] for _, words in FILES])
def test_mistake_in_a_configuration_file_is_named(config, words, places, monkeypatch, capfd):
    (places / "wrong.yaml").write_text(config)
    code, text = typed("render D --config wrong.yaml", places, monkeypatch, capfd)
    assert code == 2 and "wrong.yaml" in text
    assert all(word in text for word in words), text


@pytest.mark.parametrize("config", ["render:\n  line-width: 3e0", "render:\n  line_width: 3.0"])
def test_both_spellings_of_keys_and_numbers_are_read(config, places, monkeypatch, capfd):
    (places / "right.yaml").write_text(config)
    shutil.copytree(places / "E", places / "spelt", dirs_exist_ok=True)
    code, _ = typed("render spelt --size 64 --config right.yaml --workers 1", places, monkeypatch, capfd)
    assert code == 0
    assert Dataset(places / "spelt").metadata("render")["line_width"] == 3


def test_other_settings_are_said(places, tmp_path):
    "Finished work that has to be made again is not made silently."
    shutil.copytree(places / "R", tmp_path / "again")
    summary = render(tmp_path / "again", size=128, workers=1)
    assert any("size 64 → 128" in note for note in summary.notes)


def test_image_that_was_spoiled_is_drawn_again(places, tmp_path):
    dataset = Dataset(shutil.copytree(places / "D", tmp_path / "spoiled"))
    path = dataset.image_path(dataset.ids[0], "top")
    good = path.read_bytes()
    path.write_bytes(b"\x89PNG spoiled" + good[12:])
    assert validate(dataset.path, workers=1).problems
    render(dataset.path, size=64, workers=1)
    assert path.read_bytes() == good
    convert(dataset.path, workers=1)
    assert not validate(dataset.path, workers=1).problems


def test_part_whose_file_was_deleted_fails_with_a_reason(places, tmp_path):
    dataset = Dataset(shutil.copytree(places / "R", tmp_path / "deleted"))
    id = dataset.ids[0]
    dataset.json_path(id).unlink()
    render(dataset.path, size=64, workers=1)
    assert [(r["id"], r["reason"]) for r in failures(dataset)] == [(id, "missing_json")]


def test_unexpected_error_of_a_part_makes_the_command_fail(places, tmp_path, monkeypatch):
    import cadvlm.stages.render as module

    dataset = Dataset(shutil.copytree(places / "E", tmp_path / "broken"))
    broken, draw = dataset.ids[0], module._render_one

    def render_one(dataset, settings, id):
        if id == broken:
            raise ZeroDivisionError
        return draw(dataset, settings, id)

    monkeypatch.setattr(module, "_render_one", render_one)
    summary = render(dataset.path, size=64, workers=1)
    assert summary.failures == {"internal_error": 1} and summary.problems


def test_view_that_was_drawn_after_conversion_is_noticed(places, tmp_path):
    dataset = Dataset(shutil.copytree(places / "E", tmp_path / "later"))
    render(dataset.path, views=("front",), size=64, workers=1)
    convert(dataset.path, workers=1)
    render(dataset.path, views=("front", "top"), size=64, workers=1)
    summary = validate(dataset.path, workers=1)
    assert any("top" in note for note in summary.notes)


def test_folder_without_a_split_file_gets_a_split(places, tmp_path):
    plain = tmp_path / "plain"
    plain.mkdir()
    for path in (places / "S" / "cad_json").rglob("*.json"):
        shutil.copy(path, plain / path.name)
    extract(plain, tmp_path / "made", train_size=9, val_size=1, test_size=1, workers=1)
    split = read_json(tmp_path / "made" / "train_val_split.json")
    assert all(split.values())


@pytest.mark.parametrize("change, word", [
    (lambda p: (p / "test.json").unlink(), "test.json"),
    (lambda p: (p / "images" / "0000" / "00000000_left.png").write_bytes(b""), "00000000_left"),
    (lambda p: (p / "train_val_split.json").write_text("{"), "train_val_split.json"),
    (lambda p: (p / "train.json").write_text((p / "train.json").read_text().replace("cq.", "qc.", 1)), "[bad_code]"),
], ids=["missing test.json", "stray image", "broken split", "edited answer"])
def test_damage_to_a_dataset_is_found_by_name(change, word, places, tmp_path, monkeypatch, capfd):
    shutil.copytree(places / "D", tmp_path / "damaged")
    change(tmp_path / "damaged")
    code, text = typed("validate damaged --workers 1", tmp_path, monkeypatch, capfd)
    assert code in (1, 2) and word in text, text


def make(root, folder, *words):
    "What make says of a target in an empty folder with the project's Makefile."
    shutil.copy(root / "Makefile", folder)
    shutil.copy(root / "pyproject.toml", folder)
    return subprocess.run(["make", *words], cwd=folder, capture_output=True, text=True)


def test_make_names_the_python_it_needs(root, tmp_path):
    old = tmp_path / "python3.10"
    old.write_text("#!/bin/sh\nexit 1\n")           # what an older Python answers when it is asked for its version
    old.chmod(0o755)
    made = make(root, tmp_path, f"PYTHON={old}", ".venv/bin/python")
    assert made.returncode == 2 and "Python 3.11 or newer" in made.stderr and "PYTHON=" in made.stderr


def test_jupyterlab_starts_for_the_user_root_too(root, tmp_path):
    "In a container the user is root, whom JupyterLab rejects by itself."
    assert ("--allow-root" in make(root, tmp_path, "-n", "lab").stdout) == (os.getuid() == 0)


def test_output_that_nobody_reads_any_more_is_no_error():
    command = [sys.executable, "-m", "cadvlm", "--help"]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    program.stdout.close()
    assert "Traceback" not in program.stderr.read() and program.wait() in (0, 1)


def test_a_cluster_without_workers_is_said(caplog):
    answers = iter([{}, {"tcp://127.0.0.1:1": 2}])
    client = SimpleNamespace(nthreads=lambda: next(answers))
    assert ClusterSize(client, "tcp://127.0.0.1:8786").wait() == 2
    assert "tcp://127.0.0.1:8786 has no workers; waiting for `dask worker" in caplog.text


def test_read_only_disk_is_said_without_a_promise(places, tmp_path, monkeypatch, capfd):
    "Work that was done is not there to go on from."
    shutil.copytree(places / "D", tmp_path / "D")

    def rejected(*args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(tmp_path / "D"))

    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", rejected)
        patch.setattr(os, "open", rejected)
        assert main(["dedup", str(tmp_path / "D"), "--workers", "1"]) == 2
    said = capfd.readouterr().err
    assert "ead-only" in said and "Traceback" not in said and "goes on" not in said
