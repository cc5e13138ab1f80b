"""The measured quality of the checks: every right answer gets full marks, every wrong one loses some."""

from collections import Counter

import pytest

from grading.__main__ import main
from grading.corpus import Answer, automatic, complaints, examine, reference, report, score_answers, written
from grading.course import GradingError
from grading.notebook import code_questions, question, read

# --- the course's own sets -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def verdicts(course):
    """Every verdict on a set's known answers, found once."""
    found = {}

    def of(ps):
        if ps not in found:
            found[ps] = examine(course, ps)
        return found[ps]

    return of


def test_every_answer_gets_what_it_deserves(verdicts, ps):
    assert not complaints(verdicts(ps)), "\n".join(complaints(verdicts(ps)))


def test_every_question_has_enough_answers_of_each_kind(course, verdicts, ps):
    asked = code_questions(read(course.source(ps)))
    kinds = Counter((v.answer.question, v.answer.name.partition("_")[0]) for v in verdicts(ps))
    for q in asked:
        assert kinds[q, "right"] >= 3, q
        assert kinds[q, "wrong"] >= 6, q
        spoiled = {v.answer.name.split("_")[1] for v in verdicts(ps) if v.answer.question == q and v.spoiled}
        assert {"empty", "shape", "zeros", "nan"} <= spoiled, f"{q}: automatic answers changed nothing: {spoiled}"
    folders = sorted(p.name for p in course.corpus(ps).iterdir() if p.is_dir() and not p.name.startswith("_"))
    assert folders == sorted(asked), "a corpus for a question that is not asked"


def test_every_answer_says_what_it_is(course, ps):
    for q in code_questions(read(course.source(ps))):
        answers = written(course, ps, q)
        assert len({a.source for a in answers}) == len(answers)
        for a in answers:
            verdict = a.name.partition("_")[0].capitalize()
            assert a.about.startswith(f"{verdict}: "), f"{q} {a.name}: the first line is '# {verdict}: ...'"
            assert len(a.about) > 20, f"{q} {a.name}"


def test_every_wrong_answer_is_told_something(verdicts, ps):
    for v in verdicts(ps):
        if v.answer.name.startswith("wrong_"):
            assert len(v.message) > 20, f"{v.answer.question} {v.answer.name}: {v.message!r}"


def test_every_check_catches_something(course, verdicts, ps):
    """A check that no wrong answer fails gives its points away."""
    failed = Counter()
    for v in verdicts(ps):
        if not v.answer.name.startswith(("right_", "untouched")):
            failed.update(name for name in v.marks if v.marks[name] < v.out_of[name])
    for name in {name for v in verdicts(ps) for name in v.marks}:
        assert failed[name] >= 2, name


# --- the scorer itself ---------------------------------------------------------------------------------------------
def test_verdicts_on_the_tiny_set(tiny):
    verdicts = {(v.answer.question, v.answer.name): v for v in examine(tiny.course, "ps90")}
    assert complaints(verdicts.values()) == []
    assert verdicts["q1", "reference"].marks == {"q1_check": 2}
    assert verdicts["q1", "wrong_square"].marks == {"q1_check": 0}
    assert verdicts["q1", "wrong_square"].message == "double(1) is 2: did you square it?"
    assert verdicts["q2", "wrong_half"].marks == {"q2_part": 1.5, "q2_nine": 0}
    assert verdicts["q2", "wrong_half"].message == "root(9) is 3"
    assert verdicts["q2", "untouched"].marks == {"q2_part": 0, "q2_nine": 0}
    assert "NotImplementedError" in verdicts["q1", "untouched"].message
    assert verdicts["q2", "auto_nan_root"].spoiled
    assert not verdicts["q1", "auto_empty_double"].spoiled, "a number has no empty form"
    assert "auto_empty_double" not in report(list(verdicts.values()))


def test_wrong_verdicts_are_found(tiny):
    """The tests above cannot pass by finding nothing: a corpus with a mistake in it is complained about."""
    folder = tiny.course.corpus("ps90") / "q1"
    (folder / "right_off_by_one.py").write_text("# Right: no.\ndef double(x):\n    return 2 * x + 1\n")
    (folder / "wrong_sum.py").write_text("# Wrong: no.\ndef double(x):\n    return x + x\n")
    tiny.edit_source(lambda nb: nb.cells[9].update(source="pass"))  # q2_nine checks nothing any more
    found = complaints(examine(tiny.course, "ps90"))
    assert found[0] == "q1 right_off_by_one is right and got 0 of 2 points: double(1) is 2: did you square it?"
    assert found[1] == "q1 wrong_sum is wrong and got 2 of 2 points."
    assert any(line.startswith("q2 untouched got 1.5 of 3") for line in found)
    assert any(line.startswith("q2 wrong_half is wrong and got 3 of 3") for line in found)


def test_command(tiny, capsys):
    assert main(["--course", str(tiny.course.root), "corpus", "ps90", "q2"]) == 0
    out = capsys.readouterr().out
    assert "wrong_half" in out
    assert "q1  " not in out
    (tiny.course.corpus("ps90") / "q2" / "neither.py").write_text("x = 1\n")
    assert main(["--course", str(tiny.course.root), "corpus", "ps90"]) == 2
    assert "starts with right_ or wrong_" in capsys.readouterr().err


def test_answers_that_end_badly_get_nothing_and_stop_nobody(tiny):
    ends = {
        "import os\nos._exit(0)": "The kernel died while this cell ran",
        "def double(x):\n    while True:\n        pass": "Stopped after 3 seconds",
        "def double(x)\n    return 1": "SyntaxError",
        "import sys\nsys.exit()": "SystemExit",
        "def double(x):\n    return y": "name 'y' is not defined",
        "%matplotlib inline\nimport asyncio\nawait asyncio.sleep(0)\nraise KeyboardInterrupt": "KeyboardInterrupt",
    }
    bad = [Answer("q1", f"bad{i}", source) for i, source in enumerate(ends)]
    good = Answer("q1", "good", tiny.right["q1"])
    *verdicts, last = score_answers(tiny.course, "ps90", [*bad, good], seconds=3)
    for verdict, message in zip(verdicts, ends.values(), strict=True):
        assert message in verdict.message
        assert verdict.marks == {"q1_check": 0}
    assert last.full


def test_one_answer_leaves_nothing_behind_for_the_next(tiny):
    leaving = Answer("q1", "a", tiny.right["q1"] + "\nimport math\nmath.sqrt = None\nleft = 1")
    finding = Answer("q1", "b", "def double(x):\n    return left and 2 * x")
    first, second = score_answers(tiny.course, "ps90", [leaving, finding])
    assert first.full
    assert not second.full


def test_a_broken_given_cell_is_seen(tiny):
    tiny.edit_source(lambda nb: nb.cells[1].update(source="import no_such_module"))
    with pytest.raises(GradingError, match="the given cell imports fails: ModuleNotFoundError: .*no_such_module"):
        score_answers(tiny.course, "ps90", [Answer("q1", "a", tiny.right["q1"])])


def test_partial_credit_is_part_of_a_verdict(tiny):
    (verdict,) = score_answers(tiny.course, "ps90", [Answer("q2", "a", "def root(x):\n    return x / 4")])
    assert verdict.marks == {"q2_part": 0.5, "q2_nine": 0}
    assert verdict.message == "gave 0.5"


@pytest.mark.parametrize(
    ("check", "message"),
    [
        ("assert double(1) == 2", "AssertionError"),
        ("get_ipython().events.register('post_execute', lambda: print('late'))\n0.5", "gave 0.5"),
    ],
)
def test_a_check_may_fail_without_a_message(tiny, check, message):
    def edit(nb):
        cell = next(c for c in nb.cells if c.metadata.get("nbgrader", {}).get("grade_id") == "q1_check")
        cell.source = check

    tiny.edit_source(edit)
    (verdict,) = score_answers(tiny.course, "ps90", [Answer("q1", "a", "def double(x):\n    return 3 * x")])
    assert verdict.message == message


def test_reference_and_automatic_answers(tiny):
    nb = read(tiny.course.source("ps90"))
    assert reference(nb, "q1").source == "def double(x):\n    return 2 * x"
    names = [a.name for a in automatic(nb, "q2")]
    assert names == [f"auto_{kind}_root" for kind in ("nan", "empty", "shape", "zeros", "echo")]
    assert {question(c) for c in nb.cells} - {None} == {"q1", "q2", "q3"}
    with pytest.raises(GradingError, match="no coded question q3"):
        examine(tiny.course, "ps90", ["q3"])
