import jax.numpy as jnp
import numpy as np

from bsexp.curvature import landscape


def test_the_line_runs_through_both_ends_and_beyond():
    start, end = {"w": jnp.array([1.0, 2.0])}, {"w": jnp.array([3.0, -2.0])}
    for alpha, expected in (
        (0, [1, 2]),
        (1, [3, -2]),
        (0.5, [2, 0]),
        (-1, [-1, 6]),
        (2, [5, -6]),
    ):
        np.testing.assert_allclose(landscape.line(start, end, alpha)["w"], expected)
