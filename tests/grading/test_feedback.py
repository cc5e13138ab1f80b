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
        (
            _error("CellTimeoutError", "Stopped after 2 seconds."),
            "Your function had not returned after 2 seconds. Is there a loop that never ends?",
        ),
        (_error("NotRun", "Not run: the kernel had died."), "Not run: the kernel had died."),
        (_error("EOFError", "EOF when reading a line"), "Nobody answers input() while a notebook is graded"),
        (_error("StdinNotImplementedError", "raw_input was called"), "Nobody answers input()"),
        (_error("EOFError", "the file ended"), "EOFError: the file ended"),
        (
            _error("TypeError", "cannot unpack non-iterable NoneType object", "Cell In[10], line 2"),
            "NoneType object. Your function gave nothing (None): is a return missing?",
        ),
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


# --- what a hidden test expects --------------------------------------------------------------------------------------
FAR = "F is wrong in 1 of 2 values. The largest difference is 0.75, at index (1,): got 2.5, expected 3.25. Halved?"


@pytest.fixture
def spoken(tiny):
    """What the page says where q1's check, its fifth cell, failed with these frames; its own source may be another."""

    def say(*frames, source=None, said=FAR):
        nb = examined(tiny.answered(**tiny.right), whole(tiny.course, "ps90"))
        cell = next(c for c in nb.cells if grade_id(c) == "q1_check")
        cell.source, cell.execution_count = source or cell.source, 5
        cell.outputs = _error("AssertionError", said, *frames)
        return _text(graded_page("ps90", "anna", nb, Score(0.0, 7.0, False, False), tiny.release, []))

    return say


VISIBLE = "# 2 points. Small numbers\nassert double(1) == 2, 'double(1) is 2: did you square it?'"


def test_what_a_visible_line_expects_is_said(tiny, spoken):
    assert "got 2.5, expected 3.25. Halved?" in spoken("Cell In[5], line 2\n")
    assert "got 2.5, expected 3.25. Halved?" in spoken(
        "Cell \x1b[0;32mIn[5], line 2\x1b[0m\n", "File ~/x.py:1, in f(x)"
    )
    assert "got 2.5, expected 3.25. Halved?" in spoken(source=VISIBLE), "a check without hidden tests"


@pytest.mark.parametrize(
    "frames",
    [
        [], ["AssertionError: cut off"],
        ["Cell In[5], line 4\n"],  # a hidden line
        ["Cell In[5], line 6\n"],  # what came after it
        ["Cell In[5], line 4\n", "Cell In[5], line 2, in probe(x)"],  # a visible function that a hidden line called
        ["Cell In[5], line 2, in probe(x)"],  # the same with a frame lost
        ["Cell In[5], line 4\n", "Cell In[5], line 2\n"],  # as if a student forged one
        ["Cell In[4], line 1\n"], ["In [5], in <cell line: 2>()"],
    ],
)  # fmt: skip
def test_what_a_hidden_test_expects_is_not_given_away(spoken, frames):
    shown = spoken(*frames)
    assert "The largest difference is at index (1,): got 2.5 (the expected value is hidden). Halved?" in shown
    assert "3.25" not in shown
    assert "0.75" not in shown, "got and the difference give it away, too"


def test_a_loop_with_hidden_lines_in_it_is_hidden(tiny, spoken):
    """Its visible line may have failed in the second round."""
    loop = VISIBLE + "\n    ### BEGIN HIDDEN TESTS\n    x = 3\n    ### END HIDDEN TESTS"
    assert "3.25" not in spoken("Cell In[5], line 2\n", source=loop)


def test_a_sentence_of_its_own_stays_whole(spoken):
    assert "F is wrong: got -5.6 (the expected value is hidden)." in spoken(said="F is wrong: got -5.6, expected 0.4.")


# --- names that are not there ----------------------------------------------------------------------------------------
def _missing(name):
    return _error("NameError", f"name '{name}' is not defined")


NO_ROOT = {"q2_part": _missing("root"), "q2_nine": _missing("root")}


@pytest.mark.parametrize(
    ("source", "output", "said"),
    [
        (
            "def root(x)\n  return x", _error("SyntaxError", "expected ':' (<ipython-input-8-3d>, line 1)"),
            "Your answer cell did not run: SyntaxError: expected ':', line 1",
        ),
        (
            "def root(x)\n  return x", _error("IndentationError", "unexpected indent (123.py, line 2)"),
            "Your answer cell did not run: IndentationError: unexpected indent, line 2",
        ),
        ("1 / 0", _error("ZeroDivisionError", "division by zero"),
         "Your answer cell did not run to its end: ZeroDivisionError: division by zero"),
        ("while 1: pass",
         _error("KeyboardInterrupt", "") + _error("CellTimeoutError", "Stopped after 2 seconds."),
         "Your answer cell did not run to its end: this cell had not ended after 2 seconds. Is there a loop"),
        ("input()", _error("EOFError", "EOF when reading a line"),
         "Your answer cell did not run to its end: nobody answers input()"),
        ("def sqrt(x): pass\nclass B:\n  pass\nc: int = 3", [],
         "Your answer defines `sqrt` and `B` and `c`; asked is `root`."),
        ("print(3 == 3)", [], "Your answer defines no function; asked is `root`."),
        ("  ", [], "Not answered yet: your answer cell is empty."),
        ("raise NotImplementedError", _error("NotImplementedError", ""), "Not answered yet: your answer cell"),
        ("def root(x): pass", [], "NameError: name 'root' is not defined"),
    ],
)  # fmt: skip
def test_why_a_name_is_not_there(graded, source, output, said):
    shown = _text(graded({**NO_ROOT, "q2": output}, q2=source, got=0.0))
    assert shown.count(said.replace("`", "")) == (2 if "NameError" in said else 1)
    assert "<ipython-input" not in shown
    assert ("root is not there: see above." in shown) == ("NameError" not in said)


def test_a_name_of_another_question(graded):
    shown = _text(graded({**NO_ROOT, "q2_part": _missing("double"), "q2_nine": _missing("nowhere")}))
    assert "This needs double, which your answer to q1 does not define." in shown
    assert "NameError: name 'nowhere' is not defined" in shown
    helper = _error("AssertionError", "your notebook must define `root`.")
    assert "Your answer defines sqrt; asked is root." in _text(graded({"q2_part": helper}, q2="def sqrt(x): pass"))


def test_none_in_the_students_own_function_is_not_its_result(graded):
    frames = ("Cell In[10], line 2\n", "Cell In[8], line 3, in root(x)")
    shown = _text(graded({"q2_nine": _error("TypeError", "unsupported: 'NoneType' and 'int'", *frames)}))
    assert "unsupported: 'NoneType' and 'int'" in shown
    assert "is a return missing?" not in shown
    shown = _text(graded({"q2": _error("TypeError", "'NoneType' object is not callable", "Cell In[8], line 3")}))
    assert "'NoneType' object is not callable" in shown
    assert "is a return missing?" not in shown


def test_a_stopped_cell_says_so_once(graded):
    stopped = _error("CellTimeoutError", "Stopped after 2 seconds.")
    shown = _text(graded({"q2": _error("KeyboardInterrupt", "") + stopped}))
    assert "This cell had not ended after 2 seconds. Is there a loop that never ends?" in shown
    for word in ("KeyboardInterrupt", "CellTimeoutError", "Stopped."):
        assert word not in shown
    assert "Stopped." in _text(graded({"q2": _error("KeyboardInterrupt", "")}))


def test_each_kind_of_end_has_its_note(graded):
    late, dead = _error("CellTimeoutError", "Stopped after 2 seconds."), _error("DeadKernelError", "It died.")
    used_up = _error("NotRun", "Not run: the notebook had used up its 20 seconds.")
    too_often = _error("NotRun", "Not run: the kernel had died too often.")
    for outputs, slow, died in (
        ({"q1_check": late, "q2": dead}, 1, 1), ({"q1": late}, 1, 0), ({"q1": dead, "q2": too_often}, 0, 1),
        ({"q1_check": used_up}, 1, 0), ({"q1": dead, "q2": used_up}, 1, 1), ({}, 0, 0),
    ):  # fmt: skip
        shown = graded(outputs)
        assert shown.count("Your notebook took too long") == slow, outputs
        assert shown.count("The kernel died while your notebook ran") == died, outputs


@pytest.mark.parametrize(
    "note",
    ["The answer cell q2 was missing and was put back.",
     "3 answer cells (q1, q2, q3) and the check q1_check were missing and were put back."],
)  # fmt: skip
def test_a_deleted_answer_cell(tiny, note):
    nb = examined(tiny.release, whole(tiny.course, "ps90"))
    for cell in nb.cells:
        if grade_id(cell) in ("q2_part", "q2_nine"):
            cell.outputs = _error("NotImplementedError", "")
    text = graded_page("ps90", "anna", nb, Score(0, 7, False, False), tiny.release, [note])
    question = text[text.index('<section id="q2">') : text.index('<section id="q3">')]
    assert question.count("Your notebook has no answer cell for this question.") == 3, "two checks, and the answer"
    assert "Not answered yet" not in question
    assert "NotImplementedError" not in question
    assert ("no answer cell" in text.partition('<section id="q3">')[2]) == ("q3" in note), "an open question, too"
    kept = graded_page("ps90", "anna", nb, Score(0, 7, False, False), tiny.release, [note.replace("q2", "q2_nine")])
    assert "Not answered yet" in kept
    twice = graded_page(
        "ps90", "anna", nb, Score(0, 7, False, False), tiny.release, ["There were two cells q2: the last one counts."]
    )
    assert "Not answered yet" in twice


# --- looks -----------------------------------------------------------------------------------------------------------
def test_backticks_are_code_and_nothing_else_is_anything(graded):
    shown = graded({"q2_nine": _error("AssertionError", "`<b>x</b>` and `index` must <i>be</i> *so*, not ` here")})
    assert (
        "<code>&lt;b&gt;x&lt;/b&gt;</code> and <code>index</code> must &lt;i&gt;be&lt;/i&gt; *so*, not ` here" in shown
    )


def test_the_table_tells_right_from_wrong_without_colours(graded):
    def rows(shown):
        table = shown[shown.index('<table class="scores">') : shown.index("</table>")]
        return re.findall(r'class="badge (\w+)">([^<]*)<', table)

    assert rows(graded(got=0.0))[0] == ("failed", "✗ 0 / 2")
    assert rows(graded(got=1.0))[0] == ("partial", "◐ 1 / 2")
    assert rows(graded(got=2.0))[0] == ("passed", "✓ 2 / 2")
    shown = graded(got=0.0)
    assert shown.count("✗ 0 / 2<") == 4, "q1 and q3: the same chips over the questions"
