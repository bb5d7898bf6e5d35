"""cadvlm against an independent reference: the same real files built with Open CASCADE (`occ.py`)."""

import time

import numpy as np
import orjson
import pytest

from cadvlm.cad.repair import load_part, read_part, repair
from cadvlm.cad.sequence import read
from cadvlm.errors import CadError
from cadvlm.cad.solid import build
from cadvlm.corpus.answer import answer

pytest.importorskip("OCP", reason="needs Open CASCADE: pip install cadvlm[cad]")
import occ
from builders import cases, some

pytestmark = pytest.mark.occ

EVERY = max(1, 16 // cases(1))  # of 821 files in order of their ids: 52
AT_LEAST = 45  # files compared (and 95 % of the sample), or the test proves too little
VOLUME, AREA, BOX = 5e-3, 5e-3, 1e-3

# Files where cadvlm and Open CASCADE may differ, and why. No other is known among the 821.
KNOWN = {
    "00010003": (
        "area: Open CASCADE leaves gaps between teeth and wheel, whose coordinates differ by rounding; it finds five"
        " pieces"
    ),
    "00014022": "second sides: Open CASCADE takes them at their word, and misses the recorded box by 15 %",
}
# Half circles of these bulge the wrong way: profiles overlap, or a hole lies outside its outline. Both put them
# right, each in its own way.
HALF_CIRCLES = ("00010581", "00011413", "00014785", "00015455", "00017110", "00019719", "00019752", "00019924")
# Thin shapes between circles, the hardest for chords: they differed by 0.75 and 1.5 % when circles under 8 units had
# 40 chords.
THIN = ("00015551", "00019195")


def files(shared):
    "Real DeepCAD files in order of their ids."
    return sorted((shared / "deepcad" / "cad_json").glob("*/*.json"))


def named(shared, name):
    "The file of an id."
    return shared / "deepcad" / "cad_json" / name[:4] / f"{name}.json"


def reference(path):
    "The valid shape that Open CASCADE builds, and the reason where it builds none."
    try:
        shape = occ.occ_solid(occ.occ_half_circles(orjson.loads(path.read_bytes())))
    except occ.OccFailure as error:
        return None, error.reason
    return (shape, "") if occ.occ_is_valid(shape) else (None, "invalid")


def difference(path):
    """How cadvlm and the reference differ on a file.

    Returns
    -------
    str or None
        None where both reject the file; "" where both build the same solid; otherwise what differs.
    """
    shape, rejected = reference(path)
    try:
        solid = build(read_part(path))
    except CadError as error:
        return f"only cadvlm rejects it: {error}" if shape else None
    if rejected:
        return f"only Open CASCADE rejects it: {rejected}"
    want, box = occ.occ_volume(shape), np.array(occ.occ_box(shape))
    volume = abs(solid.volume / want - 1)
    area, want_area = solid.area, occ.occ_area(shape)
    moved = np.abs(np.asarray(solid.bounds) - box).max() / np.ptp(box, axis=0).max()
    if volume > VOLUME:
        return f"volume {solid.volume:.6g}, Open CASCADE {want:.6g}: {volume:.2%}"
    if abs(area / want_area - 1) > AREA:
        return f"area {area:.6g}, Open CASCADE {want_area:.6g}: {area / want_area - 1:+.2%}"
    if moved > BOX:
        return f"box moved by {moved:.2%} of the longest side"
    return ""


def test_solids_match_open_cascade(shared):
    found = {path.stem: difference(path) for path in files(shared)[::EVERY]}
    new = {name: text for name, text in found.items() if text and name not in KNOWN}
    assert not new, "\n".join(f"{name}: {text}" for name, text in new.items())
    agree = sum(text == "" for text in found.values())
    assert agree >= max(AT_LEAST, 0.95 * len(found)), f"only {agree} of {len(found)} files were compared and agree"


def test_known_solid_differences_still_differ(shared):
    "By default the last: Open CASCADE takes ten seconds over the first."
    agreeing = [name for name in some([*KNOWN][::-1], 2) if not difference(named(shared, name))]
    assert not agreeing, f"{agreeing} agree now: take them off the list"


@pytest.mark.parametrize("name", some(HALF_CIRCLES, 2))
def test_repaired_half_circles_agree(shared, name):
    sequence = read_part(named(shared, name))
    assert "repaired_half_circle" in sequence.flags and sequence != read(named(shared, name))
    assert difference(named(shared, name)) == ""


@pytest.mark.parametrize("name", THIN)
def test_thin_shapes_agree(shared, name):
    assert difference(named(shared, name)) == ""


@pytest.mark.parametrize(
    "path",
    ["Couch.json", "d8220852__Z0Intersect_b6eca862_0000.json", "2070f351__Pattern4-SteppedEndFace_1ba36898_0000.json"],
)
def test_reference_has_the_volume_that_fusion_recorded(shared, path):
    data = orjson.loads((shared / "fusion360" / path).read_bytes())
    assert occ.occ_volume(occ.occ_solid(data)) == pytest.approx(data["properties"]["volume"], rel=1e-9)


def test_reference_meshes_are_watertight(shared):
    for path in files(shared)[::80]:
        shape, _ = reference(path)
        if shape is None:
            continue
        size = np.ptp(occ.occ_box(shape, unit=1), axis=0).max()
        vertices, faces = occ.occ_mesh(shape, size / 2000, 0.1)
        sides = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
        assert (np.unique(sides, axis=0, return_counts=True)[1] == 2).all(), path.stem
        a, b, c = vertices[faces].transpose(1, 0, 2)
        assert np.sum(a * np.cross(b, c)) / 6 == pytest.approx(occ.occ_volume(shape, unit=1), rel=VOLUME), path.stem


def test_recorded_boxes_agree_with_built_solids(real_parts):
    """Onshape recorded the box of the finished part; histories were cut short, so that about one file in eight
    differs (FORMAT.md)."""
    agree = []
    for id, sequence in real_parts.sequences():
        try:
            repaired = repair(sequence)
            solid = real_parts.build(id) if repaired == sequence else build(repaired)
        except CadError:
            continue
        box = np.asarray(solid.bounds)
        agree.append(np.abs(box - np.asarray(repaired.bounding_box)).max() < 5e-3 * np.ptp(box, axis=0).max())
    assert len(agree) >= 0.97 * len(real_parts.by_id)
    assert np.mean(agree) >= 0.86, f"{np.mean(agree):.1%} of {len(agree)}"


def test_fusion_files_have_the_volume_that_fusion_recorded(shared):
    paths = sorted((shared / "fusion360").glob("*.json"))
    assert len(paths) == 15
    for path in paths:
        recorded = orjson.loads(path.read_bytes())["properties"]["volume"]  # cm³
        assert build(read(path)).volume * 1e6 == pytest.approx(recorded, rel=VOLUME), path.name


def test_conversion_with_proof_takes_less_time_than_open_cascade_builds(real_parts):
    """A part is read, built, written, read again, built again and compared. Open CASCADE, which only builds it, took
    four times as long when this was written."""
    ours = theirs = 0.0
    for path in real_parts.paths[::32]:
        data, start = path.read_bytes(), time.process_time()
        try:
            sequence = load_part(data, path.stem)
            answer(sequence, build(sequence))
            ours, start = ours + time.process_time() - start, time.process_time()
            occ.occ_solid(orjson.loads(data))
            theirs += time.process_time() - start
        except (CadError, occ.OccFailure):
            continue
    assert 0 < ours < theirs
