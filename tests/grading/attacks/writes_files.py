"""Writes into the gradebook, the course, the library and other students' folders. Against the file system."""

ANSWERS = {
    "q1": """@RIGHT@
import os, sys
import ebm_lib

wrote = []
for folder in ("@COURSE@", "@COURSE@/submitted/c-honest/ps91", "@VAULT@", "/", "/usr", "/etc", "/root", sys.prefix,
               os.path.dirname(torch.__file__), ebm_lib.__path__[0], "/dev", "/proc", "/sys", "/var/tmp", "/run"):
    for name in ("owned.py", "gradebook.db", "ps91.ipynb"):
        try:
            with open(f"{folder}/{name}", "ab") as f:
                f.write(b"owned")
            wrote.append(f"{folder}/{name}")
        except OSError:
            pass
for path in (torch.__file__, ebm_lib.__file__, "/etc/passwd"):
    for act in (lambda p: open(p, "ab"), os.unlink, lambda p: os.chmod(p, 0o777), lambda p: os.utime(p, (0, 0))):
        try:
            act(path)
            wrote.append(path)
        except OSError:
            pass
print("wrote", wrote)
"""
}
SAYS = r"wrote \[\]"
