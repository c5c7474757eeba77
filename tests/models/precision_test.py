"""Training in low precision, against the same in float32."""

from functools import partial

import jax
import jax.extend
import jax.numpy as jnp
import pytest
from jax.flatten_util import ravel_pytree

from bsexp import models
from bsexp.models import normalisation

EXAMPLES, CLASSES = 64, 10
IMAGES = {"F1": (12, 12, 1), "C1": (9, 9, 3), "C2": (17, 17, 3)}
# What rounding changes an entry by, at most. A network in float16 is not offered: it shows how errors scale.
ROUNDING = {"bfloat16": 2**-8, "float16": 2**-11}


def build(name, precision):
    return models.build(name, IMAGES[name], CLASSES, 0.9, "paper", precision)


def loss_of(name, precision, ghost):
    """Return the loss of a network in training as a function of its parameters, and a point."""
    model = build(name, precision)
    parameters, statistics = jax.jit(model.init)(jax.random.key(0))
    inputs = jax.random.uniform(jax.random.key(1), (EXAMPLES, *IMAGES[name]))
    keys = jax.random.split(jax.random.key(2), EXAMPLES)
    labels = jnp.arange(EXAMPLES) % CLASSES

    def loss(parameters):
        logits, moved = model.train(
            parameters, statistics, inputs, keys, normalisation.whole(ghost)
        )
        each = jax.nn.log_softmax(logits)[jnp.arange(EXAMPLES), labels]
        return -each.mean(), (logits, moved)

    return loss, parameters


def found(name, precision):
    loss, parameters = loss_of(name, precision, 16)
    (_, (logits, moved)), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(
        parameters
    )
    return {"logits": logits, "statistics": moved, "gradient": gradient}


@pytest.fixture(
    scope="module", params=["F1", pytest.param("C1", marks=pytest.mark.slow)]
)
def exact(request):
    return request.param, found(request.param, "float32")


@pytest.mark.parametrize("precision", ROUNDING)
def test_what_it_finds_is_that_of_float32_but_for_its_rounding(exact, precision):
    """Errors fall with the rounding u: logits by u, the gradient by its square root.

    A ReLU whose input is near zero opens or closes: a share u of all, each with an error of its own size. Measured here: logits
    2.8 to 3.8 u, |error of the gradient|^2 4.5 to 10 u of |gradient|^2.
    """
    name, expected = exact
    rounded = found(name, precision)
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(rounded)}
    assert dtypes == {jnp.dtype("float32")}
    errors = {}
    for key, value in rounded.items():
        a, b = (ravel_pytree(each)[0] for each in (value, expected[key]))
        errors[key] = float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))
    unit = ROUNDING[precision]
    assert unit < errors["logits"] < 8 * unit
    assert unit < errors["gradient"] ** 2 < 20 * unit
    assert unit / 100 < errors["statistics"] < unit


def operations(program):
    """List every operation of a program, those of its inner programs included."""
    for equation in program.eqns:
        yield equation
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from operations(inner)


def is_product(operation):
    return operation.primitive.name in {"dot_general", "conv_general_dilated"}


@pytest.mark.parametrize("name", IMAGES)
def test_products_are_bfloat16_and_sums_over_examples_float32(name):
    loss, parameters = loss_of(name, "bfloat16", 16)
    program = jax.make_jaxpr(jax.grad(loss, has_aux=True))(parameters)
    products = []
    for each in operations(program.jaxpr):
        dtypes = {str(operand.aval.dtype) for operand in each.invars}
        if is_product(each):
            products.append(dtypes)
        if each.primitive.name == "reduce_sum" and each.outvars[0].aval.shape:
            assert dtypes != {"bfloat16"}
    # Three a layer, but for the first, whose inputs need no derivative; those of the logits are float32.
    assert products.count({"float32"}) == 3
    layers = sum(leaf.ndim > 1 for leaf in jax.tree.leaves(parameters))
    assert products.count({"bfloat16"}) >= 3 * (layers - 1) - 1
    assert len(products) == products.count({"float32"}) + products.count({"bfloat16"})


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", IMAGES)
def test_no_product_has_its_factors_rounded_by_an_accelerator(name, precision):
    """Which it does by default, to TF32 or bfloat16: neither those of training nor those of a Hessian-vector product."""
    loss, parameters = loss_of(name, precision, 16)
    model = build(name, precision)
    point = jax.eval_shape(model.init, jax.random.key(0))
    inputs = jnp.zeros((EXAMPLES, *IMAGES[name]))

    def product(mode, x, statistics):
        def gradient(y):
            return jax.grad(lambda z: model.apply(z, statistics, inputs, mode).sum())(y)

        return jax.jvp(gradient, (x,), (x,))

    programs = [
        jax.make_jaxpr(jax.grad(loss, has_aux=True))(parameters),
        jax.make_jaxpr(model.observe)(*point, inputs),
        *(jax.make_jaxpr(partial(product, mode))(*point) for mode in models.MODES),
    ]
    asked = [
        {
            each.params["precision"]
            for each in operations(program.jaxpr)
            if is_product(each)
        }
        for program in programs
    ]
    assert asked == [{(jax.lax.Precision.HIGHEST,) * 2}] * len(programs)


@pytest.mark.parametrize("name", ["F1", "C1"])
def test_what_is_measured_is_float32_in_either(name):
    inputs = jnp.zeros((EXAMPLES, *IMAGES[name]))
    programs = []
    for precision in ("float32", "bfloat16"):
        model = build(name, precision)
        point = jax.eval_shape(model.init, jax.random.key(0))
        programs.append(
            [
                *(
                    str(
                        jax.make_jaxpr(model.apply, static_argnums=3)(
                            *point, inputs, mode
                        )
                    )
                    for mode in models.MODES
                ),
                str(jax.make_jaxpr(model.observe)(*point, inputs)),
                str(jax.make_jaxpr(model.init)(jax.random.key(0))),
            ]
        )
    assert programs[0] == programs[1]
    assert "bf16" not in "".join(programs[1])
