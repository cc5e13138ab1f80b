"""Many submissions in one run: none is lost, and the coordinator's memory does not grow with their number.

``LOAD=1000`` in the environment asks for more than the sixty of an ordinary run.
"""

import json
import os
import subprocess
import sys

import pytest

from grading.gradebook import gradebook
from grading.sandbox import unavailable

LOAD = int(os.environ.get("LOAD", "60"))
RUN = """
import json, os, sys
from pathlib import Path
from grading.course import Course
from grading.run import grade
held = []
def tell(line):
    held.append(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
grade("ps90", course=Course(Path(sys.argv[1])), workers=2, sandbox=bool(int(sys.argv[2])), tell=tell)
print(json.dumps(held))
"""
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
    pytest.mark.timeout(200 + 5 * LOAD),
]


def test_many_submissions(tiny):
    ballast = "# " + "x" * 20_000  # so that a run that kept notebooks would show it
    for i in range(LOAD):
        wrong = i % 5 == 0
        body = "return x**2" if wrong else "return 2 * x"
        tiny.submit(f"s{i:04}", tiny.answered(**tiny.right | {"q1": f"def double(x):\n    {body}  # {i}\n{ballast}"}))
    command = [sys.executable, "-c", RUN, str(tiny.course.root), str(int(unavailable() is None))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150 + 5 * LOAD)
    assert done.returncode == 0, done.stderr
    held = json.loads(done.stdout.splitlines()[-1])
    assert len(held) == LOAD
    quarter, end = held[LOAD // 4], held[-1]
    print(f"{LOAD} submissions: {quarter / 1e6:.1f} MB at a quarter, {end / 1e6:.1f} MB at the end")
    assert end - quarter < 6e6 + 4_000 * LOAD, "only what the manifest keeps of each, a few kilobytes, may grow"

    rows = {row["student"]: row for row in json.loads((tiny.course.grades / "ps90.json").read_text())}
    assert sorted(rows) == [f"s{i:04}" for i in range(LOAD)]
    for i in range(LOAD):
        row = rows[f"s{i:04}"]
        assert (row["state"], row["score"]) == ("graded", 3.0 if i % 5 == 0 else 5.0), row
    with gradebook(tiny.course) as book:
        assert len(book.find_assignment("ps90").submissions) == LOAD
    assert len(list(tiny.course.feedback.glob("*/ps90/ps90.html"))) == LOAD
    assert len(list(tiny.course.autograded.glob("*/ps90/ps90.ipynb"))) == LOAD
