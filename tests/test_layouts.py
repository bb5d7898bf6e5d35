"""Sources as people have them: every packing, plain folders, byte order marks, a folder too high, ids in two splits; and what has no business in an archive."""
import io, lzma, os, shutil, stat, struct, tarfile, zipfile, zlib

import orjson
import pyarrow
import pytest

from cadvlm.app.cli import main
from cadvlm.corpus.dataset import Dataset, failures
from cadvlm.corpus.source import TarSource, UrlSource, ZipSource, open_source
from cadvlm.errors import DatasetError
from cadvlm.files import parse_json
from cadvlm.stages.extract import extract
from cadvlm.cad.sequence import read, to_deepcad
from test_sources import BROKEN, IDS, corpus, memory, pack, part, reason  # noqa: F401 (fixtures)
from test_stages import contents

SIZES = dict(train_size=20, val_size=5, test_size=4, workers=1)


def zipped(folder, path, prefix="data", method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, f"{prefix}/{file.relative_to(folder)}")
    return path


def zstd(folder, path, prefix="data"):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.add(folder, prefix)
    with pyarrow.output_stream(str(path), compression="zstd") as file:
        file.write(out.getvalue())
    return path


PACKINGS = {"tiny.tar.xz": lambda f, p: pack(f, p, mode="w:xz"), "tiny.tar.zst": zstd, "tiny.zip": zipped, "stored.zip": lambda f, p: zipped(f, p, "a/b", zipfile.ZIP_STORED)}


@pytest.mark.parametrize("name", PACKINGS)
@pytest.mark.parametrize("order", ["official", "stratified"])
def test_every_packing_makes_the_same_bytes(corpus, tmp_path, name, order):
    extract(corpus, tmp_path / "folder", order=order, **SIZES)
    archive = PACKINGS[name](corpus, tmp_path / name.replace("stored", "tiny"))
    source = open_source(archive)
    assert source.name == "tiny" and type(source) is (ZipSource if archive.suffix == ".zip" else TarSource)
    extract(archive, tmp_path / "packed", order=order, **SIZES)
    assert contents(tmp_path / "packed") == contents(tmp_path / "folder") and extract(archive, tmp_path / "packed", order=order, **SIZES).done == 0


def test_a_zip_behind_a_url(corpus, tmp_path, memory):
    memory.put(str(zipped(corpus, tmp_path / "tiny.zip")), "/bucket/tiny.zip")
    extract("memory://bucket/tiny.zip", tmp_path / "far", **SIZES)
    extract(corpus, tmp_path / "here", **SIZES)
    assert contents(tmp_path / "far") == contents(tmp_path / "here")


@pytest.mark.parametrize("name", PACKINGS)
@pytest.mark.parametrize("cut", [5, 40, 700, 0.3, 0.77, -30, "garbage"])
def test_damaged_archives_say_so(corpus, tmp_path, name, cut):
    whole = PACKINGS[name](corpus, tmp_path / name).read_bytes()
    middle = len(whole) // 2
    data = whole[:middle] + os.urandom(999) + whole[middle + 999:] if cut == "garbage" else whole[:cut if isinstance(cut, int) else int(cut * len(whole))]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DatasetError) as caught:
        source = open_source(tmp_path / name)
        [source.read(i) for i in sorted(source.ids)]  # a zip archive is whole as far as its directory goes
    assert caught.value.reason in ("bad_archive", "missing_file", "missing_folder") and name in str(caught.value) and len(str(caught.value)) < 600


def entry(name="data/cad_json/0000/00000001.json", mode=stat.S_IFREG | 0o644, **about):
    made = zipfile.ZipInfo(name)
    made.external_attr, made.compress_type = mode << 16, zipfile.ZIP_DEFLATED
    for key, value in about.items():
        setattr(made, key, value)
    return made


def zip_of(path, *entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data/cad_json/0000/00000000.json", "{}")
        archive.writestr("data/train_val_test_split.json", '{"train": [], "validation": [], "test": []}')
        for made, data in entries:
            archive.writestr(made, data)
    return path


@pytest.mark.parametrize("made, data, expected", [
    (entry("../../cad_json/0000/00000001.json"), b"{}", "unsafe_name"), (entry("/etc/passwd"), b"{}", "unsafe_name"), (entry("C:/x.json"), b"{}", "unsafe_name"), (entry("data/a\\..\\..\\x.json"), b"{}", "unsafe_name"),
    (entry(mode=stat.S_IFLNK | 0o777), b"/etc/passwd", "unsafe_member"), (entry(mode=stat.S_IFIFO), b"", "unsafe_member"), (entry(mode=stat.S_IFCHR), b"", "unsafe_member"), (entry(), bytes(20_000_001), "too_large"),
])
def test_what_has_no_business_in_a_zip(made, data, expected, tmp_path, capsys):
    path = zip_of(tmp_path / "bad.zip", (made, data))
    assert reason(lambda: open_source(path).ids) == expected
    assert main(["extract", str(path), str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("cadvlm: ") and error.count("\n") == 1 and "bad.zip" in error and sorted(p.name for p in tmp_path.iterdir()) == ["bad.zip"]


def test_encrypted_and_odd_methods(tmp_path):
    data = bytearray(zip_of(tmp_path / "a.zip", (entry(), b"{}")).read_bytes())
    place = data.rfind(b"PK\1\2")
    data[place + 8] |= 1  # says that it is encrypted
    (tmp_path / "a.zip").write_bytes(data)
    assert reason(lambda: open_source(tmp_path / "a.zip").ids) == "unsafe_member"
    data[place + 8] &= 0xFE
    data[place + 10:place + 12] = struct.pack("<H", 97)  # a method that nobody knows
    (tmp_path / "a.zip").write_bytes(data)
    source = open_source(tmp_path / "a.zip")
    assert reason(source.read, "00000001") == "bad_archive" and source.read("00000000") == b"{}"


def test_bombs_are_refused(tmp_path, monkeypatch):
    members = [(entry(f"data/zeros{i}"), bytes(19_999_999)) for i in range(6)]
    assert reason(lambda: open_source(zip_of(tmp_path / "zeros.zip", *members)).ids) == "too_large"
    many = zip_of(tmp_path / "many.zip", *[(entry(f"data/{i}.txt"), b"") for i in range(9)])
    with monkeypatch.context() as patch:
        patch.setattr("cadvlm.corpus.source._MEMBERS", 9)
        assert reason(lambda: open_source(many).ids) == "too_many"
    data = bytearray(many.read_bytes())
    end = data.rfind(b"PK\5\6")
    data[end + 12:end + 16] = struct.pack("<I", 2**32 - 2)  # a directory of 4 GB, it says
    (tmp_path / "large.zip").write_bytes(data)
    assert reason(lambda: open_source(tmp_path / "large.zip").ids) == "too_large"


def test_overlapping_members_are_refused(tmp_path):
    "A hundred names for the same bytes: 1.9 GB from 20 kB."
    path = zip_of(tmp_path / "overlap.zip", (entry("data/zeros.bin"), bytes(19_000_000)))
    data = path.read_bytes()
    end, directory = data.rfind(b"PK\5\6"), data.find(b"PK\1\2")
    last = data[data.rfind(b"PK\1\2"):end]
    copies = b"".join(last.replace(b"zeros.bin", b"%09d" % i) for i in range(100))
    tail = bytearray(data[end:])
    tail[8:12] = struct.pack("<HH", 102, 102)
    tail[12:16] = struct.pack("<I", end - directory - len(last) + len(copies))
    path.write_bytes(data[:end - len(last)] + copies + tail)
    assert reason(lambda: open_source(path).ids) == "too_large"


@pytest.mark.parametrize("kind", ["xz", "zst"])
def test_packed_zeros_are_refused(tmp_path, kind):
    member = tarfile.TarInfo("data/zeros")
    member.size = 19_999_744
    block = member.tobuf() + bytes(member.size)
    path = tmp_path / f"zeros.tar.{kind}"
    with (lzma.open(path, "wb", preset=0) if kind == "xz" else pyarrow.output_stream(str(path), compression="zstd")) as file:
        for _ in range(12):
            file.write(block)
    assert reason(lambda: open_source(path).ids) == "too_large"


def test_dictionaries_of_gigabytes_are_refused(tmp_path):
    "An xz stream that wants 3 GB of memory, and a Zstandard frame with a window of 2 GB, around nothing."
    small = bytearray(lzma.compress(bytes(3000), format=lzma.FORMAT_XZ, filters=[dict(id=lzma.FILTER_LZMA2, preset=0)]))
    place = small.index(b"\x21\x01") + 2  # the size of the dictionary in the header of the block
    small[place] = 39
    header = small[12:12 + 4 * (small[12] + 1)]
    small[12 + len(header) - 4:12 + len(header)] = struct.pack("<I", zlib.crc32(bytes(small[12:12 + len(header) - 4])))
    (tmp_path / "a.tar.xz").write_bytes(small)
    (tmp_path / "a.tar.zst").write_bytes(b"\x28\xb5\x2f\xfd\0" + bytes([21 << 3]) + struct.pack("<I", 1 | 2000 << 3)[:3] + bytes(2000))
    for name in ("a.tar.xz", "a.tar.zst"):
        with pytest.raises(DatasetError) as caught:
            open_source(tmp_path / name).ids
        assert caught.value.reason == "bad_archive" and "emory" in str(caught.value), caught.value


def test_xz_in_several_streams(corpus, tmp_path):
    "As parallel packers write it, and with the padding that the format allows."
    whole = pack(corpus, tmp_path / "a.tar").read_bytes()
    half = len(whole) // 2
    (tmp_path / "a.tar.xz").write_bytes(lzma.compress(whole[:half]) + bytes(8) + lzma.compress(whole[half:]) + bytes(4))
    assert open_source(tmp_path / "a.tar.xz").ids == open_source(corpus).ids


# --- plain folders

def lay(folder, kind, n=12, split=False):
    for i, id in enumerate(IDS[:n]):
        path = folder / dict(flat=f"{id}.json", sharded=f"{id[:4]}/{id}.json", own_folders=f"{id}/{id}.json")[kind]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(orjson.dumps(to_deepcad(part(i))))
    (folder / "readme.txt").write_text("mine")
    if split:
        (folder / "train_val_test_split.json").write_bytes(orjson.dumps(dict(train=IDS[:6], validation=IDS[6:8], test=IDS[8:n])))
    return folder


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("kind", ["flat", "sharded", "own_folders"])
def test_plain_folders_are_read_as_they_are(tmp_path, memory, kind, split):
    folder = lay(tmp_path / "mine", kind, split=split)
    wanted = dict(train=IDS[:6], validation=IDS[6:8], test=IDS[8:12]) if split else dict(train=sorted(IDS[:12]), validation=[], test=[])
    memory.put(str(folder), "/bucket/mine", recursive=True)
    sources = [folder, pack(folder, tmp_path / "mine.tar", "mine"), pack(folder, tmp_path / "mine.tgz", ".", "w:gz"), zipped(folder, tmp_path / "mine.zip", "x/y"), "memory://bucket/mine"]
    assert type(open_source(sources[-1])) is UrlSource
    for k, source in enumerate(sources):
        opened = open_source(source)
        assert (opened.layout.name, opened.split, opened.others) == (kind, wanted, 0), source
        extract(source, tmp_path / f"out{k}", workers=1)
        assert contents(tmp_path / f"out{k}") == contents(tmp_path / "out0")
        assert Dataset(tmp_path / f"out{k}").split == wanted
    assert reason(extract, folder, folder / "out") == "bad_output"


def test_the_layout_that_fits_most_counts(tmp_path):
    folder = lay(tmp_path / "mine", "sharded")
    (folder / "notes.json").write_text("{}")
    assert open_source(folder).layout.name == "sharded" and len(open_source(folder).ids) == 12
    assert open_source(pack(folder, tmp_path / "mine.tar", "mine")).layout.name == "sharded"
    for d in ("one", "two"):
        lay(tmp_path / "both" / d, "flat")
    assert reason(lambda: open_source(pack(tmp_path / "both", tmp_path / "both.tar", "both")).ids) == "bad_archive"


@pytest.mark.parametrize("name", ["tiny", "tiny.tar.gz", "tiny.zip", "mine"])
def test_the_folder_above_says_which_is_right(corpus, tmp_path, memory, name):
    above = tmp_path / "above"
    above.mkdir()
    if name == "tiny":
        shutil.copytree(corpus, above / "tiny")
    elif name == "mine":
        lay(above / "mine", "flat")
    else:
        (zipped if name.endswith("zip") else pack)(corpus, above / name)
    (above / "notes.txt").write_text("")
    for place in (above, f"{above}/"):
        with pytest.raises(DatasetError) as caught:
            open_source(place)
        assert f"give {above}/{name}," in caught.value.message
    memory.put(str(above), "/bucket/above", recursive=True)
    with pytest.raises(DatasetError) as caught:
        open_source("memory://bucket/above")
    assert f"give memory://bucket/above/{name}," in caught.value.message


def test_of_several_the_official_one_is_named(corpus, tmp_path):
    lay(tmp_path / "above/cases", "flat")
    shutil.copytree(corpus, tmp_path / "above/tiny")
    pack(corpus, tmp_path / "above/again.tar")
    with pytest.raises(DatasetError, match="above/tiny, which looks like a source"):
        open_source(tmp_path / "above")


# --- byte order marks and splits

def test_byte_order_marks(corpus, tmp_path):
    source = shutil.copytree(corpus, tmp_path / "tiny")
    for path in [*source.glob("cad_json/0000/*.json"), source / "train_val_test_split.json"]:
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    extract(corpus, tmp_path / "without", **SIZES)
    for k, place in enumerate((source, pack(source, tmp_path / "tiny.tar"), zipped(source, tmp_path / "tiny.zip"))):
        extract(place, tmp_path / f"out{k}", **SIZES)
        marked, plain = Dataset(tmp_path / f"out{k}"), Dataset(tmp_path / "without")
        assert marked.split == plain.split and failures(marked, "extract")[0]["id"] == BROKEN
        assert marked.json_path(IDS[0]).read_bytes() == source.joinpath(f"cad_json/0000/{IDS[0]}.json").read_bytes()
        assert read(marked.json_path(IDS[0])) == read(plain.json_path(IDS[0]))
    (tmp_path / "mine.yaml").write_bytes(b"\xef\xbb\xbfextract: {train_size: 3, workers: 1}")
    assert main(["extract", str(source), str(tmp_path / "out"), "--config", str(tmp_path / "mine.yaml")]) == 0 and len(Dataset(tmp_path / "out").split["train"]) == 3
    assert parse_json(b"\xef\xbb\xbf[1]") == [1] == parse_json(b"[1]")


@pytest.mark.parametrize("order", ["official", "random", "stratified"])
def test_ids_in_two_splits_are_said(corpus, tmp_path, order):
    source = shutil.copytree(corpus, tmp_path / "tiny")
    both = dict(train=IDS[10:40] + IDS[10:12], validation=IDS[38:45], test=IDS[44:50] + IDS[10:11])
    (source / "train_val_test_split.json").write_bytes(orjson.dumps(both))
    summary = extract(source, tmp_path / "out", train_size=99, val_size=99, test_size=99, order=order, workers=1)
    dataset = Dataset(tmp_path / "out")
    assert {s: set(ids) for s, ids in dataset.split.items()} == dict(train=set(IDS[11:38]), validation=set(IDS[38:44]), test={*IDS[44:50], IDS[10]})
    assert any("4 ids stand in two splits" in n and "test wins, then validation" in n for n in summary.notes)
    assert dataset.metadata("extract")["in_two_splits"] == 4 and (dataset.path / "logs/in_two_splits.txt").read_text().split() == sorted({IDS[10], IDS[38], IDS[39], IDS[44]})
    extract(corpus, tmp_path / "other", workers=1)
    assert Dataset(tmp_path / "other").metadata("extract")["in_two_splits"] == 0
