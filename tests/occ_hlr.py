"""An independent draughtsman: drawings by Open CASCADE's exact hidden-line algorithm (`HLRBRep_Algo`).

Nothing here imports `cadvlm`: the views, the frame and the rules are stated anew, after `DESIGN.md`.

Drawn are sharp edges, whose faces meet at more than 30°, and outlines, where a surface turns away from the viewer. Not
drawn are seams within one surface (faces and edges on the same surface or curve are united first) and edges across
which the surface is smooth or nearly so. Open CASCADE tells sharp from smooth by a flag of the edge, its continuity; so
the flag is set here, from the angle between the faces.
"""

import math

import cv2
import numpy as np
from OCP.BRep import BRep_Builder, BRep_Tool
from OCP.BRepAdaptor import BRepAdaptor_Curve, BRepAdaptor_Curve2d, BRepAdaptor_Surface
from OCP.BRepBuilderAPI import BRepBuilderAPI_Transform
from OCP.BRepLib import BRepLib
from OCP.GCPnts import GCPnts_TangentialDeflection
from OCP.GeomAbs import GeomAbs_C0, GeomAbs_CN, GeomAbs_G1
from OCP.gp import gp_Ax2, gp_Dir, gp_Pnt, gp_Trsf, gp_Vec
from OCP.HLRAlgo import HLRAlgo_Projector
from OCP.HLRBRep import HLRBRep_Algo, HLRBRep_HLRToShape
from OCP.ShapeUpgrade import ShapeUpgrade_UnifySameDomain
from OCP.TopAbs import TopAbs_EDGE, TopAbs_FACE, TopAbs_REVERSED
from OCP.TopExp import TopExp, TopExp_Explorer
from OCP.TopoDS import TopoDS

import occ

try:
    from OCP.collections import (
        IndexedDataMap_TopoDS_Shape_List_TopoDS_Shape_TopTools_ShapeMapHasher as FacesOfEdges,
    )  # cadquery-ocp 8
except ImportError:
    from OCP.TopTools import TopTools_IndexedDataMapOfShapeListOfShape as FacesOfEdges  # cadquery-ocp 7

LONGEST = 200.0  # units along the longest side of a part
PAPER = {  # (right, up) on paper; the viewer is at right × up
    "front": ((1, 0, 0), (0, 0, 1)),
    "top": ((1, 0, 0), (0, 1, 0)),
    "right": ((0, 1, 0), (0, 0, 1)),
    "iso": ((1, 1, 0), (-1, 1, 2)),
}
SHARP = math.radians(30)
CHORD = 0.05  # units that a chord may leave its curve
SAME = 1e-3  # units within which faces lie on one surface: DeepCAD's coordinates are rounded to about a ten-thousandth
PIXELS, CANVAS = 512, 250.0  # pixels and units along the side of an image
NEAR = 1.5  # pixels within which ink agrees


# ---------------------------------------------------------------------------------------------- drawing


def in_frame(shape):
    """The shape centred on its box, its longest side 200 units, with faces and edges on the same surface or curve
    united."""
    low, high = occ.occ_box(shape, unit=1)
    middle, scale = (low + high) / 2, LONGEST / (high - low).max()
    move, grow = gp_Trsf(), gp_Trsf()
    move.SetTranslation(gp_Vec(*(-middle)))
    grow.SetScale(gp_Pnt(0, 0, 0), scale)
    shape = BRepBuilderAPI_Transform(shape, grow.Multiplied(move), True).Shape()
    unifier = ShapeUpgrade_UnifySameDomain(shape, True, True, False)
    unifier.SetLinearTolerance(SAME)
    unifier.SetAngularTolerance(1e-3)
    unifier.Build()
    return unifier.Shape()


def faces_of_edges(shape):
    "`[(edge, faces)]`; a face is named twice where it meets itself in the edge."
    table = FacesOfEdges()
    TopExp.MapShapesAndAncestors_s(shape, TopAbs_EDGE, TopAbs_FACE, table)
    for i in range(1, table.Extent() + 1):
        edge = TopoDS.Edge(table.FindKey(i))
        if not BRep_Tool.Degenerated_s(edge):
            yield edge, [TopoDS.Face(f) for f in table.FindFromIndex(i)]


def _normals(edge, face, count=9):
    "Outward unit normals of a face at points along an edge: (count, 3)."
    curve, surface = BRepAdaptor_Curve2d(edge, face), BRepAdaptor_Surface(face)
    p, du, dv, found = gp_Pnt(), gp_Vec(), gp_Vec(), []
    for t in np.linspace(curve.FirstParameter(), curve.LastParameter(), count + 2)[1:-1]:
        uv = curve.Value(float(t))
        surface.D1(uv.X(), uv.Y(), p, du, dv)
        n = du.Crossed(dv)
        found.append((n.X(), n.Y(), n.Z()))
    found = np.array(found)
    return found / np.linalg.norm(found, axis=1)[:, None] * (-1 if face.Orientation() == TopAbs_REVERSED else 1)


class Part:
    """A shape of `occ.py` made ready for drawing.

    Attributes
    ----------
    shape : TopoDS_Shape
        In frame units.
    faces, edges : int
        How many: what decides about Open CASCADE's time.
    bent : bool
        Whether some edge is sharp along a part of its length only; Open CASCADE draws it whole.
    """

    def __init__(self, shape):
        self.shape, self.bent = in_frame(shape), False
        self._smooth = []  # (edge, face, face, normals, normals)
        self.edges = 0
        for edge, faces in faces_of_edges(self.shape):
            self.edges += 1
            if BRep_Tool.IsClosed_s(edge, faces[0]):  # a seam, where a round wall meets itself
                BRep_Builder().Continuity(edge, faces[0], faces[0], GeomAbs_CN)
            elif len(faces) == 2 and not faces[0].IsSame(faces[1]):
                one, other = (_normals(edge, f) for f in faces)
                sharp = np.arctan2(np.linalg.norm(np.cross(one, other), axis=1), (one * other).sum(1)) > SHARP
                self.bent |= sharp.any() and not sharp.all()
                self._smooth.append((edge, *faces, one, other, not sharp.any()))
        self.faces = _count(self.shape, TopAbs_FACE)

    def draw(self, view):
        """Open CASCADE's drawing.

        Returns
        -------
        (visible, hidden)
            Lists of (n, 2) float polylines in frame units.
        """
        right, up = (np.array(v) / np.linalg.norm(v) for v in PAPER[view])
        toward = np.cross(right, up)
        for edge, one, other, n, m, smooth in self._smooth:
            folds = (
                (n @ toward > 1e-4).all()
                and (m @ toward < -1e-4).all()
                or (n @ toward < -1e-4).all()
                and (m @ toward > 1e-4).all()
            )
            BRep_Builder().Continuity(edge, one, other, GeomAbs_G1 if smooth and not folds else GeomAbs_C0)
        algorithm = HLRBRep_Algo()
        algorithm.Add(self.shape, 0)
        algorithm.Projector(HLRAlgo_Projector(gp_Ax2(gp_Pnt(0, 0, 0), gp_Dir(*toward), gp_Dir(*right))))
        algorithm.Update()
        algorithm.Hide()
        found = HLRBRep_HLRToShape(algorithm)
        return (
            _polylines(found.VCompound(), found.OutLineVCompound()),
            _polylines(found.HCompound(), found.OutLineHCompound()),
        )


def occ_drawing(shape, view):
    "`(visible, hidden)` polylines of a shape of `occ.py`."
    return Part(shape).draw(view)


def _count(shape, kind):
    explorer, n = TopExp_Explorer(shape, kind), 0
    while explorer.More():
        n += 1
        explorer.Next()
    return n


def _polylines(*compounds):
    lines = []
    for compound in compounds:
        if compound is None or compound.IsNull():
            continue
        BRepLib.BuildCurves3d_s(compound)
        explorer = TopExp_Explorer(compound, TopAbs_EDGE)
        while explorer.More():
            points = GCPnts_TangentialDeflection(BRepAdaptor_Curve(TopoDS.Edge(explorer.Current())), 0.1, CHORD)
            lines.append(
                np.array([(points.Value(i).X(), points.Value(i).Y()) for i in range(1, points.NbPoints() + 1)])
            )
            explorer.Next()
    return lines


# ---------------------------------------------------------------------------------------------- comparing


def ink(lines, zoom=1.0):
    "(512, 512) bool: polylines drawn one pixel wide, on the canvas that DESIGN.md gives to a view."
    image, scale = np.zeros((PIXELS, PIXELS), np.uint8), PIXELS / CANVAS * zoom
    fixed = [np.round((np.asarray(l) * (scale, -scale) + (PIXELS - 1) / 2) * 256).astype(np.int32) for l in lines]
    cv2.polylines(image, fixed, False, 255, 1, cv2.LINE_8, shift=8)
    return image > 0


def away(mask, target):
    "The pixels of a mask that are further than `NEAR` from the target."
    if not target.any():
        return mask
    distance = cv2.distanceTransform((~target).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return mask & (distance > NEAR)


def ink_agreement(ours, theirs, zoom=1.0):
    """How well two drawings agree.

    Parameters
    ----------
    ours, theirs : (visible, hidden)
        Polylines. Ours leaves out hidden lines under visible ones, theirs need not.
    zoom
        Size on the canvas: 0.75 for isometric views, which would not fit.

    Returns
    -------
    dict
        `visible` and `hidden`: the smaller of the share of our ink near theirs, and of their ink near ours.
    """
    (our, our_hidden), (their, their_hidden) = (tuple(ink(lines, zoom) for lines in d) for d in (ours, theirs))
    apart = away(their_hidden, their | our)
    return {
        "visible": min(_share(our, their), _share(their, our)),
        "hidden": min(_share(our_hidden, their_hidden), _share(apart, our_hidden)),
    }


def _share(mask, target):
    return 1 - away(mask, target).sum() / max(1, mask.sum())
