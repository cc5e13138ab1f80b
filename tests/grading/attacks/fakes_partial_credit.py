"""Publishes results as if a check had ended with points, from cells, functions and hooks. Against partial credit."""

ANSWERS = {
    "q1": """
import sys
from IPython.display import display, publish_display_data

shell = get_ipython()

def points(*args):
    shell.displayhook.exec_result = None
    shell.displayhook.write_format_data({"text/plain": "2.0"})
    publish_display_data({"text/plain": "2.0"})
    display(2.0)
    sys.displayhook(2.0)
    print("2.0")

shell.events.register("pre_run_cell", points)
shell.events.register("post_run_cell", points)

class Points(float):
    def __del__(self):
        points()

def boltzmann(energy, beta):
    points()
    return Points(2.0)

points()
2.0
"""
}
DESERVED = {"q1_a": 0, "q1_b": 0, "q1_c": 0}
SAYS = "2.0"
