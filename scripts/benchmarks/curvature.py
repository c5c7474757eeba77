"""The Hessian of F1 against three PyTorch libraries and the arithmetic limit: values, times, memory, the trace to 1 %."""

import functools
import statistics
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
import torch
from benchmarks import f1, memory, peers, timing, trace_cost

from bsexp.curvature import block, lanczos, trace

BATCH_SIZES = {"SB": 256, "LB": 6_000}
BLOCKS = (1, 4, 8)
PEER_BLOCKS = (1, 4)
PROBES = 8
# Whether the gradient's linearisation (in PyTorch: its graph) was there before the timed call.
KEPT, ANEW = "kept from before", "in the call"


class Values(NamedTuple):
    """What everyone must agree on: H v for one vector of random signs, and the largest eigenvalue."""

    product: np.ndarray
    largest: float


def rows() -> Iterator[dict[str, Any]]:
    """Compare values at two trained points, times at the first of them, and memory with its prediction."""
    points = {name: f1.train(size) for name, size in BATCH_SIZES.items()}
    for name, point in points.items():
        yield from _values(name, point)
    point = points["SB"]
    yield from _limits(point)
    yield _matmul()
    for peer in peers.all_at(point):
        yield from _products(point, peer)
        yield _trace(point, peer)
    yield from memory.rows({"F1": BLOCKS, "C2": (1, 4)})
    yield from trace_cost.rows(points)


def _values(name: str, point: f1.Point) -> Iterator[dict[str, Any]]:
    """Hold everyone's values against ours in float64, and the peers' against ours in float32 too."""
    signs = block.rademacher(jax.random.key(0), point.parameters, 1)
    vector = peers.flat(block.vector(signs, 0))
    with jax.enable_x64(True):
        exact = _ours(f1.double(point), f1.double(signs))
    ours = _ours(point, signs)
    found = {"bsexp, float32": ours}
    for peer in peers.all_at(point):
        product = peer.product(torch.from_numpy(vector)[None])
        found[peer.name] = Values(peers.flat_product(product), peer.largest())
    for of, values in found.items():
        yield {
            "benchmark": f"values at {name}",
            "examples": f1.EXAMPLES,
            "of": of,
            "quadratic_form": float(vector @ values.product.astype(np.float64)),
            "largest_eigenvalue": float(values.largest),
            **_differences("float64", vector, values, exact),
            **(
                _differences("bsexp", vector, values, ours)
                if values is not ours
                else {}
            ),
        }


def _ours(point: f1.Point, signs: Any) -> Values:
    hessian = f1.objective(point).hessian(point.parameters)
    found = lanczos.eigenpairs(
        hessian,
        point.parameters,
        jax.random.key(0),
        1,
        iterations=peers.LANCZOS_STEPS,
        tolerance=1e-3,  # of the residual: the eigenvalue's error goes with its square
    )
    return Values(peers.flat(block.vector(hessian(signs), 0)), found.values[0])


def _differences(
    to: str, vector: np.ndarray, values: Values, reference: Values
) -> dict[str, float]:
    """Return relative differences; of products, in the norm."""
    difference = values.product - reference.product.astype(np.float64)
    form = vector @ reference.product.astype(np.float64)
    return {
        f"product_against_{to}": float(
            np.linalg.norm(difference) / np.linalg.norm(reference.product)
        ),
        f"quadratic_form_against_{to}": float(abs(vector @ difference / form)),
        f"largest_eigenvalue_against_{to}": float(
            abs(values.largest / reference.largest - 1)
        ),
    }


def _calls(point: f1.Point, number: int) -> dict[str, Callable[[], Any]]:
    """Return calls of ``number`` products, with the linearisation kept from before and made in the call."""
    objective = f1.objective(point)
    vectors = block.normal(jax.random.key(0), point.parameters, number)
    kept = objective.hessian(point.parameters)
    return {
        KEPT: lambda: kept(vectors),
        ANEW: lambda: objective.hessian(point.parameters)(vectors),
    }


def _peer_calls(
    point: f1.Point, peer: peers.Peer, number: int
) -> dict[str, Callable[[], Any]]:
    size = sum(leaf.size for leaf in jax.tree.leaves(point.parameters))
    vectors = torch.randn(number, size, generator=torch.Generator().manual_seed(0))
    calls = {ANEW: functools.partial(peer.product, vectors)}
    if peer.kept is not None:
        calls[KEPT] = functools.partial(peer.kept, vectors)
    return calls


def _limits(point: f1.Point) -> Iterator[dict[str, Any]]:
    """Compare a product to its matrix products at this machine's matmul rate, and to one gradient.

    The limit is that of the product alone, 28.5 GFLOP for each vector: 2 B P operations for one matrix product of a
    kernel of P entries with B examples, six of them in a layer (two for the tangent of its outputs, four for those of
    its gradients), two in the first, whose inputs have neither tangent nor gradient. A gradient has three, in the
    first layer two: 15.9 GFLOP, so that 1.80 gradients is the same limit.
    """
    objective, matmul = f1.objective(point), timing.matmul()
    kernels = [layer["kernel"].size for layer in point.parameters.values()]
    first = point.parameters[peers.HIDDEN[0]]["kernel"].size
    operations = 2 * len(point.labels) * (6 * sum(kernels) - 4 * first)
    for number in BLOCKS:
        for linearisation, call in _calls(point, number).items():
            spent, matmul_spent, limits = timing.paired(call, matmul)
            _, gradient_spent, gradients = timing.paired(
                call, lambda: objective.value_and_gradient(point.parameters)
            )
            share = timing.MATMUL_OPERATIONS / (number * operations)
            yield {
                "benchmark": "Hessian-vector product of F1",
                "examples": f1.EXAMPLES,
                "block": number,
                "linearisation": linearisation,
                "milliseconds_per_vector": 1e3 * spent / number,
                "matmul_gflops": 1e-9 * timing.MATMUL_OPERATIONS / matmul_spent,
                **_ratio("times_the_arithmetic_limit", limits, share),
                "milliseconds_gradient": 1e3 * gradient_spent,
                **_ratio("times_one_gradient", gradients, 1 / number),
            }


def _matmul() -> dict[str, Any]:
    """Compare matrix products, ours to PyTorch's: what of the ratios below is the BLAS's doing."""
    ours, spent, ratios = timing.paired(
        timing.matmul(), peers.matmul(timing.MATMUL_SIZE)
    )
    return {
        "benchmark": "matrix product, JAX against PyTorch",
        "size": timing.MATMUL_SIZE,
        "gflops": 1e-9 * timing.MATMUL_OPERATIONS / ours,
        "gflops_peer": 1e-9 * timing.MATMUL_OPERATIONS / spent,
        **_ratio("ratio", ratios),
    }


def _products(point: f1.Point, peer: peers.Peer) -> Iterator[dict[str, Any]]:
    """Compare products to a peer's, like with like: both from what was kept, or both from nothing."""
    for number in PEER_BLOCKS:
        ours = _calls(point, number)
        for linearisation, theirs in _peer_calls(point, peer, number).items():
            spent, peer_spent, ratios = timing.paired(ours[linearisation], theirs)
            yield {
                "benchmark": "Hessian-vector product of F1 against a peer",
                "examples": f1.EXAMPLES,
                "peer": peer.name,
                "block": number,
                "linearisation": linearisation,
                "milliseconds_per_vector": 1e3 * spent / number,
                "milliseconds_per_vector_peer": 1e3 * peer_spent / number,
                **_ratio("ratio", ratios),
            }


def _trace(point: f1.Point, peer: peers.Peer) -> dict[str, Any]:
    """Compare Hutchinson's estimate of the trace from scratch: one linearisation and PROBES probes of random signs."""
    x, objective = point.parameters, f1.objective(point)

    def estimate() -> float:
        return trace.hutchinson(
            objective.hessian(x), x, jax.random.key(0), PROBES
        ).value

    ours, spent, ratios = timing.paired(estimate, lambda: peer.trace(PROBES))
    return {
        "benchmark": "trace of F1's Hessian against a peer",
        "examples": f1.EXAMPLES,
        "probes": PROBES,
        "peer": peer.name,
        "milliseconds_per_probe": 1e3 * ours / PROBES,
        "milliseconds_per_probe_peer": 1e3 * spent / PROBES,
        **_ratio("ratio", ratios),
    }


def _ratio(name: str, ratios: list[float], scale: float = 1.0) -> dict[str, Any]:
    """Return the median of sorted ratios, and their range."""
    return {
        name: scale * statistics.median(ratios),
        f"{name}_range": [scale * ratios[0], scale * ratios[-1]],
    }
