"""Measure bsexp's speed as ratios within one run, and write them to results/benchmarks/.

    python scripts/benchmark.py training     updates of F1 and C1 against the arithmetic limit of this machine, PyTorch, and one
                                             run after the other: pip install -e '.[bench]'
    python scripts/benchmark.py streaming    examples read while training against examples on the device
    python scripts/benchmark.py sharpness    ten iterations of L-BFGS-B against scipy.optimize.minimize
    python scripts/benchmark.py curvature    Hessian-vector products, eigenvalue and trace of F1 against PyHessian,
                                             curvlinops and hessian-eigenthings: pip install -e '.[bench]'
    python scripts/benchmark.py convolution  convolution and max-pool as matrix products and slices against the compiler's
    python scripts/benchmark.py start        from the command to the first update, with an empty and a filled compile cache

They run on JAX's default device; files measured on an accelerator have its name.

Each ratio compares two timings taken in turn, A B A B ..., so that it holds when the machine's speed drifts.
Nothing else should run meanwhile.
"""

import importlib
import sys
from pathlib import Path

import jax
from benchmarks import timing

from bsexp import environment, huge_pages, results

BENCHMARKS = ("training", "streaming", "sharpness", "curvature", "convolution", "start")
FOLDER = Path(__file__).parent.parent / "results" / "benchmarks"


def main(words: list[str]) -> int:
    """Run one benchmark, print its rows and write them with the machine they were measured on."""
    if words == ["--help"]:
        print(__doc__)
        return 0
    if len(words) != 1 or words[0] not in BENCHMARKS:
        print(
            f"usage: python scripts/benchmark.py {'|'.join(BENCHMARKS)}",
            file=sys.stderr,
        )
        return 2
    try:
        benchmark = importlib.import_module(f"benchmarks.{words[0]}")
    except ModuleNotFoundError as error:
        print(
            f"{error.name} is not installed: pip install -e '.[bench]'",
            file=sys.stderr,
        )
        return 2
    rows = []
    for row in benchmark.rows():
        rows.append(row)
        print(
            "  ".join(
                f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
                for key, value in row.items()
            ),
            flush=True,
        )
    FOLDER.mkdir(parents=True, exist_ok=True)
    content = {
        "schema": results.SCHEMA,
        "command": f"python scripts/benchmark.py {words[0]}",
        "rounds": timing.ROUNDS,
        "environment": environment.describe(),
        "rows": rows,
    }
    results.write_json(
        FOLDER / f"{'-'.join([words[0], *_accelerator()])}.json", content
    )
    return 0


def _accelerator() -> list[str]:
    """Return the words of an accelerator's name, such as nvidia, h200; none for a CPU."""
    device = jax.devices()[0]
    return [] if device.platform == "cpu" else device.device_kind.lower().split()


if __name__ == "__main__":
    huge_pages.ask()
    sys.exit(main(sys.argv[1:]))
