"""Calls exit, quit and sys.exit in cells and functions. Not an attack: it must cost what it breaks and no more."""

ANSWERS = {
    "q1": """@RIGHT@
import atexit, sys
atexit.register(print, "never")
exit()
""",
    "q2": "@RIGHT@\nquit()\nsys.exit(1)\n",
    "q3": """@RIGHT@
def fit(well, samples, steps, rate):
    sys.exit(0)

raise SystemExit
""",
}
DESERVED = {"q3_a": 0}
