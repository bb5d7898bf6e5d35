"""Code of every real file, decoded and built again: the same solid with exact numbers; on the grid, the loss is counted."""
import numpy as np
import pytest

from cadvlm.language import decode, encode
from cadvlm.sequence import CadError, from_dict, read, to_deepcad
from cadvlm.solid import build, iou

CHUNKS = 4


@pytest.fixture(params=range(CHUNKS))
def parts(request, shared):
    "A quarter of the real files: `{id: (sequence, solid)}`."
    found = {}
    for path in sorted((shared / "deepcad" / "cad_json").glob("*/*.json"))[request.param :: CHUNKS]:
        try:
            sequence = read(path)
            found[path.stem] = sequence, build(sequence)
        except CadError as error:
            assert error.reason in ("no_extrude", "crossing_loops"), f"{path.stem}: {error}"
    assert len(found) > 190
    return found


def fidelity(sequence, solid, exact):
    "IoU of a solid and of what its code says; 0 where the code says nothing."
    try:
        return iou(build(decode(encode(sequence, exact=exact, frame=solid.frame))), solid, align="frame")
    except CadError:
        return 0.0


def test_round_trips(parts):
    assert all(from_dict(to_deepcad(sequence)) == sequence for sequence, _ in parts.values())
    exact = {name: fidelity(*part, exact=True) for name, part in parts.items()}
    assert not {name: value for name, value in exact.items() if value < 0.999}
    grid = np.array([fidelity(*part, exact=False) for part in parts.values()])
    counts = {f">= {limit}": int((grid >= limit).sum()) for limit in (0.999, 0.99, 0.9, 0.5)} | {"lost to the grid (< 0.9)": int((grid < 0.9).sum()), "no solid": int((grid == 0).sum())}
    print(f"\non the grid, of {len(grid)}: {counts}")
    assert np.median(grid) > 0.96 and (grid >= 0.9).mean() > 0.75
