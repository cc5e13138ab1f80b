"""Releasing and grading the problem sets: a command line (``python -m grading --help``) over these functions.

nbgrader is the format and the record. Nothing of it is imported before it is used: it takes seconds.
"""

import sys
from importlib import import_module
from typing import Any

# nbformat loads jsonschema, which would build a grammar of international web addresses: over a second for nothing.
sys.modules.setdefault("rfc3987_syntax", None)

_HOME = {
    "Course": "course",
    "GradingError": "course",
    "Outcome": "manifest",
    "Settings": "settings",
    "bundle": "bundle",
    "grade": "run",
    "grade_own": "self_grading",
    "hand_in": "student",
    "lint": "lint",
    "publish": "run",
    "release": "student_version",
    "samples": "sample_students",
    "start": "student",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'grading' has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOME]
