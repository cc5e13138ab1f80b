"""Builds a module whose parts and parameters are named like the machinery of modules. Against the module's mirror."""

ANSWERS = {
    "q2": """
class Well(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.centre = nn.Parameter(torch.zeros(dim, dtype=torch.float64))
        self.width = nn.Parameter(torch.ones((), dtype=torch.float64))
        for name in ("__torch_function__", "__array__", "forward", "_link", "_held", "__class__", "_known", "training"):
            self._modules[name] = nn.Identity()
            self._parameters[name + "x"] = nn.Parameter(torch.zeros(1))
            self._buffers[name] = torch.zeros(1)

    def forward(self, y):
        return y.sum(-1)
"""
}
DESERVED = {"q2_a": 0, "q2_b": 0, "q3_a": 0}
