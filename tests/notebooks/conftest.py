"""The notebooks under test, read once, and the tool that makes them."""

import importlib.util
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["book/[0-9][0-9]_*/[0-9][0-9]_*.ipynb", "book/appendix/*.ipynb"]
EVERYTHING = ["book/**/*.ipynb", "solutions/**/*.ipynb"]


@dataclass(frozen=True)
class Page:
    """A page as the tests look at it."""

    path: Path
    notebook: NotebookNode

    @cached_property
    def code(self) -> list[NotebookNode]:
        """The code cells."""
        return [cell for cell in self.notebook.cells if cell.cell_type == "code"]

    @cached_property
    def text(self) -> str:
        """All Markdown of the page, in order."""
        return "\n\n".join(cell.source for cell in self.notebook.cells if cell.cell_type == "markdown")

    @cached_property
    def prose(self) -> str:
        """The text before the questions at the end, without code, display maths, directives and metadata."""
        text = self.text.split("\n## Check yourself")[0]
        text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
        text = re.sub(r"\$\$.*?\$\$(?: *\([\w-]+\))?", "", text, flags=re.S)
        text = re.sub(r"^(?::::+.*|:[\w-]+:.*|\{[.#][^}]*\})$", "", text, flags=re.M)  # fences, options, attributes
        text = re.sub(r"`[^`]*`", "CODE", re.sub(r"\{[\w:]+\}`[^`]*`", "ROLE", text))
        return re.sub(r"\$[^$]+\$", "FORMULA", re.sub(r"\]\([^)]*\)", "]", text))

    def section(self, heading: str) -> str:
        """The text under a ``##`` heading, or nothing."""
        found = re.search(rf"^## {re.escape(heading)}[ \t]*\n(.*?)(?=^## |\Z)", self.text, flags=re.M | re.S)
        return found[1] if found else ""


@cache
def read(path: Path) -> NotebookNode:
    """The notebook, as stored."""
    return nbformat.read(path, as_version=4)


def find(patterns: list[str]) -> list[Path]:
    """The notebooks of the repository that match."""
    return sorted(p for glob in patterns for p in ROOT.glob(glob) if ".ipynb_checkpoints" not in p.parts)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """``page`` runs over the pages of the chapters, ``any_notebook`` over solutions and front matter too."""
    for name, patterns in (("page", PAGES), ("any_notebook", EVERYTHING)):
        if name in metafunc.fixturenames:
            paths = find(patterns)
            ids = [str(p.relative_to(ROOT)) for p in paths]
            metafunc.parametrize(name, [Page(p, read(p)) for p in paths], ids=ids)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def pages() -> list[Page]:
    """All pages of the chapters."""
    return [Page(p, read(p)) for p in find(PAGES)]


@pytest.fixture(scope="session")
def tool() -> ModuleType:
    """``tools/notebooks.py`` as a module."""
    spec = importlib.util.spec_from_file_location("notebooks_tool", ROOT / "tools" / "notebooks.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def make_notebook(tmp_path: Path) -> Callable[..., Path]:
    """Writes a small notebook of the given code cells and returns its path."""

    def make(*sources: str, name: str = "02_small_page", head: str = "", **metadata: object) -> Path:
        v4 = nbformat.v4
        cells = [v4.new_markdown_cell(f"# Small\n\n{head}")]
        cells += [v4.new_code_cell(source, metadata=metadata) for source in sources]
        path = tmp_path / f"{name}.ipynb"
        nbformat.write(v4.new_notebook(cells=cells), path)
        return path

    return make
