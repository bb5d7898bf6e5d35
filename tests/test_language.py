"""Code of every real file, in both languages, decoded and built again: the same solid with exact numbers; on the grid, the loss is counted. Equal parts give equal code."""
import random
from dataclasses import replace
from itertools import groupby

import numpy as np
import pytest

from cadvlm.text.language import decode, encode
from cadvlm.cad.normal import EXACT, normal_form, to_sequence
from cadvlm.cad.sequence import Loop, Operation, Profile, from_dict, read, to_deepcad
from cadvlm.errors import CadError
from cadvlm.cad.solid import IDENTITY, Frame, build, iou

CHUNKS = 4
TEXT = ("cadquery", "compact")


@pytest.fixture(scope="module", params=range(CHUNKS))
def parts(request, shared):
    "A quarter of the real files: `{id: (sequence, solid)}`."
    found = {}
    for path in sorted((shared / "deepcad" / "cad_json").glob("*/*.json"))[request.param :: CHUNKS]:
        try:
            sequence = read(path)
            found[path.stem] = sequence, build(sequence)
        except CadError as error:
            assert error.reason in ("no_extrude", "self_intersecting_loop"), f"{path.stem}: {error}"
    assert len(found) > 190
    return found


def fidelity(sequence, solid, language, **how):
    "IoU of a solid and of what its code says; 0 where the code says nothing."
    try:
        return iou(build(decode(encode(sequence, language, frame=solid.frame, **how), language)), solid, align="frame")
    except CadError:
        return 0.0


def test_exact_text_gives_the_same_solid(parts):
    exact = {name: fidelity(*part, "compact", exact=True) for name, part in parts.items()}
    assert not {name: value for name, value in exact.items() if value < 0.999}
    some = {name: fidelity(*part, "cadquery", exact=True) for name, part in list(parts.items())[::4]}
    assert not {name: value for name, value in some.items() if value < 0.999}


@pytest.mark.parametrize("how", [dict(exact=True), dict(grid=1.0), dict(grid=0.1)], ids=str)
def test_both_languages_say_the_same(parts, how):
    "The program and the compact text of a part decode to parts with the same normal form, so what is proven of one holds for the other."
    grid, differ = EXACT if how.get("exact") else how["grid"], []
    for name, (sequence, solid) in parts.items():
        try:
            form = normal_form(sequence, grid, solid.frame)
        except CadError:
            continue
        differ += [(name, language) for language in TEXT if normal_form(decode(encode(sequence, language, frame=solid.frame, **how), language), grid, IDENTITY) != form]
    print(f"\n{how}: {differ}")
    assert len(differ) <= 0.01 * len(parts)


def test_grid_text_keeps_most_parts(parts):
    grid = np.array([fidelity(*part, "cadquery") for part in parts.values()])
    counts = {f">= {limit}": int((grid >= limit).sum()) for limit in (0.999, 0.99, 0.9)} | {"no solid": int((grid == 0).sum())}
    print(f"\non the grid, of {len(parts)}: {counts}")
    assert np.median(grid) > 0.96 and (grid >= 0.9).mean() > 0.75


def test_deepcad_json_round_trips(parts):
    assert all(from_dict(to_deepcad(sequence)) == sequence for sequence, _ in parts.values())


def written(parts):
    "Parts that the grid does not lose."
    for sequence, solid in parts.values():
        try:
            normal_form(sequence, 1.0, solid.frame)
        except CadError:
            continue
        yield sequence, solid


def test_compact_is_short(parts):
    lengths = np.array([[len(encode(s, language, frame=solid.frame)) for language in TEXT] for s, solid in written(parts)])
    print(f"\ncharacters: {lengths.mean(axis=0).round()}, ratio {lengths[:, 0].sum() / lengths[:, 1].sum():.2f}")
    assert lengths[:, 0].sum() > 2.5 * lengths[:, 1].sum()


def told_differently(sequence, rng):
    "The same part: profiles and holes shuffled, loops from another corner and the other way round, runs of equal operations shuffled, one said twice."

    def loop(l):
        k = rng.randrange(len(l.curves))
        turned = Loop(l.curves[k:] + l.curves[:k])
        return turned.reversed() if rng.random() < 0.5 else turned

    def extrude(e):
        profiles = [Profile(loop(p.outer), tuple(rng.sample([loop(h) for h in p.holes], len(p.holes)))) for p in e.sketch.profiles]
        return replace(e, sketch=replace(e.sketch, profiles=tuple(rng.sample(profiles, len(profiles)))))

    kind = lambda e: Operation.JOIN if e.operation is Operation.NEW else e.operation
    first, *rest = map(extrude, sequence.extrudes)
    runs = [list(run) for _, run in groupby([replace(first, operation=Operation.JOIN), *rest], key=kind)]
    told = [e for run in runs for e in rng.sample(run, len(run)) + run[:1]]
    return replace(sequence, extrudes=tuple(told))


def test_equal_parts_give_equal_code(parts):
    rng, differ, unsettled = random.Random(0), [], []
    for name, (sequence, solid) in parts.items():
        try:
            form = normal_form(sequence, 1.0, solid.frame)
        except CadError:
            continue
        differ += [name] * (normal_form(told_differently(sequence, rng), 1.0, solid.frame) != form)
        unsettled += [name] * (normal_form(to_sequence(form), 1.0, IDENTITY) != form)
    assert not differ and not unsettled
