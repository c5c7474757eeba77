"""SciPy's L-BFGS-B on a symmetric box, for millions of variables.

The compiled routine is SciPy's. `scipy.optimize.minimize` walks over the bounds in Python four times before it
calls that routine, which took 5.1 of the 6.8 seconds of ten iterations on F1's 1.5 million variables; here the
bounds are handed over as arrays. A test holds both to the same bits. The routine is private to SciPy, with one
signature since 1.15: hence the upper bound on its version in pyproject.toml.

Source: Byrd, Lu, Nocedal, Zhu 1995, doi:10.1137/0916069.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import _lbfgsb, _lbfgsb_py

CORRECTIONS = 10  # pairs of the limited memory: SciPy's default, and the paper's
LINE_SEARCH_STEPS = 20  # most evaluations of one line search: SciPy's default
_NEW_ITERATE, _EVALUATE, _CONVERGED = 1, 3, 4  # what the routine reports in task[0]
_OUT_OF_ITERATIONS = (5, 504)  # what scipy.optimize.minimize writes into task itself
_BOUNDED_BOTH_SIDES = 2


class Result(NamedTuple):
    """Where a minimisation ended.

    Attributes:
        position: float64 [n], the last accepted iterate.
        value: the function there.
        status: "limit" (all iterations used), "converged" or "failed" (the line search broke down).
        message: SciPy's own words.
        iterations: iterations done.
    """

    position: np.ndarray
    value: float
    status: str
    message: str
    iterations: int


def minimise(
    function: Callable[[np.ndarray], tuple[float, np.ndarray]],
    half_width: np.ndarray,
    iterations: int,
) -> Result:
    """Minimise a function over the box |y_i| <= half_width_i by L-BFGS-B from y = 0.

    Both of SciPy's tolerances are zero: they compare with the size of the function, which is near zero at
    a minimum, and would end the search because the function is small and not because the box is used up.

    Args:
        function: float64 [n] -> (value, gradient float64 [n]).
        half_width: float64 [n], above 0.
        iterations: most iterations, above 0.
    """
    size, memory = half_width.size, CORRECTIONS
    position, gradient = np.zeros(size), np.zeros(size)
    value = np.array(0.0)
    bounded = np.full(size, _BOUNDED_BOTH_SIDES, dtype=np.int32)
    workspace = np.zeros(2 * memory * size + 5 * size + 11 * memory**2 + 8 * memory)
    index_workspace = np.zeros(3 * size, dtype=np.int32)
    task, line_task, logical, integer = (
        np.zeros(count, dtype=np.int32) for count in (2, 2, 4, 44)
    )
    double = np.zeros(29)
    done = 0
    while True:
        _lbfgsb.setulb(
            *(memory, position, -half_width, half_width, bounded, value, gradient),
            *(0.0, 0.0, workspace, index_workspace, task, logical, integer, double),
            *(LINE_SEARCH_STEPS, line_task),
        )
        if task[0] == _EVALUATE:
            value, gradient = function(position.copy())
        elif task[0] == _NEW_ITERATE:
            done += 1
            if done == iterations:
                message = _message(_OUT_OF_ITERATIONS)
                return Result(position, float(value), "limit", message, done)
        else:
            status = "converged" if task[0] == _CONVERGED else "failed"
            return Result(position, float(value), status, _message(task), done)


def _message(task: Sequence[int]) -> str:
    return f"{_lbfgsb_py.status_messages[task[0]]}: {_lbfgsb_py.task_messages[task[1]]}"
