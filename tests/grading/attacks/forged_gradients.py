"""Gradients of other shapes and numbers, and none where there must be some. Against the examiner's graph."""

ANSWERS = {
    "q2": """@RIGHT@
import gc

kernel = next(o for o in gc.get_objects() if type(o).__name__ == "StudentKernel")
turn = [0]

def pull(graph, gradients, create_graph):
    turn[0] += 1
    return [torch.zeros(1), [torch.ones(2)] * 3, [None] * 7, "x", [torch.zeros(1, 3).expand(99, 3)]][turn[0] % 5]

kernel.do_pull = pull
""",
}
DESERVED = {"q2_b": 0}
