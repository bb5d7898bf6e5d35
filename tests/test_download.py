"""Downloads: broken lines, servers of every kind, checksums, and what lies there already."""

import hashlib
import os
import shutil
import subprocess
import time

import orjson
import pytest

from builders import COMMAND, contents, error_line, module_of, numbers, reason, reason_code, start, tar
from cadvlm.app.cli import main
from cadvlm.stages.download import download
from cadvlm.stages.extract import extract


def ranges(server):
    return [a.get("Range") for a in server.requests]


def check(server, got):
    assert got.path.read_bytes() == server.data and got.sha256 == hashlib.sha256(server.data).hexdigest()
    assert sorted(p.name for p in got.path.parent.iterdir()) == ["data.tar", "data.tar.sha256"]
    assert (got.path.parent / "data.tar.sha256").read_text() == f"{got.sha256}  data.tar\n"


def test_download_resumes_after_each_broken_connection(server, tmp_path):
    server.play = [lambda h: server.send(h, most=25_000)]
    check(server, download(tmp_path, server.url))
    assert ranges(server) == [None] + [f"bytes={k}-" for k in range(25_000, 300_000, 25_000)]
    assert all(a["If-Range"] == '"v1"' for a in server.requests[1:])


def test_download_resumes_after_a_stalled_connection(server, tmp_path):
    server.play = [lambda h: server.send(h, most=90_000, stall=1.5), lambda h: server.send(h)]
    check(server, download(tmp_path, server.url, timeout=0.3))
    assert ranges(server) == [None, "bytes=90000-"]


def test_download_restarts_without_range_support(server, tmp_path):
    server.play = [lambda h: server.send(h, most=100_000), lambda h: server.send(h, ranges=False)]
    check(server, download(tmp_path, server.url))


def test_download_without_etag_is_never_resumed(server, tmp_path):
    server.play = [lambda h: server.send(h, most=100_000, etag=False), lambda h: server.send(h, etag=False)]
    check(server, download(tmp_path, server.url))
    assert ranges(server) == [None, None]


def test_download_of_a_file_that_changes(server, tmp_path):
    old = server.data

    def change(handler):
        server.data, server.etag = os.urandom(300_000), '"v2"'
        server.send(handler)

    server.play = [lambda h: server.send(h, most=100_000), change]
    got = download(tmp_path, server.url)
    check(server, got)
    assert got.path.read_bytes() != old and ranges(server) == [None, "bytes=100000-"]


def test_download_rejects_range_of_another_version(server, tmp_path):
    def lie(handler):
        server.etag, server.data = '"v2"', os.urandom(300_000)
        handler.headers.replace_header("If-Range", '"v2"')
        server.send(handler)

    server.play = [lambda h: server.send(h, most=100_000), lie, lambda h: server.send(h)]
    check(server, download(tmp_path, server.url))
    assert ranges(server) == [None, "bytes=100000-", None]


def test_download_without_content_length(server, tmp_path):
    server.play = [lambda h: server.send(h, length=False)]
    check(server, download(tmp_path, server.url))


def test_download_status_codes(server, tmp_path, capsys):
    busy = lambda h: h.send_error(503)
    server.play = [busy, lambda h: server.send(h, most=9), lambda h: h.send_error(500), lambda h: server.send(h)]
    check(server, download(tmp_path, server.url))
    for code in (404, 403, 500):
        server.play, server.requests = [lambda h: h.send_error(code)], []
        assert main(["download", str(tmp_path / "other.tar"), server.url, "--tries", "2"]) == 2
        assert str(code) in numbers(error_line(capsys)) and len(server.requests) == (2 if code == 500 else 1)
    assert not (tmp_path / "other.tar").exists()


def test_download_redirects(server, tmp_path):
    def to(place):
        def answer(handler):
            handler.send_response(302)
            handler.send_header("Location", place)
            handler.end_headers()

        return answer

    server.play = [to(server.url), lambda h: server.send(h)]
    check(server, download(tmp_path, server.url))
    for place in ("file:///etc/passwd", "ftp://127.0.0.1/x"):
        server.play = [to(place)]
        assert reason(download, tmp_path / "x.tar", server.url) in ("bad_url", "bad_status")
    server.play = [to(server.url)]  # in a circle
    assert reason(download, tmp_path / "x.tar", server.url, tries=1) in ("bad_status", "no_connection")


def test_download_continues_in_the_next_run(server, tmp_path):
    server.play = [lambda h: server.send(h, most=120_000), lambda h: h.send_error(404)]
    assert (
        reason(download, tmp_path, server.url) == "bad_status"
        and (tmp_path / "data.tar.part").stat().st_size == 120_000
    )
    server.play, server.requests = [lambda h: server.send(h)], []
    got = download(tmp_path, server.url)
    check(server, got)
    assert ranges(server) == ["bytes=120000-"] and got.fetched == 180_000


def test_download_killed_before_the_rename(server, tmp_path):
    (tmp_path / "data.tar.part").write_bytes(server.data)
    (tmp_path / "data.tar.part.json").write_bytes(
        orjson.dumps(dict(url=server.url, size=len(server.data), etag=server.etag, date=""))
    )
    check(server, download(tmp_path, server.url))


def test_download_checksums(server, tmp_path, capsys):
    good = hashlib.sha256(server.data).hexdigest()
    assert reason(download, tmp_path, server.url, sha256="0" * 64) == "wrong_checksum" and not list(tmp_path.iterdir())
    check(server, download(tmp_path, server.url, sha256=good.upper()))
    server.requests.clear()
    assert (
        download(tmp_path, server.url).fetched == 0
        and download(tmp_path, server.url, sha256=good).fetched == 0
        and not server.requests
    )
    assert reason(download, tmp_path, server.url, sha256="0" * 64) == "exists"
    (tmp_path / "data.tar").write_bytes(b"mine")
    assert reason(download, tmp_path, server.url) == "exists" and (tmp_path / "data.tar").read_bytes() == b"mine"
    assert main(["download", str(tmp_path / "x.tar"), server.url, "--sha256", "abc"]) == 2
    assert "64" in numbers(error_line(capsys))


def test_download_checks_disk_space(server, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000))
        assert reason(download, tmp_path, server.url) == "disk_full"
    check(server, download(tmp_path, server.url))


def test_download_rejects_bad_urls(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module_of(download), "_PAUSE", 0.001)
    for url in ("ftp://host/data.tar", "file:///etc/passwd", "http://"):
        assert main(["download", str(tmp_path), url]) == 2 and "http" in capsys.readouterr().err
    assert main(["download", str(tmp_path), "http://127.0.0.1:9/data.tar", "--tries", "2"]) == 2
    assert reason_code(error_line(capsys)) == "no_connection" and not list(tmp_path.iterdir())


def test_download_then_extract(server, sixty, tmp_path, capsys):
    server.data = tar(sixty, tmp_path / "served.tar").read_bytes()
    server.play = [lambda h: server.send(h, most=60_000)]
    assert main(["download", server.url, str(tmp_path / "tiny.tar")]) == 0  # URL first, as many type it
    out = capsys.readouterr().out
    assert hashlib.sha256(server.data).hexdigest() in out
    assert (
        main(["extract", str(tmp_path / "tiny.tar"), str(tmp_path / "out"), "--train-size", "10", "--workers", "1"])
        == 0
    )
    extract(sixty, tmp_path / "wanted", train_size=10, workers=1)
    assert contents(tmp_path / "out") == contents(tmp_path / "wanted")


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_download_continues_after_a_kill(server, tmp_path):
    server.play = [lambda h: server.send(h, most=200_000, stall=3), lambda h: server.send(h)]
    process = start(*COMMAND, "download", tmp_path, server.url, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    part, deadline = tmp_path / "data.tar.part", time.time() + 20
    while time.time() < deadline and not (part.exists() and part.stat().st_size == 200_000):
        time.sleep(0.02)
    process.kill()
    process.wait()
    check(server, download(tmp_path, server.url))
    assert ranges(server) == [None, "bytes=200000-"]
