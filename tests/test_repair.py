"""What files say wrongly is put right where geometry proves it, and nothing else is touched."""

import math
from pathlib import Path

import numpy as np
import orjson
import pytest

from builders import rectangle
from cadvlm.stages.convert import convert
from cadvlm.stages.extract import extract
from cadvlm.stages.render import render
from cadvlm.cad.repair import load_part, read_part, repair
from cadvlm.text.vectors import to_vectors
from cadvlm.cad.sequence import read, to_deepcad
from cadvlm.cad.solid import build
from constructions import CUT, NEW, on_plane

CASES = Path(__file__).parent / "cases"


@pytest.mark.parametrize(
    "name, volume, flag",
    [
        ("semicircle_profiles_overlap", math.pi, "repaired_half_circle"),
        ("semicircle_slot_refused", None, "repaired_half_circle"),
        ("two_sides_second_flipped", 0.8 * 0.5 * 1.7 + 0.1 * 0.03 * 0.15, "repaired_two_sides"),
    ],
)
def test_repair_of_known_cases(name, volume, flag):
    sequence = read_part(CASES / f"{name}.json")
    solid = build(sequence)
    assert flag in sequence.flags and sequence != read(CASES / f"{name}.json")
    assert volume is None or solid.volume == pytest.approx(volume, rel=2e-3)
    assert np.allclose(solid.bounds, sequence.bounding_box, atol=1e-6)


def test_repair_is_idempotent():
    for path in sorted(CASES.glob("*.json")):
        sequence = read_part(path)
        assert repair(sequence) == sequence
        assert repair(load_part(orjson.dumps(to_deepcad(sequence)))) == sequence


def test_repaired_real_parts_meet_their_recorded_box(real_parts):
    repaired = {}
    for id, sequence in real_parts.sequences():
        part = repair(sequence)
        if part == sequence:
            assert part.flags == sequence.flags
        else:
            box = np.asarray(part.bounding_box)
            repaired[id] = np.abs(build(part).bounds - box).max() / np.ptp(box, axis=0).max()
    assert len(repaired) == 9 and max(repaired.values()) < 1e-4


def test_read_does_not_repair(shared):
    "The half circle of this part bulges the wrong way in the file and in nothing that reads vectors: `read` keeps it."
    path = shared / "deepcad" / "cad_json" / "0001" / "00019924.json"
    assert not np.array_equal(to_vectors(read(path)), to_vectors(read_part(path)))


def test_extract_lists_repairs(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    for i, name in enumerate(("semicircle_slot_refused", "two_sides_second_flipped", "yz_join_slanted_face")):
        (folder / f"{i:08}.json").write_bytes((CASES / f"{name}.json").read_bytes())
    summary = extract(folder, tmp_path / "dataset", train_size=1, val_size=1, test_size=1, workers=1)
    info = orjson.loads((tmp_path / "dataset" / "dataset_info.json").read_bytes())
    assert info["repaired"] == {"repaired_half_circle": ["00000000"], "repaired_two_sides": ["00000001"]}
    assert summary.made == 3 and not summary.failures


def test_illegible_images_are_marked_and_can_be_skipped(tmp_path):
    folder, dataset = tmp_path / "source", tmp_path / "dataset"
    folder.mkdir()
    for i, width in enumerate((0.4, 0.01)):
        plate, slot = rectangle(2.0, 1.2, -1.0, -0.5), rectangle(1.0, width, -0.5, 0.0)
        part = on_plane([(plate, 0.0, 1.0, NEW), (slot, 0.4, 1.0, CUT)])
        (folder / f"{i:08}.json").write_bytes(orjson.dumps(to_deepcad(part)))
    extract(folder, dataset, train_size=2, val_size=0, test_size=0, workers=1)
    render(dataset, size=128, workers=1)
    about = orjson.loads((dataset / "rendering_metadata.json").read_bytes())
    assert about["illegible"] == {"00000001": ["top", "right"]}
    convert(dataset, workers=1)
    marks = {s["id"]: s["legible"] for s in orjson.loads((dataset / "train.json").read_bytes())}
    assert all(marks[f"00000000_{v}"] for v in ("front", "top", "right")) and not all(marks.values())
    summary = convert(dataset, legible_only=True, workers=1)
    assert summary.failures == {"illegible": 1}
    assert {s["id"][:8] for s in orjson.loads((dataset / "train.json").read_bytes())} == {"00000000"}
