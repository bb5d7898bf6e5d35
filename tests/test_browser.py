"""The site and JupyterLab in a real browser. Screenshots are kept in build/screenshots/, to be looked at.

Nothing is installed here: the tests need chromium, playwright and, one of them, JupyterLab, and are skipped without.
"""

import io
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from functools import partial
from hashlib import blake2b
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from builders import cases
from cadvlm.measure.stats import table
from cadvlm.stages.convert import convert
from cadvlm.stages.extract import extract
from cadvlm.stages.render import render
from cadvlm.stages.synthesize import synthesize

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install 'cadvlm[dev]'")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="needs a browser: apt-get install chromium"),
]
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="session")
def screenshots(root):
    folder = root / "build" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


SOURCES = ("settings.ini", "pyproject.toml", "_quarto.yml", "nbs", "cadvlm", "tools")


def fingerprint(root):
    "A hash of all that the site is made of."
    files = [f for name in SOURCES for f in sorted([root / name, *(root / name).rglob("*")]) if f.is_file()]
    files = [f for f in files if "__pycache__" not in f.parts and ".ipynb_checkpoints" not in f.parts]
    return blake2b(b"".join(blake2b(f.read_bytes()).digest() for f in files), digest_size=8).hexdigest()


@pytest.fixture(scope="session")
def site(root):
    "The folder of the site, built from a copy of the project when its sources have changed, by one process of many."
    build = root / "build"
    build.mkdir(exist_ok=True)
    copy = build / f"site-{fingerprint(root)}"
    with FileLock(build / "site.lock"):
        if not (copy / "_docs" / "index.html").exists():
            for old in build.glob("site-*"):
                shutil.rmtree(old)
            for name in SOURCES:
                if (root / name).is_dir():
                    shutil.copytree(root / name, copy / name, symlinks=True)
                else:
                    copy.mkdir(exist_ok=True)
                    shutil.copy(root / name, copy)
            env = {k: v for k, v in os.environ.items() if k != "IN_TEST"} | {"PYTHONPATH": str(copy)}
            command = [sys.executable, "tools/build_site.py"]
            made = subprocess.run(command, cwd=copy, env=env, capture_output=True, text=True)
            assert made.returncode == 0, made.stdout + made.stderr
    return copy / "_docs"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def address(site):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="session")
def playwright():
    with sync_api.sync_playwright() as playwright:
        yield playwright


def browser_with(playwright, *flags):
    chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *flags])
    yield chromium
    chromium.close()


@pytest.fixture(scope="session")
def flat(playwright):
    "A browser without 3-D, which lays out a page in half the time."
    yield from browser_with(playwright, "--disable-gpu")


@pytest.fixture(scope="session")
def solid(playwright):
    "A browser with 3-D, drawn by the processor."
    yield from browser_with(playwright, "--use-angle=swiftshader", "--enable-unsafe-swiftshader")


def opened(browser):
    "`open(**options)`: a page that is closed when the test ends; a scene in it would be drawn on and on."
    pages = []
    yield lambda **options: pages.append(browser.new_page(**dict(viewport=DESKTOP) | options)) or pages[-1]
    for page in pages:
        page.close()


@pytest.fixture
def flat_page(flat):
    yield from opened(flat)


@pytest.fixture
def solid_page(solid):
    yield from opened(solid)


def watched(page, address):
    "A page, and the list of what goes wrong in it: errors, and requests to other hosts."
    troubles = []
    page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
    page.on("console", lambda m: m.type == "error" and troubles.append(f"console: {m.text} {m.location}"))
    ours = (address, "data:", "blob:", "about:")
    page.on("request", lambda request: request.url.startswith(ours) or troubles.append(f"request: {request.url}"))
    return page, troubles


def pixels(shot):
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(int)


def settled(page, canvas, patience=5000):
    "The pixels of a canvas as soon as two screenshots show something and agree."
    last = pixels(canvas.screenshot())
    for _ in range(patience // 250):
        page.wait_for_timeout(250)
        now = pixels(canvas.screenshot())
        if is_drawn(now) and not changed(last, now):
            break
        last = now
    return now


def drag(page, canvas):
    "Drag across a canvas; its pixels before and after."
    canvas.scroll_into_view_if_needed()
    before, box = settled(page, canvas), canvas.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 90, y + 30, steps=6)
    page.mouse.up()
    return before, settled(page, canvas)


def is_drawn(image):
    "Something with light, shadow and lines, in front of paper."
    inked = (image.min(axis=2) < 240).mean()
    return len(np.unique(image @ (65536, 256, 1))) > 20 and 0.01 < inked < 0.9


def changed(a, b):
    "Share of pixels that differ."
    return (np.abs(a - b).max(axis=2) > 30).mean()


# Texts of a page that are too faint on what lies behind them: contrast below 4.5 (WCAG 2), opacity included.
FAINT = r"""() => {
    const pen = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
    const known = new Map(), behind = new Map([[null, {paper: [255, 255, 255], opacity: 1}]]);
    const channels = color => {
        if (known.has(color)) return known.get(color);
        pen.clearRect(0, 0, 1, 1);
        pen.fillStyle = color;
        pen.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
        known.set(color, [r, g, b, a / 255]);
        return known.get(color);
    };
    const over = (top, below) => below.map((x, i) => top[3] * top[i] + (1 - top[3]) * x);
    const light = color => color.map(x => (x /= 255) <= .04045 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4)
        .reduce((sum, x, i) => sum + x * [.2126, .7152, .0722][i], 0);
    const under = element => {
        if (behind.has(element)) return behind.get(element);
        const above = under(element.parentElement), style = getComputedStyle(element);
        const paper = over(channels(style.backgroundColor), above.paper);
        behind.set(element, {paper, opacity: above.opacity * style.opacity});
        return behind.get(element);
    };
    const found = {}, texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        const node = texts.currentNode, element = node.parentElement, range = document.createRange();
        range.selectNodeContents(node);
        const box = range.getBoundingClientRect();
        const shown = element.checkVisibility({checkVisibilityCSS: true, checkOpacity: true});
        if (!node.textContent.trim() || !box.width || !box.height || !shown) continue;
        const {paper, opacity} = under(element);
        const name = element instanceof SVGElement ? 'fill' : 'color', own = getComputedStyle(element)[name];
        const ink = channels(own);
        const a = light(over([...ink.slice(0, 3), ink[3] * opacity], paper)), b = light(paper);
        const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
        const colors = `${own} on ${paper.map(Math.round)}`;
        const place = `${element.tagName}.${element.className} ${colors}`;
        if (ratio < 4.5) found[place] ??= `${ratio.toFixed(2)}: ${place}: ${node.textContent.trim().slice(0, 40)}`;
    }
    return Object.values(found);
}"""
SHADE = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + +b, 0) / 3"


def is_of(scheme, page):
    return page.evaluate(SHADE) > 230 if scheme == "light" else page.evaluate(SHADE) < 70


EVERY = max(1, 8 // cases(1))  # all pages are made of the same parts: every eighth is opened
OPENED = ("index.html", "explore.html", "drawing.html", "stats.html", "api.html")  # and these, with much on them


def test_pages_load_by_themselves_and_fit_a_phone(site, address, flat_page, solid_page, screenshots):
    names = sorted(p.relative_to(site).as_posix() for p in site.rglob("*.html"))
    assert {"index.html", "start.html", "validation.html", "explore.html", "api.html"} <= set(names)
    scenes = [name for name in names if name.startswith("scenes/")]
    page, troubles = watched(flat_page(viewport=PHONE), address)
    wide = []
    pages = [name for name in names if name not in scenes]
    for name in sorted({*pages[::EVERY], *OPENED}):
        page.goto(f"{address}/{name}", wait_until="load")
        if page.evaluate("document.documentElement.scrollWidth") > PHONE["width"] + 1:
            wide.append(name)
        if name in OPENED:
            page.screenshot(path=screenshots / f"{name.removesuffix('.html')}_phone.png")
    assert not wide and not troubles
    page, troubles = watched(solid_page(), address)
    for name in scenes[:2]:  # all are the same page around another part
        page.goto(f"{address}/{name}", wait_until="load")
    assert not troubles


def test_text_stands_out(address, flat_page, screenshots):
    page, faint = flat_page(reduced_motion="reduce"), {}
    page, troubles = watched(page, address)
    for name in ("index", "my_drawing", "evaluate", "page", "explore", "api"):
        page.goto(f"{address}/{name}.html", wait_until="load")
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.screenshot(path=screenshots / f"{name}_{scheme}.png")
            assert is_of(scheme, page)
            if found := page.evaluate(FAINT):
                faint[name, scheme] = found
    assert not faint and not troubles


def test_faint_text_is_found(flat_page):
    page = flat_page()
    drawn = "<svg width=99 height=99><text y=20 fill='#ccc'>drawn</text><text y=50>dark</text></svg>"
    written = "<p style='color: #777; background: #888'>faint</p><p style='opacity: .3'>pale</p><p>clear</p>"
    page.set_content(written + drawn)
    assert [line.rpartition(": ")[2] for line in page.evaluate(FAINT)] == ["faint", "pale", "drawn"]


def test_code_of_the_front_page_is_all_in_sight(address, flat_page):
    page = flat_page()
    page.goto(f"{address}/index.html", wait_until="load")
    hidden = "[...document.querySelectorAll('pre')].filter(pre => pre.scrollWidth > pre.clientWidth + 1).length"
    assert page.locator("pre").count() > 5 and page.evaluate(hidden) == 0


def test_the_scheme_can_be_switched(address, flat_page):
    page = flat_page(color_scheme="light")
    page.goto(f"{address}/index.html")
    page.locator(".quarto-color-scheme-toggle:visible").first.click()
    assert is_of("dark", page)


def test_search_finds_project(address, flat_page, screenshots):
    page, troubles = watched(flat_page(), address)
    page.goto(f"{address}/index.html", wait_until="load")
    opener = page.locator("#quarto-search button:visible, .aa-DetachedSearchButton:visible")
    if opener.count():
        opener.first.click()
    page.locator("input[type=search]:visible").first.fill("project")
    hit = page.locator("a[href*='drawing.html']:visible", has_text="project").first
    hit.wait_for(timeout=5000)
    page.screenshot(path=screenshots / "search.png")
    hit.click()
    page.wait_for_url("**/drawing.html**")
    assert not troubles


def test_scene_of_the_site_can_be_turned(address, solid_page, screenshots):
    page, troubles = watched(solid_page(), address)
    page.goto(f"{address}/explore.html", wait_until="load")
    frame = page.locator("iframe.scene").first
    frame.scroll_into_view_if_needed()
    before, after = drag(page, page.frame_locator("iframe.scene").first.locator("canvas"))
    page.screenshot(path=screenshots / "scene.png")
    assert is_drawn(before) and is_drawn(after) and changed(before, after) > 0.02 and not troubles


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    "The pages that `cadvlm demo`, `cadvlm report` and `cadvlm reconstruct` write of eight parts."
    from cadvlm.app.cli import main
    from cadvlm.corpus.dataset import Dataset

    folder = tmp_path_factory.mktemp("pages")
    assert main(["demo", str(folder / "demo"), "--count", "8", "--workers", "1"]) == 0
    assert main(["report", str(folder / "demo" / "dataset"), "--output", str(folder / "report.html")]) == 0
    dataset = Dataset(folder / "demo" / "dataset")
    dataset.json_path(dataset.ids[0]).unlink()  # a rejection, for the table
    assert main(["reconstruct", str(dataset.path), str(folder / "read"), "--split", "all", "--workers", "1"]) == 0
    return {name: folder / f"{name}.html" for name in ("demo/index", "report", "read/index")}


@pytest.mark.parametrize("name", ["demo/index", "report", "read/index"])
def test_pages_of_commands_can_be_read_everywhere(pages, flat_page, screenshots, name):
    page, troubles = watched(flat_page(reduced_motion="reduce"), "file:")
    page.goto(pages[name].as_uri(), wait_until="load")
    for viewport, scheme in ((DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light"), (PHONE, "dark")):
        page.set_viewport_size(viewport)
        page.emulate_media(color_scheme=scheme)
        page.screenshot(path=screenshots / f"{name.partition('/')[0]}_{viewport['width']}_{scheme}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"] + 1
        assert is_of(scheme, page) and not page.evaluate(FAINT), (viewport, scheme)
        assert page.locator("img:visible, svg:visible").count() > 2 and page.locator("h2").count() > 1
    assert not troubles


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_of_a_chart_stands_out(flat_page, screenshots, scheme):
    "The curves of a training are on the report of a dataset on which a model was trained."
    from cadvlm.app.page import chart
    from cadvlm.app.page import page as page_of

    page = flat_page(viewport=PHONE, color_scheme=scheme)
    levels = {"shuffled images": [2.8] * 3, "n-gram": [2.9] * 3}
    curves = {"training": [2.5, 1.5, 1.2], "validation": [2.7, 1.9, 1.7]} | levels
    page.set_content(page_of("Training", "A chart.", chart(curves, "loss by epoch, nats/token")))
    page.screenshot(path=screenshots / f"chart_{scheme}.png")
    assert page.locator("svg text").count() > 5 and not page.evaluate(FAINT)


PART = """from cadvlm.cad.solid import build
from cadvlm.synth.histories import part
from cadvlm.cad.view import show
show(build(part(0, 987)))"""


@pytest.fixture(scope="module")
def lab(root, tmp_path_factory):
    "The address of JupyterLab, and its folder of notebooks."
    pytest.importorskip("jupyterlab", reason="needs JupyterLab: pip install 'cadvlm[lab]'")
    pytest.importorskip("pythreejs", reason="needs pythreejs: pip install 'cadvlm[lab]'")
    top = tmp_path_factory.mktemp("lab")
    (top / "nbs").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = os.environ | {"JUPYTER_CONFIG_DIR": str(top / "config"), "PYTHONPATH": str(root)}
    options = dict(port=port, port_retries=0, root_dir=top / "nbs")
    flags = [f"--ServerApp.{name}={value}" for name, value in options.items()]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--IdentityProvider.token=", *flags]
    with open(top / "log", "w") as log:
        server = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(480):
            assert server.poll() is None, (top / "log").read_text()
            try:
                urllib.request.urlopen(f"{address}/api/status", timeout=5).close()
                break
            except OSError:
                time.sleep(0.25)
        yield address, top / "nbs"
    finally:
        server.terminate()
        server.wait(20)


def run_all(lab, page, notebook):
    "Opens a notebook in JupyterLab and runs its cells; the list of the browser's errors, and how the notebook begins."
    (address, folder), errors, name = lab, [], f"n{len(list(lab[1].iterdir()))}"
    kernel = dict(kernelspec=dict(display_name="Python 3", language="python", name="python3"))
    (folder / f"{name}.ipynb").write_text(json.dumps(notebook | dict(metadata=kernel)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(f"{address}/lab/workspaces/{name}/tree/{name}.ipynb")
    page.locator(".jp-Notebook .jp-Cell").first.wait_for(timeout=30000)
    page.get_by_text("| Idle").first.wait_for(timeout=60000)  # the kernel is there
    if (dialog := page.locator(".jp-Dialog button.jp-mod-accept")).count():  # on a slow machine it asks which
        dialog.click()
    top = page.locator(".jp-Notebook .jp-Cell").first.inner_text()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    return errors, top


def failed_cells(page):
    return page.locator('[data-mime-type="application/vnd.jupyter.error"]').all_inner_texts()


def test_lab_shows_a_part_in_3d(lab, solid_page, screenshots):
    cell = dict(cell_type="code", id="a0a0a0a0", metadata={}, outputs=[], execution_count=None, source=PART)
    page = solid_page()
    errors, _ = run_all(lab, page, dict(cells=[cell], nbformat=4, nbformat_minor=5))
    canvas = page.locator(".jp-OutputArea canvas").first
    try:
        canvas.wait_for(timeout=120000)
    finally:
        page.screenshot(path=screenshots / "lab.png")
    assert not failed_cells(page) and not errors
    before, after = drag(page, canvas)
    page.screenshot(path=screenshots / "lab.png")
    assert is_drawn(before) and is_drawn(after) and changed(before, after) > 0.02
    page.get_by_role("button", name="wireframe").first.click()
    wires = settled(page, canvas)
    assert changed(after, wires) > 0.02
    page.get_by_role("button", name="wireframe").first.click()
    page.locator(".jp-OutputArea select").first.select_option("x")
    section = settled(page, canvas)
    page.screenshot(path=screenshots / "lab_section.png")
    assert is_drawn(section) and changed(after, section) > 0.02


@pytest.mark.slow
@pytest.mark.parametrize("drawn, said", [
    (dict(views=("front", "top", "right")), dict(language="compact")),
    (dict(views=("sheet",), angle="first"), dict(sample="sheet")),  # of sheets is the chapter's own dataset, too
][:cases(1)])
def test_explorer_opens_a_dataset(lab, root, solid_page, screenshots, tmp_path, drawn, said):
    "All cells of the chapter run; a part is found by its id, and parts by their shape."
    folder = tmp_path / "dataset"
    synthesize(tmp_path / "parts", count=16, workers=1)
    extract(tmp_path / "parts", folder, train_size=10, val_size=2, test_size=2, workers=1)
    render(folder, size=192, workers=1, **drawn)
    convert(folder, workers=1, **said)
    notebook = json.loads((root / "nbs" / "960_explore.ipynb").read_text())
    (choice,) = [c for c in notebook["cells"] if "".join(c["source"]).startswith("MINE = None")]
    choice["source"] = [f"MINE = {str(folder)!r}"]
    notebook["cells"][-1]["source"] = [f"Path({str(tmp_path / 'done')!r}).touch()"]
    page = solid_page()
    errors, top = run_all(lab, page, notebook)
    assert top.strip().startswith("Explore")
    controls = page.locator(".jupyter-widgets")
    try:
        for _ in range(600):
            if (tmp_path / "done").exists() or failed_cells(page):
                break
            page.wait_for_timeout(500)
        assert not failed_cells(page)
        page.get_by_text("| Idle").first.wait_for(timeout=60000)
        parts = table(folder).set_index("id")
        box = controls.locator("input[type=text]").first
        box.fill(parts.index[3])
        box.press("Enter")
        controls.get_by_text(f"1 of {len(parts)} parts").wait_for(timeout=30000)
        page.wait_for_function("document.querySelector('.jupyter-widgets img')?.naturalWidth > 100", timeout=30000)
        box.fill("")
        box.press("Enter")
        controls.get_by_text(f"{len(parts)} of {len(parts)} parts").wait_for(timeout=30000)
        shape = parts["shape"].value_counts().index[0]
        controls.locator("select", has_text="all").first.select_option(shape)
        found = (parts["shape"] == shape).sum()
        controls.get_by_text(f"{found} of {len(parts)} parts").wait_for(timeout=30000)
    finally:
        page.screenshot(path=screenshots / f"explore_{drawn['views'][0]}.png")
    assert not failed_cells(page) and not errors and 1 < found < len(parts)
    assert (tmp_path / "done").exists()
