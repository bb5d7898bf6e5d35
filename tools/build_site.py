"""Build the site in `_docs/`: let nbdev process the notebooks, then render them with quarto, or with smalldocs where quarto is missing.

Pages lose their chapter number (`01_solid.ipynb` becomes `solid.html`), because nbdev links names to those addresses.
"""
import json, re, shutil, subprocess, sys
from pathlib import Path

from nbdev.config import get_config
from nbdev.doclinks import _build_modidx
from nbdev.serve import proc_nbs

NUMBER = re.compile(r"(?<![\w-])\d+[a-z]?_(?=[\w-]+\.ipynb)")


def unnumber(text):
    "`see 01_solid.ipynb` becomes `see solid.ipynb`."
    return NUMBER.sub("", text)


def relink(cell, site):
    "Point the links of a notebook cell at pages of this site, so that they work wherever the site is hosted."
    text = "".join(cell["source"])
    if cell["cell_type"] == "raw":
        text = re.sub(r"output-file:.*\n", "", text)  # smalldocs ignores it, quarto would add the number back
    if cell["cell_type"] == "markdown":
        text = unnumber(text).replace(site, "")
    cell["source"] = text
    for data in (output.get("data", {}) for output in cell.get("outputs", [])):
        if "text/markdown" in data:
            data["text/markdown"] = "".join(data["text/markdown"]).replace(site, "")


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
        path.unlink()
        path.with_name(unnumber(path.name)).write_text(json.dumps(notebook), encoding="utf-8")
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
    shutil.rmtree(config.doc_path, ignore_errors=True)
    shutil.move(folder / "_docs", config.doc_path)
    print(f"the site is in {config.doc_path.name}/index.html")


if __name__ == "__main__":
    main()
