"""No page of the built site is wider than a window or a phone, and no picture is missing.

    python -m tox run -e docs && python -m tox run -e thorough -- tests/docs/test_widths.py

`KERAS_LOCAL_HTML` names the folder of another build.
"""

from __future__ import annotations

import functools
import json
import os
import queue
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SITE = Path(os.environ.get("KERAS_LOCAL_HTML", ROOT / "docs" / "_build" / "html"))
WIDTHS = (1280, 390)
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")

HARNESS = """<!doctype html><title>pages</title><body style="margin:0"><script>
const pause = (time) => new Promise((done) => setTimeout(done, time));
const scrolls = (one) => /auto|scroll/.test(getComputedStyle(one).overflowX);
const named = (one) => `${one.tagName.toLowerCase()}.${one.className}`;
const said = (one) => `${named(one)} ${one.textContent.trim().slice(0, 60)}`;

function outside(root, width) { // What reaches out of the window, and is in nothing that scrolls.
  const found = [];
  for (const one of root.querySelectorAll("article *")) {
    let above = one.parentElement;
    while (above && !scrolls(above)) above = above.parentElement;
    if (!above && one.getBoundingClientRect().right > width + 1) found.push(said(one));
  }
  return found;
}

function hidden(root) { // What is wider than its box, and can be seen in no way.
  const clips = (one) => /hidden|clip/.test(getComputedStyle(one).overflowX);
  const wide = (one) => one.clientWidth > 1 && one.scrollWidth > one.clientWidth + 1;
  const all = [...root.querySelectorAll("article *")].filter((one) => clips(one) && wide(one));
  return all.filter((one) => !one.closest("mjx-container")).map(said); // MathJax hides its MathML.
}

async function measure(page, width) {
  const frame = document.createElement("iframe");
  frame.style = `width:${width}px;height:900px;border:0`;
  frame.src = "/" + page;
  const loaded = new Promise((done) => (frame.onload = done));
  document.body.replaceChildren(frame);
  await loaded;
  const root = frame.contentDocument;
  for (const image of root.images) image.loading = "eager";
  await Promise.all([...root.images].map((image) => image.decode().catch(() => null)));
  await frame.contentWindow.MathJax?.startup?.promise;
  await pause(20);
  return {
    page, width,
    wide: root.documentElement.scrollWidth - width,
    outside: outside(root, width), hidden: hidden(root),
    missing: [...root.images].filter((image) => !image.naturalWidth).map((image) => image.src),
  };
}

async function all() {
  const asked = await (await fetch("/asked")).json();
  for (const [page, width] of asked) {
    const found = await measure(page, width);
    await fetch("/found", { method: "POST", body: JSON.stringify(found) });
  }
}
all();
</script>"""


def pages(site: Path) -> list[str]:
    """Return the pages of a site; not those that Sphinx makes for its search alone."""
    found = (path.relative_to(site).as_posix() for path in site.rglob("*.html"))
    return sorted(page for page in found if not page.startswith("_"))


class Handler(SimpleHTTPRequestHandler):
    """Serves the site and a page that measures it, and hands on what that page found."""

    asked: list[tuple[str, int]]
    found: queue.Queue[dict[str, Any]]

    def do_GET(self) -> None:
        if self.path == "/measure":
            return self.answer(HARNESS, "text/html")
        if self.path == "/asked":
            return self.answer(json.dumps(self.asked), "application/json")
        return super().do_GET()

    def do_POST(self) -> None:
        self.found.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.answer("", "text/plain")

    def answer(self, text: str, kind: str) -> None:
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def measured(site: Path, scratch: Path) -> Iterator[dict[str, Any]]:
    """Open each page in a headless browser at each width, and say what was found."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("needs Chromium")
    asked = [(page, width) for width in WIDTHS for page in pages(site)]
    results: queue.Queue[dict[str, Any]] = queue.Queue()
    handler = type("Bound", (Handler,), {"asked": asked, "found": results})
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1400,1000"]
    address = f"http://127.0.0.1:{server.server_port}/measure"
    process = subprocess.Popen(
        [browser, *flags, f"--user-data-dir={scratch}", "--remote-debugging-port=0", address],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in asked:
            yield results.get(timeout=120)
    finally:
        process.terminate()
        process.wait(30)
        server.shutdown()


def complaints(site: Path, scratch: Path) -> list[str]:
    """Return a line for each page that is cut or too wide, or misses a picture."""
    found = []
    for each in measured(site, scratch):
        parts = [f"{each['wide']} pixels too wide"] if each["wide"] > 0 else []
        parts += [
            f"{kind}: {'; '.join(each[kind][:3])}"
            for kind in ("outside", "hidden", "missing")
            if each[kind]
        ]
        if parts:
            found.append(f"{each['page']} at {each['width']}: {', '.join(parts)}")
    return found


@pytest.mark.thorough
@pytest.mark.timeout(1800)
def test_no_page_is_wider_than_the_window(tmp_path: Path) -> None:
    if not pages(SITE):
        pytest.skip("needs the built site: tox -e docs")
    found = complaints(SITE, tmp_path)
    assert not found, "\n".join(found)


@pytest.mark.thorough
def test_what_does_not_fit_is_noticed(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    head = "<!doctype html><body><article>"
    wide = "<div style='width:600px'>x</div>"
    (site / "fits.html").write_text(head + "x")
    (site / "scrolls.html").write_text(f"{head}<div style='overflow-x:auto'>{wide}</div>")
    (site / "wide.html").write_text(head + wide)
    (site / "cut.html").write_text(f"{head}<div style='overflow:hidden'>{wide}</div>")
    (site / "picture.html").write_text(head + "<img src='none.png'>")
    found = complaints(site, tmp_path / "browser")
    at = sorted(line.split(":")[0] for line in found)
    both = [f"picture.html at {width}" for width in WIDTHS]
    assert at == sorted(["wide.html at 390", "cut.html at 390", *both])
