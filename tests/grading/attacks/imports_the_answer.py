"""Takes the answer from where it is written: the library, its files, compiled ones, memory. Against `forbidden`."""

ANSWERS = {
    "q1": """
import gc, glob, importlib, importlib.util, inspect, marshal, sys, types, zipfile

found = []

def attempt(what):
    try:
        value = what()
    except BaseException as e:
        found.append(type(e).__name__)
    else:
        found.append(value)

def by_loader():
    spec = importlib.util.find_spec("ebm_lib.free_energy")
    module = types.ModuleType("stolen")
    exec(spec.loader.get_code("ebm_lib.free_energy"), vars(module))
    return module.posterior(torch.zeros(2), 1.0)

def compiled():
    import ebm_lib
    for path in glob.glob(f"{ebm_lib.__path__[0]}/**/*.pyc", recursive=True):
        text = open(path, "rb").read()
        if ("free_" in path or "/energy" in path) and len(text) > 16:
            if b"softmax" in text or b"logsumexp" in text or b"log_partition" in text:
                return path
    raise LookupError

def sources():
    import ebm_lib
    for path in glob.glob(f"{ebm_lib.__path__[0]}/**/*", recursive=True):
        if path.endswith("free_energy.py") and "softmax" in open(path).read():
            return path
    raise LookupError

def energy():
    from ebm_lib.energy import gibbs
    return gibbs(torch.tensor([0.0, 1.0]))

def text():
    import ebm_lib.energy
    source = inspect.getsource(ebm_lib.energy.gibbs)
    if "_log_weights" in source or "exp" in source:
        return source
    raise LookupError

def memory():
    for thing in gc.get_objects():
        if isinstance(thing, types.FunctionType) and thing.__name__ in ("gibbs", "posterior", "free_energy"):
            if "ImportError" not in thing.__code__.co_names:
                return thing(torch.tensor([0.0, 1.0]), 1.0)
    raise LookupError

attempt(lambda: importlib.import_module("ebm_lib.free_energy"))
for what in (by_loader, compiled, sources, energy, text, memory):
    attempt(what)
attempt(lambda: [s for s in sys.modules if s.startswith("ebm_lib")].index("ebm_lib.free_energy"))
print("stole", [f for f in found if not (isinstance(f, str) and f.endswith("Error"))], found)
"""
}
DESERVED = {"q1_a": 0, "q1_b": 0, "q1_c": 0}
SAYS = r"stole \[\]"
