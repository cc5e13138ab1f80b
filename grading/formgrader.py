"""What formgrader shows an instructor of what a student wrote: nothing that runs in the instructor's browser."""

import re

from nbconvert.exporters.exporter import ResourcesDict
from nbconvert.preprocessors.sanitize import SanitizeHTML
from nbformat import NotebookNode

_ATTACHED = re.compile(r"attachment:([^\s\"'<>)]*)")
_MATH = re.compile(r"(\$\$.+?\$\$|\$[^$\n]+\$)", re.DOTALL)


class Harmless(SanitizeHTML):
    """nbconvert's cleaning of outputs; in markdown, tags and script addresses as plain text.

    nbconvert's own cleaning of markdown would spoil every ``<`` of a formula. Formulas are left alone here: what is
    between dollars is escaped when the page is made.
    """

    def preprocess_cell(
        self, cell: NotebookNode, resources: ResourcesDict, cell_index: int
    ) -> tuple[NotebookNode, ResourcesDict]:
        """Clean one cell."""
        if cell.cell_type != "markdown":
            return super().preprocess_cell(cell, resources, cell_index)
        parts = _MATH.split(cell.source)
        parts[::2] = [_plain(part) for part in parts[::2]]
        held = cell.get("attachments", {})
        # The page cannot be made at all where a picture is missing.
        cell.source = _ATTACHED.sub(lambda m: m[0] if m[1] in held else f"(missing: {m[1]})", "".join(parts))
        return cell, resources


def _plain(text: str) -> str:
    text = re.sub(r"<(?=[a-zA-Z/!?])", "&lt;", text)
    # An address may hide its scheme behind character references, which markdown resolves.
    text = re.sub(r"&(?=#|colon|tab|newline)", "& ", text, flags=re.IGNORECASE)
    return re.sub(r"(javascript|vbscript|data)(\s*):", r"\1\2 :", text, flags=re.IGNORECASE)
