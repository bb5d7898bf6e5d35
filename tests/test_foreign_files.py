"""Files of other programs: whatever lies in a folder, no stage deletes it or writes over it."""

import shutil
from pathlib import Path

import pytest

from builders import all_files, contents, error_line, module_of, reason, reason_code, write
from cadvlm.app.cli import main
from cadvlm.stages.convert import convert
from cadvlm.corpus.dataset import Dataset
from cadvlm.files import read_json, write_json
from cadvlm.stages.download import download
from cadvlm.stages.extract import extract
from cadvlm.jobs.journal import Journal
from cadvlm.measure.stats import stats
from cadvlm.stages.render import render
from cadvlm.app.report import report
from cadvlm.stages.synthesize import synthesize
from cadvlm.stages.dedup import dedup
from cadvlm.stages.upload import upload
from cadvlm.stages.validate import validate

MINE = b"of another program\n"
ID = "00000003"
TINY = dict(workers=1, size=64)


def plant(folder, *names):
    return [write(Path(folder) / name, MINE) for name in names]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("foreign") / "corpus"
    synthesize(folder, count=12, workers=1)
    return folder


@pytest.fixture(scope="module")
def made(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("foreign") / "dataset"
    extract(corpus, folder, train_size=8, val_size=1, test_size=1, workers=1)
    render(folder, **TINY)
    convert(folder, workers=1)
    assert not validate(folder, workers=1).problems
    return folder


@pytest.fixture
def dataset(made, tmp_path):
    return Dataset(shutil.copytree(made, tmp_path / "dataset"))


PLACES = [
    "images/coco/1.png",
    "train.json",
    "val.json",
    "test.json",
    "train_val_split.json",
    "dataset_info.json",
    "rendering_metadata.json",
    "tinyllava_metadata.json",
    "validation_report.json",
    "duplicates.json",
    "failures.jsonl",
    "SHA256SUMS",
    "data/mine.parquet",
    "cad_json/a/b.json",
    f"cad_json/0000/{ID}.json",
    "logs/extraction.log",
    "logs/extraction.jsonl",
    "logs/extraction_summary.json",
    "logs/rendering.jsonl",
    "logs/lock",
    "logs/missing_ids.txt",
    "logs/source_index.json",
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("command", ["extract", "run"])
def test_folder_with_foreign_files_is_rejected(corpus, tmp_path, capsys, place, command):
    plant(tmp_path / "out", place)
    assert main([command, str(corpus), str(tmp_path / "out"), "--workers", "1"]) == 2
    error = error_line(capsys)
    assert reason_code(error) == "not_ours" and Path(place).parts[0] in error
    left = all_files(tmp_path / "out")
    assert left.pop(place) == MINE and set(left) <= {"logs/extraction.log"}


def test_unrelated_foreign_files_are_kept(corpus, tmp_path):
    files = plant(tmp_path / "out", "README.md", "notes/train.json", "train.json.part", "logs.txt")
    (tmp_path / "out/images").mkdir()
    assert (
        main(
            [
                "run",
                str(corpus),
                str(tmp_path / "out"),
                "--train-size",
                "2",
                "--val-size",
                "1",
                "--test-size",
                "1",
                "--size",
                "64",
                "--workers",
                "1",
            ]
        )
        == 0
    )
    assert all(f.read_bytes() == MINE for f in files[:2] + files[3:])


STAGES = {
    "render": (
        render,
        [
            f"images/0000/{ID}_front.png",
            "images/coco/1.png",
            "rendering_metadata.json",
            "logs/rendering.log",
            "logs/rendering.jsonl",
        ],
    ),
    "convert": (
        convert,
        [
            "train.json",
            "val.json",
            "test.json",
            "tinyllava_metadata.json",
            "data/train-00000-of-00001.parquet",
            "logs/conversion.jsonl",
        ],
    ),
    "validate": (validate, ["validation_report.json", "logs/validation.jsonl", "logs/validation_summary.json"]),
    "dedup": (dedup, ["duplicates.json", "logs/dedup.jsonl", "logs/dedup_pairs.jsonl"]),
}


@pytest.mark.parametrize("stage, place", [(s, p) for s, (_, places) in STAGES.items() for p in places])
def test_stage_does_not_overwrite_foreign_files(dataset, stage, place):
    "The dataset is at the point where this stage comes next."
    for name in sum((places for _, places in list(STAGES.values())[list(STAGES).index(stage) :]), []):
        (
            shutil.rmtree(dataset.path / "images")
            if name.startswith("images") and (dataset.path / "images").exists()
            else None
        )
        (dataset.path / name).unlink(missing_ok=True)
    shutil.rmtree(dataset.path / "logs")
    (dataset.path / "SHA256SUMS").unlink()
    plant(dataset.path, place)
    before = contents(dataset.path)
    assert reason(STAGES[stage][0], dataset.path, workers=1) == "not_ours"
    assert contents(dataset.path) == before and (dataset.path / place).read_bytes() == MINE


@pytest.mark.parametrize("stage", ["extract", "render", "convert", "dedup"])
def test_foreign_checksums_are_kept(dataset, corpus, stage):
    "Those of a validation go when the dataset changes; others do not."
    (dataset.path / "SHA256SUMS").write_bytes(sums := b"0" * 64 + b"  holiday.png\n")
    write_json(dataset.json_path(dataset.split["train"][1]), read_json(dataset.json_path(dataset.split["train"][0])))
    call = dict(
        extract=lambda: extract(corpus, dataset.path, workers=1),
        render=lambda: render(dataset.path, **TINY),
        convert=lambda: convert(dataset.path, workers=1),
        dedup=lambda: dedup(dataset.path, dedup="train", workers=1),
    )[stage]
    assert reason(call) == "not_ours" and (dataset.path / "SHA256SUMS").read_bytes() == sums
    assert (
        validate(dataset.path, quick=True, workers=1) and reason(call) == "not_ours"
    )  # a look at names says nothing of sums
    assert (
        validate(dataset.path, workers=1).problems
        and reason(call) == "not_ours"
        and (dataset.path / "SHA256SUMS").read_bytes() == sums
    )


def test_own_checksums_are_removed_and_made_again(dataset, corpus):
    before = (dataset.path / "SHA256SUMS").read_bytes()
    shutil.rmtree(dataset.path / "logs")
    (dataset.path / "validation_report.json").unlink()  # as it comes back from a store
    assert reason(render, dataset.path, **TINY) == "not_ours"
    assert not validate(dataset.path, workers=1).problems
    render(dataset.path, **TINY)
    assert (
        not (dataset.path / "SHA256SUMS").exists()
        and not validate(dataset.path, workers=1).problems
        and (dataset.path / "SHA256SUMS").read_bytes() == before
    )
    dedup(dataset.path, workers=1)  # looks, and changes nothing
    assert (dataset.path / "SHA256SUMS").read_bytes() == before


def test_only_recorded_files_are_removed(dataset, corpus):
    "With fewer parts, other views, Parquet and back, everything that was planted in a good dataset is still there."
    first = dataset.split["train"][0]
    files = plant(
        dataset.path,
        "images/coco/1.png",
        "images/0000/holiday.png",
        f"images/0000/{first}_detail.png",
        f"images/0000/{first}.png",
        f"images/0001/{first}_front.png",
        "images/0000/99999999_front.png",
        "images/holiday_front.png",
        "cad_json/0000/99999999.json",
        f"cad_json/0001/{first}.json",
        "cad_json/0000/notes.json",
        "cad_json/mine.json",
        "data/mine.parquet",
        "images/0000/holiday_front.png.0123abcd.part",
        "cad_json/0000/99999999.json.0123abcd.part",
        "report.part",
        "logs/mine.txt",
    )
    for flags in (
        ["--train-size", "3", "--views", "front", "iso", "--format", "messages"],
        ["--train-size", "8", "--views", "top", "sheet", "--size", "80"],
        ["--train-size", "8", "--seed", "3"],
    ):
        main(
            [
                "run",
                str(corpus),
                str(dataset.path),
                "--val-size",
                "1",
                "--test-size",
                "1",
                "--workers",
                "1",
                "--size",
                "64",
                *flags,
            ]
        )
        assert all(f.read_bytes() == MINE for f in files)
    own = set(contents(dataset.path)) - {str(f.relative_to(dataset.path)) for f in files}
    assert (
        sum(n.endswith(".png") for n in own) == 3 * 10
        and sum(n.startswith("cad_json") for n in own) == 10
        and not any(n.startswith("data/") for n in own)
    )


def test_foreign_part_or_image_stops_the_stage(dataset, corpus):
    "In a dataset of ours, at the very name that a larger run needs."
    more = next(i for i in (f"{k:08}" for k in range(12)) if i not in dataset.ids)
    (path,) = plant(dataset.path, f"cad_json/0000/{more}.json")
    assert (
        reason(extract, corpus, dataset.path, train_size=12, val_size=1, test_size=1, workers=1) == "not_ours"
        and path.read_bytes() == MINE
    )
    path.unlink()
    (image,) = plant(dataset.path, f"images/0000/{dataset.ids[0]}_iso.png")
    assert reason(render, dataset.path, views=("front", "iso"), **TINY) == "not_ours" and image.read_bytes() == MINE
    (table,) = plant(dataset.path, "data/train-00000-of-00001.parquet")
    assert reason(convert, dataset.path, format="messages", workers=1) == "not_ours" and table.read_bytes() == MINE
    assert render(dataset.path, **TINY).made == 10 and image.read_bytes() == MINE


def test_files_of_killed_runs_are_removed(corpus, made, tmp_path, monkeypatch):
    """Two of them, one after the other, each killed after its last image: their rows are in journals that later
    settings put aside."""
    folder = tmp_path / "dataset"
    extract(corpus, folder, train_size=8, val_size=1, test_size=1, workers=1)
    for views in (("back", "iso"), ("bottom",)):
        with monkeypatch.context() as patch:
            patch.setattr(module_of(render), "_metadata", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                render(folder, views=views, **TINY)
        (folder / f"images/0000/{Dataset(folder).ids[0]}_{views[0]}.png.0123abcd.part").write_bytes(b"half")
    assert len(list(folder.rglob("*_iso.png"))) == 10
    render(folder, **TINY)
    convert(folder, workers=1)
    (folder / "train.json.0123abcd.part").write_bytes(b"half")
    convert(folder, workers=1)
    assert (
        not validate(folder, workers=1).problems
        and contents(folder) == contents(made)
        and not list((folder / "logs").glob("*.aside.jsonl"))
    )


def test_killed_run_knows_images_without_journal_rows(corpus, made, tmp_path, monkeypatch):
    folder = tmp_path / "dataset"
    extract(corpus, folder, train_size=8, val_size=1, test_size=1, workers=1)
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            render(folder, **TINY)
    assert list(folder.rglob("*.png"))
    assert render(folder, **TINY).made == 10


def test_dedup_rejects_a_foreign_dataset(dataset):
    write_json(dataset.path / "dataset_info.json", dict(made_by="another program"))
    shutil.rmtree(dataset.path / "logs")
    (dataset.path / "SHA256SUMS").unlink()
    before = contents(dataset.path)
    assert reason(dedup, dataset.path, dedup="across", workers=1) == "not_ours" and contents(dataset.path) == before


@pytest.mark.parametrize(
    "place", ["cad_json/0000/00000001.json", "train_val_test_split.json", "logs/synthesis.jsonl", "logs/lock"]
)
def test_synthesize_keeps_foreign_files(tmp_path, place):
    (path,) = plant(tmp_path / "corpus", place)
    assert reason(synthesize, tmp_path / "corpus", count=6, workers=1) == "not_ours"
    assert all_files(tmp_path / "corpus") == {place: MINE}
    path.unlink()
    synthesize(tmp_path / "corpus", count=6, workers=1)
    (later,) = plant(tmp_path / "corpus", "cad_json/0000/00000008.json")
    assert reason(synthesize, tmp_path / "corpus", count=12, workers=1) == "not_ours" and later.read_bytes() == MINE
    later.unlink()
    synthesize(tmp_path / "corpus", count=9, seed=1, workers=1)
    assert (
        synthesize(tmp_path / "corpus", count=6, workers=1).made == 6
        and synthesize(tmp_path / "corpus", count=9, workers=1).made == 3
    )


def test_demo_keeps_foreign_files(tmp_path, capsys):
    (page,) = plant(tmp_path / "demo", "index.html")
    assert main(["demo", str(tmp_path / "demo"), "--count", "4", "--workers", "1"]) == 2
    assert reason_code(error_line(capsys)) == "not_ours" and all_files(tmp_path / "demo") == {"index.html": MINE}
    page.unlink()
    for _ in range(2):
        assert main(["demo", str(tmp_path / "demo"), "--count", "4", "--workers", "1"]) == 0


def test_stats_keep_foreign_files(dataset):
    for place in ("stats.json", "stats.parquet", "stats.png", "logs/stats.jsonl"):
        (path,) = plant(dataset.path, place)
        assert reason(stats, dataset.path, workers=1) == "not_ours" and path.read_bytes() == MINE, place
        path.unlink()
    assert stats(dataset.path, workers=1).made == 10 and stats(dataset.path, workers=1).cached == 10


@pytest.mark.parametrize("place", ["report.html", "report.json"])
def test_report_keeps_foreign_files(dataset, place):
    (path,) = plant(dataset.path, place)
    assert reason(report, [dataset.path]) == "not_ours" and path.read_bytes() == MINE
    path.unlink()
    report([dataset.path])
    report([dataset.path])


def test_export_keeps_foreign_files(dataset, tmp_path, capsys):
    (path,) = plant(tmp_path, "part.stl")
    export = ["export", str(dataset.json_path(dataset.ids[0])), str(path)]
    assert main(export) == 2 and path.read_bytes() == MINE
    error = error_line(capsys)
    assert reason_code(error) == "exists" and "--overwrite" in error
    assert main([*export, "--overwrite"]) == 0 and path.stat().st_size > 100
    assert main(export) == 0  # the same once more
    assert main(["export", str(dataset.json_path(dataset.ids[1])), str(path)]) == 2


def test_upload_keeps_foreign_files(dataset, memory):
    target = "memory://foreign/made"
    for name in ("train.json", "SHA256SUMS"):
        place = f"/foreign/made/{name}"
        memory.pipe_file(place, MINE)
        assert reason(upload, dataset.path, target) == "not_ours"
        assert memory.find("/foreign/made") == [place] and memory.cat_file(place) == MINE
        memory.rm_file(place)
    assert not upload(dataset.path, target).problems
    shutil.rmtree(dataset.path / "logs")  # another machine: the store's own list names the files
    assert not upload(dataset.path, target).problems


@pytest.mark.parametrize("place", ["data.tar", "data.tar.part", "data.tar.part.json", "data.tar.sha256"])
def test_download_keeps_foreign_files(tmp_path, server, place):
    (path,) = plant(tmp_path / "here", place)
    assert reason(download, tmp_path / "here", server.url) == "exists"
    assert all_files(tmp_path / "here") == {place: MINE} and not server.requests
    path.unlink()
    note = tmp_path / "here/data.tar.sha256"
    note.write_text("0" * 64 + " *data.tar\n")  # somebody knows better: the note counts
    assert reason(download, tmp_path / "here", server.url) == "wrong_checksum" and note.read_text().startswith("000")
    note.unlink()
    assert download(tmp_path / "here", server.url).fetched == len(server.data)
