"""Reads and signals other processes, and what is open in its own. Against /proc, ptrace and signals."""

ANSWERS = {
    "q1": """@RIGHT@
import ctypes, os, signal

got = []
for pid in [int(p) for p in os.listdir("/proc") if p.isdigit()] + [@PID@, os.getppid(), 1, 2]:
    if pid in (0, os.getpid()):
        continue
    for name in ("mem", "environ", "maps", "cmdline", "root", "cwd", "fd", "ns/mnt"):
        path = f"/proc/{pid}/{name}"
        try:
            link = os.readlink(path) if name in ("root", "cwd", "ns/mnt") else ""
            got.append((path, link or (os.listdir(path) if name == "fd" else open(path, "rb").read(9))))
        except OSError:
            pass
    for act in (lambda: os.kill(pid, signal.SIGKILL), lambda: os.kill(pid, 0), lambda: os.pidfd_open(pid)):
        try:
            if pid > 1:
                act()
                got.append(pid)
        except OSError:
            pass
libc = ctypes.CDLL(None, use_errno=True)
for call in (101, 310, 311):
    if libc.syscall(call, 16, 1, 0, 0, 0, 0) >= 0:
        got.append(call)
paths = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
files = [os.readlink(path) for path in paths if os.path.exists(path)]
odd = [f for f in files if not f.startswith(("socket:", "/dev/null", "/proc/")) and f != "/dev/urandom"]
try:
    os.kill(-1, 0)
except OSError:
    pass
print("got", [g for g in got if g != ("/proc/1/cmdline", b"cat\\0")], odd, sum(f.startswith("socket:") for f in files))
"""
}
SAYS = r"got \[\] \[\] 2"
