"""Where parts come from: folders, archives, URLs, downloads; and in which order they are taken."""
import gzip, hashlib, io, os, shutil, subprocess, sys, tarfile, threading, time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import orjson
import pytest

import cadvlm.stages.download
from cadvlm.app.cli import main
from cadvlm.corpus.dataset import Dataset, failures
from cadvlm.corpus.source import FolderSource, TarSource, UrlSource, open_source
from cadvlm.files import read_json
from cadvlm.stages.download import download
from cadvlm.stages.extract import extract, shuffled, stratum
from cadvlm.text.vectors import from_vectors, save_vectors, to_vectors
from cadvlm.cad.sequence import Arc, CadSequence, Circle, Extrude, Line, Loop, Operation, Plane, Profile, Sketch, read
from cadvlm.errors import CadError
from cadvlm.cad.sequence import to_deepcad
from cadvlm.synth.histories import part as synthetic
from cadvlm.stages.synthesize import synthesize
from test_stages import contents

IDS = [f"{i // 20:04}{i:04}" for i in range(60)]
BROKEN = IDS[4]


def loop(kind, r):
    if kind == "circle":
        return Loop((Circle((0.0, 0.0), r),))
    corners = [(0.0, 0.0), (r, 0.0), (r, r), (0.0, r)]
    lines = [Line(a, b) for a, b in zip(corners, corners[1:] + corners[:1])]
    return Loop((*lines[:-1], Arc.through(corners[3], (-r / 9, r / 2), corners[0]))) if kind == "arc" else Loop(tuple(lines))


def part(i):
    "One to five extrudes of lines, of lines and an arc, or of circles."
    kind = ("line", "line", "line", "arc", "circle")[i % 5]
    first = Extrude(Sketch(Plane(), (Profile(loop(kind, 0.01 + 0.001 * i)),)), 0.01)
    more = Extrude(Sketch(Plane(), (Profile(loop("line", 0.005)),)), 0.02, Operation.JOIN)
    return CadSequence((first, *[more] * (i % 7 // 2)))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    "Sixty parts in three folders; one file is broken, one has no split, one id has no file."
    folder = tmp_path_factory.mktemp("corpus") / "tiny"
    for i, id in enumerate(IDS):
        path = folder / f"cad_json/{id[:4]}/{id}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"{" if id == BROKEN else orjson.dumps(to_deepcad(part(i))))
    names = [f"{i[:4]}/{i}" for i in IDS]
    split = dict(train=["0077/00770000", *names[:45]], validation=names[45:50], test=names[50:59])
    (folder / "train_val_test_split.json").write_bytes(orjson.dumps(split))
    return folder


def pack(folder, path, prefix="data", mode="w"):
    with tarfile.open(path, mode) as archive:
        archive.add(folder, prefix)
    return path


def reason(function, *args, **kwargs):
    with pytest.raises(CadError) as caught:
        function(*args, **kwargs)
    return caught.value.reason


# --- folders, archives, URLs

@pytest.mark.parametrize("order", ["official", "random", "stratified"])
def test_folder_tar_and_gzip_make_the_same_bytes(corpus, tmp_path, order):
    sizes = dict(train_size=20, val_size=9, test_size=4, order=order, seed=3, workers=1)
    extract(corpus, tmp_path / "folder", **sizes)
    wanted = contents(tmp_path / "folder")
    for k, (prefix, name, mode) in enumerate([("data", "tiny.tar", "w"), ("a/b", "tiny.tar.gz", "w:gz"), (".", "tiny.tgz", "w:gz"), ("", "tiny.tar", "w")]):
        (tmp_path / str(k)).mkdir()
        archive = pack(corpus, tmp_path / str(k) / name, prefix, mode)
        extract(archive, tmp_path / f"out{k}", **sizes)
        assert contents(tmp_path / f"out{k}") == wanted, name
        assert sorted(p.name for p in archive.parent.iterdir()) == [name]
    assert len(wanted) == 20 + 5 + 4 + 3


def test_two_workers_read_an_archive(tmp_path, monkeypatch):
    monkeypatch.setattr("cadvlm.stages.extract._FEW", 10)
    synthesize(tmp_path / "corpus", 90, workers=1)
    archive = pack(tmp_path / "corpus", tmp_path / "corpus.tar")
    extract(archive, tmp_path / "two", train_size=80, workers=2)
    extract(tmp_path / "corpus", tmp_path / "one", train_size=80, workers=1)
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


def test_the_index_of_an_archive_is_kept_while_it_is_the_same(corpus, tmp_path, monkeypatch):
    archive = pack(corpus, tmp_path / "tiny.tar")
    extract(archive, tmp_path / "out", train_size=5, workers=1)
    assert (tmp_path / "out/logs/source_index.json").is_file() and extract(archive, tmp_path / "out", train_size=5, workers=1).done == 0
    with monkeypatch.context() as patch:
        patch.setattr("cadvlm.corpus.source.scan", lambda *a: pytest.fail("read again"))
        assert extract(archive, tmp_path / "out", train_size=8, workers=1).done == 3
    changed = shutil.copytree(corpus, tmp_path / "changed")
    (changed / f"cad_json/0000/{IDS[0]}.json").write_bytes(orjson.dumps(to_deepcad(part(33))))
    pack(changed, archive)
    assert extract(archive, tmp_path / "out", train_size=8, workers=1).done >= 1
    assert (tmp_path / f"out/cad_json/0000/{IDS[0]}.json").read_bytes() == (changed / f"cad_json/0000/{IDS[0]}.json").read_bytes()
    (tmp_path / "out/logs/source_index.json").write_text('{"archive": [')
    assert extract(archive, tmp_path / "out", train_size=8, workers=1).done == 0


def archive_of(path, name="data/cad_json/0000/00000001.json", data=b"{}", then=(), **about):
    "An archive of one odd member between ordinary ones."
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for n, d in (("data/cad_json/0000/00000000.json", b"{}"), ("data/train_val_test_split.json", b'{"train": [], "validation": [], "test": []}')):
            member = tarfile.TarInfo(n)
            member.size = len(d)
            archive.addfile(member, io.BytesIO(d))
        member = tarfile.TarInfo(name)
        member.size = len(data)
        for k, v in about.items():
            setattr(member, k, v)
        archive.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize("name, about, expected", [
    ("../../cad_json/0000/00000001.json", {}, "unsafe_name"), ("data/../../x", {}, "unsafe_name"), ("/etc/passwd", {}, "unsafe_name"),
    ("C:/x.json", {}, "unsafe_name"), ("data\\..\\x.json", {}, "unsafe_name"),
    ("data/x.json", dict(type=tarfile.SYMTYPE, linkname="/etc/passwd"), "unsafe_member"), ("data/x", dict(type=tarfile.LNKTYPE, linkname="data/y"), "unsafe_member"),
    ("data/x", dict(type=tarfile.CHRTYPE), "unsafe_member"), ("data/x", dict(type=tarfile.BLKTYPE), "unsafe_member"), ("data/x", dict(type=tarfile.FIFOTYPE), "unsafe_member"),
    ("data/x.json", dict(data=bytes(20_000_001)), "too_large"),
])
def test_what_has_no_business_in_an_archive(name, about, expected, tmp_path, capsys):
    path = archive_of(tmp_path / "bad.tar", name, **about)
    assert reason(lambda: open_source(path).ids) == expected
    assert main(["extract", str(path), str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("cadvlm: ") and error.count("\n") == 1 and "bad.tar" in error and sorted(p.name for p in tmp_path.iterdir()) == ["bad.tar"]


def test_bombs_are_refused(tmp_path, monkeypatch):
    member = tarfile.TarInfo("data/zeros")
    member.size = 19_999_744
    block = member.tobuf() + bytes(member.size)
    with gzip.open(tmp_path / "zeros.tar.gz", "wb", compresslevel=6) as f:
        for _ in range(12):
            f.write(block)
    assert reason(lambda: open_source(tmp_path / "zeros.tar.gz").ids) == "too_large"
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 8 * 2**30  # a header that claims 8 GB
    with gzip.open(tmp_path / "header.tar.gz", "wb") as f:
        f.write(header.tobuf(tarfile.GNU_FORMAT) + bytes(10_000))
    assert reason(lambda: open_source(tmp_path / "header.tar.gz").ids) == "too_large"
    monkeypatch.setattr("cadvlm.corpus.source._MEMBERS", 2)
    assert reason(lambda: open_source(archive_of(tmp_path / "many.tar")).ids) == "too_many"


def test_members_that_lead_back_do_not_hang(tmp_path):
    path = archive_of(tmp_path / "back.tar")
    data = bytearray(path.read_bytes())
    place = data.rfind(b"data/cad_json/0000/00000001.json")
    data[place + 124:place + 136] = b"\xff" * 12  # a size of -1 in base 256
    data[place + 148:place + 156] = b" " * 8
    data[place + 148:place + 156] = b"%06o\0 " % sum(data[place:place + 512])
    path.write_bytes(data)
    assert reason(lambda: open_source(path).ids) in ("bad_archive", "too_large")


@pytest.mark.parametrize("cut", [0, 1, 511, 512, 700, 0.3, 0.5, 0.77, "end", "garbage"])
@pytest.mark.parametrize("zipped", [False, True], ids=["tar", "gz"])
def test_truncated_archives_say_so(corpus, tmp_path, cut, zipped):
    whole = pack(corpus, tmp_path / "whole.tar", mode="w:gz" if zipped else "w").read_bytes()
    if cut == "end":
        whole = whole[:-9] if zipped else whole.rstrip(b"\0")
    elif cut == "garbage":
        whole = whole[:3000] + os.urandom(2000) + whole[5000:]
    else:
        whole = whole[:cut if isinstance(cut, int) else int(cut * len(whole))]
    (tmp_path / "cut.tar").write_bytes(whole)
    with pytest.raises(CadError) as caught:
        open_source(tmp_path / "cut.tar").ids
    assert caught.value.reason == "bad_archive" and "cut.tar" in str(caught.value) and ("members" in str(caught.value) or "expected a tar archive" in str(caught.value))


def test_archives_of_something_else(corpus, tmp_path):
    (tmp_path / "a.tar").write_bytes(b"PK\3\4" * 1000)
    assert reason(lambda: open_source(tmp_path / "a.tar").ids) == "bad_archive"
    pack(corpus / "cad_json", tmp_path / "b.tar", "cad_json")
    assert reason(lambda: open_source(tmp_path / "b.tar").ids) == "missing_file"
    with tarfile.open(tmp_path / "c.tar", "w") as archive:
        archive.add(corpus, "one")
        archive.add(corpus, "two")
    assert reason(lambda: open_source(tmp_path / "c.tar").ids) == "bad_archive"
    os.mkfifo(tmp_path / "pipe") if hasattr(os, "mkfifo") else None
    assert reason(open_source, tmp_path / "pipe") == "missing_folder"


def test_odd_files_in_a_folder_are_failures_or_passed_over(corpus, tmp_path):
    source = shutil.copytree(corpus, tmp_path / "source")
    for name, make in ((IDS[0], lambda p: p.symlink_to("nowhere")), (IDS[1], Path.mkdir), (IDS[2], os.mkfifo)):
        path = source / f"cad_json/0000/{name}.json"
        path.unlink()
        make(path)
    (source / "cad_json/0000/two words.json").write_text("{}")
    (source / f"cad_json/0000/{IDS[50]}.json").write_text("{}")  # on the wrong shard_path
    summary = extract(source, tmp_path / "out", train_size=10, val_size=0, test_size=0, workers=1)
    assert [r["id"] for r in failures(Dataset(tmp_path / "out"))] == [IDS[0], IDS[1], IDS[2], BROKEN] and len(Dataset(tmp_path / "out").ids) == 10
    assert any("2 JSON files were passed over" in n for n in summary.notes)


@pytest.fixture
def memory():
    fsspec = pytest.importorskip("fsspec")
    store = fsspec.filesystem("memory")
    store.rm("/", recursive=True) if store.ls("/") else None
    yield store
    store.rm("/", recursive=True) if store.ls("/") else None


def test_sources_behind_a_url(corpus, tmp_path, memory):
    sizes = dict(train_size=20, val_size=5, test_size=4, order="random", workers=1)
    extract(corpus, tmp_path / "here", **sizes)
    memory.put(str(corpus), "/bucket/tiny", recursive=True)
    for name, mode in (("tiny.tar", "w"), ("tiny.tar.gz", "w:gz")):
        memory.put(str(pack(corpus, tmp_path / name, mode=mode)), f"/bucket/{name}")
    for name, kind in (("tiny", UrlSource), ("tiny/", UrlSource), ("tiny.tar", TarSource), ("tiny.tar.gz", TarSource)):
        url, out = f"memory://bucket/{name}", tmp_path / f"out_{name.strip('/')}" / "out"
        assert type(open_source(url)) is kind
        if kind is UrlSource:
            assert main(["extract", url, str(out), "--train-size", "20", "--val-size", "5", "--test-size", "4", "--order", "random", "--workers", "1"]) == 0
        else:
            extract(url, out, **sizes)
        assert contents(out) == contents(tmp_path / "here") and extract(url, out, **sizes).done == 0, name
    memory.pipe(f"/bucket/tiny/cad_json/0000/{IDS[0]}.json", orjson.dumps(to_deepcad(part(31))))
    extract("memory://bucket/tiny", out, train_size=60, workers=1)
    assert Dataset(out).json_path(IDS[0]).read_bytes() == memory.cat(f"/bucket/tiny/cad_json/0000/{IDS[0]}.json")
    assert type(open_source(f"file://{corpus}")) is FolderSource


def test_urls_that_lead_nowhere(memory, tmp_path, capsys, monkeypatch):
    for url, words in (("memory://none", "expected a folder"), ("nosuch://x", "nosuch")):
        assert main(["extract", url, str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err
        assert error.startswith("cadvlm: ") and error.count("\n") == 1 and words in error
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    assert main(["extract", "s3://me:secret@bucket/deepcad?token=secret", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "cadvlm[cluster]" in error and "secret" not in error and not (tmp_path / "out").exists()


def test_datasets_are_written_to_folders(corpus, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in (["extract", str(corpus), "s3://me:secret@bucket/out"], ["synthesize", "memory://bucket/out"], ["run", str(corpus), "memory://bucket/out"], ["render", "memory://bucket/out"]):
        assert main([*command, "--workers", "1"]) == 2
        error = capsys.readouterr().err
        assert error.startswith("cadvlm: ") and error.count("\n") == 1 and "://" in error and "expected a folder, found a URL" in error and "secret" not in error, error
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


def test_fusion_360_gallery(shared, tmp_path):
    names = sorted(p.stem for p in (shared / "fusion360").glob("*.json"))
    folder = gallery(shared, tmp_path / "r1.0.1", dict(train=names[:10] + ["20203_7e31e92a_0000"], test=names[10:]))
    source = open_source(folder)
    assert source.split["test"] == names[10:] and sorted(source.split["train"] + source.split["validation"]) == sorted([*names[:10], "20203_7e31e92a_0000"])
    out = tmp_path / "out"
    summary = extract(folder, out, workers=1)
    dataset = Dataset(out)
    assert set(dataset.split["test"]) <= set(names[10:]) and len(dataset.ids) + summary.failed == 15 and len(dataset.ids) >= 12
    assert all(dataset.json_path(i).read_bytes() == (shared / f"fusion360/{i}.json").read_bytes() for i in dataset.ids)
    assert dataset.metadata("extract")["source"]["layout"] == "fusion360" and dataset.metadata("extract")["missing_files"] == 1
    extract(pack(folder, tmp_path / "r1.0.1.tar.gz", "r1.0.1", "w:gz"), tmp_path / "packed", workers=1)
    assert contents(tmp_path / "packed") == contents(out)
    assert "folder above" in str(pytest.raises(CadError, open_source, folder / "reconstruction").value)


def test_a_flat_folder_is_all_training(shared, tmp_path):
    out = tmp_path / "out"
    assert main(["extract", str(shared / "fusion360"), str(out)]) == 0
    assert main(["render", str(out), "--workers", "1", "--views", "front", "--size", "64"]) == 0 and main(["convert", str(out), "--workers", "1"]) == 0
    dataset = Dataset(out)
    assert len(dataset.split["train"]) >= 12 and not dataset.split["validation"] and not dataset.split["test"]
    samples = read_json(out / "train.json")
    assert len(samples) >= 12 and all((out / s["image"]).is_file() and s["id"].rpartition("_")[0] in dataset.ids for s in samples)
    assert reason(extract, shared / "fusion360", shared / "fusion360/out") == "bad_output"


# --- orders

def test_official_is_the_beginning_of_the_split(corpus, tmp_path):
    extract(corpus, tmp_path / "out", train_size=10, val_size=2, test_size=3, workers=1)
    assert Dataset(tmp_path / "out").split == dict(train=[i for i in IDS[:11] if i != BROKEN], validation=IDS[45:47], test=IDS[50:53])
    info = Dataset(tmp_path / "out").metadata("extract")
    assert info["order"] == "official" and info["seed"] is None and info["source"]["name"] == "tiny"


def test_random_is_a_beginning_of_the_same_order(corpus, tmp_path):
    def taken(n, seed, source=corpus):
        extract(source, tmp_path / "out", train_size=n, val_size=0, test_size=2, order="random", seed=seed, workers=1)
        return Dataset(tmp_path / "out").split
    ten, thirty = taken(10, 0), taken(30, 0)
    assert thirty["train"][:10] == ten["train"] and set(ten["train"]) < set(IDS[:45]) and set(ten["test"]) < set(IDS[50:59])
    assert taken(10, 1)["train"] != ten["train"] and taken(10, 0) == ten
    fewer = shutil.copytree(corpus, tmp_path / "fewer")
    (fewer / f"cad_json/{ten['train'][3][:4]}/{ten['train'][3]}.json").unlink()
    assert taken(9, 0, fewer)["train"] == ten["train"][:3] + ten["train"][4:]
    assert shuffled(IDS, 7) == shuffled(IDS[::-1], 7)


def test_stratified_has_the_proportions_of_the_split(corpus, tmp_path, monkeypatch):
    def taken(**kwargs):
        extract(corpus, tmp_path / "out", **dict(train_size=12, val_size=2, test_size=4, order="stratified", workers=1) | kwargs)
        return Dataset(tmp_path / "out")
    dataset = taken()
    good = [i for i in IDS[:45] if i != BROKEN]
    kinds = dict(zip(IDS, (stratum(dict(extrudes=len(part(i).extrudes), curves=Counter(type(c).__name__ for c in part(i).curves))) for i in range(60))))
    everything, here = Counter(kinds[i] for i in good), Counter(kinds[i] for i in dataset.split["train"])
    assert len(everything) >= 8 and sum(here.values()) == 12 and all(abs(here[k] - 12 * n / 44) < 1 for k, n in everything.items())
    assert dataset.metadata("extract")["strata"]["train"] == {k: [everything[k], here[k]] for k in sorted(everything)}
    assert [(r["id"], r["reason"]) for r in failures(dataset)] == [(BROKEN, "not_json")]
    with monkeypatch.context() as patch:
        patch.setattr("cadvlm.stages.extract._survey_one", None)  # the survey is kept
        patch.setattr("cadvlm.stages.extract._each", lambda function, source, ids, *rest, each=cadvlm.stages.extract._each: each(function, source, ids, *rest) if ids and "extract" in rest else None)
        again = taken(seed=1).split
    assert again["train"] != taken(seed=0).split["train"] and set(again["test"]) <= set(IDS[50:59])
    assert sorted(taken(train_size=100).split["train"]) == good


def test_orders_on_the_command_line(corpus, tmp_path, capsys):
    assert main(["extract", str(corpus), str(tmp_path / "out"), "--order", "alphabetical"]) == 2 and "stratified" in capsys.readouterr().err
    assert main(["run", str(corpus), str(tmp_path / "out"), "--order", "stratified", "--train-size", "4", "--val-size", "1", "--test-size", "1", "--size", "64", "--workers", "1", "--seed", "5"]) == 0
    assert Dataset(tmp_path / "out").metadata("extract")["seed"] == 5 and len(Dataset(tmp_path / "out").ids) == 6


# --- download

class Server:
    "A loopback server that behaves as told: `play` holds a function for each request, the last one for all that follow."
    def __init__(self):
        self.data, self.etag, self.asked, self.play = os.urandom(150_000) * 2, '"v1"', [], [lambda h: self.send(h)]
        outer = self
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked.append(dict(self.headers))
                self.close_connection = True
                (outer.play.pop(0) if len(outer.play) > 1 else outer.play[0])(self)
            def log_message(self, *_): pass
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/cg/data.tar"
        threading.Thread(target=self.server.serve_forever, kwargs=dict(poll_interval=0.02), daemon=True).start()

    def send(self, handler, most=None, ranges=True, length=True, etag=True, stall=0):
        "The file, or the part of it that is asked for; only the first `most` bytes of that."
        wanted, known = handler.headers.get("Range"), handler.headers.get("If-Range")
        first = int(wanted[6:-1]) if wanted and ranges and known == self.etag else 0
        if first >= len(self.data):
            return handler.send_error(416)
        handler.send_response(206 if first else 200)
        for name, value in (("ETag", etag and self.etag), ("Content-Length", length and str(len(self.data) - first)), ("Content-Range", first and f"bytes {first}-{len(self.data) - 1}/{len(self.data)}")):
            if value:
                handler.send_header(name, value)
        handler.end_headers()
        try:
            handler.wfile.write(self.data[first:][:most])
        except ConnectionError:
            pass
        time.sleep(stall)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(cadvlm.stages.download, "_PAUSE", 0.001)
    server = Server()
    yield server
    server.server.shutdown()
    server.server.server_close()


def ranges(server):
    return [a.get("Range") for a in server.asked]


def check(server, got):
    assert got.path.read_bytes() == server.data and got.sha256 == hashlib.sha256(server.data).hexdigest()
    assert sorted(p.name for p in got.path.parent.iterdir()) == ["data.tar", "data.tar.sha256"]
    assert (got.path.parent / "data.tar.sha256").read_text() == f"{got.sha256}  data.tar\n"


def test_a_line_that_breaks_again_and_again(server, tmp_path):
    server.play = [lambda h: server.send(h, most=25_000)]
    check(server, download(tmp_path, server.url))
    assert ranges(server) == [None] + [f"bytes={k}-" for k in range(25_000, 300_000, 25_000)]
    assert all(a["If-Range"] == '"v1"' for a in server.asked[1:])


def test_a_server_that_falls_silent(server, tmp_path):
    server.play = [lambda h: server.send(h, most=90_000, stall=1.5), lambda h: server.send(h)]
    check(server, download(tmp_path, server.url, timeout=0.3))
    assert ranges(server) == [None, "bytes=90000-"]


def test_a_server_without_ranges_begins_again(server, tmp_path):
    server.play = [lambda h: server.send(h, most=100_000), lambda h: server.send(h, ranges=False)]
    check(server, download(tmp_path, server.url))


def test_a_file_without_a_version_is_never_pieced_together(server, tmp_path):
    server.play = [lambda h: server.send(h, most=100_000, etag=False), lambda h: server.send(h, etag=False)]
    check(server, download(tmp_path, server.url))
    assert ranges(server) == [None, None]


def test_a_file_that_changes_in_between(server, tmp_path):
    old = server.data
    def change(handler):
        server.data, server.etag = os.urandom(300_000), '"v2"'
        server.send(handler)
    server.play = [lambda h: server.send(h, most=100_000), change]
    got = download(tmp_path, server.url)
    check(server, got)
    assert got.path.read_bytes() != old and ranges(server) == [None, "bytes=100000-"]


def test_a_server_that_sends_the_rest_of_another_file(server, tmp_path):
    def lie(handler):
        server.etag, server.data = '"v2"', os.urandom(300_000)
        handler.headers.replace_header("If-Range", '"v2"')
        server.send(handler)
    server.play = [lambda h: server.send(h, most=100_000), lie, lambda h: server.send(h)]
    check(server, download(tmp_path, server.url))
    assert ranges(server) == [None, "bytes=100000-", None]


def test_without_a_length(server, tmp_path):
    server.play = [lambda h: server.send(h, length=False)]
    check(server, download(tmp_path, server.url))


def test_status_codes(server, tmp_path, capsys):
    busy = lambda h: h.send_error(503)
    server.play = [busy, lambda h: server.send(h, most=9), lambda h: h.send_error(500), lambda h: server.send(h)]
    check(server, download(tmp_path, server.url))
    for code, words in ((404, "check the URL"), (403, "browser"), (500, "try later")):
        server.play, server.asked = [lambda h: h.send_error(code)], []
        assert main(["download", str(tmp_path / "other.tar"), server.url, "--tries", "2"]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and words in error and str(code) in error and len(server.asked) == (2 if code == 500 else 1)
    assert not (tmp_path / "other.tar").exists()


def test_redirects(server, tmp_path):
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


def test_the_next_run_goes_on(server, tmp_path):
    server.play = [lambda h: server.send(h, most=120_000), lambda h: h.send_error(404)]
    assert reason(download, tmp_path, server.url) == "bad_status" and (tmp_path / "data.tar.part").stat().st_size == 120_000
    server.play, server.asked = [lambda h: server.send(h)], []
    got = download(tmp_path, server.url)
    check(server, got)
    assert ranges(server) == ["bytes=120000-"] and got.fetched == 180_000


def test_a_run_killed_before_the_last_step(server, tmp_path):
    (tmp_path / "data.tar.part").write_bytes(server.data)
    (tmp_path / "data.tar.part.json").write_bytes(orjson.dumps(dict(url=server.url, size=len(server.data), etag=server.etag, date="")))
    check(server, download(tmp_path, server.url))


def test_checksums(server, tmp_path, capsys):
    good = hashlib.sha256(server.data).hexdigest()
    assert reason(download, tmp_path, server.url, sha256="0" * 64) == "wrong_checksum" and not list(tmp_path.iterdir())
    check(server, download(tmp_path, server.url, sha256=good.upper()))
    server.asked.clear()
    assert download(tmp_path, server.url).fetched == 0 and download(tmp_path, server.url, sha256=good).fetched == 0 and not server.asked
    assert reason(download, tmp_path, server.url, sha256="0" * 64) == "exists"
    (tmp_path / "data.tar").write_bytes(b"mine")
    assert reason(download, tmp_path, server.url) == "exists" and (tmp_path / "data.tar").read_bytes() == b"mine"
    assert main(["download", str(tmp_path / "x.tar"), server.url, "--sha256", "abc"]) == 2 and "64 hexadecimal" in capsys.readouterr().err


def test_a_full_disk(server, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000))
        assert reason(download, tmp_path, server.url) == "disk_full"
    check(server, download(tmp_path, server.url))


def test_mistakes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cadvlm.stages.download, "_PAUSE", 0.001)
    for url in ("ftp://host/data.tar", "file:///etc/passwd", "http://"):
        assert main(["download", str(tmp_path), url]) == 2 and "http" in capsys.readouterr().err
    assert main(["download", str(tmp_path), "http://127.0.0.1:9/data.tar", "--tries", "2"]) == 2
    error = capsys.readouterr().err
    assert "check the network" in error and error.count("\n") == 1 and not list(tmp_path.iterdir())


def test_download_then_extract(server, corpus, tmp_path, capsys):
    server.data = pack(corpus, tmp_path / "served.tar").read_bytes()
    server.play = [lambda h: server.send(h, most=60_000)]
    assert main(["download", server.url, str(tmp_path / "tiny.tar")]) == 0  # URL first, as many type it
    out = capsys.readouterr().out
    assert hashlib.sha256(server.data).hexdigest() in out
    assert main(["extract", str(tmp_path / "tiny.tar"), str(tmp_path / "out"), "--train-size", "10", "--workers", "1"]) == 0
    extract(corpus, tmp_path / "wanted", train_size=10, workers=1)
    assert contents(tmp_path / "out") == contents(tmp_path / "wanted")


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_killed_download_goes_on(server, tmp_path):
    server.play = [lambda h: server.send(h, most=200_000, stall=3), lambda h: server.send(h)]
    process = subprocess.Popen([Path(sys.executable).with_name("cadvlm"), "download", tmp_path, server.url], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    part, deadline = tmp_path / "data.tar.part", time.time() + 20
    while time.time() < deadline and not (part.exists() and part.stat().st_size == 200_000):
        time.sleep(0.02)
    process.kill()
    process.wait()
    check(server, download(tmp_path, server.url))
    assert ranges(server) == [None, "bytes=200000-"]


# --- tables without JSON


@pytest.mark.parametrize("form", ["cad_vec", "shelves", "flat", "predictions"])
def test_a_folder_of_tables_is_a_source(form, tmp_path):
    "What is extracted is what the tables say; a bad table is a failure, and a second run does nothing."
    place = {"cad_vec": "cad_vec/0000/{}.h5", "shelves": "0000/{}.h5", "flat": "{}.h5",
             "predictions": "{}_vec.h5"}[form]
    tables = {f"{i:08}": to_vectors(synthetic(0, i), limits=False) for i in range(5)}
    for id, rows in tables.items():
        path = tmp_path / "source" / place.format(id)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_vectors(rows, path)
    (path.parent / "00000009.h5").write_text("no table")
    done = extract(tmp_path / "source", tmp_path / "out", train_size=9, val_size=0, test_size=0, workers=1)
    assert (done.done, done.failures) == (5, {"bad_rows": 1})
    for id, rows in tables.items():
        assert read(tmp_path / "out" / "cad_json" / "0000" / f"{id}.json") == from_vectors(rows)
    again = extract(tmp_path / "source", tmp_path / "out", train_size=9, val_size=0, test_size=0, workers=1)
    assert (again.done, again.reused) == (0, 5)


def test_a_folder_with_json_beside_tables_is_one_of_json(shared):
    source = open_source(shared / "deepcad")
    assert source.layout.name == "deepcad" and len(source.ids) > 800
    assert open_source(shared / "deepcad" / "cad_vec").layout.name == "vectors"
