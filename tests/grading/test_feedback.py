"""The text of feedback pages: markdown and formulas, nothing that runs or is fetched."""

import copy
import html
import re
import time

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

from grading.feedback import code, graded_page, markdown, page
from grading.gradebook import Mark, Score
from grading.intake import examined, whole
from grading.notebook import grade_id, is_check, read

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


# --- a graded notebook ---------------------------------------------------------------------------------------------
@pytest.fixture
def graded(tiny):
    """A way to show the tiny set's page: outputs by grade id, marks of all cells, changes to the executed notebook."""
    instructors = whole(tiny.course, "ps90")

    def show(outputs=None, edit=lambda nb: None, got=1.0, comments=None, **answers):
        nb = examined(tiny.answered(**(tiny.right | answers)), instructors)
        for i, cell in enumerate(nb.cells):
            if cell.cell_type == "code":
                cell.execution_count, cell.outputs = i + 1, (outputs or {}).get(grade_id(cell), [])
        edit(nb)
        graded = [c for c in nb.cells if c.metadata.get("nbgrader", {}).get("grade")]
        marks = {grade_id(c): Mark(got, c.metadata.nbgrader.points, False) for c in graded}
        held = Score(0, 7, False, False, marks=marks, comments=comments or {})
        return graded_page("ps90", "anna", nb, held, tiny.release)

    return show


def _text(shown):
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", shown.partition("</style>")[2])))


def _error(name, text, *frames):
    return [new_output("error", ename=name, evalue=text, traceback=list(frames))]


def test_hidden_tests_are_not_on_it_whatever_the_executed_notebook_holds(graded):
    def spread(nb):
        for cell in nb.cells:
            if is_check(cell):
                cell.source = cell.source.replace("### BEGIN HIDDEN TESTS", "").replace("### END HIDDEN TESTS", "")
                cell.source += "\nassert root(123456) == 351.36"

    frames = ("Cell In[5], line 4\n----> 4 assert double(21) == 42, 'the hidden one'", "Cell In[4], line 2\n  mine")
    outputs = {"q1_check": _error("ValueError", "no such value", *frames)}
    outputs["q1_check"].insert(0, new_output("stream", name="stdout", text="printed by a hidden test: double(21)"))
    shown = _text(graded(outputs, spread))
    assert "double(21)" not in shown
    assert "123456" not in shown
    assert "ValueError: no such value" in shown
    assert "Cell In[4], line 2 mine" in shown, "the student's own frame"
    assert "assert double(1) == 2" in shown, "the visible part"


def test_a_check_that_quotes_the_student_is_escaped(graded):
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    shown = graded({"q1_check": _error("AssertionError", evil), "q2_nine": _error(evil, evil, f"In [8] {evil}")})
    assert "<script" not in shown
    assert "<img src=x" not in shown
    assert "&lt;script&gt;alert(1)" in shown


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (_error("AssertionError", ""), "The check's condition does not hold."),
        (_error("AssertionError", "root(9) is 3"), "root(9) is 3"),
        (_error("NotImplementedError", ""), "Not answered yet"),
        (_error("CellTimeoutError", "Stopped after 2 seconds."), "Stopped after 2 seconds."),
        (_error("NotRun", "Not run: the kernel had died."), "Not run: the kernel had died."),
        ([], "Some of what this checks is right."),
    ],
)
def test_what_a_check_says(graded, output, said):
    assert said in _text(graded({"q2_nine": output}))


def test_own_cells_changed_cells_and_comments(graded):
    def edit(nb):
        nb.cells.insert(4, new_code_cell("mine = 'own cell'", id="mine", execution_count=40))
        nb.cells.insert(4, new_markdown_cell("An *own* note", id="note"))
        figure = next(c for c in nb.cells if c.id == "figure")
        figure.source = "print('changed by the student')"
        figure.outputs = [new_output("stream", name="stdout", text="output of it")]

    shown = _text(graded(edit=edit, comments={"q1": "Well put: $a<b$", "q3": "**Good**"}))
    for words in ("own cell", "An own note", "changed by the student", "output of it", "Well put", "Good"):
        assert words in shown
    assert "import warnings" not in shown, "given cells are not the student's"


def test_too_much_of_everything_is_cut(graded):
    def edit(nb):
        outputs = [new_output("stream", name="stdout", text="x" * 9000)] * 50
        nb.cells[3:3] = [new_code_cell("y = 1\n" * 9000, id=f"c{i}", outputs=copy.copy(outputs)) for i in range(90)]
        big = new_output("display_data", data={"image/png": "A" * 4_000_000})
        nb.cells[3].outputs = [big] * 5

    begun = time.process_time()
    shown = graded(edit=edit)
    assert len(shown) < 25_000_000
    assert "more cells of yours are not shown here" in shown
    assert "more outputs)" in shown
    assert "there are too many on this page" in shown
    assert "characters)" in shown
    assert time.process_time() - begun < 15


@pytest.mark.parametrize(
    "piece", ["[", "![", "*", "_a ", "`", "$", "$$a", "\\", "<a ", "> ", "- ", "|", "[a](", "$\\frac{", ">"]
)
def test_no_markdown_takes_long(piece):
    begun = time.process_time()
    assert markdown(piece * 50_000)
    assert time.process_time() - begun < 5


@pytest.mark.parametrize("piece", ["(", "'", '"""', "f'{", "\\", "0x", "def ", "from . import ", "'\\N{", "é"])
def test_no_source_takes_long(piece):
    begun = time.process_time()
    assert code(piece * 50_000)
    assert time.process_time() - begun < 5


def test_the_message_of_a_hidden_test_does_not_give_its_value_away(tiny):
    def spoken(source):
        nb = examined(tiny.answered(**tiny.right), whole(tiny.course, "ps90"))
        cell = next(c for c in nb.cells if grade_id(c) == "q1_check")
        said = "F is wrong: got 2.5, expected 3.25. Did you halve it?"
        cell.outputs = [new_output("error", ename="AssertionError", evalue=said, traceback=[])]
        cell.source = source(cell.source)
        held = Score(0.0, 7.0, False, False)
        return graded_page("ps90", "anna", nb, held, tiny.release, [])

    shown = spoken(lambda source: source)
    assert "got 2.5. Did you halve it?" in shown
    assert "3.25" not in shown
    visible = next(c.source for c in tiny.release.cells if grade_id(c) == "q1_check")
    assert "got 2.5, expected 3.25. Did you halve it?" in spoken(lambda source: visible)
