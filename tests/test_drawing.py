"""Laws that hold for the drawings of any part, on parts drawn from the synthetic corpus by hypothesis."""

import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import cadvlm
from builders import circle, raised, rectangle
from cadvlm.cad.drawing import encode_png, project
from cadvlm.cad.hidden import VIEWS, drawn_edges, hidden_lines
from cadvlm.cad.curves import Profile
from cadvlm.cad.sequence import CadSequence, Operation, Plane
from cadvlm.cad.solid import build
from cadvlm.synth.histories import part

parts = st.integers(0, 100_000).map(lambda index: part(1, index))
many = settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def turned(sequence):
    "The part turned by 90° about z: x goes to y."
    turn = lambda v: (-v[1], v[0], v[2])
    move = lambda p: Plane(turn(p.origin), turn(p.x_axis), turn(p.y_axis))
    return CadSequence(
        tuple(replace(e, sketch=replace(e.sketch, plane=move(e.sketch.plane))) for e in sequence.extrudes)
    )


def length(pieces):
    return np.hypot(*(pieces[:, 2:4] - pieces[:, :2]).T).sum()


def apart(a, b):
    "Share of pixels that differ clearly."
    return (np.abs(a.astype(int) - b).max(axis=2) > 64).mean()


def block(x, y, z, origin):
    "A box of size (x, y, z) with its lowest corner at `origin`."
    return raised(z, rectangle(x, y), plane=Plane(origin))


@many
@given(parts)
def test_visible_and_hidden_pieces_add_up_to_the_edges(sequence):
    solid = build(sequence)
    for view, axes in VIEWS.items():
        drawn, _ = drawn_edges(solid, view)
        p, q = (solid.mesh[0] @ axes[:2].T)[solid.edges.ends[drawn]].transpose(1, 0, 2)
        edges = np.hypot(*(q - p).T)
        assert abs(length(hidden_lines(solid, view)) - edges[edges >= 1e-3].sum()) < 1e-6 * edges.sum()


@pytest.mark.slow
@many
@given(parts)
def test_rotation_permutes_the_views(sequence):
    before, after = build(sequence), build(turned(sequence))
    # the dashes of a closed curve may start elsewhere, so that some pixels of hidden lines may differ, more where
    # there are many holes
    for hidden, share in ((False, 0.05), (True, 0.1)):
        image = lambda solid, view: project(solid, view).rasterize(hidden_lines=hidden)
        limit = max(
            2e-3, share * max((image(before, v).min(axis=2) < 200).mean() for v in ("front", "left", "top"))
        )  # of the ink
        assert apart(image(after, "right"), image(before, "front")) < limit
        assert apart(image(after, "front"), image(before, "left")) < limit
        assert apart(image(after, "top"), np.rot90(image(before, "top"))) < limit


@many
@given(parts, st.floats(0.2, 5), st.tuples(*[st.floats(-1, 1)] * 3))
@example(part(1, 67013), 0.502324516453758, (0.8340379382298997, -0.556592207571627, 0.6066901082924046))
def test_scaling_and_translation_change_no_pixel(sequence, scale, shift):
    before, after = build(sequence), build(sequence.scaled(scale, shift))
    for view in ("front", "top", "right", "iso"):
        a, b = project(before, view).rasterize(), project(after, view).rasterize()
        assert (a != b).sum() == 0, view


@many
@given(st.floats(0.05, 0.95), st.floats(0.05, 0.95), st.floats(0.05, 0.9), st.floats(0.01, 0.3))
def test_body_behind_changes_no_visible_line(x, z, size, depth):
    front = (
        block(2.0, 0.5, 1.0, (0.0, 0.0, 0.0)),
        replace(block(0.5, 0.1, 0.5, (1.0, 0.0, 0.25)), operation=Operation.CUT),
    )
    behind = block(size * (2 - 2 * x), depth, size * (1 - z), (2 * x, 0.6, z))
    alone, both = build(CadSequence(front)), build(CadSequence((*front, behind)))
    visible = lambda solid: sorted(np.round(l, 6).tolist() for l in project(solid, "front").visible)
    assert visible(alone) == visible(both)
    assert len(project(both, "front").hidden) >= len(project(alone, "front").hidden)


def test_drawing_is_thread_safe():
    solids = [build(part(2, index)) for index in range(24)]
    image = lambda solid: encode_png(project(solid, "iso", "shaded").rasterize())
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(image, solids)) == list(map(image, solids))


def test_plate_with_500_holes_is_drawn_quickly():
    x, y = np.meshgrid(np.arange(25) * 8.0 + 4, np.arange(20) * 8.0 + 4)
    holes = tuple(circle(2.5, float(a), float(b)) for a, b in zip(x.flat, y.flat))
    plate = raised(10.0, Profile(rectangle(200.0, 160.0).outer, holes))
    start = time.process_time()
    solid = build(CadSequence((plate,)).scaled(0.001))
    drawings = [project(solid, view) for view in ("front", "top", "right")]
    assert len([l for l in drawings[1].visible if len(l) > 20]) == 500
    assert time.process_time() - start < 2


@pytest.mark.slow
def test_unwritable_numba_cache_is_no_error(tmp_path):
    """Numba keeps compiled code beside the module or in the home folder; where neither can be written it is kept
    in memory."""
    shutil.copytree(Path(cadvlm.__file__).parent, tmp_path / "cadvlm", ignore=shutil.ignore_patterns("__pycache__"))
    blocked = tmp_path / "cadvlm" / "cad" / "__pycache__"
    blocked.write_text("a file where a folder should be")
    program = (
        f"import {hidden_lines.__module__} as d; "
        + "assert d.__file__.startswith(%r); print(d._clip(0., 1., -1., 1.), type(d._clip._cache).__name__)"
        % str(tmp_path)
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")} | {
        "HOME": str(blocked),
        "PYTHONPATH": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-B", "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout.split() == ["(0.5,", "1.0)", "NullCache"], done.stderr


@pytest.mark.parametrize("thickness", [0.003, 0.009, 0.03, 1.0])
def test_edges_behind_a_thin_wall_are_hidden(thickness):
    "A block of 200 × 100 × 80 with a pocket in its back that leaves a thin wall in front."
    pocket = replace(block(100.0, 101.0, 30.0, (-50.0, thickness, 30.0)), operation=Operation.CUT)
    front = project(build(CadSequence((block(200.0, 100.0, 80.0, (-100.0, 0.0, 0.0)), pocket))), "front")
    along = lambda lines: sum(float(np.hypot(*np.diff(l, axis=0).T).sum()) for l in lines)
    assert along(front.visible) == pytest.approx(2 * (200 + 80)) and along(front.hidden) == pytest.approx(
        2 * (100 + 30)
    )
