"""A drawer of sheets of pixels, three views in first angle with titles and overall dimensions: what the reader of such
sheets is tried on. It knows nothing of the reader."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cadvlm.cad.drawing import project

SAMPLES = 8  # in a pixel of a sheet of 800, along a side; fewer in a smaller pixel
SIDE, LONGEST = 800, 270  # pixels of the sheet, and of the part's longest side
CENTRES = dict(right=(200, 250), front=(550, 250), top=(550, 600))
AXES = dict(right=(1, 2), front=(0, 2), top=(0, 1))
WIDE, THIN, DOT = 1.5, 0.8, 2.0
OFFSET, BEYOND, ARROW, TEXT = 18, 5, 4, 30  # of dimension lines, extension lines, arrows, numbers beside a line


class Sheet:
    "Ink on a sheet that is some times larger, and what light earlier layers let through."

    def __init__(self, side=SIDE):
        self.samples = SAMPLES * SIDE // max(side, SIDE)
        self.scale, self.side = self.samples * side / SIDE, side
        self.white = np.ones((side, side))
        self.ink = np.zeros((side * self.samples,) * 2, dtype=bool)

    def finish_layer(self):
        "What follows is drawn over what is there: each layer lets a share of the light through."
        counts = self.ink.view(np.uint8)  # of samples, 64 in a pixel at most
        counts = counts.reshape(self.side, self.samples, -1).sum(axis=1, dtype=np.uint8)
        counts = counts.reshape(self.side, self.side, self.samples).sum(axis=2, dtype=np.uint8)
        self.white *= 1 - counts / self.samples**2
        self.ink[:] = False

    def polygon(self, points):
        "Fill a convex polygon, given in pixels of a sheet of 800; a sample has ink when its middle is inside."
        points = np.asarray(points) * self.scale
        low, high = np.floor(points.min(axis=0)).astype(int), np.ceil(points.max(axis=0)).astype(int)
        x, y = np.meshgrid(*(np.arange(a, b) + 0.5 for a, b in zip(low, high)))
        sides = [(q[0] - p[0]) * (y - p[1]) - (q[1] - p[1]) * (x - p[0])
                 for p, q in zip(points, np.roll(points, -1, axis=0))]
        inside = np.all(np.array(sides) >= 0, axis=0) | np.all(np.array(sides) <= 0, axis=0)
        self.ink[low[1]:high[1], low[0]:high[0]] |= inside

    def line(self, a, b, width):
        a, b = np.asarray(a, float), np.asarray(b, float)
        length = np.hypot(*(b - a))
        if length < 1e-9:
            return
        along = (b - a) / length
        side = np.array((-along[1], along[0])) * width / 2
        self.polygon((a + side, b + side, b - side, a - side))

    def dots(self, points):
        "Dots along a polyline, every second one left out."
        steps = np.hypot(*np.diff(points, axis=0).T)
        at = np.concatenate(([0.0], np.cumsum(steps)))
        for start in np.arange(0, at[-1], 2 * DOT):
            ends = np.array((start, min(start + DOT, at[-1])))
            a, b = (np.array([np.interp(e, at, points[:, k]) for k in (0, 1)]) for e in ends)
            self.line(a, b, WIDE)

    def text(self, middle, words, height, stroke=0):
        font = ImageFont.load_default(height * self.scale)
        half = int(height * self.scale * len(words) / 2), int(height * self.scale)
        image = Image.new("L", (2 * half[0], 2 * half[1]))
        ImageDraw.Draw(image).text(half, words, fill=255, font=font, anchor="mm", stroke_width=stroke)
        x, y = np.rint(np.asarray(middle) * self.scale).astype(int) - half
        self.ink[y : y + 2 * half[1], x : x + 2 * half[0]] |= np.asarray(image)[:, : self.ink.shape[1] - x] > 127

    def number(self, middle, words):
        "A number, its glyphs apart."
        widths = [4.2 if c == "." else 8.4 for c in words]
        for c, width, end in zip(words, widths, np.cumsum(widths)):
            self.text((middle[0] - sum(widths) / 2 + end - width / 2, middle[1]), c, 13)

    @property
    def pixels(self):
        "(side, side) uint8: 255 for white."
        self.finish_layer()
        return np.rint(255 * self.white).astype(np.uint8)


def dimension(sheet, box, axis, words):
    "An overall dimension: along y at the right of a box, or along x below it."
    turn = (lambda u, v: (u, v)) if axis == 0 else (lambda u, v: (v, u))
    (low, high), far = box[:, axis], box[1, 1 - axis]
    level = far + OFFSET
    for at, way in ((low, 1), (high, -1)):
        sheet.line(turn(at, far), turn(at, level + BEYOND), THIN)
        sheet.polygon([turn(at, level)] + [turn(at + way * ARROW, level + s) for s in (2.5, -2.5)])
    sheet.line(turn(low, level), turn(high, level), THIN)
    middle = (low + high) / 2
    sheet.number((level + TEXT, middle) if axis else (middle, level + 12), words)


def boxes_of(sizes):
    "`{view: (2, 2)}`: low and high corner of each view, in pixels of a sheet of 800."
    half = np.asarray(sizes) * LONGEST / max(sizes) / 2
    return {v: np.array((c - half[list(AXES[v])], c + half[list(AXES[v])])) for v, c in CENTRES.items()}


def draw_sheet(solid, sizes=None, side=SIDE, titles=True, dimensions=True):
    """(side, side) uint8: three views of a solid with its sizes (x, y, z), by default in its frame.

    Without `dimensions` it has neither extension lines nor numbers.
    """
    sizes = solid.size if sizes is None else sizes
    sheet, boxes, scale = Sheet(side), boxes_of(sizes), LONGEST / solid.size.max()
    drawings = {view: project(solid, view) for view in CENTRES}
    placed = lambda view, lines: [np.asarray(CENTRES[view]) + np.asarray(line) * (scale, -scale) for line in lines]
    for view, drawing in drawings.items():
        for line in placed(view, drawing.visible):
            for a, b in zip(line, line[1:]):
                sheet.line(a, b, WIDE)
    sheet.finish_layer()
    for view, drawing in drawings.items():
        for line in placed(view, [*drawing.hidden, *drawing.visible]):  # edges behind visible ones are drawn, too
            sheet.dots(line)
    sheet.finish_layer()
    if titles:
        for view, (x, y) in CENTRES.items():
            sheet.text((x, y - 165), f"{view.title()} View", 14, stroke=3)
    if dimensions:
        for view, axis, size in (("front", 1, sizes[2]), ("top", 1, sizes[1]), ("top", 0, sizes[0])):
            dimension(sheet, boxes[view], axis, f"{size:.4f}")
    return sheet.pixels
