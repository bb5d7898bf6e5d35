"""Archives: every packing makes the same bytes, and damaged, hostile or huge ones are rejected with a reason."""

import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib

import pyarrow
import pytest

from builders import contents, error_line, module_of, reason, rejection, tar, zipped
from cadvlm.app.cli import main
from cadvlm.corpus.archive import ZipSource
from cadvlm.corpus.source import open_source
from cadvlm.corpus.tar import TarSource
from cadvlm.errors import DatasetError
from cadvlm.stages.extract import extract

SIZES = dict(train_size=20, val_size=5, test_size=4, workers=1)


def zstd(folder, path, prefix="data"):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.add(folder, prefix)
    with pyarrow.output_stream(str(path), compression="zstd") as file:
        file.write(out.getvalue())
    return path


PACKINGS = {
    "tiny.tar.xz": lambda f, p: tar(f, p, mode="w:xz"),
    "tiny.tar.zst": zstd,
    "tiny.zip": zipped,
    "stored.zip": lambda f, p: zipped(f, p, "a/b", zipfile.ZIP_STORED),
}


@pytest.mark.parametrize("name", PACKINGS)
@pytest.mark.parametrize("order", ["official", "stratified"])
def test_every_archive_format_gives_the_same_dataset(sixty, tmp_path, name, order):
    extract(sixty, tmp_path / "folder", order=order, **SIZES)
    archive = PACKINGS[name](sixty, tmp_path / name.replace("stored", "tiny"))
    source = open_source(archive)
    assert source.name == "tiny" and type(source) is (ZipSource if archive.suffix == ".zip" else TarSource)
    extract(archive, tmp_path / "packed", order=order, **SIZES)
    assert (
        contents(tmp_path / "packed") == contents(tmp_path / "folder")
        and extract(archive, tmp_path / "packed", order=order, **SIZES).made == 0
    )


def test_zip_source_from_url(sixty, tmp_path, memory):
    memory.put(str(zipped(sixty, tmp_path / "tiny.zip")), "/bucket/tiny.zip")
    extract("memory://bucket/tiny.zip", tmp_path / "far", **SIZES)
    extract(sixty, tmp_path / "here", **SIZES)
    assert contents(tmp_path / "far") == contents(tmp_path / "here")


@pytest.mark.parametrize("name", PACKINGS)
@pytest.mark.parametrize("cut", [5, 40, 700, 0.3, 0.77, -30, "garbage"])
def test_damaged_archive_is_rejected(sixty, tmp_path, name, cut):
    whole = PACKINGS[name](sixty, tmp_path / name).read_bytes()
    middle = len(whole) // 2
    data = (
        whole[:middle] + os.urandom(999) + whole[middle + 999 :]
        if cut == "garbage"
        else whole[: cut if isinstance(cut, int) else int(cut * len(whole))]
    )
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DatasetError) as caught:
        source = open_source(tmp_path / name)
        [source.read(i) for i in sorted(source.ids)]  # a zip archive is whole as far as its directory goes
    assert (
        caught.value.reason in ("bad_archive", "missing_file", "missing_folder")
        and name in str(caught.value)
        and len(str(caught.value)) < 600
    )


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


@pytest.mark.parametrize(
    "made, data, expected",
    [
        (entry("../../cad_json/0000/00000001.json"), b"{}", "unsafe_name"),
        (entry("/etc/passwd"), b"{}", "unsafe_name"),
        (entry("C:/x.json"), b"{}", "unsafe_name"),
        (entry("data/a\\..\\..\\x.json"), b"{}", "unsafe_name"),
        (entry(mode=stat.S_IFLNK | 0o777), b"/etc/passwd", "unsafe_member"),
        (entry(mode=stat.S_IFIFO), b"", "unsafe_member"),
        (entry(mode=stat.S_IFCHR), b"", "unsafe_member"),
        (entry(), bytes(20_000_001), "too_large"),
    ],
)
def test_unsafe_zip_member_is_rejected(made, data, expected, tmp_path, capsys):
    path = zip_of(tmp_path / "bad.zip", (made, data))
    assert reason(lambda: open_source(path).ids) == expected
    assert main(["extract", str(path), str(tmp_path / "out")]) == 2
    assert "bad.zip" in error_line(capsys) and sorted(p.name for p in tmp_path.iterdir()) == ["bad.zip"]


def test_encrypted_or_unknown_zip_method_is_rejected(tmp_path):
    data = bytearray(zip_of(tmp_path / "a.zip", (entry(), b"{}")).read_bytes())
    place = data.rfind(b"PK\1\2")
    data[place + 8] |= 1  # says that it is encrypted
    (tmp_path / "a.zip").write_bytes(data)
    assert reason(lambda: open_source(tmp_path / "a.zip").ids) == "unsafe_member"
    data[place + 8] &= 0xFE
    data[place + 10 : place + 12] = struct.pack("<H", 97)  # a method that nobody knows
    (tmp_path / "a.zip").write_bytes(data)
    source = open_source(tmp_path / "a.zip")
    assert reason(source.read, "00000001") == "bad_archive" and source.read("00000000") == b"{}"


def test_zip_bomb_is_rejected(tmp_path, monkeypatch):
    members = [(entry(f"data/zeros{i}"), bytes(19_999_999)) for i in range(6)]
    assert reason(lambda: open_source(zip_of(tmp_path / "zeros.zip", *members)).ids) == "too_large"
    many = zip_of(tmp_path / "many.zip", *[(entry(f"data/{i}.txt"), b"") for i in range(9)])
    with monkeypatch.context() as patch:
        patch.setattr(module_of(ZipSource), "MOST_MEMBERS", 9)
        assert reason(lambda: open_source(many).ids) == "too_many"
    data = bytearray(many.read_bytes())
    end = data.rfind(b"PK\5\6")
    data[end + 12 : end + 16] = struct.pack("<I", 2**32 - 2)  # a directory of 4 GB, it says
    (tmp_path / "large.zip").write_bytes(data)
    assert reason(lambda: open_source(tmp_path / "large.zip").ids) == "too_large"


def test_overlapping_zip_members_are_rejected(tmp_path):
    "A hundred names for the same bytes: 1.9 GB from 20 kB."
    path = zip_of(tmp_path / "overlap.zip", (entry("data/zeros.bin"), bytes(19_000_000)))
    data = path.read_bytes()
    end, directory = data.rfind(b"PK\5\6"), data.find(b"PK\1\2")
    last = data[data.rfind(b"PK\1\2") : end]
    copies = b"".join(last.replace(b"zeros.bin", b"%09d" % i) for i in range(100))
    tail = bytearray(data[end:])
    tail[8:12] = struct.pack("<HH", 102, 102)
    tail[12:16] = struct.pack("<I", end - directory - len(last) + len(copies))
    path.write_bytes(data[: end - len(last)] + copies + tail)
    assert reason(lambda: open_source(path).ids) == "too_large"


@pytest.mark.parametrize("kind", ["xz", "zst"])
def test_xz_and_zstd_bomb_is_rejected(tmp_path, kind):
    member = tarfile.TarInfo("data/zeros")
    member.size = 19_999_744
    block = member.tobuf() + bytes(member.size)
    path = tmp_path / f"zeros.tar.{kind}"
    with (
        lzma.open(path, "wb", preset=0) if kind == "xz" else pyarrow.output_stream(str(path), compression="zstd")
    ) as file:
        for _ in range(12):
            file.write(block)
    assert reason(lambda: open_source(path).ids) == "too_large"


def test_decoder_memory_is_limited(tmp_path):
    "An xz stream that wants 3 GB of memory, and a Zstandard frame with a window of 2 GB, around nothing."
    small = bytearray(lzma.compress(bytes(3000), format=lzma.FORMAT_XZ, filters=[dict(id=lzma.FILTER_LZMA2, preset=0)]))
    place = small.index(b"\x21\x01") + 2  # the size of the dictionary in the header of the block
    small[place] = 39
    header = small[12 : 12 + 4 * (small[12] + 1)]
    small[12 + len(header) - 4 : 12 + len(header)] = struct.pack(
        "<I", zlib.crc32(bytes(small[12 : 12 + len(header) - 4]))
    )
    (tmp_path / "a.tar.xz").write_bytes(small)
    (tmp_path / "a.tar.zst").write_bytes(
        b"\x28\xb5\x2f\xfd\0" + bytes([21 << 3]) + struct.pack("<I", 1 | 2000 << 3)[:3] + bytes(2000)
    )
    for name in ("a.tar.xz", "a.tar.zst"):
        error = rejection(lambda: open_source(tmp_path / name).ids)
        assert error.reason == "bad_archive" and "memory" in str(error).lower(), error  # the decoder's own word


def test_multi_stream_xz_is_read(sixty, tmp_path):
    "As parallel packers write it, and with the padding that the format allows."
    whole = tar(sixty, tmp_path / "a.tar").read_bytes()
    half = len(whole) // 2
    (tmp_path / "a.tar.xz").write_bytes(lzma.compress(whole[:half]) + bytes(8) + lzma.compress(whole[half:]) + bytes(4))
    assert open_source(tmp_path / "a.tar.xz").ids == open_source(sixty).ids


# --- tar


def tar_of(path, name="data/cad_json/0000/00000001.json", data=b"{}", then=(), **about):
    "An archive of one odd member between ordinary ones."
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for n, d in (
            ("data/cad_json/0000/00000000.json", b"{}"),
            ("data/train_val_test_split.json", b'{"train": [], "validation": [], "test": []}'),
        ):
            member = tarfile.TarInfo(n)
            member.size = len(d)
            archive.addfile(member, io.BytesIO(d))
        member = tarfile.TarInfo(name)
        member.size = len(data)
        for k, v in about.items():
            setattr(member, k, v)
        archive.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize(
    "name, about, expected",
    [
        ("../../cad_json/0000/00000001.json", {}, "unsafe_name"),
        ("data/../../x", {}, "unsafe_name"),
        ("/etc/passwd", {}, "unsafe_name"),
        ("C:/x.json", {}, "unsafe_name"),
        ("data\\..\\x.json", {}, "unsafe_name"),
        ("data/x.json", dict(type=tarfile.SYMTYPE, linkname="/etc/passwd"), "unsafe_member"),
        ("data/x", dict(type=tarfile.LNKTYPE, linkname="data/y"), "unsafe_member"),
        ("data/x", dict(type=tarfile.CHRTYPE), "unsafe_member"),
        ("data/x", dict(type=tarfile.BLKTYPE), "unsafe_member"),
        ("data/x", dict(type=tarfile.FIFOTYPE), "unsafe_member"),
        ("data/x.json", dict(data=bytes(20_000_001)), "too_large"),
    ],
)
def test_unsafe_tar_member_is_rejected(name, about, expected, tmp_path, capsys):
    path = tar_of(tmp_path / "bad.tar", name, **about)
    assert reason(lambda: open_source(path).ids) == expected
    assert main(["extract", str(path), str(tmp_path / "out")]) == 2
    assert "bad.tar" in error_line(capsys) and sorted(p.name for p in tmp_path.iterdir()) == ["bad.tar"]


def test_gzip_bomb_is_rejected(tmp_path, monkeypatch):
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
    monkeypatch.setattr(module_of(ZipSource), "MOST_MEMBERS", 2)
    assert reason(lambda: open_source(tar_of(tmp_path / "many.tar")).ids) == "too_many"


def test_tar_member_of_negative_size_does_not_hang(tmp_path):
    path = tar_of(tmp_path / "back.tar")
    data = bytearray(path.read_bytes())
    place = data.rfind(b"data/cad_json/0000/00000001.json")
    data[place + 124 : place + 136] = b"\xff" * 12  # a size of -1 in base 256
    data[place + 148 : place + 156] = b" " * 8
    data[place + 148 : place + 156] = b"%06o\0 " % sum(data[place : place + 512])
    path.write_bytes(data)
    assert reason(lambda: open_source(path).ids) in ("bad_archive", "too_large")


@pytest.mark.parametrize("cut", [0, 1, 511, 512, 700, 0.3, 0.5, 0.77, "end", "garbage"])
@pytest.mark.parametrize("zipped", [False, True], ids=["tar", "gz"])
def test_truncated_tar_is_rejected(sixty, tmp_path, cut, zipped):
    whole = tar(sixty, tmp_path / "whole.tar", mode="w:gz" if zipped else "w").read_bytes()
    if cut == "end":
        whole = whole[:-9] if zipped else whole.rstrip(b"\0")
    elif cut == "garbage":
        whole = whole[:3000] + os.urandom(2000) + whole[5000:]
    else:
        whole = whole[: cut if isinstance(cut, int) else int(cut * len(whole))]
    (tmp_path / "cut.tar").write_bytes(whole)
    error = rejection(lambda: open_source(tmp_path / "cut.tar").ids)
    assert error.reason == "bad_archive" and "cut.tar" in str(error)
