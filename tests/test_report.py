"""The report on datasets: every figure comes from their files, and the page stands alone."""
import json, re, shutil

import pytest

from cadvlm.app.cli import main
from cadvlm.corpus.dataset import Dataset, failures
from cadvlm.errors import DatasetError
from cadvlm.app.report import CLAIMS, nearest, report, report_page, stages, survey, time_estimates, timeline


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
    pictures = [p.stat().st_size for p in made.rglob("images/*/*.png")]
    assert (found["images"]["count"], found["images"]["bytes"]["min"], found["images"]["bytes"]["max"],
            found["images"]["bytes"]["total"]) == (len(pictures), min(pictures), max(pictures), sum(pictures))
    assert sum(found["failures"].values()) == len(failures(Dataset(made))) == 1
    assert list(found["failures"]) == ["extract: not_json"]
    assert found["training"] is None and set(found["stages"]) == {"extract", "render", "convert", "validate"}


def test_what_was_done_before_says_so(made, tmp_path):
    shutil.copytree(made, tmp_path / "again")
    assert main(["render", str(tmp_path / "again"), "--workers", "1"]) == 0
    assert timeline([survey(tmp_path / "again")]).loc["render"].iloc[2] == "done before"


def test_the_command_writes_a_page_that_stands_alone(made, tmp_path, capsys):
    hostile = tmp_path / "a<b>&'c"
    shutil.copytree(made, hostile)
    assert main(["report", str(hostile)]) == 0
    page = (hostile / "report.html").read_text()
    assert "Look at" in capsys.readouterr().out
    assert json.loads((hostile / "report.json").read_text())[0]["name"] == hostile.name
    assert "<b>" not in page and "a&lt;b&gt;&amp;" in page
    assert re.findall(r'(?:src|href)="?(.{22})', page) == ["data:image/png;base64,"] * 2
    assert "no training test yet" in page and "10,933 parts/min" not in page         # it is laid beside the smallest
    (hostile / "training").mkdir()
    (hostile / "training" / "checkpoint.pt").write_bytes(b"0" * 10**6)
    assert survey(hostile)["files"] == survey(made)["files"], "neither a report nor a checkpoint is part of the dataset"


def test_with_a_training_test(made, tmp_path):
    pytest.importorskip("torch", reason="needs torch: pip install 'cadvlm[train]'")
    from cadvlm.learn.train import train
    shutil.copytree(made, tmp_path / "trained")
    told = train(tmp_path / "trained", epochs=2, train_samples=12, val_samples=9, image_size=32, device="cpu")
    page = report_page([survey(tmp_path / "trained")])
    for figure in (f'{told["epochs"][-1]["val_loss"]:.4f}', f'{told["controls"]["shuffled"]["loss"]:.2f}',
                   f'{told["parameters"]:,}'):
        assert figure in page
    assert "no training test yet" not in page


def test_it_says_no_more_than_was_done(made, tmp_path):
    "Without proofs there is no chart of them, and a quick validation has opened no picture."
    assert main(["run", str(made.parent / "corpus"), str(tmp_path / "hasty"), "--train-size", "5", "--val-size", "1",
                 "--test-size", "1", "--no-verify", "--quick", "--workers", "1", "--system-prompt",
                 "Look & think."]) == 0
    told = stages([survey(tmp_path / "hasty")])
    assert "--no-verify" in told["convert"]["command"]
    assert "'Look & think.'" in told["convert"]["command"]
    assert "not verified" in told["convert"]["what differs"]
    assert "--quick" in told["validate"]["command"] and "opened" not in told["validate"]["what differs"]
    assert report_page([survey(tmp_path / "hasty")]).count("data:image/png") == 1
    thorough = stages([survey(made)])
    assert "--verify" in thorough["convert"]["command"]
    assert "built and compared" in thorough["convert"]["what differs"]
    assert "opened" in thorough["validate"]["what differs"]


def test_two_datasets_side_by_side(made, tmp_path):
    for name in ("one", "two"):
        shutil.copytree(made, tmp_path / name)
    told = report([tmp_path / "one", tmp_path / "two"], output=tmp_path / "both.html")
    assert [s["name"] for s in told["surveys"]] == ["one", "two"] and (tmp_path / "both.json").exists()
    assert len(time_estimates(told["surveys"])) == 8
    with pytest.raises(DatasetError, match="different names"):
        report([tmp_path / "one", tmp_path / "one"])
    with pytest.raises(DatasetError, match=r"\.html"):
        report([tmp_path / "one"], output=tmp_path / "page.txt")


def test_without_a_stage_it_says_which(made, tmp_path, capsys):
    shutil.copytree(made, tmp_path / "bare")
    (tmp_path / "bare" / "tinyllava_metadata.json").unlink()
    assert main(["report", str(tmp_path / "bare")]) == 2
    assert "cadvlm convert" in capsys.readouterr().err and not (tmp_path / "bare" / "report.html").exists()


def test_a_dataset_is_laid_beside_the_nearest():
    of = lambda parts: nearest(dict(parts=dict(train=parts, validation=0, test=0)))
    assert [of(n) for n in (1, 1_100, 3_000, 4_000, 11_000, 36_000, 108_946, 10**7)] == ["1K", "1K", "1K", "10K", "10K",
        "100K", "100K", "100K"]
    assert all(c["images"] == 3 * c["parts"] == 3 * (c["train"] + c["validation"]) for c in CLAIMS.values())
