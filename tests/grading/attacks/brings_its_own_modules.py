"""Files beside the notebook that are named like modules, start-up files and settings. Against what is imported."""

_EVIL = "import os\nos.environ['OWNED'] = 'yes'\nopen('@VAULT@/owned', 'w')\n"
FILES = {
    "torch.py": _EVIL, "sitecustomize.py": _EVIL, "usercustomize.py": _EVIL, "conftest.py": _EVIL, "IPython.py": _EVIL,
    "ebm_lib/__init__.py": _EVIL, "ebm_lib/check.py": "expect_close = expect_raises = expect_unchanged = print\n",
    "grading/__init__.py": _EVIL, "nbgrader_config.py": "raise SystemExit\n", "zip.py": _EVIL, "collections.py": _EVIL,
    ".ipython/profile_default/startup/00.py": _EVIL, "ipython_config.py": "c.fail\n", "pickle.py": _EVIL,
    "gradebook.db": "no database", "__pycache__/torch.cpython-311.pyc": "x",
}  # fmt: skip
ANSWERS = {
    "q1": """
from ebm_lib.check import expect_close

def boltzmann(energy, beta):
    return energy
"""
}
DESERVED = {"q1_a": 0, "q1_b": 0, "q1_c": 0}
