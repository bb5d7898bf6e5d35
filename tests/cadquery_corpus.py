"""Programs for CadQuery in the styles of people, of a coder model and of frontier models: `programs()`.

The public corpora of such programs may not be shipped, so these are made up: templates that follow what one finds in
them, filled in by a random generator. Some use what extrudes of lines and arcs cannot hold.
"""

import random
import textwrap

SEED, EACH = 7, 67  # programs of each style


def human(rng):
    "Short programs without comments, numbers with one-letter names, what was copied from the documentation."
    a, b, c = rng.randint(20, 90), rng.randint(20, 60), rng.randint(3, 12)
    d, n, t = rng.choice((2.5, 4, 5.5)), rng.randint(2, 5), rng.randint(1, 3)
    return [
        f"""
        import cadquery as cq
        l = {a}
        w = {b}
        t = {c}
        r = cq.Workplane("XY").box(l, w, t).faces(">Z").workplane().hole({d})
        """,
        f"""
        import cadquery as cq
        height = {a}.0
        width = {b}.0
        thickness = {c}.0
        diameter = {2 * d}
        padding = 12.0
        result = (
            cq.Workplane("XY").box(height, width, thickness)
            .faces(">Z").workplane().hole(diameter)
            .faces(">Z").workplane()
            .rect(height - padding, width - padding, forConstruction=True)
            .vertices().cboreHole(2.4, 4.4, 2.1)
        )
        """,
        f"""
        import cadquery as cq
        W, H, t = {a}, {b}, {t}
        pts = [(0, 0), (W/2, 0), (W/2, H/2), (t, H/2), (t, H - t), (0, H - t)]
        result = cq.Workplane("front").polyline(pts).mirrorY().extrude({c})
        """,
        f"""
        import cadquery
        a = cadquery.Workplane('XZ').circle({b}/4).extrude({a})
        b = cadquery.Workplane('XZ').circle({b}/8).extrude({a})
        pipe = a.cut(b).rotate((0, 0, 0), (1, 0, 0), 90).translate((0, 0, {c}))
        flange = cadquery.Workplane('XY').circle({b}).extrude({c})
        for k in range({n}):
            pin = cadquery.Workplane('XY').center({b}*0.75, 0).circle({d}).extrude({c})
            pin = pin.rotate((0,0,0), (0,0,1), k*360/{n})
            flange = flange.cut(pin)
        flange = flange.cut(cadquery.Workplane('XY').circle({b}/8).extrude({c}))
        r = pipe.union(flange)
        """,
        f"""
        import cadquery as cq
        pcb = cq.Workplane().box({a}, {b}, 1.6)
        chip = cq.Workplane().box({a}/5, {b}/4, {t}).translate(({a}/10, 0, 1.6/2 + {t}/2))
        result = pcb + chip
        holes = [({a}/2 - 4, {b}/2 - 4), (-{a}/2 + 4, {b}/2 - 4)]
        result -= cq.Workplane().pushPoints(holes).circle(1.6).extrude(4, both=True)
        """,
        f"""
        import cadquery as cq
        result = (cq.Workplane("XY").rect({a}, {b}).extrude({c})
            .faces(">Z").workplane().center({a}/4, 0).circle({c}).extrude({c}*2)
            .faces(">Z").workplane().hole({c}))
        """,
        f"""
        from cadquery import *
        r = Workplane("XY").polygon({n + 3}, {b}).extrude({c})
        r = r.faces(">Z").workplane().polygon({n + 3}, {b}*0.6).cutThruAll()
        """,
        f"""
        import cadquery as cq
        base = cq.Workplane("XY").slot2D({a}, {b}/3, {15 * n}).extrude({c})
        s = base.mirror("YZ").union(base.translate((0, 0, {c})))
        result = s.cut(cq.Workplane("XY").circle({d}).extrude({3 * c}, both=True))
        """,
        f"""
        import cadquery as cq
        (L, H, W, t) = ({a}.0, {b}.0, {b}.0, {t}.0)
        b1 = cq.Workplane("XY").box(L, W, H).edges("|Z").fillet({t})
        result = b1.faces(">Z").shell({t})
        """,
        f"""
        import cadquery as cq
        r = cq.Workplane("XY").moveTo(0, 0).lineTo({a}, 0).threePointArc(({a} + {c}, {b}/2), ({a}, {b}))
        r = r.lineTo(0, {b}).close().extrude({c})
        r = r.faces("<Y").workplane(offset=-{c}/2).circle({c}/4).cutBlind(-{b}/2)
        """,
        f"""
        import cadquery as cq
        step = {b}
        stairs = cq.Workplane("XZ")
        stairs = stairs.moveTo(0, 0)
        for i in range({n}):
            stairs = stairs.vLine({c}).hLine(step)
        stairs = stairs.vLineTo(0).close().extrude({a})
        """,
        f"""
        import cadquery as cq
        r = cq.Workplane("XY").circle({b}).extrude({c})
        r = r.faces(">Z").workplane().rarray({b}/3, {b}/3, 2, {n}-1).circle({d}/4).extrude({c})
        show_object(r)
        """,
        f"""
        import cadquery as cq
        axle = cq.Workplane("YZ").circle({c}).extrude({a} + 1, both=True)
        wheel = cq.Workplane("YZ", origin=({a}, 0, 0)).circle({b}).circle({c}).extrude({c})
        car = axle.union(wheel).union(wheel.mirror("YZ"))
        cq.exporters.export(car, "car.step")
        """,
        f"""
        import cadquery as cq
        plane = cq.Workplane("front").box({a}, {b}, {c}).faces("<Z").workplane(invert=True)
        plane = plane.transformed(offset=(0, {d}, 0), rotate=(0, 0, {n * 10}))
        result = plane.rect({a}/3, {b}/4).cutBlind({c}/2)
        """,
        f"""
        import cadquery as cq
        profile = cq.Workplane("XZ").moveTo({c}, 0).lineTo({b}, 0).lineTo({b}, {c}).lineTo({c}, {a}).close()
        result = profile.revolve(360, (0, 0, 0), (0, 1, 0))
        """,
    ]


def coder(rng):
    "Named parameters with units, comments at every step, a loop over positions, an export at the end."
    length, width, height = rng.randint(60, 120), rng.randint(40, 60), rng.randint(5, 15)
    hole, count, wall = rng.choice((4.0, 5.0, 6.5)), rng.randint(3, 8), rng.randint(2, 5)
    head = f"""
        import cadquery as cq
        import math

        # Parameters
        length = {length}.0  # mm
        width = {width}.0
        height = {height}.0
        hole_diameter = {hole}
        wall = {wall}.0
        n = {count}
        """
    tail = rng.choice(
        (
            """
        # Export
        cq.exporters.export(result, "result.step")
        """,
            """
        show_object(result)
        """,
            """
        # Export the model to STL
        result.val().exportStl("output.stl")
        print("Volume:", result.val().Volume())
        """,
            "",
        )
    )
    bodies = [
        """
        # Create the base plate
        base = cq.Workplane("XY").box(length, width, height)
        # Drill the mounting holes
        hole_positions = [
            (-length / 2 + 10, -width / 2 + 10),
            (length / 2 - 10, -width / 2 + 10),
            (length / 2 - 10, width / 2 - 10),
            (-length / 2 + 10, width / 2 - 10),
        ]
        for x, y in hole_positions:
            hole = cq.Workplane("XY").center(x, y).circle(hole_diameter / 2).extrude(height, both=True)
            base = base.cut(hole)
        result = base
        """,
        """
        # Create the main cylinder
        body = cq.Workplane("XY").circle(width / 2).extrude(height)
        # Bolt circle
        body = body.faces(">Z").workplane().polarArray(width / 2 - wall - hole_diameter, 0, 360, n).hole(hole_diameter)
        # Centre bore
        result = body.faces(">Z").workplane().hole(width / 3)
        """,
        """
        outer = cq.Workplane("XY").rect(length, width).extrude(height * 3)
        inner = cq.Workplane("XY").workplane(offset=wall).rect(length - 2 * wall, width - 2 * wall).extrude(height * 3)
        result = outer.cut(inner)
        """,
        """
        # L bracket
        leg1 = cq.Workplane("XY").box(length, width, wall, centered=(False, True, False))
        leg2 = cq.Workplane("XY").box(wall, width, length / 2, centered=(False, True, False))
        bracket = leg1.union(leg2)
        bracket = (
            bracket.faces(">X").workplane(centerOption="ProjectedOrigin").circle(wall / 4).cutBlind(-length / 4)
        )
        holes = [(wall / 2, width / 4), (wall / 2, -width / 4)]
        bracket = bracket.faces(">Z").workplane().pushPoints(holes).hole(wall / 2)
        result = bracket
        """,
        """
        # Gear-like disc
        points = []
        for i in range(2 * n):
            angle = math.pi * i / n
            r = width / 2 if i % 2 == 0 else width / 2 - wall
            points.append((r * math.cos(angle), r * math.sin(angle)))
        gear = cq.Workplane("XY").polyline(points).close().extrude(height)
        gear = gear.faces(">Z").workplane().circle(hole_diameter).cutThruAll()
        result = gear
        """,
        """
        plate = cq.Workplane("XY").box(length, width, height).edges("|Z").fillet(wall)
        result = plate.faces(">Z").workplane().hole(hole_diameter)
        """,
        """
        rib_count = n
        spacing = length / (rib_count + 1)
        result = cq.Workplane("XY").box(length, width, wall, centered=(True, True, False))
        for i in range(rib_count):
            x = -length / 2 + (i + 1) * spacing
            rib = cq.Workplane("XY").box(wall / 2, width, height, centered=(True, True, False)).translate((x, 0, wall))
            result = result.union(rib)
        """,
        """
        def make_post(x, y):
            post = cq.Workplane("XY").center(x, y).circle(wall).extrude(height)
            return post

        base = cq.Workplane("XY").rect(length, width).extrude(wall)
        for sx in (-1, 1):
            for sy in (-1, 1):
                base = base.union(make_post(sx * length / 3, sy * width / 3).translate((0, 0, wall)))
        result = base
        """,
        """
        result = (
            cq.Workplane("XY")
            .box(length, width, height)
            .faces(">Z")
            .workplane()
            .rect(length - 4 * wall, width - 4 * wall, forConstruction=True)
            .vertices()
            .cskHole(hole_diameter, hole_diameter * 2, 82)
        )
        """,
        """
        body = cq.Workplane("XY").box(length, width, height)
        slot = cq.Workplane("XY").slot2D(length / 2, hole_diameter).extrude(height * 2, both=True)
        keyway = cq.Workplane("XZ").rect(wall, height / 2).extrude(width, both=True).translate((0, 0, height / 2))
        result = body.cut(slot).cut(keyway)
        """,
        """
        hub = cq.Workplane("XY").circle(width / 4).extrude(height * 2)
        arms = None
        for i in range(n):
            arm = cq.Workplane("XY").box(length / 2, wall, height, centered=(False, True, False))
            arm = arm.rotate((0, 0, 0), (0, 0, 1), i * 360.0 / n)
            arms = arm if arms is None else arms.union(arm)
        result = hub.union(arms)
        result = result.cut(cq.Workplane("XY").circle(hole_diameter).extrude(height * 2))
        """,
        """
        tube = cq.Workplane("YZ").circle(width / 2).circle(width / 2 - wall).extrude(length)
        foot = cq.Workplane("XY").workplane(offset=-width / 2 - wall)
        foot = foot.rect(length, width, centered=(False, True)).extrude(wall * 2)
        result = tube.union(foot)
        """,
        """
        handle = cq.Workplane("XY").sphere(width / 4)
        result = handle.union(cq.Workplane("XY").circle(wall).extrude(length))
        """,
        """
        base = cq.Workplane("XY").polygon(6, width).extrude(height)
        base = base.faces(">Z").workplane().circle(hole_diameter).extrude(length / 2)
        base = base.faces("<Z").workplane().circle(hole_diameter / 2).cutBlind(-height / 2)
        result = base
        """,
        """
        # Stepped shaft
        diameters = [width, width * 0.8, width * 0.5]
        lengths = [height, height * 2, height * 3]
        shaft = cq.Workplane("XY")
        for d, l in zip(diameters, lengths):
            shaft = shaft.circle(d / 2).extrude(l).faces(">Z").workplane()
        result = shaft.circle(wall / 2).cutBlind(-height)
        """,
    ]
    return [head + body + tail for body in bodies]


def frontier(rng):
    "Docstrings, annotations, dictionaries of parameters, functions, checks, a main guard."
    w, d, h = rng.randint(40, 100), rng.randint(30, 80), rng.randint(6, 20)
    bolt, n, wall = rng.choice((3.4, 4.5, 6.6)), rng.randint(3, 6), rng.choice((2.0, 2.5, 3.0))
    export = rng.choice(("", 'cq.exporters.export(result, f"{OUT}/part.step")', "show_object(result, name='part')"))
    return [
        f'''
        """Parametric mounting plate with counterbored corners."""
        from __future__ import annotations
        import cadquery as cq

        # --- Parameters (mm) -------------------------------------------------
        PLATE: dict = {{"w": {w}, "d": {d}, "h": {h}}}
        BOLT_D: float = {bolt}
        EDGE = 2 * BOLT_D

        def make_plate(w: float, d: float, h: float) -> cq.Workplane:
            """A plate that sits on z = 0."""
            return cq.Workplane("XY").box(w, d, h, centered=(True, True, False))

        def bolt_points(w: float, d: float, edge: float) -> list[tuple[float, float]]:
            return [(sx * (w / 2 - edge), sy * (d / 2 - edge)) for sx in (-1, 1) for sy in (-1, 1)]

        plate = make_plate(PLATE["w"], PLATE["d"], PLATE["h"])
        result = (
            plate.faces(">Z").workplane(origin=(0, 0, 0))
            .pushPoints(bolt_points(PLATE["w"], PLATE["d"], EDGE))
            .cboreHole(BOLT_D, BOLT_D * 1.8, PLATE["h"] * 0.4)
        )
        ''',
        f'''
        import math
        from math import cos, sin, radians
        import cadquery as cq

        OUT = "build"
        n_teeth, r_root, r_tip, thickness = {4 * n}, {d / 2}, {d / 2 + 4}, {h}

        def tooth(i: int):
            a = 360 / n_teeth
            return [
                (r_root * cos(radians(i * a)), r_root * sin(radians(i * a))),
                (r_tip * cos(radians((i + 0.25) * a)), r_tip * sin(radians((i + 0.25) * a))),
                (r_tip * cos(radians((i + 0.5) * a)), r_tip * sin(radians((i + 0.5) * a))),
                (r_root * cos(radians((i + 0.75) * a)), r_root * sin(radians((i + 0.75) * a))),
            ]

        outline = [p for i in range(n_teeth) for p in tooth(i)]
        gear = cq.Workplane("XY").polyline(outline).close().extrude(thickness)
        hub = cq.Workplane("XY").workplane(offset=thickness).circle(r_root * 0.4).extrude(thickness * 0.5)
        bore = cq.Workplane("XY").circle({bolt}).extrude(thickness * 2)
        result = gear.union(hub).cut(bore)
        {export}
        ''',
        f'''
        import cadquery as cq

        def standoff(height=10.0, outer=8.0, inner=3.2):
            s = cq.Workplane("XY").circle(outer / 2).extrude(height)
            return s.cut(cq.Workplane("XY").circle(inner / 2).extrude(height))

        def build(width={w}, depth={d}, wall={wall}, floor=2.0, height={2 * h}):
            if wall * 2 >= min(width, depth):
                raise ValueError("walls too thick")
            shell = cq.Workplane("XY").rect(width, depth).extrude(height)
            cavity = cq.Workplane("XY").workplane(offset=floor).rect(width - 2 * wall, depth - 2 * wall).extrude(height)
            box = shell.cut(cavity)
            for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
                post = standoff(height / 2).translate((x * (width / 2 - wall - 5), y * (depth / 2 - wall - 5), floor))
                box = box.union(post)
            return box

        if __name__ == "__main__":
            result = build()
            bb = result.val().BoundingBox()
            print(f"size: {{bb.xlen:.1f}} x {{bb.ylen:.1f}} x {{bb.zlen:.1f}}")
        ''',
        f'''
        import cadquery as cq
        params = dict(length={w}, radius={d / 4}, bore={bolt})
        L = {w}
        R = {d / 4}
        # link with two eyes
        web = cq.Workplane("XY").rect(L, R).extrude({h})
        eyes = cq.Workplane("XY").pushPoints([(-L / 2, 0), (L / 2, 0)]).circle(R).extrude({h})
        link = web.union(eyes)
        link = link.faces(">Z").workplane().pushPoints([(-L / 2, 0), (L / 2, 0)]).hole({bolt})
        result = link
        ''',
        f'''
        """Heat sink."""
        import cadquery as cq
        from typing import List, Tuple

        base_w, base_d, base_t = {w}, {d}, {wall}
        fins: int = {2 * n}
        fin_t = base_w / (2 * fins - 1)
        xs: List[float] = [-base_w / 2 + fin_t / 2 + 2 * i * fin_t for i in range(fins)]
        sink = cq.Workplane("XY").box(base_w, base_d, base_t, centered=(True, True, False))
        sink = (
            sink.faces(">Z").workplane()
            .pushPoints([(x, 0) for x in xs])
            .rect(fin_t, base_d)
            .extrude({h})
        )
        assert sink.val().isValid()
        result = sink
        ''',
        f'''
        import cadquery as cq
        import math
        N, PCD, D, T = {n}, {d * 0.7}, {d}, {h}
        flange = cq.Workplane("XY").circle(D / 2).extrude(T)
        flange = flange.faces(">Z").workplane().circle(D / 4).extrude({w} / 4)
        flange = flange.faces(">Z").workplane().circle(D / 6).cutThruAll()
        for k in range(N):
            ang = 2 * math.pi * k / N + math.pi / N
            x, y = PCD / 2 * math.cos(ang), PCD / 2 * math.sin(ang)
            flange = flange.cut(cq.Workplane("XY").center(x, y).circle({bolt} / 2).extrude(T))
        result = flange.rotate((0, 0, 0), (1, 0, 0), 90)
        ''',
        f'''
        import cadquery as cq
        thick, leg, width = {wall + 1}, {w}, {d}
        profile = (
            cq.Workplane("XZ")
            .moveTo(0, 0).lineTo(leg, 0).lineTo(leg, thick).lineTo(thick, thick)
            .lineTo(thick, leg).lineTo(0, leg).close()
            .extrude(width / 2, both=True)
        )
        gusset = (
            cq.Workplane("XZ").polyline([(thick, thick), (leg / 2, thick), (thick, leg / 2)])
            .close().extrude(thick, both=True)
        )
        bracket = profile.union(gusset)
        bottom = [(leg * 0.75, width / 4), (leg * 0.75, -width / 4)]
        holes_bottom = cq.Workplane("XY").pushPoints(bottom).circle({bolt} / 2).extrude(thick)
        back = [(y, x) for x, y in bottom]
        holes_back = cq.Workplane("YZ").pushPoints(back).circle({bolt} / 2).extrude(thick)
        result = bracket.cut(holes_bottom).cut(holes_back)
        ''',
        f'''
        import cadquery as cq
        knob = cq.Workplane("XY").circle({d / 3}).extrude({h})
        knob = knob.edges(">Z").chamfer({wall / 2})
        knurl = cq.Workplane("XY").polarArray({d / 3}, 0, 360, {4 * n}).circle(1.2).extrude({h})
        result = knob.cut(knurl)
        ''',
        f'''
        import cadquery as cq
        knob = cq.Workplane("XY").circle({d / 3}).extrude({h})
        knurl = cq.Workplane("XY").polarArray({d / 3}, 0, 360, {4 * n}).circle(1.2).extrude({h})
        shaft = cq.Workplane("XY").circle({bolt}).extrude({h} - 2)
        flat = cq.Workplane("XY").center(0, {bolt} * 0.8).rect({bolt} * 4, {bolt} * 0.6).extrude({h} - 2)
        result = knob.cut(knurl).cut(shaft.cut(flat))
        ''',
        f'''
        import cadquery as cq
        import numpy as np
        pitch = {w} / {n}
        comb = cq.Workplane("XY").box({w}, {d}, {wall})
        for i, x in enumerate(np.linspace(-{w} / 2 + pitch / 2, {w} / 2 - pitch / 2, {n})):
            depth = {h} if i % 2 else {h} * 1.5
            comb = comb.union(cq.Workplane("XY").box(pitch / 3, {d}, depth).translate((x, 0, depth / 2)))
        result = comb
        ''',
        f'''
        import cadquery as cq
        block = cq.Workplane("XY").box({w}, {d}, {2 * h})
        vee = cq.Workplane("YZ").polyline([(-{h}, {h}), ({h}, {h}), (0, 0)]).close().extrude({w}, both=True)
        slot = cq.Workplane("XZ").rect({w / 3}, {wall}).extrude({d}, both=True)
        result = block.cut(vee).cut(slot.translate((0, 0, -{h / 2})))
        try:
            show_object(result)
        except NameError:
            pass
        ''',
        f'''
        import cadquery as cq

        class Config:
            width = {w}
            depth = {d}

        result = cq.Workplane("XY").box(Config.width, Config.depth, {h})
        ''',
        f'''
        import cadquery as cq
        s = cq.Sketch().rect({w}, {d}).push([({w / 4}, 0), (-{w / 4}, 0)]).circle({bolt}, mode="s").reset()
        result = cq.Workplane("XY").placeSketch(s).extrude({h})
        ''',
        f'''
        import cadquery as cq
        path = cq.Workplane("XZ").spline([(0, 0), ({w}, {d}), ({2 * w}, 0)])
        result = cq.Workplane("YZ").circle({h}).sweep(path)
        ''',
        f'''
        import cadquery as cq
        b = cq.Workplane("XY").tag("origin").rect({w}, {d}).extrude({h})
        b = b.faces(">X").workplane(centerOption="CenterOfMass").circle({h / 4}).cutBlind(-{wall})
        b = b.workplaneFromTagged("origin").center({w / 4}, 0).circle({bolt}).cutThruAll()
        b = b.faces(">Y").workplane().transformed(offset=(0, {h / 2}, 0), rotate=(0, 0, 45))
        b = b.rect({h / 4}, {h / 4}).extrude({wall})
        result = b
        ''',
    ]


STYLES = dict(human=human, coder=coder, frontier=frontier)


def programs():
    "`{name: program}`, as many of each style."
    made = {}
    for style, templates in STYLES.items():
        for k in range(EACH):
            rng = random.Random(f"{SEED} {style} {k}")
            texts = templates(rng)
            made[f"{style} {k}"] = textwrap.dedent(texts[k % len(texts)]).strip() + "\n"
    return made
