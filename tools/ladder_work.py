"""What the workers of `ladder.py` do, one part or one shard at a time: no graphics card is needed for it."""
import functools
import random
from pathlib import Path

import cv2
import numpy as np

from cadvlm.text import compact
from cadvlm.learn.choose import Target, lines_seen, search, solid_of
from cadvlm.cad.drawing import project, warm_up
from cadvlm.text.language import encode
from cadvlm.jobs.limits import time_limit
from cadvlm.cad.repair import read_part
from cadvlm.errors import CadError
from cadvlm.learn.ablations import ngram_loss
from cadvlm.learn.ink import TURNS, pack, sample
from cadvlm.cad.overlap import iou
from cadvlm.cad.polygons import Frame
from cadvlm.cad.solid import Solid, build
from cadvlm.synth.histories import part

TROUBLE = (CadError, ArithmeticError, LookupError, MemoryError, RecursionError, TypeError, ValueError)
SIZE = 512                  # pixels of the sheets that are read


def begin():
    "First thing in a worker."
    cv2.setNumThreads(1)
    warm_up()


def codes_of(seed, numbers):
    "`[(number, compact text)]` of synthetic parts."
    found = []
    for i in numbers:
        try:
            with time_limit(10):
                s = part(seed, i); found.append((i, encode(s, "compact", frame=Frame.around(*s.bounding_box))))
        except TROUBLE: pass
    return found


def shard_of(texts, size, turn_seed=None):
    "Packed sheets of texts, each turned another way where there is a seed; None when none can be drawn."
    made, rng = [], random.Random(turn_seed)
    for text in texts:
        turn = TURNS[0] if turn_seed is None else rng.choice(TURNS[1:])
        try:
            with time_limit(3): made.append(sample(text, size, turn))
        except TROUBLE: pass
    return pack(*zip(*made)) if made else None


def ngram(train, held):
    "The loss of the best n-gram of some texts on others."
    return min(ngram_loss(*([t.astype(int) for t in texts] for texts in (train, held))))


def part_of(key):
    "The sequence of a part to be tested: number of a synthetic one, or a file."
    return part(1, int(key)) if str(key).isdigit() else read_part(Path(key))


def item_of(kind, key):
    "A part to be tested: its drawing as PNG bytes, and its code where it has one."
    try:
        with time_limit(20):
            sequence = part_of(key)
            solid = build(sequence)
            image = project(solid, "sheet").rasterize(SIZE)[:, :, 0]
    except TROUBLE: return None
    try: code = encode(sequence, "compact", frame=solid.frame)
    except TROUBLE: code = None
    return dict(kind=kind, key=str(key), id=Path(str(key)).stem, code=code,
                image=cv2.imencode(".png", image)[1].tobytes())


def opened(item):
    "The grey image of an item."
    return cv2.imdecode(np.frombuffer(item["image"], np.uint8), cv2.IMREAD_GRAYSCALE)


@functools.lru_cache(4)
def _truth(key):
    return Solid(build(part_of(key)).manifold, Frame((0., 0., 0.), 1.))          # centred, its longest side 200


def measured(target, truth, text):
    "`(agreement or -1, IoU or None)` of a text: None where it is no solid."
    try:
        with time_limit(1):
            sequence = compact.read(text)
            if not sequence.extrudes: return -1., None
            solid = solid_of(sequence)
            if max(map(abs, solid.manifold.bounding_box())) > 400: return -1., iou(truth, solid)
            found = iou(truth, solid)
            return (target.agreement(project(solid, "sheet")) if target else -1.), found
    except TROUBLE: return -1., None


def judge(item, texts, drawn=True):
    "`[[agreement, IoU]]` of the texts for an item; agreement only where drawings are wanted."
    target = Target(opened(item)) if drawn else None
    truth = _truth(item["key"])
    known = {t: measured(target, truth, t) for t in dict.fromkeys(texts)}
    return [known[t] for t in texts]


def seek(item, text, others, budget):
    "The text found by a search, its agreement, its IoU, and the drawings that it took."
    image = opened(item)
    target = Target(image)
    found = search(target, text, others, budget, lines_seen(image))
    return dict(text=found.text, drawings=found.drawings) | dict(zip(("agreement", "iou"),
        measured(target, _truth(item["key"]), found.text)))
