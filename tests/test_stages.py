"""The stages from end to end: what a user types, and what lies in the folder afterwards."""

import errno
import os
import shutil
import signal
import subprocess
import time

import orjson
import pytest
import yaml

from builders import (
    COMMAND,
    bracket,
    contents,
    deepcad_json,
    deepcad_source,
    disc,
    error_line,
    module_of,
    numbers,
    raised,
    start,
    write,
)
from cadvlm.app.cli import main
from cadvlm.stages.convert import convert
from cadvlm.corpus.dataset import Dataset, failures
from cadvlm.files import read_json
from cadvlm.stages.extract import extract
from cadvlm.text.language import decode
from cadvlm.stages.render import render
from cadvlm.cad.sequence import CadSequence, Extent, Operation
from cadvlm.cad.solid import build
from cadvlm.stages.validate import validate

IDS = [f"0000{i:04}" for i in range(12)]
BROKEN, UNBUILDABLE, EMPTY = IDS[3], IDS[5], IDS[8]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Twelve ids: one broken file, one part that cuts itself away, one without an extrude, one id without a file,
    one file in no split."""
    folder = tmp_path_factory.mktemp("corpus")
    gone = raised(9.0, disc(9.0), operation=Operation.CUT, extent=Extent.SYMMETRIC)
    files = {id: deepcad_json(bracket(i)) for i, id in enumerate(IDS)} | {
        BROKEN: b'{"entities": {',
        UNBUILDABLE: deepcad_json(CadSequence((*bracket(5).extrudes, gone))),
        EMPTY: orjson.dumps(dict(entities={}, sequence=[])),
    }
    return deepcad_source(folder, files, train=["00770000", *IDS[:7]], validation=IDS[7:9], test=IDS[9:11])


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


def test_run_accounts_for_every_part(made):
    dataset = Dataset(made)
    assert [(r["id"], r["stage"], r["reason"]) for r in failures(dataset)] == [
        (BROKEN, "extract", "not_json"),
        (EMPTY, "extract", "no_extrude"),
        (UNBUILDABLE, "render", "empty_solid"),
    ]
    assert dataset.split == dict(train=[i for i in IDS[:7] if i != BROKEN], validation=IDS[7:8], test=IDS[9:11])
    samples = {name: read_json(made / f"{name}.json") for name in ("train", "val", "test")}
    assert {k: len(v) for k, v in samples.items()} == dict(train=15, val=3, test=6)
    assert (made / "logs/missing_ids.txt").read_text().split() == ["00770000"]
    assert (made / "logs/not_in_split.txt").read_text().split() == [IDS[11]]
    assert read_json(made / "validation_report.json")["ok"]


def test_file_names_of_a_dataset(made):
    names = {p.name for p in made.iterdir()}
    assert names >= {
        "cad_json",
        "images",
        "train.json",
        "val.json",
        "test.json",
        "train_val_split.json",
        "dataset_info.json",
        "rendering_metadata.json",
        "tinyllava_metadata.json",
        "failures.jsonl",
        "logs",
    }
    assert {p.name for p in (made / "logs").glob("*.log")} == {
        "extraction.log",
        "rendering.log",
        "conversion.log",
        "validation.log",
    }
    assert not list(made.rglob("*.part"))


def test_conversations_have_the_llava_format(made):
    for sample in read_json(made / "train.json"):
        human, gpt = sample["conversations"]
        view = sample["id"].split("_")[1]
        assert (
            (human["from"], gpt["from"]) == ("human", "gpt")
            and human["value"].startswith("<image>\n")
            and view in human["value"]
        )
        assert (
            (made / sample["image"]).is_file()
            and gpt["value"].startswith("import cadquery")
            and sample["quantisation_iou"] > 0.8
        )


def conversations(dataset):
    return {name: read_json(dataset.path / f"{name}.json") for name in ("train", "val", "test")}


@pytest.mark.slow
def test_sheet_samples_in_the_compact_language(corpus, tmp_path, capsys):
    arguments = [
        "--sample",
        "sheet",
        "--language",
        "compact",
        "--system-prompt",
        "You read drawings.",
        "--on-quantisation-loss",
        "refine",
        "--size",
        "128",
        "--workers",
        "1",
    ]
    assert main(["run", str(corpus), str(tmp_path / "sheets"), *arguments]) == 0
    dataset = Dataset(tmp_path / "sheets")
    samples, about = conversations(dataset), dataset.metadata("convert")
    assert (
        {k: len(v) for k, v in samples.items()} == dict(train=5, val=1, test=2)
        and about["views"] == ["sheet"]
        and about["language_version"]
    )
    for sample in samples["train"]:
        human, gpt = (turn["value"] for turn in sample["conversations"])
        assert (
            sample["image"].endswith("_sheet.png")
            and human.startswith("<image>\nYou read drawings.\n\n")
            and "CadQuery" not in human
            and {"100", "200"} & set(numbers(human))
        )
        assert (
            gpt.startswith("+ ")
            and build(decode(gpt, "compact")).volume > 0
            and sample["quantisation_step"] in (1, 0.1, 0.01)
            and sample["quantisation_iou"] > 0.9
        )
    capsys.readouterr()
    assert main(["convert", str(dataset.path), "--workers", "1"]) == 0  # one sample a view again
    assert {k: len(v) for k, v in conversations(dataset).items()} == dict(train=15, val=3, test=6)
    assert main(["validate", str(dataset.path), "--workers", "1"]) == 0
    assert (
        main(["render", str(dataset.path), "--workers", "1", "--size", "128"]) == 0
        and main(["convert", str(dataset.path), "--sample", "sheet"]) == 2
    )
    assert "--views sheet" in capsys.readouterr().err


def test_parts_lost_in_quantisation_are_dropped(corpus, tmp_path):
    source = shutil.copytree(corpus, tmp_path / "source")
    write(source / f"cad_json/0000/{IDS[0]}.json", deepcad_json(CadSequence((raised(0.0014, disc(0.1)),))))
    assert (main(["run", str(source), str(tmp_path / "out"), "--size", "64", "--workers", "1", "--on-quantisation-loss",
                  "drop"]) == 0 )
    dataset = Dataset(tmp_path / "out")
    assert [(r["id"], r["reason"]) for r in failures(dataset, "convert")] == [(IDS[0], "lost_in_quantisation")] and len(
        conversations(dataset)["train"]
    ) == 12
    assert main(["convert", str(dataset.path), "--workers", "1"]) == 0
    kept = {s["id"]: s["quantisation_iou"] for s in conversations(dataset)["train"]}
    assert kept[f"{IDS[0]}_top"] < 0.9 and list(dataset.metadata("convert")["quantisation"]["lost_ids"]) == [IDS[0]]


def opened(folder, cache):
    "A dataset's folder as Hugging Face's library opens it, without a network."
    datasets = pytest.importorskip("datasets")
    return datasets.load_dataset(str(folder), cache_dir=str(cache))


@pytest.mark.slow
def test_load_dataset_opens_the_folder(dataset, monkeypatch, tmp_path, capsys):
    "The card says which files are which split, is one of the dataset's own files, and says no more than is known."
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["convert", str(dataset.path), "--format", "messages", "--workers", "1"]) == 0
    loaded, card = opened(dataset.path, tmp_path / "cache"), (dataset.path / "README.md").read_text()
    assert {k: len(v) for k, v in loaded.items()} == dict(train=15, validation=3, test=6)
    for split, name in (("train", "train"), ("validation", "val"), ("test", "test")):
        samples = conversations(dataset)[name]
        assert loaded[split]["id"] == [s["id"] for s in samples]
        assert loaded[split]["code"] == [s["conversations"][1]["value"] for s in samples]
    assert loaded["test"][0]["images"][0].size == (512, 512)
    header = yaml.safe_load(card.split("---\n")[1])
    assert header["license"] == "unknown" and header["size_categories"] == ["n<1K"]
    assert header["pretty_name"] == dataset.name and dataset.metadata("extract")["source"]["name"] in card
    assert "| train | 5 | 15 |" in card and "| test | 2 | 6 |" in card
    assert not list(dataset.path.glob("*.part")) and main(["validate", str(dataset.path), "--workers", "1"]) == 0
    assert any(line.endswith("  README.md") for line in (dataset.path / "SHA256SUMS").read_text().splitlines())
    (dataset.path / "README.md").write_text(card + "more")
    assert main(["validate", str(dataset.path), "--workers", "1"]) == 1
    assert read_json(dataset.path / "validation_report.json")["problems"] == dict(changed_file=1)


@pytest.mark.slow
def test_dataset_card_leaves_out_empty_splits(corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder, choice = tmp_path / "some: parts #1", ["--test-size", "0", "--size", "64", "--format", "messages"]
    assert main(["run", str(corpus), str(folder), *choice, "--workers", "1"]) == 0
    loaded = opened(folder, tmp_path / "cache")
    assert {k: len(v) for k, v in loaded.items()} == dict(train=15, validation=3)


@pytest.mark.slow
@pytest.mark.parametrize("theirs", ["# My notes\n", "", "edited", "binary", "folder"])
def test_readme_of_another_program_is_kept(dataset, theirs):
    path = dataset.path / "README.md"
    convert(dataset.path, format="messages", workers=1)
    edited = path.read_bytes().replace(b"license: unknown", b"license: cc-by-4.0")
    kept = dict(edited=edited, binary=bytes(range(256))).get(theirs, theirs.encode())
    path.unlink()
    path.mkdir() if theirs == "folder" else path.write_bytes(kept)
    for format in ("messages", "llava"):
        notes = convert(dataset.path, format=format, workers=1).notes
        assert any("README.md" in n for n in notes) == (format == "messages")
        assert path.is_dir() or path.read_bytes() == kept
    assert main(["validate", str(dataset.path), "--workers", "1"]) == 0


@pytest.mark.slow
def test_dataset_card_comes_and_goes_with_the_table(dataset):
    made = convert(dataset.path, format="messages", workers=1)
    first = (dataset.path / "README.md").read_bytes()
    again = convert(dataset.path, format="messages", workers=1)
    assert (dataset.path / "README.md").read_bytes() == first
    assert not any("README" in n for n in made.notes + again.notes)
    convert(dataset.path, workers=1)
    assert not (dataset.path / "README.md").exists()


@pytest.mark.slow
def test_load_dataset_opens_the_parquet_files(dataset, monkeypatch, tmp_path):
    "With Hugging Face's own library: three splits, images decoded, and the same conversations."
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    assert main(["convert", str(dataset.path), "--format", "messages", "--workers", "1"]) == 0
    loaded = datasets.load_dataset("parquet", data_dir=str(dataset.path / "data"), cache_dir=str(tmp_path / "cache"))
    assert {k: len(v) for k, v in loaded.items()} == dict(train=15, validation=3, test=6)
    row, sample = loaded["train"][4], conversations(dataset)["train"][4]
    assert (
        row["images"][0].size == (512, 512)
        and row["images"][0].mode == "RGB"
        and row["code"] == sample["conversations"][1]["value"]
        and row["id"] == sample["id"]
    )
    assert main(["validate", str(dataset.path), "--workers", "1"]) == 0
    next((dataset.path / "data").glob("test*")).unlink()
    assert main(["validate", str(dataset.path), "--workers", "1"]) == 1


@pytest.mark.slow
def test_validate_counts_tokens(dataset, tmp_path, capsys):
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        ["r = cq.Workplane"],
        tokenizers.trainers.BpeTrainer(
            vocab_size=300, special_tokens=["<|im_end|>", "both"], initial_alphabet=alphabet, show_progress=False
        ),
    )
    (tmp_path / "model").mkdir()
    tokenizer.save(str(tmp_path / "model" / "tokenizer.json"))
    arguments = [
        "validate",
        str(dataset.path),
        "--workers",
        "1",
        "--tokenizer",
        str(tmp_path / "model"),
        "--image-tokens",
        "0",
    ]
    assert main([*arguments, "--max-length", "250"]) == 1
    report = read_json(dataset.path / "validation_report.json")
    both = sum("both" in s["conversations"][1]["value"] for split in conversations(dataset).values() for s in split)
    assert (
        report["problems"] == dict(separator=both, too_many_tokens=report["tokens"]["cut"])
        and both
        and 0 < report["tokens"]["cut"]
        and report["tokens"]["samples"] == 24
    )
    capsys.readouterr()
    assert main(["validate", str(dataset.path), "--tokenizer", str(tmp_path)]) == 2
    assert "tokenizer.json" in error_line(capsys)


@pytest.mark.slow
def test_two_workers_make_the_same_dataset(corpus, made, tmp_path):
    assert main(["run", str(corpus), str(tmp_path / "dataset"), "--workers", "2"]) == 0
    assert contents(tmp_path / "dataset") == contents(made)


def test_deleted_image_is_drawn_again(dataset):
    before = contents(dataset.path)
    dataset.image_path(IDS[1], "top").unlink()
    dataset.image_path(IDS[9], "front").unlink()
    assert "missing_image" in {p.split("[")[-1].rstrip("]") for p in validate(dataset.path, workers=1).problems}
    summary = render(dataset.path, workers=1)
    assert (summary.made, summary.cached, summary.failed) == (2, 6, 1)
    assert not validate(dataset.path, workers=1).problems and contents(dataset.path) == before


def test_changed_part_is_processed_again(dataset):
    time.sleep(0.01)
    dataset.json_path(IDS[0]).write_bytes(deepcad_json(bracket(40)))
    assert render(dataset.path, workers=1).made == convert(dataset.path, workers=1).made == 1


@pytest.mark.slow
def test_other_settings_leave_no_files_behind(dataset, corpus, tmp_path):
    "Going there and back again gives the same folder as never having left."
    before = contents(dataset.path)
    assert (
        main(
            [
                "run",
                str(corpus),
                str(dataset.path),
                "--train-size",
                "2",
                "--views",
                "front",
                "iso",
                "--size",
                "64",
                "--seed",
                "5",
                "--workers",
                "1",
            ]
        )
        == 0
    )
    fresh = tmp_path / "fresh" / "dataset"
    assert (
        main(
            [
                "run",
                str(corpus),
                str(fresh),
                "--train-size",
                "2",
                "--views",
                "front",
                "iso",
                "--size",
                "64",
                "--seed",
                "5",
                "--workers",
                "1",
            ]
        )
        == 0
    )
    assert contents(dataset.path) == contents(fresh)
    assert main(["run", str(corpus), str(dataset.path), "--workers", "1"]) == 0
    assert contents(dataset.path) == before


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_slow_part_is_a_failure(dataset, monkeypatch):
    "It is named in the metadata; its images of an earlier run go."
    slow, draw = dataset.ids[1], module_of(render)._render_one

    def drawn(dataset, settings, id):
        while id == slow:
            pass
        return draw(dataset, settings, id)

    with monkeypatch.context() as patch:
        patch.setattr(module_of(render), "_render_one", drawn)
        summary = render(dataset.path, timeout=0.5, size=256, workers=1)
    assert summary.failures["timeout"] == 1
    assert [numbers(n) for n in summary.notes] == [["512", "256"], ["1", "0.5", "2", "1"]]
    assert (
        dataset.metadata("render")["met_limits"] == dict(timeout=[slow])
        and not dataset.image_path(slow, "front").exists()
        and dataset.image_path(dataset.ids[0], "front").exists()
    )
    assert [r["id"] for r in failures(dataset, "render") if r["reason"] == "timeout"] == [slow]
    again = render(dataset.path, size=256, workers=1)
    assert again.failures.get("timeout") is None and again.made == 1 and dataset.metadata("render")["met_limits"] == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [["--style", "shaded"], ["--no-hidden-lines"], ["--views", "sheet", "iso"], ["--line-width", "4", "--size", "224"]],
    ids=" ".join,
)
def test_render_styles_and_views(dataset, flags):
    before = dataset.image_path(dataset.ids[1], "front").read_bytes()
    assert (
        main(["render", str(dataset.path), "--workers", "1", *flags]) == 0
        and main(["convert", str(dataset.path), "--workers", "1"]) == 0
        and main(["validate", str(dataset.path), "--workers", "1"]) == 0
    )
    images = {p.name: p.read_bytes() for p in dataset.path.glob("images/*/*.png")}
    assert len(images) == (2 if "sheet" in flags else 3) * len({name[:8] for name in images})
    assert "sheet" in flags or images[f"{dataset.ids[1]}_front.png"] != before


@pytest.mark.slow
def test_killed_render_resumes(corpus, made, tmp_path):
    folder = tmp_path / "dataset"
    extract(corpus, folder, workers=1)
    quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    process = start(*COMMAND, "render", folder, "--workers", "1", **quiet)
    journal, deadline = folder / "logs/rendering.jsonl", time.time() + 60
    while (
        time.time() < deadline
        and process.poll() is None
        and not (journal.exists() and journal.read_text().count("\n") > 3)
    ):
        time.sleep(0.005)
    process.kill()
    process.wait()
    (folder / "images/0000").mkdir(parents=True, exist_ok=True)
    (folder / f"images/0000/{IDS[0]}_front.png.part").write_bytes(b"half")
    assert main(["run", str(corpus), str(folder), "--workers", "1"]) == 0
    assert contents(folder) == contents(made)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_exit_code(corpus, tmp_path):
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process = start(*COMMAND, "demo", tmp_path / "demo", "--count", "4000", start_new_session=True, **pipes)
    while not (tmp_path / "demo/synthetic/cad_json").exists() and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers, too
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130 and error.strip().splitlines()[-1].startswith("cadvlm: ")
    assert "Traceback" not in error


def test_source_is_never_written_to(corpus):
    before = contents(corpus)
    assert main(["extract", str(corpus), str(corpus)]) == 2
    assert main(["extract", str(corpus), str(corpus / "cad_json/0000")]) == 2
    assert contents(corpus) == before and not (corpus / "logs").exists()


def test_extract_rejects_a_foreign_folder(corpus, tmp_path):
    shutil.copytree(corpus / "cad_json", tmp_path / "mine/cad_json")
    before = contents(tmp_path / "mine")
    assert main(["extract", str(corpus), str(tmp_path / "mine")]) == 2
    assert contents(tmp_path / "mine") == before


@pytest.mark.parametrize(
    "split",
    [
        '{"train": ["../../../etc/passwd"], "validation": [], "test": []}',
        '{"train": 7}',
        "[",
        '{"train": ["0000/..%2F0000"], "validation": [], "test": []}',
    ],
)
def test_bad_split_file_is_rejected(split, tmp_path, capsys):
    write(tmp_path / "source/cad_json/0000/00000000.json", b"{}")
    write(tmp_path / "source/train_val_test_split.json", split.encode())
    assert main(["extract", str(tmp_path / "source"), str(tmp_path / "out")]) == 2
    assert "train_val_test_split.json" in error_line(capsys) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments, words",
    [
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
    ],
)
def test_command_line_mistake_is_one_line(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    out, error = capsys.readouterr()
    assert error.startswith("cadvlm: ") and error.count("\n") == 1 and words in error and not out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text, field",
    [
        ("render: {size: big}", "render.size"),
        ("render: {sise: 3}", "render.sise"),
        ("rendr: {}", "rendr"),
        ("render: {views: [1]}", "render.views"),
        ("render: {", "YAML"),
    ],
)
def test_config_mistake_names_file_and_field(text, field, dataset, tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text(text)
    assert main(["render", str(dataset.path), "--config", str(tmp_path / "mine.yaml")]) == 2
    error = error_line(capsys)
    assert "mine.yaml" in error and field in error


def test_flags_override_the_config(dataset, tmp_path):
    (tmp_path / "mine.yaml").write_text("render: {views: [top], size: 64, workers: 1}\nextract: {train_size: 1}\n")
    folder, config = str(dataset.path), ["--config", str(tmp_path / "mine.yaml")]
    for flags, views in (
        (["--input", folder, *config], ["top"]),
        ([*config, "--dataset", folder, "--views", "front", "right"], ["front", "right"]),
        ([folder, "--views", "front,iso", "--size", "64", "--workers", "1"], ["front", "iso"]),
    ):
        assert main(["render", *flags]) == 0
        about = dataset.metadata("render")
        assert list(about["views"]) == views and about["size"] == 64


def test_validate_exit_code_and_problems(dataset, capsys):
    dataset.image_path(IDS[0], "top").write_bytes(b"")
    assert main(["validate", str(dataset.path), "--workers", "1"]) == 1
    out = capsys.readouterr().out
    assert f"{IDS[0]}_top.png" in out and "broken_image" in out
    assert read_json(dataset.path / "validation_report.json")["problems"] == dict(broken_image=1)


def disk_full(path, data):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def test_run_continues_after_a_full_disk(dataset, corpus, made, monkeypatch, capsys):
    dataset.image_path(IDS[1], "top").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(module_of(render), "write_bytes", disk_full)
        assert main(["render", str(dataset.path), "--workers", "1"]) == 2
    assert os.strerror(errno.ENOSPC) in error_line(capsys)
    assert main(["run", str(corpus), str(dataset.path), "--workers", "1"]) == 0 and contents(dataset.path) == contents(
        made
    )


@pytest.mark.slow
def test_run_on_real_parts(shared, tmp_path, capsys):
    "Forty real parts, with two workers."
    folder = tmp_path / "real"
    assert (
        main(["run", str(shared / "deepcad"), str(folder), "--train-size", "30", "--val-size", "5", "--test-size", "5"])
        == 0
    )
    dataset = Dataset(folder)
    rejected = {r["id"] for r in failures(dataset)}
    assert len(dataset.ids) == 40 and len(rejected) < 4 and read_json(folder / "validation_report.json")["ok"]
    assert sum(len(read_json(folder / f"{n}.json")) for n in ("train", "val", "test")) == 3 * (
        40 - len(rejected.intersection(dataset.ids))
    )
