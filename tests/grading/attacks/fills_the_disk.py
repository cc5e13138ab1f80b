"""Writes 300 MB, then all that fits, into one file and into thousands. Against the machine's disk."""

ANSWERS = {
    "q1": """@RIGHT@
import os

written = 0
for folder in ("/tmp", "/dev/shm", "."):
    for k in range(20):
        try:
            with open(f"{folder}/file{k}", "wb") as f:
                while written < 2 << 30:
                    written += f.write(bytes(1 << 20))
        except OSError:
            continue
made = 0
try:
    while made < 200_000:
        open(f"/tmp/many{made}", "w").close()
        made += 1
except OSError:
    pass
print("wrote less", written < 512 << 20, made < 100_000)
""",
}
SAYS = "wrote less True True"
