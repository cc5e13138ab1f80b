"""A small Sphinx extension for this website; `_config.yml` loads it."""

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.environment.collectors.toctree import TocTreeCollector


def skip_field_numbers(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out a named tuple's "Alias for field number 0": the class's own docstring describes its fields."""
    return True if (getattr(obj, "__doc__", None) or "").startswith("Alias for field number") else None


def plain_bibliography(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Take back docutils' claim that a bibliography is a list: it has no list items, which confuses screen readers."""
    if "body" in context:
        context["body"] = context["body"].replace(
            '<div role="list" class="citation-list">', '<div class="citation-list">'
        )


def number_pages_by_path(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Give `book/05_regularized/02_pca` the number 5.2, also while pages or chapters before it are to be written.

    Sphinx counts what it finds. The paths, the lecture map and the pages' links count what is planned, and a number
    once printed should stay. Runs after Sphinx has numbered the sections; numbers the figures and equations anew.
    """
    for page, numbers in env.toc_secnumbers.items():
        path = re.match(r"book/(\d\d)_[^/]+/(?:(\d\d)_)?", page)
        if path is None:
            continue
        first = [int(number) for number in path.groups() if number]
        env.toc_secnumbers[page] = {
            anchor: number and (*first, *number[len(first) :]) for anchor, number in numbers.items()
        }
        for entry in (env.titles[page], *env.tocs[page].findall(nodes.reference)):
            if entry.get("secnumber"):
                entry["secnumber"] = (*first, *entry["secnumber"][len(first) :])
    return TocTreeCollector().assign_figure_numbers(env)


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the above."""
    # Jupyter Book passes this setting of `sphinx_comments` even where that extension, which loads scripts from
    # other machines, is left out; an unknown setting would be a warning, and warnings fail the build.
    app.add_config_value("comments_config", {}, "html")
    app.connect("autodoc-skip-member", skip_field_numbers)
    app.connect("env-get-updated", number_pages_by_path, priority=600)
    app.connect("html-page-context", plain_bibliography)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
