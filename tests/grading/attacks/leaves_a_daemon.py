"""Leaves processes behind that would edit the gradebook later. Against what outlives a run."""

ANSWERS = {
    "q1": """@RIGHT@
import os, signal, subprocess, time

for _ in range(5):
    if os.fork() == 0:
        try:
            os.setsid()
        except OSError:
            pass
        for number in range(1, 60):
            try:
                signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError):
                pass
        if os.fork():
            os._exit(0)
        while True:
            time.sleep(1)
            try:
                open("@COURSE@/gradebook.db", "ab").write(b"owned")
            except OSError:
                pass
subprocess.Popen("nohup setsid sleep 100000 & disown; (trap '' TERM HUP INT; sleep 100000) &", shell=True)
print("left", "them")
"""
}
SAYS = "left them"
