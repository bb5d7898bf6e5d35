"""Code of real parts, in both languages, decoded and built again: the same solid with exact numbers; on the
grid, the loss is counted. Equal parts give equal code."""

import random
from functools import lru_cache

import numpy as np
import pytest

from builders import cases, module_of, reason, reordered
from cadvlm.text.language import decode, encode
from cadvlm.cad.normal import EXACT, normal_form, to_sequence
from cadvlm.cad.sequence import from_dict, to_deepcad
from cadvlm.errors import CadError
from cadvlm.cad.overlap import iou
from cadvlm.cad.polygons import IDENTITY
from cadvlm.cad.solid import build

EVERY = max(1, 8 // cases(1))  # of 821 files in order of their ids: 103
CHUNKS = 4
TEXT = ("cadquery", "compact")


@pytest.fixture(scope="module", params=[0, *(pytest.param(k, marks=pytest.mark.slow) for k in range(1, CHUNKS))])
def parts(request, real_parts):
    "A chunk of the sample of real parts: `{id: (sequence, solid)}`."
    ids = list(real_parts.by_id)[::EVERY][request.param :: CHUNKS]
    found = {id: (sequence, solid) for id, sequence, solid in real_parts.solids(ids)}
    rejected = {reason(real_parts.build, id) for id in set(ids) - set(found)}
    assert len(found) > 0.9 * len(ids) and rejected <= {"no_extrude", "self_intersecting_loop"}
    return found


form_of = lru_cache(maxsize=None)(normal_form)


@pytest.fixture(scope="module", autouse=True)
def forms_are_made_once():
    "Every test here asks for the normal forms of the same parts, and `encode` with it."
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module_of(encode), "normal_form", form_of)
        yield
    form_of.cache_clear()


def fidelity(sequence, solid, language, **how):
    "IoU of a solid and of what its code says; 0 where the code says nothing."
    try:
        return iou(build(decode(encode(sequence, language, frame=solid.frame, **how), language)), solid, align="frame")
    except CadError:
        return 0.0


def test_exact_text_round_trip(parts):
    exact = {name: fidelity(*part, "compact", exact=True) for name, part in parts.items()}
    assert not {name: value for name, value in exact.items() if value < 0.999}
    some = {name: fidelity(*part, "cadquery", exact=True) for name, part in list(parts.items())[::4]}
    assert not {name: value for name, value in some.items() if value < 0.999}


@pytest.mark.parametrize("how", [dict(exact=True), dict(step=1.0), dict(step=0.1)], ids=str)
def test_languages_have_the_same_normal_form(parts, how):
    """The program and the compact text of a part decode to parts with the same normal form, so what is proven of
    one holds for the other."""
    step, differ = EXACT if how.get("exact") else how["step"], []
    for name, (sequence, solid) in parts.items():
        try:
            form = form_of(sequence, step, solid.frame)
        except CadError:
            continue
        differ += [(name, language) for language in TEXT
                   if normal_form(decode(encode(sequence, language, frame=solid.frame, **how), language), step,
                                  IDENTITY) != form]
    print(f"\n{how}: {differ}")
    assert len({name for name, _ in differ}) <= max(1, 0.01 * len(parts))


def test_quantised_text_keeps_most_parts(parts):
    grid = np.array([fidelity(*part, "cadquery") for part in parts.values()])
    counts = {f">= {limit}": int((grid >= limit).sum()) for limit in (0.999, 0.99, 0.9)} | {
        "no solid": int((grid == 0).sum())
    }
    print(f"\non the grid, of {len(parts)}: {counts}")
    assert np.median(grid) > 0.96 and (grid >= 0.9).mean() > 0.75


def test_deepcad_json_round_trips(parts):
    assert all(from_dict(to_deepcad(sequence)) == sequence for sequence, _ in parts.values())


def written(parts):
    "Parts that the grid does not lose."
    for sequence, solid in parts.values():
        try:
            form_of(sequence, 1.0, solid.frame)
        except CadError:
            continue
        yield sequence, solid


def test_compact_text_is_short(parts):
    lengths = np.array(
        [[len(encode(s, language, frame=solid.frame)) for language in TEXT] for s, solid in written(parts)]
    )
    print(f"\ncharacters: {lengths.mean(axis=0).round()}, ratio {lengths[:, 0].sum() / lengths[:, 1].sum():.2f}")
    assert lengths[:, 0].sum() > 2.5 * lengths[:, 1].sum()


def test_equal_parts_give_equal_code(parts):
    rng, differ, unsettled = random.Random(0), [], []
    for name, (sequence, solid) in parts.items():
        try:
            form = form_of(sequence, 1.0, solid.frame)
        except CadError:
            continue
        differ += [name] * (normal_form(reordered(sequence, rng), 1.0, solid.frame) != form)
        unsettled += [name] * (normal_form(to_sequence(form), 1.0, IDENTITY) != form)
    assert not differ and not unsettled
