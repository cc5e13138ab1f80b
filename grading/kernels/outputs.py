"""Outputs of cells: what a student kernel says they are, looked at before anything is made of it."""

import json
from typing import Any

from .plain import ProtocolError

_KINDS = {"stream", "display_data", "execute_result", "error"}


def error(name: str, text: str) -> dict:
    """Return an error output.

    Args:
        name: the error's name.
        text: its message.
    """
    return {"output_type": "error", "ename": name, "evalue": text, "traceback": [f"{name}: {text}"]}


def left_out() -> dict:
    """Return what stands for outputs that were too many."""
    return {"output_type": "stream", "name": "stdout", "text": "(left out: this notebook puts out too much)\n"}


def checked(outputs: Any) -> list[dict]:
    """Return a student cell's outputs, built anew from what has the form of an output.

    Raises:
        ProtocolError: something has not.
    """
    if type(outputs) is not list:
        raise ProtocolError("outputs that are no list")
    made = []
    for o in outputs:
        kind = o.get("output_type") if type(o) is dict else None
        if kind not in _KINDS:
            raise ProtocolError("an output of no known kind")
        if kind == "stream":
            new = {"name": "stderr" if o.get("name") == "stderr" else "stdout", "text": o.get("text")}
            texts = [new["text"]]
        elif kind == "error":
            new = {key: o.get(key) for key in ("ename", "evalue", "traceback")}
            texts = [new["ename"], new["evalue"], *(new["traceback"] if type(new["traceback"]) is list else [None])]
        else:
            data = o.get("data")
            if type(data) is not dict or len(data) > 50:
                raise ProtocolError("an output without data")
            new = {"data": {k: v if type(v) is str else json.dumps(v) for k, v in data.items()}, "metadata": {}}
            new |= {"execution_count": None} if kind == "execute_result" else {}
            texts = list(new["data"].values())
        if not all(type(text) is str for text in texts):
            raise ProtocolError("an output that is no text")
        made.append({"output_type": kind, **new})
    return made
