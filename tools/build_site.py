"""Build the site in `_docs/`: nbdev processes the notebooks, quarto renders them, or smalldocs where quarto is missing.

Pages lose their chapter number (`13_solid.ipynb` becomes `solid.html`), so that addresses stay when chapters move;
where two chapters share a name the wing stands in front (`cad-export.html`). The sidebar of `_quarto.yml` names
chapters by pattern (`5*.ipynb`), so that no list of chapters exists twice. The site needs no network: maths becomes
MathML, a 3-D output becomes a page of its own beside one script for all, and a page that would load anything from
another host ends the build.
"""

import gc
import html
import inspect
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from functools import lru_cache
from hashlib import blake2b
from importlib import import_module
from pathlib import Path

import nbdev.doclinks
import nbdev.processors
import smalldocs.cli
import smalldocs.highlight
import smalldocs.markdown
import yaml
from execnb.shell import CaptureShell
from latex2mathml.converter import convert as mathml
from nbdev.config import get_config
from nbdev.doclinks import _build_modidx
from nbdev.serve import proc_nbs
from nbdev.showdoc import show_doc
from trimesh import resources, util

CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.S)
MATHS = re.compile(r"(?<![\\$\w])(\$\$?)(?=\S)([^$]+?)(?<=\S)\1(?![\d$])")
SCENE = "model/gltf-binary"
ELSEWHERE = re.compile(
    r"""<(?:script|img|iframe|source|video)\b[^>]*\bsrc=["']?(?:https?:)?//[^"'\s>]*
    | <link\b(?=[^>]*\brel=["']?(?:stylesheet|preload|icon))[^>]*\bhref=["']?(?:https?:)?//[^"'\s>]*
    | \b(?:import\s*|(?:import|url)\(\s*)["']?https?://[^"')\s]*""",
    re.X,
)
HIDDEN = re.compile(r"^#\|\s*(hide\b|include:\s*false)|nbdev_export\(\)", re.M)
EXPORTED = re.compile(r"^#\|\s*default_exp\s+(\S+)", re.M)
CHAPTER = re.compile(r"(?<![\w-])\d+[a-z]?_([\w-]+)\.ipynb")


def exported(path):
    "The module that a notebook exports, as `sequence` or `cad.sequence`; None where it exports nothing."
    sources = ("".join(cell["source"]) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"])
    return next((match[1] for match in map(EXPORTED.search, sources) if match), None)


def page_names(folder):
    "The name of the page of each chapter in a folder, by the name of its notebook; no two are the same."
    plain = {path.name: CHAPTER.sub(r"\1", path.name) for path in sorted(folder.glob("[0-9]*.ipynb"))}
    shared = {name for name, count in Counter(plain.values()).items() if count > 1}
    return {name: exported(folder / name).replace(".", "-") if plain[name] in shared else plain[name] for name in plain}


def unnumber(text, pages):
    "`see 13_solid.ipynb` becomes `see solid.ipynb`."
    return CHAPTER.sub(lambda match: pages.get(match[0], match[1]) + ".ipynb", text)


def move_symbols(pages, nbs, library):
    "Let nbdev link names to the pages where they are: it knows chapters by their names alone."
    symbols = import_module(f"{library}._modidx").d["syms"]
    for name, page in pages.items():
        names = symbols.get(f"{library}.{exported(nbs / name)}", {})
        for symbol, (address, file) in names.items():
            names[symbol] = f"{page}.html#{address.partition('#')[2]}", file


def typeset(text):
    "Maths between dollar signs, outside of code, as MathML."

    def one(match):
        return mathml(match[2], display="block" if match[1] == "$$" else "inline")

    return "".join(part if i % 2 else MATHS.sub(one, part) for i, part in enumerate(CODE.split(text)))


def viewer():
    "The page that trimesh shows a scene with, as `(before, script, after)`; the script looks for its scene in `SCENE`."
    files = util.decompress(resources.get_bytes("templates/viewer.zip"), file_type="zip")
    page = files["viewer.html.template"].read().decode()
    before, script, after = re.fullmatch(r"(.*?)<script>(.*)</script>(.*)", page, re.S).groups()
    assert '"$B64GLTF"' in script, "another trimesh: its viewer keeps the scene elsewhere"
    before = before.replace("trimesh: threejs viewer</title>", '3-D view</title><link rel="icon" href="data:,">')
    return before, script.replace('"$B64GLTF"', "SCENE"), after


def stage_scene(output, folder):
    "Put the 3-D scene of an output into a page of its own, and let the output show that page."
    data = output["data"]
    scene, label = "".join(data.pop(SCENE)).strip(), html.escape("".join(data["text/plain"]))
    path = folder / "scenes" / f"{blake2b(scene.encode(), digest_size=6).hexdigest()}.html"
    path.parent.mkdir(exist_ok=True)
    before, script, after = viewer()
    path.with_name("viewer.js").write_text(script, encoding="utf-8")
    page = f'{before}<script>var SCENE = "{scene}"</script>\n<script src="viewer.js"></script>{after}'
    path.write_text(page, encoding="utf-8")
    frame = f'<iframe class="scene" src="scenes/{path.name}" loading="lazy" title="3-D view: {label}"></iframe>'
    data["text/html"] = f'{frame}\n<p class="scene-help">Drag to turn, wheel or two fingers to zoom; W for wires.</p>'


def relink(cell, site, pages):
    "Point the links of a notebook cell at pages of this site, so that they work wherever the site is hosted."
    text = "".join(cell["source"])
    if cell["cell_type"] == "raw":
        text = re.sub(r"output-file:.*\n", "", text)  # smalldocs ignores it, quarto would add the number back
    if cell["cell_type"] == "markdown":
        text = typeset(unnumber(text, pages).replace(site, ""))
    cell["source"] = text
    for data in (output.get("data", {}) for output in cell.get("outputs", [])):
        if "text/markdown" in data:
            data["text/markdown"] = "".join(data["text/markdown"]).replace(site, "")


def entries(name, page):
    "What the API page says of a module: a link to each public name, and the first line of its docstring."
    module = import_module(name)
    public = [n for n in module.__all__ if callable(vars(module)[n])]
    public = [n for n in public if getattr(vars(module)[n], "__module__", "") == name]
    said = {n: (inspect.getdoc(vars(module)[n]) or "").partition("\n")[0] for n in public}
    return [f"- [`{n}`]({page}.html#{n.lower()}): {line}" for n, line in said.items()]


def api_page(config, pages):
    "A page that lists what each chapter exports, in the order of the chapters."
    lines = ["---", "title: API by chapter", "description: Every public name, and where it is explained.", "---", ""]
    for path in sorted(config.nbs_path.glob("[0-9]*.ipynb")):
        if module := exported(path):
            name, page = f"{config.lib_name}.{module}", pages[path.name]
            lines += [f"## [{name}]({page}.html)", "", *entries(name, page), ""]
    return "\n".join(lines)


def navigation(text, folder):
    "The text of `_quarto.yml` with chapters for the patterns of its sidebar; a chapter goes to the first that fits."
    settings, left = yaml.safe_load(text), [path.name for path in sorted(folder.glob("[0-9]*.ipynb"))]

    def expand(contents):
        for entry in contents:
            if isinstance(entry, dict):
                yield entry | {"contents": list(expand(entry["contents"]))}
            elif "*" in entry:
                yield from (left.pop(left.index(name)) for name in [n for n in left if Path(n).match(entry)])
            else:
                yield entry

    sidebar = settings["website"]["sidebar"]
    sections = expand(sidebar["contents"])
    sidebar["contents"] = [s for s in sections if not isinstance(s, dict) or s["contents"]]
    if left:
        sys.exit(f"chapters that the sidebar of _quarto.yml does not name: {', '.join(left)}")
    return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)


def check_endings(folder):
    "Stop where the last cell that is shown is an export: nbdev would stop there with an IndexError."
    for path in sorted(folder.glob("*.ipynb")):
        cells = ("".join(cell["source"]) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"])
        last = [text for text in cells if text.strip() and not HIDDEN.search(text)][-1]
        if re.match(r"#\|\s*export", last):
            sys.exit(f"{path.name} ends with an exported cell; let it end with a sentence on what comes next")


class ShowDocs(nbdev.processors.exec_show_docs):
    """Signatures and docstrings are shown from the modules of the package. nbdev would run every exported cell and
    every import again, in a new shell for each notebook."""

    shell = staticmethod(lru_cache(maxsize=1)(CaptureShell))

    def begin(self):
        self.k = self.shell()
        names = (cell.directives_.get("default_exp") for cell in self.nb.cells)
        for name in filter(None, names):
            module = import_module(f"{get_config().lib_name}.{name[0]}")
            self.k.user_ns.update(vars(module), show_doc=show_doc)


def line_of(symbol, file, known=nbdev.doclinks._lineno):
    "The line where a symbol begins; nbdev knows it by its name inside its module."
    return known(symbol.removeprefix(str(file).removesuffix(".py").replace("/", ".") + "."), file)


def must_run(cell):
    "Must a cell run? Those that show a signature."
    return cell.cell_type == "code" and bool(nbdev.processors._show_docs(cell.parsed_() or []))


def forget_fonts(folder):
    "Themes ask for a web font in their first line; without it the fonts of the system are taken."
    for path in folder.rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        if "@import url(http" in text:
            path.write_text(re.sub(r"@import url\(https?://[^)]*\);?", "", text), encoding="utf-8")


def check_hosts(folder):
    "Stop when a page would load something from another host: a site must work without a network."
    found = set()
    for path in folder.rglob("*"):
        if path.suffix in (".html", ".css"):
            matches = ELSEWHERE.finditer(path.read_text(encoding="utf-8"))
            found |= {f"{path.relative_to(folder)}: {match[0][:150]}" for match in matches}
    if found:
        sys.exit("the site would load files from another host:\n" + "\n".join(sorted(found)))


def stage(config):
    "Copy the processed notebooks to `_site_src/` under their page names, and return that folder."
    _build_modidx()
    pages = page_names(config.nbs_path)
    move_symbols(pages, config.nbs_path, config.lib_name)
    folder, site = config.config_path / "_site_src", f"{config.doc_host}{config.doc_baseurl}/"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(proc_nbs(force=True, n_workers=0), folder)
    for path in sorted(folder.glob("*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            relink(cell, site, pages)
            for output in cell.get("outputs", []):
                if SCENE in output.get("data", {}):
                    stage_scene(output, folder)
        path.unlink()
        path.with_name(unnumber(path.name, pages)).write_text(json.dumps(notebook), encoding="utf-8")
    (folder / "api.qmd").write_text(api_page(config, pages), encoding="utf-8")
    site_map = navigation((config.config_path / "_quarto.yml").read_text(encoding="utf-8"), config.nbs_path)
    (folder / "_quarto.yml").write_text(unnumber(site_map, pages), encoding="utf-8")
    return folder


def render(folder):
    "Render the staged project; stop when a link is broken or a page fails."
    if shutil.which("quarto"):
        failed = subprocess.run(["quarto", "render", str(folder), "--no-execute"]).returncode
    else:
        # a page is rendered twice, and the class of each word of its code looked for in a list
        smalldocs.highlight.css_class = lru_cache(maxsize=None)(smalldocs.highlight.css_class)
        smalldocs.markdown.highlight = lru_cache(maxsize=None)(smalldocs.highlight.highlight)
        failed = smalldocs.cli.main(["render", str(folder), "--strict", "--quiet"])
    if failed:
        sys.exit("the site was not built: see above")


def main():
    config = get_config()
    config["renderer"] = "numpy_doc.NumpyRenderer"
    nbdev.processors._do_eval, nbdev.processors.exec_show_docs = must_run, ShowDocs
    nbdev.doclinks._lineno = line_of
    check_endings(config.nbs_path)
    gc.disable()  # looking for garbage among a million objects of libraries takes a quarter of the time
    folder = stage(config)
    render(folder)
    forget_fonts(folder / "_docs")
    check_hosts(folder / "_docs")
    shutil.rmtree(config.doc_path, ignore_errors=True)
    shutil.move(folder / "_docs", config.doc_path)
    print(f"the site is in {config.doc_path.name}/index.html")


if __name__ == "__main__":
    main()
