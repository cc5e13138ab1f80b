"""Forks without end, and each child works. Against the machine's processes and other students' time."""

ANSWERS = {
    "q1": """@RIGHT@
import os, time

until, refused = time.time() + 3, 0
while time.time() < until:
    try:
        if os.fork() == 0:
            until = time.time() + 60
    except OSError:
        refused += 1
        if refused > 100:
            sum(range(10**6))
print("refused", refused > 0)
"""
}
AT_MOST = True  # its own cells may come too late
