"""The site and JupyterLab in a real browser. Screenshots are kept in build/screenshots/, to be looked at.

Nothing is installed here: the tests need chromium, playwright and, one of them, JupyterLab, and are skipped without.
"""
import io, json, os, shutil, socket, subprocess, sys, threading, time, urllib.request
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install 'cadvlm[dev]'")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="needs a browser: apt-get install chromium")
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="session")
def screenshots(root):
    folder = root / "build" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def site(root, tmp_path_factory):
    "The folder of the site, built once from a copy of the project, however many processes run the tests."
    top = tmp_path_factory.getbasetemp()
    top = top.parent if "PYTEST_XDIST_WORKER" in os.environ else top
    copy = top / "site"
    with FileLock(top / "site.lock"):
        if not copy.exists():
            copy.mkdir()
            for name in ("settings.ini", "pyproject.toml", "_quarto.yml", "nbs", "cadvlm", "tools"):
                shutil.copytree(root / name, copy / name, symlinks=True) if (root / name).is_dir() else shutil.copy(root / name, copy)
            env = {k: v for k, v in os.environ.items() if k != "IN_TEST"} | {"PYTHONPATH": str(copy)}
            made = subprocess.run([sys.executable, "tools/build_site.py"], cwd=copy, env=env, capture_output=True, text=True)
            (copy / "log").write_text(made.stdout + made.stderr)
    assert (copy / "_docs" / "index.html").exists(), (copy / "log").read_text()
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
def browser():
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"])
        yield chromium
        chromium.close()


def watched(browser, address, viewport=DESKTOP, **options):
    "A page, and the list of what goes wrong in it: errors, and requests to other hosts."
    page, troubles = browser.new_page(viewport=viewport, **options), []
    page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
    page.on("console", lambda said: said.type == "error" and troubles.append(f"console: {said.text} {said.location}"))
    page.on("request", lambda asked: asked.url.startswith((address, "data:", "blob:", "about:")) or troubles.append(f"request: {asked.url}"))
    return page, troubles


def pixels(shot):
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(int)


def drag(page, canvas):
    "Drag across a canvas; pictures of it before and after."
    canvas.scroll_into_view_if_needed()
    page.wait_for_timeout(1500)
    before, box = pixels(canvas.screenshot()), canvas.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 90, y + 30, steps=6)
    page.mouse.up()
    page.wait_for_timeout(800)
    return before, pixels(canvas.screenshot())


def is_drawn(image):
    "Something with light, shadow and lines, in front of paper."
    return len(np.unique(image.reshape(-1, 3), axis=0)) > 20 and .01 < (image.min(axis=2) < 240).mean() < .9


def changed(a, b):
    "Share of pixels that differ."
    return (np.abs(a - b).max(axis=2) > 30).mean()


def test_every_page_loads_by_itself(site, address, browser):
    page, troubles = watched(browser, address)
    names = sorted(p.relative_to(site).as_posix() for p in site.rglob("*.html"))
    assert {"index.html", "report.html", "explore.html", "view.html", "api.html"} <= set(names)
    for name in names:
        page.goto(f"{address}/{name}", wait_until="load")
    assert not troubles


def test_pages_fit_a_phone(site, address, browser, screenshots):
    page, _ = watched(browser, address, PHONE, device_scale_factor=2)
    wide = []
    for path in sorted(site.glob("*.html")):
        page.goto(f"{address}/{path.name}", wait_until="load")
        if page.evaluate("document.documentElement.scrollWidth") > PHONE["width"] + 1:
            wide.append(path.name)
        if path.stem in ("index", "explore", "drawing"):
            page.screenshot(path=screenshots / f"{path.stem}_phone.png")
    assert not wide


def test_light_and_dark(address, browser, screenshots):
    page, _ = watched(browser, address)
    for name in ("index", "explore", "api"):
        shade = []
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.goto(f"{address}/{name}.html", wait_until="load")
            page.screenshot(path=screenshots / f"{name}_{scheme}.png")
            shade.append(page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + +b, 0) / 3"))
        assert shade[0] > 230 and shade[1] < 70
    page.emulate_media(color_scheme="light")
    page.goto(f"{address}/index.html")
    page.locator(".quarto-color-scheme-toggle:visible").first.click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"


def test_search_finds_project(address, browser, screenshots):
    page, troubles = watched(browser, address)
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


def test_scene_of_the_site_can_be_turned(address, browser, screenshots):
    page, troubles = watched(browser, address)
    page.goto(f"{address}/explore.html", wait_until="load")
    frame = page.locator("iframe.scene").first
    frame.scroll_into_view_if_needed()
    before, after = drag(page, page.frame_locator("iframe.scene").first.locator("canvas"))
    page.screenshot(path=screenshots / "scene.png")
    assert is_drawn(before) and is_drawn(after) and changed(before, after) > .02 and not troubles


def test_the_report_is_a_page_of_its_own(root, browser, tmp_path, screenshots):
    from cadvlm.app.report import report_page
    (tmp_path / "report.html").write_text(report_page(json.loads((root / "data" / "results" / "report.json").read_text())))
    for viewport, scheme in ((DESKTOP, "light"), (PHONE, "dark")):
        page, troubles = watched(browser, "file:", viewport)
        page.emulate_media(color_scheme=scheme)
        page.goto(f"file://{tmp_path}/report.html", wait_until="load")
        page.screenshot(path=screenshots / f"report_{scheme}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"] + 1
        assert page.evaluate("[...document.images].every(image => image.naturalWidth > 500)") and page.locator("h2").count() == 15
        assert not troubles


ALL_RAN = r"""count => {
    const prompts = [...document.querySelectorAll('.jp-CodeCell .jp-InputArea-prompt')].map(prompt => prompt.textContent);
    const errors = document.querySelector('[data-mime-type="application/vnd.jupyter.error"]');
    return errors || prompts.length >= count && prompts.every(text => /\[\d+\]/.test(text));
}"""


@pytest.fixture
def lab(root, tmp_path):
    "The address of JupyterLab with a copy of the chapters."
    pytest.importorskip("jupyterlab", reason="needs JupyterLab: pip install 'cadvlm[lab]'")
    pytest.importorskip("pythreejs", reason="needs pythreejs: pip install 'cadvlm[lab]'")
    shutil.copytree(root / "nbs", tmp_path / "nbs", ignore=shutil.ignore_patterns("_quarto.yml"))
    settings = tmp_path / "settings" / "@jupyterlab" / "notebook-extension" / "tracker.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"windowingMode": "none"}')  # every cell is in the page, also those below the window
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = os.environ | {"JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings"), "JUPYTER_CONFIG_DIR": str(tmp_path / "config"), "PYTHONPATH": str(root), "TQDM_DISABLE": "1"}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--ServerApp.port={port}", "--ServerApp.port_retries=0", "--IdentityProvider.token=", f"--ServerApp.root_dir={tmp_path / 'nbs'}"]
    with open(tmp_path / "log", "w") as log:
        server = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(120):
            assert server.poll() is None, (tmp_path / "log").read_text()
            try:
                urllib.request.urlopen(f"{address}/api/status", timeout=2).close()
                break
            except OSError:
                time.sleep(.25)
        yield address, tmp_path / "nbs"
    finally:
        server.terminate()
        server.wait(20)


def test_lab_runs_the_explorer(lab, browser, screenshots):
    address, folder = lab
    page, _ = watched(browser, address)
    page.goto(f"{address}/lab/tree/91_explore.ipynb")
    page.locator(".jp-Notebook .jp-Cell").first.wait_for(timeout=30000)
    file = folder / "91_explore.ipynb"
    code = [c for c in json.loads(file.read_text())["cells"] if c["cell_type"] == "code"]
    page.get_by_text("| Idle").first.wait_for(timeout=30000)  # the kernel is there
    if (dialog := page.locator(".jp-Dialog button.jp-mod-accept")).count():  # on a slow machine it asks which
        dialog.click()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    try:
        page.wait_for_function(ALL_RAN, arg=len(code), timeout=60000)
    finally:
        page.screenshot(path=screenshots / "lab.png")
    assert page.locator('[data-mime-type="application/vnd.jupyter.error"]').count() == 0
    canvas = page.locator(".jp-OutputArea canvas").first
    before, after = drag(page, canvas)
    page.screenshot(path=screenshots / "lab.png")
    assert is_drawn(before) and is_drawn(after) and changed(before, after) > .02
    page.get_by_role("button", name="wireframe").first.click()
    page.wait_for_timeout(1000)
    wires = pixels(canvas.screenshot())
    assert changed(after, wires) > .02
    page.get_by_role("button", name="wireframe").first.click()
    page.locator(".jp-OutputArea select").first.select_option("x")
    page.wait_for_timeout(1500)
    section = pixels(canvas.screenshot())
    page.screenshot(path=screenshots / "lab_section.png")
    assert is_drawn(section) and changed(after, section) > .02
