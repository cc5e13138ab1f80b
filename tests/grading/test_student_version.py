"""What students are handed: the same bytes as a fresh release, and nothing they should not see."""

import copy
import re

import nbformat
import pytest
from nbgrader.apps.api import NbGraderAPI

from grading.course import Course, GradingError
from grading.gradebook import gradebook
from grading.notebook import (
    answer_cell,
    code_questions,
    grade_id,
    is_answer,
    is_check,
    is_given,
    is_manual,
    marked,
    points,
    question,
    questions,
    read,
)
from grading.quiet import quietly
from grading.student_version import fresh, release


def _lines(text: str) -> set[str]:
    return {line.strip() for line in text.splitlines() if len(line.strip()) > 12}


# --- the course's own sets -----------------------------------------------------------------------------------------
def test_exercises_equal_a_fresh_release(course, ps):
    made = fresh(course, ps)
    folder = course.exercises / ps
    kept = {
        str(p.relative_to(folder)): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and not any(part.startswith(".") for part in p.relative_to(folder).parts)
    }
    assert sorted(kept) == sorted(made)
    different = [name for name in made if kept[name] != made[name]]
    assert not different, f"run `make release`: {different}"


def test_release_holds_no_solution_and_no_hidden_test(course, ps):
    source, text = read(course.source(ps)), course.released(ps).read_text(encoding="utf-8")
    released = "\n".join(cell.source for cell in read(course.released(ps)).cells)
    assert "HIDDEN TESTS" not in text
    assert "SOLUTION" not in text
    secret = set()
    for cell in source.cells:
        for kind in ("HIDDEN TESTS", "SOLUTION"):
            for part in re.findall(rf"### BEGIN {kind}\n(.*?)### END {kind}", cell.source, re.DOTALL):
                secret |= _lines(part)
    assert secret
    open_to_all = set()
    for cell in source.cells:
        rest = re.sub(r"### BEGIN (HIDDEN TESTS|SOLUTION)\n.*?### END \1", "", cell.source, flags=re.DOTALL)
        open_to_all |= _lines(rest)
    leaked = (secret - open_to_all) & _lines(released)
    assert not leaked


def test_metadata_is_sound(course, ps):
    nb = read(course.source(ps))
    names = [grade_id(cell) for cell in marked(nb)]
    assert len(names) == len(set(names))
    ids = [cell.id for cell in nb.cells]
    assert len(ids) == len(set(ids))
    by_checks = sum(points(c) for c in nb.cells if is_check(c))
    by_hand = sum(points(c) for c in nb.cells if is_manual(c))
    assert by_checks + by_hand == 20
    assert 16 <= by_checks <= 18
    assert 4 <= len(questions(nb)) <= 6
    assert len(questions(nb)) - len(code_questions(nb)) == 1, "one question is open"
    for cell in nb.cells:
        assert not (is_given(cell) and question(cell))
        if is_check(cell):
            assert question(cell), grade_id(cell)
            assert points(cell) > 0
            assert cell.source.startswith("# "), f"{grade_id(cell)}: the first line says what is checked"


def test_each_coded_question_can_be_answered_and_checked_at_once(course, ps):
    nb = read(course.source(ps))
    released = {grade_id(cell): cell for cell in marked(read(course.released(ps)))}
    for q in code_questions(nb):
        stub = released[grade_id(answer_cell(nb, q))].source
        assert "raise NotImplementedError()" in stub
        checks = [released[grade_id(c)].source for c in nb.cells if is_check(c) and question(c) == q]
        assert any("expect_" in source for source in checks), f"{q}: no visible check"
        hidden = [c for c in nb.cells if is_check(c) and question(c) == q and "### BEGIN HIDDEN TESTS" in c.source]
        assert hidden, f"{q}: no hidden test"


def test_checks_compare_with_expect_close_and_friends(course, ps):
    """``allclose`` passes an empty tensor, a bare ``<`` or ``not (x > tol).any()`` passes NaN."""
    for cell in read(course.source(ps)).cells:
        if is_check(cell):
            assert "allclose" not in cell.source, grade_id(cell)
            assert not re.search(r"^\s*assert ", cell.source, re.MULTILINE), f"{grade_id(cell)}: a bare assert"


# --- releasing -----------------------------------------------------------------------------------------------------
def test_release_is_the_same_whoever_saved_the_source(tiny):
    before = fresh(tiny.course, "ps90")

    def elsewhere(nb):
        nb.metadata["kernelspec"] = {"name": "conda-env", "display_name": "My Python", "language": "python"}
        nb.metadata["language_info"] = {"name": "python", "version": "3.12.9"}
        nb.metadata["widgets"] = {"state": {}}
        for cell in nb.cells:
            cell.metadata["execution"] = {"iopub.status.busy": "2024-01-01T00:00:00Z"}
            if cell.cell_type == "code":
                cell.execution_count = 7
                cell.outputs = [nbformat.v4.new_output("stream", text="/home/somebody/secret")]

    tiny.edit_source(elsewhere)
    assert fresh(tiny.course, "ps90") == before


def test_release_leaves_the_gradebook_alone_and_clears_what_is_stale(tiny):
    folder = tiny.course.exercises / "ps90"
    (folder / "old").mkdir()
    (folder / "old" / "data.txt").write_text("x")
    (folder / ".ipynb_checkpoints").mkdir()
    (tiny.course.solutions / "ps90" / "data.csv").write_text("1,2\n")
    stamp = (folder / "ps90.ipynb").stat().st_mtime_ns
    release("ps90", course=tiny.course)
    assert sorted(p.name for p in folder.iterdir()) == [".ipynb_checkpoints", "data.csv", "ps90.ipynb"]
    assert (folder / "ps90.ipynb").stat().st_mtime_ns == stamp, "an unchanged file is not written"
    assert not (tiny.course.root / "gradebook.db").exists()


def test_what_formgraders_button_calls_writes_the_same(tiny):
    ours = tiny.course.released("ps90").read_bytes()
    with gradebook(tiny.course), quietly():
        done = NbGraderAPI(config=tiny.course.config()).generate_assignment("ps90", force=True)
    assert done["success"], done
    assert tiny.course.released("ps90").read_bytes() == ours


def _copy_an_answer(nb):
    nb.cells.append(copy.deepcopy(nb.cells[3]))
    nb.cells[-1].id = "copy"


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (_copy_an_answer, "Duplicate grade id: q1"),
        (lambda nb: nb.cells[3].update(source="### BEGIN SOLUTION\nx"), "no end solution statement"),
        (lambda nb: nb.cells[5].update(source="### BEGIN HIDDEN TESTS\n### END HIDDEN TESTS"), "non-grade cell"),
        (lambda nb: nb.cells[4].metadata["nbgrader"].pop("points"), "points"),
    ],
)
def test_a_faulty_source_is_refused_with_the_reason(tiny, edit, reason):
    kept = tiny.course.released("ps90").read_bytes()
    tiny.edit_source(edit)
    with pytest.raises(GradingError, match="ps90 cannot be released") as caught:
        release("ps90", course=tiny.course)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert tiny.course.released("ps90").read_bytes() == kept


def test_unknown_set_and_no_course(tiny, tmp_path):
    with pytest.raises(GradingError, match="unknown problem set 'ps91': solutions/ holds ps90"):
        release("ps91", course=tiny.course)
    with pytest.raises(GradingError, match="in no course"):
        Course.find(tmp_path)
    (tiny.course.root / "deep" / "er").mkdir(parents=True)
    assert Course.find(tiny.course.root / "deep" / "er") == tiny.course


def test_the_answer_cells_of_a_release_are_the_ones_a_student_may_edit(tiny):
    for cell in tiny.release.cells:
        locked = cell.metadata.get("editable") is False
        assert locked == (grade_id(cell) is not None and not is_answer(cell)), grade_id(cell)
