"""Drawings are read back into parts: closed forms, ambiguous drawings, turned parts, random parts, and drawings in
which something is wrong."""

import math
import random
from collections import Counter
from contextlib import suppress
from functools import lru_cache

import numpy as np
import pytest
from scipy.spatial import KDTree

from builders import WALL, bracket, cases, circle, closed, disc, raised, rectangle, with_axes_rolled
from cadvlm.cad.curves import Profile
from cadvlm.cad.drawing import Drawing
from cadvlm.cad.overlap import iou
from cadvlm.cad.sequence import CadSequence, Operation, Plane
from cadvlm.cad.solid import build
from cadvlm.errors import CadError
from cadvlm.reading.match import match_views
from cadvlm.reading.reconstruct import reconstruct
from drawing_files import VIEWS, views_of

CUT, JOIN, INTERSECT = Operation.CUT, Operation.JOIN, Operation.INTERSECT
SIDE = Plane((0.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))  # the yz plane; its normal is x
ROUND = 2e-3  # share of a volume that chords of circles take


def at(plane, *origin):
    return Plane(origin, plane.x_axis, plane.y_axis)


def polygon(*corners):
    return Profile(closed(*corners))


def same(part, sequence):
    return iou(build(part), build(sequence), align="frame")


# --- closed forms: parts whose volume is known from school geometry, in units of their own


def holed_plate():
    holes = tuple(circle(0.4, x, y) for x in (1, 7) for y in (1, 4))
    return [raised(0.6, Profile(rectangle(8, 5).outer, holes))], 8 * 5 * 0.6 - 4 * math.pi * 0.4**2 * 0.6


def stepped_shaft():
    steps = [(1.0, 0.0, 3.0), (1.6, 3.0, 2.0), (0.7, 5.0, 4.0)]
    parts = [raised(h, disc(r), operation=JOIN, plane=at(SIDE, z, 0.0, 0.0)) for r, z, h in steps]
    return parts, sum(math.pi * r**2 * h for r, _, h in steps)


def blind_pocket():
    pocket = raised(-1.5, rectangle(3, 2, 1, 1), operation=CUT, plane=Plane((0.0, 0.0, 2.0)))
    return [raised(2.0, rectangle(6, 4)), pocket], 6 * 4 * 2 - 3 * 2 * 1.5


def counterbore():
    top = Plane((0.0, 0.0, 2.0))
    bores = [raised(-h, disc(r, 2, 2), operation=CUT, plane=top) for r, h in ((1.2, 0.8), (0.6, 2.0))]
    return [raised(2.0, rectangle(5, 4)), *bores], 5 * 4 * 2 - math.pi * (1.2**2 * 0.8 + 0.6**2 * 1.2)


def bracket_with_cross_hole():
    angle = polygon((0, 0), (6, 0), (6, 1), (1, 1), (1, 5), (0, 5))
    hole = raised(3.0, disc(0.7, -2.0, 3.0), operation=CUT, plane=at(SIDE, -1.0, 0.0, 0.0))
    return [raised(4.0, angle, plane=WALL), hole], (6 * 1 + 1 * 4) * 4 - math.pi * 0.7**2 * 1


def wedge():
    return [raised(3.0, polygon((0, 0), (5, 0), (0, 2)), plane=WALL)], 5 * 2 / 2 * 3


def hexagon_bar():
    corners = [(2 * math.cos(t * math.pi / 3), 2 * math.sin(t * math.pi / 3)) for t in range(6)]
    return [raised(9.0, polygon(*corners), plane=SIDE)], 3 * math.sqrt(3) / 2 * 4 * 9


def crossing_cylinders():
    "Steinmetz: two cylinders of one radius share 16/3 r³."
    r, length = 1.0, 6.0
    one = raised(length, disc(r), plane=at(SIDE, -length / 2, 0.0, 0.0))
    other = raised(length, disc(r), operation=JOIN, plane=Plane((0.0, 0.0, -length / 2)))
    return [one, other], 2 * math.pi * r**2 * length - 16 / 3 * r**3


def mitred_frame():
    "A frame whose four bars are bevelled and meet in mitres: sections of a hip roof, with a window."
    a, b, h, slope = 10.0, 7.0, 1.0, 1.2
    across = polygon((0, 0), (b, 0), (b - slope, h), (slope, h))
    along = polygon((0, 0), (a, 0), (a - slope, h), (slope, h))
    window = raised(3.0, rectangle(a - 6, b - 4, 3, 2), operation=CUT, plane=Plane((0.0, 0.0, -1.0)))
    bars = [raised(a, across, plane=SIDE), raised(-b, along, operation=INTERSECT, plane=WALL), window]
    # the section at height z is (a - 2sz)(b - 2sz), with s the slope over the height
    whole = a * b * h - (a + b) * slope * h + 4 / 3 * slope**2 * h
    return bars, whole - (a - 6) * (b - 4) * h


CLOSED_FORMS = [holed_plate, stepped_shaft, blind_pocket, counterbore, bracket_with_cross_hole, wedge, hexagon_bar,
                crossing_cylinders, mitred_frame]


def box():
    return [raised(2.0, rectangle(5, 3))], 30


@pytest.mark.parametrize("shape", [box, *CLOSED_FORMS], ids=lambda f: f.__name__)
def test_closed_form_is_read_back(shape):
    extrudes, volume = shape()
    part = CadSequence(tuple(extrudes))
    found, scale = reconstruct(views_of(part)), build(part).frame.scale
    assert found.certified and not found.ambiguous
    assert build(found.sequence).volume / scale**3 == pytest.approx(volume, rel=ROUND)
    assert same(found.sequence, part) > 0.9995


# --- ambiguous drawings


@pytest.mark.parametrize("stays", [True, False])
def test_ambiguous_drawing_gives_both_parts(stays):
    "Of 3 × 3 × 3 cubes; the three views are the same with the cube (0, 1, 0) and without it."
    places = "001 002 012 020 021 022 100 101 102 111 112 120 121 122 200 201 202 210 211 212 220".split()
    with_it, without = cubes([*places, "010"]), cubes(places)
    assert match_views(with_it, views_of(without)).certified and same(with_it, without) < 0.97
    found = reconstruct(views_of(with_it if stays else without))
    assert found.ambiguous and not found.certified
    answers = [found.sequence, *found.alternatives]
    assert len(answers) == 2 and all(max(same(a, part) for a in answers) > 0.999 for part in (with_it, without))


def cubes(places):
    "A part of unit cubes at `xyz`."
    corners = [tuple(map(float, place)) for place in places]
    return CadSequence(tuple(raised(1.0, rectangle(1.0, 1.0, x, y), operation=JOIN, plane=Plane((0.0, 0.0, z)))
                             for x, y, z in corners))


def test_without_hidden_lines_nothing_is_certain():
    "A block, and a block with a hole from below, look the same from the front, from the top and from the right."
    block = raised(2.0, rectangle(5, 3))
    plain, hollow = CadSequence((block,)), CadSequence((block, raised(1.0, rectangle(3, 1, 1, 1), operation=CUT)))
    seen = [{v: Drawing(v, d.visible, []) for v, d in views_of(part).items()} for part in (plain, hollow)]
    assert match_views(seen[0], seen[1]).certified
    assert not any(reconstruct(views, "visible").certified for views in seen)


# --- turned parts


@pytest.mark.parametrize("shape", [counterbore, bracket_with_cross_hole, hexagon_bar, mitred_frame],
                         ids=lambda f: f.__name__)
@pytest.mark.parametrize("steps", [1, 2])
def test_turning_a_part_turns_the_answer(shape, steps):
    part = CadSequence(tuple(shape()[0]))
    turned = reconstruct(views_of(with_axes_rolled(part, steps)))
    assert turned.certified
    assert same(with_axes_rolled(turned.sequence, 3 - steps), reconstruct(views_of(part)).sequence) > 0.9995


# --- random parts


def random_profile(draw):
    "A rectangle, a disc, a ring, a triangle or a hexagon within 0 to 100, on whole tens or anywhere."
    def number(low, high):
        return draw.uniform(low, high) if draw.random() < 0.3 else 10.0 * draw.randint(int(low / 10), int(high / 10))

    kind = draw.choice(("rectangle", "rectangle", "disc", "ring", "triangle", "hexagon"))
    x, y, w, h = number(0, 50), number(0, 50), number(20, 50), number(20, 50)
    r = min(w, h) / 2
    if kind == "rectangle":
        return rectangle(w, h, x, y)
    if kind == "triangle":
        return polygon((x, y), (x + w, y), (x + w * draw.choice((0, 0.4, 1)), y + h))
    if kind == "hexagon":
        turns = [t * math.pi / 3 for t in range(6)]
        return polygon(*[(x + r + r * math.cos(t), y + r + r * math.sin(t)) for t in turns])
    return Profile(circle(r, x + r, y + r), (circle(r / 2, x + r, y + r),) if kind == "ring" else ())


def random_part(seed):
    "Two to five prisms along three axes, joined and cut."
    draw, extrudes = random.Random(seed), []
    for k in range(draw.randint(2, 5)):
        plane, low = draw.choice((Plane(), WALL, SIDE)), 10.0 * draw.randint(0, 4)
        normal = np.cross(plane.x_axis, plane.y_axis)
        operation = CUT if k and draw.random() < 0.45 else JOIN
        depth = 10.0 * draw.randint(2, 6)
        extrudes.append(raised(depth, random_profile(draw), operation=operation, plane=at(plane, *(normal * low))))
    return CadSequence(tuple(extrudes))


@pytest.mark.slow
def test_random_part_is_read_back_or_rejected():
    certified = counted = 0
    for seed in range(cases(20)):
        part = random_part(seed)
        try:
            views = views_of(part)
        except CadError:
            continue  # nothing is left of it
        counted += 1
        try:
            found = reconstruct(views)
        except CadError:
            continue
        certified += found.certified
        if found.certified:
            assert same(found.sequence, part) > 0.999, seed
    assert certified >= 0.7 * counted and counted >= cases(15), (certified, counted)


# --- mutated drawings


def pieces(drawing):
    "The lines of a drawing: `[(polyline, style)]`, broken where they turn."
    found = []
    for style in ("visible", "hidden"):
        for line in getattr(drawing, style):
            turn = np.abs(np.diff(np.unwrap(np.arctan2(*np.diff(line, axis=0).T[::-1])))) > 0.3
            found += [(part, style) for part in cut_at(line, np.nonzero(turn)[0] + 1)]
    return found


def cut_at(line, places):
    bounds = [0, *places.tolist(), len(line) - 1]
    return [line[a : b + 1] for a, b in zip(bounds, bounds[1:]) if b > a]


def drawn(view, lines):
    return Drawing(view, *([line for line, s in lines if s == style] for style in ("visible", "hidden")))


def moved(drawing, function):
    return Drawing(drawing.view, *([function(line) for line in lines] for lines in (drawing.visible, drawing.hidden)))


def view_removed(draw, views):
    del views[draw.choice(VIEWS)]


def view_mirrored(draw, views):
    view, axis = draw.choice(VIEWS), draw.choice(((-1, 1), (1, -1)))
    views[view] = moved(views[view], lambda line: line * axis)


def views_swapped(draw, views):
    a, b = draw.sample(VIEWS, 2)
    views[a], views[b] = (Drawing(v, views[w].visible, views[w].hidden) for v, w in ((a, b), (b, a)))


def view_shifted(draw, views):
    view, by = draw.choice(VIEWS), draw.choice(((3, 0), (0, 3), (-3, 0), (0, -3)))
    views[view] = moved(views[view], lambda line: line + by)


def line_deleted(draw, views):
    view = draw.choice(VIEWS)
    lines = pieces(views[view])
    del lines[draw.randrange(len(lines))]
    views[view] = drawn(view, lines)


def line_added(draw, views):
    "A level, upright or slanting line between two corners of the view, or near to one."
    view = draw.choice(VIEWS)
    lines = pieces(views[view])
    a, b = (draw.choice(draw.choice(lines)[0]) for _ in range(2))
    ends = draw.choice(((a, b), (a, (b[0], a[1])), (a, (a[0], b[1])), (a, a + (20, 0)), (a, a - (0, 20))))
    views[view] = drawn(view, [*lines, (np.array(ends), draw.choice(("visible", "hidden")))])


def line_restyled(draw, views):
    view = draw.choice(VIEWS)
    lines = pieces(views[view])
    k = draw.randrange(len(lines))
    lines[k] = lines[k][0], "hidden" if lines[k][1] == "visible" else "visible"
    views[view] = drawn(view, lines)


MUTATIONS = [view_removed, view_mirrored, views_swapped, view_shifted, line_deleted, line_added, line_restyled]


def is_same_drawing(a, b):
    return a.keys() == b.keys() and match_views(a, b).certified


def points_of(drawing, styles):
    "Points along the lines of a drawing, half a unit apart."
    found = [np.empty((0, 2))]
    for line in [line for style in styles for line in getattr(drawing, style)]:
        for a, b in zip(line, line[1:]):
            found.append(a + np.linspace(0, 1, max(2, int(2 * math.dist(a, b)) + 1))[:, None] * (b - a))
    return np.concatenate(found)


def strays(points, others):
    "Length, in units, of points that lie apart from the lines of others."
    if not len(points):
        return 0.0
    if not len(others):
        return len(points) / 2
    return (KDTree(others).query(points)[0] > 0.26).sum() / 2  # samples of the others are half a unit apart


def draws(sequence, views):
    "Is a drawing of the part this drawing? By points along lines, which is not how the package compares."
    for view, theirs in views.items():
        ours = views_of(sequence)[view]
        for a, b in ((ours, theirs), (theirs, ours)):
            if strays(points_of(a, ["visible"]), points_of(b, ["visible"])) > 2:
                return False
            if strays(points_of(a, ["hidden"]), points_of(b, ["visible", "hidden"])) > 2:
                return False
    return True


@lru_cache
def thirty_parts():
    "Closed forms, ours and random ones, each drawn, read and certified."
    parts = [CadSequence(tuple(shape()[0])) for shape in (box, *CLOSED_FORMS)] + [bracket(i) for i in range(4)]
    seed = 1000
    while len(parts) < 30:
        seed += 1
        with suppress(CadError):
            part = random_part(seed)
            if len(part.extrudes) < 5 and reconstruct(views_of(part)).certified:
                parts.append(part)
    return [views_of(part) for part in parts]


REJECTIONS = "not_three_views", "contradictory_views", "not_prismatic", "too_many_cells", "flat"


def outcome(views):
    "What comes of a drawing: `rejected`, `ambiguous`, `not certified` or `certified`, and the reading."
    try:
        found = reconstruct(views)
    except CadError as error:
        assert error.reason in REJECTIONS, error
        return "rejected", None
    return "certified" if found.certified else "ambiguous" if found.ambiguous else "not certified", found


@pytest.mark.slow
def test_mutated_drawing_is_never_certified_and_wrong(record_property):
    draw, counts = random.Random(0), Counter()
    while counts.total() < cases(40):
        change, before = MUTATIONS[counts.total() % len(MUTATIONS)], draw.choice(thirty_parts())
        views = dict(before)
        change(draw, views)
        if is_same_drawing(views, before):
            continue  # a part that is its own mirror image, a line over another one
        kind, found = outcome(views)
        counts[change.__name__, kind] += 1
        if kind == "certified":
            assert draws(found.sequence, views), (counts.total(), change.__name__)
    certified = sum(n for (_, kind), n in counts.items() if kind == "certified")
    record_property("certified", certified)
    assert not any(counts[name, "certified"] for name in ("view_removed", "view_shifted")), counts
    # what is left is a good drawing of another part, most often of the mirror image
    assert certified <= 0.05 * counts.total(), counts


@pytest.mark.slow
def test_mutated_drawing_is_never_certified_and_wrong_where_seams_are_allowed():
    draw, counts = random.Random(1), Counter()
    while counts.total() < cases(24):
        change, before = MUTATIONS[counts.total() % len(MUTATIONS)], draw.choice(thirty_parts())
        views = dict(before)
        change(draw, views)
        if is_same_drawing(views, before):
            continue
        try:
            found = reconstruct(views, smooth=True)
        except CadError:
            counts["rejected"] += 1
            continue
        counts["certified" if found.certified else "not certified"] += 1
        # an added line may be a seam: then it is the part itself; or a good drawing of another part
        if found.certified:
            same_part = same(found.sequence, reconstruct(before).sequence) > 0.999
            assert same_part or draws(found.sequence, views), change.__name__
    assert counts["certified"] <= 0.15 * counts.total(), counts
