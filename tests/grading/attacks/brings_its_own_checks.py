"""Adds cells that pose as checks: the same name twice, new names, other kinds, before and after. Against intake."""

import copy


def notebook(world):
    """Return wrong answers with checks that pass, named like the true ones and like none."""
    nb = world.answered(dict.fromkeys(("q1", "q2", "q3"), "pass"))
    checks = [c for c in nb.cells if c.metadata.get("nbgrader", {}).get("grade") and c.cell_type == "code"]
    for k, cell in enumerate(checks):
        for name in (cell.metadata.nbgrader.grade_id, f"q9_{k}", "given", "q1", ""):
            new = copy.deepcopy(cell)
            new.id, new.source = f"new-{k}-{len(nb.cells)}", "print('passed')"
            new.metadata.nbgrader.update(grade_id=name, points=1000)
            nb.cells.insert(0 if k % 2 else len(nb.cells), new)
    return nb


DESERVED = {"q1_a": 0, "q1_b": 0, "q1_c": 0, "q2_a": 0, "q2_b": 0, "q3_a": 0, "q3_b": 0}
