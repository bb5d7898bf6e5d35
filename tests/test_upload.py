"""Datasets in object stores: whole or not at all, and never a byte that was not checked."""

import shutil
import sys

import pytest

from builders import error_line
from cadvlm.app.cli import main
from cadvlm.corpus.dataset import Dataset
from cadvlm.corpus.sums import read_sums
from cadvlm.stages.upload import upload

fsspec = pytest.importorskip("fsspec", reason="needs fsspec: pip install 'cadvlm[cluster]'")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    top = tmp_path_factory.mktemp("upload")
    assert (
        main(
            [
                "run",
                "--train-size",
                "16",
                "--val-size",
                "2",
                "--test-size",
                "2",
                "--output",
                str(top / "made"),
                "--workers",
                "1",
            ]
        )
        == 0
    )
    return top / "made"


@pytest.fixture
def dataset(made, tmp_path):
    return Dataset(shutil.copytree(made, tmp_path / "made"))


def whole(dataset, store, root):
    "Is every file there, and nothing else?"
    names = {*read_sums(dataset), "SHA256SUMS"}
    return {n[len(root) + 1 :] for n in store.find(root)} == names and all(
        store.cat_file(f"{root}/{n}") == (dataset.path / n).read_bytes() for n in names
    )


def test_upload_command(dataset, memory, capsys):
    assert main(["upload", str(dataset.path), "memory://bucket/made"]) == 0
    assert "SHA256SUMS" in capsys.readouterr().out and whole(dataset, memory, "/bucket/made")


def test_upload_to_a_file_url(dataset, tmp_path):
    assert not upload(dataset.path, f"file://{tmp_path}/away/made").problems
    assert whole(dataset, fsspec.filesystem("file"), f"{tmp_path}/away/made")


@pytest.mark.parametrize("lasts", [0, 1, 20, 60])
def test_upload_resumes_after_a_store_failure(dataset, memory, monkeypatch, lasts):
    sent, send = [], type(memory).pipe_file

    def fragile(self, path, value, **_):
        if len(sent) >= lasts:
            raise ConnectionError("the line is dead")
        sent.append(path)
        return send(self, path, value)

    monkeypatch.setattr(type(memory), "pipe_file", fragile)
    torn = upload(dataset.path, "memory://bucket/made", threads=2)
    assert torn.made == lasts and set(torn.failures) == {"not_stored"} and not memory.exists("/bucket/made/SHA256SUMS")
    monkeypatch.setattr(type(memory), "pipe_file", send)
    assert upload(dataset.path, "memory://bucket/made", threads=2).cached == lasts and whole(
        dataset, memory, "/bucket/made"
    )


def test_upload_stops_at_a_dead_store(dataset, memory, monkeypatch):
    sent = []
    monkeypatch.setattr(
        type(memory),
        "pipe_file",
        lambda self, path, value, **_: sent.append(path) or (_ for _ in ()).throw(OSError("no")),
    )
    summary = upload(dataset.path, "memory://bucket/made", threads=1)
    assert len(sent) == 16 < len(read_sums(dataset)) and summary.failures == {"not_stored": 16}
    assert len(summary.problems) == 1 and "15 more files" in summary.problems[0]


def test_upload_detects_truncated_objects(dataset, memory, monkeypatch):
    send = type(memory).pipe_file
    monkeypatch.setattr(
        type(memory),
        "pipe_file",
        lambda self, path, value, **_: send(self, path, value[:-1] if path.endswith("train.json") else value),
    )
    torn = upload(dataset.path, "memory://bucket/made")
    assert (
        torn.failures == dict(not_stored=1)
        and "train.json" in torn.problems[0]
        and not memory.exists("/bucket/made/SHA256SUMS")
    )


def test_upload_rejects_files_changed_since_validation(dataset, memory, capsys):
    dataset.image_path(dataset.ids[0], "top").write_bytes(b"another")
    dataset.json_path(dataset.ids[1]).unlink()
    assert main(["upload", str(dataset.path), "memory://bucket/made"]) == 1
    out = capsys.readouterr().out
    assert "1 changed_file" in out and "1 missing_file" in out and not memory.exists("/bucket/made/SHA256SUMS")


@pytest.mark.parametrize("verb", ["find", "rm_file", "pipe_file"])
def test_store_error_is_one_line(dataset, memory, monkeypatch, capsys, verb):
    """Stores have errors of their own kinds; here the listing, the removal of the old list, or the sending of the
    new one fails."""
    upload(dataset.path, "memory://bucket/made")
    memory.rm_file("/bucket/made/val.json")
    real = getattr(type(memory), verb)

    def rejected(self, path, *args, **kwargs):
        if verb == "find" or path.endswith("SHA256SUMS"):
            raise RuntimeError("AccessDenied\nby somebody")
        return real(self, path, *args, **kwargs)

    monkeypatch.setattr(type(memory), verb, rejected)
    assert main(["upload", str(dataset.path), "memory://bucket/made"]) == 2
    assert "AccessDenied by somebody" in error_line(capsys)
    monkeypatch.undo()
    assert not upload(dataset.path, "memory://bucket/made").problems and whole(dataset, memory, "/bucket/made")


def test_upload_keeps_foreign_objects(dataset, memory):
    memory.pipe_file("/bucket/made/of_somebody.txt", b"mine")
    assert (
        "of_somebody.txt" in upload(dataset.path, "memory://bucket/made").notes[0]
        and memory.cat_file("/bucket/made/of_somebody.txt") == b"mine"
    )


def test_upload_rejects_an_unvalidated_dataset(dataset, tmp_path, capsys, monkeypatch):
    (dataset.path / "SHA256SUMS").unlink()
    for url in ("memory://bucket/made", "nosuch://x"):
        assert main(["upload", str(dataset.path), url]) == 2 and "cadvlm validate" in error_line(capsys)
    (dataset.path / "SHA256SUMS").write_text("")
    assert main(["upload", str(dataset.path), "nosuch://me:secret@x"]) == 2
    error = error_line(capsys)
    assert "nosuch" in error and "secret" not in error
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    remedies = {"s3://bucket/made": "cadvlm[s3]", "gs://bucket/made": "gcsfs", "memory://made": "cadvlm[cluster]"}
    for url, remedy in remedies.items():
        assert main(["upload", str(dataset.path), url]) == 2 and remedy in error_line(capsys)
