"""An independent reference implementation: DeepCAD JSON built with Open CASCADE.

Nothing here imports `cadvlm`. The raw JSON dict is read anew, with the meaning that `FORMAT.md` measured, and every
solid is an exact B-rep, so that a mistake in cadvlm's reader or in its meshes cannot hide behind the same mistake here.

Shapes are in millimetres (`MM` = 1000 per sequence unit), because Open CASCADE works to 1e-7 absolute;
`occ_volume` and `occ_box` give back the sequence's own units. For a shape of `occ_step` pass `unit=1`.

Arcs are taken at their word, but for exact half circles, which sometimes bulge the wrong way in DeepCAD's files:
profiles of one sketch never overlap, so `occ_half_circles` turns those over that make random points lie in two profiles
at once, in a hole outside its outline, or nowhere.
"""

import copy
import itertools
import math

import numpy as np
from matplotlib.path import Path as Outline
from OCP.Bnd import Bnd_Box
from OCP.BRep import BRep_Tool
from OCP.BRepAlgoAPI import BRepAlgoAPI_Common, BRepAlgoAPI_Cut, BRepAlgoAPI_Fuse
from OCP.BRepBndLib import BRepBndLib
from OCP.BRepBuilderAPI import BRepBuilderAPI_MakeEdge, BRepBuilderAPI_MakeFace, BRepBuilderAPI_MakeWire
from OCP.BRepCheck import BRepCheck_Analyzer
from OCP.BRepGProp import BRepGProp
from OCP.BRepMesh import BRepMesh_IncrementalMesh
from OCP.BRepPrimAPI import BRepPrimAPI_MakePrism
from OCP.GC import GC_MakeArcOfCircle
from OCP.gp import gp_Ax2, gp_Ax3, gp_Circ, gp_Dir, gp_Pln, gp_Pnt, gp_Vec
from OCP.GProp import GProp_GProps
from OCP.IFSelect import IFSelect_RetDone
from OCP.ShapeUpgrade import ShapeUpgrade_UnifySameDomain
from OCP.STEPControl import STEPControl_Reader
from OCP.TopAbs import TopAbs_FACE, TopAbs_REVERSED, TopAbs_SOLID
from OCP.TopExp import TopExp_Explorer
from OCP.TopLoc import TopLoc_Location
from OCP.TopoDS import TopoDS, TopoDS_Shape

try:
    from OCP.collections import List_TopoDS_Shape as ShapeList  # cadquery-ocp 8
except ImportError:
    from OCP.TopTools import TopTools_ListOfShape as ShapeList  # cadquery-ocp 7

MM = 1000.0  # shape units in one sequence unit
SNAP = 1e-3  # ends of neighbouring curves may lie this far apart, as a part of the loop's size
FUZZY = 1e-6, 0.0, 1e-5, 1e-4  # fuzzy values tried in turn for a boolean, as parts of the model's size
MAX_CURVES = 4000  # more than this in one model is not tried: booleans would take minutes


class OccFailure(Exception):
    """Open CASCADE cannot build this model; `reason` is a short stable code."""

    def __init__(self, reason, detail=""):
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


def occ_solid(data: dict) -> TopoDS_Shape:
    """Build the model of a DeepCAD (or Fusion 360) JSON dict.

    Returns
    -------
    TopoDS_Shape
        One solid or a compound of solids, in millimetres.

    Raises
    ------
    OccFailure
        If the model has no extrude, an unreadable sketch, or a boolean whose result is invalid or implausible.
    """
    if not data.get("sequence"):
        raise OccFailure("no_sequence")
    body, count = None, 0
    for step in data["sequence"]:
        feature = data["entities"][step["entity"]]
        if feature["type"] != "ExtrudeFeature" or not feature["profiles"]:
            continue
        wanted = dict.fromkeys((p["sketch"], p["profile"]) for p in feature["profiles"])  # each once, in order
        low, high = _extent(feature)
        prisms = []
        for sketch_id, profile_id in wanted:
            sketch = data["entities"][sketch_id]
            loops = [[_curve(c) for c in loop["profile_curves"]] for loop in sketch["profiles"][profile_id]["loops"]]
            count += sum(map(len, loops))
            if count > MAX_CURVES:
                raise OccFailure("too_many_curves")
            prisms.append(_prism(sketch["transform"], loops, low, high))
        tool = _fuse(prisms)
        operation = feature["operation"].removesuffix("FeatureOperation")
        if body is None:
            body = tool
        elif operation in ("NewBody", "Join"):
            body = _fuse([body, tool])
        elif operation == "Cut":
            body = _boolean(BRepAlgoAPI_Cut, [body], [tool])
        elif operation == "Intersect":
            body = _boolean(BRepAlgoAPI_Common, [body], [tool])
        else:
            raise OccFailure("operation", operation)
    if body is None:
        raise OccFailure("no_extrude")
    return body


def occ_volume(shape: TopoDS_Shape, unit: float = MM) -> float:
    """Exact volume in cubed sequence units (`unit` = shape units in one of them)."""
    props = GProp_GProps()
    BRepGProp.VolumeProperties_s(shape, props)
    return props.Mass() / unit**3


def occ_area(shape: TopoDS_Shape, unit: float = MM) -> float:
    """Exact area of the surface in squared sequence units."""
    props = GProp_GProps()
    BRepGProp.SurfaceProperties_s(shape, props)
    return props.Mass() / unit**2


def occ_box(shape: TopoDS_Shape, unit: float = MM) -> tuple[np.ndarray, np.ndarray]:
    """Tight bounding box `(min, max)` in sequence units: of the geometry, without tolerance gaps."""
    box = Bnd_Box()
    BRepBndLib.AddOptimal_s(shape, box, False, False)
    if box.IsVoid():
        raise OccFailure("empty")
    box.SetGap(0.0)
    low, high = (np.array([p.X(), p.Y(), p.Z()]) / unit for p in (box.CornerMin(), box.CornerMax()))
    return low, high


def occ_is_valid(shape: TopoDS_Shape) -> bool:
    """Whether the shape passes `BRepCheck_Analyzer`, holds solids only and has positive volume."""
    only_solids = not TopExp_Explorer(shape, TopAbs_FACE, TopAbs_SOLID).More()
    return only_solids and occ_volume(shape) > 0 and BRepCheck_Analyzer(shape).IsValid()


def occ_step(path) -> TopoDS_Shape:
    """Read a STEP file; the shape is in millimetres, whatever unit the file declares."""
    reader = STEPControl_Reader()
    if reader.ReadFile(str(path)) != IFSelect_RetDone:
        raise OccFailure("step", str(path))
    reader.TransferRoots()
    return reader.OneShape()


def occ_mesh(shape: TopoDS_Shape, linear_deflection: float = 0.05, angular: float = 0.2):
    """Triangulate a shape.

    Parameters
    ----------
    linear_deflection
        Largest distance of a chord from its curve, in shape units.
    angular
        Largest angle between neighbouring chords, in radians.

    Returns
    -------
    vertices, faces
        `(n, 3)` float and `(m, 3)` int arrays in shape units, faces turned outwards. Points that coincide within
        1e-6 of the size are merged and collapsed triangles dropped, which makes the mesh of a valid solid watertight.
    """
    BRepMesh_IncrementalMesh(shape, linear_deflection, False, angular, False)
    points, triangles, offset = [], [], 0
    for face in _explore(shape, TopAbs_FACE):
        location = TopLoc_Location()
        mesh = BRep_Tool.Triangulation_s(TopoDS.Face(face), location)
        if mesh is None:
            raise OccFailure("mesh")
        place = location.Transformation()
        for i in range(1, mesh.NbNodes() + 1):
            p = mesh.Node(i).Transformed(place)
            points.append((p.X(), p.Y(), p.Z()))
        turned = face.Orientation() == TopAbs_REVERSED
        for i in range(1, mesh.NbTriangles() + 1):
            a, b, c = mesh.Triangle(i).Get()
            triangles.append((a, c, b) if turned else (a, b, c))
            triangles[-1] = tuple(k - 1 + offset for k in triangles[-1])
        offset = len(points)
    points, triangles = np.array(points), np.array(triangles)
    grid = max(np.ptp(points, axis=0).max() * 1e-6, 1e-12)
    _, first, label = np.unique(
        np.round(points / grid).astype(np.int64), axis=0, return_index=True, return_inverse=True
    )
    triangles = label.reshape(-1)[triangles]
    whole = (triangles != np.roll(triangles, 1, axis=1)).all(axis=1)
    return points[first], triangles[whole]


# ------------------------------------------------------------------------------------------ half circles


def occ_half_circles(data: dict) -> dict:
    """The model with half circles turned over where random points show that profiles of a sketch overlap or cross.

    Where several ways mend that, the one whose solid is nearest to the recorded box is taken, and of equal ones the one
    with the fewest changes.
    """
    used = {}
    for step in data["sequence"]:
        for p in data["entities"][step["entity"]].get("profiles", ()):
            if isinstance(p, dict):
                used.setdefault(p["sketch"], set()).add(p["profile"])
    for sketch, names in used.items():
        profiles = data["entities"][sketch]["profiles"]
        if not any(_half_circles(profiles[name]) for name in names):
            continue
        for ways in _ways(profiles):
            options = [_with_turned(data, sketch, way) for way in ways if {name for name, *_ in way} & names]
            if options:
                data = min(options, key=lambda d: round(_box_error(d), 4))
    return data


def _half_circles(profile):
    """Places `(loop, curve)` of half circles in a raw profile."""
    curves = ((i, j, c) for i, loop in enumerate(profile["loops"]) for j, c in enumerate(loop["profile_curves"]))
    return [
        (i, j) for i, j, c in curves if c["type"] == "Arc3D" and abs(c["end_angle"] - c["start_angle"] - math.pi) < 1e-4
    ]


def _turn_over(curve):
    curve["reference_vector"] = {k: -v for k, v in curve["reference_vector"].items()}


def _with_turned(data, sketch, way):
    data = copy.deepcopy(data)
    for name, i, j in way:
        _turn_over(data["entities"][sketch]["profiles"][name]["loops"][i]["profile_curves"][j])
    return data


def _points(loop):
    """Corners of a raw loop, arcs in 48 chords."""
    found = []
    for kind, *rest in _chain([_curve(c) for c in loop["profile_curves"]]):
        if kind == "line":
            found.append([rest[0]])
        elif kind == "circle":
            t = np.linspace(0, 2 * math.pi, 96, endpoint=False)
            found.append(rest[0] + rest[1] * np.stack([np.cos(t), np.sin(t)], 1))
        elif (centre := _centre(rest[0], rest[2], rest[1])) is None:
            found.append([rest[0]])
        else:
            start, turn, sweep = _angles(rest[0], rest[2], rest[1], centre)
            t = start + turn * sweep * np.arange(48) / 48
            found.append(centre + np.linalg.norm(rest[0] - centre) * np.stack([np.cos(t), np.sin(t)], 1))
    return np.concatenate(found)


def _inside(loop, points):
    return Outline(np.append(loop, loop[:1], axis=0), closed=True).contains_points(points)


def _wrong(profiles):
    """Groups of names of profiles that overlap each other, or whose own loops cross or lie apart."""
    loops = {
        name: sorted(map(_points, p["loops"]), key=lambda q: -np.ptp(q, axis=0).prod()) for name, p in profiles.items()
    }
    low, high = (f(np.concatenate(sum(loops.values(), [])), axis=0) for f in (np.min, np.max))
    random, covered, wrong = np.random.default_rng(0), {}, {}
    points = low + random.random((20000, 2)) * (high - low)
    for name, (outer, *holes) in loops.items():
        area = 0.5 * abs(np.sum(_cross(outer.T, np.roll(outer, -1, axis=0).T)))
        inside = _inside(outer, points)
        around = np.ptp(outer, axis=0).prod()
        own = outer.min(axis=0) + random.random((5000, 2)) * np.ptp(outer, axis=0)
        crosses = abs(_inside(outer, own).mean() - area / around) > 0.03
        apart = any(not _inside(outer, h.mean(axis=0) + 0.98 * (h - h.mean(axis=0))).all() for h in holes)
        covered[name] = inside & ~np.any([_inside(h, points) for h in holes], axis=0) if holes else inside
        if crosses or apart:
            wrong[name] = {name}
    for a, b in itertools.combinations(covered, 2):
        shared, least = (covered[a] & covered[b]).sum(), min(covered[a].sum(), covered[b].sum())
        if shared > 5 and shared > 0.02 * least:
            group = wrong.get(a, {a}) | wrong.get(b, {b})
            wrong.update({name: group for name in group})
    return [set(g) for g in {frozenset(g) for g in wrong.values()}]


def _ways(profiles):
    """For each wrong group the sets of half circles `(profile, loop, curve)` that mend it when turned over, small
    ones first."""
    profiles = {name: p for name, p in profiles.items() if all(len(loop["profile_curves"]) for loop in p["loops"])}
    found = []
    for group in _wrong(profiles):
        places = [(name, *place) for name in sorted(group) for place in _half_circles(profiles[name])]
        sizes = range(1, min(len(places), 4) + 1)
        ways = [
            way
            for size in sizes
            for way in itertools.combinations(places, size)
            if not _still_wrong(profiles, group, way)
        ]
        found.append(ways)
    return found


def _still_wrong(profiles, group, way):
    turned = copy.deepcopy(profiles)
    for name, i, j in way:
        _turn_over(turned[name]["loops"][i]["profile_curves"][j])
    return any(group & wrong for wrong in _wrong(turned))


def _box_error(data):
    recorded = data.get("properties", {}).get("bounding_box")
    if not recorded:
        return 0.0
    recorded = np.array([[recorded[k][i] for i in "xyz"] for k in ("min_point", "max_point")])
    try:
        return np.abs(np.array(occ_box(occ_solid(data))) - recorded).max() / np.ptp(recorded, axis=0).max()
    except OccFailure:
        return math.inf


# ---------------------------------------------------------------------------------------------- reading


def _extent(feature):
    """Interval along the sketch normal that the extrude fills, in sequence units."""

    def distance(key):
        extent = feature[key]
        if (extent.get("taper_angle") or {}).get("value"):
            raise OccFailure("taper")
        return extent["distance"]["value"]

    if feature.get("start_extent", {}).get("type", "ProfilePlaneStartDefinition") != "ProfilePlaneStartDefinition":
        raise OccFailure("start_extent", feature["start_extent"]["type"])
    kind, one = feature["extent_type"].removesuffix("FeatureExtentType"), distance("extent_one")
    ends = {
        "OneSide": lambda: (0.0, one),
        "Symmetric": lambda: (-one, one),
        "TwoSides": lambda: (0.0, one, -distance("extent_two")),
    }  # the fuse of [0, d1] and [-d2, 0]
    if kind not in ends:
        raise OccFailure("extent_type", kind)
    low, high = min(ends[kind]()), max(ends[kind]())
    if not (math.isfinite(low) and math.isfinite(high) and high > low):
        raise OccFailure("zero_depth")
    return low, high


def _curve(data):
    """A curve as `("line", p, q)`, `("arc", p, q, middle)` or `("circle", centre, radius)`, in sketch coordinates."""

    def xy(key):
        return np.array([data[key]["x"], data[key]["y"]], float) * MM

    kind = data["type"]
    if kind == "Line3D":
        return "line", xy("start_point"), xy("end_point")
    if kind not in ("Arc3D", "Circle3D"):
        raise OccFailure("curve_type", kind)
    centre, radius = xy("center_point"), data["radius"] * MM
    if kind == "Circle3D":
        return "circle", centre, radius
    half = (data["start_angle"] + data["end_angle"]) / 2  # counter-clockwise about +z from the reference vector
    u, v = xy("reference_vector") / np.linalg.norm(xy("reference_vector"))
    middle = centre + radius * np.array(
        [u * math.cos(half) - v * math.sin(half), u * math.sin(half) + v * math.cos(half)]
    )
    return "arc", xy("start_point"), xy("end_point"), middle


def _chain(curves):
    """Flip the curves of a loop so that each begins where the last ended, and close the gaps exactly."""
    if curves[0][0] == "circle":
        if len(curves) > 1:
            raise OccFailure("loop", "a circle and more")
        return curves
    ends = np.array([c[1:3] for c in curves])
    size = max(np.ptp(ends.reshape(-1, 2), axis=0).max(), *(abs(c[3] - c[1]).max() for c in curves if c[0] == "arc"), 0)
    keep = [i for i, (p, q) in enumerate(ends) if curves[i][0] == "arc" or np.abs(p - q).max() > 1e-6 * size]
    curves, ends = [curves[i] for i in keep], ends[keep]  # lines of no length go
    if not curves:
        raise OccFailure("loop", "no length")
    best = None
    for first in (False, True):  # try both directions of the first curve
        turns, gap = [first], 0.0
        end = ends[0][0 if first else 1]
        for pair in ends[1:]:
            d = np.linalg.norm(pair - end, axis=1)
            turns.append(bool(d[1] < d[0]))
            gap, end = max(gap, d.min()), pair[0 if turns[-1] else 1]
        gap = max(gap, np.linalg.norm(end - ends[0][1 if first else 0]))
        if best is None or gap < best[0]:
            best = gap, turns
    gap, turns = best
    if gap > SNAP * size:
        raise OccFailure("open_loop", f"gap {gap / MM:g}")
    ends = np.array([pair[::-1] if turn else pair for pair, turn in zip(ends, turns)])
    joints = (ends[:, 0] + np.roll(ends[:, 1], 1, axis=0)) / 2
    return [(c[0], p, q, *c[3:]) for c, p, q in zip(curves, joints, np.roll(joints, -1, axis=0))]


def _outline(loop):
    """Signed area of a chained loop, and the corners of its box (to a few per cent where arcs bulge)."""
    if loop[0][0] == "circle":
        _, centre, radius = loop[0]
        return math.pi * radius**2, np.array([centre - radius, centre + radius])
    area, points = 0.0, []
    for kind, p, q, *middle in loop:
        area += _cross(p - loop[0][1], q - loop[0][1]) / 2
        points.append(p)
        centre = _centre(p, middle[0], q) if kind == "arc" else None
        if centre is not None:  # add the segment between the chord and its arc
            start, turn, sweep = _angles(p, middle[0], q, centre)
            radius = np.linalg.norm(p - centre)
            area += turn * radius**2 / 2 * (sweep - math.sin(sweep))
            t = start + turn * sweep * np.arange(1, 16) / 16
            points.extend(centre + radius * np.stack([np.cos(t), np.sin(t)], 1))
    return area, np.array([np.min(points, axis=0), np.max(points, axis=0)])


def _angles(p, middle, q, centre):
    """Start angle, sense of turning (+1 counter-clockwise) and sweep of the arc from `p` over `middle` to `q`."""
    start, half, end = (math.atan2(*(x - centre)[::-1]) for x in (p, middle, q))
    sweep = (end - start) % (2 * math.pi)
    return (start, 1, sweep) if (half - start) % (2 * math.pi) < sweep else (start, -1, 2 * math.pi - sweep)


def _cross(a, b):
    return a[0] * b[1] - a[1] * b[0]


def _centre(a, b, c):
    """Centre of the circle through three points, or None where they lie on a line."""
    m = 2 * np.array([b - a, c - a])
    if abs(np.linalg.det(m)) < 1e-9 * np.abs(m).max() ** 2:
        return None
    return a + np.linalg.solve(m, [(b - a) @ (b - a), (c - a) @ (c - a)])


# ---------------------------------------------------------------------------------------------- building


def _prism(transform, loops, low, high):
    """Extrude a profile over the interval `[low, high]` of the sketch normal."""
    origin, x, y, z = (
        np.array([transform[k][i] for i in "xyz"], float) for k in ("origin", "x_axis", "y_axis", "z_axis")
    )
    origin = (origin + low * z) * MM
    frame = origin, x, y, z
    loops = [_chain(loop) for loop in loops if loop]
    if not loops:
        raise OccFailure("empty_profile")
    areas, boxes = zip(*(_outline(loop) for loop in loops))
    outer = max(range(len(loops)), key=lambda i: abs(areas[i]))  # by size: `is_outer` is true for holes as well
    plane = gp_Pln(gp_Ax3(gp_Pnt(*origin), gp_Dir(*z), gp_Dir(*x)))
    wires = [_wire(loop, area, frame) for loop, area in zip(loops, areas)]
    maker = BRepBuilderAPI_MakeFace(plane, wires[outer], True)
    lo, hi = boxes[outer]
    slack = 0.02 * (hi - lo).max()
    for i, wire in enumerate(wires):
        if i != outer:
            if (boxes[i][0] < lo - slack).any() or (boxes[i][1] > hi + slack).any():
                raise OccFailure("loops_apart")
            maker.Add(TopoDS.Wire(wire.Reversed()))
    face = maker.Face() if maker.IsDone() else None
    if face is None or not BRepCheck_Analyzer(face).IsValid():  # holes that touch: subtract them as faces
        faces = [BRepBuilderAPI_MakeFace(plane, w, True).Face() for w in wires]
        if not BRepCheck_Analyzer(faces[outer]).IsValid():
            raise OccFailure("invalid_face")
        if len(faces) > 1:
            face = _run(BRepAlgoAPI_Cut, [faces[outer]], faces[:outer] + faces[outer + 1 :], 0.0)
        if face is None or not BRepCheck_Analyzer(face).IsValid():
            raise OccFailure("invalid_face")
    prism = BRepPrimAPI_MakePrism(face, gp_Vec(*(z * (high - low) * MM))).Shape()
    want = (abs(areas[outer]) - sum(abs(a) for i, a in enumerate(areas) if i != outer)) * (high - low) * MM
    if not occ_is_valid(prism):
        raise OccFailure("invalid_prism")
    if abs(occ_volume(prism, 1) - want) > 1e-3 * abs(areas[outer]) * (high - low) * MM:
        raise OccFailure("prism_volume", f"{occ_volume(prism, 1):g}, not {want:g}")
    return prism


def _wire(loop, area, frame):
    """A counter-clockwise wire from a chained loop."""
    origin, x, y, z = frame

    def world(p):
        return gp_Pnt(*(origin + p[0] * x + p[1] * y))

    wire = BRepBuilderAPI_MakeWire()
    if loop[0][0] == "circle":
        if not loop[0][2] > 0:
            raise OccFailure("radius")
        wire.Add(BRepBuilderAPI_MakeEdge(gp_Circ(gp_Ax2(world(loop[0][1]), gp_Dir(*z), gp_Dir(*x)), loop[0][2])).Edge())
        return wire.Wire()
    if area < 0:
        loop = [(kind, q, p, *middle) for kind, p, q, *middle in reversed(loop)]
    for kind, p, q, *middle in loop:
        if kind == "arc" and _centre(p, middle[0], q) is not None:
            arc = GC_MakeArcOfCircle(world(p), world(middle[0]), world(q))
            if not arc.IsDone():
                raise OccFailure("arc")
            edge = BRepBuilderAPI_MakeEdge(arc.Value())
        else:
            edge = BRepBuilderAPI_MakeEdge(world(p), world(q))
        if not edge.IsDone():
            raise OccFailure("edge")
        wire.Add(edge.Edge())
        if not wire.IsDone():
            raise OccFailure("wire")
    return wire.Wire()


def _fuse(shapes):
    return shapes[0] if len(shapes) == 1 else _boolean(BRepAlgoAPI_Fuse, shapes[:1], shapes[1:])


def _boolean(kind, arguments, tools):
    """A boolean whose result is checked: valid solids, and a volume that the operands allow.

    Fuzzy values of `FUZZY` are tried in turn: faces that should coincide differ by rounding in the JSON, and without
    a tolerance Open CASCADE leaves slivers between them or fails.
    """
    a = [occ_volume(s, 1) for s in arguments]
    b = [occ_volume(s, 1) for s in tools]
    least, most = {
        BRepAlgoAPI_Fuse: (max(a + b), sum(a + b)),
        BRepAlgoAPI_Cut: (a[0] - sum(b), a[0]),
        BRepAlgoAPI_Common: (0.0, min(a + b)),
    }[kind]
    slack = 1e-4 * max(a + b)
    boxes = np.array([occ_box(s, 1) for s in arguments + tools])
    size = (boxes[:, 1].max(0) - boxes[:, 0].min(0)).max()
    reason = "boolean"
    for fuzzy in FUZZY:
        shape = _run(kind, arguments, tools, fuzzy * size)
        if shape is None:
            continue
        if not TopExp_Explorer(shape, TopAbs_SOLID).More():
            reason = "empty"
            continue
        if not occ_is_valid(shape):  # merging split faces removes the slivers that are usually to blame
            shape = _unify(shape)
        if not occ_is_valid(shape):
            reason = "invalid_boolean"
        elif not least - slack <= occ_volume(shape, 1) <= most + slack:
            reason = "boolean_volume"
        else:
            return shape
    raise OccFailure(reason, kind.__name__)


def _run(kind, arguments, tools, fuzzy):
    """One boolean; None if Open CASCADE reports an error."""
    operation = kind()
    operation.SetArguments(_list(arguments))
    operation.SetTools(_list(tools))
    operation.SetFuzzyValue(fuzzy)
    operation.SetNonDestructive(True)
    try:
        operation.Build()
    except Exception:  # OCP raises Standard_Failure's subclasses, whose Python names differ between versions
        return None
    return operation.Shape() if operation.IsDone() else None


def _unify(shape):
    """Merge neighbouring faces and edges that lie on the same surface or curve."""
    unifier = ShapeUpgrade_UnifySameDomain(shape, True, True, False)
    unifier.Build()
    return unifier.Shape()


def _list(shapes):
    result = ShapeList()
    for shape in shapes:
        result.Append(shape)
    return result


def _explore(shape, kind):
    explorer = TopExp_Explorer(shape, kind)
    while explorer.More():
        yield explorer.Current()
        explorer.Next()
