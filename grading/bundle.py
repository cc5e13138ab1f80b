"""What students are handed: one archive with the sets, the library, the pages and the website, and no answers."""

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from string import Template

from .course import CONFIG, Course, GradingError
from .manifest import replace

NAME = "ebm-course"
_TOP = ("requirements.txt", "constraints.txt", "pyproject.toml", CONFIG, "LICENSE*", "CITATION.cff")
_FOLDERS = ("exercises", "ebm_lib", "book", "grading")
_SITE = "_build/html"
_README = Path(__file__).with_name("templates") / "bundle_readme.md"
_SECRET = ("BEGIN SOLUTION", "BEGIN HIDDEN TESTS", "BEGIN MARK SCHEME")  # what nbgrader takes out
_DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip file can hold: the same bytes every day


def bundle(course: Course | None = None, target: Path | None = None) -> Path:
    """Write the archive for students: the same bytes for the same files.

    Only what is listed goes in, so nothing of ``solutions/``, ``tests/``, ``submitted/`` or the gradebook can. Hidden
    files, caches and symbolic links are left out.

    Args:
        course: the course; by default the one around the working directory.
        target: the archive; by default ``_build/ebm-course.zip``.

    Returns:
        The archive.

    Raises:
        GradingError: nothing is released, a notebook to be handed out holds a solution or a hidden test, or the archive
            cannot be written there.
    """
    course = course or Course.find()
    target = target or course.root / "_build" / f"{NAME}.zip"
    if target.is_dir():
        raise GradingError(f"{target} is a folder: name a file to write the archive to, such as {target / NAME}.zip.")
    files = dict(_files(course.root))
    sets = sorted({name.split("/")[1] for name in files if name.startswith("exercises/") and name.endswith(".ipynb")})
    if not sets:
        raise GradingError("no problem set is released: run `python -m grading release` first.")
    for name, path in files.items():
        if path.suffix == ".ipynb":
            _check(name, path)
    site = "Open `site/index.html` in a browser." if "site/index.html" in files else "The pages are in `book/`."
    readme = Template(_README.read_text(encoding="utf-8")).substitute(site=site, first=sets[0], sets=", ".join(sets))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted([*files, "README.md"]):
            entry = zipfile.ZipInfo(f"{NAME}/{name}", _DATE)
            entry.create_system, entry.external_attr = 3, 0o100644 << 16  # a plain file, as Unix says it
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, readme.encode() if name == "README.md" else files[name].read_bytes())
    try:
        replace(target, out.getvalue())
    except OSError as e:
        raise GradingError(f"the archive cannot be written to {target}: {e.strerror}.") from e
    return target


def contents(archive: Path) -> str:
    """Return what is in an archive for students, in one line.

    Args:
        archive: from :func:`bundle`.
    """
    with zipfile.ZipFile(archive) as z:
        inside = [name.removeprefix(f"{NAME}/") for name in z.namelist()]
    sets = [name.split("/")[1] for name in inside if name.startswith("exercises/") and name.endswith(".ipynb")]
    parts = [("ebm_lib", "library"), ("book", "pages"), ("site", "website")]
    there = [word for folder, word in parts if any(name.startswith(f"{folder}/") for name in inside)]
    no_site = "" if "website" in there else "; no website (`make site` first)"
    return f"{', '.join([*dict.fromkeys(sets), *there])}{no_site}; {archive.stat().st_size / 1e6:.1f} MB"


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield what goes into the archive: the name there, and the file."""
    for pattern in _TOP:
        for path in root.glob(pattern):
            if path.is_file() and not path.is_symlink():
                yield path.name, path
    for folder, name in (*((folder, folder) for folder in _FOLDERS), (_SITE, "site")):
        for path in (root / folder).rglob("*"):
            inside = path.relative_to(root / folder)
            if path.is_file() and not path.is_symlink() and not any(map(_left_out, inside.parts)):
                yield f"{name}/{inside.as_posix()}", path


def _left_out(part: str) -> bool:
    return part.startswith(".") or part == "__pycache__" or part.endswith((".pyc", ".egg-info"))


def _check(name: str, path: Path) -> None:
    """Refuse a notebook that still has what a release takes out."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        text = "\n".join("".join(cell["source"]) for cell in cells)
    except (ValueError, KeyError, TypeError) as e:
        raise GradingError(f"{name} is no notebook ({type(e).__name__}: {e}): mend it or take it away.") from None
    found = next((secret for secret in _SECRET if secret in text), None)
    if found:
        raise GradingError(f"{name} is not for students, it has a {found!r}: run `python -m grading release`.")
