"""Programs in the styles of people, of a coder model and of frontier models: read, right, rejected, wrong.

`cadquery_corpus.json` has what CadQuery 2.8 builds of them; where CadQuery is installed it is built again.
`python tests/test_cadquery_corpus.py` writes the file.
"""

import hashlib
import importlib.util
import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from cadquery_corpus import STYLES, programs
from cadquery_runs import printed
from cadvlm.cad.solid import build
from cadvlm.errors import CadError
from cadvlm.text.cadquery_reader import read

KNOWN = Path(__file__).with_name("cadquery_corpus.json")
ROUND, AREA, BOX = 5e-3, 2e-2, 2e-3  # shares of volume, area and size by which circles in chords may differ
LEAST = dict(human=0.8, coder=0.75, frontier=0.8)  # shares that are read; the others are outside of the language

SCRIPT = """
import json, sys
import cadquery
nothing = lambda *_, **__: None
cadquery.exporters.export = cadquery.Shape.exportStl = nothing
for text in json.load(sys.stdin):
    shown, names = [], dict(print=nothing, __name__='__main__')
    names['show_object'] = lambda part, **_: shown.append(part)
    exec(text, names)
    solids = [v for v in names.values() if isinstance(v, cadquery.Workplane) and v.objects and v.solids().size()]
    part = names.get('result') or (names['r'] if isinstance(names.get('r'), cadquery.Workplane) else None)
    part = part or (shown or solids)[-1]
    boxes = [s.BoundingBox(1e-6) for s in part.vals()]
    low = [min(getattr(b, axis + 'min') for b in boxes) for axis in 'xyz']
    high = [max(getattr(b, axis + 'max') for b in boxes) for axis in 'xyz']
    row = [sum(s.Volume() for s in part.vals()), sum(s.Area() for s in part.vals()), part.solids().size(), *low, *high]
    print(json.dumps([round(v, 6) for v in row]), flush=True)
"""


def executed(texts):
    "Volume, area, number of solids, lowest and highest corner, as CadQuery builds programs in a process of its own."
    return [json.loads(line) for line in printed(SCRIPT, texts, 900).splitlines()]


def digest(text):
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def verdict(text, known):
    "What the reader makes of a program: right, rejected with a reason, or wrong."
    try:
        solid = build(read(text))
    except CadError as error:
        return error.reason
    volume, area, pieces, *box = known
    size = max(b - a for a, b in zip(box[:3], box[3:]))
    off = abs(solid.volume / volume - 1), abs(solid.area / area - 1), np.abs(solid.bounds.ravel() - box).max() / size
    right = off[0] < ROUND and off[1] < AREA and off[2] < BOX and solid.pieces == pieces
    return "right" if right else "wrong"


@pytest.fixture(scope="module")
def known():
    return json.loads(KNOWN.read_text())


@pytest.fixture(scope="module")
def verdicts(known):
    made = programs()
    assert {name: digest(text) for name, text in made.items()} == {name: row[0] for name, row in known.items()}
    return {name: verdict(text, known[name][1:]) for name, text in made.items()}


def test_no_program_is_read_wrong(verdicts):
    assert len(verdicts) > 200 and not [name for name, found in verdicts.items() if found == "wrong"]


@pytest.mark.parametrize("style", STYLES)
def test_programs_of_a_style_are_read_or_outside_of_the_language(verdicts, style):
    counts = Counter(found for name, found in verdicts.items() if name.startswith(style))
    print(f"\n{style}: {dict(counts)}")
    assert counts["right"] >= LEAST[style] * counts.total() and set(counts) == {"right", "outside_language"}


@pytest.mark.occ
@pytest.mark.skipif(importlib.util.find_spec("cadquery") is None, reason="needs CadQuery: pip install cadvlm[dev]")
def test_cadquery_builds_what_the_file_says(known):
    names = [*known][::4]
    made = programs()
    for name, row in zip(names, executed([made[name] for name in names]), strict=True):
        assert row == pytest.approx(known[name][1:], rel=1e-5, abs=1e-4), name


if __name__ == "__main__":
    texts = programs()
    built = executed([*texts.values()])
    rows = {name: [digest(text), *row] for (name, text), row in zip(texts.items(), built, strict=True)}
    KNOWN.write_text("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in rows.items()) + "\n}\n")
