"""Peak memory of a block of Hessian-vector products of F1: predicted from the compiled programs, and measured.

Each measurement is a process of its own, python -m benchmarks.memory NUMBER: what an allocator holds from before hides
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
from benchmarks import f1

from bsexp.curvature import block

SCRIPTS = Path(__file__).parent.parent
MIB = 2**20


def rows(numbers: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    """Compare the peak of one linearisation and a block of products with its prediction; on Linux alone."""
    # A fixed threshold makes glibc give back at once what is freed.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    for number in numbers:
        command = [sys.executable, "-m", "benchmarks.memory", str(number)]
        said = subprocess.run(  # noqa: S603 - our own words
            command, cwd=SCRIPTS, env=environment, check=True, stdout=subprocess.PIPE
        ).stdout
        predicted, measured = json.loads(said)
        yield {
            "benchmark": "peak memory of Hessian-vector products of F1, one chunk",
            "examples": f1.EXAMPLES,
            "block": number,
            "mib_predicted": predicted / MIB,
            "mib_measured": measured / MIB,
            "ratio": predicted / measured,
        }


def main(number: int) -> int:
    """Print [predicted, measured] bytes beyond the weights, the data and the block itself."""
    # Dispatched ahead, Python may or may not have let go of a vector when the next one is computed.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    point = f1.train(f1.EXAMPLES, epochs=0)
    vectors = block.normal(jax.random.key(0), point.parameters, number)
    objective = f1.objective(point, chunk=f1.EXAMPLES)
    measured = growth(lambda: objective.hessian(point.parameters)(vectors))
    print(json.dumps([predicted(point, number), measured]))
    return 0


def predicted(point: f1.Point, number: int) -> int:
    """Add up what is alive at once: first the linearisation; then it, the vectors one by one and their images.

    To these belongs the working memory of the product that is being computed, or at the end the images put together.
    """
    loss, batch, x = f1.loss(point), (point.inputs, point.labels), point.parameters
    linearise = jax.jit(
        lambda loss, x, batch: jax.linearize(lambda x: jax.grad(loss)(x, batch), x)[1]
    ).lower(loss, x, batch)
    linear = linearise.out_info
    apply = jax.jit(lambda linear, vector: linear(vector)).lower(linear, x)
    first = linearise.compile().memory_analysis()
    second = apply.compile().memory_analysis()
    vectors = number * second.output_size_in_bytes
    return first.output_size_in_bytes + max(
        first.temp_size_in_bytes,
        2 * vectors + second.temp_size_in_bytes,
        3 * vectors,
    )


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
    sys.exit(main(int(sys.argv[1])))
