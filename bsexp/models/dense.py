"""The fully connected networks of Keskar et al. 2017, Appendix B."""

from typing import Any

import jax
from flax import linen as nn

from bsexp.models import normalisation


class FullyConnected(nn.Module):
    """Hidden layers with batch norm and ReLU, then a dense layer to the logits.

    Attributes:
        widths: units of each hidden layer.
        num_classes: number of logits.
        momentum: weight of the past in the running averages of batch norm.
        dtype: of the hidden layers, see `normalisation`; the logits are computed in that of the parameters.
    """

    widths: tuple[int, ...]
    num_classes: int
    momentum: float
    dtype: Any = None

    least_side = 1  # of an image: these layers take any

    @nn.compact
    def __call__(
        self,
        inputs: jax.Array,
        ghost: normalisation.Ghost | None,
        _keys: jax.Array | None,  # no dropout here
    ) -> jax.Array:
        """Map images [b, ...] to logits [b, num_classes]; without ``ghost``, by the running averages."""
        hidden = inputs.reshape((inputs.shape[0], -1))
        for width in self.widths:
            layer = normalisation.NormalisedDense(
                width, self.momentum, dtype=self.dtype
            )
            hidden = nn.relu(layer(hidden, ghost))
        return nn.Dense(self.num_classes, kernel_init=nn.initializers.glorot_uniform())(
            hidden
        )


def f1(num_classes: int, momentum: float) -> FullyConnected:
    """Build F1: five hidden layers of 512 units; 1 462 794 parameters on MNIST."""
    return FullyConnected((512,) * 5, num_classes, momentum)


def f2(num_classes: int, momentum: float) -> FullyConnected:
    """Build F2: seven hidden layers of 512 units; 2 780 085 parameters on TIMIT, of 360 features and 1 973 classes."""
    return FullyConnected((512,) * 7, num_classes, momentum)
