"""Goes on working in threads and processes after its cell. Against the time that others have and the checks take."""

ANSWERS = {
    "q1": """@RIGHT@
import os, threading

def work():
    while True:
        torch.randn(300, 300) @ torch.randn(300, 300)

for _ in range(8):
    threading.Thread(target=work, daemon=True).start()
for _ in range(8):
    if os.fork() == 0:
        work()
"""
}
AT_MOST = True  # what it works takes from its own checks' time
