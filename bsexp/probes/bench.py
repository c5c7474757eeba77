"""What probes measure with: losses of a model over fixed chunks of a data set, every evaluation counted."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from jax.tree_util import Partial

from bsexp import models
from bsexp.curvature import operator
from bsexp.data import batches, sources
from bsexp.probes import task
from bsexp.training import evaluation

# In mode running examples do not depend on each other and chunks only bound the memory: 1 000 examples of F1 stay in
# the cache, 26 ms a gradient against 37 ms per 1 000 in chunks of 5 000.
RUNNING_CHUNK = 1_000


class Bench:
    """A model and a data set, ready to be measured.

    Attributes:
        spent: told of each evaluation's cost, in forward passes of one example.
    """

    def __init__(
        self,
        model: models.Model,
        data: sources.Dataset,
        statistics_batch: int,
        spent: Callable[[float], None],
    ) -> None:
        self.spent = spent
        self._model = model
        self._data = data
        self._chunk = {"running": RUNNING_CHUNK, "batch": statistics_batch}
        self._forward = {
            mode: evaluation.make_forward(model, mode) for mode in models.MODES
        }
        self._loss = {
            mode: functools.partial(_mean_loss, model, mode) for mode in models.MODES
        }

    @functools.cache  # noqa: B019 - a bench lives as long as its study
    def chunks(self, split: str, examples: int, mode: str) -> list[Any]:
        """Return the first examples of a split in a fixed random order, in chunks of (images, labels)."""
        data = getattr(self._data, split)
        order = np.random.default_rng(0).permutation(len(data.labels))[:examples]
        whole = (
            jax.numpy.asarray(data.images[order]),
            jax.numpy.asarray(data.labels[order]),
        )
        return operator.split(whole, self._chunk[mode])

    def evaluate(
        self, parameters: Any, statistics: Any, split: str, examples: int, mode: str
    ) -> evaluation.Evaluation:
        """Return mean loss and accuracy over the first examples of a split."""
        chunks = self.chunks(split, examples, mode)
        found = evaluation.dispatch(
            self._forward[mode], parameters, statistics, chunks
        ).read()
        self.spent(examples)
        return found

    def objective(
        self, statistics: Any, examples: int, mode: str
    ) -> operator.Objective:
        """Return the mean training loss at given running averages as a function of the parameters."""
        plain = operator.objective(
            Partial(self._loss[mode], statistics), self.chunks("train", examples, mode)
        )

        def value(x: Any) -> float:
            found = plain.value(x)
            self.spent(examples)
            return found

        def value_and_gradient(x: Any) -> tuple[float, Any]:
            found = plain.value_and_gradient(x)
            self.spent(task.GRADIENT * examples)
            return found

        def hessian(x: Any) -> operator.Operator:
            product = plain.hessian(x)

            def counted(block: Any) -> Any:
                found = product(block)
                self.spent(
                    task.HESSIAN_VECTOR * examples * jax.tree.leaves(block)[0].shape[0]
                )
                return found

            return counted

        return dataclasses.replace(
            plain, value=value, value_and_gradient=value_and_gradient, hessian=hessian
        )

    def examples(self, split: str) -> int:
        """Return the number of examples of a split."""
        return len(getattr(self._data, split).labels)


def _mean_loss(
    model: models.Model, mode: str, statistics: Any, parameters: Any, batch: Any
) -> jax.Array:
    images, labels = batch
    logits = model.apply(parameters, statistics, batches.scale(images), mode)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
