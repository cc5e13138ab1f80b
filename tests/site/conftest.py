"""One Chromium for the browser tests: Debian's, without access to anything but this machine; and the built website."""

import importlib.util
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

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
    import yaml

    def files(entry: object) -> list[str]:
        if isinstance(entry, list):
            return [name for item in entry for name in files(item)]
        if isinstance(entry, dict):
            return [entry[k] for k in ("root", "file") if k in entry] + files(list(entry.values()))
        return []

    return [f"{name}.html" for name in files(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8")))]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """``address`` runs over every page of the website, the generated ones included."""
    parametrised = any("address" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize"))
    if "address" in metafunc.fixturenames and not parametrised:
        metafunc.parametrize("address", [*pages_of_the_table_of_contents(), "search.html", "genindex.html"])


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
