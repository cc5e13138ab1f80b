"""The text of feedback pages: markdown and formulas, nothing that runs or is fetched."""

import re

import pytest

from grading.feedback import markdown, page
from grading.notebook import read

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="


def test_every_formula_of_a_set_is_shown_as_one(course, ps):
    for cell in read(course.source(ps)).cells:
        if cell.cell_type == "markdown":
            formulas = re.findall(r"\$\$.+?\$\$|(?<!\$)\$[^$\n]+?\$", cell.source, re.DOTALL)
            shown = markdown(cell.source)
            assert shown.count("<math") == len(formulas), cell.source[:200]
            code = re.findall(r"<code>(.*?)</code>", shown)
            assert not [c for c in code if "\\" in c and c in "".join(formulas)], code


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("a $x<y$ b", "<mo>&lt;</mo>"),
        (r"$\dots$, $\big(x\big)$, $\tfrac12$, $\frac1\beta$", "<mfrac"),
        ("text $$x^2$$ more", 'display="block"'),
        ("| a | b |\n|---|---|\n| 1 | 2 |", "<table>"),
        (r"$\nosuchcommand$", r"<code>\nosuchcommand</code>"),
        ("*so* `x < y`", "<code>x &lt; y</code>"),
    ],
)
def test_markdown(source, shown):
    assert shown in markdown(source)
    assert source.count("$") < 5 or markdown(source).count("<math") == 4


@pytest.mark.parametrize(
    "source",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[a](javascript:alert(1))",
        "[a](JaVaScRiPt:alert(1))",
        "[a](data:text/html;base64,PHNjcmlwdD4=)",
        "![a](https://example.org/track.png)",
        "![a](javascript:alert(1))",
        '![x" onerror="alert(1)](attachment:a.png)',
        "$<script>alert(1)</script>$",
        r"$\href{javascript:alert(1)}{x}$",
        r"$\text{<img src=x onerror=alert(1)>}$",
        "```html\n<script>alert(1)</script>\n```",
        '<a href="https://example.org" onclick="alert(1)">a</a>',
    ],
)
def test_nothing_a_student_writes_runs_or_is_fetched(source):
    shown = markdown(source, {"a.png": {"image/png": PIXEL}})
    tags = re.findall(r"<[a-zA-Z][^>]*>", shown)
    assert not [t for t in tags if re.match(r"<(script|iframe|object|embed|style|form)", t, re.IGNORECASE)]
    assert not [t for t in tags if re.search(r"\son\w+\s*=", re.sub(r'"[^"]*"', '""', t))]
    assert not [t for t in tags if re.search(r"""=\s*["']?\s*(javascript|data:text)""", t, re.IGNORECASE)]
    assert not [t for t in tags if re.search(r'\ssrc="(?!data:image/(png|jpeg);base64,)', t)]


def test_attached_bitmaps_are_shown_and_nothing_else_that_is_attached():
    assert f"data:image/png;base64,{PIXEL}" in markdown("![a](attachment:a.png)", {"a.png": {"image/png": PIXEL}})
    assert "<img" not in markdown("![a](attachment:a.png)", {"a.png": {"image/png": '"><script>'}})
    assert "<img" not in markdown("![a](attachment:a.svg)", {"a.svg": {"image/svg+xml": "<svg onload=alert(1)>"}})


def test_names_are_escaped():
    text = page("ps90", "<i>anna</i>", problem="no <b>notebook</b>")
    assert "<i>" not in text
    assert "<b>" not in text
    assert "no &lt;b&gt;notebook" in text


def test_lateness_and_trouble():
    text = page("ps90", "anna", trouble=True)
    assert "nothing\nis asked of you" in text
    assert "Put it right" not in text
    section = {
        "id": "q1", "title": "One", "stated": "", "parts": [], "checks": [], "got": 3.0, "of": 4.0, "pending": False
    }  # fmt: skip
    late = page("ps90", "anna", sections=[section], penalty=0.5)
    assert "2.5 of 4 points" in late
    assert "Handed in late" in late
