"""Networks behind one interface of pure functions; Flax Linen stays in this folder.

A network is used through `Model`; nobody else needs to know how it was written.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax

from bsexp.models import dense, normalisation

MODES = ("running", "batch")
NETWORKS: dict[str, Callable[..., Any]] = {"F1": dense.f1}


@dataclasses.dataclass(frozen=True)
class Model:
    """A network as pure functions of its parameters and batch-norm statistics.

    Attributes:
        init: key -> (parameters, statistics).
        train: (parameters, statistics, inputs) -> (logits, statistics), normalised by the batch; the
            running averages move one step.
        apply: (parameters, statistics, inputs, mode) -> logits [B, classes], where mode "running" normalises
            by the running averages and "batch" by the inputs' own statistics; an average that is not
            changed in either.
    """

    init: Callable[[jax.Array], tuple[Any, Any]]
    train: Callable[[Any, Any, jax.Array], tuple[jax.Array, Any]]
    apply: Callable[[Any, Any, jax.Array, str], jax.Array]


@functools.cache  # equal arguments give the same functions, so that compiled programs are shared between runs
def build(
    name: str,
    image_shape: tuple[int, ...],
    num_classes: int,
    batch_norm_momentum: float,
) -> Model:
    """Build a network by its name.

    Args:
        name: a key of NETWORKS.
        image_shape: shape of one example, (height, width, channels).
        num_classes: number of logits.
        batch_norm_momentum: weight of the past in the running averages.
    """
    network = NETWORKS[name](num_classes=num_classes, momentum=batch_norm_momentum)

    def init(key: jax.Array) -> tuple[Any, Any]:
        variables = network.init(key, jax.numpy.zeros((2, *image_shape)), mode="batch")
        return variables["params"], variables["statistics"]

    def train(
        parameters: Any, statistics: Any, inputs: jax.Array
    ) -> tuple[jax.Array, Any]:
        variables = {"params": parameters, "statistics": statistics}
        logits, updated = network.apply(
            variables, inputs, mode="batch", mutable=["statistics"]
        )
        return logits, updated["statistics"]

    def apply(
        parameters: Any, statistics: Any, inputs: jax.Array, mode: str
    ) -> jax.Array:
        return network.apply(
            {"params": parameters, "statistics": statistics}, inputs, mode=mode
        )

    return Model(init, train, apply)


interpolate_statistics = normalisation.interpolate_statistics
