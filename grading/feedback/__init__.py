"""The page that goes back to a student: points, what each check said, the comments; one file, nothing from outside.

Everything on it that a student wrote is escaped, and of outputs only text and bitmaps are shown, so that a page can be
opened without running anything. The source of hidden tests is not on it.
"""

from functools import cache
from pathlib import Path

import jinja2
from markupsafe import Markup
from nbformat import NotebookNode
from pygments.formatters import HtmlFormatter

from ..gradebook import Score
from .messages import ended, message, messages
from .sections import sections, state
from .text import code, markdown, ticked

__all__ = ["code", "graded_page", "markdown", "message", "messages", "page", "sections", "templates"]


@cache
def templates() -> jinja2.Environment:
    """Return the pages' templates, in which everything is escaped that does not say that it is HTML."""
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parents[1] / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters["points"] = lambda x: f"{x:.2f}".rstrip("0").rstrip(".")
    env.filters["ticked"] = ticked
    env.globals["state"] = state
    env.globals["style"] = Markup(HtmlFormatter(style="default").get_style_defs(".code"))
    env.globals["dark"] = Markup(HtmlFormatter(style="github-dark").get_style_defs(".code"))
    return env


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
    got = sum(s["got"] for s in sections)
    return (
        templates()
        .get_template("feedback.html.j2")
        .render(
            ps=ps,
            student=student,
            sections=sections,
            notes=notes or [],
            problem=problem,
            trouble=trouble,
            penalty=penalty,
            got=max(0.0, got - penalty) if penalty else got,
            of=sum(s["of"] for s in sections),
            pending=any(s["pending"] for s in sections),
        )
    )


def graded_page(
    ps: str, student: str, nb: NotebookNode, held: Score, release: NotebookNode, notes: list[str] | None = None
) -> str:
    """Return the page of a submission that was graded.

    Args:
        ps: the set's name.
        student: the student's name.
        nb: the executed notebook.
        held: what the gradebook holds for it.
        release: the set as it is handed out.
        notes: what was mended, or ended by the engine, one sentence each.
    """
    told = [*ended(nb), *(notes or [])]
    return page(ps, student, sections=sections(nb, held, release, told), notes=told, penalty=held.penalty)
