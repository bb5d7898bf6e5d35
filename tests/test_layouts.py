"""Sources as people have them: plain folders, a folder too high, byte order marks, ids in two splits."""

import shutil

import orjson
import pytest

from builders import SIXTY, TORN, contents, deepcad_json, numbers, one_of_sixty, reason, rejection, tar, write, zipped
from cadvlm.app.cli import main
from cadvlm.corpus.dataset import Dataset, failures
from cadvlm.corpus.folder import UrlSource
from cadvlm.corpus.source import open_source
from cadvlm.files import parse_json
from cadvlm.stages.extract import extract
from cadvlm.cad.sequence import read

SIZES = dict(train_size=20, val_size=5, test_size=4, workers=1)


# --- plain folders


def lay(folder, kind, n=12, split=False):
    for i, id in enumerate(SIXTY[:n]):
        path = folder / dict(flat=f"{id}.json", sharded=f"{id[:4]}/{id}.json", own_folders=f"{id}/{id}.json")[kind]
        write(path, deepcad_json(one_of_sixty(i)))
    (folder / "readme.txt").write_text("mine")
    if split:
        (folder / "train_val_test_split.json").write_bytes(
            orjson.dumps(dict(train=SIXTY[:6], validation=SIXTY[6:8], test=SIXTY[8:n]))
        )
    return folder


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("kind", ["flat", "sharded", "own_folders"])
def test_plain_folder_layouts(tmp_path, memory, kind, split):
    folder = lay(tmp_path / "mine", kind, split=split)
    wanted = (
        dict(train=SIXTY[:6], validation=SIXTY[6:8], test=SIXTY[8:12])
        if split
        else dict(
            train=[i for i in SIXTY[:12] if i not in (SIXTY[2], SIXTY[11])], validation=[SIXTY[2]], test=[SIXTY[11]]
        )
    )
    memory.put(str(folder), "/bucket/mine", recursive=True)
    sources = [
        folder,
        tar(folder, tmp_path / "mine.tar", "mine"),
        tar(folder, tmp_path / "mine.tgz", ".", "w:gz"),
        zipped(folder, tmp_path / "mine.zip", "x/y"),
        "memory://bucket/mine",
    ]
    assert type(open_source(sources[-1])) is UrlSource
    for k, source in enumerate(sources):
        opened = open_source(source)
        assert (opened.layout.name, opened.split, opened.others) == (kind, wanted, 0), source
        extract(source, tmp_path / f"out{k}", workers=1)
        assert contents(tmp_path / f"out{k}") == contents(tmp_path / "out0")
        assert Dataset(tmp_path / f"out{k}").split == wanted
    assert reason(extract, folder, folder / "out") == "bad_output"


def test_layout_with_most_files_is_chosen(tmp_path):
    folder = lay(tmp_path / "mine", "sharded")
    (folder / "notes.json").write_text("{}")
    assert open_source(folder).layout.name == "sharded" and len(open_source(folder).ids) == 12
    assert open_source(tar(folder, tmp_path / "mine.tar", "mine")).layout.name == "sharded"
    for d in ("one", "two"):
        lay(tmp_path / "both" / d, "flat")
    assert reason(lambda: open_source(tar(tmp_path / "both", tmp_path / "both.tar", "both")).ids) == "bad_archive"


@pytest.mark.parametrize("name", ["tiny", "tiny.tar.gz", "tiny.zip", "mine"])
def test_parent_folder_error_names_the_source(sixty, tmp_path, memory, name):
    above = tmp_path / "above"
    above.mkdir()
    if name == "tiny":
        shutil.copytree(sixty, above / "tiny")
    elif name == "mine":
        lay(above / "mine", "flat")
    else:
        (zipped if name.endswith("zip") else tar)(sixty, above / name)
    (above / "notes.txt").write_text("")
    for place in (above, f"{above}/"):
        assert f"{above}/{name}" in rejection(open_source, place).message
    memory.put(str(above), "/bucket/above", recursive=True)
    assert f"memory://bucket/above/{name}" in rejection(open_source, "memory://bucket/above").message


def test_parent_folder_error_prefers_the_official_layout(sixty, tmp_path):
    lay(tmp_path / "above/cases", "flat")
    shutil.copytree(sixty, tmp_path / "above/tiny")
    tar(sixty, tmp_path / "above/again.tar")
    assert "above/tiny" in rejection(open_source, tmp_path / "above").message


# --- byte order marks and splits


def test_byte_order_marks_are_ignored(sixty, tmp_path):
    source = shutil.copytree(sixty, tmp_path / "tiny")
    for path in [*source.glob("cad_json/0000/*.json"), source / "train_val_test_split.json"]:
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    extract(sixty, tmp_path / "without", **SIZES)
    for k, place in enumerate((source, tar(source, tmp_path / "tiny.tar"), zipped(source, tmp_path / "tiny.zip"))):
        extract(place, tmp_path / f"out{k}", **SIZES)
        marked, plain = Dataset(tmp_path / f"out{k}"), Dataset(tmp_path / "without")
        assert marked.split == plain.split and failures(marked, "extract")[0]["id"] == TORN
        assert marked.json_path(SIXTY[0]).read_bytes() == source.joinpath(f"cad_json/0000/{SIXTY[0]}.json").read_bytes()
        assert read(marked.json_path(SIXTY[0])) == read(plain.json_path(SIXTY[0]))
    (tmp_path / "mine.yaml").write_bytes(b"\xef\xbb\xbfextract: {train_size: 3, workers: 1}")
    assert (
        main(["extract", str(source), str(tmp_path / "out"), "--config", str(tmp_path / "mine.yaml")]) == 0
        and len(Dataset(tmp_path / "out").split["train"]) == 3
    )
    assert parse_json(b"\xef\xbb\xbf[1]") == [1] == parse_json(b"[1]")


@pytest.mark.parametrize("order", ["official", "random", "stratified"])
def test_ids_in_two_splits_are_counted(sixty, tmp_path, order):
    source = shutil.copytree(sixty, tmp_path / "tiny")
    both = dict(train=SIXTY[10:40] + SIXTY[10:12], validation=SIXTY[38:45], test=SIXTY[44:50] + SIXTY[10:11])
    (source / "train_val_test_split.json").write_bytes(orjson.dumps(both))
    summary = extract(source, tmp_path / "out", train_size=99, val_size=99, test_size=99, order=order, workers=1)
    dataset = Dataset(tmp_path / "out")
    assert {s: set(ids) for s, ids in dataset.split.items()} == dict(
        train=set(SIXTY[11:38]), validation=set(SIXTY[38:44]), test={*SIXTY[44:50], SIXTY[10]}
    )
    assert any("4" in numbers(note) for note in summary.notes)
    assert dataset.metadata("extract")["in_two_splits"] == 4 and (
        dataset.path / "logs/in_two_splits.txt"
    ).read_text().split() == sorted({SIXTY[10], SIXTY[38], SIXTY[39], SIXTY[44]})
    extract(sixty, tmp_path / "other", workers=1)
    assert Dataset(tmp_path / "other").metadata("extract")["in_two_splits"] == 0
