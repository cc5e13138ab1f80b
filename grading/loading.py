"""From the bytes of a student's file to a notebook, whatever an editor made of it."""

import json
from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_notebook

from .course import GradingError
from .notebook import parse

_KINDS = ("code", "markdown", "raw")
_MOST_CELLS = 20_000
_MOST_ATTACHED = 20_000  # files in one cell
_LONGEST_TEXT = 5_000_000  # characters of all cells' sources; a problem set's notebook has some 50,000


def load(content: bytes, name: str) -> tuple[NotebookNode, list[str]]:
    """Return a student's notebook without its outputs, whatever an editor made of it, and what was mended.

    Args:
        content: the file.
        name: its name, for messages.

    Raises:
        GradingError: it is no notebook.
    """
    try:
        text = content.decode("utf-8-sig")  # some editors begin a file with a byte order mark
    except UnicodeDecodeError:
        raise GradingError(f"{name} is not a notebook: it is not UTF-8 text. Save it in JupyterLab again.") from None
    if not text.strip():
        raise GradingError(f"{name} is not a notebook: the file is empty (not valid JSON). Was it cut off?")
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as e:
        where = f" (line {e.lineno})" if isinstance(e, json.JSONDecodeError) else ""
        raise GradingError(f"{name} is not a notebook: it is not valid JSON{where}. Save it again.") from None
    version = raw.get("nbformat") if isinstance(raw, dict) else None
    if not isinstance(version, int) or isinstance(version, bool):
        raise GradingError(f"{name} is not a valid notebook: it does not say in which format it is (nbformat).")
    if version > 4:
        raise GradingError(
            f"{name} is not a valid notebook: its format {version} is newer than 4, which is known here."
        )
    if version < 4:
        sheets = raw.get("worksheets")  # format 1 had none of these
        for sheet in [raw, *(sheets if isinstance(sheets, list) else [])]:
            if isinstance(sheet, dict) and isinstance(sheet.get("cells"), list):
                _require_few(name, sheet["cells"])
        try:
            return load_cells(parse(text, name).cells)
        except RecursionError:
            raise GradingError(f"{name} is not a valid notebook: it is nested too deeply.") from None
    if not isinstance(raw.get("cells"), list):
        raise GradingError(f"{name} is not a valid notebook: it has no list of cells.")
    _require_few(name, raw["cells"])
    return load_cells(raw["cells"])


def _require_few(name: str, cells: list) -> None:
    """Refuse what would hold up everybody else: all of this happens in the one process that writes the records."""
    if len(cells) > _MOST_CELLS:
        raise GradingError(f"{name} has {len(cells):,} cells; {_MOST_CELLS:,} are the most that are graded.")
    sources = (cell.get("source", cell.get("input")) for cell in cells if isinstance(cell, dict))
    length = sum(
        len(s) if isinstance(s, str) else sum(len(line) for line in s if isinstance(line, str))
        for s in sources
        if isinstance(s, str | list)
    )
    if length > _LONGEST_TEXT:
        raise GradingError(f"{name} has {length:,} characters in its cells; {_LONGEST_TEXT:,} are the most.")


def load_cells(raw: list) -> tuple[NotebookNode, list[str]]:
    """Return a notebook of those cells that are cells, with nothing in them but what grading needs.

    Args:
        raw: cells as they stood in the file.
    """
    cells, notes, seen = [], [], set()
    for i, old in enumerate(raw):
        kind, source = (old.get("cell_type"), old.get("source")) if isinstance(old, dict) else (None, None)
        if isinstance(source, list):
            source = "".join(line for line in source if isinstance(line, str))
        if kind not in _KINDS or not isinstance(source, str | None):
            notes.append(f"Cell {i + 1} of the file is no cell and was left out.")
            continue
        text = (source or "").encode("utf-8", "replace").decode()
        if text != (source or ""):
            notes.append(f"Cell {i + 1} has characters that are half of one; each was replaced by a question mark.")
        name = old.get("id")
        # An editor that keeps no ids gets the same ones each time: a submission must count as unchanged.
        name = name if isinstance(name, str) and name not in seen and _is_id(name) else f"cell-{i}"
        while name in seen:
            name += "-"
        seen.add(name)
        metadata = old.get("metadata")
        mark = metadata.get("nbgrader") if isinstance(metadata, dict) else None
        tags = metadata.get("tags") if isinstance(metadata, dict) else None
        kept = NotebookNode(nbgrader=mark) if isinstance(mark, dict) else NotebookNode()
        if isinstance(tags, list):
            kept.tags = tags
        cell = NotebookNode(cell_type=kind, id=name, metadata=kept, source=text)
        if kind == "code":
            cell.outputs, cell.execution_count = [], None
        if kind == "markdown" and _attached(old.get("attachments")):
            cell.attachments = old["attachments"]
        cells.append(cell)
    return new_notebook(cells=cells), notes


def _is_id(name: str) -> bool:
    return 0 < len(name) <= 64 and name.isascii() and all(c.isalnum() or c in "-_" for c in name)


def _attached(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= _MOST_ATTACHED
        and all(
            isinstance(bundle, dict) and all(isinstance(data, str) for data in bundle.values())
            for bundle in value.values()
        )
    )
