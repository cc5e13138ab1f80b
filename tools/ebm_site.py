"""A small Sphinx extension for this website; `_config.yml` loads it."""

from typing import Any

from sphinx.application import Sphinx


def skip_field_numbers(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out a named tuple's "Alias for field number 0": the class's own docstring describes its fields."""
    return True if (getattr(obj, "__doc__", None) or "").startswith("Alias for field number") else None


def plain_bibliography(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Take back docutils' claim that a bibliography is a list: it has no list items, which confuses screen readers."""
    if "body" in context:
        context["body"] = context["body"].replace(
            '<div role="list" class="citation-list">', '<div class="citation-list">'
        )


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the above."""
    # Jupyter Book passes this setting of `sphinx_comments` even where that extension, which loads scripts from
    # other machines, is left out; an unknown setting would be a warning, and warnings fail the build.
    app.add_config_value("comments_config", {}, "html")
    app.connect("autodoc-skip-member", skip_field_numbers)
    app.connect("html-page-context", plain_bibliography)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
