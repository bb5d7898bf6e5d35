"""Build the site in `_docs/`: let nbdev process the notebooks, then render them with quarto, or with smalldocs where quarto is missing.

Pages lose their chapter number (`13_solid.ipynb` becomes `solid.html`), because nbdev links names to those addresses. The site needs no
network: maths becomes MathML, a 3-D output becomes a page of its own beside one script for all, and a page that would load anything from
another host ends the build.
"""
import html, inspect, json, re, shutil, subprocess, sys
from hashlib import blake2b
from importlib import import_module
from pathlib import Path

from latex2mathml.converter import convert as mathml
from nbdev.config import get_config
from nbdev.doclinks import _build_modidx
from nbdev.serve import proc_nbs
from trimesh import resources, util

CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.S)
MATHS = re.compile(r"(?<![\\$\w])(\$\$?)(?=\S)([^$]+?)(?<=\S)\1(?![\d$])")
SCENE = "model/gltf-binary"
ELSEWHERE = re.compile(r"""<(?:script|img|iframe|source|video)\b[^>]*\bsrc=["']?(?:https?:)?//[^"'\s>]*|<link\b(?=[^>]*\brel=["']?(?:stylesheet|preload|icon))[^>]*\bhref=["']?(?:https?:)?//[^"'\s>]*|\b(?:import|url)\(?\s*["']?https?://[^"')\s]*""")
NUMBER = re.compile(r"(?<![\w-])\d+[a-z]?_(?=[\w-]+\.ipynb)")


def unnumber(text):
    "`see 13_solid.ipynb` becomes `see solid.ipynb`."
    return NUMBER.sub("", text)


def typeset(text):
    "Maths between dollar signs, outside of code, as MathML."
    def one(match):
        return mathml(match[2], display="block" if match[1] == "$$" else "inline")
    return "".join(part if i % 2 else MATHS.sub(one, part) for i, part in enumerate(CODE.split(text)))


def viewer():
    "The page that trimesh shows a scene with, as `(before, script, after)`; the script looks for its scene in `SCENE`."
    page = util.decompress(resources.get_bytes("templates/viewer.zip"),
                           file_type="zip")["viewer.html.template"].read().decode()
    before, script, after = re.fullmatch(r"(.*?)<script>(.*)</script>(.*)", page, re.S).groups()
    assert '"$B64GLTF"' in script, "another trimesh: its viewer keeps the scene elsewhere"
    return (before.replace("trimesh: threejs viewer</title>", '3-D view</title><link rel="icon" href="data:,">'),
            script.replace('"$B64GLTF"', "SCENE"), after)


def stage_scene(output, folder):
    """Put the 3-D scene of an output into a page of its own, and let the output show that page; the picture stands
    behind it."""
    data = output["data"]
    scene, label = "".join(data.pop(SCENE)).strip(), html.escape("".join(data["text/plain"]))
    path = folder / "scenes" / f"{blake2b(scene.encode(), digest_size=6).hexdigest()}.html"
    path.parent.mkdir(exist_ok=True)
    before, script, after = viewer()
    path.with_name("viewer.js").write_text(script, encoding="utf-8")
    path.write_text(f'{before}<script>var SCENE = "{scene}"</script>\n<script src="viewer.js"></script>{after}',
                    encoding="utf-8")
    data["text/html"] = f'<iframe class="scene" src="scenes/{path.name}" loading="lazy" title="3-D view: {label}"></iframe>\n<p class="scene-help">Drag to turn, wheel or two fingers to zoom; W for wires.</p>'


def relink(cell, site):
    "Point the links of a notebook cell at pages of this site, so that they work wherever the site is hosted."
    text = "".join(cell["source"])
    if cell["cell_type"] == "raw":
        text = re.sub(r"output-file:.*\n", "", text)  # smalldocs ignores it, quarto would add the number back
    if cell["cell_type"] == "markdown":
        text = typeset(unnumber(text).replace(site, ""))
    cell["source"] = text
    for data in (output.get("data", {}) for output in cell.get("outputs", [])):
        if "text/markdown" in data:
            data["text/markdown"] = "".join(data["text/markdown"]).replace(site, "")


def api_page(config):
    "A page that lists what each chapter exports, by chapter, with a link and the first line of its docstring."
    lines = ["---", "title: API by chapter", "description: Every public name, where it is explained.", "---", ""]
    for path in sorted(config.nbs_path.glob("[0-9]*.ipynb")):
        module = NUMBER.sub("", path.name).removesuffix(".ipynb")
        if not (config.lib_path / f"{module}.py").exists():
            continue
        names = import_module(f"{config.lib_name}.{module}")
        public = [n for n in names.__all__ if callable(vars(names)[n])
                  and getattr(vars(names)[n], "__module__", "") == names.__name__]
        lines += [f"## [{config.lib_name}.{module}]({module}.html)", ""]
        lines += ([f"- [`{n}`]({module}.html#{n.lower()}): "
                   f"{(inspect.getdoc(vars(names)[n]) or '').partition(chr(10))[0]}" for n in public] + [""])
    return "\n".join(lines)


def forget_fonts(folder):
    "Themes ask for a web font in their first line; without it the fonts of the system are taken."
    for path in folder.rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        if "@import url(http" in text:
            path.write_text(re.sub(r"@import url\(https?://[^)]*\);?", "", text), encoding="utf-8")


def check_hosts(folder):
    "Stop when a page would load something from another host: a site must work without a network."
    found = sorted({f"{path.relative_to(folder)}: {match[0][:150]}" for path in folder.rglob("*")
                    if path.suffix in (".html", ".css")
                    for match in ELSEWHERE.finditer(path.read_text(encoding="utf-8"))})
    if found:
        sys.exit("the site would load files from another host:\n" + "\n".join(found))


def stage(config):
    "Copy the processed notebooks to `_site_src/` under their page names, and return that folder."
    _build_modidx()
    folder, site = config.config_path / "_site_src", f"{config.doc_host}{config.doc_baseurl}/"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(proc_nbs(force=True, n_workers=0), folder)
    for path in sorted(folder.glob("*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            relink(cell, site)
            for output in cell.get("outputs", []):
                if SCENE in output.get("data", {}):
                    stage_scene(output, folder)
        path.unlink()
        path.with_name(unnumber(path.name)).write_text(json.dumps(notebook), encoding="utf-8")
    (folder / "api.qmd").write_text(api_page(config), encoding="utf-8")
    config_file = folder / "_quarto.yml"
    config_file.write_text(unnumber(config_file.read_text(encoding="utf-8")), encoding="utf-8")
    return folder


def render(folder):
    "Render the staged project; stop when a link is broken or a page fails."
    if shutil.which("quarto"):
        command = ["quarto", "render", str(folder), "--no-execute"]
    else:
        command = [str(Path(sys.executable).with_name("smalldocs")), "render", str(folder), "--strict", "--quiet"]
    if subprocess.run(command).returncode:
        sys.exit("the site was not built: see above")


def main():
    config = get_config()
    config["renderer"] = "numpy_doc.NumpyRenderer"
    folder = stage(config)
    render(folder)
    forget_fonts(folder / "_docs")
    check_hosts(folder / "_docs")
    shutil.rmtree(config.doc_path, ignore_errors=True)
    shutil.move(folder / "_docs", config.doc_path)
    print(f"the site is in {config.doc_path.name}/index.html")


if __name__ == "__main__":
    main()
