"""Nothing that a student wrote runs in the browser of the instructor who marks it."""

import re

import nbformat
import pytest
from nbconvert.exporters import HTMLExporter
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output


def _shown(course, cell: nbformat.NotebookNode) -> str:
    """The cell as nbconvert shows it with the course's settings, without what nbconvert itself adds."""
    exporter = HTMLExporter(config=course.config(), template_name="basic")
    return exporter.from_notebook_node(new_notebook(cells=[cell]))[0]


@pytest.mark.parametrize(
    "source",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "a <svg/onload=alert(1)> b",
        "$x$ <img src=x onerror=alert(1)> $y$",
        "$<img src=x onerror=alert(1)>$",
        "$$<script>alert(1)</script>$$",
        "$ <img src=x onerror=alert(1)>",
        "[x](javascript:alert(1))",
        "[x](JavaScript&#58;alert(1))",
        "[x](javascript&colon;alert(1))",
        "<a href='javascript:alert(1)'>x</a>",
        "<!-- --><iframe src=javascript:alert(1)></iframe>",
    ],
)
def test_markdown(course, source):
    shown = _shown(course, new_markdown_cell(source))
    assert not re.search(r"<(script|img|svg|iframe)", shown), shown
    assert not re.search(r"<[^>]+(href|src)\s*=\s*[\"']?\s*javascript:", shown, re.IGNORECASE), shown


def test_formulas_and_text_stay_what_they_are(course):
    shown = _shown(course, new_markdown_cell("**bold** $a<b$, $$x_1 > 0$$ and 1 < 2, `x` "))
    assert "<strong>bold</strong>" in shown
    assert "$a&lt;b$" in shown
    assert "$$x_1 &gt; 0$$" in shown
    assert "1 &lt; 2" in shown


def test_outputs(course):
    data = {
        "text/html": "<b>hi</b><script>alert(1)</script><img src=x onerror=alert(2)>",
        "application/javascript": "alert(3)",
        "image/svg+xml": "<svg onload='alert(4)'></svg>",
        "text/plain": "hi",
    }
    outputs = [new_output("display_data", {"text/plain": "also", mime: text}) for mime, text in data.items()]
    shown = _shown(course, new_code_cell("x", outputs=outputs))
    assert not re.search(r"<(script|svg)", shown)
    assert not re.search(r"<[^>]*\sonerror", shown)
    assert "hi" in shown


def test_a_picture_that_is_missing_does_not_stop_the_page(course):
    cell = new_markdown_cell("![a](attachment:x.png) and ![b](attachment:y.png)\n\n[r]: attachment:w")
    cell.attachments = {"y.png": {"image/png": "aGk="}}
    page = _shown(course, cell)
    assert "(missing: x.png)" in page
    assert "aGk=" in page
