"""Runs for ever, without Python noticing any signal, in cells and in checks. Against the driver's patience."""

ANSWERS = {
    "q1": """@RIGHT@
import ctypes, signal

for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
""",
    "q3": """@RIGHT@
def lowest(energy, grid):
    while True:
        try:
            ctypes.CDLL(None).sleep(1000)
            "a" * 10**4 == "b"
        except BaseException:
            continue
""",
}
DESERVED = {"q3_b": 0}
