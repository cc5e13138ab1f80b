"""What a set's students may not import is not there for them: not as a module, a source file or compiled code."""

import json

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from grading import sandbox
from grading.kernels.redaction import redacted_files
from grading.kernels.session import execute
from grading.kernels.task import Task

_LOOK = """
import importlib, inspect, sys
from pathlib import Path
def attempt(what):
    try:
        what()
        print('there')
    except ImportError as e:
        print(e)
attempt(lambda: importlib.import_module('ebm_lib.inference'))
from ebm_lib import energy
attempt(lambda: energy.gibbs(1.0))
folder = Path(energy.__file__).parent
print('argmin' in (folder / 'inference.py').read_text(), 'softmax' in inspect.getsource(energy))
print(sum(len(p.read_bytes()) for p in folder.glob('__pycache__/inference.*')))
print(any('ebm_lib.inference' in str(getattr(o, '__module__', '')) for o in __import__('gc').get_objects()))
"""


@pytest.mark.skipif(sandbox.unavailable() is not None, reason="no sandbox")
def test_nothing_forbidden_can_be_read():
    import ebm_lib.energy
    import ebm_lib.inference  # noqa: F401

    nb = new_notebook(cells=[new_code_cell(_LOOK, id="look")])
    forbidden = ["ebm_lib.energy:gibbs", "ebm_lib.energy:_log_weights", "ebm_lib.inference"]
    done = execute(Task("anna", "ps90", nbformat.writes(nb), {}, {}, forbidden))
    (output,) = json.loads(done.notebook)["cells"][0]["outputs"]
    assert output["text"].splitlines() == [
        "ebm_lib.inference is not available in ps90: it holds what you are to write.",
        "ebm_lib.energy without gibbs in ps90: that is what you are to write.",
        "False False",
        "0",
        "False",
    ]


def test_a_package_goes_as_a_whole():
    files = redacted_files(("ebm_lib.train",), "ps90")
    sources = {path.name for path in files if path.suffix == ".py"}
    assert {"__init__.py", "loop.py"} <= sources or len(sources) > 1
    assert all(b"not available in ps90" in content for path, content in files.items() if path.suffix == ".py")
