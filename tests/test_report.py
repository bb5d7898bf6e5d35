"""The report on datasets: every figure comes from their files, and the page stands alone."""
import csv, json, re, shutil

import pytest

from cadvlm.app.cli import main
from cadvlm.corpus.dataset import Dataset, failures
from cadvlm.errors import DatasetError
from cadvlm.app.report import figures, nearest, read_published, report, report_page, stage_command, survey
from cadvlm.files import write_json


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    "A dataset of 30 parts, one of them spoilt, through all stages but training."
    top = tmp_path_factory.mktemp("report")
    assert main(["synthesize", str(top / "corpus"), "--count", "30", "--workers", "1"]) == 0
    spoilt = sorted((top / "corpus").rglob("cad_json/*/*.json"))[3]
    spoilt.write_bytes(spoilt.read_bytes()[:300])
    assert main(["run", str(top / "corpus"), str(top / "made"), "--train-size", "24", "--val-size", "3", "--test-size",
                 "3", "--workers", "1"]) == 0
    return top / "made"


def test_every_figure_is_that_of_the_files(made):
    found = survey(made)
    conversations = {n: json.loads((made / f"{n}.json").read_text()) for n in ("train", "val", "test")}
    answers = [s["conversations"][1]["value"] for rows in conversations.values() for s in rows]
    assert found["text"]["samples"] == dict(train=len(conversations["train"]), validation=len(conversations["val"]),
                                            test=len(conversations["test"]))
    assert (found["text"]["code"]["min"], found["text"]["code"]["max"]) == (min(map(len, answers)),
        max(map(len, answers)))
    images = [p.stat().st_size for p in made.rglob("images/*/*.png")]
    assert (found["images"]["count"], found["images"]["bytes"]["min"], found["images"]["bytes"]["max"],
            found["images"]["bytes"]["total"]) == (len(images), min(images), max(images), sum(images))
    assert sum(found["failures"].values()) == len(failures(Dataset(made))) == 1
    assert list(found["failures"]) == ["extract: not_json"]
    assert found["training"] is None and set(found["stages"]) == {"extract", "render", "convert", "validate"}


def test_a_stage_that_had_nothing_to_do_is_cached(made, tmp_path):
    shutil.copytree(made, tmp_path / "again")
    assert main(["render", str(tmp_path / "again"), "--workers", "1"]) == 0
    found = survey(tmp_path / "again")
    assert found["stages"]["render"]["cached"] == found["stages"]["render"]["requested"] > 0
    page = report_page([found], [tmp_path / "again"])
    row = lambda stage: re.search(rf"again: {stage}</td>.*?</tr>", page)[0]
    assert "<td>cached</td>" in row("render").replace(" class=n", "")
    assert "cached" not in row("convert") and "/min" in row("convert")


def test_the_command_writes_a_page_that_stands_alone(made, tmp_path, capsys):
    hostile = tmp_path / "a<b>&'c"
    shutil.copytree(made, hostile)
    assert main(["report", str(hostile)]) == 0
    page, found = (hostile / "report.html").read_text(), survey(hostile)
    assert str(hostile / "report.html") in capsys.readouterr().out
    assert json.loads((hostile / "report.json").read_text())[0]["name"] == hostile.name
    assert "a<b>" not in page and "a&lt;b&gt;&amp;" in page
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page)
    images = [a for a in addresses if a.startswith("data:image/png;base64,")]
    assert len(images) == len(found["examples"]) * len(found["images"]["views"]) > 0
    others = {a for a in addresses if not a.startswith("data:image/png;base64,")}
    assert {a for a in others if not a.startswith("#")} == {"report.json", "report.csv"}
    assert {a[1:] for a in others if a.startswith("#")} == set(re.findall(r'<h2 id="([^"]*)"', page))
    assert "<svg" not in page and "cadvlm train a&lt;b&gt;" in page                 # there is no training yet
    rows = list(csv.DictReader((hostile / "report.csv").read_text().splitlines()))
    assert {r["figure"]: r["value"] for r in rows} == figures(found) and {r["dataset"] for r in rows} == {hostile.name}
    (hostile / "training").mkdir()
    (hostile / "training" / "checkpoint.pt").write_bytes(b"0" * 10**6)
    assert survey(hostile)["files"] == survey(made)["files"], "neither a report nor a checkpoint is part of the dataset"


def test_with_a_training_test(made, tmp_path):
    pytest.importorskip("torch", reason="needs torch: pip install 'cadvlm[train]'")
    from cadvlm.learn.commands import train
    shutil.copytree(made, tmp_path / "trained")
    few = dict(model="cnn-gru", epochs=2, steps=8, train_samples=12, val_samples=9, image_size=32)
    trained = train(tmp_path / "trained", device="cpu", **few)
    page = report_page([survey(tmp_path / "trained")], [tmp_path / "trained"])
    for figure in (f'{trained["epochs"][-1]["val_loss"]:.4f}', f'{trained["controls"]["shuffled"]["loss"]:.4f}',
                   f'{trained["parameters"]:,}'):
        assert f">{figure}</td>" in page
    assert page.count("<polyline") == 4 and "cadvlm train trained" not in page


def test_with_an_evaluation(made, tmp_path):
    "The truth itself as predictions, but for one that has no code."
    shutil.copytree(made, tmp_path / "scored")
    samples = json.loads((tmp_path / "scored" / "test.json").read_text())
    lines = [dict(id=s["id"], code=s["conversations"][1]["value"], language="cadquery") for s in samples]
    lines[0]["code"] = "print(1)"
    path = tmp_path / "scored" / "model.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["evaluate", str(path), str(tmp_path / "scored"), "--workers", "1"]) == 0
    found = survey(tmp_path / "scored")
    (evaluation,) = found["evaluations"]
    assert evaluation["samples"] == len(lines) == evaluation["valid"] + 1
    assert evaluation["worst"] and evaluation["worst"][0]["iou"] > 0.9
    page = report_page([found], [tmp_path / "scored"])
    assert f'{100 / len(lines):.1f} %' in page and f'IoU {evaluation["worst"][0]["iou"]:.3f}' in page
    assert f'{evaluation["means"]["iou"]["failures_as_zero"]:.3f}' in page


def test_it_says_no_more_than_was_done(made, tmp_path):
    "Without proofs there is no histogram of them, and a quick validation is named as one."
    assert main(["run", str(made.parent / "corpus"), str(tmp_path / "hasty"), "--train-size", "5", "--val-size", "1",
                 "--test-size", "1", "--no-verify", "--quick", "--workers", "1", "--system-prompt",
                 "Look & think."]) == 0
    hasty, thorough = survey(tmp_path / "hasty"), survey(made)
    assert "--no-verify" in stage_command(hasty, "convert")
    assert "'Look & think.'" in stage_command(hasty, "convert")
    assert "--quick" in stage_command(hasty, "validate")
    assert not hasty["quantisation"] and '<div class="bars">' not in report_page([hasty], [tmp_path / "hasty"])
    assert "--verify" in stage_command(thorough, "convert") and "--no-quick" in stage_command(thorough, "validate")
    assert thorough["quantisation"] and report_page([thorough], [made]).count('<div class="bars">') == 1


def test_two_datasets_side_by_side(made, tmp_path):
    for name in ("one", "two"):
        shutil.copytree(made, tmp_path / name)
    trained = report([tmp_path / "one", tmp_path / "two"], output=tmp_path / "both.html")
    assert [s["name"] for s in trained["surveys"]] == ["one", "two"] and (tmp_path / "both.json").exists()
    page = (tmp_path / "both.html").read_text()
    assert "<th>one</th><th>two</th>" in page and 'href="both.csv"' in page
    for wrong in (dict(datasets=[tmp_path / "one", tmp_path / "one"]),
                  dict(datasets=[tmp_path / "one"], output=tmp_path / "page.txt")):
        with pytest.raises(DatasetError) as e:
            report(**wrong)
        assert e.value.reason == "bad_setting"


def test_without_a_stage_it_says_which(made, tmp_path, capsys):
    shutil.copytree(made, tmp_path / "bare")
    (tmp_path / "bare" / "tinyllava_metadata.json").unlink()
    assert main(["report", str(tmp_path / "bare")]) == 2
    assert "cadvlm convert" in capsys.readouterr().err and not (tmp_path / "bare" / "report.html").exists()


def test_a_page_of_another_program_is_left(made, tmp_path):
    (tmp_path / "mine.html").write_text("mine")
    with pytest.raises(DatasetError) as e:
        report([made], output=tmp_path / "mine.html")
    assert e.value.reason == "not_ours" and (tmp_path / "mine.html").read_text() == "mine"


@pytest.fixture
def published(root):
    return read_published(root / "data" / "results" / "published.json")


def test_a_dataset_is_laid_beside_the_nearest(published):
    of = lambda parts: nearest(dict(parts=dict(train=parts, validation=0, test=0)), published)["name"]
    assert [of(n) for n in (1, 1_100, 3_000, 4_000, 11_000, 36_000, 108_946, 10**7)] == ["1K", "1K", "1K", "10K", "10K",
        "100K", "100K", "100K"]
    for dataset in published["datasets"]:
        count = lambda name: int(dataset["figures"][name].replace(",", ""))
        assert count("images") == 3 * count("parts") == 3 * dataset["parts"]
        assert count("parts") == count("parts for training") + count("parts for validation")


def test_published_figures_stand_beside_those_of_the_dataset(made, root, tmp_path, published):
    path = root / "data" / "results" / "published.json"
    assert main(["report", str(made), "--published", str(path), "--output", str(tmp_path / "page.html")]) == 0
    page, near = (tmp_path / "page.html").read_text(), published["datasets"][0]
    assert f'{published["name"]}: {near["name"]}</th>' in page and published["url"] in page
    row = re.search(r"<tr><td>images</td>(.*?)</tr>", page)[1]
    assert re.findall(r">([^<]+)<", row) == [figures(survey(made))["images"], near["figures"]["images"]]


@pytest.mark.parametrize("wrong", [
    [], {}, dict(name="a", url="b"), dict(name="a", url="b", datasets=[]),
    dict(name="a", url="b", datasets=[dict(name="1K", parts=0, figures={})]),
    dict(name="a", url="b", datasets=[dict(name="1K", parts="many", figures={})]),
    dict(name="a", url="b", datasets=[dict(name="1K", parts=1, figures=[])]),
    dict(name="a", url="b", datasets=[dict(parts=1, figures={})]),
    dict(url="b", datasets=[dict(name="1K", parts=1, figures={})])])
def test_published_figures_of_another_form(tmp_path, wrong):
    write_json(tmp_path / "published.json", wrong)
    with pytest.raises(DatasetError) as e:
        read_published(tmp_path / "published.json")
    assert e.value.reason == "bad_published"
