"""The world around the attacks: a course, what must neither be read nor changed, and one run over all of them."""

import copy
import hashlib
import importlib.util
import json
import os
import shutil
import socket
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace

import nbformat
from nbformat import NotebookNode

from grading.course import Course
from grading.manifest import Outcome
from grading.notebook import grade_id, is_check, read

HERE = Path(__file__).resolve().parent
SECRET = "juniper-7261"  # stands wherever a student's code must not look
LIMITS = {"cell_seconds": 5, "notebook_seconds": 15}


def load(path: Path) -> ModuleType:
    """Return a file of this folder as a module."""
    spec = importlib.util.spec_from_file_location(f"attacks_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SET = load(HERE / "_set.py")


def attacks() -> list[str]:
    """Return the names of all attacks."""
    return sorted(path.stem for path in HERE.glob("*.py") if not path.name.startswith("_"))


# An honest student, whose first answer takes half a second of work.
HONEST = SimpleNamespace(ANSWERS={"q1": "@RIGHT@\nassert sum(range(20_000_000)) > 0\n"})


@dataclass
class World:
    """A course with attackers and honest students, and a canary in every corner.

    Args:
        root: an empty folder.
    """

    root: Path
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)  # connections that somebody made to us
    right: dict[str, str] = field(default_factory=lambda: dict(SET.RIGHT))

    def __post_init__(self) -> None:
        """Make the course and the canaries."""
        self.course = Course(self.root / "course")
        self._solution = self.course.solutions / "ps91" / "ps91.ipynb"
        self._solution.parent.mkdir(parents=True)
        shutil.copy(HERE.parents[2] / "nbgrader_config.py", self.course.root)
        nbformat.write(SET.notebook(), self._solution)
        self.vault = self.root / "vault"
        self.vault.mkdir()
        (self.vault / "solutions.txt").write_text(f"{SECRET}\n")
        (self.course.root / "notes.txt").write_text(f"{SECRET}\n")
        os.environ["GRADER_TOKEN"] = SECRET
        self.mark = f"{self.root}/nothing"  # travels with the path to all that a run starts
        self._path = os.environ.get("PYTHONPATH", "")
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [self._path, self.mark]))
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.port = self.tcp.getsockname()[1]
        self.unix = [self._unix(str(self.course.root / "grader.sock")), self._unix(f"\0grading-{os.getpid()}")]
        for server in (self.tcp, *self.unix):
            threading.Thread(target=self._accept, args=(server,), daemon=True).start()

    def _unix(self, name: str) -> socket.socket:
        server = socket.socket(socket.AF_UNIX)
        server.bind(name)
        server.listen()
        return server

    def _accept(self, server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:  # closed: the test is over
                return
            self.calls.append(str(server.getsockname()))
            connection.sendall(SECRET.encode())
            connection.close()

    def close(self) -> None:
        """Stop listening."""
        del os.environ["GRADER_TOKEN"]
        os.environ["PYTHONPATH"] = self._path
        for server in (self.tcp, *self.unix):
            server.shutdown(socket.SHUT_RDWR)
            server.close()

    # --- handing in ------------------------------------------------------------------------------------------------
    def answered(self, answers: dict[str, str]) -> NotebookNode:
        """Return the released notebook with these answers and right ones to all other questions."""
        nb = copy.deepcopy(read(self.course.released("ps91")))
        for cell in nb.cells:
            source = (SET.RIGHT | {"q4": "An answer of my own."} | answers).get(grade_id(cell))
            cell.source = cell.source if source is None else source
        return nb

    def hand_in(self, student: str, attack: ModuleType | SimpleNamespace | None = None) -> None:
        """Put into ``submitted/`` what an attack hands in, or an honest student."""
        folder = self.course.submitted / student / "ps91"
        folder.mkdir(parents=True)
        if hasattr(attack, "place"):
            return attack.place(folder, self)
        nb = attack.notebook(self) if hasattr(attack, "notebook") else self.answered(self._answers(attack))
        content = nb if isinstance(nb, str | bytes) else json.dumps(nb)
        (folder / "ps91.ipynb").write_bytes(content if isinstance(content, bytes) else content.encode())
        for name, text in getattr(attack, "FILES", {}).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        return None

    def _answers(self, attack: ModuleType | SimpleNamespace | None) -> dict[str, str]:
        if attack is None:
            return {}
        told = {"@COURSE@": self.course.root, "@VAULT@": self.vault, "@PORT@": self.port, "@PID@": os.getpid()}
        answers = dict(attack.ANSWERS)
        for q, source in answers.items():
            source = source.replace("@RIGHT@", SET.RIGHT.get(q, ""))
            for mark, value in told.items():
                source = source.replace(mark, str(value))
            answers[q] = source
        return answers

    # --- what came of it -------------------------------------------------------------------------------------------
    def executed(self, student: str) -> NotebookNode:
        """Return a submission as it was run."""
        return read(self.course.autograded / student / "ps91" / "ps91.ipynb")

    def page(self, student: str) -> str:
        """Return a feedback page."""
        return (self.course.feedback / student / "ps91" / "ps91.html").read_text()

    def said(self, student: str) -> str:
        """Return everything that the student's own cells put out."""
        cells = self.executed(student).cells
        return "\n".join(str(c.outputs) for c in cells if c.cell_type == "code" and not is_check(c))

    def state(self) -> dict[str, tuple[str, int]]:
        """Return hash and time of every file that a run must not change."""
        found = {}
        for folder in (self.course.solutions, self.course.exercises, self.course.submitted, self.vault):
            for path in sorted(folder.rglob("*")):
                link = os.readlink(path) if path.is_symlink() else ""
                content = link.encode() if link else path.read_bytes() if path.is_file() else b""
                found[str(path)] = hashlib.sha256(content).hexdigest(), path.lstat().st_mtime_ns
        return found


def processes(world: World) -> dict[int, str]:
    """Return the processes that come from a run of this world's, with their command lines.

    They have its mark in their environment.
    """
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                environment, line = (entry / "environ").read_bytes(), (entry / "cmdline").read_text()
            except OSError:  # it has just ended
                continue
            if world.mark.encode() in environment:
                found[int(entry.name)] = line.replace("\0", " ")
    return found
