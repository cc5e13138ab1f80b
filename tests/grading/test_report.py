"""What the instructor reads after a run: counted right, complete, and nothing in it that runs or is fetched."""

import re
import xml.etree.ElementTree as ET

import pytest

from grading.export import write_csv
from grading.gradebook import Mark, Score
from grading.manifest import Outcome
from grading.progress import Progress
from grading.report import Distribution, report, summary, write_report

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>"


def _score(q1, nine, q3, *, pending=False, penalty=0.0):
    marks = {
        "q1_check": Mark(q1, 2, False), "q2_part": Mark(1.5, 1.5, False),
        "q2_nine": Mark(nine, 1.5, False), "q3": Mark(q3, 2, pending),
    }  # fmt: skip
    questions = {"q1": (q1, 2), "q2": (1.5 + nine, 3), "q3": (q3, 2)}
    return Score(q1 + 1.5 + nine + q3 - penalty, 7, pending, False, penalty, questions, marks)


@pytest.fixture
def run():
    """Outcomes and scores of a small class."""
    held = {
        "anna": _score(2, 1.5, 2), "bo": _score(2, 0, 0, pending=True), "carl": _score(0, 0, 0, pending=True),
        "dora": _score(0, 1.5, 1, penalty=4), "gone": _score(2, 1.5, 2),
    }  # fmt: skip
    said, other = {"q2_nine": "`root(9)` is 3"}, {"q2_nine": "TypeError: x", "q1_check": EVIL}
    outcomes = [
        Outcome("anna", "graded", seconds=1.0, cpu_seconds=0.5, memory=10**8),
        Outcome("bo", "graded", seconds=5.0, cpu_seconds=0.5, memory=2 * 10**8, failures=said, notes=["mended."]),
        Outcome("carl", "timed out", seconds=9.0, failures=said | {"q1_check": EVIL}, message=f"carl: {EVIL}"),
        Outcome("dora", "kernel died", seconds=2.0, failures={"q1_check": EVIL}),
        Outcome(EVIL, "refused", message="no notebook."),
        Outcome("fred", "failed", message="EngineError: x", failures=other),
    ]
    return {o.student: o for o in outcomes}, held


def test_everything_is_counted(tiny, run):
    found = report(tiny.release, *run)
    assert found.total == 6
    assert found.states == {"graded": 2, "timed out": 1, "kernel died": 1, "refused": 1, "failed": 1}
    assert (found.scores.mean, found.scores.median, found.scores.of) == ((7 + 3.5 + 1.5 + 0) / 4, 2.5, 7)
    assert found.scores.counts == (1, 0, 1, 0, 0, 1, 0, 0, 0, 1)
    assert (found.scores.full, found.scores.none, found.late) == (1, 1, 1)
    assert found.questions["q1"].counts == (2, 0, 0, 0, 0, 0, 0, 0, 0, 2)
    assert found.questions["q2"].mean == (3 + 1.5 + 1.5 + 3) / 4
    assert [(f.check, f.wrong, f.unanswered, f.message, f.times) for f in found.failing] == [
        ("q1_check", 2, 0, EVIL, 2), ("q2_nine", 2, 0, "`root(9)` is 3", 2)
    ]  # fmt: skip
    assert found.failing[1].about == "Nine"
    assert [o.student for o in found.slowest] == ["carl", "bo", "dora", "anna"]
    assert [o.student for o in found.hungriest] == ["bo", "anna"]
    assert {o.student for o in found.flagged} == {"bo", "carl", "dora", EVIL, "fred"}
    assert found.to_mark == {"q3": 2}
    assert found.cpu_seconds == 1


@pytest.mark.parametrize(
    ("scores", "of", "counts"),
    [
        ([], 5, (0,) * 10), ([5], 5, (0,) * 9 + (1,)), ([6.5], 5, (0,) * 9 + (1,)), ([-1], 5, (1,) + (0,) * 9),
        ([0.5, 4.5, 4.999], 5, (0, 1, 0, 0, 0, 0, 0, 0, 0, 2)), ([0, 0], 0, (0,) * 9 + (2,)),
    ],
)  # fmt: skip
def test_distributions(scores, of, counts):
    assert Distribution.made(scores, of).counts == counts


def test_the_page_is_one_file_that_runs_and_fetches_nothing(tiny, run):
    page = write_report(tiny.course, "ps90", tiny.release, *run).read_text()
    assert "<script" not in page
    assert "<img" not in page
    assert not re.search(r"<[^>]*\s(src|href)=", page)
    assert not re.search(r"url\(|@import", page)
    assert "default-src 'none'" in page
    assert "&lt;script&gt;alert(1)" in page
    assert "prefers-color-scheme: dark" in page
    said = "<code>root(9)</code> is 3"
    for words in ("6 submissions", "2 graded", "no notebook.", "EngineError: x", said, "q3: 2 submissions"):
        assert words in page
    assert "<math" in page, "headings as they were handed out"
    for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        drawn = ET.fromstring(svg)
        assert len(drawn.findall("rect")) == 10
        assert all(0 <= float(r.get("height")) <= 48 for r in drawn.findall("rect"))
    tags = re.findall(r"<(/?)(table|section|main|ul|p|div|svg|tr|td|th|span|h2)\b", page)
    for name in {t for _, t in tags}:
        assert tags.count(("", name)) == tags.count(("/", name)), name


def test_what_waits_for_a_person_counts_in_no_statistics(tiny, run):
    found = report(tiny.release, *run)
    assert (found.questions["q3"].mean, found.questions["q3"].none) == (1.5, 0), "anna has 2, dora 1"
    assert "q3         mean 1.5 of 2, 1 in full, 0 without a point, 2 to be marked" in summary(found)
    assert '0<br><span class="dim">2 to be marked' in _written(tiny, run)


def test_a_question_of_which_nothing_is_marked(tiny, run):
    outcomes, held = run
    held = {student: _score(2, 0, 0, pending=True) for student in held}
    found = report(tiny.release, outcomes, held)
    assert re.search("^q3         4 to be marked +·{10}$", summary(found), re.MULTILINE)
    page = _written(tiny, (outcomes, held))
    assert '– / 2</td><td class="number">–</td><td class="number"><span class="dim">4 to be marked' in page


def _written(tiny, run):
    return write_report(tiny.course, "ps90", tiny.release, *run).read_text()


def test_untouched_notebooks_do_not_lead_the_list_of_failures(tiny, run):
    outcomes, _ = run
    stub = "Not answered yet: the function still raises NotImplementedError."
    outcomes["anna"].failures = outcomes["carl"].failures = {"q1_check": stub}
    found = report(tiny.release, *run)
    assert [(f.check, f.wrong, f.unanswered, f.message) for f in found.failing] == [
        ("q1_check", 1, 2, EVIL), ("q2_nine", 1, 0, "`root(9)` is 3")
    ]  # fmt: skip
    assert "wrong in 1 of 4 (2 not answered), 1 of them: <script>" in summary(found)
    outcomes["dora"].failures = {"q1_check": stub}
    found = report(tiny.release, *run)
    assert [f.check for f in found.failing] == ["q2_nine", "q1_check"]
    assert "q1_check" not in summary(found), "nobody has it wrong"
    page = _written(tiny, run)
    assert page.index(">q2_nine<") < page.index(">q1_check<")
    assert "Not answered yet" not in page


def test_long_messages_keep_what_explains_them(tiny, run):
    outcomes, held = run

    def told(message):
        for outcome in outcomes.values():
            outcome.failures = {"q1_check": message} if outcome.student == "bo" else {}
        return summary(report(tiny.release, outcomes, held)).partition("1 of them: ")[2].splitlines()[0]

    start = "the path in a bowl of four curvatures, lr=0.05 is wrong in 2400 of 2460 values."
    far = "The largest difference is 1.801, at index (24, 0, 4, 0): got -1.55519, expected 0.246045."
    hint = "Each step is divided by the number of points: sum the energies."
    assert told(f"{start} {far} {hint}") == f"… {hint}"
    assert told(f"{start} No. {hint}") == f"… No. {hint}"
    assert told("Short. And whole.") == "Short. And whole."
    words = "word " * 40
    assert told(words) == f"{'word ' * 17}…"
    assert told("x" * 200) == f"{'x' * 89}…"


def test_narrow_screens_get_short_titles_and_no_bars(tiny, run):
    page = _written(tiny, run)
    assert '<span class="narrow">q1</span><span class="wide">Question 1' in page
    assert '<td class="small wide"><svg' in re.sub(r">\s+<", "><", page)
    assert re.search(r"@media \(max-width: 40rem\) {\s+\.wide { display: none; }", page)


def test_no_dust_of_floats_in_the_csv(tmp_path, run):
    outcomes, held = run
    held["anna"].score, held["anna"].penalty = 0.1 + 0.2 + 1.4, 1.1 + 2.2
    held["anna"].questions = {"q1": (0.1 + 0.2, 2)}
    write_csv(tmp_path / "a.csv", ["q1"], outcomes, held)
    (row,) = (line for line in (tmp_path / "a.csv").read_text().splitlines() if line.startswith("anna"))
    assert row == "anna,1.7,7,3.3,no,graded,0.3,"


def test_nothing_graded_yet(tiny):
    outcomes = {"anna": Outcome("anna", "refused", message="no notebook.")}
    page = write_report(tiny.course, "ps90", tiny.release, outcomes, {}).read_text()
    assert "1 submission" in page
    assert "<svg" not in page
    assert summary(report(tiny.release, outcomes, {})) == "1 submission: 1 refused"
    assert summary(report(tiny.release, {}, {})) == "0 submissions: none"


def test_the_summary_for_a_terminal(tiny, run):
    text = summary(report(tiny.release, *run))
    for words in (
        "6 submissions: 2 graded", "mean 3.0, median 2.5 of 7",
        "q1         mean 1.0 of 2, 2 in full, 2 without a point",
        "q2_nine    wrong in 2 of 4, 2 of them: `root(9)` is 3", "slowest    carl, 9 s", "to mark    q3: 2 by hand",
        "late       1 lost points by it",
    ):  # fmt: skip
        assert words in text
    assert max(map(len, text.splitlines())) < 140


def test_progress_in_lines_and_as_a_bar(capsys):
    lines = []
    with Progress(3, lines.append) as progress:
        progress.add(Outcome("anna", "graded", seconds=1.25, ran=True))
        progress.add(Outcome("bo", "graded", seconds=7.0))
        progress.add(Outcome("carl", "refused", message="no notebook."))
    assert re.fullmatch(r"\[1/3\] anna: graded, 1\.2 s \(\d+ s left\)", lines[0])
    assert lines[1].startswith("[2/3] bo: graded, unchanged (")
    assert lines[2] == "[3/3] carl: refused"
    with Progress(2, lines.append, bar=True) as progress:
        progress.add(Outcome("anna", "graded", ran=True))
        progress.add(Outcome("carl", "refused", message="no notebook."))
    out, err = capsys.readouterr()
    assert "[2/2] carl: refused: no notebook." in out + err
    assert "2/2" in err
    assert len(lines) == 3
