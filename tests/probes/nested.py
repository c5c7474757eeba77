"""A network of one's own whose batch norm lies within blocks."""

from flax import linen as nn

from bsexp.models import normalisation


class Block(nn.Module):
    """A residual block."""

    width: int
    momentum: float

    @nn.compact
    def __call__(self, inputs, ghost):
        layer = normalisation.NormalisedDense(self.width, self.momentum)
        return inputs + nn.relu(layer(inputs, ghost))


class Nested(nn.Module):
    """A dense layer, two blocks, logits."""

    num_classes: int
    momentum: float

    @nn.compact
    def __call__(self, inputs, ghost, _keys):
        hidden = nn.Dense(16)(inputs.reshape((len(inputs), -1)))
        for _ in range(2):
            hidden = Block(16, self.momentum)(hidden, ghost)
        return nn.Dense(self.num_classes)(hidden)
