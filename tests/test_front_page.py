"""The commands of the front page, typed in their order from a fresh folder: each leaves behind what it says.

As a rule the corpora have a few dozen parts instead of 1,100, and the training a few steps. CADVLM_FRONT_PAGE=full
types everything as it stands (five minutes), and asks for useful numbers.
"""
import json
import math
import os
import re
import tarfile
from pathlib import Path

import cv2
import pandas as pd
import pytest

from cadvlm.app.cli import app, main, shipped
from cadvlm.files import read_json
from cadvlm.settings.stages import SCALES
from conftest import ROOT

FULL = os.environ.get("CADVLM_FRONT_PAGE") == "full"
FEWER = {"train": ["--steps", "30", "--turns", "1", "--device", "cpu"]}          # flags behind a command as it stands
FEWER["demo"] = ["--count", "12", "--workers", "1"]
# what a shell and pip do, and this test does not; test_trainers.py types the lines of trainers
NOT_OURS = re.compile(r"pip install .*|\. \.venv/bin/activate|llamafactory-cli .*")


def commands(text):
    "The lines of the shell blocks of a page, without comments."
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)
    blocks = [block.replace("\\\n", " ") for block in blocks]
    lines = [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line.replace("make demo", "cadvlm demo") for line in lines if line]


def lines_of(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def mean_iou(path):
    return read_json(path)["measures"]["iou"]["failures_as_zero"]["mean"]


def check_download():
    assert tarfile.open("data/source/data.tar").getnames()


def check_run(folder):
    samples = [s for name in ("train", "val", "test") for s in read_json(f"{folder}/{name}.json")]
    assert samples and all(os.path.getsize(f"{folder}/{s['image']}") > 500 for s in samples)
    assert not read_json(f"{folder}/validation_report.json")["problems"]


def check_demo(folder):
    page = Path(f"{folder}/index.html").read_text()
    assert page.count("<article") == len(list(Path(f"{folder}/dataset/cad_json").rglob("*.json"))) > 10
    assert Path(f"{folder}/read/index.html").is_file()


def check_train(run):
    report = read_json(f"{run}/training.json")
    assert all(math.isfinite(row["val_loss"]) for row in report["epochs"])
    assert cv2.imread(f"{run}/training.png").std() > 1
    if FULL:
        assert report["controls"]["grounded"]


def check_predict(run, dataset):
    rows = lines_of(f"{run}/predictions_test.jsonl")
    assert len(rows) == len(read_json(f"{dataset}/test.json")) and all(row["candidates"] == 16 for row in rows)
    image = cv2.imread(f"{run}/predictions_test.png")
    assert image.shape[0] > 300 and image.std() > 5


def check_evaluate(predictions):
    made = read_json(f"{predictions.removesuffix('.jsonl')}_cadvlm/evaluation.json")
    assert 0 < mean_iou(f"{predictions.removesuffix('.jsonl')}_cadvlm/evaluation.json") < 1
    if FULL:
        assert mean_iou(f"{predictions.removesuffix('.jsonl')}_cadvlm/evaluation.json") > 0.45
        assert made["invalid_ratio"] <= 0.02


def check_report(dataset):
    page = Path(f"{dataset}/report.html").read_text()
    assert page.count("data:image/png") > 6 and "IoU" in page
    if os.path.exists(f"{dataset}/training/training.json"):
        loss = read_json(f"{dataset}/training/training.json")["epochs"][-1]["val_loss"]
        assert f"{loss:.4f}" in page


def check_convert(folder, format):
    files = {"messages": "data/train-*.parquet", "llama-factory": "llama-factory/dataset_info.json"}
    assert [*Path(folder).glob(files[format])] and "configs:" in Path(f"{folder}/README.md").read_text()


def check(words):
    "What a command has left behind."
    name, *rest = words
    places = [word for word in rest if not word.startswith("-")]
    if name == "download":
        check_download()
    elif name == "run":
        check_run("data/synthetic_1k" if "--scale" in words else places[1])
    elif name == "stats":
        assert os.path.getsize(f"{places[0]}/stats.png") > 10_000 and read_json(f"{places[0]}/stats.json")
    elif name == "export":
        trimesh = pytest.importorskip("trimesh")
        assert trimesh.load(places[1]).is_watertight
    elif name == "draw":
        assert b"LINE" in Path(places[1]).read_bytes()
    elif name == "reconstruct":
        (row,) = lines_of(f"{places[1]}/predictions.jsonl")
        assert row["certified"] and os.path.getsize(f"{places[1]}/index.html") > 10_000
    elif name == "demo":
        check_demo("data/demo")
    elif name == "match":
        assert read_json("answer/reconstruction.json")["certified"] == 1        # the exit code is 0: they match
    elif name == "train":
        check_train(f"{places[0]}/training")
    elif name == "predict":
        check_predict(*places[:2])
    elif name == "evaluate":
        check_evaluate(places[0])
    elif name == "report":
        check_report(places[0])
    elif name == "convert":
        check_convert(places[0], words[words.index("--format") + 1])
    else:
        pytest.fail(f"nobody knows what cadvlm {name} has to leave behind")


@pytest.fixture
def fresh(tmp_path, monkeypatch, server):
    "A fresh folder, and a server that has an archive of parts in place of DeepCAD's."
    monkeypatch.chdir(tmp_path)
    if not FULL:
        monkeypatch.setitem(SCALES, "1k", 36)
    assert main(["synthesize", "away/data", "--count", "26", "--seed", "1", "--workers", "1", "-q"]) == 0
    with tarfile.open("away/data.tar", "w") as tar:
        tar.add("away/data", "data")
    server.data = (tmp_path / "away" / "data.tar").read_bytes()
    return tmp_path


@pytest.mark.slow
def test_commands_of_the_front_page_do_what_they_say(root, fresh, server, capsys):
    pytest.importorskip("torch", reason="needs torch: pip install 'cadvlm[train]'")
    done = []
    for line in commands((root / "README.md").read_text(encoding="utf-8")):
        if NOT_OURS.fullmatch(line):
            continue
        program, *words = line.split()
        assert program == "cadvlm", line
        fewer = [] if FULL else FEWER.get(words[0], [])
        elsewhere = ["--url", server.url] if words[0] == "download" else []
        assert main([*words, *fewer, *elsewhere]) == 0, f"{line}\n{capsys.readouterr().err}"
        said = capsys.readouterr().out
        assert not FULL or "no value" not in said, line               # of a few parts, some measures have none
        check(words)
        done.append(words[0])
    drawings, learning = {"draw", "reconstruct", "match"}, {"train", "predict", "evaluate", "report"}
    assert {"demo", "download", "run", "stats", "export", "convert"} | drawings | learning <= set(done)


def test_pages_name_tests_that_are_there(root):
    pages = [*(root / "nbs").glob("*.ipynb"), root / "CONTRIBUTING.md", root / "Makefile"]
    named = {(page.name, name) for page in pages for name in re.findall(r"\btest_\w+\.py", page.read_text("utf-8"))}
    assert named and not [pair for pair in named if not (root / "tests" / pair[1]).is_file()]


def typed_on(page):
    "Words behind `cadvlm`, or behind `-m cadvlm`, of the commands on a page; a prompt and a comment are none."
    cells = json.loads(page.read_text("utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    lines = [line for line in commands(text) if re.match(r"cadvlm |.* -m cadvlm", line) and "…" not in line]
    return [re.sub(r"^(cadvlm|.* -m cadvlm) ", "", line).split() for line in lines]


PAGES = sorted(page for page in (ROOT / "nbs").glob("*.ipynb") if typed_on(page))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_on_a_page_can_be_typed(page):
    "Each names a command, its arguments and flags that there are."
    for words in typed_on(page):
        if "--config" in words:
            k = words.index("--config")
            assert shipped(words[k + 1]).is_file() or words[k + 1] == "settings.yaml", words
            words = words[:k] + words[k + 2:]
        app.parse_args(words, exit_on_error=False, print_error=False)


ANSWERS = {"likeliest": "the likeliest text", "chosen of 16": "the best of 16 by its drawing",
           "chosen and searched": "that one, searched from", "another part's sheet": "the sheet of another part",
           "blank sheet": "a blank sheet"}


def test_figures_of_the_training_are_those_measured(root):
    "The table on the front page has the means of three seeds, and their range."
    rows = pd.read_csv(root / "data" / "results" / "first_training.csv")
    rows = rows[rows.run == "front page"]
    rows = rows[rows.code == rows.code.iloc[-1]]
    page = (root / "README.md").read_text(encoding="utf-8")
    for answer, words in ANSWERS.items():
        found = rows[rows.answer == answer]
        assert len(found) == 3
        iou = f"{found.iou.mean():.2f} ({found.iou.min():.2f} to {found.iou.max():.2f})"
        row = re.search(rf"^\| .*{words}.*\| (.*) \| (.*) \|$", page, re.M)
        assert row and row.groups() == (iou, f"{100 * found.invalid_ratio.mean():.1f} %"), answer
