"""Booleans leave no skins: random parts whose walls touch have the volume, area and pieces that 2-D geometry and counting give, in any position."""
import math
from dataclasses import replace
from pathlib import Path
from random import Random

import constructions
import numpy as np
import pytest
import trimesh

from cadvlm.cad.boolean import skins
from cadvlm.cad.export import save
from cadvlm.cad.sequence import CadSequence, Plane, read
from cadvlm.errors import CadError, GeometryError
from cadvlm.cad.solid import build

CASES = Path(__file__).parent / "cases"


def properties(solid):
    return solid.volume, solid.area, solid.pieces


def turned(sequence, steps):
    "The sequence with x, y and z exchanged in a circle."
    roll = lambda v: (*v[-steps:], *v[:-steps]) if steps else v
    lie = lambda p: Plane(roll(p.origin), roll(p.x_axis), roll(p.y_axis))
    return CadSequence(tuple(replace(e, sketch=replace(e.sketch, plane=lie(e.sketch.plane))) for e in sequence.extrudes))


def differs(found, expected, tolerance=1e-4):
    return found[2] != expected[2] or any(abs(a / b - 1) > tolerance for a, b in zip(found[:2], expected[:2]))


@pytest.mark.parametrize("chunk", range(4))
def test_stacks_have_the_volume_area_and_pieces_of_their_slabs_on_every_plane(chunk):
    wrong = []
    for seed in range(250 * chunk, 250 * (chunk + 1)):
        stack = constructions.stack(seed)
        solids = [build(constructions.on_plane(stack, plane)) for plane in range(3)]
        expected = constructions.stack_properties(stack, solids[0].frame.scale)
        if any(differs(properties(solid), expected) or properties(solid) != pytest.approx(properties(solids[0])) for solid in solids):
            wrong.append((seed, expected, [properties(solid) for solid in solids]))
    assert not wrong


def test_stacks_in_any_position_have_the_volume_area_and_pieces_of_their_slabs():
    wrong = []
    for seed in range(1000, 1300):
        stack = constructions.stack(seed)
        solid = build(constructions.turned(constructions.on_plane(stack), seed))
        if differs(properties(solid), constructions.stack_properties(stack, solid.frame.scale)):
            wrong.append(seed)
    assert not wrong


def test_boxes_on_oblique_faces_are_united_and_pockets_are_cut():
    wrong = []
    for seed in range(300):
        sequence, volume, area = constructions.on_oblique_face(Random(seed))
        if differs(properties(build(sequence)), (volume, area, 1), 1e-3):
            wrong.append(seed)
    assert not wrong


def test_boxes_on_three_planes_have_the_volume_and_area_of_their_cubes():
    made = filter(None, (constructions.boxes(Random(seed)) for seed in range(1000)))
    wrong = [(s, v, a) for s, v, a in made if (build(s).volume, build(s).area) != pytest.approx((v, a), rel=1e-6)]
    assert not wrong


def test_stl_files_are_watertight_for_another_reader(tmp_path):
    sequences = [constructions.on_plane(constructions.stack(seed), seed % 3) for seed in range(200)]
    sequences += [made[0] for made in (constructions.boxes(Random(seed)) for seed in range(200)) if made]
    for sequence in sequences:
        solid = build(sequence)
        save(solid, tmp_path / "part.stl")
        mesh = trimesh.load(tmp_path / "part.stl")
        sides = mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
        size = len(mesh.vertices)
        forth, back = (np.bincount(s[:, 0] * size + s[:, 1], minlength=size * size) for s in (sides, sides[:, ::-1]))
        assert (sides[:, 0] != sides[:, 1]).all() and (forth == back).all()
        assert mesh.is_watertight or forth.max() > 1     # two parts of a solid may touch along an edge
        assert mesh.volume == pytest.approx(solid.volume * 1e9, rel=1e-4)


@pytest.mark.parametrize("name, volume, area", [
    ("yz_join_slanted_face", 4.5 * 3 + 4.5 * 6, 18 + 6 * 3 + 6 * 6 + math.hypot(3, 3) * 3),
    ("yz_two_cuts_slanted_face", 0.775 * 1.2 + 0.225 * 1.5, 2 + 2.55 * 1.2 + 1.45 * 1.5 + math.hypot(0.03, 1) * 0.3),
    ("yz_counterbore_disc_and_ring", None, None),
    ("box_on_oblique_face_rounded", None, None),
])
def test_parts_that_had_skins(name, volume, area):
    sequence = read(CASES / f"{name}.json")
    solid = build(sequence)
    assert solid.pieces == 1 and not skins(solid.manifold)
    for expected, found in ((volume, solid.volume), (area, solid.area)):
        assert expected is None or found == pytest.approx(expected, rel=1e-6)
    for steps in (1, 2):
        assert properties(build(turned(sequence, steps))) == pytest.approx(properties(solid))


def test_an_outline_that_crosses_itself_is_refused_with_its_own_reason():
    with pytest.raises(GeometryError) as error:
        build(read(CASES / "bowtie.json"))
    assert error.value.reason == "self_intersecting_loop" and error.value.where == "extrudes[0]"


@pytest.mark.parametrize("chunk", range(2))
def test_real_parts_are_the_same_when_the_axes_change_places(shared, chunk):
    wrong, compared = [], 0
    for path in sorted((shared / "deepcad" / "cad_json").glob("*/*.json"))[chunk::2]:
        try:
            sequence = read(path)
            solid = build(sequence)
        except CadError:
            continue
        if len(sequence.extrudes) == 1:
            continue     # no boolean
        compared += 1
        if skins(solid.manifold) or any(properties(build(turned(sequence, s))) != pytest.approx(properties(solid), rel=1e-9) for s in (1, 2)):
            wrong.append(path.stem)
    assert not wrong and compared > 100


@pytest.mark.parametrize("degrees", [10, 30, 57.3, 200])
def test_equal_cylinders_of_turned_sketches_share_their_wall(degrees):
    angle = math.radians(degrees)
    plane = Plane((0.0, 0.0, 0.0), (math.cos(angle), math.sin(angle), 0.0), (-math.sin(angle), math.cos(angle), 0.0))
    extrude = lambda profile, plane, height: constructions.Extrude(constructions.Sketch(plane, (profile,)), height, constructions.JOIN)
    straight, turned = (CadSequence((extrude(constructions.disc(0.0, 0.0, 2.0), Plane(), 0.5), extrude(constructions.ring(0.0, 0.0, 4.0, 2.0), p, 0.9)))
                        for p in (Plane(), plane))
    assert properties(build(turned)) == pytest.approx(properties(build(straight)), rel=1e-6)
