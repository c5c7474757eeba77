"""Peak memory of a block of Hessian-vector products of F1 and of C2: predicted from the compiled programs, and measured.

Each measurement is a process of its own, python -m benchmarks.memory NETWORK NUMBER: what an allocator holds from before hides
what is allocated next.
"""

import ctypes
import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
from benchmarks import c2, f1

from bsexp.curvature import block, memory, operator

SCRIPTS = Path(__file__).parent.parent
MIB = 2**20


def rows(numbers: dict[str, tuple[int, ...]]) -> Iterator[dict[str, Any]]:
    """Compare the peak of one linearisation and a block of products with its prediction; on Linux alone."""
    # A fixed threshold makes glibc give back at once what is freed.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    for network, number in ((name, k) for name, ks in numbers.items() for k in ks):
        command = [sys.executable, "-m", "benchmarks.memory", network, str(number)]
        said = subprocess.run(  # noqa: S603 - our own words
            command, cwd=SCRIPTS, env=environment, check=True, stdout=subprocess.PIPE
        ).stdout
        parameters, examples, predicted, held, measured = json.loads(said)
        yield {
            "benchmark": f"peak memory of Hessian-vector products of {network}, one chunk",
            "parameters": parameters,
            "examples": examples,
            "block": number,
            "mib_predicted": predicted / MIB,
            "mib_measured": (held + measured) / MIB,
            "ratio": predicted / (held + measured),
            "ratio_beyond_what_was_held": (predicted - held) / measured,
        }


def main(network: str, number: int) -> int:
    """Print parameters, examples, and bytes: predicted, held before (weights, data, the block), grown by."""
    # Dispatched ahead, Python may or may not have let go of a vector when the next one is computed.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    loss, x, data = _problem(network)
    vectors = block.normal(jax.random.key(0), x, number)
    objective = operator.objective(loss, [data])
    grown = growth(lambda: objective.hessian(x)(vectors))
    held = sum(leaf.nbytes for leaf in jax.tree.leaves((x, data, vectors)))
    predicted = memory.peak_bytes(loss, x, data, number)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(x))
    print(json.dumps([parameters, len(data[1]), predicted, held, grown]))
    return 0


def _problem(network: str) -> tuple[operator.Loss, Any, Any]:
    if network == "C2":
        return c2.loss, c2.start(), c2.data()
    point = f1.train(f1.EXAMPLES, epochs=0)
    return f1.loss(point), point.parameters, (point.inputs, point.labels)


def growth(call: Callable[[], Any]) -> int:
    """Return by how many bytes the process grew at most during a call that has run once before."""
    jax.block_until_ready(call())
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets VmHWM
    before = _status("VmRSS")
    jax.block_until_ready(call())
    return _status("VmHWM") - before


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    kib = next(line for line in lines if line.startswith(f"{name}:")).split()[1]
    return int(kib) * 2**10


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
