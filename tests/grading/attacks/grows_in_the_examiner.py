"""Returns a range of 500 million numbers: 40 bytes to send, 4 GB to make a tensor of. Against the examiner's memory."""

ANSWERS = {
    "q3": """@RIGHT@
def fit(well, samples, steps, rate):
    return range(5 * 10**8)
"""
}
DESERVED = {"q3_a": 0}
FAILS = {"q3_a": "memory|Memory"}
