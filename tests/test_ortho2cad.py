"""The protocol that turns parts to their principal axes: against Open CASCADE's own inertia and booleans, and the whole
command with its truth in STEP files."""

import numpy as np
import orjson
import pytest

pytest.importorskip("OCP")

import occ  # noqa: E402
from builders import some  # noqa: E402
from OCP.BRepAlgoAPI import BRepAlgoAPI_Common  # noqa: E402
from OCP.BRepBuilderAPI import BRepBuilderAPI_Transform  # noqa: E402
from OCP.BRepGProp import BRepGProp  # noqa: E402
from OCP.gp import gp_Trsf  # noqa: E402
from OCP.GProp import GProp_GProps  # noqa: E402

from cadvlm.cad.curves import Loop  # noqa: E402
from cadvlm.cad.overlap import _at_its_mass, iou, mass_properties  # noqa: E402
from cadvlm.cad.polygons import IDENTITY  # noqa: E402
from cadvlm.cad.sequence import CadSequence, Extrude, Operation  # noqa: E402
from cadvlm.cad.step import load_step, step_file  # noqa: E402
from cadvlm.measure.evaluate import evaluate, evaluate_file  # noqa: E402
from cadvlm.measure.protocols import score, solid_truth  # noqa: E402
from cadvlm.synth.histories import part  # noqa: E402
from cadvlm.text.language import decode, encode  # noqa: E402


def kernel_mass(shape):
    "Volume, centre of mass and inertia about it, by the kernel."
    found = GProp_GProps()
    BRepGProp.VolumeProperties_s(shape, found)
    matrix = found.MatrixOfInertia()
    inertia = np.array([[matrix.Value(i, j) for j in (1, 2, 3)] for i in (1, 2, 3)])
    return found.Mass(), np.array(found.CentreOfMass().Coord()), inertia


def upright(shape, signs):
    "A shape at its centre of mass, scaled by its inertia, along its principal axes, some of them reversed."
    volume, centre, inertia = kernel_mass(shape)
    _, axes = np.linalg.eigh(inertia)
    axes = axes.T * np.linalg.det(axes)
    matrix = np.diag(signs) @ axes / np.sqrt(np.trace(inertia) / volume)
    move = gp_Trsf()
    move.SetValues(*np.column_stack((matrix, -matrix @ centre)).ravel().tolist())
    return BRepBuilderAPI_Transform(shape, move, True).Shape()


def kernel_iou(one, other):
    "Intersection over union of two shapes by the kernel's booleans: the best of four rotations."
    target, best = upright(one, (1, 1, 1)), 0.0
    for signs in ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)):
        answer = upright(other, signs)
        common = kernel_mass(BRepAlgoAPI_Common(target, answer).Shape())[0]
        best = max(best, common / (kernel_mass(target)[0] + kernel_mass(answer)[0] - common))
    return best


def written(path, sequence):
    path.write_bytes(step_file(sequence, path.stem)[0])
    return path


def public(shared, name):
    "The STEP files of a folder of Ortho2CAD's."
    folder = shared / "ortho2cad" / name
    if not folder.is_dir():
        pytest.skip("needs the drawings of Ortho2CAD in ../shared/ortho2cad")
    return sorted(folder.glob("*.step"))


@pytest.mark.parametrize("k", [9, 10, 11])
def test_mass_properties_are_those_of_the_kernel(tmp_path, k):
    path = written(tmp_path / "part.step", part(0, k))
    solid, (volume, centre, inertia) = load_step(path, unit=1.0), kernel_mass(occ.occ_step(path))
    found = mass_properties(solid.manifold)
    scale = solid.frame.scale
    assert np.isclose(found[0] / scale**3, volume, rtol=2e-3)
    assert np.allclose(found[1] / scale + solid.frame.centre, centre, atol=1e-3 * np.ptp(solid.bounds))
    assert np.allclose(found[2] / scale**5, inertia, atol=4e-3 * np.trace(inertia))


@pytest.mark.parametrize("k, other", [(9, 10), (10, 11), (11, 13), (13, 9)])
def test_iou_is_that_of_the_kernel(tmp_path, k, other):
    sequence, code = part(0, k), encode(part(0, other))
    truth, answer = written(tmp_path / "truth.step", sequence), written(tmp_path / "answer.step", decode(code))
    expected = kernel_iou(occ.occ_step(truth), occ.occ_step(answer))
    found = score(code, "cadquery", solid_truth(load_step(truth)), "ortho2cad")
    assert found["valid"] and np.isclose(found["iou"], expected, atol=3e-3)
    assert 0.05 < expected < 0.95


def test_iou_of_public_parts_is_that_of_the_kernel(shared):
    "Of 40 parts, 27 have axes that are determined; 25 of their pairs, or 50."
    paths = public(shared, "deepcad")
    solids = {p: load_step(p) for p in paths}
    known = [p for p in paths if _at_its_mass(solids[p])[2]]
    assert len(known) == 27
    shapes = {p: occ.occ_step(p) for p in known}
    pairs = [(a, known[(i + k) % len(known)]) for i, a in enumerate(known) for k in (1, 2, 5)]
    pairs = some(pairs[1:51], 2)
    found = [iou(solids[a], solids[b], align="inertia") for a, b in pairs]
    apart = np.abs(np.subtract(found, [kernel_iou(shapes[a], shapes[b]) for a, b in pairs]))
    assert apart.max() < 5e-4 and np.median(apart) < 2e-5 and np.ptp(found) > 0.5


def test_turned_and_scaled_copy_is_perfect(tmp_path):
    arm = Extrude.between(Loop.polygon((0.0, 0.0), (90.0, 0.0), (90.0, 20.0), (30.0, 50.0), (0.0, 50.0)), 0.0, 30.0)
    foot = Extrude.between(Loop.rectangle(0.0, 0.0, 25.0, 40.0), 30.0, 47.0, Operation.JOIN)
    bracket = CadSequence((arm, foot))
    truth = solid_truth(load_step(written(tmp_path / "bracket.step", bracket)))
    code = encode(bracket.scaled(0.5), exact=True, frame=IDENTITY)
    turned = code.replace('"XY"', '"YZ"').replace("(0, 0, 15)", "(15, 0, 0)")
    assert code.count("(0, 0, 15)") == 1
    for text in (code, turned):
        for protocol in ("ortho2cad", "cad-coder"):
            assert score(text, "cadquery", truth, protocol)["iou"] > 1 - 1e-6
    assert score(turned, "cadquery", truth, "cadrille")["iou"] < 0.9


def test_parts_of_less_than_a_millimetre_are_read(shared):
    for path in public(shared, "deepcad"):
        solid, shape = load_step(path, unit=1.0), occ.occ_step(path)
        assert np.isclose(solid.volume, kernel_mass(shape)[0], rtol=5e-3), path.stem


def test_command_takes_a_folder_of_step_files(tmp_path):
    folder = tmp_path / "truths"
    folder.mkdir()
    for k in (9, 10, 13):
        written(folder / f"{k:08}.step", part(0, k))
    said = [dict(id=f"{k:08}", code=encode(part(0, k)), language="cadquery") for k in (9, 10)]
    (tmp_path / "said.jsonl").write_bytes(b"\n".join(map(orjson.dumps, said)))
    made = evaluate_file(tmp_path / "said.jsonl", folder, protocol="ortho2cad", workers=1)
    kept = orjson.loads((tmp_path / "said_ortho2cad" / "evaluation.json").read_bytes())
    assert made.requested == 3 and kept["reasons"] == {"no_prediction": 1}
    values = kept["measures"]["iou"]
    assert values["valid"]["mean"] > 0.98
    assert np.isclose(values["failures_as_zero"]["mean"], 2 / 3 * values["valid"]["mean"])
    by_frame = evaluate(said, folder, "cadvlm", workers=1, only_answered=True)
    assert by_frame.iou.min() > 0.9 and by_frame.acc_cmd.isna().all()


def test_step_file_that_cannot_be_read_is_skipped_and_counted(tmp_path):
    written(tmp_path / "good.step", part(0, 9))
    (tmp_path / "bad.step").write_text("ISO-10303-21; nothing more")
    said = [dict(id=i, code=encode(part(0, 9)), language="cadquery") for i in ("good", "bad")]
    found = evaluate(said, tmp_path, "ortho2cad", workers=1).set_index("id")
    assert found.no_truth["bad"] == "bad_step" and found.valid["good"] and found.iou["good"] > 0.98
