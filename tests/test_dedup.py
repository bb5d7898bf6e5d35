"""Duplicates planted in a synthetic corpus are found, all of them and nothing else; and what leaks is taken out."""

import random
import shutil
from dataclasses import replace

import pytest

from builders import deepcad_json, deepcad_source, disc, raised, reordered, with_axes_rolled
from cadvlm.app.cli import main
from cadvlm.corpus.dataset import Dataset, failures
from cadvlm.files import read_json, write_json
from cadvlm.cad.sequence import CadSequence, Extent, Extrude, Operation, Plane, read, to_deepcad
from cadvlm.cad.solid import build
from cadvlm.synth.histories import part
from cadvlm.stages.dedup import find_duplicates, similarity, dedup

COUNT = 32


def halved(sequence):
    "Another history: the first extrude in two storeys."
    first = sequence.extrudes[0]
    low, high = first.interval
    normal = first.sketch.plane.normal
    at = lambda h: replace(
        first.sketch,
        plane=replace(first.sketch.plane, origin=tuple(o + h * n for o, n in zip(first.sketch.plane.origin, normal))),
    )
    storeys = [
        Extrude(at(a), b - a, op)
        for a, b, op in ((low, (low + high) / 2, Operation.NEW), ((low + high) / 2, high, Operation.JOIN))
    ]
    return CadSequence((*storeys, *sequence.extrudes[1:]))


def pierced(sequence):
    "The part with a bore that it had not, of two per cent of its volume or more."
    solid = build(sequence)
    x, y, z = solid.frame.centre
    radius = 0.25 * solid.size.min() / solid.frame.scale
    depth, plane = 200 / solid.frame.scale, Plane((x, y, z))
    bore = raised(depth, disc(radius), operation=Operation.CUT, extent=Extent.SYMMETRIC, plane=plane)
    return CadSequence((*sequence.extrudes, bore))


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    "`(dataset, planted duplicates, pairs that are only rotated, near misses)`, as sets of pairs of ids."
    dataset, rng = Dataset(tmp_path_factory.mktemp("planted") / "dataset"), random.Random(1)
    made, same, on_side, near = {}, set(), set(), set()

    def add(sequence):
        id = f"{len(made):08}"
        made[id] = sequence
        return id

    for i in range(COUNT):
        sequence = part(5, i)
        id = add(sequence)
        for change in (
            [
                lambda s: reordered(s, rng).scaled(rng.uniform(0.2, 5), (rng.random(), 0.0, 1.0)),
                halved,
                with_axes_rolled,
                pierced,
            ]
        )[i % 4 : i % 4 + 1]:
            other = change(sequence)
            try:
                value = similarity(build(sequence), build(other))
            except ValueError:
                continue  # a bore may leave nothing
            pair = (id, add(other))
            (on_side if change is with_axes_rolled else same if value >= 0.99 else near).add(pair)
    assert len(same) >= 14 and len(on_side) >= 7 and len(near) >= 4
    for id, sequence in made.items():
        write_json(dataset.json_path(id), to_deepcad(sequence))
    ids = list(made)
    write_json(
        dataset.path / "train_val_split.json",
        dict(train=[i for k, i in enumerate(ids) if k % 6 not in (2, 5)], validation=ids[5::6], test=ids[2::6]),
    )
    write_json(dataset.path / "dataset_info.json", dict(cadvlm="1.0"))
    return dataset, same, on_side, near


def as_pairs(groups):
    return {(a, b) for g in groups for k, a in enumerate(g) for b in g[k + 1 :]}


def proven(dataset, pairs, **how):
    "Those pairs whose solids really coincide."
    return {p for p in pairs if similarity(*(build(read(dataset.json_path(i))) for i in p), **how) >= 0.99}


def test_dedup_finds_planted_duplicates_only(planted):
    dataset, same, on_side, near = planted
    found = as_pairs(find_duplicates(dataset, workers=1)[0])
    assert same <= found and not near & found
    extra = found - same
    assert (
        proven(dataset, extra) == extra
    )  # what was not planted is true all the same: a part that is alike on all sides, or two plain ones


def test_dedup_finds_rotated_duplicates_when_requested(planted):
    dataset, same, on_side, near = planted
    found = as_pairs(find_duplicates(dataset, workers=1, rotated=True)[0])
    assert same | on_side <= found and not near & found


def test_dedup_removes_duplicates_across_splits(planted, tmp_path):
    dataset = Dataset(shutil.copytree(planted[0].path, tmp_path / "copy"))
    before = dataset.split
    assert main(["dedup", str(dataset.path), "--dedup", "across", "--workers", "2"]) == 0
    report, after = read_json(dataset.path / "duplicates.json"), Dataset(dataset.path).split
    gone = {r["id"] for r in failures(dataset, "dedup")}
    assert (
        after["test"] == before["test"]
        and gone == set(report["removed"])
        and report["leaks"]["test in train"]["parts"] + report["leaks"]["validation in train"]["parts"] > 0
    )
    assert {s: [i for i in before[s] if i not in gone] for s in before} == after and not any(
        dataset.json_path(i).exists() for i in gone
    )
    dedup(dataset.path, workers=1)
    assert not any(v["parts"] for v in read_json(dataset.path / "duplicates.json")["leaks"].values())


def test_run_with_dedup(tmp_path):
    source = tmp_path / "source"
    files = {id: deepcad_json(part(5, index)) for id, index in (("00000000", 0), ("00000001", 0), ("00000002", 1))}
    deepcad_source(source, files, train=["00000000", "00000002"], validation=[], test=["00000001"])
    assert main(["run", str(source), str(tmp_path / "out"), "--dedup", "across", "--size", "64", "--workers", "1"]) == 0
    dataset = Dataset(tmp_path / "out")
    assert dataset.split == dict(train=["00000002"], validation=[], test=["00000001"]) and [
        r["reason"] for r in failures(dataset)
    ] == ["duplicate"]
    assert read_json(dataset.path / "validation_report.json")["ok"]


def test_samples_that_name_removed_parts_are_noted(tmp_path):
    "A dataset that is finished, and from which duplicates are removed later, has to be converted again."
    source = tmp_path / "source"
    files = {id: deepcad_json(part(5, index)) for id, index in (("00000000", 0), ("00000001", 0), ("00000002", 1))}
    deepcad_source(source, files, train=["00000000", "00000002"], validation=[], test=["00000001"])
    out = str(tmp_path / "out")
    assert main(["run", str(source), out, "--size", "64", "--workers", "1"]) == 0
    assert not dedup(out, workers=1).notes
    assert "cadvlm convert" in dedup(out, dedup="across", workers=1).notes[0]
    assert main(["validate", out, "--workers", "1"]) == 1
    assert main(["convert", out, "--workers", "1"]) == 0 and main(["validate", out, "--workers", "1"]) == 0
