"""``tools/notebooks.py``: what it writes stays put, and what must not be published is refused."""

import base64
import json
import os
from pathlib import Path

import nbformat
import pytest

HEAD = '{.page-head}\n**Running** <span class="run-time">not yet run</span>'
PLOT = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()"


def test_executes_once_and_then_leaves_alone(tool, make_notebook):
    """Counts from one, a run time, and a second run that changes no byte."""
    path = make_notebook("a = 1", "print(a)", "a", head=HEAD)
    done, wrong = tool.process(path)
    first = path.read_bytes()
    assert done.startswith("executed")
    assert wrong == []
    cells = json.loads(first)["cells"]
    assert [c["execution_count"] for c in cells[1:]] == [1, 2, 3]
    assert cells[3]["outputs"][0]["execution_count"] == 3
    assert '<span class="run-time">≈ 5 s</span>' in "".join(cells[0]["source"])
    assert tool.process(path)[0].startswith("unchanged")
    assert tool.process(path, check=True)[1] == []
    tool.process(path, force=True)
    assert path.read_bytes() == first


def test_changed_code_is_executed_again_and_changed_text_is_not(tool, make_notebook):
    """The hash covers the code alone."""
    path = make_notebook("print(1)")
    tool.process(path)
    path.write_text(path.read_text().replace("# Small", "# Little"))
    assert tool.process(path)[0].startswith("unchanged")
    path.write_text(path.read_text().replace("print(1)", "print(2)"))
    assert any("not those of its code" in line for line in tool.process(path, check=True)[1])
    assert tool.process(path)[0].startswith("executed")
    assert json.loads(path.read_text())["cells"][1]["outputs"][0]["text"] == ["2\n"]


def test_ids_do_not_move(tool, make_notebook):
    """A cell put between others gets a new number; the others keep theirs; a copied cell gets its own."""
    path = make_notebook("a = 1", "b = 2")
    tool.process(path)
    notebook = nbformat.read(path, as_version=4)
    assert [c.id for c in notebook.cells] == [f"02-small-page-{n:02d}" for n in (1, 2, 3)]
    copied = nbformat.from_dict(notebook.cells[1])
    notebook.cells[2:2] = [nbformat.v4.new_code_cell("c = 3"), copied]
    path.write_text(json.dumps(notebook))
    tool.process(path)
    ids = [c["id"] for c in json.loads(path.read_text())["cells"]]
    assert ids == [f"02-small-page-{n:02d}" for n in (1, 2, 4, 5, 3)]


def test_metadata_of_the_machine_goes_and_ours_stays(tool, make_notebook):
    """Times, versions and the state of an editor are not stored; tags and captions are."""
    path = make_notebook(
        "1",
        tags=["hide-input"],
        mystnb={"image": {"alt": "x"}},
        collapsed=True,
        execution={"iopub.execute_input": "now"},
    )
    tool.process(path)
    stored = json.loads(path.read_text())
    assert set(stored["cells"][1]["metadata"]) == {"tags", "mystnb"}
    assert set(stored["metadata"]) == {"kernelspec", "language_info", tool.HASH_KEY}
    assert "version" not in stored["metadata"]["language_info"]


def test_pictures_name_no_version(tool, make_notebook):
    """The PNG holds pixels alone."""
    path = make_notebook(PLOT)
    assert tool.process(path)[1] == []
    png = base64.b64decode(json.loads(path.read_text())["cells"][1]["outputs"][0]["data"]["image/png"])
    assert png.startswith(b"\x89PNG")
    assert b"tEXt" not in png


def test_runs_in_the_notebooks_folder_on_one_thread(tool, make_notebook, monkeypatch):
    """A page loads its files by relative path, and its numbers do not depend on the number of cores."""
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    path = make_notebook("import os\nprint(os.path.exists('02_small_page.ipynb'), os.environ['OMP_NUM_THREADS'])")
    tool.process(path)
    assert json.loads(path.read_text())["cells"][1]["outputs"][0]["text"] == ["True 1\n"]


BAR = "import sys\nsys.stderr.write(' 50%|#####     | 1/2 [00:01<00:01, 1.0it/s]')"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import warnings\nwarnings.warn('look out')", "writes to stderr"),
        (BAR, "writes to stderr"),
        ("object()", "an object's address"),
        ("print('/home/someone/file')", "a path of this machine: /home/someone/file"),
        ("print(r'C:\\Users\\someone')", r"a path of this machine: C:\Users"),
        ("print('x' * 1_100_000)", "1000 are allowed"),
        ("from ipywidgets import IntSlider\nIntSlider()", "shows a widget"),
        ("1 / 0", "ZeroDivisionError"),
        ("   ", "an empty code cell"),
    ],
)
def test_refuses_and_leaves_the_file(tool, make_notebook, source, message):
    """Nothing that must not be published is ever written."""
    path = make_notebook(source)
    before = path.read_bytes()
    assert message in "\n".join(tool.process(path)[1])
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_drops_the_bar_of_a_cell_that_may_vary_but_not_its_warnings(tool, make_notebook):
    """Progress shows times, so it is not stored; a warning in the same cell is still refused."""
    path = make_notebook(BAR + "\nprint('done')", tags=["nbval-ignore-output"])
    assert tool.process(path)[1] == []
    assert [o["name"] for o in json.loads(path.read_text())["cells"][1]["outputs"]] == ["stdout"]
    path = make_notebook("import warnings\nwarnings.warn('look out')", tags=["nbval-ignore-output"])
    assert any("stderr" in line for line in tool.process(path)[1])


@pytest.mark.parametrize(
    ("label", "seconds", "expected"),
    [
        ("not yet run", 3.0, "≈ 5 s"),
        ("not yet run", 22.0, "≈ 30 s"),
        ("≈ 10 s", 5.0, "≈ 10 s"),
        ("≈ 10 s", 10.5, "≈ 10 s"),
        ("≈ 10 s", 2.0, "≈ 5 s"),
        ("≈ 10 s", 14.0, "≈ 15 s"),
    ],
)
def test_run_time_is_coarse_and_sluggish(tool, make_notebook, label, seconds, expected):
    """It moves only when it has become wrong."""
    notebook = nbformat.read(make_notebook("1", head=HEAD.replace("not yet run", label)), as_version=4)
    tool.write_run_time(notebook, seconds)
    assert f'<span class="run-time">{expected}</span>' in notebook.cells[0].source


def test_too_slow_is_refused(tool, make_notebook, monkeypatch):
    """A page has 60 seconds of processor time."""
    monkeypatch.setattr(tool, "execute", lambda *_: 61.0)
    path = make_notebook("1")
    assert any("takes 61 s" in line for line in tool.process(path, force=True)[1])


def test_command_line(tool, make_notebook, capsys):
    """Exit status, names and findings."""
    good, bad = make_notebook("print(1)", name="good"), make_notebook("1 / 0", name="bad")
    assert tool.main([str(good)]) == 0
    assert tool.main([str(good), str(bad)]) == 1
    assert "1 notebook(s) not in order" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        tool.main([str(Path(good).with_name("none.ipynb"))])
