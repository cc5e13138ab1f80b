"""Returns modules where data belongs: each attribute and operation would ask the student. Against the contract."""

ANSWERS = {
    "q1": """
class Yes(nn.Module):
    def __init__(self, depth=0):
        super().__init__()
        self.shape, self.dtype, self.device = (3,), torch.float64, torch.device("cpu")
        self._modules["__torch_function__"] = nn.Identity()
        self._modules["__array__"] = nn.Identity()

    def forward(self, *args):
        return self

    def detach(self):
        return self

    to = numel = any = all = item = detach

def boltzmann(energy, beta):
    if not beta > 0:
        raise ValueError("beta must be positive")
    return Yes()
"""
}
DESERVED = {"q1_a": 0, "q1_b": 0, "q1_c": 0}
FAILS = {"q1_a": "must give data"}
