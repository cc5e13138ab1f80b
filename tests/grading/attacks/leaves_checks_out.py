"""Hands in answers without checks, in another order, without metadata. Against what nbgrader needs to find."""


def notebook(world):
    """Return right answers to q1 alone, and no check at all."""
    nb = world.answered({"q2": "pass", "q3": "pass"})
    nb.cells = [c for c in nb.cells if not c.metadata.get("nbgrader", {}).get("grade")]
    return nb


DESERVED = {"q2_a": 0, "q2_b": 0, "q3_a": 0, "q3_b": 0}
