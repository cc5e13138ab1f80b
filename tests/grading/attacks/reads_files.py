"""Looks for solutions, other submissions, the gradebook and the instructor's files. Against the file system."""

ANSWERS = {
    "q1": """@RIGHT@
import os, pathlib, subprocess

paths = ["@COURSE@", "@COURSE@/solutions/ps91/ps91.ipynb", "@COURSE@/notes.txt", "@COURSE@/gradebook.db",
         "@COURSE@/submitted", "@COURSE@/autograded", "@VAULT@", "@VAULT@/solutions.txt", "/root/.ssh", "/home",
         "/etc/shadow", "/var", "/run", "/sys", "/mnt", "/boot", "/proc/1/root", "/proc/1/environ", "/proc/@PID@/root",
         "/proc/self/root@VAULT@/solutions.txt", "/tmp/../@VAULT@/solutions.txt", "/dev/mem", "/dev/sda", "/proc/kcore"]
seen = []
for path in paths:
    try:
        seen.append((path, os.listdir(path) if os.path.isdir(path) else open(path, "rb").read(99)))
    except OSError as e:
        pass
seen = [s for s in seen if s[1]]
for link in ("a", "b"):
    os.symlink("@VAULT@" if link == "a" else "@COURSE@/notes.txt", link)
    try:
        seen.append((link, os.listdir(link) if link == "a" else open(link).read()))
    except OSError:
        pass
command = (
    "cat @VAULT@/* @COURSE@/*; find / \\( -path /usr -o -path /proc -o -name site-packages \\) -prune"
    " -o \\( -name '*.ipynb' -o -name '*.db' -o -name 'solution*' \\) -print 2>/dev/null"
)
shell = subprocess.run(command, shell=True, capture_output=True, text=True).stdout
print("seen", seen, [shell])
"""
}
SAYS = r"seen \[\] \[''\]"
