"""Compare the protocols with the published scripts, on the same pairs, and append to `data/results/official.csv`:
`python tools/bench_official.py OFFICIAL` (ten minutes). It executes those scripts.

OFFICIAL is a folder with clones of other projects, of which any may be missing: `DeepCAD`, `cadrille`, `Text2CAD`,
`Ortho2CAD`. In a folder that is no clone, a file ORIGIN names repository and commit.

The truths are the first 50 parts of the reference data that have official vectors and build; each is paired with its
own vectors, changed by up to three levels, and with those of the next part. An answer is the same solid in each
language: DeepCAD vectors, and the CadQuery program that builds them.
"""
import argparse
import ast
import contextlib
import importlib
import io
import json
import multiprocessing
import os
import random
import runpy
import subprocess
import sys
import tempfile
import types
from functools import lru_cache
from pathlib import Path

import cadquery
import h5py
import numpy as np
import orjson
import trimesh
from scipy.spatial import cKDTree

from results import ROOT, about, append, is_measured
from cadvlm.cad.polygons import IDENTITY
from cadvlm.cad.repair import load_part
from cadvlm.cad.solid import build
from cadvlm.cad.step import step_file
from cadvlm.errors import CadError
from cadvlm.measure.metrics import in_world
from cadvlm.measure.protocols import score
from cadvlm.measure.truths import read_truth
from cadvlm.text.language import encode
from cadvlm.text.vectors import from_vectors

SHARED = Path(os.environ.get("CADVLM_SHARED", ROOT.parent / "shared"))
CODE = ("cad", "text", "measure")
PACKAGES = ("manifold3d", "cadquery-ocp", "trimesh")
PARTS = 50
LEVELS = 3  # by which a changed parameter differs at most
SECONDS = 30  # for one official comparison
NUMERIC = {0: slice(1, 3), 1: slice(1, 4), 2: [1, 2, 5], 5: slice(9, 15)}  # columns of lines, arcs, circles, extrudes


# --- pairs


def changed(vectors, seed):
    "Vectors of which each coordinate, angle and length is moved by up to three levels."
    rng, vectors = np.random.default_rng(seed), vectors.copy()
    for row in vectors:
        if row[0] in NUMERIC:
            moved = row[NUMERIC[row[0]]]
            row[NUMERIC[row[0]]] = np.clip(moved + rng.integers(-LEVELS, LEVELS + 1, len(moved)), 1, 255)
    return vectors


def answer(vectors, truth):
    "`(vectors, sequence in the frame of the truth, CadQuery)` of an answer that builds."
    sequence = from_vectors(vectors).scaled(truth.unit, truth.shift)
    build(sequence)
    return vectors, sequence, encode(sequence, "cadquery", exact=True, frame=IDENTITY)


def first_that_builds(candidates, truth):
    "The first answer that builds; None where none does."
    for vectors in candidates:
        with contextlib.suppress(CadError):
            return answer(vectors, truth)
    return None


def pairs():
    "Yield `(id, path, answer)` of each pair."
    known = []
    for path in sorted((SHARED / "deepcad/cad_vec").rglob("*.h5")):
        vectors, truth = h5py.File(path)["vec"][:].astype(int), SHARED / f"deepcad/cad_json/{path.stem[:4]}"
        with contextlib.suppress(CadError, OSError):
            answer(vectors, read_truth(truth / f"{path.stem}.json", "cadquery"))
            known.append((path.stem, truth / f"{path.stem}.json", vectors))
    for k, (id, path, vectors) in enumerate(known[:PARTS]):
        truth = read_truth(path, "cadquery")
        for candidates in ((changed(vectors, seed) for seed in range(20)), (known[(k + 1) % len(known)][2],)):
            if found := first_that_builds(candidates, truth):
                yield id, path, found


# --- what others publish


def functions(path, *names, **given):
    "Functions of a script, by name, without running the rest of it."
    tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in names]
    exec(compile(tree, str(path), "exec"), given)
    return types.SimpleNamespace(**{name: given[name] for name in names})


def origin(folder):
    "`{source, commit}` of a clone, or of a folder with a file ORIGIN."
    if (folder / "ORIGIN").is_file():
        said = (folder / "ORIGIN").read_text()
    else:
        script = "git remote get-url origin; git rev-parse HEAD"
        said = subprocess.run(script, cwd=folder, shell=True, capture_output=True, text=True, check=True).stdout
    source, commit = said.split()
    return dict(source="/".join(source.removesuffix(".git").split("/")[-2:]), commit=commit[:12])


def write_stl(shape, path, linear_deflection=0.9, angular_deflection=0.5):
    "pythonocc's `write_stl_file` with its defaults."
    from OCP.BRepMesh import BRepMesh_IncrementalMesh
    from OCP.StlAPI import StlAPI_Writer

    BRepMesh_IncrementalMesh(shape, linear_deflection, False, angular_deflection)  # threads do not outlive a fork
    StlAPI_Writer().Write(shape, str(path))


def read_ply(path):
    return np.asarray(trimesh.load(path).vertices)


@lru_cache(maxsize=1)
def deepcad(folder):
    "DeepCAD's classes, on cadquery-ocp in the place of pythonocc, and on the numpy of today."
    from OCP import BRepBuilderAPI
    from OCP.BRepBndLib import BRepBndLib
    from OCP.TopoDS import TopoDS

    class MakeFace(BRepBuilderAPI.BRepBuilderAPI_MakeFace):
        "pythonocc knows that a wire reversed is a wire."

        def Add(self, wire):
            super().Add(TopoDS.Wire(wire))

    for name in ("gp", "BRepPrimAPI", "BRepAlgoAPI", "GC", "Bnd"):
        sys.modules[f"OCC.Core.{name}"] = importlib.import_module(f"OCP.{name}")
    stands_in = {
        "OCC": {}, "OCC.Core": {}, "OCC.Extend": {}, "OCC.Extend.DataExchange": dict(write_stl_file=write_stl),
        "OCC.Core.BRepBndLib": dict(brepbndlib_Add=BRepBndLib.Add_s),
        "OCC.Core.BRepBuilderAPI": vars(BRepBuilderAPI) | dict(BRepBuilderAPI_MakeFace=MakeFace),
    }
    sys.modules |= {name: types.SimpleNamespace(**content) for name, content in stands_in.items()}
    for name, kind in dict(int=int, float=float, bool=bool).items():
        setattr(np, name, kind)
    sys.path.insert(0, str(folder))
    from cadlib import extrude, visualize

    return types.SimpleNamespace(**vars(extrude) | vars(visualize))


def deepcad_shape(folder, path):
    "A part as DeepCAD reads its file."
    sequence = deepcad(folder).CADSequence.from_dict(json.loads(path.read_text()))
    sequence.normalize()
    return deepcad(folder).create_CAD(sequence)


def padded(vectors, length):
    "Vectors of a length: cut, or filled up with end marks."
    return np.vstack((vectors, np.tile([3] + [-1] * 16, (length, 1))))[:length]


def official_deepcad(folders, id, path, found, work):
    "CD and ACC by DeepCAD's scripts."
    folder, own = folders["DeepCAD"], read_truth(path, "vectors").vectors
    vectors, truth = padded(found[0], len(own) - 1), own[:-1]
    source = work / "results"
    source.mkdir()
    with h5py.File(source / f"{id}_vec.h5", "w") as file:
        file["out_vec"], file["gt_vec"] = vectors, truth
    deepcad(folder)
    sys.argv = ["evaluate_ae_acc.py", "--src", str(source)]
    runpy.run_path(str(folder / "evaluation/evaluate_ae_acc.py"))
    said = (work / "results_acc_stat.txt").read_text().splitlines()
    accuracy = [float(next(line for line in said if name in line).rpartition(":")[2]) for name in ("cmd", "param")]
    cloud = deepcad(folder).CADsolid2pc(deepcad_shape(folder, path), 8096, id)
    (work / id[:4]).mkdir()
    trimesh.PointCloud(cloud).export(work / id[:4] / f"{id}.ply")
    given = dict(np=np, KDTree=cKDTree, h5py=h5py, os=os, random=random, read_ply=read_ply, PC_ROOT=str(work),
                 vec2CADsolid=deepcad(folder).vec2CADsolid, CADsolid2pc=deepcad(folder).CADsolid2pc,
                 args=types.SimpleNamespace(n_points=2000))
    script = functions(folder / "evaluation/evaluate_ae_cd.py", "chamfer_dist", "normalize_pc", "process_one", **given)
    return dict(cd=script.process_one(str(source / f"{id}_vec.h5")), acc_cmd=accuracy[0], acc_param=accuracy[1])


def unit_cube(mesh):
    "A mesh in the unit cube, as cadrille's truths are."
    mesh.apply_translation(-mesh.bounds.mean(axis=0))
    mesh.apply_scale(1 / mesh.extents.max())
    mesh.apply_translation([0.5] * 3)
    return mesh


def fine_mesh(path):
    return trimesh.Trimesh(*in_world(build(load_part(path.read_bytes()))).mesh, process=False)


def official_cadrille(folders, id, path, found, work, coarse=False):
    "IoU and CD by cadrille's script, against a fine truth, or against one that DeepCAD's script meshes."
    if coarse:
        write_stl(deepcad_shape(folders["DeepCAD"], path), work / "truth.stl")
    truth = trimesh.load(work / "truth.stl") if coarse else fine_mesh(path)
    unit_cube(truth).export(work / f"{id}.stl")
    (work / f"{id}+0.py").write_text(found[2])
    names = ("compute_chamfer_distance", "compute_iou", "compound_to_mesh", "py_file_to_mesh_and_brep_files",
             "py_file_to_mesh_and_brep_files_safe", "run_cd_single")
    given = dict(os=os, np=np, trimesh=trimesh, cKDTree=cKDTree, cq=cadquery, Process=multiprocessing.Process)
    script = functions(folders["cadrille"] / "evaluate.py", *names, **given)
    made = script.run_cd_single(f"{id}+0.py", *[str(work)] * 4, 8192)
    return dict(iou=made["iou"], cd=made["cd"] and 1000 * made["cd"])


def official_text2cad(folders, id, path, found, work):
    "CD by Text2CAD's functions, of points on our solids where Text2CAD has them."
    truth = read_truth(path, "cadquery")
    script = functions(folders["Text2CAD"] / "CadSeqProc/utility/utils.py", "normalize_pc", "chamfer_dist", np=np,
                       cKDTree=cKDTree)
    meshes = [trimesh.Trimesh(*s.mesh, process=False) for s in (truth.solid, in_world(build(found[1])))]
    clouds = [script.normalize_pc(trimesh.sample.sample_surface(m, 8192)[0] - truth.low) for m in meshes]
    return dict(cd=1000 * script.chamfer_dist(*clouds))


def official_ortho2cad(folders, id, path, found, work):
    "IoU by Ortho2CAD's script, which is CAD-Coder's, of STEP files."
    script = functions(folders["Ortho2CAD"] / "src/scripts/compute_iou.py", "cq_align_shapes", cq=cadquery, np=np,
                       Tuple=tuple)
    shapes = []
    for name, sequence, unit in (("answer", found[1], 1.0), ("truth", load_part(path.read_bytes()), 1000.0)):
        (work / f"{name}.step").write_bytes(step_file(sequence, name, unit)[0])
        shapes.append(cadquery.importers.importStep(str(work / f"{name}.step")))
    return dict(iou=script.cq_align_shapes(*shapes)[1])


def official_coarse(*arguments):
    return official_cadrille(*arguments, coarse=True)


# protocol, truth: the clones that are needed (the first has the script), the comparison, our language
COMPARED = {
    ("deepcad", "fine"): (("DeepCAD",), official_deepcad, "vectors"),
    ("cadrille", "fine"): (("cadrille",), official_cadrille, "cadquery"),
    ("cadrille", "deepcad"): (("cadrille", "DeepCAD"), official_coarse, "cadquery"),
    ("text2cad", "fine"): (("Text2CAD",), official_text2cad, "cadquery"),
    ("ortho2cad", "fine"): (("Ortho2CAD",), official_ortho2cad, "cadquery"),
}
MEASURES = dict(deepcad=("cd", "acc_cmd", "acc_param"), cadrille=("iou", "cd"), text2cad=("cd",), ortho2cad=("iou",))


# --- comparing


def in_child(connection, function, arguments):
    with tempfile.TemporaryDirectory() as work, contextlib.redirect_stdout(io.StringIO()):
        os.chdir(work)
        np.random.seed(0)
        random.seed(0)
        connection.send(function(*arguments, Path(work)))


def limited(function, *arguments):
    "What a comparison finds in a process of its own; nothing where it fails, or takes too long."
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=in_child, args=(there, function, arguments))
    process.start()
    there.close()
    try:
        return here.recv() if here.poll(SECONDS) else {}
    except EOFError:
        return {}
    finally:
        process.kill()
        process.join()


def compared(protocol, mesh, folders, chosen):
    "What both find of each pair: `{id, measure, official, own, again}`, the last with other points."
    _, function, language = COMPARED[protocol, mesh]
    for id, path, found in chosen:
        truth, said = read_truth(path, language, mesh), found[0].tolist() if language == "vectors" else found[2]
        official = limited(function, folders, id, path, found)
        own, again = (score(said, language, truth, protocol, seed, 30.0) for seed in (0, 1))
        for measure in MEASURES[protocol]:
            yield dict(id=id, measure=measure, official=official.get(measure), own=own.get(measure),
                       again=again.get(measure))


def summed(rows):
    "Columns of the table for a measure."
    found = [[r[k] is not None and np.isfinite(r[k]) for k in ("official", "own")] for r in rows]
    both = [r for r, has in zip(rows, found) if all(has)]
    official, own, again = (np.array([r[k] for r in both]) for k in ("official", "own", "again"))
    apart, figure = np.abs(official - own), lambda value: float(f"{value:.3g}")
    return dict(both=len(both), official_alone=found.count([True, False]), own_alone=found.count([False, True]),
                median_official=figure(np.median(official)), median_own=figure(np.median(own)),
                median_difference=figure(np.median(apart)), largest_difference=figure(apart.max()),
                beyond_a_hundredth=int((apart > 0.01 * np.maximum(1, np.abs(own))).sum()),
                largest_between_seeds=figure(np.abs(own - again).max()))


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("official", type=Path)
    options.add_argument("--only", default="", help="protocols with this in their name")
    options.add_argument("--limit", type=int, help="pairs at most, to try it; nothing is written")
    options.add_argument("--rows", type=Path, help="JSON lines to write, one for each pair and measure")
    given = options.parse_args()
    chosen = list(pairs())[:given.limit]
    for (protocol, mesh), (names, _, _) in COMPARED.items():
        folders = {name: given.official.resolve() / name for name in names}
        if given.only not in protocol or not all(map(Path.is_dir, folders.values())):
            continue
        about_it = about("DeepCAD", len(chosen), CODE, PACKAGES)
        named = dict(protocol=protocol, truth=mesh) | origin(folders[names[0]])
        if is_measured("official", about_it, **named) and not given.limit:
            continue
        rows = list(compared(protocol, mesh, folders, chosen))
        if given.rows:
            option = orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY
            with given.rows.open("ab") as file:
                file.writelines(orjson.dumps(named | row, option=option) for row in rows)
        found = [about_it | named | dict(measure=m) | summed([r for r in rows if r["measure"] == m])
                 for m in dict.fromkeys(r["measure"] for r in rows)]
        print(*found, sep="\n") if given.limit else append("official", found)


if __name__ == "__main__":
    main()
