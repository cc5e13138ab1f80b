"""Starts threads without end. Against the machine's processes."""

ANSWERS = {
    "q1": """@RIGHT@
import threading, time

made = 0
try:
    while made < 10_000:
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        made += 1
except RuntimeError as e:
    print("made", made < 200, e)
"""
}
SAYS = "made True"
