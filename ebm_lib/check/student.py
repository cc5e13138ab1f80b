"""What a check asks of the student's notebook beyond calling its functions.

In one process (Jupyter, plain nbgrader) everything here is what it looks like: student and check share a namespace. The
grading engine runs a student's code in a process of its own and puts functions of the same names in the place of these;
then arguments travel as copies, and a function that must be called back in the examiner's process has to be
:func:`opaque`. A check written with these helpers means the same in both. Import the module, not its functions:
``from ebm_lib.check import student``.
"""

import ast
import builtins
import copy
import inspect
import linecache
import sys
import textwrap
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from ._compare import Comparison, copied


def _namespace() -> dict[str, Any]:
    """Return the notebook's globals: IPython's if one runs, else those of ``__main__``."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return vars(sys.modules["__main__"]) if shell is None else shell.user_ns


def get(name: str) -> Any:
    """Return a global of the student's notebook.

    Args:
        name: what it is called there.

    Raises:
        AssertionError: the notebook defines no such name.
    """
    namespace = _namespace()
    if name not in namespace:
        raise AssertionError(f"your notebook must define `{name}`.")
    return namespace[name]


def set(name: str, value: Any) -> None:
    """Give a global of the student's notebook another value, for the functions that read it.

    Args:
        name: what it is called there.
        value: the new value.

    Raises:
        ValueError: no name of a variable.
    """
    if not name.isidentifier():
        raise ValueError(f"name must be an identifier, got {name!r}")
    _namespace()[name] = value


def eval(expression: str, **names: Any) -> Any:
    """Evaluate an expression in the student's notebook; nothing of it stays behind there.

    Args:
        expression: a Python expression, such as ``"Net(3).weight.shape"``.
        names: values that it may use besides what the notebook defines.

    >>> eval("sum(values)", values=[1, 2, 3])
    6
    """
    return builtins.eval(expression, {**_namespace(), **names})


def run(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function of the check on the student's side, next to the objects it works on.

    What it returns there is the student's claim: never let it alone decide.

    Args:
        function: what to call. It may import what it needs; what it captures can be read by the student.
        args: its arguments.
        kwargs: its keyword arguments.
    """
    return function(*args, **kwargs)


def mutated(function: Callable[..., Any], *args: Any, **kwargs: Any) -> list[int | str]:
    """Call a function on copies and return which of its arguments it changed in place.

    A change is: of a tensor its values, shape, dtype, ``requires_grad`` or ``.grad``; of an array its values, shape or
    dtype; of a list, dict or set what it holds, at any depth; of a module its parameters, buffers, their ``.grad`` or
    its training flag; of a random generator its state; of another object its attributes. NaN equals NaN. What a
    callable other than a module does with its own attributes is its own affair.

    Args:
        function: what to call; its result is dropped.
        args: its arguments; they stay as they are.
        kwargs: its keyword arguments.

    Returns:
        Positions, then keyword names, in the order of the call.

    Raises:
        ValueError: an argument that cannot be copied, such as a Python generator.

    >>> mutated(lambda values, more: more.append(0), [1], more=[2])
    ['more']
    """
    memo: dict[int, Any] = {}
    before: dict[int | str, Any] = {**dict(enumerate(args)), **kwargs}
    after: dict[int | str, Any] = {}
    for place, value in before.items():
        try:
            after[place] = copied(value, memo)
        except (TypeError, RuntimeError, copy.Error) as e:
            raise ValueError(f"argument {place!r} is a {type(value).__name__}, which cannot be copied: {e}") from e
    function(*(after[i] for i in range(len(args))), **{name: after[name] for name in kwargs})
    comparison = Comparison(memo)
    return [place for place in before if not comparison.same(before[place], after[place])]


def take(iterable: Iterable[Any], n: int) -> list[Any]:
    """Return the first items of what may never end.

    Args:
        iterable: a generator, for example.
        n: how many at most.

    >>> take(iter("abc"), 2)
    ['a', 'b']
    """
    return list(islice(iterable, n))


def signature(function: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of a function's parameters.

    Args:
        function: a function or a class of the student.

    Raises:
        AssertionError: not callable, or its parameters cannot be known.

    >>> signature(lambda x, beta=1.0: x)
    ('x', 'beta')
    """
    try:
        return tuple(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        raise AssertionError(f"expected a function with named parameters, got {function!r:.60}.") from None


def source(obj: Any) -> str:
    """Return the text of a function or class.

    Args:
        obj: defined in the notebook or in a module.

    Raises:
        AssertionError: its text is not known.
    """
    text = _class_source(obj) if isinstance(obj, type) else None
    try:
        return text or textwrap.dedent(inspect.getsource(obj))
    except (TypeError, OSError):
        raise AssertionError(f"the source of {obj!r:.60} is not known: define it in the notebook.") from None


def _class_source(cls: type) -> str | None:
    """Return the text of a class that has methods; Python before 3.13 finds none in notebooks, and goes by name."""
    codes = [code for method in vars(cls).values() if (code := getattr(method, "__code__", None)) is not None]
    lines = linecache.getlines(codes[0].co_filename) if codes else []
    try:
        tree = ast.parse("".join(lines))
    except SyntaxError:  # the file is another one by now
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name == cls.__name__:
            if node.lineno <= codes[0].co_firstlineno <= (node.end_lineno or 0):
                first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                return textwrap.dedent("".join(lines[first - 1 : node.end_lineno]))
    return None


def attr(obj: Any, name: str) -> Any:
    """Return an attribute, a name with underscores included.

    Args:
        obj: an object of the student's.
        name: the attribute.

    Raises:
        AttributeError: there is none.
    """
    return getattr(obj, name)


def opaque(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that the student's code can call and not look into.

    It runs in the check's process: what it captures stays there, and what it counts or appends to is seen by the check.

    Args:
        function: a function of the check, such as an energy that counts its calls.
    """
    return function
