"""Every page keeps the promises that all pages make; each message says what to do about it."""

import re
import statistics
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
import yaml

TAGS = {"hide-input", "hide-cell", "remove-cell", "nbval-ignore-output"}
SECTIONS = ["Check yourself", "Pitfalls", "Summary", "Exercises", "Further reading"]
TRAINS = re.compile(r"\bfit\(")
VARIES = re.compile(r"\bfit\(|viz\.explorer\(|FuncAnimation\(|perf_counter|%%?time|\bprogress\b")
ITEM = re.compile(r"^(?:-|\d+\.) ", re.M)


def name(cell) -> str:
    """How a message points at a cell."""
    return f"{cell['id']} ({cell.source.strip().splitlines()[0][:60]!r})"


def glued(cell) -> list[str]:
    """The names that a cell's stored outputs glue."""
    found = [output.get("metadata", {}).get("scrapbook", {}).get("name") for output in cell.outputs]
    return [n for n in found if n]


def pictures(cell) -> list:
    """The stored pictures of a cell, glued ones excepted."""
    return [o for o in cell.outputs if any(kind.startswith("image/") for kind in o.get("data", {}))]


def is_explorer(cell) -> bool:
    """Whether the cell's stored output holds a live explorer."""
    return any("ebm-explorer" in str(o.get("data", {}).get("text/html", "")) for o in cell.outputs)


# --- what every notebook stores --------------------------------------------------------------------------------------


def test_stores_nothing_it_should_not(any_notebook, tool: ModuleType):
    """Executed, no error, no stderr, no widget, no path or address of the machine."""
    assert tool.problems(any_notebook.notebook) == []


def test_is_as_the_tool_writes_it(any_notebook, tool: ModuleType):
    """The stored outputs belong to the stored code, and nothing volatile is kept."""
    assert tool.process(any_notebook.path, check=True)[1] == []


def test_counts_run_from_one(any_notebook):
    """Executed once, from top to bottom."""
    counts = [cell.execution_count for cell in any_notebook.code]
    assert counts == list(range(1, len(counts) + 1))


def test_problem_set_metadata_is_valid(any_notebook):
    """What nbgrader needs to grade is there and unambiguous."""
    if "solutions" not in any_notebook.path.parts:
        pytest.skip("not a problem set")
    from nbgrader.nbgraderformat import SchemaTooNewError, SchemaTooOldError, ValidationError, read

    try:
        read(any_notebook.path, as_version=4)
    except (ValidationError, SchemaTooOldError, SchemaTooNewError) as error:
        pytest.fail(f"nbgrader refuses the metadata: {error}")
    marked = [c.metadata.nbgrader for c in any_notebook.notebook.cells if "nbgrader" in c.metadata]
    ids = Counter(m.grade_id for m in marked)
    assert marked, "no cell is marked for nbgrader"
    assert [i for i, n in ids.items() if n > 1] == [], "grade ids are used twice"


# --- the book as a whole ---------------------------------------------------------------------------------------------


def test_table_of_contents_names_every_page(root: Path, pages):
    """No page is left out of the site and none is promised that does not exist."""

    def files(entry) -> set[str]:
        if isinstance(entry, list):
            return set().union(*map(files, entry))
        if isinstance(entry, dict):
            own = {entry[k] for k in ("file", "root") if k in entry}
            return own.union(*(files(v) for v in entry.values() if isinstance(v, (list, dict))))
        return set()

    listed = files(yaml.safe_load((root / "_toc.yml").read_text()))
    missing = [f for f in listed if not any((root / f"{f}{suffix}").exists() for suffix in (".md", ".ipynb"))]
    assert missing == []
    assert [str(p.path) for p in pages if str(p.path.relative_to(root).with_suffix("")) not in listed] == []
    assert len(pages) >= 8


def test_names_are_unique_in_the_book(pages):
    """Labels of equations, names of figures and glued numbers live in one space."""
    uses: Counter[str] = Counter()
    for page in pages:
        uses.update(re.findall(r"\$\$[ \t]*\(([\w-]+)\)", page.text))
        for cell in page.code:
            uses.update(glued(cell))
            uses.update([cell.metadata.get("mystnb", {}).get("figure", {}).get("name", f"unnamed {id(cell)}")])
    assert [n for n, count in uses.items() if count > 1] == []


# --- the parts of a page ---------------------------------------------------------------------------------------------


def test_head(page):
    """Title; reading time, run time, prerequisites; objectives: in this order, at the top."""
    lines = page.text.split("\n")
    assert lines[0].startswith("# "), "the first line is the title"
    without_code = re.sub(r"^```.*?^```", "", page.text, flags=re.M | re.S)
    assert len(re.findall(r"^# ", without_code, flags=re.M)) == 1, "one title a page"
    head = re.match(r"# .+\n+\{\.page-head\}\n(.+)\n+:::\{admonition\} Objectives\n:class: objectives\n", page.text)
    assert head, "after the title come the head line and the objectives, as in tests' neighbour pages"
    assert re.search(r"\*\*Reading\*\* \d+ min", head[1]), "say how long reading takes"
    assert re.search(r'\*\*Running\*\* <span class="run-time">≈ \d+ s</span>', head[1]), "`make notebooks` fills this"
    before = re.search(r"\*\*Before this\*\* (.+)", head[1])
    assert before, "name the prerequisites"
    assert re.search(r"\]\([\w./#-]+\)|nothing but PyTorch", before[1]), "link the prerequisites"


def test_reading_time_fits_the_text(page):
    """Between 60 and 200 words a minute: formulas and code are slow reading."""
    minutes = int(re.search(r"\*\*Reading\*\* (\d+) min", page.text)[1])
    assert 60 <= len(page.prose.split()) / minutes <= 200


def test_objectives_are_answered(page):
    """Three to six abilities, and a summary that takes them up one by one."""
    box = re.search(r":class: objectives\n(.*?)^:::$", page.text, flags=re.M | re.S)
    objectives = ITEM.findall(box[1])
    assert 3 <= len(objectives) <= 6
    assert len(ITEM.findall(page.section("Summary"))) == len(objectives), "one line of summary for each objective"


def test_sections(page):
    """The five closing sections, in order."""
    headings = re.findall(r"^## (.+?)\s*$", page.text, flags=re.M)
    assert headings[-5:] == SECTIONS


def test_questions(page):
    """Three to five questions; options explained, one of them right."""
    boxes = re.findall(
        r"^::::+\{admonition\} ([^\n]+)\n:class: check\n(.*?)^::::+$", page.section("Check yourself"), re.M | re.S
    )
    assert 3 <= len(boxes) <= 5
    for title, box in boxes:
        options = re.findall(r"^:::\{dropdown\} [^\n]+\n:class-container: (yes|no|think)\n(.*?)^:::$", box, re.M | re.S)
        kinds = Counter(kind for kind, _ in options)
        assert options, f"{title}: no options"
        assert len(options) == len(re.findall(r"^:::\{dropdown\}", box, re.M)), f"{title}: malformed option"
        assert kinds["think"] == 1 == len(options) or (kinds["yes"] == 1 and kinds["no"] >= 2), (
            f"{title}: {dict(kinds)}"
        )
        for _, explanation in options:
            assert len(explanation.split()) >= 8, f"{title}: an option without an explanation"


def test_pitfalls(page):
    """Two to five things people get wrong."""
    assert 2 <= len(re.findall(r"^:::\{admonition\} .+\n:class: pitfall$", page.section("Pitfalls"), re.M)) <= 5


def test_exercises_link_to_the_problem_set(page, root: Path):
    """The chapter's own set, once it is released; until then the page's own exercises have solutions to unfold."""
    chapter = page.path.parent.name[:2]
    if not (root / "exercises" / f"ps{chapter}").is_dir():
        assert ":::{dropdown} Solution" in page.section("Exercises")
        return
    link = re.search(r"\{download\}`[^`<]+<(\.\./\.\./exercises/[\w/.]+)>`", page.section("Exercises"))
    assert link, "link to the problem set with {download}"
    assert link[1] == f"../../exercises/ps{chapter}/ps{chapter}.ipynb"


def test_further_reading_cites(page):
    """Works, with their keys."""
    assert re.search(r"\{cite:[tp]\}", page.section("Further reading"))


# --- prose -----------------------------------------------------------------------------------------------------------


def test_length_of_prose(page):
    """1,200 to 2,500 words before the questions."""
    assert 1200 <= len(page.prose.split()) <= 2500


def test_numbers_in_prose_are_glued(page):
    """A measured number comes from a variable."""
    typed = re.findall(r"\S*(?<![\w.§])\d+(?:\.\d+)? ?%|(?<![\w.§])\d+\.\d{2,}(?![\w.])", page.prose)
    assert typed == [], "use {glue:text}"


def test_formulas_come_after_a_picture(page):
    """A question, a picture, then the mathematics."""
    seen_picture = False
    for cell in page.notebook.cells:
        if cell.cell_type == "code":
            seen_picture |= bool(pictures(cell)) or is_explorer(cell)
        elif "$$" in cell.source:
            before = cell.source.split("$$")[0]
            assert seen_picture or re.search(r"!\[|\{figure\}", before), (
                "the first figure comes before the first formula"
            )
            return
    pytest.fail("a page without a displayed formula")


def test_labels_are_used(page):
    """A number beside a formula is there to be referred to."""
    labels = re.findall(r"\$\$[ \t]*\(([\w-]+)\)", page.text)
    assert labels, "no formula has a number"
    assert [x for x in labels if not x.startswith("eq-")] == []
    assert [x for x in labels if f"{{eq}}`{x}`" not in page.text] == []


def test_cites(page):
    """Formulas have sources."""
    assert re.search(r"\{cite:[tp]\}", page.text.split("\n## Check yourself")[0])


def test_glue(page):
    """What is pasted was glued on this page, and what is glued is pasted."""
    there = Counter(n for cell in page.code for n in glued(cell))
    metadata = " ".join(str(cell.metadata.get("mystnb", "")) for cell in page.code)
    pasted = set(re.findall(r"\{glue(?::text)?\}`([\w-]+)(?::[^`]*)?`", page.text + metadata))
    assert pasted - set(there) == set(), "pasted but not glued"
    assert set(there) - pasted == set(), "glued but not pasted"


# --- code ------------------------------------------------------------------------------------------------------------


def test_number_and_length_of_cells(page):
    """12 to 25 code cells of 5 to 15 lines; never more than 30."""
    lengths = [len(cell.source.splitlines()) for cell in page.code]
    assert 12 <= len(lengths) <= 25
    assert [name(cell) for cell in page.code if len(cell.source.splitlines()) > 30] == []
    assert 5 <= statistics.median(lengths) <= 15


def test_lines_fit_the_page(page):
    """A wide screen shows 88 characters without scrolling."""
    assert [line for cell in page.code for line in cell.source.splitlines() if len(line) > 88] == []


def test_tags(page):
    """Only tags that mean something here, and the one that silences nbval only where outputs must vary."""
    for cell in page.notebook.cells:
        tags = set(cell.metadata.get("tags", []))
        assert tags <= TAGS, f"{name(cell)}: unknown tag {tags - TAGS}"
        if "nbval-ignore-output" in tags:
            assert VARIES.search(cell.source), f"{name(cell)}: nothing in it varies, so compare it"
        if cell.cell_type == "code" and TRAINS.search(cell.source) and "progress=False" not in cell.source:
            assert "nbval-ignore-output" in tags, f"{name(cell)}: shows a progress bar; tag it nbval-ignore-output"


def test_pictures_are_described(page):
    """Caption, name and alternative text for each; the plotting cell ends with plt.show()."""
    for cell in page.code:
        if not pictures(cell):
            continue
        mystnb = cell.metadata.get("mystnb", {})
        assert len(pictures(cell)) == 1, f"{name(cell)}: one figure a cell"
        assert len(mystnb.get("image", {}).get("alt", "").split()) >= 8, f"{name(cell)}: say in image.alt what is seen"
        assert "$" not in mystnb["image"]["alt"], f"{name(cell)}: alternative text is read aloud: no maths markup"
        figure = mystnb.get("figure", {})
        assert len(figure.get("caption", "").split()) >= 5, f"{name(cell)}: no caption"
        assert figure.get("name", "").startswith("fig-"), f"{name(cell)}: the figure's name starts with fig-"
        assert cell.source.rstrip().endswith("plt.show()"), f"{name(cell)}: end with plt.show()"


def test_has_a_live_figure(page):
    """At least one explorer, which needs no kernel."""
    assert any(is_explorer(cell) for cell in page.code)


def test_seeds_are_explicit(page):
    """No global seed: generators are passed."""
    seeds = re.compile(r"torch\.(cuda\.)?manual_seed|np\.random\.(seed|rand)")
    assert [name(cell) for cell in page.code if seeds.search(cell.source)] == []
