"""What students do to notebooks, and what comes of it."""

import copy
import json

import nbformat
import pytest

from grading.course import GradingError
from grading.intake import mend, students, take_in
from grading.notebook import grade_id, is_answer, read


def _names(nb):
    return [grade_id(cell) for cell in nb.cells]


def _at(nb, name):
    return _names(nb).index(name)


def _cell(nb, name):
    return nb.cells[_at(nb, name)]


def test_an_untouched_notebook_needs_no_mending(tiny):
    nb, notes = mend(tiny.release, tiny.release)
    assert notes == []
    assert nb == tiny.release


def test_a_right_notebook_keeps_answers_and_own_cells(tiny):
    nb = tiny.answered(**tiny.right)
    nb.cells.insert(4, nbformat.v4.new_code_cell("helper = 1", id="own"))
    mended, notes = mend(nb, tiny.release)
    assert notes == []
    assert [c.source for c in mended.cells] == [c.source for c in nb.cells]


@pytest.mark.parametrize("name", ["q1", "q1_check", "imports", "q2_nine", "q3", "intro"])
def test_a_deleted_cell_is_put_back_in_its_place(tiny, name):
    nb = tiny.answered(**tiny.right)
    del nb.cells[_at(nb, name)]
    mended, (note,) = mend(nb, tiny.release)
    assert _names(mended) == _names(tiny.release)
    assert _cell(mended, name) == _cell(tiny.release, name)
    assert note.endswith(f"{name} was missing and was put back.")


def test_all_that_can_be_deleted_is_put_back_in_order(tiny):
    nb = tiny.answered(**tiny.right)
    nb.cells = [c for c in nb.cells if is_answer(c)]
    mended, notes = mend(nb, tiny.release)
    assert [n for n in _names(mended) if n] == [n for n in _names(tiny.release) if n]
    assert _cell(mended, "q2").source == tiny.right["q2"]
    assert len(notes) == len(set(_names(tiny.release)) - {None, "q1", "q2", "q3"})


def test_of_a_copied_answer_the_last_one_counts_and_both_run(tiny):
    nb = tiny.answered(**tiny.right)
    first = copy.deepcopy(_cell(nb, "q1"))
    first.source = "def double(x):\n    return 0"
    nb.cells.insert(_at(nb, "q1"), first)
    nb.cells[_at(nb, "q1") + 1].id = first.id  # some editors copy the cell's id as well
    mended, notes = mend(nb, tiny.release)
    assert notes == ["There were two cells q1: the last one counts."]
    sources = [c.source for c in mended.cells if "def double" in c.source]
    assert sources == [first.source, tiny.right["q1"]]
    assert _cell(mended, "q1").source == tiny.right["q1"]
    assert len({c.id for c in mended.cells}) == len(mended.cells)
    nbformat.validate(mended)


@pytest.mark.parametrize(
    "tamper",
    [
        lambda cell: cell.metadata.nbgrader.update(points=200),
        lambda cell: cell.metadata.update(tags=["skip-execution"]),  # nbclient would skip it: no error, full marks
        lambda cell: cell.metadata.nbgrader.update(grade=False, locked=False),
        lambda cell: cell.metadata.nbgrader.update(schema_version=1),
        lambda cell: cell.metadata.nbgrader.update(solution=True),
        lambda cell: cell.metadata.nbgrader.update(checksum="0" * 32),
        lambda cell: cell.update(source="assert True"),
        lambda cell: cell.update(cell_type="markdown"),
    ],
)
def test_a_checks_metadata_and_source_are_those_of_the_release(tiny, tamper):
    nb = tiny.answered(**tiny.right)
    tamper(_cell(nb, "q1_check"))
    mended, notes = mend(nb, tiny.release)
    assert _cell(mended, "q1_check") == _cell(tiny.release, "q1_check")
    changed = _cell(nb, "q1_check").source != _cell(tiny.release, "q1_check").source
    assert notes == (["The check q1_check had been changed and was put back."] if changed else [])


def test_an_answer_turned_to_markdown_becomes_code_again(tiny):
    nb = tiny.answered(**tiny.right)
    i = _at(nb, "q1")
    nb.cells[i] = nbformat.v4.new_markdown_cell(nb.cells[i].source, metadata=nb.cells[i].metadata, id=nb.cells[i].id)
    mended, _ = mend(nb, tiny.release)
    assert _cell(mended, "q1").cell_type == "code"
    assert _cell(mended, "q1").source == tiny.right["q1"]
    nbformat.validate(mended)


def test_lost_metadata_is_found_again_by_cell_id(tiny):
    nb = tiny.answered(**tiny.right)
    for cell in nb.cells:
        cell.metadata.pop("nbgrader", None)
    mended, notes = mend(nb, tiny.release)
    assert _names(mended) == _names(tiny.release)
    assert _cell(mended, "q1").source == tiny.right["q1"]
    assert notes == []


def test_marks_of_another_set_are_dropped(tiny):
    nb = tiny.answered(**tiny.right)
    stray = copy.deepcopy(_cell(nb, "q1_check"))
    stray.metadata.nbgrader.grade_id, stray.id = "q7_check", "stray"
    nb.cells.append(stray)
    mended, _ = mend(nb, tiny.release)
    assert "nbgrader" not in mended.cells[-1].metadata


def test_another_notebook_is_refused(tiny):
    other = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 + 1")])
    with pytest.raises(GradingError, match="this is another notebook"):
        mend(other, tiny.release)


# --- files ---------------------------------------------------------------------------------------------------------
def _take(tiny, student):
    return take_in(tiny.course, "ps90", student, tiny.release)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not valid JSON"),
        ("{nope", r"not valid JSON \(line 1\)"),
        ("[" * 100_000, "not valid JSON"),
        ("[1, 2]", "not a valid notebook"),
        ('{"nbformat": 4, "nbformat_minor": 5, "metadata": {}}', "not a valid notebook"),
        ('{"nbformat": 99, "nbformat_minor": 0, "metadata": {}, "cells": []}', "not a valid notebook"),
        ('{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{"cell_type": "code"}]}', "not a valid noteb"),
        ('{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [7]}', "not a valid notebook"),
    ],
)
def test_what_is_no_notebook_is_refused_in_one_line(tiny, text, reason):
    tiny.submit("anna", text)
    with pytest.raises(GradingError, match=reason) as caught:
        _take(tiny, "anna")
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text(tiny):
    tiny.submit("anna", "").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(GradingError, match="not UTF-8"):
        _take(tiny, "anna")


def test_too_large_a_notebook(tiny, monkeypatch):
    monkeypatch.setattr("grading.notebook._LARGEST", 1000)
    tiny.submit("anna", tiny.release)
    with pytest.raises(GradingError, match="clear its outputs"):
        _take(tiny, "anna")


def test_strange_marks_do_not_confuse(tiny):
    nb = json.loads(nbformat.writes(tiny.answered(**tiny.right)))
    nb["cells"][0]["metadata"]["nbgrader"] = "what"
    nb["cells"][1]["metadata"]["nbgrader"] = {"grade_id": 7}
    nb["cells"][2]["metadata"]["nbgrader"] = {"grade_id": "q1_check"}
    tiny.submit("anna", json.dumps(nb))
    assert _names(_take(tiny, "anna").notebook).count("q1_check") == 1


def test_an_old_notebook_format_is_brought_up(tiny):
    nb = nbformat.convert(tiny.answered(**tiny.right), 3)
    tiny.submit("anna", nbformat.writes(nb, version=nbformat.NO_CONVERT))
    submission = _take(tiny, "anna")
    assert _names(submission.notebook) == _names(tiny.release)
    assert _cell(submission.notebook, "q1").source.strip() == tiny.right["q1"].strip()


def test_a_renamed_notebook_is_recognised(tiny):
    tiny.submit("anna", tiny.answered(**tiny.right), name="ps90 (1).ipynb")
    tiny.submit("anna", nbformat.v4.new_notebook(), name="scratch.ipynb")
    submission = _take(tiny, "anna")
    assert submission.notes == ["ps90 (1).ipynb was taken for ps90.ipynb."]
    tiny.submit("anna", tiny.answered(), name="ps90-final.ipynb")
    with pytest.raises(GradingError, match=r"several notebooks could be ps90.ipynb"):
        _take(tiny, "anna")


def test_no_notebook(tiny):
    (tiny.course.submitted / "anna" / "ps90").mkdir(parents=True)
    with pytest.raises(GradingError, match=r"no notebook: it belongs at submitted/anna/ps90/ps90.ipynb"):
        _take(tiny, "anna")
    tiny.submit("bo", nbformat.v4.new_notebook(), name="scratch.ipynb")
    with pytest.raises(GradingError, match=r"no ps90.ipynb: scratch.ipynb is something else"):
        _take(tiny, "bo")


def test_links_lead_nowhere(tiny):
    secret = tiny.course.root / "gradebook.db"
    secret.write_text("secret")
    tiny.submit("anna", tiny.release)
    folder = tiny.course.submitted / "anna" / "ps90"
    (folder / "data.txt").write_text("mine")
    (folder / "stolen.txt").symlink_to(secret)
    (folder / "dir").symlink_to(tiny.course.solutions)
    submission = _take(tiny, "anna")
    assert list(submission.files) == ["data.txt"]
    assert "stolen.txt is a link and was left out." in submission.notes
    (tiny.course.submitted / "eve").symlink_to(tiny.course.submitted / "anna")
    with pytest.raises(GradingError, match="the folder is a link"):
        _take(tiny, "eve")
    (tiny.course.submitted / "mallory" / "ps90").mkdir(parents=True)
    (tiny.course.submitted / "mallory" / "ps90" / "ps90.ipynb").symlink_to(tiny.course.source("ps90"))
    with pytest.raises(GradingError, match="no notebook"):
        _take(tiny, "mallory")


@pytest.mark.parametrize("name", ["anna", "müller.anna@example.org", "Anna Müller_42", "=SUM(1)", "@x", "-x", "+x"])
def test_good_names(tiny, name):
    tiny.submit(name, tiny.release)
    assert _take(tiny, name).student == name
    assert students(tiny.course, "ps90") == [name]


@pytest.mark.parametrize("name", ["<b>x</b>", "a*b", "a[b]", 'a"b', "a\nb", "a{x}b", "a;b", "$(ls)", "x "])
def test_names_that_mean_something_elsewhere_are_refused(tiny, name):
    tiny.submit(name, tiny.release)
    with pytest.raises(GradingError, match="cannot be a student's name"):
        _take(tiny, name)


def test_who_handed_in(tiny):
    for ps in ("ps90", "ps91"):
        (tiny.course.solutions / ps).mkdir(exist_ok=True)
        (tiny.course.solutions / ps / f"{ps}.ipynb").write_bytes(tiny.course.source("ps90").read_bytes())
    tiny.submit("anna", tiny.release)
    (tiny.course.submitted / "other-set-only" / "ps91").mkdir(parents=True)
    (tiny.course.submitted / "empty").mkdir()
    (tiny.course.submitted / "loose").mkdir()
    (tiny.course.submitted / "loose" / "ps90.ipynb").write_text("{}")
    (tiny.course.submitted / ".hidden").mkdir()
    (tiny.course.submitted / "a-file").write_text("")
    assert students(tiny.course, "ps90") == ["anna", "empty", "loose"]


def test_the_fingerprint_changes_with_what_was_handed_in(tiny):
    tiny.submit("anna", tiny.release)
    first = _take(tiny, "anna").digest()
    assert _take(tiny, "anna").digest() == first
    extra = tiny.course.submitted / "anna" / "ps90" / "data.txt"
    extra.write_text("1")
    second = _take(tiny, "anna").digest()
    extra.write_text("2")
    assert len({first, second, _take(tiny, "anna").digest()}) == 3


def test_reading_gives_the_same_notebook_twice(tiny):
    """Ids that an editor left out are not drawn at random: a submission would never count as unchanged."""
    raw = json.loads(nbformat.writes(tiny.release))
    for cell in raw["cells"]:
        del cell["id"]
    path = tiny.submit("anna", json.dumps(raw | {"nbformat_minor": 4}))
    assert read(path) == read(path)
