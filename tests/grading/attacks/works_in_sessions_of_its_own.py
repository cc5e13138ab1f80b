"""Starts workers that each want a scheduler's share of their own. Against other students' time."""

ANSWERS = {
    "q1": """@RIGHT@
import os

for _ in range(60):
    if os.fork() == 0:
        try:
            os.setsid()
        except OSError:
            pass
        try:
            os.nice(-20)
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(99))
        except OSError:
            pass
        while True:
            pass
while True:
    pass
"""
}
DESERVED = {"q1_a": 0, "q1_b": 0, "q1_c": 0}
AT_MOST = True  # its own kernel has to wait as well
