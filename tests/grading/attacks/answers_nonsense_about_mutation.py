"""Answers the question which arguments it changed with everything but an answer. Against the helpers' answers."""

ANSWERS = {
    "q1": """@RIGHT@
import ebm_lib.check.student as local

turn = [0]

def mutated(*args, **kwargs):
    turn[0] += 1
    return [["x", {}, nn.Linear(1, 1)], "", None, 0, (), [[]], [False], {}][turn[0] % 8]

local.mutated = mutated
"""
}
DESERVED = {"q1_c": 0}
