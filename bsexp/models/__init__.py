"""Networks behind one interface of pure functions; Flax Linen stays in this folder.

A network is used through `Model`; nobody else needs to know how it was written.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from bsexp.models import convolutional, dense, normalisation, own
from bsexp.models.normalisation import Ghost

MODES = ("running", "batch")
# Network -> variant -> function of the number of classes and the momentum of batch norm.
NETWORKS: dict[str, dict[str, Callable[[int, float], Any]]] = {
    "F1": {"paper": dense.f1},
    "F2": {"paper": dense.f2},
    "C1": {"paper": convolutional.c1, "released": convolutional.c1_released},
    "C2": {"paper": convolutional.c2},
    "C3": {"paper": convolutional.c1, "released": convolutional.c1_released},
    "C4": {"paper": convolutional.c2},
}


@dataclasses.dataclass(frozen=True)
class Model:
    """A network as pure functions of its parameters and batch-norm statistics.

    Attributes:
        init: key -> (parameters, statistics).
        train: (parameters, statistics, inputs, keys, ghost) -> (logits, statistics), where inputs, float32
            [b, H, W, C], are the examples of an update that this device holds, keys [b] their typed random keys, from
            which alone dropout is drawn, and ``ghost`` says which of them are normalised together; the running
            averages move one step. In precision bfloat16 the layers with batch norm compute W x and hand on in it, from float32
            weights and with float32 statistics; the logits are float32.
        apply: (parameters, statistics, inputs, mode) -> logits [B, classes], without dropout, where mode "running"
            normalises by the running averages and "batch" by the inputs' own statistics; an average that is not
            changed in either. It is float32 whatever the precision of `train`: what is measured is the network, and a
            function that is constant between its roundings has no curvature.
        observe: (parameters, statistics, inputs) -> statistics, the mean and variance of the inputs at each layer, as one
            batch by which every layer before it normalises, without dropout, in float32; of the statistics given only
            the shapes count.
    """

    init: Callable[[jax.Array], tuple[Any, Any]]
    train: Callable[
        [Any, Any, jax.Array, jax.Array, Ghost],
        tuple[jax.Array, Any],
    ]
    apply: Callable[[Any, Any, jax.Array, str], jax.Array]
    observe: Callable[[Any, Any, jax.Array], Any]


@functools.cache  # equal arguments give the same functions, so that compiled programs are shared between runs
def build(
    name: str,
    image_shape: tuple[int, ...],
    num_classes: int,
    batch_norm_momentum: float,
    variant: str = "paper",
    precision: str = "float32",
) -> Model:
    """Build a network by its name.

    Args:
        name: a key of NETWORKS, or MODULE:NAME, see `own`.
        image_shape: shape of one example, (height, width, channels), or (features,).
        num_classes: number of logits.
        batch_norm_momentum: weight of the past in the running averages.
        variant: a key of NETWORKS[name].
        precision: in which it is trained, float32 or bfloat16.
    """
    factory = own.load(name) if name not in NETWORKS else NETWORKS[name][variant]
    network = factory(num_classes, batch_norm_momentum)
    trained = network
    if precision != "float32":
        trained = network.clone(dtype=jnp.dtype(precision))
    forgetful = network.clone(momentum=0.0)  # its averages are those of the last batch

    def init(key: jax.Array) -> tuple[Any, Any]:
        inputs = jnp.zeros((2, *image_shape))
        variables = network.init(key, inputs, normalisation.whole(2), None)
        return variables["params"], variables.get("statistics", {})

    def train(
        parameters: Any,
        statistics: Any,
        inputs: jax.Array,
        keys: jax.Array,
        ghost: Ghost,
    ) -> tuple[jax.Array, Any]:
        logits, updated = _applied(
            *(trained, parameters, statistics, inputs, ghost, keys),
            mutable=["statistics"],
        )
        return logits, updated.get("statistics", {})

    def observe(parameters: Any, statistics: Any, inputs: jax.Array) -> Any:
        nothing = jax.tree.map(jnp.zeros_like, statistics)
        ghost = normalisation.whole(len(inputs))
        _, found = _applied(
            *(forgetful, parameters, nothing, inputs, ghost, None),
            mutable=["statistics"],
        )
        return found.get("statistics", {})

    def apply(
        parameters: Any, statistics: Any, inputs: jax.Array, mode: str
    ) -> jax.Array:
        ghost = None if mode == "running" else normalisation.whole(len(inputs))
        return _applied(network, parameters, statistics, inputs, ghost, None)

    return Model(init, train, apply, observe)


def _applied(
    network: Any, parameters: Any, statistics: Any, *arguments: Any, **options: Any
) -> Any:
    """Apply a Linen network, its products in float32 where its numbers are.

    By default an accelerator rounds their factors to 10 bits (TF32) or 7 (bfloat16). The derivatives' products inherit
    the precision of those they come from.
    """
    variables = {"params": parameters, "statistics": statistics}
    with jax.default_matmul_precision("float32"):
        return network.apply(variables, *arguments, **options)


def image_error(name: str, variant: str, image_shape: tuple[int, ...]) -> str:
    """Return "" where a network can take images of a shape, or the words that say what it needs."""
    least = NETWORKS[name][variant](1, 0.0).least_side
    if least == 1 or (len(image_shape) == 3 and min(image_shape[:2]) >= least):
        return ""
    return f"needs images of at least {least} x {least}, not {' x '.join(map(str, image_shape))}"


own_code = own.code
own_error = own.error
interpolate_statistics = normalisation.interpolate_statistics
pool_statistics = normalisation.pool_statistics
