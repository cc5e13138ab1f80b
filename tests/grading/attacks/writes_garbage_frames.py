"""Writes garbage into the sockets to the driver and the examiner. Against the frames' readers."""

ANSWERS = {
    "q2": """@RIGHT@
import os

for fd in os.listdir("/proc/self/fd"):
    if os.path.exists(f"/proc/self/fd/{fd}") and os.readlink(f"/proc/self/fd/{fd}").startswith("socket:"):
        os.write(int(fd), b"EBM1" + bytes(range(256)) * 40)
        os.write(int(fd), b"GET / HTTP/1.1")
"""
}
DESERVED = {"q2_a": 0, "q2_b": 0, "q3_a": 0}  # this kernel is lost, and with it what the cell defined
