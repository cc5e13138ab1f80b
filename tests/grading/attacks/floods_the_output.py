"""Prints 30 MB, in text, figures and errors. Against the notebook, the feedback page and the worker's memory."""

ANSWERS = {
    "q1": """@RIGHT@
from IPython.display import HTML, display

print("x" * 30_000_000)
for _ in range(2000):
    print("y" * 1000)
    display(HTML("z" * 10_000))
raise ValueError("w" * 10_000_000)
""",
    "q2": """@RIGHT@
import gc

kernel = next(o for o in gc.get_objects() if type(o).__name__ == "StudentKernel")
kernel.driver.send({"outputs": [{"output_type": "stream", "name": "stdout", "text": "v" * 3_900_000}]})
""",
}
