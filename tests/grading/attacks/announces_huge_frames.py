"""Announces frames of exabytes, then of what is just allowed, and sends a byte of it now and then. Against waiting."""

ANSWERS = {
    "q3": """
import gc, struct, time

kernel = next(o for o in gc.get_objects() if type(o).__name__ == "StudentKernel")
sock = kernel.examiner.sock

def fit(well, samples, steps, rate):
    sock.sendall(struct.pack("<4sIQ", b"EBM1", 2**32 - 1, 2**64 - 1))
    return []

def lowest(energy, grid):
    sock.sendall(struct.pack("<4sIQ", b"EBM1", 4 << 20, 256 << 20))
    while True:
        sock.sendall(b" ")
        time.sleep(0.05)
"""
}
DESERVED = {"q3_a": 0, "q3_b": 0}
