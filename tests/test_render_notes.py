"""Datasets in other conventions: first angle, centre lines, dimensions, names of views."""

import cv2
import numpy as np

from cadvlm.cad.repair import load_part
from cadvlm.cad.solid import build
from cadvlm.corpus.dataset import Dataset
from cadvlm.reading.notes import images_with
from cadvlm.stages.extract import extract
from cadvlm.stages.render import render
from cadvlm.stages.synthesize import synthesize


def test_a_dataset_is_drawn_in_another_convention(tmp_path):
    "First angle, with all notes; what is validated is drawn again, with the settings in the metadata."
    synthesize(tmp_path / "corpus", count=6, workers=1)
    extract(tmp_path / "corpus", tmp_path / "data", train_size=3, val_size=1, test_size=1, workers=1)
    views, notes = ("front", "top", "right", "sheet"), dict(labels=True, dimensions=True, centre_lines=True)
    plain = render(tmp_path / "data", views=views, size=128, workers=1)
    before = {p: p.read_bytes() for p in (tmp_path / "data").glob("images/*/*.png")}
    noted = render(tmp_path / "data", views=views, size=128, workers=1, angle="first", **notes)
    assert plain.made == noted.made == 5 and noted.cached == 0
    assert all(p.read_bytes() != data for p, data in before.items())
    about = Dataset(tmp_path / "data").metadata("render")
    assert about["angle"] == "first" and "first angle" in about["conventions"]["projection"]
    id = next(iter(about["frames"]))
    solid = build(load_part(Dataset(tmp_path / "data").json_path(id).read_bytes(), id))
    images = images_with(solid, views, about)
    for view in views:
        saved = cv2.imread(str(Dataset(tmp_path / "data").image_path(id, view)))[:, :, ::-1]
        assert np.array_equal(images[view], saved), view
