"""L-BFGS-B against scipy.optimize.minimize."""

from typing import Any

import numpy as np
import scipy.optimize
from benchmarks import timing

from bsexp.curvature import lbfgsb


def rows() -> list[dict[str, Any]]:
    """Compare ten iterations of L-BFGS-B on as many variables as F1 has, on a function that costs next to nothing."""
    size = 1_462_794
    generator = np.random.default_rng(0)
    half_width = 1e-3 * (1 + np.abs(generator.normal(size=size)))
    slope, curvature = generator.normal(size=size), generator.uniform(size=size)

    def function(y: np.ndarray) -> tuple[float, np.ndarray]:
        return -float(slope @ y + 50 * (curvature * y) @ y), -(
            slope + 100 * curvature * y
        )

    def public() -> Any:
        bounds = scipy.optimize.Bounds(-half_width, half_width)
        options = {"maxiter": 10, "ftol": 0.0, "gtol": 0.0}
        return scipy.optimize.minimize(
            function,
            np.zeros(size),
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options=options,
        ).fun

    ours, theirs, ratios = timing.paired(
        lambda: lbfgsb.minimise(function, half_width, 10).value, public
    )
    return [
        {
            "benchmark": "L-BFGS-B, ten iterations, 1 462 794 variables",
            "seconds": ours,
            "seconds_scipy_optimize_minimize": theirs,
            **timing.spread("ratio", ratios),
        }
    ]
