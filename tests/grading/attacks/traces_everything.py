"""Traces every call and keeps what it sees, the arguments' pickles too. Against what a call brings along."""

ANSWERS = {
    "q1": """@RIGHT@
import sys, threading

seen = []

def trace(frame, event, arg):
    for name in ("buffers", "header", "data", "args", "kwargs"):
        if name in frame.f_locals:
            try:
                value = frame.f_locals[name]
                seen.append(repr([bytes(b) for b in value] if name == "buffers" else value)[:20_000])
            except Exception:
                pass
    return trace

sys.settrace(trace)
threading.settrace(trace)
sys.setprofile(trace)
""",
    "q2": """@RIGHT@
sys.settrace(None)
sys.setprofile(None)
everything = "".join(seen)
backwards = ("NEDDIH NIGEB", "yrrebnawor", "dnah_yb", "8124775590425660", "esolc_tcepxe", "tnaw")
words = ["".join(reversed(word)) for word in backwards]
print("boltzmann" in everything, [word for word in words if word in everything])
""",
}
SAYS = r"True \[\]"
