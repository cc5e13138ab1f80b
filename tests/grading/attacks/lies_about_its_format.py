"""A notebook whose fields have other types than they must have: numbers, objects, huge ids, half characters."""

import json

DESERVED = {"q1_a": 0, "q1_b": 0, "q1_c": 0, "q2_a": 0, "q2_b": 0, "q3_a": 0, "q3_b": 0}


def notebook(world):
    """Return the text."""
    odd = [
        {"cell_type": "code", "source": {"a": 1}}, {"cell_type": ["code"]}, 7, None, [], {"cell_type": "code"},
        {"cell_type": "code", "source": ["a", 1, None], "id": "x" * 10**6, "metadata": {"nbgrader": {"grade_id": {}}}},
        {"cell_type": "code", "source": "'\ud800'", "id": "../../x", "metadata": {"nbgrader": {"grade_id": "q1"}}},
        {"cell_type": "markdown", "source": "x", "metadata": [], "attachments": 7},
        {"cell_type": "code", "source": "x", "metadata": {"nbgrader": {"grade_id": "q1_a", "points": "NaN"}}},
        {"cell_type": "code", "source": "x", "metadata": {"nbgrader": {"grade_id": "q2_a", "points": 1e999}}},
    ]  # fmt: skip
    return json.dumps({"nbformat": 4, "nbformat_minor": 10**9, "metadata": 7, "cells": odd})
