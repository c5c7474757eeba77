"""Sums of squared per-example gradients, without forming the gradients of dense layers.

The gradient of one example with respect to a dense layer's kernel is an outer product a d^T of its input and its output's
cotangent, and the sum over examples of its elementwise square is a matrix product of squares, (a^2)^T (d^2). So the
per-example gradients are traced once, and their program is evaluated with outer products kept as factors. Whatever the
evaluation does not know is computed as it stands: the result is the same, only slower and with more memory.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxpr_as_fun
from jax.tree_util import Partial

from bsexp.curvature import mean, precise

Pytree = Any
# Memory for what one group of examples computes; F1 needs 1.3 MB an example.
GROUP_BYTES = 2**28


@dataclasses.dataclass(frozen=True)
class Product:
    """An array as a product of factors: out[i, j, ...] = f_1[i, ...] f_2[j, ...] ...

    Attributes:
        factors: pairs of an array and the labels of its axes.
        labels: the labels of the product's axes; each is an axis of at least one factor.
        shape: of the product.
    """

    factors: tuple[tuple[jax.Array, tuple[int, ...]], ...]
    labels: tuple[int, ...]
    shape: tuple[int, ...]

    def sum(self, axes: tuple[int, ...]) -> jax.Array:
        """Return the sum over axes, as an array."""
        operands = [each for factor in self.factors for each in factor]
        kept = [label for i, label in enumerate(self.labels) if i not in axes]
        return precise.einsum(*operands, kept)

    def transposed(self, permutation: tuple[int, ...]) -> "Product":
        """Return the product with its axes in another order."""
        return dataclasses.replace(
            self,
            labels=tuple(self.labels[i] for i in permutation),
            shape=tuple(self.shape[i] for i in permutation),
        )

    def times(self, array: jax.Array) -> "Product":
        """Multiply by an array whose axes are this one's, or of length 1."""
        wide = [i for i in range(array.ndim) if array.shape[i] == self.shape[i]]
        narrow = array.reshape([array.shape[i] for i in wide])
        labels = tuple(self.labels[i] for i in wide)
        return dataclasses.replace(self, factors=(*self.factors, (narrow, labels)))

    def square(self) -> "Product":
        """Return the elementwise square."""
        factors = tuple((array**2, labels) for array, labels in self.factors)
        return dataclasses.replace(self, factors=factors)


def diagonal(
    average: mean.Mean, factor: Partial, predict: Partial, x: Pytree
) -> Pytree:
    """Compute the diagonal of mean_b J_b^T S_b S_b^T J_b, J_b the Jacobian of one example's outputs: exact.

    That is the mean over examples of the summed squares of the gradients that the columns of S_b pull back.

    Args:
        average: over chunks ((inputs, targets), numbers).
        factor: (outputs [B, C], targets, numbers) -> S [B, C, K].
        predict: (x, inputs) -> outputs [B, C].
        x: the point.

    Returns:
        A pytree like x, every entry >= 0.

    Raises:
        ValueError: the outputs of an example depend on the others in its chunk, or x is not finite.
    """
    place, local, total = average.place, average.place.shared(x), average.sum()
    alone, together = place.run(_first_outputs, average.chunks[0], predict, local)
    # Rounding differs between a batch of one and a whole chunk by about 1e-6 of the outputs' size.
    if not bool(jnp.all(jnp.abs(alone - together) <= 1e-3 * (1 + jnp.abs(together)))):
        raise ValueError(
            "predict: the outputs of an example depend on the others in its chunk, or are not finite"
        )
    size = _group_size(average, factor, predict, local)
    for i, chunk in enumerate(average.chunks):
        for group, share in average.pieces(chunk, size):
            total.add(i, place.run(_group_mean, group, factor, predict, share, local))
    found = average.finish([total], x)
    return jax.tree.map(lambda leaf: leaf[0], found)


def _first_outputs(
    numbered: Any, predict: Partial, x: Pytree
) -> tuple[jax.Array, jax.Array]:
    """Return the outputs of the first example, computed alone and in its chunk."""
    (inputs, _), _ = numbered
    lone = jax.tree.map(lambda leaf: leaf[:1], inputs)
    return predict(x, lone)[0], predict(x, inputs)[0]


def _group_size(
    average: mean.Mean, factor: Partial, predict: Partial, x: Pytree
) -> int:
    """Return how many examples' intermediate results take GROUP_BYTES: what a second example adds, counted."""

    def size(examples: int) -> int:
        group, share = next(average.pieces(average.chunks[0], examples))
        run = functools.partial(average.place.run, _group_mean)
        traced = jax.make_jaxpr(run)(group, factor, predict, share, x)
        return _computed_bytes(traced.jaxpr)

    return max(1, GROUP_BYTES // max(size(2) - size(1), 1))


def _computed_bytes(jaxpr: Any) -> int:
    """Add up the results of every equation, those inside compiled or mapped functions included."""
    total = 0
    for equation in jaxpr.eqns:
        inner = [
            value.jaxpr if hasattr(value, "jaxpr") else value
            for value in equation.params.values()
            if hasattr(value, "jaxpr") or hasattr(value, "eqns")
        ]
        total += sum(_computed_bytes(each) for each in inner)
        total += sum(
            math.prod(out.aval.shape) * out.aval.dtype.itemsize
            for out in equation.outvars
            if not inner
        )
    return total


def _group_mean(
    numbered: Any, factor: Partial, predict: Partial, share: jax.Array, x: Pytree
) -> Pytree:
    """Return ``share`` times the sum over a group's examples and columns of the elementwise squared gradients."""
    (inputs, targets), numbers = numbered
    factors = factor(predict(x, inputs), targets, numbers)

    def gradients(inputs: Pytree, columns: jax.Array) -> Pytree:
        alone = jax.tree.map(lambda leaf: leaf[None], inputs)
        _, pull = jax.vjp(lambda x: predict(x, alone)[0], x)
        return jax.vmap(lambda column: pull(column)[0], in_axes=1)(columns)

    traced, shapes = jax.make_jaxpr(jax.vmap(gradients), return_shape=True)(
        inputs, factors
    )
    found = _evaluate(traced, [*jax.tree.leaves(inputs), factors])
    sums = [share * _sum_of_squares(each) for each in found]
    return jax.tree.unflatten(jax.tree.structure(shapes), sums)


def _sum_of_squares(value: jax.Array | Product) -> jax.Array:
    if isinstance(value, Product):
        return value.square().sum((0, 1))
    return jnp.sum(value**2, axis=(0, 1))


def _evaluate(closed: Any, arguments: list[jax.Array]) -> list[jax.Array | Product]:
    """Evaluate a traced program, keeping outer products as factors as long as they are transposed, scaled or summed."""
    jaxpr = closed.jaxpr
    known = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    known.update(zip(jaxpr.invars, arguments, strict=True))

    def read(atom: Any) -> jax.Array | Product:
        return atom.val if isinstance(atom, Literal) else known[atom]

    for equation in jaxpr.eqns:
        values = [read(atom) for atom in equation.invars]
        rule = RULES.get(equation.primitive.name)
        result = rule(equation, values) if rule else None
        if result is None:
            result = _computed(jaxpr, equation, known)
        known.update(zip(equation.outvars, result, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _array(value: jax.Array | Product) -> jax.Array:
    return value.sum(()) if isinstance(value, Product) else value


def _computed(jaxpr: Jaxpr, equation: Any, known: dict[Any, Any]) -> list[jax.Array]:
    """Compute one equation as it stands: a program of its own, which no change of JAX's internals breaks."""
    inputs = [atom for atom in equation.invars if not isinstance(atom, Literal)]
    inputs = list(dict.fromkeys(inputs))
    program = jaxpr.replace(
        constvars=[], invars=inputs, outvars=equation.outvars, eqns=[equation]
    )
    return jaxpr_as_fun(ClosedJaxpr(program, []))(
        *[_array(known[each]) for each in inputs]
    )


def _dot_general(equation: Any, values: list[Any]) -> list[Product] | None:
    """Keep a product without a sum, such as a d^T of one example, as its two factors."""
    left, right = values
    (left_sum, right_sum), (left_batch, right_batch) = equation.params["dimension_numbers"]  # fmt: skip
    shape = equation.outvars[0].aval.shape
    if (
        isinstance(left, Product)
        or isinstance(right, Product)
        or math.prod(left.shape[i] for i in left_sum) != 1
        or math.prod(shape) <= left.size + right.size
    ):
        return None
    batch = len(left_batch)
    left_free = left.ndim - batch - len(left_sum)
    left_labels = (*range(batch), *range(batch, batch + left_free))
    right_labels = (*range(batch), *range(batch + left_free, len(shape)))
    factors = (
        (_arranged(left, left_batch, left_sum), left_labels),
        (_arranged(right, right_batch, right_sum), right_labels),
    )
    return [Product(factors, tuple(range(len(shape))), shape)]


def _arranged(
    array: jax.Array, batch: tuple[int, ...], summed: tuple[int, ...]
) -> jax.Array:
    """Move the batch axes to the front and drop the summed ones, which have length 1."""
    free = [i for i in range(array.ndim) if i not in (*batch, *summed)]
    return array.transpose(*batch, *free, *summed).reshape(
        [array.shape[i] for i in (*batch, *free)]
    )


def _transpose(equation: Any, values: list[Any]) -> list[Product] | None:
    if not isinstance(values[0], Product):
        return None
    return [values[0].transposed(equation.params["permutation"])]


def _mul(_: Any, values: list[Any]) -> list[Product] | None:
    products = [value for value in values if isinstance(value, Product)]
    arrays = [value for value in values if not isinstance(value, Product)]
    if len(products) != 1 or jnp.ndim(arrays[0]) != len(products[0].shape):
        return None
    return [products[0].times(arrays[0])]


def _reduce_sum(equation: Any, values: list[Any]) -> list[jax.Array] | None:
    if not isinstance(values[0], Product):
        return None
    return [values[0].sum(tuple(equation.params["axes"]))]


RULES: dict[str, Callable[[Any, list[Any]], list[Any] | None]] = {
    "dot_general": _dot_general,
    "transpose": _transpose,
    "mul": _mul,
    "reduce_sum": _reduce_sum,
}
