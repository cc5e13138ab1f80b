"""The page that goes back to a student: points, what each check said, the comments; one file, nothing from outside.

Everything on it that a student wrote is escaped, and of outputs only text and bitmaps are shown, so that a page can be
opened without running anything. The source of hidden tests is not on it.
"""

import base64
import binascii
import html
import re
from functools import cache
from pathlib import Path

import jinja2
import mistune
from docutils.utils.math.latex2mathml import tex2mathml
from markupsafe import Markup
from nbconvert.exporters import Exporter
from nbconvert.exporters.exporter import ResourcesDict
from nbconvert.filters import strip_ansi
from nbformat import NotebookNode
from nbgrader.preprocessors import ClearHiddenTests
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from traitlets import Dict, List, Unicode

from .course import Course, GradingError
from .engine import DEAD, NOT_RUN, TIMEOUT
from .notebook import grade_id, is_answer, is_check, is_manual, question
from .quiet import quietly

_LONGEST = 4000  # characters of one text output; the whole is in the student's own notebook
_CODE = HtmlFormatter(nowrap=True, style="default")


# --- text ----------------------------------------------------------------------------------------------------------
class _Renderer(mistune.HTMLRenderer):
    """Markdown without raw HTML, with formulas as MathML, and without images from elsewhere."""

    def __init__(self, attachments: dict) -> None:
        super().__init__(escape=True)
        self.attachments = attachments

    def inline_math(self, text: str) -> str:
        return _math(text, as_block=False)

    def block_math(self, text: str) -> str:
        return f"<p>{_math(text, as_block=True)}</p>\n"

    def image(self, text: str, url: str, title: str | None = None) -> str:
        bundle = self.attachments.get(url.removeprefix("attachment:"), {}) if url.startswith("attachment:") else {}
        for mime in ("image/png", "image/jpeg"):
            if mime in bundle and (data := _bitmap(bundle[mime])):
                return f'<img src="data:{mime};base64,{data}" alt="{html.escape(text)}">'
        return f"<em>(image: {html.escape(text or url)})</em>"


# What TeX allows and the converter does not know, said in words that it knows.
_SAID_OTHERWISE = (
    (r"\\dots(?![a-zA-Z])", r"\\ldots"),
    (r"\\([bB]igg?)(?![a-zA-Z])", r"\\\1l"),
    (r"\\([td]?frac)\s*([0-9A-Za-z])\s*([0-9A-Za-z]|\\[A-Za-z]+)", r"\\\1{\2}{\3}"),
)


def _math(tex: str, as_block: bool) -> str:
    try:
        known = tex
        for pattern, words in _SAID_OTHERWISE:
            known = re.sub(pattern, words, known)
        return tex2mathml(known, as_block=as_block)
    except Exception:  # whatever TeX it cannot read is shown as it was written
        return f"<code>{html.escape(tex)}</code>"


def markdown(text: str, attachments: dict | None = None) -> Markup:
    """Return markdown as HTML that runs nothing and fetches nothing.

    Args:
        text: the source; formulas between dollars.
        attachments: a cell's attached images.
    """
    render = mistune.Markdown(
        _Renderer(attachments or {}), plugins=[mistune.import_plugin(p) for p in ("math", "table", "strikethrough")]
    )
    # JupyterLab lets a $$ formula share its line with text; mistune wants it on its own.
    text = re.sub(r"\$\$(.+?)\$\$", lambda m: f"\n$$\n{m.group(1).strip()}\n$$\n", text, flags=re.DOTALL)
    return Markup(render(text))


def code(text: str) -> Markup:
    """Return Python source as highlighted HTML."""
    return Markup(highlight(text, PythonLexer(), _CODE))


def _bitmap(data: str | list[str]) -> str | None:
    text = re.sub(r"\s", "", "".join(data))
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return text


# --- what the page says --------------------------------------------------------------------------------------------
def _outputs(cell: NotebookNode) -> list[dict]:
    shown = []
    for out in cell.outputs:
        if out.output_type == "stream":
            shown.append({"text": _short(strip_ansi(out.text))})
        elif out.output_type == "error":
            shown.append({"error": _short(f"{out.ename}: {strip_ansi(out.evalue)}")})
        else:
            bundle = out.get("data", {})
            image = next((m for m in ("image/png", "image/jpeg") if m in bundle and _bitmap(bundle[m])), None)
            if image:
                alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "figure made by the cell above")
                shown.append({"image": f"data:{image};base64,{_bitmap(bundle[image])}", "alt": alt})
            elif "text/plain" in bundle:
                shown.append({"text": _short(strip_ansi("".join(bundle["text/plain"])))})
    return shown


def _short(text: str) -> str:
    text = text.rstrip("\n")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}\n… ({len(text) - _LONGEST:,} more characters)"


def _about(cell: NotebookNode) -> str:
    """Return the comment at the head of a check, which says what it is about, without the points (shown beside it)."""
    lines = []
    for line in cell.source.strip().splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# ").rstrip())
    points = r"\d+(\.\d+)? points?"
    return re.sub(rf"\s*\({points}\)|^{points}[.:]?\s*", "", " ".join(lines)).strip()


def _check(cell: NotebookNode, answers: dict[int, NotebookNode]) -> dict:
    mark = cell.metadata.nbgrader
    errors = [out for out in cell.outputs if out.output_type == "error"]
    ended = next((out for out in errors if out.ename in (TIMEOUT, DEAD, NOT_RUN)), None)
    message, trace = "", ""
    if ended is not None:
        message = ended.evalue
    elif errors:
        last = errors[-1]
        text = strip_ansi(last.evalue).strip()
        if last.ename == "NotImplementedError" and not text:
            message = "Not answered yet: the function still raises NotImplementedError."
        elif last.ename == "AssertionError":
            message = text or "The check's condition does not hold."
        else:
            message = f"{last.ename}: {text}" if text else last.ename
            trace = _own_frames(last.traceback, answers)
    got, of = float(mark.score or 0.0), float(mark.points)
    return {
        "about": _about(cell),
        "got": got,
        "of": of,
        "state": "passed" if got >= of else "partial" if got > 0 else "failed",
        "message": _short(message),
        "trace": trace,
        "source": code(cell.source) if cell.source.strip() else "",
    }


def _own_frames(traceback: list[str], answers: dict[int, NotebookNode]) -> str:
    """Return the frames of a traceback that lie in the student's own cells: what a check runs stays out."""
    own = []
    for frame in traceback:
        plain = strip_ansi(frame)
        found = re.match(r"\s*(?:Cell |Input )?In\s?\[(\d+)\]", plain)
        if found and int(found.group(1)) in answers:
            own.append(plain.strip())
    return _short("\n\n".join(own))


def _sections(nb: NotebookNode, given: dict[str, str]) -> list[dict]:
    """Return the notebook as its questions: each runs from the end of the one before to its last graded cell.

    Args:
        nb: the graded notebook.
        given: the sources of the released cells by cell id: any other cell is the student's own.
    """
    last = {question(cell): i for i, cell in enumerate(nb.cells) if question(cell)}
    answers = {
        cell.execution_count: cell
        for cell in nb.cells
        if cell.cell_type == "code"
        and cell.execution_count
        and given.get(cell.id) != cell.source
        and not is_check(cell)
    }
    sections, begun = [], 0
    for q, end in last.items():
        cells = nb.cells[begun : end + 1]
        begun = end + 1
        sections.append(_section(q, cells, answers, given))
    return sections


def _section(q: str, cells: list[NotebookNode], answers: dict[int, NotebookNode], given: dict[str, str]) -> dict:
    text = [
        given[cell.id] for cell in cells if cell.cell_type == "markdown" and not is_answer(cell) and cell.id in given
    ]
    headings = [m.group(1).strip() for source in text for m in re.finditer(r"^#{1,4}\s+(.+)$", source, re.MULTILINE)]
    # The last heading before the answer names the question; what stands before it belongs to the set, not to it.
    title = headings[-1] if headings else q.upper()
    stated = "\n\n".join(text)
    if headings:
        stated = stated[stated.rfind(headings[-1]) + len(headings[-1]) :].strip()
    parts, checks = [], []
    for cell in cells:
        if is_check(cell):
            checks.append(_check(cell, answers))
        elif is_manual(cell):
            mark = cell.metadata.nbgrader
            parts.append(
                {
                    "kind": "open",
                    "html": markdown(cell.source, cell.get("attachments")),
                    "comment": markdown(mark.get("comment") or ""),
                    "got": float(mark.score or 0.0),
                    "of": float(mark.points),
                    "pending": bool(mark.get("pending")),
                }
            )
        elif (
            cell.cell_type == "code" and (is_answer(cell) or given.get(cell.id) != cell.source) and cell.source.strip()
        ):
            mark = cell.metadata.get("nbgrader", {})
            parts.append(
                {
                    "kind": "code",
                    "answer": is_answer(cell),
                    "html": code(cell.source),
                    "outputs": _outputs(cell),
                    "comment": markdown(mark.get("comment") or ""),
                }
            )
        elif cell.cell_type == "code" and cell.get("outputs") and any(p["kind"] == "code" for p in parts):
            parts.append({"kind": "given", "outputs": _outputs(cell)})
        elif cell.cell_type == "markdown" and given.get(cell.id) != cell.source and cell.source.strip():
            parts.append({"kind": "note", "html": markdown(cell.source, cell.get("attachments"))})
    opened = [part for part in parts if part["kind"] == "open"]
    return {
        "id": q,
        "title": markdown(title).removeprefix("<p>").removesuffix("</p>\n") if title else q,
        "stated": markdown(stated),
        "parts": parts,
        "checks": checks,
        "got": sum(c["got"] for c in checks) + sum(p["got"] for p in opened),
        "of": sum(c["of"] for c in checks) + sum(p["of"] for p in opened),
        "pending": any(p["pending"] for p in opened),
    }


# --- the page ------------------------------------------------------------------------------------------------------
@cache
def _template() -> jinja2.Template:
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters["points"] = lambda x: f"{x:.2f}".rstrip("0").rstrip(".")
    return env.get_template("feedback.html.j2")


def page(
    ps: str,
    student: str,
    *,
    sections: list[dict] | None = None,
    notes: list[str] | None = None,
    problem: str = "",
    trouble: bool = False,
    penalty: float = 0.0,
) -> str:
    """Return the feedback page.

    Args:
        ps: the set's name.
        student: the student's name.
        sections: the questions; none where nothing could be graded.
        notes: what was mended, or ended by the engine, one sentence each.
        problem: what the student must put right before anything can be graded.
        trouble: nothing could be graded, and it is not the student's to put right.
        penalty: points taken off for lateness.
    """
    sections = sections or []
    return _template().render(
        ps=ps,
        student=student,
        sections=sections,
        notes=notes or [],
        problem=problem,
        trouble=trouble,
        penalty=penalty,
        got=sum(s["got"] for s in sections) - penalty,
        of=sum(s["of"] for s in sections),
        pending=any(s["pending"] for s in sections),
        style=Markup(HtmlFormatter(style="default").get_style_defs(".code")),
        dark=Markup(HtmlFormatter(style="github-dark").get_style_defs(".code")),
    )


class FeedbackPage(Exporter):
    """The exporter that nbgrader's feedback converter writes our page with."""

    file_extension = ".html"
    output_mimetype = "text/html"
    notes = List(Unicode(), help="What was mended, one sentence each.").tag(config=True)
    given = Dict(help="The sources of the released cells by cell id.").tag(config=True)

    def from_notebook_node(self, nb: NotebookNode, resources: ResourcesDict | None = None, **kw: object) -> tuple:
        """Return the page and the resources."""
        nb, resources = super().from_notebook_node(nb, resources, **kw)
        known = resources["nbgrader"]
        text = page(
            known["assignment"],
            known["student"],
            sections=_sections(nb, self.given),
            notes=self.notes,
            penalty=known["late_penalty"],
        )
        return text, resources


class _Pending(ClearHiddenTests):
    """Cut the hidden tests, and mark what waits for a person."""

    def preprocess(self, nb: NotebookNode, resources: ResourcesDict) -> tuple[NotebookNode, ResourcesDict]:
        from nbgrader.api import Gradebook

        known = resources["nbgrader"]
        with Gradebook(known["db_url"]) as book:
            for cell in nb.cells:
                if is_manual(cell):
                    grade = book.find_grade(grade_id(cell), known["notebook"], known["assignment"], known["student"])
                    cell.metadata.nbgrader["pending"] = grade.needs_manual_grade
        return super().preprocess(nb, resources)


def write_feedback(
    course: Course, ps: str, student: str, folder: Path, release: NotebookNode, notes: list[str]
) -> Path:
    """Make one graded submission's feedback in a temporary folder, with nbgrader's converter.

    Args:
        course: the course.
        ps: the set's name.
        student: the student's name; ``autograded/<student>/<set>/`` is there.
        folder: gets ``feedback/<student>/<set>/``.
        release: the set as it is handed out now.
        notes: what was mended, one sentence each.

    Returns:
        The folder of the page.
    """
    import glob

    from nbgrader.converters import GenerateFeedback
    from nbgrader.coursedir import CourseDirectory

    from .gradebook import db_url

    config = course.config()
    config.CourseDirectory.root = str(folder)
    config.CourseDirectory.db_url = db_url(course)
    config.CourseDirectory.autograded_directory = "graded"
    config.GenerateFeedback.preprocessors = ["nbgrader.preprocessors.GetGrades", _Pending]
    config.GenerateFeedback.exporter_class = FeedbackPage
    config.FeedbackPage.notes = notes
    config.FeedbackPage.given = {cell.id: cell.source for cell in release.cells}
    (folder / "graded").symlink_to(course.autograded, target_is_directory=True)
    coursedir = CourseDirectory(config=config)
    coursedir.assignment_id, coursedir.student_id = ps, glob.escape(student)
    with quietly() as log:
        try:
            GenerateFeedback(coursedir=coursedir, config=config, force=True).start()
        except Exception as e:
            raise GradingError(f"the feedback page could not be made: {log.reason(e)}") from e
    return folder / "feedback" / student / ps
