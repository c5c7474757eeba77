"""The convolutional networks of Keskar et al. 2017, Appendix B."""

import itertools
import math
from typing import Any, NamedTuple

import jax
from flax import linen as nn

from bsexp.models import dropout, normalisation, pooling


class Stack(NamedTuple):
    """Convolutions of one size, each with batch norm and ReLU, then a max-pool of stride 2.

    Attributes:
        filters: of each convolution.
        window: height and width of a kernel.
        stride: of each convolution.
        dropouts: rate of the dropout after each convolution; 0 is none.
        pool: height and width of the max-pool.
    """

    filters: int
    window: int
    stride: int
    dropouts: tuple[float, ...]
    pool: int


class Convolutional(nn.Module):
    """Stacks of convolutions, dense layers with batch norm and ReLU, then a dense layer to the logits.

    Attributes:
        stacks: from the image on.
        widths: units of each dense layer.
        flat_dropout: rate of the dropout before the dense layers.
        dense_dropout: rate of the dropout after each of them.
        num_classes: number of logits.
        momentum: weight of the past in the running averages of batch norm.
        dtype: of the layers with batch norm, see `normalisation`; the logits are computed in that of the parameters.
    """

    stacks: tuple[Stack, ...]
    widths: tuple[int, ...]
    flat_dropout: float
    dense_dropout: float
    num_classes: int
    momentum: float
    dtype: Any = None

    @property
    def least_side(self) -> int:
        """Least height and width of an image at which the last pool still has two pixels to choose from."""
        strides = (stack.stride ** len(stack.dropouts) for stack in self.stacks)
        return math.prod(strides) * 2 ** (len(self.stacks) - 1) + 1

    @nn.compact
    def __call__(
        self,
        inputs: jax.Array,
        ghost: normalisation.Ghost | None,
        keys: jax.Array | None,
    ) -> jax.Array:
        """Map images [b, H, W, C] to logits [b, num_classes]; without ``ghost``, by the running averages."""
        numbers = itertools.count()

        def drop(hidden: jax.Array, rate: float) -> jax.Array:
            return (
                dropout.dropout(hidden, keys, rate, next(numbers)) if rate else hidden
            )

        hidden = inputs
        for stack in self.stacks:
            for rate in stack.dropouts:
                layer = normalisation.NormalisedConvolution(
                    *(stack.filters, self.momentum, stack.window, stack.stride),
                    dtype=self.dtype,
                )
                hidden = drop(nn.relu(layer(hidden, ghost)), rate)
            hidden = pooling.max_pool(hidden, stack.pool, 2, "SAME")
        hidden = drop(hidden.reshape((hidden.shape[0], -1)), self.flat_dropout)
        for width in self.widths:
            dense = normalisation.NormalisedDense(
                width, self.momentum, dtype=self.dtype
            )
            hidden = drop(nn.relu(dense(hidden, ghost)), self.dense_dropout)
        return nn.Dense(self.num_classes, kernel_init=nn.initializers.glorot_uniform())(
            hidden
        )


def c1(num_classes: int, momentum: float) -> Convolutional:
    """Build C1 and C3 as the paper defines them, with convolutions of stride 2.

    The paper does not say how it pads: "same", as the authors' code does.
    """
    return _alexnet(2, num_classes, momentum)


def c1_released(num_classes: int, momentum: float) -> Convolutional:
    """Build C1 and C3 as in the authors' code, stride 1; 1 757 834 and 1 775 204 parameters on CIFAR-10 and -100."""
    return _alexnet(1, num_classes, momentum)


def _alexnet(stride: int, num_classes: int, momentum: float) -> Convolutional:
    stack = Stack(64, 5, stride, (0.0,), 3)
    return Convolutional((stack,) * 2, (384, 192), 0.0, 0.5, num_classes, momentum)


def c2(num_classes: int, momentum: float) -> Convolutional:
    """Build C2 and C4; 14 991 946 and 15 038 116 parameters on CIFAR-10 and -100.

    The dropout between convolutions is that of the authors' code.
    """
    stacks = (
        Stack(64, 3, 1, (0.3, 0.0), 2),
        Stack(128, 3, 1, (0.4, 0.0), 2),
        Stack(256, 3, 1, (0.4, 0.4, 0.0), 2),
        Stack(512, 3, 1, (0.4, 0.4, 0.0), 2),
        Stack(512, 3, 1, (0.4, 0.4, 0.0), 2),
    )
    return Convolutional(stacks, (512,), 0.5, 0.5, num_classes, momentum)
