"""Submissions that cheat, spy and break: none earns a point it does not deserve, and nobody else's run suffers."""

import csv
import importlib.util
import re
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest
from nbconvert.exporters import HTMLExporter

from grading.gradebook import score
from grading.kernels.server import shut_down
from grading.lint import lint
from grading.manifest import GRADED
from grading.run import grade
from grading.sandbox import unavailable
from grading.student_version import release

_spec = importlib.util.spec_from_file_location("attacks_world", Path(__file__).parent / "attacks" / "_world.py")
_world = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_world)

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(unavailable() is not None, reason="this machine cannot hold a sandbox"),
]
# The first ones wait for fork servers to come up; the others run beside those that want all of the machine.
HONEST = ["aaa-honest", "aab-honest", "eb-honest", "forl-honest", "mj-honest", "x-honest"]
ODD_NAMES = {"=1+1": "graded", "@SUM(1)": "graded", "-2+3": "graded", "<img src=x>": "refused", "a'b": "refused"}


@pytest.fixture(scope="module")
def attacks():
    """Every attack, by its name."""
    return {name: _world.load(_world.HERE / f"{name}.py") for name in _world.attacks()}


@pytest.fixture(scope="module")
def world(tmp_path_factory, request, attacks):
    """One run over the attacks that are to be tested, and honest students among them."""
    calls = [i.callspec.params for i in request.session.items if hasattr(i, "callspec")]
    world = _world.World(tmp_path_factory.mktemp("attacks"))
    release("ps91", course=world.course)
    shut_down()
    for student in HONEST:
        world.hand_in(student, _world.HONEST)
    for student in ODD_NAMES:
        world.hand_in(student)
    for name in sorted({p["attack"] for p in calls if "attack" in p}):
        world.hand_in(name, attacks[name])
    world.before = world.state()
    found = grade("ps91", course=world.course, workers=2, memory_bytes=1 << 30, **_world.LIMITS)
    world.outcomes = {o.student: o for o in found}
    yield world
    world.close()


@pytest.mark.parametrize("attack", _world.attacks())
def test_an_attack_earns_what_it_deserves(world, attacks, attack):
    its, outcome = attacks[attack], world.outcomes[attack]
    if hasattr(its, "REFUSED"):
        assert outcome.state == "refused"
        assert its.REFUSED in outcome.message
        return
    assert outcome.state in GRADED, outcome
    deserved = _world.SET.POINTS | getattr(its, "DESERVED", {})
    marks = score(world.course, "ps91", attack).marks
    got = {name: marks[name].got for name in deserved}
    if getattr(its, "AT_MOST", False):
        assert all(got[name] in (0, deserved[name]) for name in deserved), got
    else:
        assert got == deserved, outcome.failures
    for check, why in getattr(its, "FAILS", {}).items():
        assert re.search(why, outcome.failures[check])
    if hasattr(its, "SAYS"):  # or it has not even tried
        assert re.search(its.SAYS, world.said(attack)), world.said(attack)[:3000]


@pytest.mark.parametrize("attack", _world.attacks())
def test_an_attack_learns_nothing(world, attacks, attack):
    outcome = world.outcomes[attack]
    told = [world.page(attack), outcome.message, str(outcome.failures), str(outcome.notes)]
    told += [world.said(attack)] if outcome.state in GRADED else []
    for word in (_world.SECRET, _world.SET.HIDDEN):
        assert not any(word in text for text in told)


@pytest.mark.parametrize("attack", _world.attacks())
def test_an_attack_uses_up_what_it_may(world, attacks, attack):
    outcome = world.outcomes[attack]
    # The notebook's own time, a last cell that is waited for, and on a busy machine a fork server that comes up.
    assert outcome.seconds < _world.LIMITS["notebook_seconds"] + 2 * _world.LIMITS["cell_seconds"] + 60
    assert outcome.memory < 2 << 30
    assert len(world.page(attack)) < 1_000_000
    assert len(outcome.message) < 2000
    if outcome.state in GRADED:
        kept = world.course.autograded / attack / "ps91" / "ps91.ipynb"
        assert kept.stat().st_size < getattr(attacks[attack], "NOTEBOOK_BYTES", 10_000_000)


@pytest.mark.parametrize("student", HONEST)
def test_honest_students_do_not_suffer(world, student):
    outcome = world.outcomes[student]
    assert (outcome.state, outcome.score, outcome.message) == ("graded", 12, "")
    if not student.startswith("aa"):
        assert outcome.seconds < _world.LIMITS["notebook_seconds"]


def test_odd_names_are_graded_or_refused(world):
    assert {name: world.outcomes[name].state for name in ODD_NAMES} == ODD_NAMES


def test_the_world_is_as_it_was(world):
    assert world.calls == []
    assert world.state() == world.before
    assert sorted(p.name for p in world.vault.iterdir()) == ["solutions.txt"]


def test_nothing_is_left_behind(world):
    shut_down()  # the fork server of this process, if the run had use for one
    until = time.monotonic() + 10  # a worker's processes may still be ending
    while left := {pid: line for pid, line in _world.processes(world).items() if "resource_tracker" not in line}:
        assert time.monotonic() < until, left
        time.sleep(0.1)


class _Active(HTMLParser):
    """What in a page could run or fetch something."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag if tag in ("script", "style") else self._inside
        if tag in ("iframe", "object", "embed", "form", "base", "link", "meta", "svg", "foreignobject"):
            self.found.append(f"<{tag} {attrs}>")
        for name, value in attrs:
            url = name in ("href", "src", "action", "xlink:href", "srcset")
            # As an image, a drawing runs no script.
            harmless = r"#|https?:|data:image/(png|jpeg|svg\+xml);base64," if tag == "img" else r"#|https?:"
            if name.startswith("on") or (url and not re.match(harmless, value or "")):
                self.found.append(f"{name}={value}")

    def handle_endtag(self, tag: str) -> None:
        self._inside = "" if tag == self._inside else self._inside

    def handle_data(self, data: str) -> None:
        if self._inside and "xss-mark" in data:
            self.found.append(data)


def _active(text: str) -> set[str]:
    parser = _Active()
    parser.feed(text)
    return set(parser.found)


def test_what_people_open_runs_nothing(world):
    pages = [*world.course.feedback.rglob("*.html"), *world.course.grades.rglob("*.html")]
    assert len(pages) >= len(world.outcomes) - 2
    usual = _active(world.page(HONEST[0]))
    for page in pages:
        if page.parent.name == "ps91":
            assert _active(page.read_text()) <= usual, page
        else:
            assert "xss-mark" not in str(_active(page.read_text()))


def test_what_formgrader_shows_runs_nothing(world):
    exporter = HTMLExporter(config=world.course.config(), template_name="basic")
    usual = _active(exporter.from_notebook_node(world.executed(HONEST[0]))[0])
    graded = [student for student, outcome in world.outcomes.items() if outcome.state in GRADED]
    for student in graded:
        assert _active(exporter.from_notebook_node(world.executed(student))[0]) <= usual, student


def test_the_table_is_harmless(world):
    with (world.course.grades / "ps91.csv").open(newline="") as f:
        rows = list(csv.DictReader(f))
    assert len(rows) == len(world.outcomes)
    for row in rows:
        for value in row.values():
            assert not re.match(r"[=+@\t\r]|-[^\d]|-\d+[^\d.]", value or ""), row


def test_the_checks_are_careful(world):
    assert [f for f in lint(world.course, "ps91") if f.rule != "corpus"] == []
