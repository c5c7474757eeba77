"""The Hessian of F1 by three PyTorch libraries, at the same weights on the same examples.

Vectors are float32 [k, n]: the parameters one after another in the order and layout of PyTorch, see `flat`.
"""

import warnings
from collections.abc import Callable
from importlib import metadata
from typing import Any, NamedTuple

import curvlinops
import hessian_eigenthings as eigenthings
import jax
import numpy as np
import pyhessian
import scipy.sparse.linalg
import torch
from benchmarks import f1
from pyhessian.utils import hessian_vector_product
from torch import nn

from bsexp.models import normalisation

HIDDEN = [f"NormalisedDense_{i}" for i in range(5)]
OUTPUT = "Dense_0"
LEAVES = [
    *(
        (layer, leaf)
        for layer in HIDDEN
        for leaf in ("kernel", "bias", "scale", "offset")
    ),
    *((OUTPUT, leaf) for leaf in ("kernel", "bias")),
]
# Eigenvalues are compared to 1e-4; these ask for more.
TOLERANCE = 1e-6
POWER_ITERATIONS = 1_000
LANCZOS_STEPS = 40

Product = Callable[[torch.Tensor], Any]


class Peer(NamedTuple):
    """A library's Hessian H at one point.

    Attributes:
        name: with its version and that of PyTorch.
        product: vectors [k, n] -> H v for each, the gradient computed in the call.
        kept: the same from a gradient computed before; None where the library has no such thing.
        largest: () -> the largest eigenvalue.
        trace: number of Rademacher probes -> Hutchinson's estimate, from scratch.
    """

    name: str
    product: Product
    kept: Product | None
    largest: Callable[[], float]
    trace: Callable[[int], Any]


def all_at(point: f1.Point) -> list[Peer]:
    """Return every library's Hessian at a point."""
    torch.manual_seed(0)  # of PyHessian's vectors
    network = model(point)
    batch = tensor(point.inputs), tensor(point.labels).long()
    return [
        with_pyhessian(network, batch),
        with_curvlinops(network, batch),
        with_eigenthings(network, batch),
    ]


def with_pyhessian(network: nn.Module, batch: Any) -> Peer:
    """PyHessian on one batch: it keeps the graph of the gradient; eigenvalues, by magnitude, by power iteration."""

    def graph() -> pyhessian.hessian:
        # It adds the gradient to .grad, so that without this a second object would have twice the Hessian.
        network.zero_grad()
        with warnings.catch_warnings():
            # backward(create_graph=True) warns of a leak, which zero_grad prevents.
            warnings.simplefilter("ignore", UserWarning)
            return pyhessian.hessian(network, nn.CrossEntropyLoss(), batch, cuda=False)

    def multiply(of: pyhessian.hessian, vectors: torch.Tensor) -> Any:
        sizes = [parameter.numel() for parameter in of.params]
        return [
            hessian_vector_product(
                of.gradsH,
                of.params,
                [
                    part.view_as(parameter)
                    for part, parameter in zip(row.split(sizes), of.params, strict=True)
                ],
            )
            for row in vectors
        ]

    before = graph()
    return Peer(
        _name("pyhessian"),
        lambda vectors: multiply(graph(), vectors),
        lambda vectors: multiply(before, vectors),
        lambda: before.eigenvalues(POWER_ITERATIONS, TOLERANCE)[0][0],
        # Its own rule stops where two running means happen to agree; with 0 it never does.
        lambda probes: np.mean(graph().trace(probes, tol=0)),
    )


def with_curvlinops(network: nn.Module, batch: Any) -> Peer:
    """Curvlinops: forward over reverse under vmap, all vectors at once; eigenvalues by SciPy's ARPACK."""
    operator = curvlinops.HessianLinearOperator(
        network,
        nn.CrossEntropyLoss(),
        list(network.parameters()),
        [batch],
        check_deterministic=False,  # costs two products and two gradients, once
    )

    def largest() -> float:
        start = np.random.default_rng(0).normal(size=operator.shape[0])
        return scipy.sparse.linalg.eigsh(
            operator.to_scipy(),
            k=1,
            which="LA",
            v0=start,
            tol=TOLERANCE,
            return_eigenvectors=False,
        )[0]

    return Peer(
        _name("curvlinops-for-pytorch"),
        lambda vectors: operator @ vectors.T,
        None,
        largest,
        lambda probes: curvlinops.hutchinson_trace(operator, probes),
    )


def with_eigenthings(network: nn.Module, batch: Any) -> Peer:
    """hessian-eigenthings: reverse over reverse, vector by vector; eigenvalues by Lanczos.

    These come out some 1e-4 too large: it normalises with torch.linalg.vector_norm, which in float32 makes 1.46 million
    normal numbers 2e-5 too short on CPU. On a diagonal matrix of that size, 0.85 became 0.8501 to 0.8502.
    """
    operator = eigenthings.HessianOperator(
        network, [batch], eigenthings.supervised_loss(nn.CrossEntropyLoss())
    )

    def largest() -> float:
        found = eigenthings.lanczos(
            operator, k=1, max_iter=LANCZOS_STEPS, which="LA", seed=0
        )
        return found.eigenvalues[0].item()

    return Peer(
        _name("hessian-eigenthings"),
        lambda vectors: [operator.matvec(row) for row in vectors],
        None,
        largest,
        lambda probes: eigenthings.hutchinson(operator, num_samples=probes, seed=0),
    )


def matmul(size: int) -> Callable[[], Any]:
    """Return a call of one product of two square matrices of ``size``."""
    matrix = torch.randn(size, size, generator=torch.Generator().manual_seed(0))
    return lambda: matrix @ matrix


def _name(package: str) -> str:
    return f"{package} {metadata.version(package)}, torch {torch.__version__}"


def model(point: f1.Point) -> nn.Module:
    """Build F1 in PyTorch in evaluation mode, with the weights and running averages of a point."""
    layers: list[nn.Module] = [nn.Flatten()]
    for name in HIDDEN:
        statistics = point.statistics[name]
        inputs, outputs = point.parameters[name]["kernel"].shape
        norm = nn.BatchNorm1d(outputs, eps=normalisation.EPSILON)
        norm.running_mean = tensor(statistics["mean"])
        norm.running_var = tensor(statistics["variance"])
        layers += [nn.Linear(inputs, outputs), norm, nn.ReLU()]
    network = nn.Sequential(
        *layers, nn.Linear(*point.parameters[OUTPUT]["kernel"].shape)
    ).eval()
    weights = tensor(flat(point.parameters))
    nn.utils.vector_to_parameters(weights, network.parameters())
    return network


def flat(tree: Any) -> np.ndarray:
    """Flatten a pytree like the parameters of F1; PyTorch's kernels are transposed."""
    return np.concatenate(
        [np.asarray(tree[layer][leaf]).T.ravel() for layer, leaf in LEAVES]
    )


def flat_product(result: Any) -> np.ndarray:
    """Flatten what a product with one vector returned, whatever the library's format."""
    return np.concatenate(
        [leaf.detach().numpy().ravel() for leaf in jax.tree.leaves(result)]
    )


def tensor(array: Any) -> torch.Tensor:
    """Copy an array to PyTorch."""
    return torch.from_numpy(np.array(array))
