"""What a run came to, for the instructor: a few lines for the terminal, and a page that is one file."""

import re
import statistics
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nbformat import NotebookNode

from .course import Course
from .feedback import templates
from .feedback.messages import NOT_ANSWERED
from .feedback.sections import about
from .feedback.text import markdown
from .gradebook import Score
from .manifest import Outcome, replace
from .notebook import grade_id, is_check, points, question, questions
from .progress import duration

_BINS = 10  # bars of a distribution
_MOST = 10  # entries of a list
_WIDTH = 90  # characters of a message in the terminal


@dataclass(frozen=True)
class Distribution:
    """How scores lie between none and all points.

    Args:
        counts: submissions in each tenth of the points, the last with those that have them all.
        none: submissions without a point.
        full: submissions with all of them.
        mean: the mean score.
        median: the median score.
        of: points there are.
    """

    counts: tuple[int, ...]
    none: int
    full: int
    mean: float
    median: float
    of: float

    @classmethod
    def made(cls, scores: Sequence[float], of: float) -> "Distribution":
        """Count scores.

        Args:
            scores: one for each submission; extra credit may lift one above ``of``.
            of: points there are.

        >>> Distribution.made([0, 1, 1.9, 2], 2).counts
        (1, 0, 0, 0, 0, 1, 0, 0, 0, 2)
        """
        counts = [0] * _BINS
        for s in scores:
            counts[min(_BINS - 1, max(0, int(_BINS * s / of))) if of else _BINS - 1] += 1
        middle = (statistics.fmean(scores), statistics.median(scores)) if scores else (0.0, 0.0)
        return cls(tuple(counts), sum(s <= 0 for s in scores), sum(s >= of for s in scores), *middle, of)


@dataclass(frozen=True)
class Failing:
    """A check that some did not pass.

    Args:
        check: its grade id.
        wrong: submissions with an answer that did not get all its points.
        unanswered: submissions without an answer.
        about: the comment at its head.
        message: what it said most often of an answer.
        times: how often it said that.
    """

    check: str
    wrong: int
    unanswered: int
    about: str
    message: str
    times: int


@dataclass(frozen=True)
class Report:
    """What there is to say of a set's submissions.

    Args:
        total: how many were handed in.
        states: how many came to each state.
        scores: the distribution of scores.
        questions: the same for each question, of those whose points for it are settled.
        failing: the checks that failed most often.
        slowest: graded submissions that took longest, first the longest.
        hungriest: those that used most memory.
        flagged: those that were refused, mended, timed out, died or failed.
        to_mark: for each question how many wait for a person.
        late: how many lost points by lateness.
        cpu_seconds: processor time of all kernels.
    """

    total: int
    states: dict[str, int]
    scores: Distribution
    questions: dict[str, Distribution]
    failing: list[Failing]
    slowest: list[Outcome]
    hungriest: list[Outcome]
    flagged: list[Outcome]
    to_mark: dict[str, int]
    late: int
    cpu_seconds: float


def report(release: NotebookNode, outcomes: Mapping[str, Outcome], held: Mapping[str, Score]) -> Report:
    """Count what a set's submissions came to.

    Args:
        release: the set as it is handed out.
        outcomes: what runs made of the submissions, by student.
        held: what the gradebook holds, by student.
    """
    graded = [o for o in outcomes.values() if o.ok and o.student in held]
    marks = [held[o.student] for o in graded]
    of: Counter[str] = Counter()
    for cell in release.cells:
        if question(cell):
            of[question(cell)] += points(cell)
    asked = questions(release)
    settled = {q: [score for score in marks if not _waits(score, release, q)] for q in asked}
    return Report(
        total=len(outcomes),
        states=dict(Counter(o.state for o in outcomes.values()).most_common()),
        scores=Distribution.made([score.score for score in marks], sum(of.values())),
        questions={
            q: Distribution.made([score.questions.get(q, (0.0, 0.0))[0] for score in settled[q]], of[q]) for q in asked
        },
        failing=_failing(release, graded),
        slowest=sorted(graded, key=lambda o: -o.seconds)[:_MOST],
        hungriest=sorted((o for o in graded if o.memory), key=lambda o: -o.memory)[:_MOST],
        flagged=[o for _, o in sorted(outcomes.items()) if o.state != "graded" or o.notes],
        to_mark={q: len(marks) - len(settled[q]) for q in asked if len(settled[q]) < len(marks)},
        late=sum(score.penalty > 0 for score in marks),
        cpu_seconds=sum(o.cpu_seconds for o in outcomes.values()),
    )


def _waits(score: Score, release: NotebookNode, q: str) -> bool:
    """Return whether a person has yet to give points for a question."""
    cells = [grade_id(cell) for cell in release.cells if question(cell) == q]
    return any(score.marks[name].pending for name in cells if name in score.marks)


def _failing(release: NotebookNode, graded: Sequence[Outcome]) -> list[Failing]:
    found = []
    for cell in filter(is_check, release.cells):
        said = [o.failures[grade_id(cell)] for o in graded if grade_id(cell) in o.failures]
        wrong = Counter(message for message in said if not message.startswith(NOT_ANSWERED))
        message, times = wrong.most_common(1)[0] if wrong else ("", 0)
        if said:
            unanswered = len(said) - wrong.total()
            found.append(Failing(grade_id(cell), wrong.total(), unanswered, about(cell), message, times))
    return sorted(found, key=lambda f: (-f.wrong, -f.unanswered))


def summary(found: Report) -> str:
    """Return a report as text to read in a terminal.

    Args:
        found: the report.
    """
    graded = sum(found.scores.counts)
    states = ", ".join(f"{n} {state}" for state, n in found.states.items())
    lines = [f"{found.total} submission{'' if found.total == 1 else 's'}: {states or 'none'}"]
    if graded:
        s = found.scores
        lines.append(f"score      mean {s.mean:.1f}, median {s.median:.1f} of {s.of:g}   {_spark(s.counts)}")
        told = {q: _told(d, found.to_mark.get(q, 0)) for q, d in found.questions.items()}
        width = max(map(len, told.values()), default=0)
        lines += [f"{q:<10} {told[q]:<{width}} {_spark(d.counts)}" for q, d in found.questions.items()]
    for f in (f for f in found.failing[:3] if f.wrong):
        unanswered = f" ({f.unanswered} not answered)" if f.unanswered else ""
        lines.append(
            f"{f.check:<10} wrong in {f.wrong} of {graded}{unanswered}, {f.times} of them: {_brief(f.message)}"
        )
    if found.slowest and found.slowest[0].seconds:
        lines.append(f"slowest    {found.slowest[0].student}, {duration(found.slowest[0].seconds)}")
    if found.to_mark:
        lines.append("to mark    " + ", ".join(f"{q}: {n}" for q, n in found.to_mark.items()) + " by hand")
    if found.late:
        lines.append(f"late       {found.late} lost points by it")
    return "\n".join(lines)


def _told(d: Distribution, waiting: int) -> str:
    marked = [f"mean {d.mean:.1f} of {d.of:g}, {d.full} in full, {d.none} without a point"] if sum(d.counts) else []
    return ", ".join([*marked, *([f"{waiting} to be marked"] if waiting else [])])


def _brief(message: str) -> str:
    """Return a message that fits on a line: whole, or its last sentences, which say what slipped, or its first words.

    >>> _brief("F is wrong in 1 value. The largest difference is 0.5, at index (1,): got 2, expected 2.5. Halved it?")
    '… The largest difference is 0.5, at index (1,): got 2, expected 2.5. Halved it?'
    """
    if len(message) <= _WIDTH:
        return message
    sentences = re.split(r"(?<=[.?!]) +", message)
    ends = [" ".join(["…", *sentences[i:]]) for i in range(1, len(sentences))]
    fitting = next((end for end in ends if len(end) <= _WIDTH), "")
    words = fitting or textwrap.shorten(message, _WIDTH, placeholder=" …")
    return words if len(words) > 1 else f"{message[: _WIDTH - 1]}…"


def _spark(counts: Sequence[int]) -> str:
    """Return a distribution as a line of bars.

    >>> _spark([0, 1, 4, 8])
    '·▁▄█'
    """
    bars, most = "▁▂▃▄▅▆▇█", max(counts, default=0)
    return "".join(bars[max(0, round(8 * n / most) - 1)] if n else "·" for n in counts)


def write_report(
    course: Course, ps: str, release: NotebookNode, outcomes: Mapping[str, Outcome], held: Mapping[str, Score]
) -> Path:
    """Write ``grades/<set>.html``: one file that runs nothing and fetches nothing.

    Args:
        course: the course.
        ps: the set's name.
        release: the set as it is handed out.
        outcomes: what runs made of the submissions, by student.
        held: what the gradebook holds, by student.

    Returns:
        The file.
    """
    path = course.grades / f"{ps}.html"
    found = report(release, outcomes, held)
    titles = {q: _title(release, q) for q in found.questions}
    text = templates().get_template("report.html.j2").render(ps=ps, r=found, titles=titles, duration=duration)
    replace(path, text.encode("utf-8", "replace"))
    return path


def _title(release: NotebookNode, q: str) -> str:
    """Return a question's heading as HTML, or its name."""
    heading = ""
    for cell in release.cells:
        if cell.cell_type == "markdown" and not question(cell):
            heading = next((line for line in cell.source.splitlines()[::-1] if line.startswith("#")), heading)
        if question(cell) == q:
            break
    return markdown(heading.lstrip("# ")).removeprefix("<p>").removesuffix("</p>\n") if heading else q
