"""What students do to notebooks, and what comes of it."""

import copy
import json
import os
import socket
import time

import nbformat
import pytest

from grading.collect import HandedIn, collect, students, timestamp
from grading.contract import Contract
from grading.course import GradingError
from grading.gradebook import enter_set, gradebook
from grading.intake import Submission, examined, mend, take_in, task, understand, whole
from grading.loading import load
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
    assert notes == [
        "3 checks (q1_check, q2_part, q2_nine) and 3 given cells (intro, imports, q1_text) were missing and were put "
        "back."
    ]


def test_another_set_with_the_same_names_is_refused(tiny):
    nb = tiny.answered(**tiny.right)
    for cell in nb.cells:
        if cell.metadata.get("nbgrader") and not is_answer(cell):
            cell.source = f"{cell.source} and so on"
    with pytest.raises(GradingError, match="another set's notebook"):
        mend(nb, tiny.release)
    _cell(nb, "q2_nine").source = _cell(tiny.release, "q2_nine").source
    _, notes = mend(nb, tiny.release)
    assert notes == [
        "2 checks (q1_check, q2_part) and 3 given cells (intro, imports, q1_text) were not as the set has it now "
        "(changed, or handed out before the set was): the set's own counted."
    ]


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


PUT_BACK = (
    "The check q1_check was not as the set has it now (changed, or handed out before the set was): the set's own "
    "counted."
)
SETTINGS = "The settings of the check q1_check (its points, or what it is) were put back."


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (lambda cell: cell.metadata.nbgrader.update(points=200), [SETTINGS]),
        (lambda cell: cell.metadata.update(tags=["skip-execution"]), []),  # nbclient would skip it: full marks
        (lambda cell: cell.metadata.nbgrader.update(grade=False, locked=False), [SETTINGS]),
        (lambda cell: cell.metadata.nbgrader.update(schema_version=1), []),
        (lambda cell: cell.metadata.nbgrader.update(solution=True), [SETTINGS]),
        (lambda cell: cell.metadata.nbgrader.update(checksum="0" * 32), []),
        # A check that anything passes, alone and with more points for it.
        (lambda cell: cell.update(source="assert True"), [PUT_BACK]),
        (lambda cell: (cell.update(source="assert True"), cell.metadata.nbgrader.update(points=9)), [PUT_BACK]),
        (lambda cell: cell.update(cell_type="markdown"), []),
    ],
)
def test_a_checks_metadata_and_source_are_those_of_the_release(tiny, tamper, said):
    nb = tiny.answered(**tiny.right)
    tamper(_cell(nb, "q1_check"))
    mended, notes = mend(nb, tiny.release)
    assert _cell(mended, "q1_check") == _cell(tiny.release, "q1_check")
    assert notes == said


@pytest.mark.parametrize(
    ("name", "made", "said"),
    [
        ("q1", "markdown", "turned into a text cell. It was run and read as code"),
        ("q1", "raw", "turned into a raw text cell. It was run and read as code"),
        ("q3", "code", "turned into a code cell. It was run and read as text"),
        ("q3", "raw", "turned into a raw text cell. It was run and read as text"),
    ],
)
def test_an_answer_of_another_type_becomes_what_it_was_and_the_student_hears_of_it(tiny, name, made, said):
    nb = tiny.answered(**tiny.right)
    i = _at(nb, name)
    make = getattr(nbformat.v4, f"new_{made}_cell")
    nb.cells[i] = make(nb.cells[i].source, metadata=nb.cells[i].metadata, id=nb.cells[i].id)
    mended, (note,) = mend(nb, tiny.release)
    assert said in note
    assert _cell(mended, name).cell_type == _cell(tiny.release, name).cell_type
    assert _cell(mended, name).source == tiny.right[name]
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
        ("", "empty"),
        (" \n", "empty"),
        ("{nope", r"not valid JSON \(line 1\)"),
        ('{"nbformat": 4, "cells": [', r"not valid JSON \(line 1\)"),
        ("[" * 100_000, "not valid JSON"),
        ('{"a":' * 100_000, "not valid JSON"),
        ("1" * 10_000, "not valid JSON"),
        ("[1, 2]", "not a valid notebook"),
        ("null", "not a valid notebook"),
        ('{"nbformat": 4, "nbformat_minor": 5, "metadata": {}}', "has no list of cells"),
        ('{"nbformat": 4, "cells": {"0": 1}}', "has no list of cells"),
        ('{"nbformat": "4", "cells": []}', "does not say in which format"),
        ('{"nbformat": true, "cells": []}', "does not say in which format"),
        ('{"nbformat": 3, "worksheets": 7}', "not a valid notebook"),
        ('{"nbformat": 3}', "not a valid notebook|another notebook"),
        ('{"nbformat": -1, "cells": []}', "not a valid notebook|another notebook"),
        ('{"nbformat": 99, "nbformat_minor": 0, "metadata": {}, "cells": []}', "newer than 4"),
        ('{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{"cell_type": "code"}]}', "another notebook"),
        ('{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [7]}', "another notebook"),
        ('{"nbformat": 4, "cells": []}', "another notebook"),
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
    monkeypatch.setattr("grading.collect._LARGEST_NOTEBOOK", 1000)
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
    tiny.submit("bo", "{cut off", name="PS90.ipynb")
    with pytest.raises(GradingError, match=r"no ps90.ipynb: PS90.ipynb is not a notebook: it is not valid JSON"):
        _take(tiny, "bo")


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
    assert submission.files == {"data.txt": b"mine"}
    assert "stolen.txt was left out: it is a link; hand in the file itself." in submission.notes
    assert "dir was left out: it is a link; hand in the file itself." in submission.notes
    (tiny.course.submitted / "eve").symlink_to(tiny.course.submitted / "anna")
    with pytest.raises(GradingError, match="the folder is a link"):
        _take(tiny, "eve")
    (tiny.course.submitted / "zoe").mkdir()
    (tiny.course.submitted / "zoe" / "ps90").symlink_to(folder)
    with pytest.raises(GradingError, match="ps90/ is a link"):
        _take(tiny, "zoe")
    (tiny.course.submitted / "mallory" / "ps90").mkdir(parents=True)
    (tiny.course.submitted / "mallory" / "ps90" / "ps90.ipynb").symlink_to(tiny.course.source("ps90"))
    with pytest.raises(GradingError, match=r"ps90.ipynb is a link"):
        _take(tiny, "mallory")


def test_a_link_that_takes_a_files_place_at_the_last_moment_is_not_followed(tiny, monkeypatch):
    """Whatever a look said before, the open itself refuses a link."""
    path = tiny.submit("anna", tiny.release)
    secret = tiny.course.root / "secret.ipynb"
    secret.write_bytes(path.read_bytes())
    real = os.listdir

    def swap(where):
        names = real(where)
        if path.exists() and not path.is_symlink() and "ps90.ipynb" in names:
            path.unlink()
            path.symlink_to(secret)
        return names

    monkeypatch.setattr(os, "listdir", swap)
    with pytest.raises(GradingError, match=r"ps90.ipynb is a link"):
        collect(tiny.course, "ps90", "anna")


def test_pipes_sockets_and_folders_do_not_hang(tiny):
    def folder(student):
        path = tiny.course.submitted / student / "ps90"
        path.mkdir(parents=True)
        return path

    begun = time.monotonic()
    os.mkfifo(folder("pipe") / "ps90.ipynb")
    (folder("dir") / "ps90.ipynb").mkdir()
    where = os.getcwd()
    try:
        os.chdir(folder("socket"))  # the path of a socket is short
        with socket.socket(socket.AF_UNIX) as s:
            s.bind("ps90.ipynb")
            with pytest.raises(GradingError, match=r"ps90.ipynb cannot be read: "):
                _take(tiny, "socket")
    finally:
        os.chdir(where)
    with pytest.raises(GradingError, match=r"ps90.ipynb is a device or pipe, not a file."):
        _take(tiny, "pipe")
    with pytest.raises(GradingError, match=r"ps90.ipynb is a folder, not a file."):
        _take(tiny, "dir")
    tiny.submit("anna", tiny.release)
    os.mkfifo(tiny.course.submitted / "anna" / "ps90" / "data.csv")
    submission = _take(tiny, "anna")
    assert submission.files == {}
    assert submission.notes == ["data.csv was left out: it is a device or pipe, not a file."]
    (tiny.course.submitted / "file").mkdir()
    (tiny.course.submitted / "file" / "ps90").write_text("{}")
    with pytest.raises(GradingError, match=r"ps90/ cannot be opened as a folder"):
        _take(tiny, "file")
    assert time.monotonic() - begun < 10


def test_what_may_not_be_read_is_refused_with_the_reason(tiny, monkeypatch):
    tiny.submit("anna", tiny.release)
    real = os.open

    def refuse(name, *args, **kwargs):
        if name == "ps90.ipynb":
            raise PermissionError(13, "Permission denied")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuse)  # permissions mean nothing to root
    with pytest.raises(GradingError, match=r"ps90.ipynb cannot be read: Permission denied."):
        _take(tiny, "anna")


def test_files_beside_the_notebook_have_limits(tiny, monkeypatch):
    path = tiny.submit("anna", tiny.release).parent
    (path / "a b").mkdir()
    (path / "a b" / "ü.csv").write_bytes(b"12345")
    (path / ".hidden").write_bytes(b"x")
    (path / "__pycache__").mkdir()
    (path / "__pycache__" / "x.pyc").write_bytes(b"x")
    for name in ("line\nbreak", "back\\slash", "bell\a", os.fsdecode(b"\xff.csv"), "right\u202eleft"):
        (path / name).write_bytes(b"x")
    submission = _take(tiny, "anna")
    assert submission.files == {"a b/ü.csv": b"12345"}
    assert len([n for n in submission.notes if "characters that no file's name should have" in n]) == 5
    assert all(note.isprintable() for note in submission.notes)
    with monkeypatch.context() as m:
        m.setattr("grading.collect._LARGEST_FILES", 4)
        with pytest.raises(GradingError, match="the files beside the notebook have more than 0 MB"):
            _take(tiny, "anna")
    with monkeypatch.context() as m:
        m.setattr("grading.collect._MOST_FILES", 0)
        with pytest.raises(GradingError, match="more than 0 files"):
            _take(tiny, "anna")
    deep = path.joinpath(*["d"] * 40)
    deep.mkdir(parents=True)
    with pytest.raises(GradingError, match="folders inside each other"):
        _take(tiny, "anna")


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


def test_a_name_longer_than_the_gradebooks_column(tiny):
    tiny.submit("x" * 129, tiny.release)
    with pytest.raises(GradingError, match="at most 128 characters"):
        _take(tiny, "x" * 129)


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
    first = collect(tiny.course, "ps90", "anna").digest()
    assert collect(tiny.course, "ps90", "anna").digest() == first
    extra = tiny.course.submitted / "anna" / "ps90" / "data.txt"
    extra.write_text("1")
    second = collect(tiny.course, "ps90", "anna").digest()
    extra.write_text("2")
    third = collect(tiny.course, "ps90", "anna").digest()
    extra.rename(extra.with_name("other.txt"))
    assert len({first, second, third, collect(tiny.course, "ps90", "anna").digest()}) == 4


def test_reading_gives_the_same_notebook_twice(tiny):
    """Ids that an editor left out are not drawn at random: a submission would never count as unchanged."""
    raw = json.loads(nbformat.writes(tiny.release))
    for cell in raw["cells"]:
        del cell["id"]
    path = tiny.submit("anna", json.dumps(raw | {"nbformat_minor": 4}))
    assert read(path) == read(path)
    assert _take(tiny, "anna").notebook == _take(tiny, "anna").notebook


# --- what editors do -----------------------------------------------------------------------------------------------
def _raw(tiny):
    return json.loads(nbformat.writes(tiny.answered(**tiny.right)))


def _taken(tiny, raw, **kwargs):
    text = raw if isinstance(raw, str) else json.dumps(raw, **kwargs)
    tiny.submit("anna", text)
    submission = _take(tiny, "anna")
    nbformat.validate(submission.notebook)
    return submission


def test_outputs_are_not_taken_along(tiny):
    raw = _raw(tiny)
    raw["cells"][1]["outputs"] = [{"output_type": "nonsense", "x": [1] * 1000}]
    raw["cells"][1]["execution_count"] = "many"
    submission = _taken(tiny, raw)
    assert all(not c.outputs and c.execution_count is None for c in submission.notebook.cells if "outputs" in c)
    assert submission.notes == []


def test_a_byte_order_mark_nan_and_doubled_keys(tiny):
    raw = _raw(tiny)
    raw["cells"][2]["metadata"]["x"] = float("nan")
    raw["metadata"]["y"] = float("inf")
    text = json.dumps(raw).replace('"nbformat": 4', '"nbformat": 3, "nbformat": 4')
    submission = _taken(tiny, "\ufeff" + text)
    assert submission.notes == []
    assert "NaN" not in nbformat.writes(submission.notebook)


def test_sources_as_lists_missing_or_null(tiny):
    raw = _raw(tiny)
    raw["cells"].append({"cell_type": "code", "metadata": {}, "source": ["a = 1\n", 7, "b = 2"]})
    raw["cells"].append({"cell_type": "code"})
    raw["cells"].append({"cell_type": "markdown", "source": None, "metadata": None})
    submission = _taken(tiny, raw)
    assert [c.source for c in submission.notebook.cells[-3:]] == ["a = 1\nb = 2", "", ""]
    assert submission.notes == []


def test_cells_that_are_none_are_left_out_and_reported(tiny):
    raw = _raw(tiny)
    n = len(raw["cells"])
    raw["cells"] += [7, None, {"cell_type": "heading", "source": "x"}, {"cell_type": "code", "source": {"a": 1}}]
    submission = _taken(tiny, raw)
    assert len(submission.notebook.cells) == n
    assert submission.notes == [f"Cell {n + i} of the file is no cell and was left out." for i in (1, 2, 3, 4)]


def test_half_characters_are_replaced(tiny):
    raw = _raw(tiny)
    raw["cells"].append({"cell_type": "code", "source": "x = '\ud83d'"})
    submission = _taken(tiny, raw)
    assert submission.notebook.cells[-1].source == "x = '?'"
    assert "half of one" in submission.notes[0]
    nbformat.writes(submission.notebook).encode()


def test_strange_ids_metadata_and_attachments(tiny):
    raw = _raw(tiny)
    for extra in ({"id": "a b"}, {"id": 7}, {"id": ""}, {"id": "x" * 65}, {"id": "cell-0"}, {"id": "ü"}):
        raw["cells"].append({"cell_type": "markdown", "source": "x", "metadata": [], "attachments": {"a": 1}, **extra})
    submission = _taken(tiny, raw)
    assert len({c.id for c in submission.notebook.cells}) == len(raw["cells"])


def test_ten_thousand_cells(tiny):
    raw = _raw(tiny)
    raw["cells"] += [{"cell_type": "code", "source": f"x = {i}"} for i in range(10_000)]
    begun = time.process_time()
    assert len(_taken(tiny, raw).notebook.cells) == len(raw["cells"])
    assert time.process_time() - begun < 20


# --- for the examiner ----------------------------------------------------------------------------------------------
def test_what_the_examiner_runs_is_what_nbgrader_would(tiny):
    """The cells that nbgrader puts into a submission before it runs are those in its gradebook."""
    enter_set(tiny.course, "ps90")
    with gradebook(tiny.course) as book:
        kept = {c.name: (c.source, c.checksum) for c in book.find_notebook("ps90", "ps90").source_cells}
    nb = tiny.answered(**tiny.right)
    nb.cells.append(nbformat.v4.new_code_cell("mine = 1"))
    tiny.submit("anna", nb)
    submission = understand(collect(tiny.course, "ps90", "anna"), tiny.release)
    made = examined(submission.notebook, whole(tiny.course, "ps90"))
    nbformat.validate(made)
    assert {grade_id(c) for c in made.cells} - {None} == set(kept)
    for cell in made.cells:
        name = grade_id(cell)
        if name in kept and not is_answer(cell):
            assert (cell.source, cell.metadata.nbgrader.checksum) == kept[name]
        elif name in kept:
            assert (cell.source, cell.metadata.nbgrader.checksum) == (tiny.right[name], kept[name][1])
    assert "double(21)" in _cell(made, "q1_check").source
    assert "double(21)" not in nbformat.writes(submission.notebook)
    assert made.cells[-1].source == "mine = 1"


@pytest.mark.parametrize(
    ("text", "late", "time", "notes"),
    [
        (None, "timestamp", None, 0),
        ("", "timestamp", None, 0),
        ("2030-01-02 03:04:05 UTC", "timestamp", "2030-01-02T03:04:05", 0),
        ("2030-01-02T05:04:05+02:00", "timestamp", "2030-01-02T03:04:05", 0),
        ("yesterday", "timestamp", None, 1),
        ("9" * 400, "timestamp", None, 1),
        (None, "file", "2001-09-09T01:46:40", 0),
        ("2030-01-02 03:04:05", "file", "2030-01-02T03:04:05", 0),
        ("\x00", "file", "2001-09-09T01:46:40", 1),
    ],
)
def test_when_it_was_handed_in(tiny, text, late, time, notes):
    path = tiny.submit("anna", tiny.release)
    os.utime(path, (1e9, 1e9))
    if text is not None:
        path.with_name("timestamp.txt").write_text(text)
    when, said = timestamp(collect(tiny.course, "ps90", "anna"), late)
    assert (when and when.isoformat()) == time
    assert len(said) == notes


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([{}] * 30_000, "has 30,000 cells; 20,000 are the most"),
        ([{"cell_type": "raw", "source": ""}] * 30_000, "has 30,000 cells; 20,000 are the most"),
        ([{"cell_type": "raw", "source": ["x" * 100] * 60_000}], "has 6,000,000 characters in its cells"),
    ],
)
def test_what_would_hold_up_everybody_else_is_refused(tiny, cells, said):
    raw = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}
    with pytest.raises(GradingError, match=said):
        load(json.dumps(raw).encode(), "ps90.ipynb")
    for old in (
        {"nbformat": 3, "nbformat_minor": 0, "metadata": {}, "worksheets": [{"cells": cells, "metadata": {}}]},
        {"nbformat": 2, "metadata": {}, "worksheets": [{"cells": []}, {"cells": cells}]},
        {"nbformat": 1, "cells": cells},
    ):
        with pytest.raises(GradingError, match=said):
            load(json.dumps(old).encode(), "ps90.ipynb")


def test_notes_stay_readable_whatever_was_handed_in(tiny):
    nb = tiny.answered(**tiny.right)
    raw = json.loads(nbformat.writes(nb))
    raw["cells"] += [{}] * 500
    found = HandedIn("anna", "ps90", {"ps90.ipynb": json.dumps(raw).encode()}, notes=["x" * 100_000] * 3)
    notes = understand(found, tiny.release).notes
    assert len(notes) == 21
    assert notes[-1] == "And 481 more."
    assert max(map(len, notes)) < 500


@pytest.mark.parametrize("content", ["1." * 50_000, "1." * 49, "9" * 99, "1e999999", "tomorrow"])
def test_no_time_takes_long_to_read(content):
    begun = time.monotonic()
    found = HandedIn("anna", "ps90", files={"timestamp.txt": content.encode()})
    when, (note,) = timestamp(found, "timestamp")
    assert when is None
    assert "does not hold a time" in note
    assert time.monotonic() - begun < 1


def test_a_path_that_is_too_long_is_refused(tiny):
    notebook = tiny.submit("anna", tiny.answered(**tiny.right))
    deep = notebook.parent.joinpath(*["d" * 200] * 3)
    deep.mkdir(parents=True)
    (deep / "x").write_text("")
    with pytest.raises(GradingError, match="has more than 500 characters"):
        take_in(tiny.course, "ps90", "anna", tiny.release)


def test_links_without_end_are_refused(tiny):
    notebook = tiny.submit("anna", tiny.answered(**tiny.right))
    for i in range(2100):
        (notebook.parent / f"link{i}").symlink_to("nowhere")
    with pytest.raises(GradingError, match="more than 2,000 files"):
        take_in(tiny.course, "ps90", "anna", tiny.release)


def test_a_file_in_the_place_of_one_of_the_set_s_folders(tiny):
    files = {"a": b"1", "given.csv/x": b"2", "b": b"3"}
    given = {"a/y": b"4", "given.csv": b""}
    one = task(Submission("anna", tiny.release, files), "ps90", tiny.release, Contract({}), given)
    assert one.files == {"b": b"3"}
