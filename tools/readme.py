"""Write README.md from the index notebook.

Links and images of the notebook are relative to `nbs/`; here they get that prefix, where the file exists. Links to a
file of the repository by its full address become relative. `absolute` does the reverse, for the page of an index.
"""

import json
import re
from pathlib import Path

TARGET = re.compile(r"""(\]\(|src=["'])([^)"'\s#]+)""")
HIDDEN = re.compile(r"^#\|\s*(hide\b|include:\s*false|export)", re.M)
DIRECTIVE = re.compile(r"^#\|.*\n?", re.M)
FENCE = re.compile(r"^:::.*\n?", re.M)  # the site lays these blocks out; a README has no such thing


def relink(text, folder, blob):
    "Make the links of a markdown cell work from the top of the repository."

    def fix(match):
        before, target = match.groups()
        if target.startswith(blob):
            return before + target.removeprefix(blob)
        return before + (f"{folder.name}/{target}" if (folder / target).exists() else target)

    return TARGET.sub(fix, text)


def show_output(output):
    "What a cell printed or returned, as markdown. An image has no place in a README: it must be a file."
    data = output.get("data", {})
    if "image/png" in data and "text/markdown" not in data:
        raise SystemExit("index.ipynb shows an image as an output: save it in nbs/images/ and refer to it in the text")
    text = "".join(data.get("text/markdown") or data.get("text/plain") or output.get("text") or "").rstrip()
    return text if "text/markdown" in data else "\n".join("    " + line for line in text.splitlines())


def show_code(cell):
    "A code cell and its outputs, as markdown, honouring `echo: false` and `output: false`."
    source, parts = "".join(cell["source"]), []
    if not re.search(r"^#\|\s*echo:\s*false", source, re.M):
        parts.append(f"```python\n{DIRECTIVE.sub('', source).strip()}\n```")
    if not re.search(r"^#\|\s*output:\s*false", source, re.M):
        parts += [show_output(output) for output in cell.get("outputs", [])]
    return "\n\n".join(parts)


def readme(path, blob):
    "The text of README.md for the notebook at `path`; `blob` is the address of the repository's files."
    import yaml

    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "raw":
            page = yaml.safe_load(source.strip("-\n "))
            parts.append(f"# {page['title']}\n\n> {page['description']}")
        if cell["cell_type"] == "markdown" and not HIDDEN.search(source):
            parts.append(FENCE.sub("", relink(source, path.parent, blob)).strip())
        if cell["cell_type"] == "code" and source.strip() and not HIDDEN.search(source):
            parts.append(show_code(cell))
    head = f"<!-- made from {path.parent.name}/{path.name} by `make prepare`: edit the notebook -->"
    return "\n\n".join([head, *(part for part in parts if part)]) + "\n"


def absolute(path, project):
    "The README at `path` with the address of the repository, from pyproject.toml, in each relative link and image."
    import tomllib

    top = tomllib.loads(Path(project).read_text(encoding="utf-8"))["project"]["urls"]["Repository"]

    def fix(match):
        before, target = match.groups()
        kind = "raw" if target.endswith((".png", ".svg")) else "blob"
        return match[0] if ":" in target else f"{before}{top}/{kind}/main/{target}"

    return TARGET.sub(fix, Path(path).read_text(encoding="utf-8"))


def project_readme():
    "The text that README.md of this project should have."
    from nbdev.config import get_config

    config = get_config()
    return readme(config.nbs_path / config.readme_nb, f"{config.git_url}/blob/{config.branch}/")


if __name__ == "__main__":
    from nbdev.config import get_config

    Path(get_config().config_path, "README.md").write_text(project_readme(), encoding="utf-8")
