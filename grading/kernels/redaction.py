"""What of the library a student kernel does not get: files shown with other content, so that no answer can be read."""

import importlib.util
from pathlib import Path


def redacted_files(forbidden: tuple[str, ...], ps: str) -> dict[Path, bytes]:
    """Return the files that must look different to a student's code.

    Args:
        forbidden: ``module`` for a whole module or package, ``module:name`` for a function or class in it.
        ps: the set's name, for the message of the ImportError.

    Returns:
        The new content by path; compiled files are emptied, since Python then compiles the source again.
    """
    from ..contract import redact  # which loads IPython, and few sets forbid anything

    by_module: dict[str, list[str]] = {}
    for entry in forbidden:
        module, _, name = entry.partition(":")
        by_module.setdefault(module, []).append(name)
    files: dict[Path, bytes] = {}
    for module, names in by_module.items():
        origin = Path(importlib.util.find_spec(module).origin)
        if "" in names:
            reason = f"{module} is not available in {ps}: it holds what you are to write."
            sources = sorted(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else [origin]
            files.update(dict.fromkeys(sources, f"raise ImportError({reason!r})\n".encode()))
        else:
            public = ", ".join(name for name in names if not name.startswith("_"))
            reason = f"{module} without {public} in {ps}: that is what you are to write."
            files[origin] = redact(origin.read_text(encoding="utf-8"), names, reason).encode()
    for source in list(files):
        for compiled in source.parent.glob(f"__pycache__/{source.stem}.*.pyc"):
            files[compiled] = b""
    return files
