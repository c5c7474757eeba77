"""A loss that is a criterion of a prediction: its Gauss-Newton and Fisher operators, and what the Hessian has beyond."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from bsexp.curvature import mean, operator, precise, squares
from bsexp.curvature.mean import Spread
from bsexp.curvature.operator import Operator

Pytree = Any
Predict = Callable[[Pytree, Pytree], jax.Array]


@dataclasses.dataclass(frozen=True)
class Criterion:
    """The loss of one example as a function of the network's outputs z [C].

    Attributes:
        loss: (z, target) -> scalar, convex in z and the negative log-likelihood of the target up to a constant.
        hessian_factor: (z, target) -> S [C, K] with S S^T the Hessian of the loss in z.
        fisher_factor: z -> S [C, K] with S S^T the expected outer product of the loss's gradient in z, over targets
            drawn from the model's own distribution.
        sample: (key, z) -> a target drawn from that distribution.
    """

    loss: Callable[[jax.Array, Any], jax.Array]
    hessian_factor: Callable[[jax.Array, Any], jax.Array]
    fisher_factor: Callable[[jax.Array], jax.Array]
    sample: Callable[[jax.Array, jax.Array], Any]


def _cross_entropy_factor(z: jax.Array) -> jax.Array:
    """Return columns sqrt(p_c) (e_c - p), whose outer products add up to diag(p) - p p^T."""
    p = jax.nn.softmax(z)
    return (jnp.eye(z.shape[0], dtype=z.dtype) - p[:, None]) * jnp.sqrt(p)


def _identity_factor(z: jax.Array) -> jax.Array:
    return jnp.eye(z.shape[0], dtype=z.dtype)


def _cross_entropy(z: jax.Array, target: jax.Array) -> jax.Array:
    """Return the negative log-likelihood; NaN for a target that is no class, where indexing would take another one."""
    own = z.at[target].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)
    return jax.nn.logsumexp(z) - own


CROSS_ENTROPY = Criterion(
    loss=_cross_entropy,
    hessian_factor=lambda z, _: _cross_entropy_factor(z),
    fisher_factor=_cross_entropy_factor,
    sample=jax.random.categorical,
)
SQUARED_ERROR = Criterion(  # 1/2 |z - target|^2: a normal distribution of unit variance
    loss=lambda z, target: 0.5 * jnp.sum((z - target) ** 2),
    hessian_factor=lambda z, _: _identity_factor(z),
    fisher_factor=_identity_factor,
    sample=lambda key, z: z + jax.random.normal(key, z.shape, z.dtype),
)


@dataclasses.dataclass(frozen=True)
class Composite(operator.Objective):
    """f(x) = mean over examples of criterion(predict(x, input), target), with J the Jacobian of the outputs.

    Attributes:
        gauss_newton: x -> operator of G = mean of J^T (Hessian of the criterion) J.
        fisher: x -> operator of the Fisher matrix, exact over the model's own distribution of targets. For an exponential
            family whose natural parameters are the outputs it is G (Martens 2020, arXiv:1412.1193), as for both
            criteria here.
        sampled_fisher: (x, key, samples) -> operator of the Fisher matrix from targets drawn once for each example.
        empirical_fisher: x -> operator of the mean of g g^T, g the gradient at the true target. Not an estimate of
            the Fisher matrix (Kunstner et al. 2019, arXiv:1905.12558).
        residual: x -> operator of H - G, at the cost of one Hessian-vector product.
        gauss_newton_diagonal: x -> diagonal of G, exact, a pytree like x; its sum is tr(G).
    """

    gauss_newton: Callable[[Pytree], Operator]
    fisher: Callable[[Pytree], Operator]
    sampled_fisher: Callable[[Pytree, jax.Array, int], Operator]
    empirical_fisher: Callable[[Pytree], Operator]
    residual: Callable[[Pytree], Operator]
    gauss_newton_diagonal: Callable[[Pytree], Pytree]


def composite(
    predict: Predict,
    criterion: Criterion,
    chunks: list[tuple[Pytree, Pytree]] | Spread,
    *,
    accumulation: str = "plain",
) -> Composite:
    """Make the mean of a criterion over chunks of (inputs, targets).

    Args:
        predict: (x, inputs) -> outputs [B, C].
        criterion: CROSS_ENTROPY, SQUARED_ERROR or another.
        chunks: pairs from `operator.split`, or spread over devices by `mean.spread`.
        accumulation: see `operator.objective`.

    Raises:
        ValueError: as `operator.objective`; from ``gauss_newton_diagonal``, that an example's outputs depend on the
            others in its chunk, as with the statistics of a batch: then G has no per-example form.
    """
    forward = operator.as_partial(predict)
    average = mean.Mean(mean.numbered(chunks), accumulation)
    loss = Partial(criterion.loss)
    hessian_factor = Partial(_each_hessian_factor, Partial(criterion.hessian_factor))

    def outer(factor: Partial, x: Pytree) -> Operator:
        return operator.linearised(average, Partial(_outer_field, factor, forward), x)

    def sampled(x: Pytree, key: jax.Array, samples: int) -> Operator:
        if samples < 1:
            raise ValueError(f"samples={samples}: must be > 0")
        keys = jax.random.split(key, samples)
        return outer(Partial(_scores, loss, Partial(criterion.sample), keys), x)

    return Composite(
        **vars(
            operator.objective(
                Partial(mean_loss, loss, forward), chunks, accumulation=accumulation
            )
        ),
        gauss_newton=lambda x: outer(hessian_factor, x),
        fisher=lambda x: outer(
            Partial(_each_fisher_factor, Partial(criterion.fisher_factor)), x
        ),
        sampled_fisher=sampled,
        empirical_fisher=lambda x: outer(Partial(_score, loss), x),
        residual=lambda x: operator.linearised(
            average, Partial(_residual_field, loss, forward), x
        ),
        gauss_newton_diagonal=lambda x: squares.diagonal(
            average, hessian_factor, forward, x
        ),
    )


def mean_loss(
    loss: Partial, predict: Partial, x: Pytree, batch: tuple[Pytree, Pytree]
) -> jax.Array:
    """Return the mean over a batch (inputs, targets) of a criterion's loss of the predictions."""
    inputs, targets = batch
    return jax.vmap(loss)(predict(x, inputs), targets).mean()


def _outer_field(
    factor: Partial, predict: Partial, y: Pytree, x: Pytree, numbered: Any
) -> Pytree:
    """Return mean_b J_b(x)^T S_b S_b^T z_b(y), whose derivative in y at x is mean_b J_b^T S_b S_b^T J_b."""
    (inputs, targets), numbers = numbered
    outputs, pull = jax.vjp(lambda x: predict(x, inputs), x)
    factors = factor(outputs, targets, numbers)
    weighed = precise.einsum("bck,bdk,bd->bc", factors, factors, predict(y, inputs))
    return pull(weighed / len(outputs))[0]


def _residual_field(
    loss: Partial, predict: Partial, y: Pytree, x: Pytree, numbered: Any
) -> Pytree:
    """Return the gradient in y of mean_b s_b^T z_b(y), s_b the gradient of the criterion at x, held fixed."""
    (inputs, targets), _ = numbered
    outputs = predict(x, inputs)
    slopes = jax.vmap(jax.grad(loss))(outputs, targets)
    return jax.grad(lambda y: (slopes * predict(y, inputs)).sum() / len(outputs))(y)


def _each_hessian_factor(
    factor: Partial, outputs: jax.Array, targets: Pytree, _: jax.Array
) -> jax.Array:
    return jax.vmap(factor)(outputs, targets)


def _each_fisher_factor(
    factor: Partial, outputs: jax.Array, _: Pytree, __: jax.Array
) -> jax.Array:
    return jax.vmap(factor)(outputs)


def _score(
    loss: Partial, outputs: jax.Array, targets: Pytree, _: jax.Array
) -> jax.Array:
    return jax.vmap(jax.grad(loss))(outputs, targets)[..., None]


def _scores(
    loss: Partial,
    sample: Partial,
    keys: jax.Array,
    outputs: jax.Array,
    _: Pytree,
    numbers: jax.Array,
) -> jax.Array:
    """Return the gradients of the loss at targets drawn for each example by its number, over sqrt(samples)."""

    def drawn(z: jax.Array, number: jax.Array) -> jax.Array:
        def one(key: jax.Array) -> jax.Array:
            return jax.grad(loss)(z, sample(jax.random.fold_in(key, number), z))

        return jax.vmap(one, out_axes=1)(keys) / jnp.sqrt(len(keys)).astype(z.dtype)

    return jax.vmap(drawn)(outputs, numbers)
