"""What people type, for the type checker: `test_types.py` checks this file, and nothing runs it.

`assert_type` holds a result to its type. A line that ends in `type: ignore` is wrong on purpose: the checker is told to
complain where it finds nothing wrong there.
"""

from pathlib import Path
from typing import assert_type

import numpy as np
import pandas as pd

from cadvlm import Dataset, build, decode, encode, evaluate, iou, match, project, read, show
from cadvlm.cad.drawing import Drawing
from cadvlm.cad.sequence import CadSequence
from cadvlm.cad.solid import Solid
from cadvlm.cad.view import View
from cadvlm.corpus.summary import Summary
from cadvlm.reading.match import Match
from cadvlm.stages.render import render

sequence = read("part.json")
assert_type(sequence, CadSequence)
assert_type(read(Path("part.json")), CadSequence)

solid = build(sequence)
assert_type(solid, Solid)
assert_type(solid.volume, float)
assert_type(iou(solid, solid, align="frame"), float)
assert_type(show(solid, colors=[(200, 0, 0)]), View)

drawing = project(solid, "front", style="shaded")
assert_type(drawing, Drawing)
assert_type(project(solid, "sheet"), Drawing)
assert_type(drawing.rasterize(512), np.ndarray)

assert_type(match(sequence, {"front": drawing}), Match)
assert_type(match(solid, "sheet.svg", rotated=True), Match)

code = encode(sequence)
assert_type(code, str)
assert_type(encode(sequence, "compact", exact=True), str)
table = encode(sequence, "vectors")
assert_type(table, np.ndarray)
assert_type(decode(code), CadSequence)
assert_type(decode(table, "vectors"), CadSequence)

dataset = Dataset("data/training/deepcad_1k")
assert_type(len(dataset), int)
assert_type(dataset.ids, list[str])
assert_type(evaluate([dict(id="00000007", code=code, language="cadquery")], dataset, "deepcad"), pd.DataFrame)
assert_type(evaluate("predictions.jsonl", "data/training/deepcad_1k", split="test"), pd.DataFrame)
assert_type(render("data/training/deepcad_1k", views=("front", "top"), size=512), Summary)

build("part.json")  # type: ignore[arg-type]
project(solid, "under")  # type: ignore[arg-type]
encode(sequence, "openscad")  # type: ignore[call-overload]
iou(solid, sequence)  # type: ignore[arg-type]
read(sequence)  # type: ignore[arg-type]
show(solid, colors="red")  # type: ignore[arg-type]
