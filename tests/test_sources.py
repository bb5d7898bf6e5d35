"""Where parts come from: folders, archives, URLs, the Fusion 360 Gallery, tables; and in which order they are taken."""

import os
import shutil
import sys
import tarfile
from collections import Counter
from pathlib import Path

import orjson
import pytest

from builders import SIXTY, TORN, contents, deepcad_json, error_line, module_of, numbers, one_of_sixty, reason, tar
from cadvlm.app.cli import main
from cadvlm.corpus.dataset import Dataset, failures
from cadvlm.corpus.folder import FolderSource, UrlSource
from cadvlm.corpus.source import open_source
from cadvlm.corpus.tar import TarSource
from cadvlm.files import read_json
from cadvlm.stages.extract import extract, shuffled, stratum
from cadvlm.text.vectors import from_vectors, save_vectors, to_vectors
from cadvlm.cad.sequence import read
from cadvlm.stages.synthesize import synthesize
from cadvlm.synth.histories import part

# --- folders, archives, URLs


@pytest.mark.parametrize("order", ["official", "random", "stratified"])
def test_folder_and_tar_give_the_same_dataset(sixty, tmp_path, order):
    sizes = dict(train_size=20, val_size=9, test_size=4, order=order, seed=3, workers=1)
    extract(sixty, tmp_path / "folder", **sizes)
    wanted = contents(tmp_path / "folder")
    for k, (prefix, name, mode) in enumerate(
        [("data", "tiny.tar", "w"), ("a/b", "tiny.tar.gz", "w:gz"), (".", "tiny.tgz", "w:gz"), ("", "tiny.tar", "w")]
    ):
        (tmp_path / str(k)).mkdir()
        archive = tar(sixty, tmp_path / str(k) / name, prefix, mode)
        extract(archive, tmp_path / f"out{k}", **sizes)
        assert contents(tmp_path / f"out{k}") == wanted, name
        assert sorted(p.name for p in archive.parent.iterdir()) == [name]
    assert len(wanted) == 20 + 5 + 4 + 3


def test_two_workers_read_one_archive(tmp_path, monkeypatch):
    monkeypatch.setattr(module_of(extract), "_FEW", 10)
    synthesize(tmp_path / "sixty", count=90, workers=1)
    archive = tar(tmp_path / "sixty", tmp_path / "sixty.tar")
    extract(archive, tmp_path / "two", train_size=80, workers=2)
    extract(tmp_path / "sixty", tmp_path / "one", train_size=80, workers=1)
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


def test_archive_index_is_cached(sixty, tmp_path, monkeypatch):
    archive = tar(sixty, tmp_path / "tiny.tar")
    extract(archive, tmp_path / "out", train_size=5, workers=1)
    assert (tmp_path / "out/logs/source_index.json").is_file() and extract(
        archive, tmp_path / "out", train_size=5, workers=1
    ).made == 0
    with monkeypatch.context() as patch:
        patch.setattr(module_of(TarSource), "scan", lambda *a: pytest.fail("read again"))
        assert extract(archive, tmp_path / "out", train_size=8, workers=1).made == 3
    changed = shutil.copytree(sixty, tmp_path / "changed")
    (changed / f"cad_json/0000/{SIXTY[0]}.json").write_bytes(deepcad_json(one_of_sixty(33)))
    tar(changed, archive)
    assert extract(archive, tmp_path / "out", train_size=8, workers=1).made >= 1
    assert (tmp_path / f"out/cad_json/0000/{SIXTY[0]}.json").read_bytes() == (
        changed / f"cad_json/0000/{SIXTY[0]}.json"
    ).read_bytes()
    (tmp_path / "out/logs/source_index.json").write_text('{"archive": [')
    assert extract(archive, tmp_path / "out", train_size=8, workers=1).made == 0


def test_archive_of_something_else_is_rejected(sixty, tmp_path):
    (tmp_path / "a.tar").write_bytes(b"PK\3\4" * 1000)
    assert reason(lambda: open_source(tmp_path / "a.tar").ids) == "bad_archive"
    tar(sixty / "cad_json", tmp_path / "b.tar", "cad_json")
    assert reason(lambda: open_source(tmp_path / "b.tar").ids) == "missing_file"
    with tarfile.open(tmp_path / "c.tar", "w") as archive:
        archive.add(sixty, "one")
        archive.add(sixty, "two")
    assert reason(lambda: open_source(tmp_path / "c.tar").ids) == "bad_archive"
    os.mkfifo(tmp_path / "pipe") if hasattr(os, "mkfifo") else None
    assert reason(open_source, tmp_path / "pipe") == "missing_folder"


def test_odd_files_in_a_folder_are_failures_or_ignored(sixty, tmp_path):
    source = shutil.copytree(sixty, tmp_path / "source")
    for name, make in ((SIXTY[0], lambda p: p.symlink_to("nowhere")), (SIXTY[1], Path.mkdir), (SIXTY[2], os.mkfifo)):
        path = source / f"cad_json/0000/{name}.json"
        path.unlink()
        make(path)
    (source / "cad_json/0000/two words.json").write_text("{}")
    (source / f"cad_json/0000/{SIXTY[50]}.json").write_text("{}")  # in the wrong subfolder
    summary = extract(source, tmp_path / "out", train_size=10, val_size=0, test_size=0, workers=1)
    assert [r["id"] for r in failures(Dataset(tmp_path / "out"))] == [SIXTY[0], SIXTY[1], SIXTY[2], TORN] and len(
        Dataset(tmp_path / "out").ids
    ) == 10
    assert any("2" in numbers(note) for note in summary.notes)


def test_sources_from_urls(sixty, tmp_path, memory):
    sizes = dict(train_size=20, val_size=5, test_size=4, order="random", workers=1)
    extract(sixty, tmp_path / "here", **sizes)
    memory.put(str(sixty), "/bucket/tiny", recursive=True)
    for name, mode in (("tiny.tar", "w"), ("tiny.tar.gz", "w:gz")):
        memory.put(str(tar(sixty, tmp_path / name, mode=mode)), f"/bucket/{name}")
    for name, kind in (("tiny", UrlSource), ("tiny/", UrlSource), ("tiny.tar", TarSource), ("tiny.tar.gz", TarSource)):
        url, out = f"memory://bucket/{name}", tmp_path / f"out_{name.strip('/')}" / "out"
        assert type(open_source(url)) is kind
        if kind is UrlSource:
            assert (
                main(
                    [
                        "extract",
                        url,
                        str(out),
                        "--train-size",
                        "20",
                        "--val-size",
                        "5",
                        "--test-size",
                        "4",
                        "--order",
                        "random",
                        "--workers",
                        "1",
                    ]
                )
                == 0
            )
        else:
            extract(url, out, **sizes)
        assert contents(out) == contents(tmp_path / "here") and extract(url, out, **sizes).made == 0, name
    memory.pipe(f"/bucket/tiny/cad_json/0000/{SIXTY[0]}.json", deepcad_json(one_of_sixty(31)))
    extract("memory://bucket/tiny", out, train_size=60, workers=1)
    assert Dataset(out).json_path(SIXTY[0]).read_bytes() == memory.cat(f"/bucket/tiny/cad_json/0000/{SIXTY[0]}.json")
    assert type(open_source(f"file://{sixty}")) is FolderSource


def test_missing_url_is_rejected(memory, tmp_path, capsys, monkeypatch):
    for url in ("memory://none", "nosuch://x"):
        assert main(["extract", url, str(tmp_path / "out")]) == 2
        assert url.partition(":")[0] in error_line(capsys)
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    assert main(["extract", "s3://me:secret@bucket/deepcad?token=secret", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "cadvlm[s3]" in error and "secret" not in error and not (tmp_path / "out").exists()


def test_output_url_is_rejected(sixty, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in (
        ["extract", str(sixty), "s3://me:secret@bucket/out"],
        ["synthesize", "memory://bucket/out"],
        ["run", str(sixty), "memory://bucket/out"],
        ["render", "memory://bucket/out"],
    ):
        assert main([*command, "--workers", "1"]) == 2
        error = error_line(capsys)
        assert "://" in error and "secret" not in error, error
    assert not list(tmp_path.iterdir())


# --- Fusion 360 Gallery


def gallery(shared, folder, split):
    "The shared Gallery files as they lie in the Gallery's own archive."
    (folder / "reconstruction").mkdir(parents=True)
    for path in (shared / "fusion360").glob("*.json"):
        shutil.copy(path, folder / "reconstruction")
        (folder / "reconstruction" / f"{path.stem}.obj").write_text("v 0 0 0")
    (folder / "train_test.json").write_bytes(orjson.dumps(split))
    return folder


def test_fusion_360_gallery_layout(shared, tmp_path):
    names = sorted(p.stem for p in (shared / "fusion360").glob("*.json"))
    folder = gallery(shared, tmp_path / "r1.0.1", dict(train=names[:10] + ["20203_7e31e92a_0000"], test=names[10:]))
    source = open_source(folder)
    assert source.split["test"] == names[10:] and sorted(source.split["train"] + source.split["validation"]) == sorted(
        [*names[:10], "20203_7e31e92a_0000"]
    )
    out = tmp_path / "out"
    summary = extract(folder, out, workers=1)
    dataset = Dataset(out)
    assert (
        set(dataset.split["test"]) <= set(names[10:])
        and len(dataset.ids) + summary.failed == 15
        and len(dataset.ids) >= 12
    )
    assert all(dataset.json_path(i).read_bytes() == (shared / f"fusion360/{i}.json").read_bytes() for i in dataset.ids)
    assert (
        dataset.metadata("extract")["source"]["layout"] == "fusion360"
        and dataset.metadata("extract")["missing_files"] == 1
    )
    extract(tar(folder, tmp_path / "r1.0.1.tar.gz", "r1.0.1", "w:gz"), tmp_path / "packed", workers=1)
    assert contents(tmp_path / "packed") == contents(out)
    assert reason(open_source, folder / "reconstruction") == "missing_folder"


def test_flat_folder_gets_a_random_split(shared, tmp_path):
    out = tmp_path / "out"
    assert main(["extract", str(shared / "fusion360"), str(out)]) == 0
    assert (
        main(["render", str(out), "--workers", "1", "--views", "front", "--size", "64"]) == 0
        and main(["convert", str(out), "--workers", "1"]) == 0
    )
    dataset = Dataset(out)
    assert {s: len(ids) for s, ids in open_source(shared / "fusion360").split.items()} == dict(
        train=13, validation=1, test=1
    )
    assert sum(map(len, dataset.split.values())) >= 12 and max(map(len, dataset.split.values())) <= 13
    samples = [s for split in ("train", "val", "test") for s in read_json(out / f"{split}.json")]
    assert len(samples) >= 12 and all(
        (out / s["image"]).is_file() and s["id"].rpartition("_")[0] in dataset.ids for s in samples
    )
    assert reason(extract, shared / "fusion360", shared / "fusion360/out") == "bad_output"


# --- orders


def test_official_order(sixty, tmp_path):
    extract(sixty, tmp_path / "out", train_size=10, val_size=2, test_size=3, workers=1)
    assert Dataset(tmp_path / "out").split == dict(
        train=[i for i in SIXTY[:11] if i != TORN], validation=SIXTY[45:47], test=SIXTY[50:53]
    )
    info = Dataset(tmp_path / "out").metadata("extract")
    assert info["order"] == "official" and info["seed"] is None and info["source"]["name"] == "tiny"


def test_random_order_is_stable(sixty, tmp_path):
    def taken(n, seed, source=sixty):
        extract(source, tmp_path / "out", train_size=n, val_size=0, test_size=2, order="random", seed=seed, workers=1)
        return Dataset(tmp_path / "out").split

    ten, thirty = taken(10, 0), taken(30, 0)
    assert (
        thirty["train"][:10] == ten["train"]
        and set(ten["train"]) < set(SIXTY[:45])
        and set(ten["test"]) < set(SIXTY[50:59])
    )
    assert taken(10, 1)["train"] != ten["train"] and taken(10, 0) == ten
    fewer = shutil.copytree(sixty, tmp_path / "fewer")
    (fewer / f"cad_json/{ten['train'][3][:4]}/{ten['train'][3]}.json").unlink()
    assert taken(9, 0, fewer)["train"] == ten["train"][:3] + ten["train"][4:]
    assert shuffled(SIXTY, 7) == shuffled(SIXTY[::-1], 7)


def test_stratified_order_keeps_proportions(sixty, tmp_path, monkeypatch):
    def taken(**kwargs):
        extract(
            sixty,
            tmp_path / "out",
            **dict(train_size=12, val_size=2, test_size=4, order="stratified", workers=1) | kwargs,
        )
        return Dataset(tmp_path / "out")

    dataset = taken()
    good = [i for i in SIXTY[:45] if i != TORN]
    made = map(one_of_sixty, range(60))
    counts = (dict(extrudes=len(p.extrudes), curves=Counter(type(c).__name__ for c in p.curves)) for p in made)
    kinds = dict(zip(SIXTY, map(stratum, counts)))
    everything, here = Counter(kinds[i] for i in good), Counter(kinds[i] for i in dataset.split["train"])
    assert (
        len(everything) >= 8
        and sum(here.values()) == 12
        and all(abs(here[k] - 12 * n / 44) < 1 for k, n in everything.items())
    )
    assert dataset.metadata("extract")["strata"]["train"] == {k: [everything[k], here[k]] for k in sorted(everything)}
    assert [(r["id"], r["reason"]) for r in failures(dataset)] == [(TORN, "not_json")]
    with monkeypatch.context() as patch:
        extraction = module_of(extract)
        each = extraction._each

        def extract_only(function, source, ids, *rest):
            return each(function, source, ids, *rest) if ids and "extract" in rest else None

        patch.setattr(extraction, "_survey_one", None)  # the survey is kept
        patch.setattr(extraction, "_each", extract_only)
        again = taken(seed=1).split
    assert again["train"] != taken(seed=0).split["train"] and set(again["test"]) <= set(SIXTY[50:59])
    assert sorted(taken(train_size=100).split["train"]) == good


def test_order_flag(sixty, tmp_path, capsys):
    assert (
        main(["extract", str(sixty), str(tmp_path / "out"), "--order", "alphabetical"]) == 2
        and "stratified" in capsys.readouterr().err
    )
    assert (
        main(
            [
                "run",
                str(sixty),
                str(tmp_path / "out"),
                "--order",
                "stratified",
                "--train-size",
                "4",
                "--val-size",
                "1",
                "--test-size",
                "1",
                "--size",
                "64",
                "--workers",
                "1",
                "--seed",
                "5",
            ]
        )
        == 0
    )
    assert Dataset(tmp_path / "out").metadata("extract")["seed"] == 5 and len(Dataset(tmp_path / "out").ids) == 6


# --- tables without JSON


@pytest.mark.parametrize("form", ["cad_vec", "subfolders", "flat", "predictions"])
def test_folder_of_vectors_is_a_source(form, tmp_path):
    "What is extracted is what the tables say; a bad table is a failure, and a second run does nothing."
    place = {"cad_vec": "cad_vec/0000/{}.h5", "subfolders": "0000/{}.h5", "flat": "{}.h5", "predictions": "{}_vec.h5"}[
        form
    ]
    tables = {f"{i:08}": to_vectors(part(0, i), limits=False) for i in range(5)}
    for id, rows in tables.items():
        path = tmp_path / "source" / place.format(id)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_vectors(rows, path)
    (path.parent / "00000009.h5").write_text("no table")
    done = extract(tmp_path / "source", tmp_path / "out", train_size=9, val_size=9, test_size=9, workers=1)
    assert (done.made, done.failures) == (5, {"bad_vectors": 1})
    for id, rows in tables.items():
        assert read(tmp_path / "out" / "cad_json" / "0000" / f"{id}.json") == from_vectors(rows)
    again = extract(tmp_path / "source", tmp_path / "out", train_size=9, val_size=9, test_size=9, workers=1)
    assert (again.made, again.cached) == (0, 5)


def test_json_takes_precedence_over_vectors(shared):
    source = open_source(shared / "deepcad")
    assert source.layout.name == "deepcad" and len(source.ids) > 800
    assert open_source(shared / "deepcad" / "cad_vec").layout.name == "vectors"
