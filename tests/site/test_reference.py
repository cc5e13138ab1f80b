"""The rest of the website in a browser: front matter, the library's reference, search, themes, what is not found."""

import shutil
import threading

import pytest
from playwright.sync_api import Browser

pytestmark = pytest.mark.browser

PHONE = {"width": 390, "height": 844}


def test_page(other_page: str, reader):
    """Requests, errors, maths, pictures, contrast, width: with a server and without."""
    wrong = reader.problems(other_page)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", ["02_free_energy/02_free_energy", "api/inference"])
def test_code_and_formulas_can_be_read_and_reached(name: str, theme: str, reader):
    """On a phone: each colour of code against its ground, and by keyboard whatever scrolls."""
    page, wrong = reader.visit(f"book/{name}.html", color_scheme=theme, viewport=PHONE)
    kinds = page.evaluate("""() => {
      const kinds = new Map();
      const spans = [...document.querySelectorAll('.highlight pre span[class], dt.sig span[class], dt.sig a')];
      spans.reverse().forEach(n => kinds.set(n.tagName + n.className, n));
      kinds.forEach(n => n.setAttribute('data-sample', ''));
      return kinds.size;
    }""")
    assert kinds >= 10
    wrong += reader.violations(page, "[data-sample]", "color-contrast", but=[])
    wrong += reader.violations(page, ".bd-article", "scrollable-region-focusable", but=[])
    assert not wrong, "\n".join(wrong)


def test_questions_open_without_a_script_or_a_mouse(website, browser: Browser):
    """The answers are found with JavaScript off, by Tab and Enter."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(website.base + "book/01_energy/02_inference.html")
    option = page.locator(".admonition.check details").first
    assert not option.locator(".sd-summary-content").is_visible()
    option.locator("summary").focus()
    page.keyboard.press("Enter")
    assert option.locator(".sd-summary-content").is_visible()
    context.close()


@pytest.mark.parametrize("served", [True, False], ids=["served", "file"])
def test_search_finds_pages(served: bool, reader):
    """A word of the course leads to its pages, with a server and without."""
    page, wrong = reader.visit("search.html?q=energy", file=not served)
    page.wait_for_selector("#search-results li a")
    assert page.locator("#search-results li a").count() >= 5
    page.wait_for_load_state("networkidle")
    if not served:  # a browser lets no file read another one, so that excerpts are missing from the results
        wrong = [line for line in wrong if line.startswith("leaves")]
    assert not wrong, "\n".join(wrong)


def test_dark_and_light_follow_the_system_and_the_button(reader):
    """The page starts as the system asks, and the button goes on from there."""
    for scheme in ("light", "dark"):
        page, wrong = reader.visit("book/notation.html", color_scheme=scheme)
        assert page.evaluate("document.documentElement.dataset.theme") == scheme
        grounds = {page.evaluate("getComputedStyle(document.body).backgroundColor")}
        for _ in range(2):
            page.locator("button.theme-switch-button").first.click()
            grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert len(grounds) == 2
        assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("lost", ["nowhere.html", "book/nowhere/at/all.html"])
@pytest.mark.parametrize("prefix", ["", "course/"])
def test_what_is_not_found_leads_back(lost: str, prefix: str, built, serve_module, reader, tmp_path):
    """At any depth, and when the website lives in a folder of its server, 404.html links to pages that exist."""
    root = built
    if prefix:
        (tmp_path / "course").symlink_to(built)
        shutil.copy(built / "404.html", tmp_path)
        root = tmp_path
    server = serve_module.server(root, quiet=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}/{prefix}"
    context = reader.browser.new_context(viewport=PHONE)
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
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert reader.violations(page, "main") == []
    assert foreign == []
    context.close()
    server.shutdown()
    server.server_close()


def test_serve_says_where_and_refuses_without_a_site(serve_module, tmp_path, capsys):
    """No website, no server: the message says what to run."""
    with pytest.raises(SystemExit, match="2"):
        serve_module.main(["--directory", str(tmp_path)])
    assert "make site" in capsys.readouterr().err
