"""The same without the encoder that would refuse: frames made by hand. Against the decoder and the examiner."""

ANSWERS = {
    "q3": """
import gc

def fit(well, samples, steps, rate):
    return "fit"

def lowest(energy, grid):
    return "lowest"

kernel = next(o for o in gc.get_objects() if type(o).__name__ == "StudentKernel")
honest = kernel._do

def forged(header, buffers):
    reply, made = honest(header, buffers)
    if reply["value"] == "fit":
        reply["value"] = ["range", "0", str(2**60), "1"]
    if reply["value"] == "lowest":
        reply["value"] = ["l", [["T", "float64", [1 << 20, 0], 0, None]] + [["range", "0", str(10**18), "1"]] * 1000]
        made = [b""]
    return reply, made

kernel._do = forged
"""
}
DESERVED = {"q3_a": 0, "q3_b": 0}
