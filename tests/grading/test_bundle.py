"""What students are handed: everything they need, and not a line of what is not theirs."""

import errno
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from grading.bundle import NAME, bundle, contents
from grading.course import GradingError
from grading.notebook import grade_id, read

_REGION = re.compile(r"### BEGIN (?:SOLUTION|HIDDEN TESTS)\n(.*?)### END", re.DOTALL)
_TELLING = 20  # characters of a line that can be recognised


@pytest.fixture(scope="module")
def archive(course, tmp_path_factory):
    return bundle(course, tmp_path_factory.mktemp("bundle") / "course.zip")


@pytest.fixture(scope="module")
def unpacked(archive):
    with zipfile.ZipFile(archive) as z:
        z.extractall(archive.parent)
    return archive.parent / NAME


def _secrets(course):
    """The lines of each solution and hidden test that are in no released notebook, by set and cell."""
    shown = {
        line.strip() for ps in course.sets() for c in read(course.released(ps)).cells for line in c.source.splitlines()
    }
    for ps in course.sets():
        for cell in read(course.source(ps)).cells:
            for n, region in enumerate(_REGION.findall(cell.source)):
                lines = {x.strip() for x in region.splitlines()} - shown
                lines = {x for x in lines if len(x) >= _TELLING}
                if lines:
                    yield f"{ps} {grade_id(cell)} {n}", lines


def _words(path):
    """A file's lines as they would be in a cell, whether it is text or a notebook."""
    text = path.read_bytes().decode("utf-8", "ignore")
    if path.suffix == ".ipynb":
        text += "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
    return {line.strip() for line in text.splitlines()}


def test_no_solution_and_no_hidden_test_is_in_it(course, unpacked):
    """A line or two are anybody's (`with torch.no_grad():`); a region of which more is found has been given away."""
    secrets = dict(_secrets(course))
    assert len(secrets) > 30
    found = []
    for path in filter(Path.is_file, unpacked.rglob("*")):
        words = _words(path)
        for where, lines in secrets.items():
            if len(lines & words) > 2 or lines <= words:
                found.append(f"{where}: {path.relative_to(unpacked)}")
    assert not found


def test_the_search_would_find_them(course):
    """The test above sees a solution or a hidden test where there is one."""
    secrets = dict(_secrets(course))
    for ps in course.sets():
        words = _words(course.source(ps))
        assert all(lines <= words for where, lines in secrets.items() if where.startswith(ps))


def test_what_is_in_it(course, unpacked):
    inside = {p.relative_to(unpacked).as_posix() for p in unpacked.rglob("*") if p.is_file()}
    assert {f"exercises/{ps}/{ps}.ipynb" for ps in course.sets()} <= inside
    assert {"README.md", "LICENSE", "LICENSE-text.md", "ebm_lib/energy.py", "nbgrader_config.py"} <= inside
    assert {p.split("/")[0] for p in inside if "/" in p} <= {"exercises", "ebm_lib", "book", "grading", "site"}
    assert not [p for p in inside if "contract.json" in p or "__pycache__" in p or "/." in p]
    assert "$" not in (unpacked / "README.md").read_text()
    if (course.root / "_build" / "html" / "index.html").is_file():
        assert "site/index.html" in inside


def test_the_same_files_give_the_same_bytes(tiny):
    archive = bundle(tiny.course)
    assert archive == tiny.course.root / "_build" / f"{NAME}.zip"
    before = archive.read_bytes()
    for path in tiny.course.exercises.rglob("*.ipynb"):
        os.utime(path, (1e9, 1e9))
    assert bundle(tiny.course).read_bytes() == before
    with zipfile.ZipFile(archive) as z:
        assert sorted(z.namelist()) == z.namelist()
        assert f"{NAME}/exercises/ps90/ps90.ipynb" in z.namelist()
        assert not [name for name in z.namelist() if "solutions" in name or "corpus" in name]


def test_what_is_in_it_is_told(tiny, archive, course):
    assert re.fullmatch(r"ps90; no website \(`make site` first\); 0\.\d MB", contents(bundle(tiny.course)))
    page = tiny.course.root / "_build" / "html" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("<h1>Tiny</h1>")
    (tiny.course.root / "ebm_lib").mkdir()
    (tiny.course.root / "ebm_lib" / "energy.py").write_text("")
    assert contents(bundle(tiny.course)).startswith("ps90, library, website; 0.")
    assert contents(archive).startswith(f"{', '.join(course.sets())}, library, pages")


def test_where_it_cannot_be_written_nothing_is_left(tiny, tmp_path, monkeypatch):
    with pytest.raises(GradingError, match=rf"{tmp_path} is a folder: name a file"):
        bundle(tiny.course, tmp_path)
    beside = _files(tmp_path)
    file = tmp_path / "file"
    file.write_text("in the way")
    with pytest.raises(GradingError, match="the archive cannot be written to .*file/course.zip: "):
        bundle(tiny.course, file / "course.zip")
    assert _files(tmp_path) - beside == {file}

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(GradingError, match="course.zip: No space left on device"):
        bundle(tiny.course, tmp_path / "course.zip")
    assert _files(tmp_path) - beside == {file}


def _files(folder):
    return set(folder.rglob("*"))


def test_its_readme_says_how_to_hand_in(unpacked):
    text = (unpacked / "README.md").read_text()
    assert "Give the notebook `work/ps01/ps01.ipynb` to your instructor" in text
    assert "No command here sends anything" in text


def test_links_and_hidden_files_stay_out(tiny, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("not for students")
    folder = tiny.course.exercises / "ps90"
    (folder / "notes.txt").symlink_to(secret)
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / ".ipynb_checkpoints" / "ps90-checkpoint.ipynb").write_text("{}")
    with zipfile.ZipFile(bundle(tiny.course)) as z:
        assert [n for n in z.namelist() if "/exercises/" in n] == [f"{NAME}/exercises/ps90/ps90.ipynb"]


def test_an_instructors_notebook_among_the_exercises_is_refused(tiny):
    released = tiny.course.released("ps90")
    released.write_bytes(tiny.course.source("ps90").read_bytes())
    with pytest.raises(GradingError, match=r"exercises/ps90/ps90.ipynb is not for students.*BEGIN SOLUTION"):
        bundle(tiny.course)
    assert not (tiny.course.root / "_build").exists()
    released.unlink()
    with pytest.raises(GradingError, match="no problem set is released"):
        bundle(tiny.course)


def test_a_student_can_start_and_grade_with_what_is_in_it(unpacked):
    """In the archive's own folder its own code runs, without anything of the course's."""

    def run(*words):
        done = subprocess.run(
            [sys.executable, *words], cwd=unpacked, capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = run("-c", "import ebm_lib, grading; print(ebm_lib.__file__); print(grading.__file__)").split()
    assert all(Path(p).is_relative_to(unpacked) for p in where)
    assert "work/ps01/ps01.ipynb: new" in run("-m", "grading", "start")
    said = run("-m", "grading", "self", "ps01")
    assert "q1  0 / 3: Not answered yet" in said
    assert "0 of 17 points by checks, those that you can see" in said
    assert "Not answered yet" in (unpacked / "work" / "ps01" / "feedback.html").read_text()
    assert not (unpacked / "gradebook.db").exists()
    assert not (unpacked / "grades").exists()
