"""Random parts whose walls touch, each with its volume, area and number of pieces found without a 3-D boolean."""

import math
from dataclasses import replace
from random import Random

import numpy as np
from manifold3d import CrossSection, FillRule, JoinType
from scipy.spatial.transform import Rotation

from builders import disc, polygonal, raised, rectangle, ring
from cadvlm.cad.curves import Arc, Line, Loop, Profile
from cadvlm.cad.sequence import CadSequence, Operation, Plane
from cadvlm.cad.polygons import polygon

NEW, JOIN, CUT, INTERSECT = Operation.NEW, Operation.JOIN, Operation.CUT, Operation.INTERSECT
AXES = [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)]


def between(random, low, high):
    "A number with two decimals."
    return round(random.uniform(low, high), 2)


def base(random):
    "Height at which a second prism begins: that of the first, or another."
    return between(random, -0.5, 0.5) if random.random() < 0.5 else 0.0


# --- stacks: lists of (profile, low, high, operation) along one direction


def quadrilaterals(random):
    w, h = between(random, 0.5, 3), between(random, 0.5, 3)
    a, b = between(random, 0.1, 0.9) * w, between(random, 0.1, 0.9) * w
    return (w, h), polygonal((0.0, 0.0), (a, 0.0), (b, h), (0.0, h)), polygonal((a, 0.0), (w, 0.0), (w, h), (b, h))


def slanted_join(random):
    _, left, right = quadrilaterals(random)
    low = base(random)
    return [(left, 0.0, between(random, 0.6, 3), NEW), (right, low, low + between(random, 0.6, 3), JOIN)]


def triangles(random):
    w, h, d = (between(random, 0.5, 3) for _ in range(3))
    upper, lower = polygonal((0.0, 0.0), (w, h), (0.0, h)), polygonal((0.0, 0.0), (w, 0.0), (w, h))
    return [(upper, 0.0, d, NEW), (lower, 0.0, d if random.random() < 0.3 else between(random, 0.3, 3), JOIN)]


def two_cuts(random):
    (w, h), left, right = quadrilaterals(random)
    d = between(random, 1, 3)
    box = polygonal((0.0, 0.0), (w, 0.0), (w, h), (0.0, h))
    return [(box, 0.0, d, NEW), *((p, 0.0, round(d * random.uniform(0.1, 0.9), 2), CUT) for p in (right, left))]


def disc_and_ring(random):
    inner, x, y, low = between(random, 0.3, 1), between(random, -1, 1), between(random, -1, 1), base(random)
    outer = inner + between(random, 0.1, 1)
    return [
        (disc(inner, x, y), 0.0, between(random, 0.6, 2), NEW),
        (ring(outer, inner, x, y), low, low + between(random, 0.6, 2), JOIN),
    ]


def counterbore(random):
    inner, d = between(random, 0.2, 0.5), between(random, 1, 2)
    outer = inner + between(random, 0.1, 0.4)
    x, y = random.choice([(0.0, 0.0), (q := between(random, -0.4, 0.4), -q), (q, between(random, -0.4, 0.4))])
    box = polygonal((-1.5, -1.5), (1.5, -1.5), (1.5, 1.5), (-1.5, 1.5))
    hole = d if random.random() < 0.5 else round(0.9 * d, 2)
    return [
        (box, 0.0, d, NEW),
        (disc(inner, x, y), 0.0, hole, CUT),
        (ring(outer, inner, x, y), 0.0, round(d * random.uniform(0.1, 0.8), 2), CUT),
    ]


def half_discs(random):
    angle, r, low = random.uniform(0, math.pi), between(random, 0.5, 2), base(random)
    a, b = (r * math.cos(angle), r * math.sin(angle)), (-r * math.cos(angle), -r * math.sin(angle))
    first, second = (Profile(Loop((Arc(p, q, (0.0, 0.0), math.pi), Line(q, p)))) for p, q in ((a, b), (b, a)))
    return [(first, 0.0, between(random, 0.6, 2), NEW), (second, low, low + between(random, 0.6, 2), JOIN)]


def partly_shared_wall(random):
    "A block on the slanted wall of a wedge that touches a part of its length."
    w, h, depth, low = between(random, 1, 3), between(random, 1, 3), between(random, 0.2, 1), base(random)
    start = random.uniform(0.02, 0.7)
    end = start + random.uniform(0.1, 0.98 - start)
    (px, py), (qx, qy) = (start * w, start * h), (end * w, end * h)
    dx, dy = h / math.hypot(w, h) * depth, -w / math.hypot(w, h) * depth
    wedge, block = polygonal((0.0, 0.0), (w, h), (0.0, h)), polygonal(
        (px, py), (px + dx, py + dy), (qx + dx, qy + dy), (qx, qy)
    )
    return [(wedge, 0.0, between(random, 0.6, 2), NEW), (block, low, low + between(random, 0.6, 2), JOIN)]


STACKS = [slanted_join, triangles, two_cuts, disc_and_ring, counterbore, half_discs, partly_shared_wall]


def on_plane(stack, number=0):
    "The sequence of a stack on the xy, yz or zx plane."
    x, y = AXES[number], AXES[number - 2]

    def extrude(profile, low, high, operation):
        plane = Plane(Plane((0.0, 0.0, 0.0), x, y).to_world((0.0, 0.0), low), x, y)
        return raised(round(high - low, 6), profile, operation=operation, plane=plane)

    return CadSequence(tuple(extrude(*step) for step in stack))


def rounded(vector):
    "A vector as DeepCAD stores it."
    return tuple(round(float(v), 8) for v in vector)


def turned(sequence, seed):
    "The sequence in a random position, its planes rounded to eight decimals."
    turn, shift = Rotation.random(random_state=seed).as_matrix(), np.array([0.3, -0.7, 0.1])

    def moved(e):
        plane = e.sketch.plane
        plane = Plane(rounded(turn @ plane.origin + shift), rounded(turn @ plane.x_axis), rounded(turn @ plane.y_axis))
        return replace(e, sketch=replace(e.sketch, plane=plane))

    return CadSequence(tuple(map(moved, sequence.extrudes)))


def section(profile, scale):
    "The profile as a region, in frame units."
    region = CrossSection([polygon(profile.outer, scale)], FillRule.NonZero)
    return (
        region - CrossSection([polygon(h, scale) for h in profile.holes], FillRule.NonZero) if profile.holes else region
    )


def tidy(region, by=1e-4):
    "The region without slivers and slits."
    for step in (by, -2 * by, by):
        region = region.offset(step, JoinType.Miter)
    return region


def perimeter(region):
    return sum(np.linalg.norm(np.roll(p, -1, axis=0) - p, axis=1).sum() for p in region.to_polygons())


def slabs(stack, scale):
    "`[(thickness, region)]` from bottom to top."
    heights, found = sorted({z for _, low, high, _ in stack for z in (low, high)}), []
    sections = [section(profile, scale) for profile, *_ in stack]
    for bottom, top in zip(heights, heights[1:]):
        region = CrossSection()
        for (_, low, high, operation), part in zip(stack, sections):
            if low < (bottom + top) / 2 < high:
                region = region - part if operation is CUT else region + part
        found.append(((top - bottom) * scale, tidy(region)))
    return found


def stack_properties(stack, scale):
    """`(volume, area, pieces)` of a stack, by 2-D booleans of slabs alone.

    `scale` is that of the frame, so that circles have the same chords as those of `build`.
    """
    layers, empty = slabs(stack, scale), CrossSection()
    volume = sum(region.area() * thickness for thickness, region in layers)
    area = sum(perimeter(region) * thickness for thickness, region in layers)
    regions = [empty, *(region for _, region in layers), empty]
    area += sum((a - b).area() + (b - a).area() for a, b in zip(regions, regions[1:]))
    return (
        volume / scale**3,
        area / scale**2,
        connected([[p for p in r.decompose() if p.area() > 1e-6] for _, r in layers]),
    )


def connected(layers):
    "Number of groups of regions that overlap those of the next layer."
    group, below = {}, []
    for pieces in layers:
        now = [(len(group) + i, p) for i, p in enumerate(pieces)]
        group.update((i, i) for i, _ in now)
        for i, a in now:
            for j, b in below:
                if (a ^ b).area() > 1e-6:
                    old, new = group[j], group[i]
                    group = {k: new if g == old else g for k, g in group.items()}
        below = now
    return len(set(group.values()))


# --- boxes on all three planes, counted cube by cube


def boxes(random, n=6):
    "`(sequence, volume, area)` of whole boxes on the three planes, or None where nothing is left."
    cubes, extrudes = np.zeros((n, n, n), dtype=bool), []
    for i in range(random.randint(2, 6)):
        plane = random.randrange(3)
        spans = [sorted(random.sample(range(n + 1), 2)) for _ in range(3)]
        operation = NEW if i == 0 else random.choice([JOIN, CUT, JOIN, CUT, INTERSECT][: 5 if i > 2 else 4])
        box = np.zeros_like(cubes)
        box[tuple(slice(*s) for s in spans)] = True
        cubes = cubes & ~box if operation is CUT else cubes & box if operation is INTERSECT else cubes | box
        if not cubes.any():
            return None
        (x0, x1), (y0, y1), (low, high) = spans[plane], spans[plane - 2], spans[plane - 1]
        extrudes += on_plane(
            [(rectangle(float(x1 - x0), float(y1 - y0), float(x0), float(y0)), low, high, operation)], plane
        ).extrudes
    area = sum(int((np.diff(np.pad(cubes, 1).astype(int), axis=axis) != 0).sum()) for axis in range(3))
    return CadSequence(tuple(extrudes)), int(cubes.sum()), area


# --- boxes on the slanted face of a wedge


def on_oblique_face(random):
    "`(sequence, volume, area)` of a wedge with a box on, or a pocket in, its slanted face, as DeepCAD rounds it."
    w, h, d = (round(random.uniform(0.02, 0.15), 8) for _ in range(3))
    length = math.hypot(w, h)
    along, up, out = np.array((-w, h, 0)) / length, np.array((0.0, 0, 1)), np.array((h, w, 0)) / length
    a, b, t = (
        round(random.uniform(low, high), 8)
        for low, high in ((0.05 * length, 0.25 * length), (0.05 * d, 0.25 * d), (0.005, 0.05))
    )
    kind = random.choice(("box", "flush", "two", "pocket"))
    centre = np.array((w, h, d)) / 2 + (kind == "flush") * ((length / 2 - a) * along + (d / 2 - b) * up)
    cycle = random.randrange(3)
    lie = lambda v: np.roll(v, cycle)
    face = Plane(rounded(lie(centre)), rounded(lie(along)), rounded(lie(up)))
    outward = 1 if np.dot(np.cross(along, up), out) > 0 else -1
    ground = Plane((0.0, 0.0, 0.0), tuple(lie((1.0, 0, 0))), tuple(lie((0, 1.0, 0))))
    wedge = raised(d, polygonal((0.0, 0.0), (w, 0.0), (0.0, h)), plane=ground)

    def on_face(x0, x1, depth, operation=JOIN):
        return raised(depth, polygonal((x0, -b), (x1, -b), (x1, b), (x0, b)), operation=operation, plane=face)

    volume, area = w * h * d / 2, (length + w + h) * d + w * h
    if kind == "pocket":
        t = min(t, 0.02 * min(w, h))
        return (
            CadSequence((wedge, on_face(-a / 2, a / 2, -outward * t, CUT))),
            volume - 2 * a * b * t,
            area + 2 * (a + 2 * b) * t,
        )
    if kind == "two":
        steps = on_face(-a, 0.0, outward * t), on_face(0.0, a, outward * round(t / 2, 8))
        return CadSequence((wedge, *steps)), volume + 3 * a * b * t, area + (3 * a + 4 * b) * t
    return CadSequence((wedge, on_face(-a, a, outward * t))), volume + 4 * a * b * t, area + 4 * (a + b) * t


def stack(seed):
    "The stack of a seed; the kinds take turns."
    return STACKS[seed % len(STACKS)](Random(seed))
