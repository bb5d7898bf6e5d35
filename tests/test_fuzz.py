"""Random programs in the language of the reader: what is read and built is what CadQuery builds, or it is rejected.

CadQuery executes the programs in a process of its own. It is a reference only where each solid that it makes on the
way is valid; where it raises an error, or nothing is left, there must be a rejection.
"""

import importlib.util
import random

import pytest

from builders import cases
from cadquery_runs import executed
from cadvlm.text.cadquery_reader import read
from cadvlm.errors import CadError
from cadvlm.cad.solid import build

COUNT, SEED = cases(30), 20_000
VOLUME, AREA = 6e-3, 8e-3  # shares that chords may differ from arcs
WRONG = ("another volume", "another area", "built what CadQuery does not build")
PLANES = "XY YZ ZX XZ YX ZY front back left right top bottom".split(" ")


def number(rng, low=-20, high=20):
    return rng.randint(low, high) if rng.random() < 0.8 else round(rng.uniform(low, high), rng.choice((1, 2, 3)))


def size(rng, high=8):
    return max(0.5, number(rng, 1, high))


def point(rng):
    return f"({number(rng)}, {number(rng)})"


def star(rng, corners):
    "Points around a middle, so that the outline does not cross itself, and a few that may."
    x, y = number(rng), number(rng)
    turn = [(1, 0), (0.6, 0.8), (-0.3, 0.9), (-1, 0.1), (-0.5, -0.8), (0.4, -0.9)]
    chosen = sorted(rng.sample(range(6), corners)) if rng.random() < 0.85 else rng.sample(range(6), corners)
    return [f"({round(x + (r := size(rng)) * turn[k][0], 3)}, {round(y + r * turn[k][1], 3)})" for k in chosen]


def outline(rng):
    "Calls that walk along a closed outline of lines and arcs."
    x, y, r, w = number(rng), number(rng), size(rng), size(rng)
    corners = star(rng, rng.randint(3, 6))
    return rng.choice(
        (
            f".moveTo({x}, {y}).hLine({w}).vLine({r}).hLine({-w}).close()",
            f".moveTo({x}, {y}).hLineTo({x + w}).vLineTo({y - r}).line({-w / 2}, {-r / 2}).close()",
            f".moveTo{corners[0]}" + "".join(f".lineTo{p}" for p in corners[1:]) + ".close()",
            f".polyline([{', '.join(corners)}]).close()",
            (
                f".moveTo({x - r}, {y}).threePointArc(({x}, {y + rng.choice((r, r / 2, 0.1 * r, 0.02 * r))}), ({x + r},"
                f" {y})).lineTo({x}, {y - 2 * r}).close()"
            ),
            (
                f".moveTo({x}, {y}).line({w}, 0).threePointArc(({x + w + r}, {y + r}), ({x + w},"
                f" {y + 2 * r})).line({-w}, 0).threePointArc(({x - r}, {y + r}), ({x}, {y})).close()"
            ),
        )
    )


def shape(rng):
    "Calls that draw one shape, or some at points."
    corner = rng.choice(("", "", ", centered=False", ", centered=(True, False)"))
    at = f".pushPoints([{', '.join(point(rng) for _ in range(rng.randint(1, 3)))}])"
    return rng.choice(
        (
            f".circle({size(rng)})",
            f".rect({size(rng)}, {size(rng)}{corner})",
            at + f".circle({size(rng, 4)})",
            at + f".rect({size(rng, 4)}, {size(rng, 4)})",
            outline(rng),
            outline(rng),
        )
    )


def with_holes(rng):
    "Calls that draw an outline with loops in it, some of which touch or cross it, overlap, or are islands."
    x, y, a = number(rng), number(rng), rng.randint(5, 12)
    loop = lambda a: rng.choice((f".circle({a})", f".rect({2 * a}, {2 * a})", f".rect({2 * a}, {a})"))
    calls = f".moveTo({x}, {y})" + rng.choice((f".circle({a})", f".rect({2 * a}, {2 * a})"))
    for dx in rng.sample((-a / 2, 0, a / 2), rng.randint(1, 3)):
        sizes = (a / 4, 1, 1.5, 2) if rng.random() < 0.8 else (a / 2, a - 1)
        calls += f".moveTo({x + dx}, {y + rng.choice((0, 0, 1))})" + loop(rng.choice(sizes))
    return calls


def sketch(rng):
    "A sketch of shapes that are added, cut and intersected."
    calls = ".sketch()"
    for i in range(rng.randint(1, 4)):
        calls += rng.choice((f".push([{', '.join(point(rng) for _ in range(rng.randint(1, 3)))}])", ".reset()", ""))
        mode = rng.choice(("", "", ", mode='s'", ", mode='i'")) if i else ""
        corners = star(rng, rng.randint(3, 5))
        more = "".join(f".segment({p})" for p in corners[2:])
        segments = f".segment({corners[0]}, {corners[1]}){more}.close().assemble({mode[2:]})"
        turned = rng.choice(("", ", 90", ", 30"))
        calls += rng.choice(
            (
                f".circle({size(rng)}{mode})",
                f".rect({size(rng)}, {size(rng)}{turned}{mode})",
                segments if ".segment" not in calls else f".circle({size(rng)}{mode})",
            )
        )
    return calls + ".finalize()"


def plane(rng):
    place = f", origin=({number(rng)}, {number(rng)}, {number(rng)})"
    return rng.choice(
        (
            f"cq.Workplane('{rng.choice(PLANES)}')",
            f"cq.Workplane('{rng.choice(PLANES)}'{place})",
            "cq.Workplane('XY')",
            f"cq.Workplane('XY').workplane(offset={number(rng)})",
            (
                f"cq.Workplane(cq.Plane(({number(rng)}, {number(rng)}, {number(rng)}), (1, 0,"
                f" {rng.choice((0, 1, -1))}), (0, {rng.choice((1, -1))}, 0)))"
            ),
        )
    )


def prism(rng):
    "A chain that makes one solid."
    move = lambda: rng.choice((f".moveTo{point(rng)}", f".center{point(rng)}", ".moveTo(0, 0)", ""))
    extrude = f".extrude({rng.choice((1, 2, 5, -3, 4.5, 10))}{rng.choice(('', '', '', ', both=True'))})"
    middle = rng.choice(("", "", ", centered=(True, True, False)", ", centered=False"))
    drawn = "".join(move() + shape(rng) for _ in range(rng.choice((1, 1, 2, 3))))
    return plane(rng) + rng.choice(
        (
            move() + f".box({size(rng)}, {size(rng)}, {size(rng)}{middle})",
            move() + f".cylinder({size(rng)}, {size(rng)})",
            move() + sketch(rng) + extrude,
            with_holes(rng) + extrude,
            drawn + extrude,
            drawn + extrude,
        )
    )


def program(rng):
    "A part of one to four steps."
    lines = ["import cadquery as cq", "r = " + prism(rng)]
    for _ in range(rng.choice((0, 0, 1, 1, 2, 3))):
        verb, inner = rng.choice(("union", "union", "cut", "cut", "intersect")), rng.choice(("union", "cut"))
        drawn = rng.choice((".moveTo(0, 0)", f".moveTo{point(rng)}")) + shape(rng)
        lines.append(
            "r = r"
            + rng.choice(
                (
                    f".{verb}({prism(rng)})",
                    f".{verb}({prism(rng)})",
                    f".{verb}({prism(rng)})",
                    f".{verb}({prism(rng)}.{inner}({prism(rng)}))",
                    f"{drawn}.extrude({rng.choice((2, -3, 7))})",
                    f"{drawn}.cutBlind({rng.choice((2, -3, 7))})",
                    (
                        f"{drawn}.extrude({rng.choice((2, -3))},"
                        f" combine={rng.choice(('True', 'False', chr(39) + 'cut' + chr(39)))})"
                    ),
                )
            )
        )
    return "\n".join(lines) + "\n"


def ours(text):
    try:
        solid = build(read(text))
        return dict(volume=solid.volume, area=solid.area)
    except CadError as error:
        return error.reason


def judged(theirs, mine):
    "What to say of one program."
    if theirs is None or not theirs["sound"]:
        return "no reference"
    nothing = theirs["volume"] < 1e-9
    if isinstance(mine, str):
        return f"rejected, as CadQuery: {mine}" if nothing else f"rejected: {mine}"
    if nothing:
        return "built what CadQuery does not build"
    if abs(mine["volume"] / theirs["volume"] - 1) > VOLUME:
        return "another volume"
    return "another area" if abs(mine["area"] / theirs["area"] - 1) > AREA else "equal"


@pytest.mark.occ
@pytest.mark.skipif(importlib.util.find_spec("cadquery") is None, reason="needs CadQuery: pip install cadvlm[dev]")
def test_random_programs_match_cadquery():
    texts = [program(random.Random(SEED + k)) for k in range(COUNT)]
    verdicts = [judged(theirs, ours(text)) for theirs, text in zip(executed(texts), texts)]
    counts = {v: verdicts.count(v) for v in sorted(set(verdicts), key=verdicts.count, reverse=True)}
    print(f"\n{COUNT} programs: {counts}")
    assert not {SEED + k: (v, t) for k, (v, t) in enumerate(zip(verdicts, texts)) if v in WRONG}
    reasons = {v.partition(": ")[2] for v in verdicts if v.startswith("rejected: ")}
    assert reasons <= {
        "overlapping_loops",
        "island_in_hole",
        "touching_loops",
        "self_intersecting_loop",
        "nested_boolean",
        "empty_solid",
        "no_area",
        "open_loop",
    }
    assert counts["equal"] > COUNT / 2
