"""What a measurement depends on: stored beside every figure."""

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path


def machine(*packages: str) -> dict[str, object]:
    """Return the processor, the system, the load, and the versions of the packages that are compared."""
    cpu = next((x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("model name")), ": unknown")
    return {
        "processor": cpu.split(":", 1)[1].strip(),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "load at start": round(os.getloadavg()[0], 2),
        "date": time.strftime("%Y-%m-%d %H:%M %Z"),
    }
