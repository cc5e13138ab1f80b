"""Every page of the built website in a browser: nothing comes from outside, nothing breaks, everyone can use it."""

import shutil
import threading
from collections.abc import Callable, Iterator, Sequence

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

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


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., tuple[Page, list[str]]]]:
    """Open an address; returns the page and a list that collects all that goes wrong on it, now and later."""
    contexts = []

    def go(url: str, allowed: str, **options) -> tuple[Page, list[str]]:
        context = browser.new_context(**({"viewport": WIDE, "color_scheme": "light"} | options))
        contexts.append(context)
        page, wrong = context.new_page(), []

        def asked(request) -> None:
            if not request.url.startswith((allowed, "data:", "blob:")):
                wrong.append(f"leaves the machine: {request.url}")

        page.on("request", asked)
        page.on("requestfailed", lambda r: wrong.append(f"failed: {r.url} ({r.failure})"))
        page.on("response", lambda r: wrong.append(f"{r.status}: {r.url}") if r.status >= 400 else None)
        page.on("console", lambda m: wrong.append(f"console: {m.text}") if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: wrong.append(f"script error: {e}"))
        page.goto(url, wait_until="load")
        page.evaluate(TYPESET)
        return page, wrong

    yield go
    for context in contexts:
        context.close()


# Left to one test, since they are the same everywhere: MathJax's hundreds of nodes a formula, all in the colour of the
# text around them, and the colours of code and signatures.
ALIKE = ["mjx-container", ".highlight pre", "dt.sig"]


def violations(page: Page, where: str, *rules: str, but: Sequence[str] = ALIKE) -> list[str]:
    """What axe-core finds serious or critical in the page's content; of all rules, or of these."""
    options = {"resultTypes": ["violations"], "preload": False}  # preloading would fetch style sheets anew
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


def test_page(address: str, website, visit):
    """One visit: wide and light, then dark, then on a phone; then the same file without a server."""
    page, wrong = visit(website.base + address, website.base)
    content = ".bd-article" if page.locator(".bd-article").count() else "main"
    wrong += page.evaluate(LOOK)
    wrong += page.evaluate(SIDEWAYS)
    page.evaluate("document.querySelectorAll('.bd-article details').forEach(fold => { fold.open = true })")
    wrong += violations(page, content)
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    wrong += [f"dark: {line}" for line in violations(page, content, "color-contrast")]
    page.set_viewport_size(PHONE)
    wrong += page.evaluate(SIDEWAYS)
    assert not wrong, "\n".join(dict.fromkeys(wrong))

    page, wrong = visit((website.folder / address).as_uri(), website.folder.as_uri() + "/")
    wrong += page.evaluate(LOOK)
    assert not wrong, "opened as a file:\n" + "\n".join(dict.fromkeys(wrong))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", ["02_free_energy/02_free_energy", "api/inference"])
def test_code_and_formulas_can_be_read_and_reached(name: str, theme: str, website, visit):
    """On a phone: each colour of code against its ground, and by keyboard whatever scrolls."""
    page, wrong = visit(f"{website.base}book/{name}.html", website.base, color_scheme=theme, viewport=PHONE)
    kinds = page.evaluate("""() => {
      const kinds = new Map();
      const spans = [...document.querySelectorAll('.highlight pre span[class], dt.sig span[class], dt.sig a')];
      spans.reverse().forEach(n => kinds.set(n.tagName + n.className, n));
      kinds.forEach(n => n.setAttribute('data-sample', ''));
      return kinds.size;
    }""")
    assert kinds >= 10
    wrong += violations(page, "[data-sample]", "color-contrast", but=[])
    wrong += violations(page, ".bd-article", "scrollable-region-focusable", but=[])
    assert not wrong, "\n".join(wrong)


def pages_with_explorers(folder) -> list[str]:
    """Addresses of the pages that have a live figure."""
    return sorted(str(p.relative_to(folder)) for p in folder.glob("book/**/*.html") if "ebm-explorer" in p.read_text())


def test_every_explorer_answers_the_keyboard(website, visit):
    """Alone with a keyboard: the picture changes, and so do the numbers beside it."""
    addresses = pages_with_explorers(website.folder)
    assert len(addresses) >= 8, "each page of the course has one"
    wrong = []
    for address in addresses:
        page, noted = visit((website.folder / address).as_uri(), website.folder.as_uri() + "/")
        for number in range(page.locator(".ebm-explorer").count()):
            figure = page.locator(".ebm-explorer").nth(number)
            figure.scroll_into_view_if_needed()
            canvas, numbers = figure.locator("canvas.ebm-map"), figure.locator(".ebm-readout")
            canvas.focus()
            before = canvas.evaluate("c => c.toDataURL()"), numbers.inner_text()
            for key in ("ArrowRight", "ArrowUp", "ArrowRight"):
                page.keyboard.press(key)
            page.wait_for_timeout(100)
            after = canvas.evaluate("c => c.toDataURL()"), numbers.inner_text()
            wrong += [
                f"{address}, {number}: {n}"
                for n, a, b in zip(("pixels", "numbers"), before, after, strict=True)
                if a == b
            ]
            wrong += [f"{address}, {number}: {line}" for line in noted]
    assert not wrong, "\n".join(wrong)


def test_questions_open_without_a_script_or_a_mouse(website, browser: Browser):
    """The answers are found with JavaScript off, by Tab and Enter."""
    context = browser.new_context(java_script_enabled=False, viewport=WIDE)
    page = context.new_page()
    page.goto(website.base + "book/01_energy/02_inference.html")
    option = page.locator(".admonition.check details").first
    assert not option.locator(".sd-summary-content").is_visible()
    option.locator("summary").focus()
    page.keyboard.press("Enter")
    assert option.locator(".sd-summary-content").is_visible()
    context.close()


@pytest.mark.parametrize("served", [True, False], ids=["served", "file"])
def test_search_finds_pages(served: bool, website, visit):
    """A word of the course leads to its pages, with a server and without."""
    base = website.base if served else website.folder.as_uri() + "/"
    page, wrong = visit(base + "search.html?q=energy", base)
    page.wait_for_selector("#search-results li a")
    assert page.locator("#search-results li a").count() >= 5
    page.wait_for_load_state("networkidle")
    if not served:  # a browser lets no file read another one, so that excerpts are missing from the results
        wrong = [line for line in wrong if line.startswith("leaves")]
    assert not wrong, "\n".join(wrong)


def test_dark_and_light_follow_the_system_and_the_button(website, visit):
    """The page starts as the system asks, and the button goes on from there."""
    address = website.base + "book/notation.html"
    for scheme in ("light", "dark"):
        page, wrong = visit(address, website.base, color_scheme=scheme)
        assert page.evaluate("document.documentElement.dataset.theme") == scheme
        grounds = {page.evaluate("getComputedStyle(document.body).backgroundColor")}
        for _ in range(2):
            page.locator("button.theme-switch-button").first.click()
            grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert len(grounds) == 2
        assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("lost", ["nowhere.html", "book/nowhere/at/all.html"])
@pytest.mark.parametrize("prefix", ["", "course/"])
def test_what_is_not_found_leads_back(lost: str, prefix: str, built, serve_module, browser: Browser, tmp_path):
    """At any depth, and when the website lives in a folder of its server, 404.html links to pages that exist."""
    root = built
    if prefix:
        (tmp_path / "course").symlink_to(built)
        shutil.copy(built / "404.html", tmp_path)
        root = tmp_path
    server = serve_module.server(root, quiet=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}/{prefix}"
    context = browser.new_context(viewport=PHONE)
    page = context.new_page()
    foreign = []
    page.on(
        "request", lambda r: None if r.url.startswith(("data:", base[: len(base) - len(prefix)])) else foreign.append(r)
    )
    assert page.goto(base + lost, wait_until="networkidle").status == 404
    assert "local minimum" in page.inner_text("h1")
    for link in page.locator("a").all():
        target = link.evaluate("a => a.href")
        assert target.startswith(base)
        assert context.request.get(target).status == 200
    assert page.evaluate(SIDEWAYS) == []
    assert violations(page, "main") == []
    assert foreign == []
    context.close()
    server.shutdown()
    server.server_close()


def test_serve_says_where_and_refuses_without_a_site(serve_module, tmp_path, capsys):
    """No website, no server: the message says what to run."""
    with pytest.raises(SystemExit, match="2"):
        serve_module.main(["--directory", str(tmp_path)])
    assert "make site" in capsys.readouterr().err
