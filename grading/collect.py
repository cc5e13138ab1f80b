"""What lies in ``submitted/``, read once and safely: nothing a student left there leads anywhere else or never ends.

Files are opened below the folder's own descriptor, links are never followed, and what was opened must be a plain file:
nothing can be swapped between a look and a read. Everything after this works on the bytes that were read here.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from .course import Course, GradingError, check_student

TIMESTAMP, SECRET = "timestamp.txt", "submission_secret.txt"  # what nbgrader's exchange lays beside a notebook

_LARGEST_NOTEBOOK = 50_000_000  # bytes; one with figures stays below a tenth of it
_LARGEST_FILES = 30_000_000  # bytes of everything beside the notebook
_MOST_FILES = 2_000
_DEEPEST = 16  # folders
_LONGEST_PATH = 500  # characters of a file's path
_LONGEST_TIME = 100  # characters of a time: the reader of free-form dates takes hours over a long text
_LONGEST_NAME = 128  # characters of a student's name: nbgrader's column in the gradebook
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # opening a FIFO would wait for a writer


@dataclass
class HandedIn:
    """What a student handed in for a set, in memory.

    Args:
        student: the student's name.
        ps: the set's name.
        notebooks: the set's notebook by its file name, or, where there is none of that name, all there are.
        files: everything else by path, with forward slashes.
        notes: what was left out, one sentence each.
        modified: when the notebook was last written, in UTC without zone.
    """

    student: str
    ps: str
    notebooks: dict[str, bytes] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    modified: datetime | None = None

    def digest(self) -> str:
        """Return a fingerprint of everything that was read."""
        h = hashlib.sha256()
        for kind, found in (("notebook", self.notebooks), ("file", self.files)):
            for name, content in sorted(found.items()):
                h.update(f"{kind}\0{name}\0{len(content)}\0".encode())
                h.update(content)
        return h.hexdigest()


def students(course: Course, ps: str) -> list[str]:
    """Return who handed something in for a set, or tried to.

    A folder that holds other sets only is a student who has not handed in this one; any other folder is listed.

    Args:
        course: the course.
        ps: the set's name.
    """
    others = set(course.sets()) - {ps}
    found = []
    for folder in sorted(course.submitted.glob("*")):
        if folder.name.startswith(".") or not folder.is_dir():
            continue
        try:
            inside = set(os.listdir(folder)) if not folder.is_symlink() else set()
        except OSError:
            inside = set()  # unreadable: listed, and then refused with the reason
        if ps in inside or not inside & others:
            found.append(folder.name)
    return found


def readable(name: str) -> str:
    r"""Return a file's name as text that can be printed and stored: bytes that are no UTF-8 are written out.

    So are control characters, which mean something to a terminal.

    >>> readable("m\udcfcller")
    'm\\udcfcller'
    """
    text = name.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def collect(course: Course, ps: str, student: str) -> HandedIn:
    """Read what a student handed in.

    Args:
        course: the course.
        ps: the set's name.
        student: the name of a folder in ``submitted/``.

    Raises:
        GradingError: there is nothing that could be graded; the message is for the student and the instructor.
    """
    check_student(student)
    if len(student) > _LONGEST_NAME:
        raise GradingError(f"a student's name has at most {_LONGEST_NAME} characters, this one {len(student)}.")
    found = HandedIn(student, ps)
    top = os.open(course.submitted, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        own = _enter(student, top, "the folder")
    finally:
        os.close(top)
    try:
        folder = _enter(ps, own, f"{ps}/")
    except FileNotFoundError:
        raise GradingError(f"no notebook: it belongs at submitted/{student}/{ps}/{ps}.ipynb.") from None
    finally:
        os.close(own)
    try:
        _notebooks(folder, found)
        _files(folder, found)
    finally:
        os.close(folder)
    return found


def _enter(name: str, above: int, called: str) -> int:
    """Open a folder below an open one."""
    try:
        return os.open(name, _FOLDER, dir_fd=above)
    except FileNotFoundError:
        raise
    except OSError as e:
        if stat.S_ISLNK(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode):
            raise GradingError(f"{called} is a link; hand in the files themselves.") from None
        raise GradingError(f"{called} cannot be opened as a folder: {e.strerror}.") from None


def _notebooks(folder: int, found: HandedIn) -> None:
    """Read the notebook, or those that it might be."""
    expected = f"{found.ps}.ipynb"
    where = f"submitted/{found.student}/{found.ps}/{expected}"
    if expected in os.listdir(folder):
        found.notebooks[expected], found.modified = _read(expected, folder, _LARGEST_NOTEBOOK, "clear its outputs")
        return
    room, why = _LARGEST_NOTEBOOK, ""
    for name in sorted(os.listdir(folder)):
        if name.endswith(".ipynb") and not name.startswith("."):
            try:
                found.notebooks[name], found.modified = _read(name, folder, room, "clear its outputs")
            except GradingError as e:
                why = f" ({e})"
                continue
            room -= len(found.notebooks[name])
    if not found.notebooks:
        raise GradingError(f"no notebook: it belongs at {where}.{why}")


def _read(name: str, folder: int, limit: int, advice: str) -> tuple[bytes, datetime]:
    """Read one plain file of limited size; return when it was written, too.

    Raises:
        GradingError: it is a link or no plain file, cannot be read, or is too large.
    """
    shown = readable(name)
    try:
        descriptor = os.open(name, _FILE, dir_fd=folder)
    except OSError as e:
        if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise GradingError(f"{shown} is a link; hand in the file itself.") from None
        raise GradingError(f"{shown} cannot be read: {e.strerror}.") from None
    state = os.fstat(descriptor)
    if not stat.S_ISREG(state.st_mode):
        os.close(descriptor)
        kind = "a folder" if stat.S_ISDIR(state.st_mode) else "a device or pipe"
        raise GradingError(f"{shown} is {kind}, not a file.")
    with open(descriptor, "rb") as f:
        content = f.read(limit + 1)  # whatever its size was said to be
    if len(content) > limit:
        raise GradingError(f"{shown} has more than {limit / 1e6:.0f} MB: {advice}.")
    return content, datetime.fromtimestamp(state.st_mtime, UTC).replace(tzinfo=None)


def _files(folder: int, found: HandedIn) -> None:
    room = _LARGEST_FILES
    for count, (path, above, name) in enumerate(_walk(folder, "", found.notes)):
        if count == _MOST_FILES or len(found.notes) > _MOST_FILES:
            raise GradingError(f"there are more than {_MOST_FILES:,} files beside the notebook: hand in what it needs.")
        if len(path) > _LONGEST_PATH:
            raise GradingError(f"{path[:40]}… has more than {_LONGEST_PATH} characters: give it a shorter name.")
        if not name.isprintable() or "\\" in name:
            found.notes.append(f"{path!r} was left out: its name has characters that no file's name should have.")
            continue
        try:
            content, _ = _read(name, above, room, "too large to hand in")
        except GradingError as e:
            if "more than" in str(e):
                most = _LARGEST_FILES // 1_000_000
                raise GradingError(f"the files beside the notebook have more than {most} MB.") from None
            found.notes.append(f"{path} was left out: it{str(e).removeprefix(name)}")
            continue
        room -= len(content)
        found.files[path] = content


def _walk(folder: int, path: str, notes: list[str]) -> Iterator[tuple[str, int, str]]:
    """Yield each file's path, its folder's descriptor and its name, in a settled order."""
    for name in sorted(os.listdir(folder)):
        if name.startswith(".") or name == "__pycache__":
            continue
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            if path.count("/") >= _DEEPEST:
                raise GradingError(f"there are more than {_DEEPEST} folders inside each other: hand in what it needs.")
            try:
                below = _enter(name, folder, "it")
            except (GradingError, FileNotFoundError) as e:
                notes.append(f"{path}{readable(name)} was left out: {e}")
                continue
            try:
                yield from _walk(below, f"{path}{name}/", notes)
            finally:
                os.close(below)
        elif not name.endswith(".ipynb"):
            yield f"{path}{name}", folder, name


def timestamp(found: HandedIn, late: str) -> tuple[datetime | None, list[str]]:
    """Return when something was handed in, where that is known, and what was odd about it.

    Args:
        found: what was handed in.
        late: ``timestamp``: as nbgrader's ``timestamp.txt`` beside the notebook says; ``file``: where there is none,
            when the notebook was last written.

    Raises:
        GradingError: ``late`` is neither.
    """
    from nbgrader.utils import parse_utc

    if late not in ("timestamp", "file"):
        raise GradingError(f"late is 'timestamp' or 'file', not {late!r}.")
    fallback = found.modified if late == "file" else None
    text = found.files.get(TIMESTAMP, b"").decode("utf-8", "replace").strip()
    if not text:
        return fallback, []
    try:
        if len(text) > _LONGEST_TIME:
            raise ValueError("too long")
        return parse_utc(text), []
    except (ValueError, TypeError, ArithmeticError, OSError):
        return fallback, [f"timestamp.txt does not hold a time: {text[:40]!r}. Its lateness was not counted."]
