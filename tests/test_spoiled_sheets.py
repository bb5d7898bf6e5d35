"""Sheets that a scanner, a phone or a mail has spoiled are read as the clean ones are, or rejected; a clean one is not
touched."""

import numpy as np
import pytest
from builders import some
from PIL import Image
from raster_sheets import draw_sheet
from spoiled_sheets import CHANGES, PHOTOGRAPH, blurred, turned, warped

from cadvlm.cad.curves import Loop
from cadvlm.cad.overlap import iou
from cadvlm.cad.sequence import CadSequence, Extrude, Operation
from cadvlm.cad.solid import build
from cadvlm.errors import CadError
from cadvlm.reading.clean_sheet import clean_sheet, moved, straightening
from cadvlm.reading.sheet_image import read_sheet_image
from cadvlm.synth.histories import part

BLIND = CadSequence((
    Extrude.between(Loop.rectangle(0, 0, 120, 80), 0, 40),
    Extrude.between(Loop.rectangle(20, 15, 60, 65), 0, 25, Operation.CUT),
    Extrude.between(Loop.circle(14, 90, 40), 10, 40, Operation.CUT),
))
SIZES = (120.0, 80.0, 40.0)


@pytest.fixture(scope="module")
def sheet():
    return draw_sheet(build(BLIND), SIZES)


@pytest.mark.parametrize("change", some(list(CHANGES), 2))
def test_a_spoiled_sheet_is_read_as_the_clean_one(sheet, change):
    reading, found = read_sheet_image(CHANGES[change](sheet))
    assert iou(build(reading.sequence), build(BLIND), align="frame") > 0.98
    assert found.sizes in (SIZES, None)


@pytest.mark.parametrize("degrees", [-5, -0.1, 4])
def test_a_sheet_may_be_turned_by_a_few_degrees(sheet, degrees):
    reading, _ = read_sheet_image(turned(sheet, degrees))
    assert iou(build(reading.sequence), build(BLIND), align="frame") > 0.98


def test_a_clean_sheet_is_not_touched(sheet):
    assert clean_sheet(sheet) is sheet
    for k in (13, 5):
        image = draw_sheet(build(part(0, k)))
        assert clean_sheet(image) is image


def test_slanted_lines_do_not_turn_a_sheet():
    "A plate with two sides that are two degrees off: upright it stays, turned it is turned back."
    sides = (0.0, 0.0), (90.0, 3.0), (90.0, 60.0), (0.0, 57.0)
    image = draw_sheet(build(CadSequence((Extrude.between(Loop.polygon(*sides), 0.0, 20.0),))))
    assert clean_sheet(image) is image
    apart = np.abs(clean_sheet(turned(image, 1)).astype(float) - image)
    assert np.mean(apart) < 1 < np.mean(np.abs(turned(image, 1).astype(float) - image))


@pytest.mark.parametrize("tilt", [(2e-5, 0), (0, -2e-5), (1.5e-5, 1.5e-5)])
def test_a_perspective_is_undone_by_lines(tilt):
    "But for a shift and a scale in x and y."
    known = np.array(((1, 0.004, 2), (-0.005, 1, -3), (*tilt, 1)))
    places = np.arange(60.0, 760, 100)
    ends = [((x, 50), (x, 700)) for x in places] + [((50, y), (700, y)) for y in places]
    matrix = straightening(moved(np.array(ends, float), known), (800, 800))
    again = moved(np.array(ends, float), matrix @ known)
    assert np.abs(np.diff(again[:7, :, 0])).max() < 0.01 and np.abs(np.diff(again[7:, :, 1])).max() < 0.01


def test_what_nothing_mends_is_rejected_or_not_certified(sheet):
    "Out of focus, upside down, in a strong perspective, another sheet under it."
    beside = np.minimum(sheet, np.roll(sheet, (40, 25), axis=(0, 1)))
    for image in (blurred(sheet, 4), sheet[::-1], warped(sheet, ((1, 0.1, 0), (0, 1, 0), (4e-4, 0, 1))), beside):
        try:
            assert not read_sheet_image(image)[0].certified
        except CadError as e:
            assert e.reason in ("not_three_views", "views_disagree", "contradictory_views", "too_many_lines")


@pytest.mark.parametrize("size", [(1700, 1700), (1, 1), (60, 400)])
def test_noise_of_any_size_is_rejected(size):
    noise = np.random.default_rng(0).integers(0, 256, size).astype(np.uint8)
    with pytest.raises(CadError):
        read_sheet_image(noise)


def test_a_public_sheet_by_a_phone_is_read(shared):
    from cadvlm.cad.step import load_step

    pytest.importorskip("OCP")
    path = shared / "ortho2cad" / "deepcad" / "00319779.png"
    if not path.is_file():
        pytest.skip("needs the drawings of Ortho2CAD in ../shared/ortho2cad")
    reading, _ = read_sheet_image(CHANGES[PHOTOGRAPH](np.asarray(Image.open(path).convert("L"))))
    assert iou(load_step(path.with_suffix(".step")), build(reading.sequence), align="inertia") > 0.95
