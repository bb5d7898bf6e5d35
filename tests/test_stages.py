"""The stages from end to end: what a user types, and what lies in the folder afterwards."""
import os, shutil, signal, subprocess, sys, time
from pathlib import Path

import orjson
import pytest
import yaml

import cadvlm.stages.render
from cadvlm.app.cli import main
from cadvlm.stages.convert import convert
from cadvlm.corpus.dataset import Dataset, failures
from cadvlm.files import read_json
from cadvlm.stages.extract import extract
from cadvlm.text.language import decode
from cadvlm.stages.render import render
from cadvlm.cad.sequence import (CadSequence, Circle, Extent, Extrude, Line, Loop, Operation, Plane, Profile, Sketch,
                                 to_deepcad)
from cadvlm.cad.solid import build
from cadvlm.stages.validate import validate

GROUND, WALL = Plane(), Plane((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
IDS = [f"0000{i:04}" for i in range(12)]
BROKEN, UNBUILDABLE, EMPTY = IDS[3], IDS[5], IDS[8]


def disc(radius, x=0.0, y=0.0):
    return Profile(Loop((Circle((x, y), radius),)))


def outline(*points):
    return Profile(Loop(tuple(Line(a, b) for a, b in zip(points, points[1:] + points[:1]))))


def part(i):
    "An angle bracket or a plate with a hole; every number gives another."
    w, h = 0.05 + 0.004 * i, 0.03 + 0.002 * i
    angle = outline((0.0, 0.0), (w, 0.0), (w, 0.008), (0.008, 0.008), (0.008, h), (0.0, h))
    body = Extrude(Sketch(WALL, (angle,)), 0.02, extent_type=Extent.SYMMETRIC) if i % 2 else Extrude(Sketch(GROUND, (disc(w),)), 0.01)
    return CadSequence((body, Extrude(Sketch(GROUND, (disc(0.006, 0.03),)), 0.03, Operation.CUT, Extent.SYMMETRIC)))


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    "Twelve ids: one broken file, one part that cuts itself away, one without an extrude, one id without a file, one file in no split."
    folder = tmp_path_factory.mktemp("corpus")
    for i, id in enumerate(IDS):
        write(folder / f"cad_json/0000/{id}.json", orjson.dumps(to_deepcad(part(i))))
    gone = Extrude(Sketch(GROUND, (disc(9.0),)), 9.0, Operation.CUT, Extent.SYMMETRIC)
    write(folder / f"cad_json/0000/{BROKEN}.json", b'{"entities": {')
    write(folder / f"cad_json/0000/{UNBUILDABLE}.json", orjson.dumps(to_deepcad(CadSequence((*part(5).extrudes, gone)))))
    write(folder / f"cad_json/0000/{EMPTY}.json", orjson.dumps(dict(entities={}, sequence=[])))
    official = [f"0000/{id}" for id in IDS]
    split = dict(train=["0077/00770000", *official[:7]], validation=official[7:9], test=official[9:11])
    write(folder / "train_val_test_split.json", orjson.dumps(split))
    return folder


@pytest.fixture(scope="module")
def made(corpus, tmp_path_factory):
    "The dataset of the corpus, made by one worker."
    folder = tmp_path_factory.mktemp("made") / "dataset"
    assert main(["run", str(corpus), str(folder), "--workers", "1"]) == 0
    return folder


@pytest.fixture
def dataset(made, tmp_path):
    "A copy of it to play with, as old as the original."
    return Dataset(shutil.copytree(made, tmp_path / "dataset"))


def contents(folder):
    "All bytes outside `logs/`."
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(Path(folder).rglob("*")) if p.is_file() and "logs" not in p.relative_to(folder).parts}


def test_every_part_is_accounted_for(made):
    dataset = Dataset(made)
    assert [(r["id"], r["stage"], r["reason"]) for r in failures(dataset)] == [
        (BROKEN, "extract", "not_json"), (EMPTY, "extract", "no_extrude"), (UNBUILDABLE, "render", "empty_solid")]
    assert dataset.split == dict(train=[i for i in IDS[:7] if i != BROKEN], validation=IDS[7:8], test=IDS[9:11])
    samples = {name: read_json(made / f"{name}.json") for name in ("train", "val", "test")}
    assert {k: len(v) for k, v in samples.items()} == dict(train=15, val=3, test=6)
    assert (made / "logs/missing_ids.txt").read_text().split() == ["00770000"]
    assert (made / "logs/not_in_split.txt").read_text().split() == [IDS[11]]
    assert read_json(made / "validation_report.json")["ok"]


def test_the_files_have_the_names_of_the_report(made):
    names = {p.name for p in made.iterdir()}
    assert names >= {"cad_json", "images", "train.json", "val.json", "test.json", "train_val_split.json", "dataset_info.json", "rendering_metadata.json",
                     "tinyllava_metadata.json", "failures.jsonl", "logs"}
    assert {p.name for p in (made / "logs").glob("*.log")} == {"extraction.log", "rendering.log", "conversion.log", "validation.log"}
    assert not list(made.rglob("*.part"))


def test_conversations_are_what_a_trainer_reads(made):
    for sample in read_json(made / "train.json"):
        human, gpt = sample["conversations"]
        view = sample["id"].split("_")[1]
        assert (human["from"], gpt["from"]) == ("human", "gpt") and human["value"].startswith("<image>\n") and view in human["value"]
        assert (made / sample["image"]).is_file() and gpt["value"].startswith("import cadquery") and sample["grid_iou"] > 0.8


def conversations(dataset):
    return {name: read_json(dataset.path / f"{name}.json") for name in ("train", "val", "test")}


def test_sheets_in_the_compact_language(corpus, tmp_path, capsys):
    arguments = ["--sample", "sheet", "--language", "compact", "--system-prompt", "You read drawings.", "--on-grid-loss", "finer", "--size", "128", "--workers", "1"]
    assert main(["run", str(corpus), str(tmp_path / "sheets"), *arguments]) == 0
    dataset = Dataset(tmp_path / "sheets")
    samples, about = conversations(dataset), dataset.metadata("convert")
    assert {k: len(v) for k, v in samples.items()} == dict(train=5, val=1, test=2) and about["views"] == ["sheet"] and about["language_version"]
    for sample in samples["train"]:
        human, gpt = (turn["value"] for turn in sample["conversations"])
        assert sample["image"].endswith("_sheet.png") and human.startswith("<image>\nYou read drawings.\n\n") and "CadQuery" not in human and ("100" in human or "200 units" in human)
        assert gpt.startswith("+ ") and build(decode(gpt, "compact")).volume > 0 and sample["grid"] in (1, 0.1, 0.01) and sample["grid_iou"] > 0.9
    capsys.readouterr()
    assert main(["convert", str(dataset.path), "--workers", "1"]) == 0  # one sample a view again
    assert {k: len(v) for k, v in conversations(dataset).items()} == dict(train=15, val=3, test=6)
    assert main(["validate", str(dataset.path), "--workers", "1"]) == 0
    assert main(["render", str(dataset.path), "--workers", "1", "--size", "128"]) == 0 and main(["convert", str(dataset.path), "--sample", "sheet"]) == 2
    assert "--views sheet" in capsys.readouterr().err


def test_parts_that_the_grid_breaks_are_dropped(corpus, tmp_path):
    source = shutil.copytree(corpus, tmp_path / "source")
    thin = CadSequence((Extrude(Sketch(GROUND, (disc(0.1),)), 0.0014),))
    write(source / f"cad_json/0000/{IDS[0]}.json", orjson.dumps(to_deepcad(thin)))
    assert main(["run", str(source), str(tmp_path / "out"), "--size", "64", "--workers", "1", "--on-grid-loss", "drop"]) == 0
    dataset = Dataset(tmp_path / "out")
    assert [(r["id"], r["reason"]) for r in failures(dataset, "convert")] == [(IDS[0], "lost_to_grid")] and len(conversations(dataset)["train"]) == 12
    assert main(["convert", str(dataset.path), "--workers", "1"]) == 0
    kept = {s["id"]: s["grid_iou"] for s in conversations(dataset)["train"]}
    assert kept[f"{IDS[0]}_top"] < 0.9 and list(dataset.metadata("convert")["grid"]["lost_ids"]) == [IDS[0]]


def opened(folder, cache):
    "A dataset's folder as Hugging Face's library opens it, without a network."
    datasets = pytest.importorskip("datasets")
    return datasets.load_dataset(str(folder), cache_dir=str(cache))


def test_the_folder_opens_as_it_is(dataset, monkeypatch, tmp_path, capsys):
    "The card says which files are which split, is one of the dataset's own files, and says no more than is known."
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["convert", str(dataset.path), "--format", "parquet", "--workers", "1"]) == 0
    loaded, card = opened(dataset.path, tmp_path / "cache"), (dataset.path / "README.md").read_text()
    assert {k: len(v) for k, v in loaded.items()} == dict(train=15, validation=3, test=6)
    for split, name in (("train", "train"), ("validation", "val"), ("test", "test")):
        samples = conversations(dataset)[name]
        assert loaded[split]["id"] == [s["id"] for s in samples]
        assert loaded[split]["conversations"] == [s["conversations"] for s in samples]
    assert loaded["test"][0]["image"].size == (512, 512)
    header = yaml.safe_load(card.split("---\n")[1])
    assert header["license"] == "unknown" and header["size_categories"] == ["n<1K"]
    assert header["pretty_name"] == dataset.name and dataset.metadata("extract")["source"]["name"] in card
    assert "| train | 5 | 15 |" in card and "| test | 2 | 6 |" in card
    assert not list(dataset.path.glob("*.part")) and main(["validate", str(dataset.path), "--workers", "1"]) == 0
    assert any(line.endswith("  README.md") for line in (dataset.path / "SHA256SUMS").read_text().splitlines())
    (dataset.path / "README.md").write_text(card + "more")
    capsys.readouterr()
    assert main(["validate", str(dataset.path), "--workers", "1"]) == 1
    assert "README.md: expected what SHA256SUMS says" in capsys.readouterr().out


def test_a_split_without_parts_is_not_in_the_card(corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder, choice = tmp_path / "some: parts #1", ["--test-size", "0", "--size", "64", "--format", "parquet"]
    assert main(["run", str(corpus), str(folder), *choice, "--workers", "1"]) == 0
    loaded = opened(folder, tmp_path / "cache")
    assert {k: len(v) for k, v in loaded.items()} == dict(train=15, validation=3)


@pytest.mark.parametrize("theirs", ["# My notes\n", "", "edited", "binary", "folder"])
def test_a_readme_of_somebody_else_is_left_alone(dataset, theirs, capsys):
    path = dataset.path / "README.md"
    convert(dataset.path, format="parquet", workers=1)
    edited = path.read_bytes().replace(b"license: unknown", b"license: cc-by-4.0")
    kept = dict(edited=edited, binary=bytes(range(256))).get(theirs, theirs.encode())
    path.unlink()
    path.mkdir() if theirs == "folder" else path.write_bytes(kept)
    for format in ("parquet", "json"):
        capsys.readouterr()
        assert main(["convert", str(dataset.path), "--format", format, "--workers", "1"]) == 0
        told = "README.md is not as cadvlm writes it" in capsys.readouterr().out
        assert told == (format == "parquet") and (path.is_dir() or path.read_bytes() == kept)
    assert main(["validate", str(dataset.path), "--workers", "1"]) == 0


def test_the_card_comes_and_goes_with_the_parquet_files(dataset):
    made = convert(dataset.path, format="parquet", workers=1)
    first = (dataset.path / "README.md").read_bytes()
    again = convert(dataset.path, format="parquet", workers=1)
    assert (dataset.path / "README.md").read_bytes() == first
    assert not any("README" in n for n in made.notes + again.notes)
    convert(dataset.path, workers=1)
    assert not (dataset.path / "README.md").exists()


def test_parquet_is_what_datasets_reads(dataset, monkeypatch, tmp_path):
    "With Hugging Face's own library: three splits, pictures decoded, and the same conversations."
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    assert main(["convert", str(dataset.path), "--format", "parquet", "--workers", "1"]) == 0
    loaded = datasets.load_dataset("parquet", data_dir=str(dataset.path / "parquet"), cache_dir=str(tmp_path / "cache"))
    assert {k: len(v) for k, v in loaded.items()} == dict(train=15, validation=3, test=6)
    row, sample = loaded["train"][4], conversations(dataset)["train"][4]
    assert row["image"].size == (512, 512) and row["image"].mode == "RGB" and row["conversations"] == sample["conversations"] and row["id"] == sample["id"]
    assert main(["validate", str(dataset.path), "--workers", "1"]) == 0
    next((dataset.path / "parquet").glob("test*")).unlink()
    assert main(["validate", str(dataset.path), "--workers", "1"]) == 1


def test_tokens_are_counted_with_a_real_tokenizer(dataset, tmp_path, capsys):
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(["r = cq.Workplane"], tokenizers.trainers.BpeTrainer(vocab_size=300, special_tokens=["<|im_end|>", "both"], initial_alphabet=alphabet, show_progress=False))
    (tmp_path / "model").mkdir()
    tokenizer.save(str(tmp_path / "model" / "tokenizer.json"))
    arguments = ["validate", str(dataset.path), "--workers", "1", "--tokenizer", str(tmp_path / "model"), "--image-tokens", "0"]
    assert main([*arguments, "--max-length", "250"]) == 1
    report = read_json(dataset.path / "validation_report.json")
    both = sum("both" in s["conversations"][1]["value"] for split in conversations(dataset).values() for s in split)
    assert report["problems"] == dict(separator=both, too_many_tokens=report["tokens"]["cut"]) and both and 0 < report["tokens"]["cut"] and report["tokens"]["samples"] == 24
    assert "longer than 250" in capsys.readouterr().out
    assert main(["validate", str(dataset.path), "--tokenizer", str(tmp_path)]) == 2 and "tokenizer.json" in capsys.readouterr().err


def test_two_workers_make_the_same_bytes(corpus, made, tmp_path):
    assert main(["run", str(corpus), str(tmp_path / "dataset"), "--workers", "2"]) == 0
    assert contents(tmp_path / "dataset") == contents(made)


def test_a_deleted_picture_is_drawn_again(dataset):
    before = contents(dataset.path)
    dataset.image_path(IDS[1], "top").unlink()
    dataset.image_path(IDS[9], "front").unlink()
    assert "missing_image" in {p.split("[")[-1].rstrip("]") for p in validate(dataset.path, workers=1).problems}
    summary = render(dataset.path, workers=1)
    assert (summary.done, summary.reused, summary.failed) == (2, 6, 1)
    assert not validate(dataset.path, workers=1).problems and contents(dataset.path) == before


def test_a_changed_part_goes_through_again(dataset):
    time.sleep(0.01)
    dataset.json_path(IDS[0]).write_bytes(orjson.dumps(to_deepcad(part(40))))
    assert render(dataset.path, workers=1).done == convert(dataset.path, workers=1).done == 1


def test_other_settings_leave_nothing_behind(dataset, corpus, tmp_path):
    "Going there and back again gives the same folder as never having left."
    before = contents(dataset.path)
    assert main(["run", str(corpus), str(dataset.path), "--train-size", "2", "--views", "front", "iso", "--size", "64", "--seed", "5", "--workers", "1"]) == 0
    fresh = tmp_path / "fresh" / "dataset"
    assert main(["run", str(corpus), str(fresh), "--train-size", "2", "--views", "front", "iso", "--size", "64", "--seed", "5", "--workers", "1"]) == 0
    assert contents(dataset.path) == contents(fresh)
    assert main(["run", str(corpus), str(dataset.path), "--workers", "1"]) == 0
    assert contents(dataset.path) == before


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_slow_part_is_a_failure_and_not_the_end(dataset, monkeypatch):
    "It is named in the metadata; its pictures of an earlier run go."
    slow, draw = dataset.ids[1], cadvlm.stages.render._render_one

    def drawn(dataset, views, style, pen, id):
        while id == slow:
            pass
        return draw(dataset, views, style, pen, id)
    with monkeypatch.context() as patch:
        patch.setattr(cadvlm.stages.render, "_render_one", drawn)
        summary = render(dataset.path, timeout=0.5, size=256, workers=1)
    assert summary.failures["timeout"] == 1 and summary.notes == ["1 met the time limit of 0.5 s and were done again alone, with 2 s; 1 of them given up"]
    assert dataset.metadata("render")["met_limits"] == dict(timeout=[slow]) and not dataset.image_path(slow, "front").exists() and dataset.image_path(dataset.ids[0], "front").exists()
    assert [r["id"] for r in failures(dataset, "render") if r["reason"] == "timeout"] == [slow]
    again = render(dataset.path, size=256, workers=1)
    assert again.failures.get("timeout") is None and again.done == 1 and dataset.metadata("render")["met_limits"] == {}


@pytest.mark.parametrize("flags", [["--style", "shaded"], ["--no-hidden-lines"], ["--views", "sheet", "iso"], ["--line-width", "4", "--size", "224"]], ids=" ".join)
def test_pens_and_views(dataset, flags):
    before = dataset.image_path(dataset.ids[1], "front").read_bytes()
    assert main(["render", str(dataset.path), "--workers", "1", *flags]) == 0 and main(["convert", str(dataset.path), "--workers", "1"]) == 0 and main(["validate", str(dataset.path), "--workers", "1"]) == 0
    pictures = {p.name: p.read_bytes() for p in dataset.path.glob("images/*/*.png")}
    assert len(pictures) == (2 if "sheet" in flags else 3) * len({name[:8] for name in pictures})
    assert "sheet" in flags or pictures[f"{dataset.ids[1]}_front.png"] != before


def test_a_killed_run_goes_on(corpus, made, tmp_path):
    folder = tmp_path / "dataset"
    extract(corpus, folder, workers=1)
    process = subprocess.Popen([Path(sys.executable).with_name("cadvlm"), "render", folder, "--workers", "1"],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    journal, deadline = folder / "logs/rendering.jsonl", time.time() + 60
    while time.time() < deadline and process.poll() is None and not (journal.exists() and journal.read_text().count("\n") > 3):
        time.sleep(0.005)
    process.kill()
    process.wait()
    (folder / "images/0000").mkdir(parents=True, exist_ok=True)
    (folder / f"images/0000/{IDS[0]}_front.png.part").write_bytes(b"half")
    assert main(["run", str(corpus), str(folder), "--workers", "1"]) == 0
    assert contents(folder) == contents(made)


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_says_so(corpus, tmp_path):
    process = subprocess.Popen([Path(sys.executable).with_name("cadvlm"), "demo", tmp_path / "demo", "--count", "4000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               start_new_session=True)
    while not (tmp_path / "demo/synthetic/cad_json").exists() and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers, too
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130 and error.strip().splitlines()[-1].startswith("cadvlm: stopped") and "Traceback" not in error


def test_the_source_is_never_written_to(corpus):
    before = contents(corpus)
    assert main(["extract", str(corpus), str(corpus)]) == 2
    assert main(["extract", str(corpus), str(corpus / "cad_json/0000")]) == 2
    assert contents(corpus) == before and not (corpus / "logs").exists()


def test_a_folder_of_somebody_else_is_left_alone(corpus, tmp_path):
    shutil.copytree(corpus / "cad_json", tmp_path / "mine/cad_json")
    before = contents(tmp_path / "mine")
    assert main(["extract", str(corpus), str(tmp_path / "mine")]) == 2
    assert contents(tmp_path / "mine") == before


@pytest.mark.parametrize("split", ['{"train": ["../../../etc/passwd"], "validation": [], "test": []}', '{"train": 7}', "[", '{"train": ["0000/..%2F0000"], "validation": [], "test": []}'])
def test_a_bad_split_file_is_refused(split, tmp_path, capsys):
    write(tmp_path / "source/cad_json/0000/00000000.json", b"{}")
    write(tmp_path / "source/train_val_test_split.json", split.encode())
    assert main(["extract", str(tmp_path / "source"), str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("cadvlm: ") and error.count("\n") == 1 and "train_val_test_split.json" in error and not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments, words", [
    (["render", "nowhere"], "cadvlm extract"),
    (["convert", "nowhere"], "cadvlm render"),
    (["validate", "nowhere"], "cadvlm extract"),
    (["extract", "nowhere", "out"], "cad_json/"),
    (["render"], "--dataset"),
    (["render", "nowhere", "--views", "side"], "front"),
    (["render", "nowhere", "--size", "1"], "size"),
    (["render", "nowhere", "--workers", "0"], "workers"),
    (["extract", ".", "out", "--train-size", "x"], "--train-size"),
    (["convert", "nowhere", "--language", "latin"], "cadquery"),
    (["paint", "nowhere"], "paint"),
    (["render", "nowhere", "--colour", "red"], "--colour"),
    (["render", "nowhere", "--config", "none.yaml"], "none.yaml"),
])
def test_mistakes_end_as_one_line(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    out, error = capsys.readouterr()
    assert error.startswith("cadvlm: ") and error.count("\n") == 1 and words in error and not out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text, field", [("render: {size: big}", "render.size"), ("render: {sise: 3}", "render.sise"), ("rendr: {}", "rendr"), ("render: {views: [1]}", "render.views"), ("render: {", "YAML")])
def test_mistakes_in_a_config_name_file_and_field(text, field, dataset, tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text(text)
    assert main(["render", str(dataset.path), "--config", str(tmp_path / "mine.yaml")]) == 2
    error = capsys.readouterr().err
    assert "mine.yaml" in error and field in error and error.count("\n") == 1


def test_flags_override_the_config(dataset, tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text("render: {views: [top], size: 64, workers: 1}\nextract: {train_size: 1}\n")
    assert main(["render", "--input", str(dataset.path), "--config", str(tmp_path / "mine.yaml")]) == 0
    assert "(top; 64 px" in capsys.readouterr().out
    assert main(["render", "--config", str(tmp_path / "mine.yaml"), "--dataset", str(dataset.path), "--views", "front", "right"]) == 0
    assert "(front, right; 64 px" in capsys.readouterr().out
    assert main(["render", str(dataset.path), "--views", "front,iso", "--size", "64", "--workers", "1"]) == 0
    assert "(front, iso; 64 px" in capsys.readouterr().out


def test_validate_ends_with_1_and_a_list(dataset, capsys):
    dataset.image_path(IDS[0], "top").write_bytes(b"")
    assert main(["validate", str(dataset.path), "--workers", "1"]) == 1
    out = capsys.readouterr().out
    assert f"{IDS[0]}_top.png" in out and "broken_image" in out
    assert read_json(dataset.path / "validation_report.json")["problems"] == dict(broken_image=1)


def test_a_full_disk_ends_the_run_and_can_be_continued(dataset, corpus, made, monkeypatch, capsys):
    dataset.image_path(IDS[1], "top").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(cadvlm.stages.render, "write_bytes", lambda path, data: (_ for _ in ()).throw(OSError(28, "No space left on device", str(path))))
        assert main(["render", str(dataset.path), "--workers", "1"]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert main(["run", str(corpus), str(dataset.path), "--workers", "1"]) == 0 and contents(dataset.path) == contents(made)


def test_real_parts(shared, tmp_path, capsys):
    "Forty real parts, with two workers."
    folder = tmp_path / "real"
    assert main(["run", str(shared / "deepcad"), str(folder), "--train-size", "30", "--val-size", "5", "--test-size", "5"]) == 0
    dataset = Dataset(folder)
    refused = {r["id"] for r in failures(dataset)}
    assert len(dataset.ids) == 40 and len(refused) < 4 and read_json(folder / "validation_report.json")["ok"]
    assert sum(len(read_json(folder / f"{n}.json")) for n in ("train", "val", "test")) == 3 * (40 - len(refused.intersection(dataset.ids)))
