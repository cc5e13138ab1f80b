"""A student's and an instructor's first minutes in JupyterLab: `make lab`, for real."""

import re
import shutil
import socket
import subprocess
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from grading import Course, release, start
from grading.corpus import written
from grading.lab import command
from grading.notebook import answer_cell, is_check, question, read

ROOT = Path(__file__).resolve().parents[2]
PS, Q = "ps01", "q1"
pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab and the copy of the course that it shows."""

    course: Course
    base: str
    token: str

    def url(self, path: str) -> str:
        """The address of a page, with the token."""
        return f"{self.base}{path}{'&' if '?' in path else '?'}token={self.token}"


@pytest.fixture(scope="module")
def lab(browser: Browser, tmp_path_factory: pytest.TempPathFactory):
    """JupyterLab on a copy of the course, with no settings but the course's own."""
    root = (tmp_path_factory.mktemp("lab") / "course").resolve()
    root.mkdir()
    shutil.copy(ROOT / "nbgrader_config.py", root)
    for folder in ("solutions", "tests/grading/corpus"):
        shutil.copytree(ROOT / folder / PS, root / folder / PS)
    course = Course(root)
    release(PS, course=course)
    start(PS, course=course)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = "for-this-test-only"
    options = [f"--port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}", "--no-browser"]
    words, env = command(course, [*options, "--ServerApp.ip=127.0.0.1", "--allow-root"])
    # Whatever Jupyter remembers of this run, it remembers in a folder that goes away.
    env |= {f"JUPYTER_{name}_DIR": str(root.parent / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    env["IPYTHONDIR"] = str(root.parent / "ipython")
    log = root.parent / "log.txt"
    with log.open("w") as out:
        server = subprocess.Popen(words, cwd=root, env=env, stdout=out, stderr=subprocess.STDOUT)
    running = Lab(course, f"http://127.0.0.1:{port}", token)
    try:
        until = time.monotonic() + 90
        while True:
            try:
                urllib.request.urlopen(running.url("/api/status"), timeout=5).read()
                break
            except OSError:
                assert server.poll() is None, log.read_text()
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.3)
        yield running
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@pytest.fixture
def page(browser: Browser, lab: Lab):
    """A fresh tab; what it asks of other machines, and what it asks for in vain, fails the test."""
    context = browser.new_context(viewport={"width": 1300, "height": 950})
    page = context.new_page()
    page.set_default_timeout(90_000)
    wrong: list[str] = []
    ours = (lab.base, lab.base.replace("http", "ws"), "data:", "blob:", "about:")
    page.on("request", lambda r: wrong.append(f"leaves the machine: {r.url}") if not r.url.startswith(ours) else None)
    page.on("response", lambda r: wrong.append(f"{r.status}: {r.url}") if r.status >= 500 else None)
    yield page
    context.close()
    assert not wrong


def _open(page: Page, lab: Lab) -> None:
    page.goto(lab.url(f"/lab/tree/work/{PS}/{PS}.ipynb?reset"))
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
    # The kernel is there when its status says so; cells run before that would only wait in the dark.
    page.locator(".jp-NotebookPanel-toolbar [data-status=idle]").first.wait_for()


def _cell_with(page: Page, text: str):
    """The code cell with this text; JupyterLab makes cells when they come into view."""
    cell = page.locator(".jp-Notebook .jp-CodeCell", has_text=text).first
    notebook = page.locator(".jp-WindowedPanel-outer").first
    for _ in range(60):
        if cell.count():
            cell.scroll_into_view_if_needed()
            return cell
        notebook.hover()
        page.mouse.wheel(0, 400)
        page.wait_for_timeout(100)
    raise AssertionError(f"no cell with {text!r}")


def _validate(page: Page) -> str:
    page.get_by_role("button", name="Validate").click()
    dialog = page.locator(".jp-Dialog", has_text="Validation Results")
    dialog.wait_for()
    text = dialog.inner_text()
    dialog.get_by_role("button", name="Ok").click()
    return text


def test_a_student_answers_a_question_runs_it_and_validates(lab: Lab, page: Page):
    source, mine = read(lab.course.source(PS)), lab.course.work / PS / f"{PS}.ipynb"
    checks = [c.source for c in read(mine).cells if is_check(c) and question(c) == Q]
    right = next(a for a in written(lab.course, PS, Q) if a.name.startswith("right_"))
    stub = answer_cell(read(mine), Q).source
    _open(page, lab)

    editor = _cell_with(page, stub.splitlines()[0]).locator(".cm-content")
    editor.click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(right.source.strip())
    page.keyboard.press("Escape")
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Above Selected Cell").click()
    page.keyboard.press("Shift+Enter")  # the answer
    page.keyboard.press("Shift+Enter")  # its visible check
    said = re.search(r'print\("(.+?)"\)\s*$', checks[0]).group(1)
    page.locator(".jp-OutputArea-output", has_text=said).wait_for()

    verdict = _validate(page)
    assert answer_cell(read(mine), Q).source.strip() == right.source.strip(), "Validate saves first"
    failed = {
        question(c) for c in source.cells if is_check(c) and c.source.partition("\n")[0] in verdict
    }  # a check's first line survives the release
    assert Q not in failed, verdict
    assert failed == {question(c) for c in source.cells if is_check(c)} - {Q}, "the others are not answered yet"
    assert "NotImplementedError" in verdict


def test_the_extensions_are_there(lab: Lab, page: Page):
    page.goto(lab.url("/lab?reset"))
    page.get_by_role("menuitem", name="Nbgrader").click()
    page.get_by_role("menuitem", name="Assignment List").wait_for()
    page.get_by_role("menuitem", name="Formgrader", exact=True).click()
    frame = page.frame_locator("iframe").first
    frame.get_by_role("link", name=PS, exact=True).wait_for()
    assert frame.get_by_text("is not a subdirectory").count() == 0
    assert page.get_by_text("Jupyter news").count() == 0

    page.get_by_role("menuitem", name="Nbgrader").click()
    page.get_by_role("menuitem", name="Assignment List").click()
    page.get_by_text("There are no assignments to fetch.").wait_for()
