"""Grading, side by side: this engine and stock nbgrader on the same submissions, machine and run.

``python benchmarks/grading.py --help`` tells what there is to choose. Prints a table and writes it with its
circumstances to ``benchmarks/results/grading.json``; asserts nothing about time.
"""

import argparse
import ctypes
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import nbformat
from machine import machine
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results" / "grading.json"
PS = "ps01"
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER
_STUB = "# YOUR CODE HERE\nraise NotImplementedError()"
_QUESTIONS = {
    "q1": ("def double(x):", "return 2 * x", "assert torch.equal(double(torch.ones(3)), torch.full((3,), 2.0))"),
    "q2": ("def energy(x):", "return 0.5 * (x**2).sum(-1)", "assert energy(torch.tensor([3.0, 4.0])) == 12.5"),
    "q3": ("def force(x):", "return -x", "assert torch.equal(force(torch.ones(2)), -torch.ones(2))"),
}
# A fixed amount of processor time, however busy the machine is.
_WORK = "import time\nuntil = time.process_time() + {seconds}\nwhile time.process_time() < until:\n    pass"
# One run in a process of its own, which notes its memory after each submission.
_RUN = f"""
import json, resource
from pathlib import Path
from grading.course import Course
from grading.run import grade
held = []
def tell(line):
    held.append(int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize())
grade({PS!r}, course=Course(Path({{folder!r}})), workers={{workers}}, sandbox={{sandbox}}, tell=tell)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({{{{"quarter": held[len(held) // 4], "end": held[-1], "peak": peak}}}}))
"""
_STOCK = "c = get_config()\nc.CourseDirectory.course_id = 'bench'\n"


@dataclass
class Row:
    """What one run took.

    Args:
        what: which program, and how.
        submissions: how many.
        wall: seconds for all.
        cpu: processor seconds of all processes, for all.
        graded: how many of them are in the gradebook with full marks.
        workers: how many ran at a time.
        work: processor seconds that each submission spends in student code.
        kernels_cpu: processor seconds of the kernels alone, by the engine's own count.
        memory_quarter: bytes of the coordinator after a quarter of the submissions.
        memory_end: the same at the end.
        memory_peak: its highest.
    """

    what: str
    submissions: int
    wall: float
    cpu: float
    graded: int
    workers: int = 1
    work: float = 0.0
    kernels_cpu: float = 0.0
    memory_quarter: int = 0
    memory_end: int = 0
    memory_peak: int = 0


# --- what is graded ------------------------------------------------------------------------------------------------
def _marked(
    cell: nbformat.NotebookNode, name: str, *, solution: bool = False, points: int = 0
) -> nbformat.NotebookNode:
    mark = {"grade": points > 0, "grade_id": name, "locked": not solution, "solution": solution}
    cell.metadata["nbgrader"] = {**mark, "schema_version": 3, "task": False} | ({"points": points} if points else {})
    cell.id = name.replace("_", "-")
    return cell


def source() -> nbformat.NotebookNode:
    """Return the instructor's notebook: torch and three questions of one point."""
    cells = [_marked(new_code_cell("import torch"), "imports")]
    for name, (head, body, check) in _QUESTIONS.items():
        solution = f"{head}\n    ### BEGIN SOLUTION\n    {body}\n    ### END SOLUTION"
        cells += [
            new_markdown_cell(f"## Question {name[1:]}", id=f"{name}-text"),
            _marked(new_code_cell(solution), name, solution=True),
            _marked(
                new_code_cell(f"{check}\n### BEGIN HIDDEN TESTS\n{check}\n### END HIDDEN TESTS"),
                f"{name}_check",
                points=1,
            ),
        ]
    return new_notebook(
        cells=cells, metadata={"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    )


def hand_in(released: Path, folder: Path, count: int, work: float) -> None:
    """Answer the released notebook for each student, all of it right.

    Args:
        released: the student version.
        folder: the course's ``submitted``.
        count: how many students.
        work: processor seconds that each notebook spends in student code.
    """
    for i in range(count):
        nb = nbformat.read(released, 4)
        for cell in nb.cells:
            name = cell.metadata.get("nbgrader", {}).get("grade_id")
            if name in _QUESTIONS:
                head, body, _ = _QUESTIONS[name]
                cell.source = f"{head}\n    {body}  # student {i}"
                if name == "q1" and work:
                    cell.source += f"\n{_WORK.format(seconds=work)}"
        path = folder / f"student{i:04}" / PS / f"{PS}.ipynb"
        path.parent.mkdir(parents=True)
        nbformat.write(nb, path)


# --- measuring -----------------------------------------------------------------------------------------------------
def timed(command: list[str], folder: Path) -> tuple[float, float, str]:
    """Run a program, with all it leaves behind.

    Args:
        command: the program.
        folder: where.

    Returns:
        Wall seconds, processor seconds of the whole tree, what it printed.

    Raises:
        RuntimeError: it failed.
    """
    # What the program leaves running becomes a child of this process, and so counts when it ends.
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    env = os.environ | {"OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with tempfile.TemporaryFile("w+") as errors:
        done = subprocess.run(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=errors, text=True)
        wall = time.perf_counter() - begun
        errors.seek(0)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{errors.read()[-2000:]}")
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def full_marks(folder: Path) -> int:
    """Return how many submissions of a course got all their points."""
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{folder / 'gradebook.db'}") as book:
        return sum(s.score == s.max_score == len(_QUESTIONS) for s in book.assignment_submissions(PS))


def by_engine(count: int, workers: int, *, sandbox: bool = True, work: float = 0.0) -> Row:
    """Grade with this engine, feedback pages included.

    Args:
        count: how many submissions.
        workers: worker processes.
        sandbox: whether student kernels live in a sandbox.
        work: processor seconds that each submission spends in student code.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as tmp:
        folder = Path(tmp).resolve()
        shutil.copy(ROOT / "nbgrader_config.py", folder)
        (folder / "solutions" / PS).mkdir(parents=True)
        nbformat.write(source(), folder / "solutions" / PS / f"{PS}.ipynb")
        timed([sys.executable, "-m", "grading", "--course", str(folder), "release", PS], ROOT)
        hand_in(folder / "exercises" / PS / f"{PS}.ipynb", folder / "submitted", count, work)
        program = _RUN.format(folder=str(folder), workers=workers, sandbox=sandbox)
        wall, cpu, said = timed([sys.executable, "-c", program], ROOT)
        kernels = sum(row["cpu_seconds"] for row in json.loads((folder / "grades" / f"{PS}.json").read_text()))
        held = json.loads(said.splitlines()[-1])
        name = f"engine, {workers} worker{'s' * (workers > 1)}{'' if sandbox else ', no sandbox'}"
        name += f", {work:g} s of student work" if work else ""
        memory = {f"memory_{when}": held[when] for when in ("quarter", "end", "peak")}
        return Row(name, count, wall, cpu, full_marks(folder), workers, work, kernels, **memory)


def by_stock(count: int, *, feedback: bool, work: float = 0.0) -> Row:
    """Grade with nbgrader's own commands and its own settings.

    Args:
        count: how many submissions.
        feedback: whether to make feedback pages, too.
        work: processor seconds that each submission spends in student code.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as tmp:
        folder = Path(tmp).resolve()
        (folder / "nbgrader_config.py").write_text(_STOCK)
        (folder / "source" / PS).mkdir(parents=True)
        nbformat.write(source(), folder / "source" / PS / f"{PS}.ipynb")
        timed(["nbgrader", "generate_assignment", PS], folder)
        hand_in(folder / "release" / PS / f"{PS}.ipynb", folder / "submitted", count, work)
        wall, cpu, _ = timed(["nbgrader", "autograde", PS], folder)
        if feedback:
            more_wall, more_cpu, _ = timed(["nbgrader", "generate_feedback", PS], folder)
            wall, cpu = wall + more_wall, cpu + more_cpu
        name = f"stock nbgrader{', with feedback' if feedback else ''}"
        name += f", {work:g} s of student work" if work else ""
        return Row(name, count, wall, cpu, full_marks(folder), work=work)


# --- telling -------------------------------------------------------------------------------------------------------
def table(rows: list[Row]) -> str:
    """Return the rows as text; the ratio is to stock nbgrader on as many submissions or, failing that, on most."""
    stock = {r.submissions: r.wall / r.submissions for r in rows if r.what == "stock nbgrader"}
    lines = [f"{'':44}{'number':>7}{'graded':>7}{'wall s':>9}{'CPU s':>8}{'per hour':>10}{'ratio':>7}{'memory MB':>17}"]
    for r in rows:
        wall = r.wall / r.submissions
        per = stock.get(r.submissions, stock[max(stock)] if stock else None)
        ratio = f"{per / wall:.1f}" if per and not r.work else "-"
        memory = "-"
        if r.memory_peak:
            memory = "/".join(f"{b / 1e6:.0f}" for b in (r.memory_quarter, r.memory_end, r.memory_peak))
        lines.append(
            f"{r.what:44}{r.submissions:7}{r.graded:7}{wall:9.2f}{r.cpu / r.submissions:8.2f}"
            f"{3600 / wall:10,.0f}{ratio:>7}{memory:>17}"
        )
    lines.append(
        "wall and CPU: seconds per submission, start of the programs and feedback pages of the engine included;"
    )
    lines.append(
        "ratio: to stock nbgrader without feedback; memory: coordinator at a quarter, at the end, at its peak."
    )
    for r in rows:
        if r.work:
            times = r.wall * r.workers / (r.submissions * r.work)
            lines.append(f"{r.what}: {times:.2f} times the work, had it been spread over {r.workers} at no cost")
    return "\n".join(lines)


def main() -> None:
    """Measure what was asked for."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--submissions", type=int, nargs="+", default=[20, 200], metavar="N", help="sizes for the engine")
    p.add_argument("--stock-up-to", type=int, default=20, metavar="N", help="sizes that stock nbgrader runs, too")
    p.add_argument("--workers", type=int, nargs="+", default=[1, 2], metavar="N", help="the largest for all sizes")
    p.add_argument("--repeat", type=int, default=1, metavar="N", help="times to run the smallest size, to see spread")
    p.add_argument("--no-sandbox", action="store_true", help="also without the sandbox")
    p.add_argument("--feedback", action="store_true", help="smallest size: stock nbgrader with feedback, too")
    p.add_argument("--work", type=float, default=0.0, metavar="S", help="also notebooks of S seconds of student work")
    args = p.parse_args()
    facts, rows, most = machine("torch", "nbgrader", "nbclient"), [], max(args.workers)
    print(", ".join(f"{k} {v}" for k, v in facts.items()), flush=True)

    def add(row: Row) -> None:
        rows.append(row)
        print(f"{row.what}, {row.submissions}: {row.wall:.1f} s", flush=True)

    smallest = min(args.submissions)
    for count in args.submissions:
        for _ in range(args.repeat if count == smallest else 1):
            if count <= args.stock_up_to:
                add(by_stock(count, feedback=False))
                if args.feedback and count == smallest:
                    add(by_stock(count, feedback=True))
            for workers in args.workers if count == smallest else [most]:
                add(by_engine(count, workers))
    if args.no_sandbox:
        for _ in range(args.repeat):
            add(by_engine(smallest, most, sandbox=False))
    if args.work:
        add(by_engine(4 * most, most, work=args.work))
        add(by_stock(2, feedback=False, work=args.work))
    print(table(rows))
    RESULTS.parent.mkdir(exist_ok=True)
    command = " ".join(["python", "benchmarks/grading.py", *sys.argv[1:]])
    RESULTS.write_text(json.dumps({"command": command, **facts, "rows": [asdict(r) for r in rows]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
