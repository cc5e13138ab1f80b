"""What a student does: take a copy, hand it in."""

import nbformat
import pytest

from grading.course import GradingError
from grading.notebook import read
from grading.student import hand_in, start


def test_a_copy_to_work_on_is_made_once(tiny):
    mine = tiny.course.work / "ps90" / "ps90.ipynb"
    assert start(course=tiny.course) == {mine: "new"}
    assert mine.read_bytes() == tiny.course.released("ps90").read_bytes()
    nbformat.write(tiny.answered(**tiny.right), mine)
    assert start("ps90", course=tiny.course) == {mine: "kept"}
    assert read(mine) == tiny.answered(**tiny.right)


def test_an_older_copy_is_kept_and_said_to_be_old(tiny):
    from grading.student_version import release

    (mine,) = start(course=tiny.course)
    tiny.edit_source(lambda nb: nb.cells[4].update(source=nb.cells[4].source.replace("Small", "Little")))
    release("ps90", course=tiny.course)
    assert start(course=tiny.course) == {mine: "kept, older than the release"}
    mine.write_text("{damaged")
    assert start(course=tiny.course) == {mine: "kept"}
    assert mine.read_text() == "{damaged"


def test_handing_in(tiny):
    (mine,) = start(course=tiny.course)
    nbformat.write(tiny.answered(**tiny.right), mine)
    target = hand_in("ps90", "anna", course=tiny.course)
    assert target == tiny.course.submitted / "anna" / "ps90" / "ps90.ipynb"
    assert target.read_bytes() == mine.read_bytes()
    with pytest.raises(GradingError, match="belong to the sample students"):
        hand_in("ps90", "sample-perfect", course=tiny.course)
    mine.write_text("{nope")
    with pytest.raises(GradingError, match="not valid JSON"):
        hand_in("ps90", "bo", course=tiny.course)
    assert not (tiny.course.submitted / "bo").exists()


def test_the_exercises_are_never_worked_in(tiny):
    """A student who follows the instructions leaves nothing for git to see outside work/ and submitted/."""
    before = {p: p.read_bytes() for p in tiny.course.exercises.rglob("*") if p.is_file()}
    (mine,) = start(course=tiny.course)
    mine.write_text(mine.read_text().replace("YOUR CODE HERE", "mine"))
    hand_in("ps90", "anna", course=tiny.course)
    assert {p: p.read_bytes() for p in tiny.course.exercises.rglob("*") if p.is_file()} == before
