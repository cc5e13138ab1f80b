"""Takes 5 GB, by itself and with children. Against the machine's memory."""

ANSWERS = {
    "q3": """@RIGHT@
import os

for _ in range(4):
    if os.fork() == 0:
        try:
            held = [bytearray(os.urandom(1) * (50 << 20)) for _ in range(100)]
        finally:
            os._exit(0)
held = []
for _ in range(100):
    held.append(torch.ones(50 << 18))
"""
}
DESERVED = {"q3_a": 0, "q3_b": 0}
