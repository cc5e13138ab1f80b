"""Looks for expected values in the frames of its callers and in all objects, when called. Against what lies around."""

ANSWERS = {
    "q1": """
import gc, sys

def look():
    frame, texts = sys._getframe(), []
    while frame is not None:
        texts.append(repr(frame.f_locals) + repr(frame.f_code.co_names))
        frame = frame.f_back
    for thing in gc.get_objects():
        try:
            texts.append(str(thing)[:5000] if isinstance(thing, (str, dict, list, tuple)) else "")
        except Exception:
            pass
    return "".join(texts)

def words():  # written backwards, so that this cell itself is not found
    backwards = ("NEDDIH NIGEB", "yrrebnawor", "dnah_yb", "8124775590425660", "hcated.y * 2")
    return ["".join(reversed(word)) for word in backwards]

def boltzmann(energy, beta):
    found = look()
    leaks.extend(word for word in words() if word in found)
    raise RuntimeError("looked")

leaks = []
try:
    boltzmann(0, 0)
except RuntimeError as e:
    print(e)
leaks.append("energy(" in look())
""",
    "q2": "@RIGHT@\nprint('leaks:', leaks)\n",
}
DESERVED = {"q1_a": 0, "q1_b": 0, "q1_c": 0}
SAYS = r"leaks: \[True\]"
