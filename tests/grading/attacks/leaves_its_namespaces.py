"""Mounts, makes and enters namespaces, writes to the kernel's files and control groups. Against the sandbox itself."""

ANSWERS = {
    "q1": """@RIGHT@
import ctypes, glob, os

libc = ctypes.CDLL(None, use_errno=True)
done = []
for flags in (0x10000000, 0x00020000, 0x20000000, 0x40000000, 0x80, 0x02000000, 0x10020000):
    if libc.unshare(flags) == 0:
        done.append(("unshare", hex(flags)))
for name, *args in (("mount", b"none", b"/tmp", b"tmpfs", 0, 0), ("umount2", b"/proc", 2), ("chroot", b"/tmp"),
                    ("setns", 0, 0), ("setuid", 0), ("setgid", 0), ("sethostname", b"x", 1)):
    if getattr(libc, name)(*args) == 0:
        done.append(name)
for number in (425, 321, 298, 323, 319, 155, 428, 29, 438):
    if libc.syscall(number, 0, 0, 0, 0, 0, 0) >= 0:
        done.append(number)
for path in ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/self/uid_map", "/proc/self/oom_score_adj",
             *glob.glob("/sys/fs/cgroup/**/memory.limit_in_bytes", recursive=True),
             *glob.glob("/sys/fs/cgroup/**/cgroup.procs", recursive=True), "/proc/sys/vm/overcommit_memory"]:
    try:
        with open(path, "w") as f:
            f.write("-1000" if "oom" in path else "0")
        done.append(path)
    except OSError:
        pass
caps = [line.split()[1] for line in open("/proc/self/status") if line.startswith("Cap")]
print("done", done, os.getuid(), {*caps} <= {"0" * 16})
"""
}
SAYS = r"done \[\] 1000 True"
