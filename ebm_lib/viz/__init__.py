"""Pictures of energies: static figures, the live explorer of the website, widgets for JupyterLab.

Nothing is imported until it is used, so that a program that never draws never loads matplotlib.
"""

import importlib
from typing import Any

_HOME = {
    "use_style": "plots",
    "PALETTE": "plots",
    "landscape": "plots",
    "arrows": "plots",
    "descent_path": "plots",
    "scatter": "plots",
    "describe": "live",
    "explorer": "live",
    "explore": "widgets",
}

__all__ = ["PALETTE", "arrows", "descent_path", "describe", "explore", "explorer", "landscape", "scatter", "use_style"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module(f"{__name__}.{_HOME[name]}")
    value = globals()[name] = getattr(home, name)
    return value
