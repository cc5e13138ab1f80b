"""Looks for secrets in the environment, the command line and the mounts. Against what is inherited."""

ANSWERS = {
    "q1": """@RIGHT@
import os

print("environment", dict(os.environ))
for name in ("environ", "cmdline", "mountinfo", "cgroup", "maps", "status"):
    print(name, open(f"/proc/self/{name}", "rb").read().replace(b"\\0", b" ").decode())
print(os.popen("id; env; ps aux; mount; hostname").read())
"""
}
SAYS = "environment .*student"
