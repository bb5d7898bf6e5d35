"""Images are read back into parts: our own views and sheets, what pixels cannot tell, and the command."""
import json
from functools import partial
from itertools import product

import numpy as np
import pytest

from builders import deepcad_json, deepcad_source, some
from cadvlm.app.readings import reconstruct
from cadvlm.cad.curves import Loop
from cadvlm.cad.drawing import encode_png, project
from cadvlm.cad.overlap import iou
from cadvlm.cad.repair import load_part
from cadvlm.cad.sequence import CadSequence, Extrude, Operation
from cadvlm.cad.solid import build
from cadvlm.corpus.dataset import Dataset
from cadvlm.errors import CadError, DatasetError
from cadvlm.reading.adjust import RADIUS, Budget, adjusted, agreement, numbers_of, with_number
from cadvlm.reading.images import rasters_of_sheet, rasters_of_views, read_rasters
from cadvlm.reading.levels import PAPER
from cadvlm.reading.pixel_match import match_pixels
from cadvlm.reading.raster import raster_of
from cadvlm.stages.extract import extract
from cadvlm.stages.render import render
from cadvlm.text.language import decode

box, disc = Loop.rectangle, Loop.circle


def cut(loop, low, high):
    return Extrude.between(loop, low, high, Operation.CUT)


def join(loop, low, high):
    return Extrude.between(loop, low, high, Operation.JOIN)


HEXAGON = [(np.cos(k * np.pi / 3), np.sin(k * np.pi / 3)) for k in range(6)]
PARTS = {
    "box": [Extrude.between(box(0, 0, 80, 50), 0, 30)],
    "plate with holes": [
        Extrude.between(box(0, 0, 80, 50), 0, 8),
        *(cut(disc(5, x, 25), 0, 8) for x in (15, 40, 65)),
    ],
    "stepped shaft": [Extrude.between(disc(20), 0, 30), join(disc(12), 30, 70)],
    "blind pocket": [Extrude.between(box(0, 0, 80, 50), 0, 30), cut(box(10, 10, 40, 40), 12, 30)],
    "counterbore": [
        Extrude.between(box(0, 0, 60, 60), 0, 20),
        cut(disc(8, 30, 30), 0, 20),
        cut(disc(15, 30, 30), 12, 20),
    ],
    "bracket": [
        Extrude.between(box(0, 0, 80, 50), 0, 12),
        join(box(0, 0, 14, 50), 12, 60),
        cut(disc(9, 50, 25), 0, 12),
    ],
    "wedge": [Extrude.between(Loop.polygon((0, 0), (80, 0), (80, 40)), 0, 30)],
    "hexagon": [Extrude.between(Loop.polygon(*HEXAGON), 0, 1)],
    "hidden boss": [Extrude.between(box(0, 0, 80, 50), 10, 20), join(disc(12, 50, 25), 0, 10)],
    "thin plate": [Extrude.between(box(0, 0, 80, 50), 0, 1), cut(disc(10, 30, 25), 0, 1)],
}


FEW = 20  # drawings judged in search of an approximation


def views_of(solid, size=512, width=2.0):
    return {v: project(solid, v).rasterize(size, line_width=width) for v in PAPER}


@pytest.mark.parametrize("name", PARTS)
def test_closed_forms_are_read_from_images(name):
    solid = build(CadSequence(tuple(PARTS[name])))
    reading = read_rasters(rasters_of_views(views_of(solid)))
    assert reading.certified
    assert iou(build(reading.sequence), solid, align="frame") > 0.99


SIZED = [*product([256, 384, 700, 1024, 4000], ["bracket", "wedge", "counterbore", "hidden boss"])]


@pytest.mark.parametrize("size, name", some(SIZED, 3))
def test_the_size_of_an_image_does_not_matter(name, size):
    solid = build(CadSequence(tuple(PARTS[name])))
    reading = read_rasters(rasters_of_views(views_of(solid, size)))
    assert reading.certified and iou(build(reading.sequence), solid, align="frame") > 0.99


def test_large_images_are_read_with_few_pixels():
    solid = build(CadSequence(tuple(PARTS["bracket"])))
    raster = rasters_of_views(views_of(solid, 2048))["front"]
    assert raster.dark.shape == (512, 512) and raster.finer.dark.shape == (1024, 1024)
    for r in (raster, raster.finer):
        same = raster_of(views_of(solid, len(r.dark))["front"], "front")
        assert (r.scale, r.width, *r.middle) == (same.scale, same.width, *same.middle)
        assert np.abs(r.dark - same.dark).sum() < 0.01 * same.dark.sum()


@pytest.mark.parametrize("width, size", [(1.0, 512), (4.0, 512), (8.0, 512), (0.5, 1024)])
def test_the_width_of_lines_does_not_matter(width, size):
    solid = build(CadSequence(tuple(PARTS["counterbore"])))
    reading = read_rasters(rasters_of_views(views_of(solid, size, width), width * size / 512))
    assert reading.certified and iou(build(reading.sequence), solid, align="frame") > 0.99


def test_a_depth_that_a_small_image_does_not_tell_is_not_certified():
    "Two thin plates with pockets whose depths differ by less than the pixel that their hidden lines lie in."
    for deep in (1.05, 1.15):
        part = [Extrude.between(box(0, 0, 200, 100), 0, 2), cut(box(10, 10, 190, 90), 0, deep)]
        solid = build(CadSequence(tuple(part)))
        try:
            reading = read_rasters(rasters_of_views(views_of(solid, 256)), FEW)
        except CadError:
            continue
        assert not reading.certified or iou(build(reading.sequence), solid, align="frame") > 0.98


def test_wide_lines_are_reported():
    solid = build(CadSequence(tuple(PARTS["plate with holes"])))
    reading = read_rasters(rasters_of_views(views_of(solid, 512, 3.0), 3.0))
    assert reading.certified and iou(build(reading.sequence), solid, align="frame") > 0.99


def test_a_sheet_is_read_as_its_views_are():
    solid = build(CadSequence(tuple(PARTS["counterbore"])))
    reading = read_rasters(rasters_of_sheet(project(solid, "sheet").rasterize(1024)))
    assert reading.certified and iou(build(reading.sequence), solid, align="frame") > 0.99


def test_another_part_is_not_certified_by_the_images():
    solid = build(CadSequence(tuple(PARTS["blind pocket"])))
    rasters = rasters_of_views(views_of(solid))
    others = [*PARTS["blind pocket"][:1]], [*PARTS["blind pocket"][:1], cut(box(10, 10, 40, 40), 13, 30)]
    assert match_pixels(solid, rasters).certified
    for part in others:
        assert not match_pixels(build(CadSequence(tuple(part))), rasters).certified


@pytest.mark.parametrize("name", some(["bracket", "counterbore", "stepped shaft", "hidden boss"], 2))
def test_images_with_a_hole_in_their_lines_give_an_approximation(name):
    solid = build(CadSequence(tuple(PARTS[name])))
    images = views_of(solid)
    for image in images.values():
        rows, columns = np.nonzero(image[:, :, 0] < 250)
        middle = (rows.min() + rows.max()) // 2
        image[middle - 6 : middle + 6, columns.min() : columns.min() + 12] = 255
    reading = read_rasters(rasters_of_views(images))
    assert not reading.certified
    assert iou(build(reading.sequence), solid, align="frame") > 0.9


def test_a_value_and_a_radius_that_are_off_are_found():
    solid = build(CadSequence(tuple(PARTS["counterbore"])))
    rasters = rasters_of_views(views_of(solid))
    exact = read_rasters(rasters).sequence
    radius, depth = numbers_of(exact)[RADIUS][0], numbers_of(exact)[2][1]
    wrong = with_number(with_number(exact, RADIUS, radius, radius + 0.4), 2, depth, depth - 0.5)
    judge = partial(agreement, rasters=rasters)
    right = adjusted(wrong, judge, Budget(300, 60))
    assert judge(wrong) < judge(right) - 0.02
    assert not match_pixels(build(wrong), rasters).certified and match_pixels(build(right), rasters).certified


def test_a_search_ends_with_its_budget():
    judged = []
    part = CadSequence(tuple(PARTS["plate with holes"]))
    read = read_rasters(rasters_of_views(views_of(build(part)))).sequence
    adjusted(read, lambda p: judged.append(p) or 0.5, Budget(7))
    assert len(judged) == 8  # the part itself as well


@pytest.mark.parametrize("change", ["view removed", "view mirrored", "line erased", "line added", "views of two parts"])
def test_changed_images_are_never_certified_as_the_part(change):
    solid = build(CadSequence(tuple(PARTS["bracket"])))
    images = views_of(solid)
    if change == "view removed":
        images["top"] = np.full_like(images["top"], 255)
    elif change == "view mirrored":
        images["front"] = images["front"][:, ::-1]
    elif change == "line erased":
        images["front"][230:300, 100:130] = 255
    elif change == "line added":
        images["right"][200:202, 150:360] = 0
    else:
        images["top"] = views_of(build(CadSequence(tuple(PARTS["counterbore"]))))["top"]
    try:
        assert not read_rasters(rasters_of_views(images), FEW).certified
    except CadError:
        pass


def test_noise_is_rejected_or_not_certified():
    draw = np.random.default_rng(0)
    for share in (0.001, 0.05, 0.5):
        images = {v: np.where(draw.random((512, 512)) < share, 0, 255).astype(np.uint8) for v in PAPER}
        try:
            assert not read_rasters(rasters_of_views(images), FEW).certified
        except CadError:
            pass


@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (3, 3), (512, 100)])
def test_arrays_that_are_no_images_are_rejected(shape):
    array = np.full(shape, 255, np.uint8)
    for rasters in (lambda: rasters_of_views(dict.fromkeys(PAPER, array)), lambda: rasters_of_sheet(array)):
        with pytest.raises(ValueError, match="expected"):
            rasters()


def test_white_images_are_no_views():
    with pytest.raises(CadError) as error:
        read_rasters(rasters_of_views({v: np.full((512, 512), 255, np.uint8) for v in PAPER}))
    assert error.value.reason in ("not_three_views", "flat")


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    folder, names = tmp_path_factory.mktemp("images"), ("bracket", "counterbore", "hidden boss", "wedge")
    files = {f"{k:08}": deepcad_json(CadSequence(tuple(PARTS[name])).scaled(0.001)) for k, name in enumerate(names)}
    deepcad_source(folder / "source", files, train=[*files], validation=[], test=[])
    extract(folder / "source", folder / "few", train_size=4, val_size=0, test_size=0, workers=1)
    return Dataset(folder / "few")


@pytest.mark.parametrize("views, size", [(("front", "top", "right"), 512), (("sheet",), 1024)])
def test_the_command_reads_the_images_of_a_dataset(few, tmp_path, views, size):
    render(few.path, views=views, size=size, workers=1)
    made = reconstruct(few.path, tmp_path / "out", split="all", images=True, exact=True, workers=1)
    rows = [json.loads(line) for line in (tmp_path / "out/predictions.jsonl").read_text().splitlines()]
    assert made.requested == len(few) == 4 and sum(r["certified"] for r in rows) >= 3
    for row in rows:
        if row["certified"]:
            truth = build(load_part(few.json_path(row["id"]).read_bytes(), row["id"]))
            assert iou(build(decode(row["code"])), truth, align="frame") > 0.98
    assert "data:image/png" in (tmp_path / "out/index.html").read_text()


def test_images_that_cannot_be_read_are_reported(few, tmp_path):
    render(few.path, views=("front",), hidden_lines=False, workers=1)
    with pytest.raises(DatasetError) as error:
        reconstruct(few.path, tmp_path / "out", images=True, workers=1)
    assert error.value.reason == "bad_setting"
    (tmp_path / "a.svg").write_text("<svg/>")
    with pytest.raises(DatasetError) as error:
        reconstruct(tmp_path / "a.svg", tmp_path / "out", images=True, workers=1)
    assert error.value.reason == "bad_setting"


def test_one_view_determines_no_part(few, tmp_path):
    render(few.path, views=("front",), workers=1)
    made = reconstruct(few.path, tmp_path / "out", split="all", images=True, workers=1)
    assert made.made == 0
    reasons = {json.loads(line)["reason"] for line in (tmp_path / "out/failures.jsonl").read_text().splitlines()}
    assert reasons == {"not_three_views"}


def test_images_of_another_size_are_reported(few, tmp_path):
    "A view that is not square, and one of a single pixel."
    render(few.path, views=tuple(PAPER), workers=1)
    for k, id in enumerate(few.ids):
        shape = (1, 1, 3) if k % 2 else (512, 300, 3)
        few.image_path(id, "front").write_bytes(encode_png(np.full(shape, 255, np.uint8)))
    assert reconstruct(few.path, tmp_path / "out", split="all", images=True, workers=1).made == 0
    reasons = {json.loads(line)["reason"] for line in (tmp_path / "out/failures.jsonl").read_text().splitlines()}
    assert reasons == {"wrong_image"}
