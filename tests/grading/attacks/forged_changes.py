"""Says that parameters changed that are none, are others', or have another shape. Against mirrored modules."""

ANSWERS = {
    "q2": """@RIGHT@
import gc

kernel = next(o for o in gc.get_objects() if type(o).__name__ == "StudentKernel")
honest = kernel._do

def forged(header, buffers):
    reply, made = honest(header, buffers)
    if header["do"] == "call":
        odd = ["T", "float64", [1 << 20], len(made), None]
        numbers = (*kernel.modules, -1, True, None, "0")
        reply["changed"] = [[n, name, odd] for n in numbers for name in ("forward", 3, "centre")]
        reply["parameters"] = [[n, "centre"] for n in range(1000)]
        made = [*made, bytes(8 << 20)]
    return reply, made

kernel._do = forged
""",
}
DESERVED = {"q2_a": 0, "q2_b": 0, "q3_a": 0}
