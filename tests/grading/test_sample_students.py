"""The bundled sample submissions through the engine."""

import shutil

import pytest

from grading.__main__ import main
from grading.course import Course, GradingError
from grading.notebook import code_questions, is_check, points, question, read
from grading.run import grade
from grading.sample_students import samples


@pytest.fixture(scope="module")
def copied(course, tmp_path_factory):
    """A copy of the course's problem sets, in which anything may be submitted."""
    root = tmp_path_factory.mktemp("copied").resolve()
    shutil.copy(course.root / "nbgrader_config.py", root)
    for name in ("solutions", "exercises"):
        shutil.copytree(course.root / name, root / name, ignore=shutil.ignore_patterns(".*"))
    shutil.copytree(course.root / "tests" / "grading" / "corpus", root / "tests" / "grading" / "corpus")
    return Course(root)


def _auto_points(course, ps):
    return sum(points(c) for c in read(course.source(ps)).cells if is_check(c))


def test_samples_of_the_first_set_get_the_expected_scores(copied):
    ps = "ps01"
    source = read(copied.source(ps))
    samples(ps, course=copied)
    outcomes = {o.student.removeprefix("sample-"): o for o in grade(ps, course=copied, students=["sample-*"])}
    assert set(outcomes) == {"perfect", "half", "untouched", "crashing", "slow"}
    assert {s: o.state for s, o in outcomes.items()} == dict(
        perfect="graded", half="graded", untouched="graded", crashing="kernel died", slow="timed out"
    ), [o.message for o in outcomes.values()]
    everything = _auto_points(copied, ps)
    coded = code_questions(source)
    by_question = {q: sum(points(c) for c in source.cells if is_check(c) and question(c) == q) for q in coded}

    assert outcomes["perfect"].score == everything
    assert outcomes["perfect"].pending, "the open question waits for a person"
    assert outcomes["perfect"].max_score == 20
    assert outcomes["untouched"].score == 0
    assert not outcomes["untouched"].pending
    half = {q: got for q, (got, _) in outcomes["half"].questions.items() if q in coded}
    for i, q in enumerate(coded):
        assert half[q] < by_question[q] if i % 2 else half[q] == by_question[q], q
    assert sum(half.values()) == outcomes["half"].score

    dies_at = coded[len(coded) // 2]
    assert outcomes["crashing"].state == "kernel died"
    assert outcomes["crashing"].message.startswith(f"{dies_at}: The kernel died")
    assert outcomes["crashing"].score == everything - by_question[dies_at], "the other questions are run all the same"
    assert outcomes["slow"].state == "timed out"
    assert outcomes["slow"].message.startswith(f"{coded[-1]}: Stopped after 20 seconds.")
    assert outcomes["slow"].score == everything - by_question[coded[-1]]
    assert {outcomes[s].state for s in ("perfect", "half", "untouched")} == {"graded"}
    for student in outcomes:
        page = (copied.feedback / f"sample-{student}" / ps / f"{ps}.html").read_text(encoding="utf-8")
        assert "HIDDEN TESTS" not in page
        assert f"{outcomes[student].score:g} of 20 points" in page


def test_samples_stay_away_from_an_instructors_own_submissions(tiny, capsys):
    root = str(tiny.course.root)
    tiny.submit("anna", tiny.answered())
    assert main(["--course", root, "samples", "ps90", "--grade"]) == 0
    assert "the samples stay away" in capsys.readouterr().out
    assert [p.name for p in tiny.course.submitted.iterdir()] == ["anna"]
    assert not tiny.course.grades.exists()
    assert main(["--course", root, "samples", "ps90"]) == 0
    assert len(list(tiny.course.submitted.iterdir())) == 6


def test_samples_are_made_of_the_corpus_and_written_once(tiny):
    paths = samples("ps90", course=tiny.course)
    stamps = [p.stat().st_mtime_ns for p in paths]
    assert [p.stat().st_mtime_ns for p in samples("ps90", course=tiny.course)] == stamps
    perfect = read(tiny.course.submitted / "sample-perfect" / "ps90" / "ps90.ipynb")
    sources = [c.source for c in perfect.cells]
    assert "def double(x):\n    return x + x" in sources, "the corpus's verdict on the first line is dropped"
    assert "Because $a<b$." in sources, "the rubric is not part of the answer"
    (tiny.course.corpus("ps90") / "q2" / "wrong_half.py").unlink()
    with pytest.raises(GradingError, match=r"no samples for ps90: tests/grading/corpus/ps90/q2/ holds no wrong_"):
        samples("ps90", course=tiny.course)
