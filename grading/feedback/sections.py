"""What a student's page says: the notebook's questions, with the student's own cells and what each check said."""

import re
from collections import Counter
from collections.abc import Sequence

from markupsafe import Markup, escape
from nbconvert.filters import strip_ansi
from nbformat import NotebookNode

from ..gradebook import Mark, Score
from ..kernels.task import DEAD, NOT_RUN, TIMEOUT
from ..notebook import grade_id, is_answer, is_check, is_manual, question
from .messages import STOPPED, errors, frames, lost, messages, raised, stopped_in_sight, without_expected
from .text import bitmap, code, given_code, given_markdown, markdown, short

_MOST_PARTS = 60  # cells of one question
_MOST_OUTPUTS = 20  # of one cell
_IMAGES = 8_000_000  # characters of all images on a page
_COLOURED = 60_000  # characters of all cells on a page that are highlighted and set; that takes time
_NO_MARK = Mark(0.0, 0.0, False)
_NOT_THEIRS = ("AssertionError", "NotImplementedError", TIMEOUT, DEAD, NOT_RUN)  # no student's line raised these


def sections(nb: NotebookNode, held: Score, release: NotebookNode, notes: Sequence[str] = ()) -> list[dict]:
    """Return a graded notebook as its questions: each runs from the end of the one before to its last graded cell.

    Of checks and given cells only what students were handed is shown, whatever source the executed notebook has.

    Args:
        nb: the executed notebook.
        held: its score.
        release: the set as it is handed out; any cell that is not in it is the student's own.
        notes: what was mended, one sentence each.
    """
    return _Page(nb, held, release, notes).sections()


def state(got: float, of: float) -> str:
    """Return whether points are all, some or none: ``passed``, ``partial`` or ``failed``."""
    return "passed" if got >= of else "partial" if got > 0 else "failed"


class _Page:
    def __init__(self, nb: NotebookNode, held: Score, release: NotebookNode, notes: Sequence[str]) -> None:
        self.nb, self.held = nb, held
        self.said, self.lost = messages(nb, release, notes), lost(nb, notes)
        self.by_name = {grade_id(cell): cell for cell in release.cells if grade_id(cell)}
        self.by_id = {cell.id: cell for cell in release.cells if not grade_id(cell)}
        self.images, self.coloured = _IMAGES, _COLOURED
        self.own = {
            cell.execution_count
            for cell in nb.cells
            if cell.cell_type == "code" and cell.execution_count and self._is_own(cell)
        }

    def _given(self, cell: NotebookNode) -> NotebookNode | None:
        """Return the released cell that this one is, or was before it was changed."""
        return self.by_name.get(grade_id(cell)) if grade_id(cell) else self.by_id.get(cell.id)

    def _is_own(self, cell: NotebookNode) -> bool:
        """Whether a student wrote what stands in this cell."""
        given = self._given(cell)
        if given is None:
            return True
        locked = grade_id(cell) and not is_answer(given)
        return not locked and given.source != cell.source

    def sections(self) -> list[dict]:
        last = {question(cell): i for i, cell in enumerate(self.nb.cells) if question(cell)}
        made, begun = [], 0
        for q, end in last.items():
            made.append(self._section(q, self.nb.cells[begun : end + 1]))
            begun = end + 1
        return made

    def _code(self, source: str) -> Markup:
        self.coloured -= len(source)
        return code(source) if self.coloured >= 0 else escape(short(source))

    def _markdown(self, cell: NotebookNode) -> Markup:
        self.coloured -= len(cell.source)
        if self.coloured < 0:
            return Markup("<pre>") + escape(short(cell.source)) + Markup("</pre>")
        return markdown(cell.source, cell.get("attachments"))

    def _section(self, q: str, cells: list[NotebookNode]) -> dict:
        title, stated = self._stated(q, cells)
        parts, checks, left_out = [], [], 0
        for cell in cells:
            if is_check(cell):
                checks.append(self._check(cell))
                continue
            part = self._part(cell, any(p["kind"] == "code" for p in parts))
            if part is not None and (len(parts) < _MOST_PARTS or is_answer(cell)):
                parts.append(part)
            elif part is not None:
                left_out += 1
        marks = [self.held.marks.get(grade_id(cell), _NO_MARK) for cell in cells if grade_id(cell)]
        return {
            "id": q,
            "title": title,
            "stated": stated,
            "parts": parts,
            "left_out": left_out,
            "checks": checks,
            "got": sum(mark.got for mark in marks),
            "of": sum(mark.of for mark in marks),
            "pending": any(mark.pending for mark in marks),
        }

    def _stated(self, q: str, cells: list[NotebookNode]) -> tuple[str, str]:
        """Return a question's title and text, as they were handed out."""
        released = [self._given(cell) for cell in cells if cell.cell_type == "markdown" and not is_answer(cell)]
        text = "\n\n".join(cell.source for cell in released if cell is not None)
        headings = list(re.finditer(r"^#{1,4}\s+(.+)$", text, re.MULTILINE))
        if not headings:
            return q.upper(), given_markdown(text)
        # The last heading before the answer names the question; what stands before it belongs to the set, not to it.
        title = given_markdown(headings[-1].group(1).strip())
        return title.removeprefix("<p>").removesuffix("</p>\n"), given_markdown(text[headings[-1].end() :].strip())

    def _part(self, cell: NotebookNode, after_code: bool) -> dict | None:
        """Return what is shown of a cell that is no check, or None."""
        comment = markdown(self.held.comments.get(grade_id(cell), ""))
        if is_answer(cell) and question(cell) in self.lost:
            return {"kind": "lost", "comment": comment}
        if is_manual(cell):
            mark = self.held.marks.get(grade_id(cell), _NO_MARK)
            as_code = cell.cell_type == "code"
            shown = self._code(cell.source) if as_code else self._markdown(cell)
            part = {"kind": "open", "code": as_code, "html": shown, "comment": comment, "pending": mark.pending}
            return part | ({"outputs": self._outputs(cell)} if as_code else {})
        if cell.cell_type == "code" and (is_answer(cell) or self._is_own(cell)):
            if not cell.source.strip():
                return None
            part = {"kind": "code", "answer": is_answer(cell), "html": self._code(cell.source), "comment": comment}
            return part | {"outputs": self._outputs(cell)}
        if cell.cell_type == "code" and cell.get("outputs") and after_code:
            return {"kind": "given", "outputs": self._outputs(cell)}
        if cell.cell_type == "markdown" and self._is_own(cell) and cell.source.strip():
            return {"kind": "note", "html": self._markdown(cell)}
        return None

    def _outputs(self, cell: NotebookNode) -> list[dict]:
        shown = []
        by_engine = any(out.ename == TIMEOUT for out in errors(cell))  # and its sentence says more than the interrupt
        for out in cell.outputs[:_MOST_OUTPUTS]:
            if out.output_type == "stream":
                shown.append({"text": short(strip_ansi(out.text))})
            elif out.output_type != "error":
                shown += self._data(out.get("data", {}))
            elif out.ename != STOPPED or not by_engine:
                shown.append({"error": raised(out, cell, own=self._is_own(cell) or is_answer(cell))})
        if len(cell.outputs) > _MOST_OUTPUTS:
            kinds = Counter(out.output_type for out in cell.outputs[_MOST_OUTPUTS:])
            shown.append({"text": f"… ({kinds.total()} more outputs)"})
        return shown

    def _data(self, bundle: dict) -> list[dict]:
        for kind in ("image/png", "image/jpeg"):
            data = bitmap(bundle[kind]) if kind in bundle else None
            if data:
                self.images -= len(data)
                if self.images < 0:
                    return [{"text": "(a figure, not shown: there are too many on this page)"}]
                return [{"image": f"data:{kind};base64,{data}", "alt": "figure made by the cell above"}]
        return [{"text": short(strip_ansi("".join(bundle["text/plain"])))}] if "text/plain" in bundle else []

    def _check(self, cell: NotebookNode) -> dict:
        mark, given = self.held.marks.get(grade_id(cell), _NO_MARK), self._given(cell)
        hidden = given is None or given.source != cell.source
        in_sight = not hidden or (given is not None and stopped_in_sight(cell, given))
        said = self.said[grade_id(cell)]
        return {
            "about": about(given) if given is not None else "",
            "got": mark.got,
            "of": mark.of,
            "state": state(mark.got, mark.of),
            "message": said if in_sight else without_expected(said),
            "trace": self._own_frames(cell),
            "hidden": hidden,
            "source": given_code(given.source) if given is not None and given.source.strip() else "",
        }

    def _own_frames(self, cell: NotebookNode) -> str:
        """Return the frames of a check's error that lie in the student's own cells: what a check runs stays out."""
        failed = errors(cell)
        if not failed or failed[-1].ename in _NOT_THEIRS:
            return ""
        return short("\n\n".join(frame for frame, number in frames(failed[-1], cell).items() if number in self.own))


def about(cell: NotebookNode) -> str:
    """Return the comment at the head of a check, which says what it is about, without the points (shown beside it).

    Args:
        cell: the check.
    """
    lines = []
    for line in cell.source.strip().splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# ").rstrip())
    points = r"\d+(\.\d+)? points?"
    return re.sub(rf"\s*\({points}\)|^{points}[.:]?\s*", "", " ".join(lines)).strip()
