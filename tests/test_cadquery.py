"""The CadQuery reader: hostile and random texts do nothing, and honest ones say what CadQuery itself builds."""

import importlib.util
import json
import math
import random
import re
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from builders import cases, numbers, pace
from cadquery_runs import printed
from cadvlm.text.cadquery_grammar import MAX_TEXT
from cadvlm.text.cadquery_grammar import MAX_EXTRUDES
from cadvlm.text.cadquery_reader import read
from cadvlm.text.cadquery_writer import write
from cadvlm.cad.normal import EXACT, normal_form
from cadvlm.cad.curves import Line, Loop, Profile
from cadvlm.cad.sequence import CadSequence, Extrude, Operation, Plane, Sketch
from cadvlm.errors import CadError, CodeError, GeometryError, UnsupportedError
from cadvlm.cad.sequence import read as read_file
from cadvlm.cad.polygons import IDENTITY
from cadvlm.cad.solid import build
from cadvlm.synth.histories import part
from cadvlm.text.language import encode

START = "import cadquery as cq\n"
SECONDS = 0.1  # no text may take longer to read, at the pace that `pace` compares with
ROUND = 5e-3  # share of volume that circles in chords may differ from circles
FLAT = 1e-6  # and what flat walls may

# Programs in the styles of other projects, all made up for this test, with the volume of what they say.
STYLES = {
    "a box": ("r = cq.Workplane('XY').box(10, 20, 30)", 6000),
    "a box on a corner": ("r = cq.Workplane('XY').moveTo(5, 5).box(10, 20, 30, centered=(False, False, True))", 6000),
    "a cylinder on a plane": (
        "w0=cq.Workplane('ZX',origin=(0,-12,0))\nr=w0.workplane(offset=-46/2).moveTo(7,-3.5).cylinder(46,9)",
        46 * 81 * math.pi,
    ),
    "boxes at points": ("result = cq.Workplane('front').pushPoints([(0, 0), (20, 0), (0, 20)]).box(5, 5, 5)", 375),
    "a ring": ("r = cq.Workplane('XY').circle(10).circle(4).extrude(-7)", 7 * 84 * math.pi),
    "holes at points": (
        "r = cq.Workplane().rect(40, 30).pushPoints([(-10, 0), (10, 0)]).circle(3).extrude(2)",
        2 * (1200 - 18 * math.pi),
    ),
    "to both sides": ("r = cq.Workplane('YZ', origin=(5, 0, 0)).rect(4, 6).extrude(3, both=True)", 144),
    "lines relative to each other": (
        "r = cq.Workplane('XZ').moveTo(2, 1).hLine(10).vLine(4).line(-4, 2).hLineTo(2).vLineTo(3).close().extrude(2)",
        2 * (40 + 12 + 4),
    ),
    "a closed polyline": (
        "r = cq.Workplane('XY').polyline([(0, 0), (9, 0), (9, 4), (0, 4), (0, 0)]).close().extrude(1)",
        36,
    ),
    "an arc": ("r = cq.Workplane('XY').moveTo(-5, 0).threePointArc((0, 5), (5, 0)).close().extrude(4)", 50 * math.pi),
    "a moved center": (
        "r = cq.Workplane('XY').circle(3).center(20, 0).rect(2, 2).center(0, 10).circle(1).extrude(1)",
        10 * math.pi + 4,
    ),
    "around the middle of an outline": (
        "r = cq.Workplane('XY').moveTo(3, 1).lineTo(13, 1).lineTo(13, 9).lineTo(3, 9).close().circle(2).extrude(1)",
        80 - 4 * math.pi,
    ),
    "a chain with two solids": (
        "r = cq.Workplane('XY').rect(10, 10).extrude(5).moveTo(0, 0).circle(2).extrude(10)",
        500 + 20 * math.pi,
    ),
    "a blind cut": (
        "r = cq.Workplane('XY').rect(10, 10).extrude(5).moveTo(0, 0).circle(2).cutBlind(3)",
        500 - 12 * math.pi,
    ),
    "combine to cut": (
        "r = cq.Workplane('XY').rect(10, 10).extrude(5).moveTo(0, 0).circle(2).extrude(3, combine='cut')",
        500 - 12 * math.pi,
    ),
    "a union without a base": ("r = cq.Workplane('XY')\nr = r.union(cq.Workplane('XY').box(2, 2, 2))", 8),
    "a shared workplane": (
        (
            "w = cq.Workplane('XY')\na = w.moveTo(0, 0).circle(5)\nb = w.moveTo(0, 0).circle(2)\nsolid ="
            " w.add(a).add(b).extrude(1)"
        ),
        21 * math.pi,
    ),
    "drawn in statements": (
        "w = cq.Workplane('XY')\nw.rect(10, 10)\nw.moveTo(2, 2).circle(1)\nr = w.extrude(1)",
        100 - math.pi,
    ),
    "emptied by an extrude": (
        "w = cq.Workplane('XY')\na = w.rect(4, 4).extrude(1)\nb = w.moveTo(2, 2).rect(2, 2).extrude(3)\nr = a.union(b)",
        16 + 12 - 1,
    ),
    "vectors": (
        (
            "w = cq.Workplane(cq.Plane(cq.Vector(1, 2, 3), cq.Vector(0, 1, 0), cq.Vector(1, 0, 0)))\nr = w.rect(2,"
            " 3).extrude(4)"
        ),
        24,
    ),
    "a skew plane": (
        (
            "r = cq.Workplane(cq.Plane(origin=(1, 2, 3), xDir=(1, 0, 1), normal=(1, 1, 0))).workplane(offset=2)"
            ".rect(2,"
            " 3).extrude(4)"
        ),
        24,
    ),
    "a cut with a union": (
        (
            "r = cq.Workplane('XY').box(20, 20, 2).cut(cq.Workplane('XY').box(2, 2,"
            " 9).union(cq.Workplane('XY').moveTo(5, 0).box(2, 2, 9)))"
        ),
        800 - 16,
    ),
    "a union with a cut": (
        (
            "r = cq.Workplane('XY').box(2, 2, 9).union(cq.Workplane('XY').box(20, 20,"
            " 2).cut(cq.Workplane('XY').moveTo(5, 5).box(2, 2, 9)))"
        ),
        36 + 792 - 8,
    ),
    "a flat cut in brackets": (
        (
            "r = cq.Workplane('XY').box(30, 4, 3).cut(cq.Workplane('YZ').box(1, 2,"
            " 1)).union(cq.Workplane('XY').rect(20, 20).extrude(3).cut(cq.Workplane('XY').rect(10, 10).extrude(3)))"
        ),
        360 - 2 + 900 - 2 * 5 * 4 * 1.5,
    ),
    "an intersection": (
        "r = cq.Workplane('XY').box(10, 10, 10).intersect(cq.Workplane('XY').circle(3).extrude(20))",
        5 * 9 * math.pi,
    ),
    "a frame": (
        (
            "w0=cq.Workplane('XY',origin=(0,0,-9))\nr=w0.sketch().rect(180,120).rect(160,100,mode='s').finalize()"
            ".extrude(18)"
        ),
        18 * (21600 - 16000),
    ),
    "shapes that overlap": (
        (
            "w0=cq.Workplane('YZ',origin=(4,0,0))\nr=w0.sketch().push([(0,0)]).rect(40,20).push([(15,5)]).rect(40,20)"
            ".finalize().extrude(-6)"
        ),
        6 * (1600 - 25 * 15),
    ),
    "a cut over the edge": (
        (
            "w0=cq.Workplane('XY',origin=(0,0,3))\nr=w0.sketch().circle(20).push([(20,0)]).rect(20,10,mode='s')"
            ".finalize().extrude(9)"
        ),
        None,
    ),
    "an intersection of shapes": (
        "w0=cq.Workplane('XY')\nr=w0.sketch().rect(40,40).push([(20,20)]).circle(10,mode='i').finalize().extrude(4)",
        100 * math.pi,
    ),
    "segments, arcs and a hole": (
        (
            "w0=cq.Workplane('ZX',origin=(0,-8,0))\nw1=cq.Workplane('XY',origin=(0,0,20))\nr=w0.sketch()"
            ".segment((-40,10),(-40,-10)).segment((30,-10)).arc((40,0),(30,10)).close().assemble()"
            ".push([(-20,0)]).circle(5,mode='s').finalize().extrude(-12).union(w1.workplane(offset=-14/2)"
            ".moveTo(-31,2).box(6,24,14))"
        ),
        None,
    ),
    "faces": (
        (
            "w0=cq.Workplane('XY',origin=(0,0,-30))\nr=w0.sketch().arc((-30,0),(0,-35),(31,0))"
            ".arc((0,30),(-30,0)).assemble().reset()"
            ".face(w0.sketch().segment((40,-9),(70,-12)).segment((64,20)).close().assemble()).reset().face(w0"
            ".sketch().segment((-9,-9),(9,-9)).segment((0,12)).close().assemble(),mode='s').finalize().extrude(41)"
        ),
        None,
    ),
    "a turned face": (
        (
            "w0=cq.Workplane('XY')\nr=w0.sketch().push([(8,0)]).rect(6,2,90).reset().face(w0.sketch().push([(8,0)])"
            ".rect(6,2),180).finalize().extrude(2)"
        ),
        48,
    ),
    "copies of a face": (
        (
            "w0=cq.Workplane('XY')\nr=w0.sketch().push([(-10,0),(10,0)]).face(w0.sketch().rect(6,4)"
            ".circle(1,mode='s')).finalize().extrude(1)"
        ),
        2 * (24 - math.pi),
    ),
    "a corner visited twice": (
        (
            "r = cq.Workplane('XY').lineTo(4, 0).lineTo(4, 4).lineTo(8, 4).lineTo(8, 8).lineTo(4, 8).lineTo(4,"
            " 4).lineTo(0, 4).close().extrude(1)"
        ),
        32,
    ),
    "a corner of a sketch visited twice": (
        (
            "w=cq.Workplane('XY')\nr=w.sketch().segment((0,0),(4,0)).segment((4,4)).segment((8,4)).segment((8,8))"
            ".segment((4,8)).segment((4,4)).segment((0,4)).close().assemble().finalize().extrude(1)"
        ),
        32,
    ),
    "a bow tie with a corner where it crosses": (
        "r = cq.Workplane('XY').lineTo(5, 5).lineTo(10, 10).lineTo(10, 0).lineTo(5, 5).lineTo(0, 8).close().extrude(1)",
        45,
    ),
    "a flat arc": (
        "r = cq.Workplane('XY').moveTo(-100, 0).threePointArc((0, .2), (100, 0)).close().extrude(5)",
        133.3334,
    ),
    "a flat arc on a thin plate": (
        (
            "r = cq.Workplane('XY').moveTo(-100, 0).threePointArc((0, 1.5), (100, 0)).lineTo(100, -.05).lineTo(-100,"
            " -.05).close().extrude(5)"
        ),
        None,
    ),
    "a large hole in a small plate": (
        "r = cq.Workplane('XY').rect(10, 10).circle(4.99).extrude(1)",
        100 - 4.99**2 * math.pi,
    ),
    "a rim that a hole touches": (
        "r = cq.Workplane('XY').rect(20, 20).moveTo(5, 0).circle(5).extrude(1)",
        400 - 25 * math.pi,
    ),
    "outlines that share sides": (
        "r = cq.Workplane('XY').rect(4, 4).moveTo(4, 1).rect(4, 4).moveTo(0, 4).rect(4, 4).extrude(1)",
        48,
    ),
    "r and then result": ("r = cq.Workplane('XY').box(9, 9, 2)\nresult = r.cut(cq.Workplane('XY').box(3, 3, 9))", 144),
    "result and then r": (
        "result = cq.Workplane('XY').box(3, 3, 9)\nr = cq.Workplane('XY').box(9, 9, 2).cut(result)",
        144,
    ),
    "r first and last": (
        "r = cq.Workplane('XY').box(3, 3, 9)\nresult = cq.Workplane('XY').box(9, 9, 2)\nr = result.cut(r)",
        144,
    ),
    "what is shown": (
        (
            "plate = cq.Workplane('XY').box(9, 9, 2)\ntool = cq.Workplane('XY').box(3, 3, 9)\nshow_object(plate,"
            " name='plate', options={'color': 'red', 'alpha': 0.5})"
        ),
        162,
    ),
    "a docstring, imports and exports": (
        (
            '"""A plate with a hole: it\'s ⌀ 2."""\nfrom cadquery import exporters\nimport math, os.path\nsolid0 ='
            " cq.Workplane(\"XY\").rect(9, 9).extrude(2)\n'''the\nhole'''\nsolid ="
            ' solid0.cut(cq.Workplane("XY").circle(1).extrude(2))\nprint(f"volume {solid.val().Volume():.2f}'
            ' {{}}")\nimport cadquery as cq\ncq.exporters.export(solid, "./results/a long folder/for a model/with'
            ' (brackets) and #/part_001.step")\nexporters.export(solid, r"C:\\part.stl",'
            ' tolerance=0.01)\nsolid.val().exportStl("part.stl")\nsolid'
        ),
        162 - 2 * math.pi,
    ),
    "a hole along the old workplane": (
        "r = cq.Workplane('XZ').circle(9).extrude(6).rotate((0,0,0), (1,0,0), 90).faces('<Z').hole(4, 20)",
        None,
    ),
    "a hole in a face, without a workplane": (
        "r = cq.Workplane('XY').moveTo(5, 0).box(20, 20, 6).faces('>Z').hole(4, 2)",
        2400 - 8 * math.pi,
    ),
    "a box about the middle of another": ("r = cq.Workplane('XY').moveTo(3, 3).box(10, 10, 2).box(2, 20, 2)", 240),
    "a hole through what was just made": (
        "r = cq.Workplane('XY').rect(10, 10, centered=False).extrude(4).cylinder(9, 2, combine='cut')",
        400 - 16 * math.pi,
    ),
    "a boss on the face that looks up": (
        "r = cq.Workplane('XY').polygon(6, 10).extrude(2).rotate((0,0,0), (0,0,1), 30)"
        ".faces('Z').rect(4, 4).extrude(3)",
        2 * 37.5 * math.sqrt(3) + 48,
    ),
    "a boss on the face that looks down": (
        "r = cq.Workplane('XY').box(9, 9, 3).faces('-Z').workplane(offset=-1).circle(2).extrude(3)",
        243 + 8 * math.pi,
    ),
    "holes at the corners of a rectangle on a face": (
        "r = cq.Workplane('XY').box(20, 20, 4).faces('>Z').rect(12, 12, forConstruction=True).vertices().hole(3)",
        1600 - 36 * math.pi,
    ),
    "a boss in the middle of a face with a corner cut off": (
        "r = cq.Workplane('XY').box(10, 10, 2).cut(cq.Workplane('XY').center(5, 5).box(4, 4, 9))"
        ".faces('>Z').workplane(centerOption='CenterOfMass').rect(1, 1).extrude(1)",
        193,
    ),
    "a boss in the middle of the box around a face": (
        "r = cq.Workplane('XY').box(10, 10, 2).cut(cq.Workplane('XY').center(4, 0).box(2, 10, 9))"
        ".faces('>Z').workplane(centerOption='CenterOfBoundBox').rect(8, 10).extrude(1)",
        240,
    ),
    "a hole in the lower end of a union": (
        "r = cq.Workplane('XY').box(8, 8, 2).union(cq.Workplane('XY').center(8, 0).box(8, 4, 2))"
        ".faces('<Z').hole(2, 9)",
        None,
    ),
    "a boss on the lowest of two plates, mirrored": (
        "p = cq.Workplane('XY').center(4, 1).rect(8, 6).extrude(2)\n"
        "r = p.union(p.mirror('XY', (0, 0, 1)).translate((2, 0, 0))).faces('<Z').rect(2, 2).extrude(-1)",
        10 * 6 * 2 + 4,
    ),
    "slots side by side, first made one body": (
        "r = cq.Workplane('XY').box(9, 9, 9).cut(cq.Workplane('XY').pushPoints([(-1, 0), (1, 0)])"
        ".slot2D(6, 2, 90).extrude(-2))",
        9**3 - 4 * (8 + math.pi),
    ),
    "tiles side by side through a block": (
        "r = cq.Workplane('XY').box(9, 9, 9).pushPoints([(-1, 0), (1, 0)]).rect(2, 4).cutThruAll()",
        9**3 - 9 * 16,
    ),
    "tiles side by side and a hole": (
        "r = cq.Workplane('XY').pushPoints([(-1, 0), (1, 1)]).rect(2, 4).extrude(2)"
        ".cut(cq.Workplane('XY').rect(1, 1).extrude(2))",
        30,
    ),
    "nothing to translate": ("r = cq.Workplane('XY').translate((9, 0, 0)).box(1, 2, 3)", 6),
    "a module with its whole name": ("import cadquery\nr = cadquery.Workplane('XY').box(1, 2, 3)", 6),
    "a loop in a loop": (
        (
            "w0=cq.Workplane('XY')\nr=w0.sketch().segment((0,0),(20,0)).segment((20,20)).segment((0,20)).close()"
            ".segment((5,5),(8,5)).segment((8,9)).segment((5,5)).assemble().finalize().extrude(1)"
        ),
        394,
    ),
}


SHOWN = {"what is shown": "plate"}


def text_of(name):
    return START + STYLES[name][0] + "\n"


@pytest.mark.parametrize("name", STYLES)
def test_cadquery_styles_have_closed_form_volume(name):
    sequence = read(text_of(name))
    volume, want = build(sequence).volume, STYLES[name][1]
    assert want is None or volume == pytest.approx(want, rel=tolerance(sequence))


def tolerance(sequence):
    return FLAT if all(isinstance(curve, Line) for curve in sequence.curves) else ROUND


# --- hostile texts ---

W = START + "r = cq.Workplane('XY')"
DONE = ".circle(1).extrude(1)"
SLAB = W + ".box(20, 20, 9).faces('>Z').workplane(offset=-1)"
TILES = ".pushPoints([(-1, 0), (1, 0)])"
HOSTILE = {
    "an import": ("import os", "no_solid"),
    "an import from": ("from os import system\nsystem('ls')", "no_solid"),
    "an import from an unknown module": ("from subprocess import run\nr = run('ls')", "not_allowed"),
    "an import and another": ("import cadquery as cq, os", "no_solid"),
    "another module as cq": ("import os as cq\nr = cq.system('ls')", "no_solid"),
    "a module as r": (START + "r = cq.Workplane('XY').box(1, 1, 1)\nimport os as r", "no_solid"),
    "an import in an expression": ("r = (import os)", "syntax"),
    "__import__": ("__import__('os').system('ls')", "not_allowed"),
    "__import__ assigned": ("r = __import__('os').system('ls')", "not_allowed"),
    "open": ("r = open('/etc/passwd').read()", "not_allowed"),
    "eval": ("r = eval('1')", "not_allowed"),
    "exec": ("exec('r = 1')", "not_allowed"),
    "a class of an object": (W + ".__class__", "not_allowed"),
    "the globals of a method": (W + ".__init__.__globals__['os'].system('ls')", "not_allowed"),
    "a private method": (W + "._circle(1)", "not_allowed"),
    "an attribute without a call": (W + ".circle", "no_solid"),
    "a method of the module": (START + "r = cq.exporters.export(1)", "not_allowed"),
    "the module": (START + "r = cq", "no_solid"),
    "another cq": (START + "cq = cq.Workplane('XY')", "no_solid"),
    "an index": (W + DONE + "\nr = r[0]", "not_allowed"),
    "a lambda": ("r = (lambda: 1)()", "no_solid"),
    "a comprehension": ("r = [x for x in (1, 2)]", "no_solid"),
    "an f-string": (W + ".moveTo(f'{1}', 0)", "not_a_number"),
    "a walrus": ("(r := 1)", "not_allowed"),
    "a star": (W + ".moveTo(*(1, 2, 3))", "bad_arguments"),
    "two stars": (W + ".moveTo(**{'x': 1})", "bad_arguments"),
    "a function": ("def f(): pass", "no_solid"),
    "a class": ("class A: pass", "no_solid"),
    "a decorator": ("@exec\nclass A(int): pass", "not_allowed"),
    "with": ("with open('a'): pass", "not_allowed"),
    "try": ("try: pass\nfinally: pass", "no_solid"),
    "a loop": ("while 1: pass", "too_complex"),
    "for": ("for i in range(9): pass", "no_solid"),
    "del": ("del cq", "not_allowed"),
    "global": ("global cq", "not_allowed"),
    "print": ("print(1)", "no_solid"),
    "print that calls": (START + "print(open('/etc/passwd').read())", "no_solid"),
    "show_object": (START + "show_object(1)", "no_solid"),
    "a name for what is shown": (START + "r = show_object(1)", "unknown_name"),
    "a part after a call in a call": (
        START + "r = cq.Workplane('XY')\nprint(r.circle(5))\nr = r.circle(1).extrude(1)",
        "not_allowed",
    ),
    "more of a part in what is shown": (W + ".box(1, 1, 1)\nshow_object(r.add(r))", "no_point"),
    "export with a method of a part": (W + ".box(1, 1, 1)\nq = r.exportStl('a.stl')", "not_allowed"),
    "two targets": ("a = r = 1", "no_solid"),
    "a target with an attribute": (START + "cq.Workplane = 1", "not_allowed"),
    "an augmented assignment": ("r += 1", "unknown_name"),
    "a comparison": ("r = 1 < 2", "no_solid"),
    "a conditional": ("r = 1 if 1 else 2", "no_solid"),
    "a dictionary": ("r = {}", "no_solid"),
    "bytes": ("r = cq.Workplane(b'XY')", "unknown_plane"),
    "prose": ("A bracket and two holes.", "syntax not_allowed"),
    "nothing": ("", "no_solid"),
    "no text": (None, "not_text"),
    "half a program": (W + ".moveTo(0, 0).lineTo(1", "syntax"),
    "an unknown name": ("r = w0.circle(1).extrude(1)", "unknown_name"),
    "a unicode name": ("räder = 1", "not_allowed"),
    "a mathematical name": ("\U0001d42b = cq.Workplane('XY')", "not_allowed"),
    "a zero byte": ("r = 1\0", "not_allowed"),
    "a lone surrogate": ("r = '\ud800'", "no_solid"),
    "a form feed": ("\fr = 1", "not_allowed"),
    "an escape": (r"r = cq.Workplane('\x58Y')", "unknown_plane"),
    "triple quotes": ("r = '''a'(((('a'''", "no_solid"),
    "deep brackets": ("r = " + "(" * 5000 + "1" + ")" * 5000, "too_deep"),
    "deep lists": ("r = " + "[" * 5000 + "]" * 5000, "too_deep"),
    "deep calls": ("r = " + "f(" * 5000 + ")" * 5000, "too_deep"),
    "deep unions": (
        START + "a = cq.Workplane('XY').box(1, 1, 1)\nr = " + "a.union(" * 100 + "a" + ")" * 100,
        "too_deep",
    ),
    "minus, minus, minus": ("r = " + "-" * 30_000 + "1", "not_allowed"),
    "minus on many lines": ("r = (" + "-#\n" * 3000 + "1)", "not_allowed"),
    "not, not, not": ("r = " + "not " * 10_000 + "1", "not_allowed"),
    "a long chain": (W + ".circle(1)" * 3000, "too_deep"),
    "a long chain of attributes": ("r = cq" + ".a" * 3500, "too_deep"),
    "a long sum": ("r = 1" + "+1" * 3500, "too_deep"),
    "a sum of strings": ("r = 'a'" + "+'a'" * 3500, "too_deep"),
    "strings side by side": ("r = " + "'a' " * 15_000, "too_long"),
    "an open string": ("r = 'a", "syntax"),
    "many open strings": ("'''\\" * 2_000, "syntax"),
    "many strings": ("f'a'" * 16_000, "too_long"),
    "an import with many dots": ("import a" + ".a" * 10_000, "too_long"),
    "ten megabytes": ("r = 1\n" * 2_000_000, "too_long"),
    "many lines": ("\n" * 60_000, "too_long"),
    "many calls": (START + "w = cq.Workplane('XY')\n" + "a=w.move()\n" * 2600, "too_long too_many_calls"),
    "a power": (W + ".circle(9**9**9)", "out_of_range"),
    "a shift": (W + ".circle(1<<9)", "not_allowed"),
    "arithmetic with words": (W + ".circle((1+'2')*3)", "not_a_number"),
    "a division by zero": (W + ".circle(1/0)", "not_a_number"),
    "1e308": (W + ".circle(1e308)", "out_of_range"),
    "1e999": (W + ".circle(1e999)", "out_of_range"),
    "a product that is too large": (W + ".circle(999999*999999)", "out_of_range"),
    "nan": (W + ".circle(nan)", "unknown_name"),
    "float nan": (W + ".circle(float('nan'))", "out_of_range"),
    "True": (W + ".circle(True)", "not_a_number"),
    "a string": (W + ".circle('5')", "not_a_number"),
    "a complex number": (W + ".circle(5j)", "not_allowed"),
    "long digits": (W + ".circle(" + "9" * 5000 + ")", "not_allowed"),
    "an unknown method": (W + ".pear(1)", "not_allowed"),
    "too few arguments": (W + ".moveTo(1).circle()", "bad_arguments"),
    "an unknown argument": (W + ".circle(1).extrude(1, glue=5)", "bad_arguments"),
    "one flag of three": (W + ".box(1, 1, 1, centered=(True, False))", "bad_arguments"),
    "an argument twice": (W + ".circle(1, radius=1)", "bad_arguments"),
    "a plane without a name": (START + "r = cq.Workplane('AB')", "unknown_plane"),
    "a plane without directions": (START + "r = cq.Workplane(cq.Plane((0, 0, 0), (0, 0, 1), (0, 0, 1)))", "bad_plane"),
    "an open outline": (W + ".moveTo(0, 0).lineTo(1, 0).lineTo(1, 1).extrude(1)", "open_loop"),
    "an outline left open": (
        W + ".lineTo(1, 0).lineTo(1, 1).moveTo(5, 5).lineTo(6, 6).close().extrude(1)",
        "open_loop",
    ),
    "close before lines": (W + ".close()", "open_loop"),
    "a line to where it starts": (W + ".moveTo(1, 1).lineTo(1, 1)", "zero_length"),
    "a straight arc": (W + ".threePointArc((1, 0), (2, 0)).lineTo(1, 1).close()", "straight_arc"),
    "a nearly straight arc": (W + ".threePointArc((500000, 0.001), (1000000, 0)).lineTo(0, 9).close()", "straight_arc"),
    "a line after a circle": (W + ".circle(1).lineTo(5, 5)", "no_point"),
    "nothing drawn": (W + ".extrude(1)", "no_area"),
    "an outline without an area": (W + ".lineTo(1, 0).close()", "no_area"),
    "a bow tie": (W + ".lineTo(10, 10).lineTo(10, 0).lineTo(0, 10).close()", "self_intersecting_loop"),
    "a bow tie with a small half": (
        W + ".lineTo(12, 10).lineTo(12, 0).lineTo(0, 6).close().extrude(5)",
        "self_intersecting_loop",
    ),
    "a five-pointed star": (
        W + ".moveTo(0, 9).lineTo(6, -8).lineTo(-9, 3).lineTo(9, 3).lineTo(-6, -8).close()",
        "self_intersecting_loop",
    ),
    "an arc that crosses a line": (
        W + ".threePointArc((5, -5), (10, 0)).lineTo(5, -9).close()",
        "self_intersecting_loop",
    ),
    "an outline that is walked twice": (
        W + ".lineTo(9, 0).lineTo(9, 9).lineTo(0, 9).lineTo(0, 0).lineTo(5, 0).lineTo(5, 5).lineTo(0, 5).close()",
        "self_intersecting_loop",
    ),
    "a bow tie in a sketch": (
        W + ".sketch().segment((0, 0), (9, 9)).segment((9, 0)).segment((0, 6)).close().assemble()",
        "self_intersecting_loop",
    ),
    "many crossings": (
        W + ".polyline([" + ",".join(f"({i * 7919 % 1000}, {i * 104729 % 997})" for i in range(150)) + "]).close()",
        "self_intersecting_loop",
    ),
    "a hole over the rim": (W + ".circle(10).moveTo(1.1, 0).circle(9).extrude(5)", "overlapping_loops"),
    "holes that overlap": (
        W + ".rect(30, 30).moveTo(-2, 0).circle(5).moveTo(2, 0).circle(5).extrude(1)",
        "overlapping_loops",
    ),
    "outlines that overlap": (W + ".rect(30, 30).moveTo(15, 0).rect(30, 10).extrude(1)", "overlapping_loops"),
    "an outline twice": (W + ".rect(30, 30).moveTo(0, 0).rect(30, 30).extrude(1)", "overlapping_loops touching_loops"),
    "an island in a hole": (W + ".circle(10).circle(8).circle(5).extrude(1)", "island_in_hole"),
    "discs that touch in their middle": (W + ".circle(10).moveTo(15, 0).circle(5).extrude(1)", "touching_loops"),
    "a hole that touches the middle of each side": (W + ".rect(20, 20).circle(10).extrude(1)", "touching_loops"),
    # one body for Open CASCADE, which cuts or adds what it likes of pieces that touch
    "slots side by side in a block": (
        SLAB + TILES + ".slot2D(5.5, 2, 90).extrude(-2, combine='cut')",
        "touching_loops",
    ),
    "tiles at a corner on a block": (
        SLAB + ".pushPoints([(-1, -1), (1, 1)]).rect(2, 2).extrude(2)",
        "touching_loops",
    ),
    "boxes side by side on a block": (SLAB + TILES + ".box(2, 2, 2)", "touching_loops"),
    "tiles that are left apart": (W + TILES + ".rect(2, 4).extrude(2, combine=False)", "touching_loops"),
    "a pocket of tiles in a block": (SLAB + ".rect(8, 8)" + TILES + ".rect(2, 4).cutBlind(-2)", "touching_loops"),
    "windows side by side": (W + ".rect(8, 8)" + TILES + ".rect(2, 4).extrude(2)", "touching_loops"),
    "a window that touches the rim": (W + ".rect(8, 8).moveTo(3, 0).rect(2, 4).extrude(2)", "touching_loops"),
    "many tiles in a block": (SLAB + ".rarray(2, 2, 9, 9).rect(2, 2).cutBlind(-2)", "touching_loops too_complex"),
    "many wheels of many sides in a block": (
        SLAB
        + ".pushPoints([(1.45*i, 1.45*j) for i in range(8) for j in range(8) if (i + j) % 2])"
        + ".polygon(90, 2).cutBlind(-2)",
        "too_complex",
    ),
    "a flat extrude": (W + ".circle(1).extrude(0)", "zero_thickness"),
    "a negative radius": (W + ".circle(-1)", "out_of_range"),
    "a negative box": (W + ".box(1, -1, 1)", "out_of_range"),
    "loops at several heights": (W + ".circle(1).workplane(offset=1).circle(1).extrude(1)", "mixed_heights"),
    "a drawing that is no solid": (W + ".circle(1)", "no_solid"),
    "a cut from nothing": (W + ".cut(cq.Workplane('XY').box(1, 1, 1))", "not_a_solid"),
    "a cut with a drawing": (W + DONE + ".cut(cq.Workplane('XY').circle(1))", "not_a_solid"),
    "a nested boolean": (
        W + ".box(9, 9, 9).cut(cq.Workplane('YZ').box(9, 1, 1).cut(cq.Workplane('XY').box(1, 1, 1)))",
        "nested_boolean",
    ),
    "nothing is left": (
        W
        + ".rect(1, 1).extrude(1).cut(cq.Workplane('XY').rect(1, 1).extrude(1).cut(cq.Workplane('XY').rect(2,"
        " 2).extrude(1)))",
        "no_area",
    ),
    "an open sketch": (W + ".sketch().segment((0, 0), (1, 0)).segment((1, 1)).assemble()", "open_loop"),
    "a sketch without a start": (W + ".sketch().segment((0, 0))", "no_point"),
    "a sketch with nothing": (W + ".sketch().finalize().extrude(1)", "no_area"),
    "a circle after a sketch": (W + ".sketch().rect(9, 9).finalize().circle(1)", "no_point"),
    "a cut before a shape": (W + ".sketch().rect(1, 1, mode='s')", "no_area"),
    "a sketch with another mode": (W + ".sketch().rect(1, 1, mode='c')", "bad_arguments"),
    "a sketch with a tag": (W + ".sketch().rect(1, 1, tag='a')", "bad_arguments"),
    "a sketch that is not finished": (W + ".sketch().rect(1, 1)", "no_solid"),
    "doubling unions": (W + ".circle(1).extrude(1)\n" + "r = r.union(r)\n" * 40, "too_many_extrudes"),
    "doubling stacks": (W + ".circle(1)\n" + "r = r.add(r)\n" * 40, "too_many_curves"),
    "many extrudes": (
        START + "a = cq.Workplane('XY').circle(1).extrude(1)\nr = a\n" + "r = r.union(a)\n" * (MAX_EXTRUDES + 1),
        "too_many_extrudes",
    ),
    "many circles": (
        START + "w = cq.Workplane('XY').pushPoints([" + "(1, 2)," * 900 + "])\n" + "w.circle(1)\n" * 40,
        "too_many_curves",
    ),
    "many circles in each other": (
        START + "r = cq.Workplane('XY')" + "".join(f".circle({i})" for i in range(1, 900)) + ".extrude(1)",
        "too_complex too_many_nested",
    ),
    "a power of powers": ("x = 10**10**10", "out_of_range"),
    "powers in turn": ("x = 9\n" + "x = x**9\n" * 900, "out_of_range"),
    "squares in a loop": ("x = 3\nwhile x: x *= x", "out_of_range"),
    "digits without end": ("x = 1\nfor i in range(4999): x = x*10 + 1", "out_of_range"),
    "a list a billion times": ("x = [0]*10**9", "too_complex"),
    "a list that doubles": ("x = [0]\nfor i in range(60): x = x + x", "too_complex"),
    "a list that grows where it is": ("x = [0]\nwhile x: x += x", "too_complex"),
    "a list that grows while it is walked": ("x = [0]\nfor i in x: x.append(i)", "not_allowed"),
    "a list of itself": ("x = []\nfor i in range(99): x = [x, x]\ny = x == [x]", "not_allowed"),
    "a word a billion times": ("x = 'ab'*10**9", "not_a_number"),
    "a word that doubles": ("x = 'ab'\nfor i in range(60): x = x + x", "too_complex"),
    "a sum of a long range": ("x = sum(range(10**12))", "too_complex"),
    "a long range": ("x = list(range(10**12))", "too_complex"),
    "a range of ranges": ("x = [i*j*k for i in range(4999) for j in range(4999) for k in range(4999)]", "too_complex"),
    "loops in loops": (
        "".join(" " * k + f"for x{k} in range(4999):\n" for k in range(50)) + " " * 50 + "pass",
        "too_complex",
    ),
    "ifs in ifs": ("".join(" " * k + "if 1:\n" for k in range(95)) + " " * 95 + "pass", "no_solid"),
    "one elif after the other": ("if 0: pass\n" + "elif 0: pass\n" * 1900 + "else: pass", "too_deep"),
    "a function that calls itself": ("def f(n): return f(n + 1)\nx = f(0)", "too_deep"),
    "functions that call each other twice": (
        "def f0(): return 1\n" + "".join(f"def f{k}(): return f{k-1}() + f{k-1}()\n" for k in range(1, 40)) + "f39()",
        "too_deep too_complex",
    ),
    "functions in functions": ("".join(" " * k + f"def f{k}():\n" for k in range(95)) + " " * 95 + "pass", "no_solid"),
    "lambdas in lambdas": ("x = " + "lambda: " * 900 + "1", "no_solid too_deep"),
    "one condition in the other": ("x = " + "1 if 0 else " * 1500 + "1", "too_deep"),
    "a tower of powers": ("x = " + "2**" * 900 + "1", "too_deep"),
    "a chain of comparisons": ("x = " + "1 < " * 2500 + "1", "no_solid"),
    "a digit far away": ("x = round(5, -10**9)", "bad_arguments"),
    "a factorial": ("import math\nx = math.factorial(10**7)", "not_allowed"),
    "an arc to where it starts": (W + ".lineTo(5, 0).tangentArcPoint((0, 0)).close().extrude(1)", "straight_arc"),
    "a return without a function": (W + ".box(1, 1, 1)\nreturn", "syntax"),
    "a break without a loop": (W + ".box(1, 1, 1)\nbreak", "syntax"),
    "a break in a function in a loop": (W + ".box(1, 1, 1)\ndef f(): break\nfor i in (1, 2): f()", "syntax"),
    "a value by place, for a name without one": (
        "@dataclass\nclass P:\n    w: float\n    h: float = 2\nr = cq.Workplane().box(1, 1, P(3).h)",
        "not_allowed",
    ),
    "a value by place, for a name without a kind": (
        "@dataclass\nclass P:\n    k = 1\n    h: float = 2\nr = cq.Workplane().box(1, P(3).k, 1)",
        "not_allowed",
    ),
    "a name that is local": ("x = 1\ndef f():\n    x = x + 1\n    return x\ny = f()", "unknown_name"),
    "a name that is local, counted up": ("x = 1\ndef f():\n    x += 1\nf()", "unknown_name"),
    "a name that is local further down": ("x = 1\ndef f():\n    y = x\n    for x in (1, 2): pass\nf()", "unknown_name"),
    "a value for a plain class": ("class P:\n    w = 1\nr = cq.Workplane().box(P(3).w, 1, 1)", "bad_arguments"),
    "a call of an object": ("class P:\n    w = 1\nr = cq.Workplane().box(P()().w, 1, 1)", "bad_arguments"),
    "another decorator of a class": ("@sorted\nclass P:\n    w: int = 1\nP()", "not_allowed"),
    "functions in a loop": (
        "for i in range(4999):\n  def f():\n" + "".join(f"    x{k} = {k}\n" for k in range(900)) + "f()",
        "too_complex",
    ),
    "boxes that overlap about a solid": (
        W + ".box(9, 9, 9).faces('>Z').workplane().pushPoints([(0, 0), (1, 0)]).box(4, 4, 4)",
        "overlapping_loops",
    ),
    "the faces that look up, of a step": (
        W + ".box(9, 9, 9)\nr = r.union(r.translate((3, 0, 5))).faces('Z').hole(2)",
        "not_allowed",
    ),
    "the middle of a round wall": (W + ".circle(9).extrude(9).faces('>X').hole(2, 3)", "not_allowed"),
    "the middle of faces that are not united": (
        W + ".box(9, 9, 2).union(cq.Workplane().center(9, 1).box(9, 9, 2), clean=False).faces('>Z').hole(2, 1)",
        "not_allowed",
    ),
    "the middle of a face of almost nothing": (
        W + ".rect(9, 9).extrude(5e-8).union(cq.Workplane('YZ').rect(1, 1).extrude(5e-8)).faces('>Z').hole(2, 1)",
        "not_allowed",
    ),
    "the middle of two faces": (
        W + ".box(30, 9, 2).cut(cq.Workplane().box(9, 9, 9)).faces('>Z').hole(2, 1)",
        "not_allowed",
    ),
    "the middle of the end of a lying cylinder on a plate": (
        W + ".box(9, 9, 2).union(cq.Workplane('YZ').circle(1).extrude(3)).faces('>Z').hole(1, 1)",
        "not_allowed",
    ),
    "a line from a face": (W + ".box(9, 9, 9).faces('>Z').lineTo(3, 3)", "no_point"),
    "a number in words": ("x = float('1e999')", "out_of_range"),
    "a numpy array": ("import numpy as np\nx = np.zeros((10**6, 10**6))", "not_allowed"),
    "many places of numpy": ("import numpy as np\nx = np.linspace(0, 1, 10**9)", "too_complex"),
    "holes in a loop": (
        W + ".box(9, 9, 9)\nfor i in range(4999): r = r.faces('>Z').workplane().hole(1)",
        "too_complex too_many_extrudes",
    ),
    "patterns of patterns": (W + "\nfor i in range(99): r = r.rarray(1, 1, 70, 70)", "too_many_curves"),
    "a large pattern": (W + ".rarray(1, 1, 99999, 99999)", "too_many_curves"),
    "a polygon of a million sides": (W + ".polygon(1000000, 5)", "too_many_curves"),
    "moving about": (W + ".box(1, 1, 1)\nwhile 1: r = r.union(r.translate((1, 0, 0)))", "too_many_extrudes"),
    "mirrors": (W + ".box(1, 1, 1)\nwhile 1: r = r.mirror('XY', union=True)", "too_many_extrudes"),
    "tags": (W + "\nwhile 1: r = r.tag('a')", "too_complex too_many_calls"),
    "what is raised": ("raise ValueError", "raised"),
    "what is claimed": ("assert 1 > 2", "raised"),
    "an item that is not there": ("x = [1][5]", "no_item"),
    "a key that is not there": ("x = {'a': 1}['b']", "no_item"),
    "many shapes to unite": (
        START
        + "w = cq.Workplane('XY')\nr = w.sketch().push(["
        + ",".join(f"({i % 30}, {i // 30})" for i in range(500))
        + "]).circle(1).finalize().extrude(1)",
        "too_complex",
    ),
}


def rejection(text):
    "The error of a text, and the seconds it took; None where it is read."
    start = time.process_time()
    try:
        read(text)
        error = None
    except CodeError as e:
        error = e
    return error, time.process_time() - start


def takes_long(text):
    "Does it take longer than it may, also the second time, at the pace of this minute?"
    return rejection(text)[1] > SECONDS and rejection(text)[1] > SECONDS * pace()


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_cadquery_text_is_rejected_quickly(name):
    text, reasons = HOSTILE[name]
    error, _ = rejection(text)
    assert error is not None and error.reason in reasons.split(), error
    assert not takes_long(text)
    assert len(str(error)) < 500


@pytest.mark.parametrize(
    "text, place, found",
    [
        (
            (
                "import cadquery as cq\n# a comment\nr = (cq.Workplane('XY')\n     .circle(5)  # a disc\n    "
                " .sphere(3))\n"
            ),
            (5, 7),
            "sphere",
        ),
        ('"""Räder: ⌀ 5."""\nr = cq.Workplane("XY").box(9, 9, 9).faces(">Z").pear()  # oben\n', (2, 49), "pear"),
        ('r = cq.Workplane("<XY>")', (1, None), '"<XY>"'),
        ("r = cq.Workplane('XY').circle(9.5*2 + x)", (1, 39), "'x'"),
        ("r = cq.Workplane('XY').circle(1, both=True)", (1, 24), "circle(1, both=True)"),
    ],
)
def test_cadquery_error_names_line_column_and_text(text, place, found):
    error, _ = rejection(text)
    line, column = map(int, numbers(error.where))
    assert line == place[0] and place[1] in (None, column) and found in error.message


def test_comments_and_line_breaks_do_not_change_the_part():
    text = write(normal_form(part(0, 3)))
    other = "# räder \ud800 ((((\n\n" + text.replace("\nr = ", "\n\n  # next\nr = ").replace(
        ".extrude", "\\\n  .extrude"
    ).replace("\n", "\r\n")
    assert read(other) == read(text)


def test_what_viewers_are_told_is_ignored():
    before = "from ocp_vscode import show, save_screenshot\n"
    text = before + W + ".box(1, 2, 3)\nshow(r)\nsave_screenshot('part.png')\nr = r.translate((0, 0, 1))"
    assert build(read(text)).bounds[0, 2] == pytest.approx(-0.5)


def test_result_variable_is_r_or_result_or_the_last_solid():
    a, b = "{} = cq.Workplane('XY').box(1, 1, 1)\n", "{} = cq.Workplane('XY').box(2, 2, 2)\n"
    for first, second in (("a", "r"), ("a", "result"), ("a", "b"), ("b", "a")):
        assert build(
            read(START + a.format(first) + b.format(second) + "w = cq.Workplane('XY')\n")
        ).volume == pytest.approx(8)
    assert build(read(START + b.format("r") + a.format("c"))).volume == pytest.approx(8)


# --- random texts ---

STRANGE = (
    "__class__ __import__ lambda ** // := ; : @ { } \\ ' \" # \n \r \0 é \ud800 == ~ % -- 1_0 0x10 1e999 1e308"
    " 9999999999 nan inf None def if for in not and or is await yield import from print exec".split(" ")
)
WORDS = (
    "( ) [ ] , . = + - * / 1e-308 0 -1 .5 5. 1000000 True False cq r w w0 r"
    ".union(r) 'XY' 'ab' \"YZ\" 's' moveTo lineTo"
    " close rect circle extrude union cut intersect sketch finalize face push reset assemble segment arc box cylinder"
    " polyline pushPoints add workplane center threePointArc both=True mode='s' mode='i' centered=False (0,0) (-3,8)"
    " ((1,1),(2,2)) [(0,0),(1,1)] .close() .circle(2) .rect(5,3,mode='s') .moveTo(1,1) .extrude(2) .assemble()"
    " .push([(0,0),(3,3)]) .union(cq.Workplane().box(1,2,3)) .workplane(offset=1) .reset() -5/2 1/0"
).split(" ")
TOKEN = re.compile(r"\s+|\w+(?:\.\d+)?|.", re.DOTALL)
CALL = re.compile(r"\.?\w+\((?:[^()]|\([^()]*\))*\)|.", re.DOTALL)
NUMBER = re.compile(r"-?\d+|\D+")


def mutated(text, rng):
    "The text with one to three changes of characters, tokens, calls or numbers."
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        split = rng.choice((list, TOKEN.findall, CALL.findall, CALL.findall, NUMBER.findall, NUMBER.findall))
        units = split(text) or [""]
        i, j, new = (
            rng.randrange(len(units)),
            rng.randrange(len(units)),
            rng.choice(STRANGE if rng.random() < 0.1 else WORDS),
        )
        match rng.randrange(6):
            case _ if split == NUMBER.findall:
                units[min(i | 1, len(units) - 1)] = rng.choice(("0", "1", "-5", "7.25", str(rng.randint(-30, 30)), new))
            case 0:
                del units[i]
            case 1:
                units.insert(i, new)
            case 2:
                units[i] = new
            case 3 | 4:
                units[i], units[j] = units[j], units[i]
            case _:
                units[i:i] = units[j : j + rng.choice((1, 1, 1, 10))]
        text = "".join(units)
    return text


def programs():
    "Short programs to start from."
    ours = [write(normal_form(part(0, i), grid), grid) for i in range(12) for grid in (1.0, EXACT)]
    return [text for text in ours if len(text) < 1500] + [text_of(name) for name in STYLES]


_heard = None  # audit events are collected here while a list


def _listen(event, arguments):
    if (
        _heard is not None and event != "compile" and (event, arguments[0]) != ("open", "")
    ):  # the parser looks for a file with no name
        _heard.append((event, arguments))


@pytest.mark.slow
def test_mutated_programs_are_read_or_rejected_without_side_effects():
    global _heard
    rng, base, slow, reasons, n = random.Random(5), programs(), [], {}, cases(4_000)
    sys.addaudithook(_listen)
    texts = [mutated(rng.choice(base), rng) for _ in range(n)]
    modules, _heard = set(sys.modules), []
    try:
        for text in texts:
            start = time.process_time()
            try:
                reason = "read" if isinstance(read(text), CadSequence) else "nonsense"
            except CodeError as error:
                reason = error.reason
            if time.process_time() - start > SECONDS:
                slow.append(text)
            reasons[reason] = reasons.get(reason, 0) + 1
    finally:
        events, _heard = _heard, None
    print(f"\n{n} texts: {dict(sorted(reasons.items(), key=lambda item: -item[1]))}")
    assert not events and set(sys.modules) == modules and "nonsense" not in reasons
    assert not [text for text in slow if takes_long(text)]
    assert reasons["read"] > n / 20 and len(reasons) > 15


@pytest.mark.slow
def test_mutated_programs_are_built_or_rejected():
    rng, base, built = random.Random(6), programs(), 0
    for _ in range(cases(400)):
        try:
            sequence = read(mutated(rng.choice(base), rng))
            built += build(sequence).volume > 0
        except (CodeError, GeometryError):
            pass
    assert built > cases(400) / 20


# --- real programs and real parts ---


@pytest.fixture(scope="module")
def coder(shared):
    "Programs of CAD-Coder by the id of their model: `{id: text}`."
    records = map(json.loads, (shared / "cad_coder" / "cadquery.jsonl").read_text().splitlines())
    return {record["image"].partition("_")[0]: record["ground_truth"] for record in records}


@pytest.mark.occ
def test_cad_coder_programs_are_near_their_step_files(coder, shared):
    """The STEP files hold the models; the programs were made of rounded vectors, and are off by 2 % in the median,
    by 19 % at most.

    What CadQuery builds of them is off by the same amounts, see `test_cadquery_builds_the_same`.
    """
    pytest.importorskip("OCP", reason="needs Open CASCADE: pip install cadvlm[cad]")
    import occ

    off = {}
    for name, text in coder.items():
        want = occ.occ_volume(occ.occ_step(shared / "cad_coder" / f"{name}.step"), 1)
        off[name] = abs(build(read(text)).volume / want - 1)
    assert len(off) == 21 and np.median(list(off.values())) < 0.025 and max(off.values()) < 0.2
    assert off["00417580"] < FLAT and off["00904404"] < 1e-3 and off["00540970"] < 2e-3


def test_imports_exports_and_prints_around_a_program_are_ignored(coder):
    before = (
        '"""CAD model: a part, \'as drawn\' (räder).\n\nUnits: mm {approx.}\n"""\nfrom cadquery import'
        " exporters\nimport os, math\n"
    )
    after = (
        'import cadquery as cq\ncq.exporters.export(solid, "./inference/results/model_stl/custom_001.stl")\n\nimport'
        ' cadquery as cq\nexporters.export(solid, f"{solid}.step", opt={"a": None})\nprint("Volume:",'
        " solid.val().Volume())\nshow_object(solid)\n"
    )
    for text in coder.values():
        assert read(before + text + after) == read(text)


@pytest.fixture(scope="module")
def forms(shared):
    "Features of every eighth real part: `{(id, grid): features}`."
    found = {}
    for path in sorted((shared / "deepcad" / "cad_json").glob("*/*.json"))[::8]:
        try:
            sequence = read_file(path)
            frame = build(sequence).frame
            found |= {(path.stem, grid): normal_form(sequence, grid, frame) for grid in (1.0, 0.1, EXACT)}
        except CadError:
            pass
    assert len(found) > 290
    return found


@pytest.mark.slow
def test_cadquery_round_trip_of_real_parts(forms):
    for (name, grid), features in forms.items():
        text = write(features, grid)
        assert len(text) < MAX_TEXT / 2 and not re.search(r"\.\d{13}", text), name
        again = normal_form(read(text), grid, frame=IDENTITY)
        assert again == features and write(again, grid) == text, (name, grid)


def islands():
    "Parts with material in a hole of a sketch, and in a hole of that, which are new bodies or cut from a block."
    disc, box, shape = Loop.circle, Loop.rectangle, Profile
    window = shape(box(-8.0, -8.0, 8.0, 8.0), (box(-6.0, -6.0, 6.0, 6.0),))
    sketches = {
        "a ring with a disc": (shape(disc(8.0), (disc(6.0),)), shape(disc(3.0))),
        "a window with a washer": (window, shape(box(-4.0, -4.0, 4.0, 4.0), (disc(2.0),))),
        "a window with two discs": (window, shape(disc(2.0, -3.0)), shape(disc(2.0, 3.0))),
        "rings in rings": (shape(disc(8.0), (disc(7.0),)), shape(disc(6.0), (disc(4.0),)), shape(disc(2.0))),
        "a tongue": (window, shape(box(-6.0, -2.0, 2.0, 2.0))),
        "two holes with a disc each": (
            shape(box(-9.0, -5.0, 9.0, 5.0), (disc(3.0, -4.0), disc(3.0, 4.0))),
            shape(disc(1.0, -4.0)),
            shape(disc(1.0, 4.0)),
        ),
    }
    block = Extrude(Sketch(Plane(), (shape(box(-9.0, -9.0, 9.0, 9.0)),)), 4.0)
    for name, profiles in sketches.items():
        extrude = Extrude(Sketch(Plane(), profiles), 2.0)
        yield name, CadSequence((extrude,))
        yield name + " in a block", CadSequence((block, replace(extrude, operation=Operation.CUT)))


def test_islands_in_holes_are_written_and_read():
    for name, sequence in islands():
        solid = build(sequence)
        for step, share in ((0.1, 5e-3), (EXACT, 1e-3)):
            built = build(read(encode(sequence, exact=step == EXACT, step=step)))
            scale = np.ptp(built.bounds, axis=0).max() / np.ptp(solid.bounds, axis=0).max()
            assert built.volume == pytest.approx(solid.volume * scale**3, rel=share), name
            assert built.pieces == solid.pieces, name


SCRIPT = """
import json, resource, sys
import cadquery
resource.setrlimit(resource.RLIMIT_AS, (12 * 2**30,) * 2)
found = {}
show_object = lambda *_, **__: None
cadquery.exporters.export = cadquery.Shape.exportStl = show_object
for name, (text, part) in json.load(sys.stdin).items():
    names = {}
    names |= dict(show_object=show_object, print=show_object)
    exec(text, names)
    shapes = names[part].vals()
    boxes = [s.BoundingBox(1e-6) for s in shapes]
    found[name] = sum(s.Volume() for s in shapes), min(b.xmin for b in boxes), max(b.zmax for b in boxes)
json.dump(found, sys.stdout)
"""


def run(texts):
    """Volume, lowest x and highest z of programs `{name: text}`, as CadQuery builds them in a process of its own,
    with little memory and time."""
    assigned = {name: re.findall(r"^(\w+) ?=", text, re.M) for name, text in texts.items()}
    part = {
        name: SHOWN.get(name) or [*names, *(n for n in names if n in ("r", "result"))][-1]
        for name, names in assigned.items()
    }
    return json.loads(printed(SCRIPT, {n: (t, part[n]) for n, t in texts.items()}, 400).splitlines()[-1])


needs_cadquery = pytest.mark.skipif(
    importlib.util.find_spec("cadquery") is None, reason="needs CadQuery: pip install cadvlm[dev]"
)


def differing(texts):
    "Programs of which CadQuery builds something else, with both volumes."
    found = {}
    for name, (volume, left, top) in run(texts).items():
        sequence = read(texts[name])
        solid = build(sequence)
        size = np.ptp(solid.bounds, axis=0).max()
        if (
            abs(solid.volume / volume - 1) > tolerance(sequence)
            or max(abs(solid.bounds[0, 0] - left), abs(solid.bounds[1, 2] - top)) > 2e-3 * size
        ):
            found[name] = volume, solid.volume
    return found


@pytest.mark.occ
@needs_cadquery
def test_cadquery_builds_the_same_from_all_styles():
    assert not differing({name: text_of(name) for name in STYLES})


@pytest.mark.occ
@needs_cadquery
def test_cadquery_builds_the_same_from_islands_in_holes():
    assert not differing({name: encode(sequence) for name, sequence in islands()})


@pytest.mark.occ
@needs_cadquery
def test_cadquery_builds_the_same_from_cad_coder_programs(coder):
    assert not differing(coder)


@pytest.mark.occ
@needs_cadquery
def test_cadquery_builds_the_same_from_real_parts(forms):
    valid = {
        key: features
        for key, features in forms.items()
        if sum(len(l.curves) for f in features for p in f.profiles for l in p.loops) < 200 and key[1] != 0.1
    }
    chosen = sorted(valid, key=str)[::8]
    texts = {f"{name} on {grid}": write(valid[name, grid], grid) for name, grid in chosen}
    assert len(texts) >= 25 and not differing({name: text for name, text in texts.items() if builds(text)})


def builds(text):
    try:
        return build(read(text)).volume > 0
    except GeometryError:
        return False


# --- what is not read, and what is wrong

UNSUPPORTED = {
    "a selected edge": W + ".box(1, 1, 1).edges('|Z').workplane()",
    "a face that is not flat": W + ".circle(5).extrude(9).faces('>X').workplane().hole(1)",
    "a face in the middle": W + ".box(1, 1, 1).faces('>Z[1]').workplane().hole(0.5)",
    "a function of numpy": "import numpy as np\nr = cq.Workplane('XY').circle(np.median([1, 2])).extrude(1)",
    "what is measured": W + ".box(1, 1, 1)\nr = r.translate((r.val().BoundingBox().xlen, 0, 0))",
    "a class with methods": "class A:\n    def f(self): pass\n" + W + ".box(1, 1, 1)",
    "an extrude to the next face": W + ".box(9, 9, 9).faces('>Z').workplane().circle(1).extrude('next')",
    "a fillet": W + ".box(9, 9, 9).edges('|Z').fillet(1)",
    "a taper": W + ".circle(5).extrude(1, taper=5)",
    "a cut with a cut": W + ".box(9, 9, 9).cut(cq.Workplane('YZ').box(9, 1, 1).cut(cq.Workplane('XY').box(1, 1, 1)))",
    "a set": "d = {1, 2}\nr = cq.Workplane('XY').box(1, 1, 1)",
    "globals": W + ".box(1, 1, 1)\nif 'show_object' in globals():\n    show_object(r)",
}
OUTSIDE = {
    "a fillet": W + ".box(9, 9, 9).edges('|Z').fillet(1)",
    "a chamfer of a selection that is not read": (
        W + ".box(9, 9, 9).edges(cq.selectors.BoxSelector((0, 0, 0), (9, 9, 9))).chamfer(1)"
    ),
    "a taper": W + ".circle(5).extrude(1, taper=5)",
    "a countersink": W + ".box(9, 9, 9).faces('>Z').workplane().cskHole(1, 2, 82)",
    "a revolved body": W + ".rect(1, 1).revolve(360, (5, 0), (5, 1))",
    "a sphere": W + ".box(1, 1, 1).union(cq.Workplane('XY').sphere(2))",
    "a fillet after what is not read": W + ".box(9, 9, 9).faces('>Z[1]').workplane().hole(1).edges().fillet(1)",
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_extrudes_cannot_hold_has_a_reason_of_its_own(name):
    error, _ = rejection(OUTSIDE[name])
    assert isinstance(error, UnsupportedError) and error.reason == "outside_language" and error.where


BROKEN = {
    "prose": "Here is a plate with two holes.",
    "prose with a keyword": "This is for the plate.",
    "cut off": W + ".moveTo(0, 0).lineTo(1, 0).lineTo(1",
    "cut off in a string": W + ".box(1, 1, 1).faces('>",
    "a bracket of another kind": W + ".moveTo(1, 2]",
    "a sign that Python has not": "r = 5 $ 3",
    "an unknown name": "r = w.box(1, 1, 1)",
    "an open outline": W + ".lineTo(1, 0).lineTo(1, 1).extrude(1)",
    "a word for a number": W + ".circle('five')",
    "no solid": W + ".circle(5)",
    "nothing": "",
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_unsupported_syntax_raises_unsupported_error(name):
    error, _ = rejection(UNSUPPORTED[name])
    assert isinstance(error, UnsupportedError), error


@pytest.mark.parametrize("name", BROKEN)
def test_broken_text_raises_code_error_only(name):
    error, _ = rejection(BROKEN[name])
    assert isinstance(error, CodeError) and not isinstance(error, UnsupportedError), error


# --- solids that CadQuery has another opinion of

EMPTY = {
    "two cylinders that touch": (
        "r = cq.Workplane('ZY').circle(5).extrude(8).intersect(cq.Workplane('YZ').circle(4).extrude(9))"
    ),
    "nothing left of a box": "r = cq.Workplane('XY').box(2, 2, 2).cut(cq.Workplane('XY').box(5, 5, 5))",
    "plates without thickness": (
        "r = cq.Workplane('XY').pushPoints([(0, 0), (200, 0)]).rect(100, 100).extrude(0.00001)"
    ),
    "boxes that share an edge": (
        "r = cq.Workplane('XY').box(2, 2, 2).intersect(cq.Workplane('XY').moveTo(2, 2).box(2, 2, 2))"
    ),
    "a cut of everything, and then more": (
        "r = cq.Workplane('XY').box(2, 2, 2).cut(cq.Workplane('XY').box(5, 5, 5)).union(cq.Workplane('XY').box(1,"
        " 1, 9))"
    ),
    "boxes that do not meet, and then more": (
        "r = cq.Workplane('XY').box(2, 2, 2).intersect(cq.Workplane('XY').moveTo(9, 9).box(2, 2, 2))\nr ="
        " r.cut(cq.Workplane('XY').box(1, 1, 5))"
    ),
    "a touch, and then more": (
        "r = cq.Workplane('ZY').circle(5).extrude(8).intersect(cq.Workplane('YZ').circle(4).extrude(9))"
        ".union(cq.Workplane('XY').box(1,"
        " 1, 9))"
    ),
}


@pytest.mark.parametrize("name", EMPTY)
def test_boolean_that_leaves_nothing_is_an_empty_solid(name):
    "CadQuery would go on with the solid before a step that leaves nothing."
    with pytest.raises(GeometryError) as error:
        build(read(START + EMPTY[name]))
    assert error.value.reason == "empty_solid" and error.value.where == ("extrudes[1]" if "then more" in name else "")


def test_touching_solids_leave_no_slivers():
    "A sliver without a volume is no piece of a solid."
    text = (
        "a = cq.Workplane('ZY').circle(5).extrude(8).union(cq.Workplane('XY').moveTo(40, 0).box(9, 9, 9))\nr ="
        " a.intersect(cq.Workplane('YZ').circle(7).extrude(60))"
    )
    solid = build(read(START + text))
    assert solid.pieces == 1 and solid.volume == pytest.approx(729, rel=ROUND)


@pytest.mark.parametrize("rise", [0.02, 0.01, 0.001])
def test_too_flat_outline_is_rejected(rise):
    with pytest.raises(GeometryError) as error:
        build(
            read(
                f"import cadquery as cq\nr = cq.Workplane('XY').moveTo(-100, 0).threePointArc((0, {rise}), (100,"
                " 0)).close().extrude(5)"
            )
        )
    assert error.value.reason == "too_flat" and error.value.where == "extrudes[0]"
