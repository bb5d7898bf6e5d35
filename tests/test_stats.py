"""The statistics of a corpus: does it count right, find what was planted, and survive what is broken?"""

import math
import shutil

import pytest

from builders import GROUND, WALL, deepcad_json, deepcad_source, disc, polygonal, raised, rectangle
from cadvlm.app.cli import main
from cadvlm.corpus.dataset import Dataset, record_failures
from cadvlm.files import read_json
from cadvlm.stages.extract import extract
from cadvlm.measure.stats import TITLES, distances, histograms, measure, read_stats, shape, stats, table
from cadvlm.cad.curves import Arc, Line, Loop, Profile
from cadvlm.cad.sequence import CadSequence, Extent, Operation, Plane
from cadvlm.cad.solid import build

OBLIQUE = Plane((0.1, 0.2, 0.3), (0.6, 0.8, 0.0), (0.0, 0.0, 1.0))
BOX, COPY, ROD, TUBE, SHORT, GONE, BROKEN, STRAY = IDS = [f"0000{i:04}" for i in range(8)]


def part(*extrudes, box=None):
    return CadSequence(extrudes, box)


PARTS = {
    BOX: part(raised(0.01, rectangle(0.04, 0.02)), box=((0.0, 0.0, 0.0), (0.04, 0.02, 0.01))),
    COPY: part(raised(-0.1, rectangle(0.4, 0.2, 1.0, 1.0))),
    ROD: part(raised(0.03, disc(0.01), plane=WALL)),
    TUBE: part(raised(0.03, disc(0.02)), raised(0.09, disc(0.01), operation=Operation.CUT, extent=Extent.SYMMETRIC)),
    SHORT: part(raised(0.01, rectangle(0.04, 0.03)), box=((0.0, 0.0, 0.0), (0.04, 0.03, 0.06))),
    GONE: part(
        raised(0.01, rectangle(0.02, 0.02)), raised(0.09, disc(0.09), operation=Operation.CUT, extent=Extent.SYMMETRIC)
    ),
    STRAY: part(
        raised(0.01, rectangle(0.03, 0.03)), raised(0.01, rectangle(0.03, 0.03, 0.1), operation=Operation.JOIN)
    ),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Eight files: two duplicates in different splits, a box cut short, one part that cuts itself away, a broken file,
    one in no split."""
    folder = tmp_path_factory.mktemp("source")
    files = {id: deepcad_json(sequence) for id, sequence in PARTS.items()} | {BROKEN: b'{"entities": {'}
    splits = dict(train=[BOX, ROD, TUBE, GONE, BROKEN, "00009999"], validation=[SHORT], test=[COPY])
    return deepcad_source(folder, files, **splits)


@pytest.fixture(scope="module")
def made(source, tmp_path_factory):
    "`(Summary, stats.json)` by one worker."
    path = tmp_path_factory.mktemp("made") / "stats.json"
    return stats(source, output=path, workers=1), path


def test_stats_table_has_a_row_for_each_part(made):
    summary, path = made
    rows = table(path).set_index("id")
    assert (summary.requested, summary.made, summary.failures) == (
        8,
        6,
        dict(empty_solid=1, not_json=1),
    ) and not summary.problems
    assert rows.split.to_dict() == {
        BOX: "train",
        ROD: "train",
        TUBE: "train",
        GONE: "train",
        BROKEN: "train",
        SHORT: "validation",
        COPY: "test",
        STRAY: "none",
    }
    assert rows.reason.dropna().to_dict() == {GONE: "empty_solid", BROKEN: "not_json"}
    assert rows.extrudes[GONE] == 2 and rows.extrudes.isna()[BROKEN]  # what was read is counted, built or not
    assert str(summary).count("\n") < 20


def test_stats_histograms(made):
    found = read_stats(made[1])["histograms"]
    assert found["operations"] == dict(new=7, join=1, cut=2, intersect=0)
    assert found["extents"] == dict(one_side=8, symmetric=2, two_sides=0)
    assert found["kinds"] == dict(lines=4 * 6, arcs=0, circles=4)
    assert found["planes"] == dict(xy=9, xz=1, yz=0, oblique=0)
    assert found["shape"] == dict(box=3, cylinder=1, other=2)
    assert found["outcome"] == dict(built=6, empty_solid=1, not_json=1)
    assert (found["extrudes"]["1"], found["extrudes"]["2"], found["pieces"]["2"], found["size"]["0.3–1"]) == (
        4,
        3,
        1,
        1,
    )
    assert found.keys() == TITLES.keys()
    assert all(
        sum(found[name].values()) == 6
        for name in ("size", "middle", "short", "fill", "cadquery", "compact", "duplicates", "pieces")
    )


def test_stats_count_duplicates(made):
    duplicates = read_stats(made[1])["duplicates"]
    assert duplicates["first"] == [dict(parts=2, ids=[BOX, COPY], splits=dict(test=1, train=1))]
    assert (duplicates["parts"], duplicates["groups"], duplicates["within"], duplicates["across"]) == (
        1,
        1,
        {},
        dict(test=1),
    )
    rows = table(made[1]).set_index("id")
    assert rows.text[BOX] == rows.text[COPY] and rows.text.nunique() == 5


def test_stats_flag_truncated_histories(made):
    found = read_stats(made[1])
    assert found["cut_short"] == dict(recorded=2, parts=1, first=[SHORT])
    assert math.isclose(table(made[1]).set_index("id").box_ratio[SHORT], 1.5)
    assert found["splits"]["validation"]["cut_short"] == 1 and found["splits"]["train"]["cut_short"] == 0


def test_stats_of_closed_forms():
    tube, rod = measure(PARTS[TUBE]), measure(PARTS[ROD])
    assert math.isclose(tube["fill"], math.pi * (2**2 - 1) / 16, rel_tol=3e-3) and math.isclose(
        tube["volume"], math.pi * 3e-4 * 0.03, rel_tol=3e-3
    )
    assert (
        math.isclose(rod["size"], 0.03)
        and math.isclose(rod["middle"], 2 / 3, rel_tol=1e-6)
        and rod["shape"] == "cylinder"
    )


@pytest.mark.parametrize("plane", [GROUND, WALL, OBLIQUE])
def test_shape_class_does_not_depend_on_the_pose(plane):
    seen = lambda profile: shape(build(part(raised(0.01, profile, plane=plane))))
    half = Profile(Loop((Arc((0.02, 0.0), (-0.02, 0.0), (0.0, 0.0), math.pi), Line((-0.02, 0.0), (0.02, 0.0)))))
    hexagon = [(math.cos(math.pi * i / 3), math.sin(math.pi * i / 3)) for i in range(6)]
    six = polygonal(*hexagon)
    assert [seen(p) for p in (rectangle(0.02, 0.03), disc(0.02), half, six)] == ["box", "cylinder", "other", "other"]


def test_stats_distance_to_itself_is_zero(made):
    found = read_stats(made[1])
    assert set(distances(found, made[1]).values()) == {0.0}
    boxes = dict(found, histograms=histograms(table(made[1])[lambda t: t["shape"] == "box"]))
    apart = distances(found, boxes)
    assert (
        math.isclose(apart["shape"], 1 / 2)
        and all(0 <= v <= 1 for v in apart.values())
        and apart == distances(boxes, found)
    )


def test_stats_resume_and_do_not_depend_on_workers(source, made, tmp_path):
    copy, path = shutil.copytree(source, tmp_path / source.name), tmp_path / "out/stats.json"
    first = stats(copy, output=path, workers=2)
    assert first.cached == 0 and path.read_bytes() == made[1].read_bytes()
    assert path.with_name("stats.parquet").read_bytes() == made[1].with_name("stats.parquet").read_bytes()
    journal = tmp_path / "out/logs/stats.jsonl"
    journal.write_bytes(
        b"".join(journal.read_bytes().splitlines(keepends=True)[:4]) + b'{"id": "0000'
    )  # killed while writing
    again = stats(copy, output=path, workers=1)
    assert 0 < again.cached < 6 and again.cached + again.made == 6 and path.read_bytes() == made[1].read_bytes()
    (copy / f"cad_json/0000/{BROKEN}.json").write_bytes(deepcad_json(PARTS[ROD]))
    mended = stats(copy, output=path, against=made[1], workers=1)
    assert (mended.cached, mended.made, mended.failures) == (6, 1, dict(empty_solid=1))
    assert read_stats(path)["against"]["distances"]["outcome"] == 0.125


def test_stats_of_a_dataset_count_failures_of_stages(source, tmp_path, capsys):
    dataset = Dataset(tmp_path / "dataset")
    extract(source, dataset.path, train_size=9, val_size=1, test_size=1, workers=1)
    record_failures(dataset, "render", [dict(id=GONE, reason="empty_solid", message="")])
    dataset.json_path(ROD).unlink()
    assert main(["stats", str(dataset.path), "--workers", "1"]) == 0
    assert capsys.readouterr().out
    found = read_json(dataset.path / "stats.json")
    assert found["skipped"] == dict(extract=dict(not_json=1), render=dict(empty_solid=1)) and found[
        "failures"
    ] == dict(empty_solid=1, missing_file=1)
    assert {p.name for p in dataset.path.glob("stats*")} == {"stats.json", "stats.parquet", "stats.png"}
    assert main(["stats", str(tmp_path)]) == 2 and main(["stats", str(dataset.path), "--output", "x.txt"]) == 2
