"""One Chromium for the browser tests: Debian's, without access to anything but this machine; and the built website."""

import importlib.util
import os
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, Request, sync_playwright
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = Path("/usr/bin/chromium")
BUILT = Path(os.environ.get("EBM_SITE", ROOT / "_build" / "html"))  # EBM_SITE: test a website built elsewhere


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        message = f"{CHROMIUM} is not installed, so NO BROWSER TEST RUNS: apt-get install chromium"
        warnings.warn(message, stacklevel=1)
        pytest.skip(message)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        yield chromium
        chromium.close()


def pages_of_the_table_of_contents() -> list[str]:
    """Addresses of the pages, relative to the website, as `_toc.yml` promises them."""

    def files(entry: object) -> list[str]:
        if isinstance(entry, list):
            return [name for item in entry for name in files(item)]
        if isinstance(entry, dict):
            return [entry[k] for k in ("root", "file") if k in entry] + files(list(entry.values()))
        return []

    return [f"{name}.html" for name in files(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8")))]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """``chapter_page`` runs over the pages of the chapters, ``other_page`` over the rest, generated ones included."""
    pages = [*pages_of_the_table_of_contents(), "search.html", "genindex.html"]
    in_chapter = re.compile(r"book/(\d\d_|appendix/)")
    for name, wanted in (("chapter_page", True), ("other_page", False)):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, [page for page in pages if bool(in_chapter.match(page)) == wanted])


@dataclass(frozen=True)
class Website:
    """The built website: where it lies, and where it is served."""

    folder: Path
    base: str


@pytest.fixture(scope="session")
def built() -> Path:
    """The folder of the built website; built first if it is not there."""
    if not (BUILT / "index.html").is_file():
        command = [sys.executable, "-m", "jupyter_book", "build", ".", "-W", "-n", "--keep-going", "--quiet"]
        subprocess.run(command, cwd=ROOT, check=True)
    return BUILT


@pytest.fixture(scope="session")
def serve_module():
    """``tools/serve.py`` as a module."""
    spec = importlib.util.spec_from_file_location("serve_tool", ROOT / "tools" / "serve.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def website(built: Path, serve_module) -> Iterator[Website]:
    """The website, served on loopback as ``make serve`` does."""
    server = serve_module.server(built, quiet=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Website(built, f"http://127.0.0.1:{server.server_port}/")
    server.shutdown()
    server.server_close()


WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}

# What a look at the page itself can tell; each finding is one line.
LOOK = """() => {
  const found = [], all = (css) => [...document.querySelectorAll(css)];
  const say = (what, node, text) => found.push(what + ': ' + (text || node.outerHTML).slice(0, 100));
  all('mjx-merror').forEach(n => say('maths error', n, n.textContent));
  all('.bd-article .math').filter(n => !n.querySelector('mjx-container')).forEach(n => say('not typeset', n));
  all('.bd-article img').filter(n => !n.alt.trim()).forEach(n => say('no alternative text', n));
  all('.bd-article img').filter(n => !n.naturalWidth).forEach(n => say('picture does not load', n));
  all('.system-message, .problematic').forEach(n => say('Sphinx complains', n, n.textContent));
  const titles = all('.bd-article h1').length;
  if (titles !== 1 && document.querySelector('.bd-article')) found.push(titles + ' titles');
  const boxes = all('.search-button__button').filter(n => n.offsetParent).length;
  if (boxes !== 1) found.push(boxes + ' search boxes');
  return found;
}"""
SIDEWAYS = """() => {
  const wide = document.documentElement.scrollWidth - innerWidth;
  if (wide <= 0) return [];
  const box = [...document.querySelectorAll('main *')].find(n => n.getBoundingClientRect().right > innerWidth + 1);
  return [`at ${innerWidth} px scrolls sideways by ${wide} px: ` + (box ? box.outerHTML.slice(0, 100) : '')];
}"""
TYPESET = "() => window.MathJax && MathJax.startup ? MathJax.startup.promise.then(() => 0) : 0"


# Left to one test, since they are the same everywhere: MathJax's hundreds of nodes a formula, all in the colour of the
# text around them, and the colours of code and signatures.
ALIKE = ["mjx-container", ".highlight pre", "dt.sig"]


@dataclass
class Reader:
    """Opens pages and collects what is wrong with them."""

    browser: Browser
    website: Website
    contexts: list[BrowserContext] = field(default_factory=list)

    def visit(self, address: str, *, file: bool = False, **options: object) -> tuple[Page, list[str]]:
        """Open a page of the site; returns it and a list that collects all that goes wrong on it, now and later."""
        base = self.website.folder.as_uri() + "/" if file else self.website.base
        self.contexts.append(self.browser.new_context(**({"viewport": WIDE, "color_scheme": "light"} | options)))
        page, wrong = self.contexts[-1].new_page(), []

        def asked(request: Request) -> None:
            if not request.url.startswith((base, "data:", "blob:")):
                wrong.append(f"leaves the machine: {request.url}")

        page.on("request", asked)
        page.on("requestfailed", lambda r: wrong.append(f"failed: {r.url} ({r.failure})"))
        page.on("response", lambda r: wrong.append(f"{r.status}: {r.url}") if r.status >= 400 else None)
        page.on("console", lambda m: wrong.append(f"console: {m.text}") if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: wrong.append(f"script error: {e}"))
        page.goto(base + address, wait_until="load")
        page.evaluate(TYPESET)
        return page, wrong

    def violations(self, page: Page, where: str, *rules: str, but: Sequence[str] = ALIKE) -> list[str]:
        """What axe-core finds serious or critical in the page's content; of all rules, or of these."""
        options: dict[str, object] = {"resultTypes": ["violations"], "preload": False}  # it would fetch styles anew
        if rules:
            options["runOnly"] = {"type": "rule", "values": list(rules)}
        context = {"include": [[where]], "exclude": [[css] for css in but]}
        results = Axe().run(page, context=context, options=options).response
        return [
            f"{v['id']} ({v['impact']}): {node['target']} {node['html'][:100]}"
            for v in results["violations"]
            if v["impact"] in ("serious", "critical")
            for node in v["nodes"][:3]
        ]

    def by_keyboard(self, page: Page) -> list[str]:
        """Live figures whose picture or whose numbers stay as they are when the arrow keys are pressed."""
        still = []
        for number, figure in enumerate(page.locator(".ebm-explorer").all()):
            canvas, numbers = figure.locator("canvas.ebm-map"), figure.locator(".ebm-readout")
            figure.scroll_into_view_if_needed()
            try:  # a figure is drawn when it comes near the window, which takes a moment on a busy machine
                canvas.wait_for(timeout=20_000)
            except PlaywrightTimeoutError:
                still.append(f"live figure {number}: not drawn")
                continue
            canvas.focus()
            before = canvas.evaluate("c => c.toDataURL()"), numbers.inner_text()
            for key in ("ArrowRight", "ArrowUp", "ArrowRight"):
                page.keyboard.press(key)
            page.wait_for_timeout(100)
            after = canvas.evaluate("c => c.toDataURL()"), numbers.inner_text()
            still += [
                f"live figure {number}: its {what} ignore the keyboard"
                for what, old, new in zip(("pixels", "numbers"), before, after, strict=True)
                if old == new
            ]
        return still

    def problems(self, address: str) -> list[str]:
        """One visit: wide and light, then dark, then on a phone; then the same file without a server, by keyboard."""
        page, wrong = self.visit(address)
        content = ".bd-article" if page.locator(".bd-article").count() else "main"
        wrong += page.evaluate(LOOK)
        wrong += page.evaluate(SIDEWAYS)
        page.evaluate("document.querySelectorAll('.bd-article details').forEach(fold => { fold.open = true })")
        wrong += self.violations(page, content)
        page.evaluate("document.documentElement.dataset.theme = 'dark'")
        wrong += [f"dark: {line}" for line in self.violations(page, content, "color-contrast")]
        page.set_viewport_size(PHONE)
        wrong += page.evaluate(SIDEWAYS)
        page, alone = self.visit(address, file=True)
        alone += page.evaluate(LOOK)
        alone += self.by_keyboard(page)
        return list(dict.fromkeys([*wrong, *(f"opened as a file: {line}" for line in alone)]))


@pytest.fixture
def reader(browser: Browser, website: Website) -> Iterator[Reader]:
    """Someone who reads the built website."""
    someone = Reader(browser, website)
    yield someone
    for context in someone.contexts:
        context.close()
