"""The built files themselves: links and anchors lead somewhere, nothing names this machine, the site is complete."""

import getpass
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

TEXT = {".html", ".js", ".css", ".json", ".md", ".ipynb", ".svg", ".txt", ".map"}
ROOT = Path(__file__).resolve().parents[2]


class Links(HTMLParser):
    """The addresses a page points to, and the anchors it offers."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[tuple[str, str, str]] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors |= {given[k] for k in ("id", "name") if given.get(k)}
        self.targets += [(tag, k, given[k]) for k in ("href", "src") if given.get(k)]


@pytest.fixture(scope="module")
def parsed(built: Path) -> dict[Path, Links]:
    """Every page of the website."""
    pages = {}
    for path in built.rglob("*.html"):
        if "_static" not in path.parts:
            pages[path] = Links()
            pages[path].feed(path.read_text(encoding="utf-8"))
    assert len(pages) > 20
    return pages


def test_links_and_anchors_resolve(parsed: dict[Path, Links], built: Path):
    """Within the site, every link leads to a file, and its fragment to an anchor in that file."""
    broken = []
    for page, links in parsed.items():
        if page.name == "404.html":  # its links are absolute; the browser test follows them
            continue
        for _, _, address in links.targets:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            fragment = unquote(parts.fragment)
            if not target.is_file():
                broken.append(f"{page.relative_to(built)}: {address}")
            elif fragment and target in parsed and fragment not in parsed[target].anchors:
                broken.append(f"{page.relative_to(built)}: {address} (no such anchor)")
    assert not broken, "\n".join(sorted(set(broken)))


def test_pages_load_nothing_from_outside(parsed: dict[Path, Links], built: Path):
    """Links may lead out; scripts, styles, pictures and frames may not, even where no browser test looks."""
    loading = {"script", "img", "iframe", "source", "video", "audio", "embed", "object", "use"}
    foreign = [
        f"{page.relative_to(built)}: <{tag}> {address}"
        for page, links in parsed.items()
        for tag, _, address in links.targets
        if tag in loading and urlsplit(address).scheme not in ("", "data")
    ]
    assert not foreign, "\n".join(foreign)


def test_nothing_names_the_building_machine(built: Path):
    """No path of the repository or the home folder is published."""
    forbidden = {str(ROOT), str(Path.home()), f"/home/{getpass.getuser()}"} - {"/"}
    named = [
        f"{path.relative_to(built)}: {word}"
        for path in built.rglob("*")
        if path.suffix in TEXT and path.is_file() and "vendor" not in path.parts
        for word in forbidden
        if f"{word}/" in path.read_text(encoding="utf-8", errors="replace")
    ]
    assert not named, "\n".join(named)


def test_every_notebook_can_be_downloaded(built: Path, parsed: dict[Path, Links]):
    """The button at the top of a page hands out the very notebook."""
    notebooks = [p for p in (ROOT / "book").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts]
    assert len(notebooks) >= 9
    for notebook in notebooks:
        name = notebook.relative_to(ROOT)
        offered = built / "_sources" / name
        assert offered.is_file(), f"{name} is not offered: run `make site`"
        assert offered.read_bytes() == notebook.read_bytes(), f"{name} has changed since: run `make site`"
        targets = parsed[built / name.with_suffix(".html")].targets
        assert any(address.endswith(f"_sources/{name}") for _, _, address in targets)


def test_maths_is_served_from_here(built: Path):
    """MathJax with its fonts, its extensions and its licence."""
    vendored = built / "_static" / "vendor" / "mathjax"
    assert (vendored / "LICENSE").is_file()
    assert len(list((vendored / "output/chtml/fonts/woff-v2").glob("*.woff"))) == 23
    used = [p for p in built.rglob("book/**/*.html") if 'class="math' in p.read_text()]
    assert len(used) >= 8
    assert all("vendor/mathjax/tex-chtml.js" in p.read_text() for p in used)


def test_numbers_are_those_of_the_folders(built: Path):
    """Page `05_regularized/02_pca` is called 5.2, and its figures and equations begin with 5."""
    lessons = sorted(built.glob("book/[0-9][0-9]_*/[0-9][0-9]_*.html"))
    assert lessons
    for lesson in lessons:
        chapter, page = int(lesson.parent.name[:2]), int(lesson.name[:2])
        text = lesson.read_text(encoding="utf-8")
        assert f"<title>{chapter}.{page}. " in text, lesson.name
        numbers = re.findall(r'caption-number">Fig\. (\d+)\.|class="eqno">\((\d+)\.', text)
        assert numbers, lesson.name
        assert {figure or equation for figure, equation in numbers} == {str(chapter)}, lesson.name
