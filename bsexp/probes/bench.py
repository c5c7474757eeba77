"""What probes measure with: losses of a model over fixed chunks of a data set, every evaluation counted."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jax.tree_util import Partial

from bsexp import models
from bsexp.curvature import block, composite, mean, memory, operator
from bsexp.curvature.composite import Composite
from bsexp.curvature.operator import Operator
from bsexp.data import batches, sources
from bsexp.probes import task
from bsexp.training import evaluation

# In mode running examples do not depend on each other and chunks only bound the memory. These are the most: 1 000
# examples of F1 stay in the cache, 26 ms a gradient against 37 ms per 1 000 in chunks of 5 000.
RUNNING_CHUNK = 1_000
# Of what a linearised gradient keeps of a chunk's examples: 1 000 of C2 would take 7 GiB, and 13 beside them to apply
# it. Not a share of the machine's memory, since the last digits would be the machine's too.
RUNNING_BYTES = 2 * 2**30


class Bench:
    """A model and a data set, ready to be measured.

    Attributes:
        spent: told of each evaluation's cost, in forward passes of one example.
        devices: those that share the chunks of an objective; points lie on the first.
    """

    def __init__(
        self,
        model: models.Model,
        data: sources.Dataset,
        statistics_batch: int,
        spent: Callable[[float], None],
        devices: Sequence[jax.Device] = (),
    ) -> None:
        self.spent = spent
        self.devices = tuple(devices)
        self._model = model
        self._data = data
        self._statistics_batch = statistics_batch
        self._forward = {
            mode: evaluation.make_forward(model, mode) for mode in models.MODES
        }
        self._predict = {
            mode: functools.partial(_predict, model, mode) for mode in models.MODES
        }

    @property
    def num_classes(self) -> int:
        """K, of the data set."""
        return self._data.num_classes

    def chunks(self, split: str, examples: int, mode: str) -> list[Any]:
        """Return the first examples of a split in a fixed random order, in chunks of (images, labels)."""
        return self._chunks(split, 0, examples, mode)

    @functools.cache  # noqa: B019 - a bench lives as long as its study
    def _chunks(self, split: str, first: int, examples: int, mode: str) -> list[Any]:
        return operator.split(
            self._examples(split, first, examples), self._chunk_size(mode)
        )

    def _chunk_size(self, mode: str) -> int:
        return self._statistics_batch if mode == "batch" else self._running_chunk

    @functools.cached_property
    def _running_chunk(self) -> int:
        """The most examples of a chunk; what its linearisation keeps grows linearly with them."""
        parameters, statistics = jax.eval_shape(self._model.init, jax.random.key(0))
        loss = self.loss(statistics, "running")
        shape = self._data.train.image_shape

        def needed(examples: int) -> int:
            images = jax.ShapeDtypeStruct((examples, *shape), np.uint8)
            labels = jax.ShapeDtypeStruct((examples,), np.int32)
            return memory.linearisation_bytes(loss, parameters, (images, labels))

        few, many = 8, 64
        growth = needed(many) - needed(few)
        return max(1, min(RUNNING_CHUNK, RUNNING_BYTES * (many - few) // growth))

    @functools.cache  # noqa: B019 - as above
    def _shared(
        self, examples: int, mode: str, after: int = 0
    ) -> list[Any] | mean.Spread:
        """Return the chunks of training examples, over as many devices as there are chunks for."""
        chunks = self._chunks("train", after, examples, mode)
        devices = self.devices[: len(chunks)]
        return mean.spread(chunks, Mesh(devices, ("data",))) if devices[1:] else chunks

    def _order(self, split: str) -> np.ndarray:
        return np.random.default_rng(0).permutation(len(getattr(self._data, split)))

    def _streamed(self, split: str) -> bool:
        return not isinstance(getattr(self._data, split), sources.Split)

    def _read_in_turn(self, split: str, examples: int, mode: str) -> Iterator[Any]:
        """Yield what `chunks` returns, chunk by chunk as they are asked for."""
        data, order = getattr(self._data, split), self._order(split)
        for part in operator.parts(examples, self._chunk_size(mode)):
            found = data.read(order[part])
            yield found.images, found.labels

    def _examples(self, split: str, first: int, examples: int) -> Any:
        data = getattr(self._data, split)
        found = data.read(self._order(split)[first : first + examples])
        if self._streamed(split):
            # What is streamed need not fit on a device: a chunk goes there when it is used.
            return found.images, found.labels
        return jax.numpy.asarray(found.images), jax.numpy.asarray(found.labels)

    def evaluate(
        self, parameters: Any, statistics: Any, split: str, examples: int, mode: str
    ) -> evaluation.Evaluation:
        """Return mean loss and accuracy over the first examples of a split."""
        # Once through them all: they need not be in memory together, nor stay there.
        in_turn = self._read_in_turn if self._streamed(split) else self.chunks
        chunks = in_turn(split, examples, mode)
        found = evaluation.dispatch(
            self._forward[mode], parameters, statistics, chunks
        ).read()
        self.spent(examples)
        return found

    def objective(
        self, statistics: Any, examples: int, mode: str, after: int = 0
    ) -> Composite:
        """Return the mean training loss at given running averages as a function of the parameters.

        Args:
            statistics: running averages of batch norm.
            examples: how many.
            mode: of batch norm.
            after: how many, in the fixed order, come before them.
        """
        plain = composite.composite(
            Partial(self._predict[mode], statistics),
            composite.CROSS_ENTROPY,
            self._shared(examples, mode, after),
        )

        def point(function: Callable[[Any], Any], cost: float) -> Callable[[Any], Any]:
            def counted(x: Any) -> Any:
                found = function(x)
                self.spent(cost * examples)
                return found

            return counted

        def product(
            operator_at: Callable[[Any], Operator], cost: float
        ) -> Callable[[Any], Operator]:
            def at(x: Any) -> Operator:
                multiply = operator_at(x)

                def counted(vectors: Any) -> Any:
                    found = multiply(vectors)
                    self.spent(cost * examples * block.size(vectors))
                    return found

                return counted

            return at

        return dataclasses.replace(
            plain,
            value=point(plain.value, 1),
            value_and_gradient=point(plain.value_and_gradient, task.GRADIENT),
            hessian=product(plain.hessian, task.HESSIAN_VECTOR),
            residual=product(plain.residual, task.HESSIAN_VECTOR),
            gauss_newton_diagonal=point(plain.gauss_newton_diagonal, task.DIAGONAL),
        )

    def loss(self, statistics: Any, mode: str) -> Partial:
        """Return the mean loss of a batch (images, labels) as a function of the parameters and the batch."""
        return Partial(
            composite.mean_loss,
            Partial(composite.CROSS_ENTROPY.loss),
            Partial(self._predict[mode], statistics),
        )

    def batch(self, examples: int) -> Any:
        """Return the first training examples of the same order as one batch (images, labels)."""
        return self._examples("train", 0, examples)

    def examples(self, split: str) -> int:
        """Return the number of examples of a split."""
        return len(getattr(self._data, split))


def _predict(
    model: models.Model, mode: str, statistics: Any, parameters: Any, images: Any
) -> jax.Array:
    return model.apply(parameters, statistics, batches.scale(images), mode)
