"""Empties the checks, raises their points, unlocks them, marks them as passed or to be skipped. Against intake."""


def notebook(world):
    """Return the untouched release with its checks spoilt."""
    nb = world.answered(dict.fromkeys(("q1", "q2", "q3"), "pass"))
    for cell in nb.cells:
        mark = cell.metadata.get("nbgrader", {})
        if mark.get("grade") and cell.cell_type == "code":
            cell.source = "1000"
            mark.update(points=1000, locked=False, solution=cell.id.endswith("b"))
            cell.metadata.tags = ["skip-execution", "hide-cell", "raises-exception"]
            data = {"text/plain": "99"}
            cell.outputs = [{"output_type": "execute_result", "execution_count": 1, "metadata": {}, "data": data}]
    nb.metadata.kernelspec = {"name": "evil", "display_name": "evil", "argv": ["touch", str(world.vault / "owned")]}
    return nb


DESERVED = {"q1_a": 0, "q1_b": 0, "q1_c": 0, "q2_a": 0, "q2_b": 0, "q3_a": 0, "q3_b": 0}
