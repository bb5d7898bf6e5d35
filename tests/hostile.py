"""Programs that are short and quickly read, and ask for a solid that is not: what a model under training writes by
accident, or an attacker on purpose."""

import math
import random
from functools import lru_cache

START = "import cadquery as cq\n"


def number(value):
    "A number as both languages read it."
    return f"{value:.9f}".rstrip("0").rstrip(".") if abs(value) < 1e6 else "999999"


def words(*values):
    return " ".join(v if isinstance(v, str) else number(v) for v in values)


def disc(x, y, r):
    return words("O", x, y, r)


def box(x0, y0, x1, y1):
    return words("R", x0, y0, x1, y1)


def outline(points):
    return words("M", *(v for p in points for v in p))


def step(direction, low, high, *loops, sign="+"):
    return " ".join((sign, direction, words(low, high), *loops))


def skew(azimuth, tilt):
    return words("n", azimuth, tilt)


def around(n, r, x=0.0, y=0.0, turn=0.0):
    return [
        (x + r * math.cos(2 * math.pi * (k + turn) / n), y + r * math.sin(2 * math.pi * (k + turn) / n))
        for k in range(n)
    ]


@lru_cache
def grid(n, size=180.0):
    "The centres of n by n squares, and the side of one."
    side = size / n
    return [(-size / 2 + side * (i + 0.5), -size / 2 + side * (j + 0.5)) for i in range(n) for j in range(n)], side


def program(steps):
    return "compact", "\n".join(steps)


def code(lines):
    return "cadquery", START + "\n".join(lines)


# --- sizes: tiny beside huge ---


def tiny_beside_disc(tiny, huge):
    return program([step("z", 0, tiny, box(0, 0, tiny, tiny)), step("z", 0, huge / 10, disc(huge, 0, huge / 2))])


def tiny_beside_arc(tiny, huge):
    return program(
        [
            step("z", 0, tiny, box(0, 0, tiny, tiny)),
            step("z", 0, tiny, f"M {number(0)} {number(0)} A {number(huge / 2)} {number(huge / 2)} {number(huge)} 0"),
        ]
    )


def tiny_common_with_huge(tiny, huge, verb="intersect"):
    return code(
        [
            f"a = cq.Workplane('XY').circle({huge:g}).extrude({huge:g})",
            f"r = a.{verb}(cq.Workplane('YZ').moveTo({0.9*huge:g}, 0).rect({tiny:g}, {tiny:g}).extrude({tiny:g}))",
        ]
    )


def tiny_left_of_huge(tiny, huge):
    return code(
        [
            f"a = cq.Workplane('XY').circle({huge:g}).extrude({huge:g})",
            f"r = a.intersect(cq.Workplane('XY').circle({tiny:g}).extrude({tiny:g}))",
        ]
    )


def rim_of_a_huge_disc(tiny, huge):
    """What is left is small and lies on the rim, so that it is built again at a scale at which the disc has
    millions of chords."""
    return program(
        [
            step("z", 0, huge, disc(0, 0, huge)),
            step("z", 0, huge / 2, box(huge - tiny, -huge, huge + tiny, huge), sign="&"),
            step("y", -tiny, tiny, box(0, 0, 2 * huge, tiny), sign="&"),
        ]
    )


def tiny_cut_by_huge(tiny, huge, curve, sign):
    "Where the part measures its thickness, the curve of the cut has millions of chords."
    edge = disc(huge, 0, huge) if curve == "disc" else f"M 0 0 A {number(huge / 2)} {number(huge / 2)} {number(huge)} 0"
    return program([step("z", 0, tiny, box(0, 0, tiny, tiny)), step("z", 0, tiny / 2, edge, sign=sign)])


def flat_arc(rise, length):
    return code(
        [
            f"r = cq.Workplane('XY').moveTo({-length:g}, 0).threePointArc((0, {rise:g}), ({length:g},"
            " 0)).close().extrude(5)"
        ]
    )


def flat_arcs(n, rise):
    "A sliver of arcs whose centres are far away."
    points = [(k * 100 / n, 0.0) for k in range(n + 1)]
    arcs = " ".join(words("A", (a[0] + b[0]) / 2, rise, *b) for a, b in zip(points, points[1:]))
    return (
        program([step("z", 0, 5, f"M 0 0 {arcs} 100 50 0 50")])
        if n < 2
        else program([step("z", 0, 5, f"M 0 0 {arcs} A 150 25 100 50 0 50")])
    )


def thin_plate(thickness, size):
    return program([step("z", 0, thickness, *(disc(x, y, 0.4 * size / 12) for x, y in grid(12, size)[0]))])


def arcs_of_many_sizes(n):
    "Discs whose radii double."
    return program([step("z", k, k + 0.5, disc(2.0**k * 1e-6, 0, 2.0**k * 1e-6)) for k in range(n)])


def far_from_the_origin(n, huge):
    return program(
        [
            step(
                "z",
                0,
                10,
                *(
                    disc(huge + x * 1e-3, huge + y * 1e-3, 1e-3 * side / 3)
                    for (x, y) in grid(n)[0]
                    for side in [grid(n)[1]]
                ),
            )
        ]
    )


# --- many curves ---


def tiny_discs(n, r, high=5.0):
    return program([step("z", 0, high, *(disc(x, y, r * side) for x, y in grid(n)[0] for side in [grid(n)[1]]))])


def plate_with_holes(n, share, copies=1, move=0.0, sign="+"):
    (centres, side), steps = grid(n), []
    for k in range(copies):
        d = k * move
        steps.append(
            step(
                "z",
                d,
                d + 10,
                box(-100 + d, -100 + d, 100 + d, 100 + d),
                *(disc(x + d, y + d, share * side) for x, y in centres),
                sign=sign if k else "+",
            )
        )
    return program(steps)


def plates_on_three_axes(n, sign):
    centres, side = grid(n)
    plate = lambda axis, s: step(
        axis, -80, 80, box(-100, -100, 100, 100), *(disc(x, y, 0.3 * side) for x, y in centres), sign=s
    )
    return program([plate("z", "+"), plate("x", sign), plate("y", sign)])


def concentric_rings(n):
    return program([step("z", 0, 10, *(disc(0, 0, 100 * (k + 1) / n) for k in range(n)))])


def concentric_rings_in_code(n):
    return code(["r = cq.Workplane('XY')" + "".join(f".circle({k + 1})" for k in range(n)) + ".extrude(5)"])


def concentric_cuts(n, axis):
    return program(
        [step("z", 0, 100, disc(0, 0, 100))]
        + [
            step(axis, -100, 100, disc(0, 50, 50 - 49 * k / n), disc(0, 50, 50 - 49 * (k + 0.5) / n), sign="-")
            for k in range(n)
        ]
    )


def pattern_of_patterns(n, m):
    "A pattern of stars with holes, in one chain of calls."
    points = ", ".join(f"({x:g}, {y:g})" for x, y in grid(n)[0])
    star = "".join(
        (
            f".circle({0.4 * grid(n)[1] * (k + 1) / m:g})"
            if k == 0
            else f".pushPoints([{points}]).circle({0.4 * grid(n)[1] * (k + 1) / m:g})"
        )
        for k in range(m)
    )
    return code([f"r = cq.Workplane('XY').pushPoints([{points}]){star}.extrude(5)"])


def pushed_boxes(n, r, plane):
    "Overlapping boxes of one call."
    points = ", ".join(f"({x:g}, {y:g})" for x, y in grid(n)[0])
    return code([f"r = cq.Workplane('{plane}').pushPoints([{points}]).box({r}, {r}, 10)"])


def pushed_rectangles(n, w):
    "As many lines as a text may have."
    points = ", ".join(f"({x:g}, {y:g})" for x, y in grid(n)[0])
    return code([f"r = cq.Workplane('XY').pushPoints([{points}]).rect({w}, {w}).extrude(10)"])


def pushed_cylinders(n, r):
    points = ", ".join(f"({x:g}, {y:g})" for x, y in grid(n)[0])
    return code([f"r = cq.Workplane('XY').pushPoints([{points}]).cylinder(10, {r})"])


# --- doubling and chains ---


def doubled(arcs, times, verb="union"):
    "A sketch of arcs, and again and again the union of the part with itself."
    star = "".join(
        f".threePointArc(({90 * math.cos(a):.4f}, {90 * math.sin(a):.4f}), ({100 * math.cos(b):.4f},"
        f" {100 * math.sin(b):.4f}))"
        for k in range(arcs)
        for a, b in [(2 * math.pi * (k + 0.5) / arcs, 2 * math.pi * (k + 1) / arcs)]
    )
    return code([f"r = cq.Workplane('XY').moveTo(100, 0){star}.close().extrude(5)"] + [f"r = r.{verb}(r)"] * times)


def doubled_and_moved(arcs, times):
    "The same on planes that are turned and moved, so that no two are the same."
    star = "".join(
        f".threePointArc(({90 * math.cos(a):.4f}, {90 * math.sin(a):.4f}), ({100 * math.cos(b):.4f},"
        f" {100 * math.sin(b):.4f}))"
        for k in range(arcs)
        for a, b in [(2 * math.pi * (k + 0.5) / arcs, 2 * math.pi * (k + 1) / arcs)]
    )
    made = [
        f"w{i} = cq.Workplane(cq.Plane(({3 * i}, {5 * i}, {i}), (1, {0.01 * i:g}, 0), (0, 0, 1))).moveTo(100,"
        f" 0){star}.close().extrude({20 + i})"
        for i in range(times)
    ]
    return code(made + ["r = w0"] + [f"r = r.union(w{i})" for i in range(1, times)])


def cut_chain(n, loop, tilted, sign="-"):
    "One cut after the other, each a little further."
    cuts = [
        step(skew(7 * k % 180 - 90, 5 + 70 * k / n) if tilted else "z", -90 + k * 180 / n, 100, loop(k), sign=sign)
        for k in range(n)
    ]
    return program([step("z", -100, 100, box(-100, -100, 100, 100)), *cuts])


def join_and_cut_in_turn(n, r):
    steps = [step("z", 0, 10, box(-100, -100, 100, 100))]
    for k in range(n):
        x, y = 90 * math.cos(k * 2.4) * math.sqrt(k / n), 90 * math.sin(k * 2.4) * math.sqrt(k / n)
        steps += [step("z", 5, 20 + k / n, disc(x, y, r)), step("z", 0, 30, disc(x, y, r / 2), sign="-")]
    return program(steps)


def skew_discs(n, sign, thickness, r=100.0, seed=0):
    rng = random.Random(seed)
    first = [step("z", -100, 100, disc(0, 0, 100))] if sign != "+" else []
    discs = [
        (
            rng.uniform(-90, 90),
            rng.uniform(1, 89),
            rng.uniform(-90, 90 - thickness),
            rng.uniform(-20, 20),
            rng.uniform(-20, 20),
        )
        for _ in range(n)
    ]
    return program(
        first
        + [
            step(skew(a, t), z, z + thickness, disc(x, y, r), sign=sign if first or k else "+")
            for k, (a, t, z, x, y) in enumerate(discs)
        ]
    )


def skew_discs_in_code(n, verb, thickness, seed=1):
    rng, lines = random.Random(seed), ["r = cq.Workplane('XY').circle(100).extrude(200, both=True)"]
    for _ in range(n):
        z, o = [rng.uniform(-1, 1) for _ in range(3)], [rng.uniform(-80, 80) for _ in range(3)]
        lines.append(
            f"r = r.{verb}(cq.Workplane(cq.Plane(({o[0]:.2f}, {o[1]:.2f}, {o[2]:.2f}), ({-z[1] - 1e-3:.3f}, {z[0]:.3f},"
            f" 0), ({z[0]:.3f}, {z[1]:.3f}, {z[2]:.3f}))).circle(150).extrude({thickness}))"
        )
    return code(lines)


def skew_slabs(n, sign, thickness):
    rng = random.Random(n)
    first = step("z", -100, 100, box(-100, -100, 100, 100))
    slabs = [
        step(skew(rng.uniform(-90, 90), rng.uniform(1, 89)), h, h + thickness, box(-300, -300, 300, 300), sign=sign)
        for h in (rng.uniform(-95, 95 - thickness) for _ in range(n))
    ]
    return program([first, *slabs])


def fans(n, m, sign):
    "Slabs about one axis, on three axes."
    steps = []
    for axis in range(m):
        for k in range(n):
            direction = [skew(-90, 1 + 88 * k / n), skew(-89 + 178 * k / n, 90), skew(0.0, 1 + 88 * k / n)][axis]
            steps.append(step(direction, -0.3, 0.3, box(-100, -100, 100, 100), sign=sign if steps else "+"))
    return program(steps)


# --- outlines that cross themselves, and each other ---


def random_outline(n, seed, size=100.0):
    rng = random.Random(seed)
    return outline([(rng.uniform(-size, size), rng.uniform(-size, size)) for _ in range(n)])


def random_polyline(n, seed, height=10.0):
    return program([step("z", 0, height, random_outline(n, seed))])


def random_polyline_in_code(n, seed):
    rng = random.Random(seed)
    points = ", ".join(f"({rng.uniform(-99, 99):.1f}, {rng.uniform(-99, 99):.1f})" for _ in range(n))
    return code([f"r = cq.Workplane('XY').polyline([{points}]).close().extrude(5)"])


def star(n, k, axis="z"):
    corners = around(n, 100)
    return program([step(axis, 0, 10, outline([corners[i * k % n] for i in range(n)]))])


def random_arcs(n, seed):
    rng = random.Random(seed)
    value = lambda: number(rng.uniform(-100, 100))
    return program(
        [
            step(
                "z",
                0,
                10,
                f"M {value()} {value()} " + " ".join(f"A {value()} {value()} {value()} {value()}" for _ in range(n)),
            )
        ]
    )


def random_discs(n, r, seed, sketches=1, thickness=1.0):
    rng, steps = random.Random(seed), []
    for k in range(sketches):
        steps.append(
            step(
                "z",
                k * thickness / 2,
                k * thickness / 2 + thickness,
                *(disc(rng.uniform(-100, 100), rng.uniform(-100, 100), r) for _ in range(n // sketches)),
            )
        )
    return program(steps)


def random_boxes_in_a_sketch(n, seed, slender=False):
    rng, loops = random.Random(seed), []
    for k in range(n):
        x, y = rng.uniform(-100, 100), rng.uniform(-100, 100)
        w, h = (200, 0.2) if slender and k % 2 else (0.2, 200) if slender else (rng.uniform(1, 60), rng.uniform(1, 60))
        loops.append(box(x, y, x + w, y + h))
    return program([step("z", 0, 10, *loops)])


def wall_of_holes_that_cross(n):
    "Holes that cross their neighbours, in one profile."
    return program(
        [step("z", 0, 10, box(-110, -110, 110, 110), *(disc(-100 + 200 * k / n, 0, 90 - 80 * k / n) for k in range(n)))]
    )


def comb(teeth, axis, low, high, sign="+", turn=0.0):
    width = 200 / (2 * teeth)
    points = [(-110, -100)]
    for k in range(teeth):
        y = -100 + 2 * k * width
        points += [(100, y), (100, y + width), (-100, y + width), (-100, y + 2 * width)]
    points.append((-110, 100))
    c, s = math.cos(turn), math.sin(turn)
    return step(axis, low, high, outline([(c * x - s * y, s * x + c * y) for x, y in points]), sign=sign)


def combs(teeth, sign, turn=0.0):
    "Combs that cross on three axes."
    return program(
        [
            comb(teeth, "z", -100, 100, turn=turn),
            comb(teeth, "x", -100, 100, sign, turn),
            comb(teeth, "y", -100, 100, sign, turn),
        ]
    )


def skew_combs(teeth, sign):
    return program(
        [
            comb(teeth, skew(30, 40), -100, 100),
            comb(teeth, skew(-50, 60), -100, 100, sign),
            comb(teeth, skew(10, 75), -100, 100, sign, 1.0),
        ]
    )


def one_comb(teeth, azimuth, tilt, turn, high):
    return program([comb(teeth, skew(azimuth, tilt), 0, high, turn=turn)])


def saws(n, amplitude, sign="&"):
    "Saw teeth over saw teeth on another axis."
    saw = outline(
        [(-100, -100)] + [(-100 + 200 * k / n, 50 + amplitude * (k % 2)) for k in range(n + 1)] + [(100, -100)]
    )
    return program(
        [step("z", -100, 100, saw), step("x", -100, 100, saw, sign=sign), step("y", -100, 100, saw, sign=sign)]
    )


def spiral(n, turns, width):
    "A long wall rolled up."
    line = [
        (100 * k / n * math.cos(2 * math.pi * turns * k / n), 100 * k / n * math.sin(2 * math.pi * turns * k / n))
        for k in range(1, n + 1)
    ]
    back = [(x * (1 + width / 100), y * (1 + width / 100)) for x, y in reversed(line)]
    return program([step("z", 0, 100, outline(line + back)), step("x", -60, 60, outline(line + back), sign="&")])


# --- nearly the same ---


def near_copies(n, apart, r=80.0, sign="+"):
    return program(
        [
            step("z", k * apart, 50 + k * apart, disc(k * apart, -k * apart, r + k * apart), sign=sign if k else "+")
            for k in range(n)
        ]
    )


def tangent_discs(n, gap):
    "Discs in a row that nearly touch, crossed by such rows on other axes."
    r = 100 / n
    row = [disc(-100 + r * (2 * k + 1), 0, r * (1 + gap)) for k in range(n)]
    return program([step("z", -50, 50, *row), step("x", -50, 50, *row), step("y", -50, 50, *row)])


def turned_copies(n, angle, loop, sign="+"):
    return program(
        [step(skew(-90 + angle * k, 30 + angle * k), -20, 20, loop, sign=sign if k else "+") for k in range(n)]
    )


def pins_in_holes(n, gap):
    centres, side = grid(n)
    r = 0.4 * side
    return program(
        [
            step("z", 0, 10, box(-100, -100, 100, 100)),
            step("z", -5, 15, *(disc(x, y, r) for x, y in centres), sign="-"),
            step("z", 0, 10, *(disc(x, y, r - gap) for x, y in centres)),
        ]
    )


def layers(n, loop, gap=0.0):
    high = 200 / n
    return program([step("z", -100 + k * high, -100 + (k + 1) * high - gap, loop(k)) for k in range(n)])


# --- what is dear to draw ---


def woven(n):
    "Rods over rods: every edge passes behind many."
    width = 200 / (2 * n)
    rods = [box(-100, -100 + 2 * k * width, 100, -100 + (2 * k + 1) * width) for k in range(n)]
    return program(
        [
            step("z", -100, -90, *rods),
            step("y", -100, 100, *(box(-100 + 2 * k * width, 20, -100 + (2 * k + 1) * width, 30) for k in range(n))),
            step("x", -100, 100, *(box(-100 + 2 * k * width, 60, -100 + (2 * k + 1) * width, 70) for k in range(n))),
        ]
    )


def rods(n, azimuth, tilt, r):
    centres, side = grid(n)
    return program([step(skew(azimuth, tilt), -100, 100, *(disc(x, y, r * side) for x, y in centres))])


def shelves(n, m):
    "Plates with holes behind each other."
    centres, side = grid(m)
    high = 200 / n
    return program(
        [
            step(
                "z",
                -100 + k * high,
                -100 + (k + 0.5) * high,
                box(-100, -100, 100, 100),
                *(disc(x, y, 0.3 * side) for x, y in centres),
            )
            for k in range(n)
        ]
    )


# --- short programs with loops ---


def looped(n, step, start=".box(200, 200, 20)"):
    "One step again and again."
    return code([f"r = cq.Workplane('XY'){start}", f"for i in range({n}):", f"    r = {step}"])


def holes_in_a_loop(n, m):
    return looped(n, f"r.faces('>Z').workplane().center(i*0.37, 0).rarray(180/{m}, 180/{m}, {m}, {m}).hole(90/{m})")


def posts_on_posts(n):
    "Each on the highest face of those before."
    return looped(n, "r.faces('>Z').workplane().rarray(9, 9, 3, 3).circle(4 - i*0.01).extrude(2)")


def turned_in_a_loop(n, verb, angle):
    slot = "cq.Workplane('YZ').slot2D(150, 9).extrude(90, both=True)"
    return looped(n, f"r.{verb}({slot}.rotate((0, 0, 0), (1, 2, 3), i*{angle}))")


def mirrored_and_turned(n):
    "Solids that double."
    return looped(n, "r.rotate((9, 3, 1), (1, 2, 3), 17).mirror('XZ', union=True)", ".polygon(30, 90).extrude(9)")


def polar_patterns(n, m):
    places = f"r.faces('>Z').workplane().polarArray(20 + i*70/{n}, i*3, 360, {m})"
    return looped(n, f"{places}.rect(9, 2).cutThruAll()", ".circle(100).extrude(9)")


def listed_outline(n, turns):
    "A long outline that a comprehension makes."
    point = f"((20 + 70*i/{n})*math.cos(i*{turns}), (20 + 70*i/{n})*math.sin(i*{turns}))"
    lines = f"p = [{point} for i in range({n})]", "r = cq.Workplane('XY').polyline(p).close().extrude(9)"
    return code(["import math", *lines])


def hostile_rows(n, kind, seed=0):
    "Tables of DeepCAD."
    rng, rows = random.Random(seed), []
    word = lambda *values: [*values, *[-1] * (17 - len(values))]
    sol, eos = word(4), word(3)
    extrude = lambda b, t, p, q, o: [5, -1, -1, -1, -1, -1, t, p, q, *o, 255, 250, 5, b, 2]
    for k in range(n):
        if kind == "circles":
            rows += [sol, [2, rng.randrange(256), rng.randrange(256), -1, -1, rng.randrange(1, 200), *[-1] * 11]]
        if kind == "skew":
            rows += [
                sol,
                [2, 128, 128, -1, -1, 90, *[-1] * 11],
                extrude(
                    rng.choice([1, 2]) if k else 0,
                    *(rng.randrange(256) for _ in range(3)),
                    [rng.randrange(100, 150) for _ in range(3)],
                ),
            ]
        if kind == "lines":
            rows += [sol] * (k == 0) + [[0, rng.randrange(256), rng.randrange(256), *[-1] * 14]]
        if kind == "arcs":
            rows += [sol] * (k == 0) + [
                [1, rng.randrange(256), rng.randrange(256), rng.randrange(20, 236), rng.randrange(2), *[-1] * 12]
            ]
    if kind != "skew":
        rows.append(extrude(0, 128, 128, 128, [128] * 3))
    return "vectors", [*rows, eos]


def programs():
    "`{name: (language, text)}`"
    made = {}

    def wave(k):
        return outline(around(3 + k % 17, 30 + k % 60, k % 13, k % 29))

    def small(k):
        return disc(k % 90 - 45, 7 * k % 90 - 45, 8)

    def add(function, *cases, **options):
        for case in cases:
            made[f"{function.__name__}({', '.join(getattr(c, '__name__', str(c)) for c in case)})"] = function(
                *case, **options
            )

    tiny = [(1e-4, 1e6), (1e-4, 1e5), (1e-6, 1e6), (1e-9, 1e6), (1e-2, 1e6), (1.0, 1e6), (1e-3, 1e4), (1e-5, 100.0)]
    add(tiny_beside_disc, *tiny)
    add(tiny_beside_arc, *tiny)
    add(tiny_left_of_huge, *tiny)
    add(rim_of_a_huge_disc, *tiny)
    add(tiny_cut_by_huge, *[(*t, c, s) for t in tiny for c, s in (("disc", "-"), ("arc", "-"), ("disc", "&"))])
    add(tiny_common_with_huge, *[(*t, v) for t in tiny for v in ("intersect", "union", "cut")])
    add(flat_arc, (0.2, 100), (1e-3, 1e3), (0.01, 1e6), (1e-6, 1e3), (0.5, 1e6), (1.0, 1e6), (3e-6, 1))
    add(flat_arcs, (1, 1e-3), (40, 1e-3), (1000, 1e-4), (1000, 0.01), (1400, 0.5))
    add(thin_plate, (1e-6, 200.0), (1e-4, 2e5), (1e-9, 1.0))
    add(arcs_of_many_sizes, (20,), (30,), (39,))
    add(far_from_the_origin, (5, 9e5), (30, 9e5))
    add(tiny_discs, *[(n, r) for n in (20, 30, 38) for r in (0.001, 0.49, 0.55, 0.9)], (10, 0.49))
    add(tiny_discs, (38, 0.49, 1e-3), (38, 1e-4, 200.0))
    add(
        plate_with_holes,
        *[
            (n, 0.3, copies, move)
            for n in (8, 16, 26)
            for copies, move in ((1, 0.0), (2, 0.0), (2, 0.01), (2, 3.3), (4, 2.1))
        ],
    )
    add(plate_with_holes, *[(n, 0.3, 2, move, sign) for n in (16, 26) for move in (0.0, 0.02, 3.3) for sign in "-&"])
    add(plates_on_three_axes, *[(n, s) for n in (5, 10, 20) for s in "+-&"])
    add(concentric_rings, (10,), (40,), (100,), (1000,))
    add(concentric_rings_in_code, (20,), (44,), (60,))
    add(concentric_cuts, *[(n, a) for n in (20, 100, 400) for a in "zx"])
    add(pattern_of_patterns, (10, 3), (12, 5), (16, 4))
    add(pushed_boxes, *[(n, r, p) for n, p in ((10, "YZ"), (22, "XY")) for r in (3, 12, 150)])
    add(pushed_rectangles, (20, 3), (34, 3), (34, 5.88), (20, 12))
    add(pushed_cylinders, (10, 5), (20, 20), (22, 90))
    add(doubled, (10, 4), (40, 4), (40, 8), (200, 5), (40, 8, "cut"), (40, 8, "intersect"))
    add(doubled_and_moved, (10, 4), (40, 4), (40, 16), (60, 16), (100, 8))
    add(
        cut_chain,
        *[
            (n, loop, tilted, sign)
            for n in (30, 150, 450)
            for loop in (wave, small)
            for tilted in (False, True)
            for sign in "-+"
        ],
    )
    add(join_and_cut_in_turn, (20, 8), (100, 8), (245, 4), (245, 30))
    add(skew_discs, *[(n, s, t) for n in (20, 60, 150, 400) for s in "+-" for t in (0.5, 30.0)])
    add(skew_discs, (3, "&", 120.0), (30, "&", 190.0), (150, "&", 199.0))
    add(skew_discs_in_code, (30, "cut", 2), (150, "cut", 2), (150, "union", 2), (150, "intersect", 300))
    add(skew_slabs, (10, "+", 10.0), (10, "-", 0.2))
    add(skew_slabs, *[(n, s, t) for n in (40, 100, 400) for s in "+-" for t in (0.2, 10.0)])
    add(fans, *[(n, m, s) for n in (10, 50, 150) for m in (1, 3) for s in "+-"])
    add(random_polyline, *[(n, 1) for n in (10, 50, 200, 500, 1000, 1490)])
    add(random_polyline, *[(n, s) for n in (100, 300) for s in (2, 3)])
    add(random_polyline_in_code, (100, 1), (700, 1), (2000, 1), (2500, 2))
    add(star, *[(n, k, a) for n, k in ((5, 2), (101, 50), (301, 7), (601, 300), (1201, 7), (1301, 600)) for a in "zx"])
    add(random_arcs, (10, 1), (40, 2), (100, 3), (300, 4), (1400, 5))
    add(random_discs, *[(n, r, 1) for n in (50, 300, 1400) for r in (2, 20, 90)])
    add(random_discs, (400, 20, 2, 40), (1000, 30, 3, 100), (1400, 5, 4, 400, 10.0))
    add(random_boxes_in_a_sketch, *[(n, 1, s) for n in (50, 200, 370) for s in (False, True)])
    add(wall_of_holes_that_cross, (5,), (50,), (400,))
    add(combs, (10, "+"), *[(n, s) for n in (30, 60, 120) for s in "+-&"])
    add(combs, (40, "+", 0.3), (40, "&", 0.3), (100, "-", 0.01))
    add(skew_combs, *[(n, s) for n in (10, 40, 100) for s in "+-&"])
    add(one_comb, (350, 10, 80, 0.3, 1), (350, 30, 60, 0.1, 200), (370, -45, 54.7, 0.785, 0.05))
    add(saws, *[(n, a, s) for n in (20, 100, 480) for a in (1, 100) for s in "&+"])
    add(spiral, (100, 5, 0.1), (240, 20, 0.3), (360, 60, 0.05))
    add(near_copies, (10, 1e-9), (10, 0.02), *[(n, a) for n in (100, 450) for a in (1e-9, 1e-5, 1e-3, 0.02)])
    add(near_copies, (100, 1e-3, 80.0, "-"), (100, 0.02, 80.0, "&"))
    add(tangent_discs, *[(n, g) for n in (10, 50, 400) for g in (-1e-6, 0.0, 1e-3)])
    ring = " ".join((disc(0, 0, 90), disc(0, 0, 80)))
    add(turned_copies, *[(n, a, ring) for n in (10, 50, 200) for a in (1e-6, 1e-3, 0.3)])
    add(pins_in_holes, (8, 0.0), (8, 1e-3), (20, 0.01), (21, 0.2))
    add(layers, (50, wave), (400, wave), (490, wave, 0.1), (400, small, 0.1))
    add(woven, (10,), (40,), (100,), (240,))
    add(rods, (10, 30, 50, 0.4), (25, -45, 54.7, 0.2), (38, 30, 50, 0.4), (38, -45, 54.7, 0.2))
    add(shelves, (10, 4), (20, 8), (40, 5), (300, 2))
    add(holes_in_a_loop, (5, 10), (40, 4), (200, 1), (3, 40), (300, 3))
    add(posts_on_posts, (10,), (50,), (400,))
    add(turned_in_a_loop, *[(n, v, a) for n in (10, 60, 240) for v in ("union", "cut") for a in (0.01, 7)])
    add(mirrored_and_turned, (2,), (4,), (8,), (60,))
    add(polar_patterns, (3, 24), (20, 24), (100, 5), (2, 1000))
    add(listed_outline, (100, 0.3), (1000, 0.02), (2000, 0.31), (4999, 0.01))
    add(hostile_rows, *[(n, k) for n in (10, 28) for k in ("circles", "skew", "lines", "arcs")])
    return made
