import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from bsexp import models
from bsexp.models import normalisation

CIFAR = (32, 32, 3)
C1 = ("norm", "relu", "pool 3")
C1_DENSE = (
    *("flat", "dense 384", "norm", "relu", "drop 0.5"),
    *("dense 192", "norm", "relu", "drop 0.5"),
)


def convolutions(width, *rates):
    layer = (f"conv {width} 3 1", "norm", "relu")
    dropped = (word for rate in rates for word in (*layer, f"drop {rate}"))
    return (*dropped, *layer, "pool 2")


# As the paper and the authors' code define them, layer by layer: "conv filters window stride".
DEFINITIONS = {
    ("C1", "paper"): ("conv 64 5 2", *C1, "conv 64 5 2", *C1, *C1_DENSE),
    ("C1", "released"): ("conv 64 5 1", *C1, "conv 64 5 1", *C1, *C1_DENSE),
    ("C2", "paper"): (
        *convolutions(64, 0.3),
        *convolutions(128, 0.4),
        *convolutions(256, 0.4, 0.4),
        *convolutions(512, 0.4, 0.4),
        *convolutions(512, 0.4, 0.4),
        *("flat", "drop 0.5", "dense 512", "norm", "relu", "drop 0.5"),
    ),
}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(each, marks=[pytest.mark.slow] if each[0] == "C2" else [])
        for each in DEFINITIONS
    ],
    ids="-".join,
)
def network(request):
    """Return a definition, its model, and parameters and statistics that are not at their initial values."""
    name, variant = request.param
    model = models.build(name, CIFAR, 10, 0.9, variant)
    random = np.random.default_rng(0)
    parameters, statistics = jax.tree.map(
        lambda leaf: leaf + np.float32((leaf.ndim == 1) * random.random(leaf.shape)),
        jax.jit(model.init)(jax.random.key(0)),
    )
    return DEFINITIONS[request.param], model, parameters, statistics


def images(count, seed=0):
    return jax.random.uniform(jax.random.key(seed), (count, *CIFAR))


def reference(definition, parameters, statistics, inputs, *, running, keys=None):
    """Compute logits from Flax's own layers, word by word."""
    hidden, number, drops, seen = inputs, {"conv": 0, "dense": 0}, 0, {}
    for word in (*definition, "dense 10"):
        kind, *sizes = word.split()
        if kind in number:
            name = {"conv": "NormalisedConvolution", "dense": "NormalisedDense"}[kind]
            name = f"{name}_{number[kind]}" if word != "dense 10" else "Dense_0"
            number[kind] += 1
            layer, averages = parameters[name], statistics.get(name)
            linear = {"params": {key: layer[key] for key in ("kernel", "bias")}}
            width, *shape = map(int, sizes)
            module = (
                nn.Conv(width, (shape[0], shape[0]), shape[1], "SAME")
                if kind == "conv"
                else nn.Dense(width)
            )
            hidden = module.apply(linear, hidden)
        elif kind == "norm":
            norm = nn.BatchNorm(
                use_running_average=running, momentum=0.9, use_fast_variance=False
            )
            variables = {
                "params": {"scale": layer["scale"], "bias": layer["offset"]},
                "batch_stats": {"mean": averages["mean"], "var": averages["variance"]},
            }
            hidden, moved = norm.apply(variables, hidden, mutable=["batch_stats"])
            moved = moved["batch_stats"]
            seen[name] = {"mean": moved["mean"], "variance": moved["var"]}
        elif kind == "drop" and keys is not None:
            kept = [
                jax.random.bernoulli(
                    jax.random.fold_in(key, drops),
                    1 - float(sizes[0]),
                    hidden.shape[1:],
                )
                for key in keys
            ]
            hidden = hidden * jnp.stack(kept) / (1 - float(sizes[0]))
            drops += 1
        elif kind == "pool":
            size = int(sizes[0])
            hidden = nn.max_pool(hidden, (size, size), (2, 2), "SAME")
        elif kind == "flat":
            hidden = hidden.reshape(len(hidden), -1)
        elif kind == "relu":
            hidden = nn.relu(hidden)
    return hidden, seen


@pytest.mark.parametrize(
    ("name", "variant", "image_shape", "classes", "count"),
    [
        ("F1", "paper", (28, 28, 1), 10, 1_462_794),
        # 360 x 512 + 6 x 512 x 512 + 512 x 1973 kernels, 7 x 512 + 1973 biases, 7 x 1024 scales and offsets
        ("F2", "paper", (1, 1, 360), 1_973, 2_780_085),
        ("C1", "released", CIFAR, 10, 1_757_834),
        ("C3", "released", CIFAR, 100, 1_775_204),
        # C1 released with 256 instead of 4 096 features before the dense layers: 3 840 x 384 fewer
        ("C1", "paper", CIFAR, 10, 283_274),
        ("C3", "paper", CIFAR, 100, 300_644),
        ("C2", "paper", CIFAR, 10, 14_991_946),
        ("C4", "paper", CIFAR, 100, 15_038_116),
    ],
)
def test_networks_have_the_published_numbers_of_parameters(
    name, variant, image_shape, classes, count
):
    model = models.build(name, image_shape, classes, 0.9, variant)
    shapes = jax.eval_shape(model.init, jax.random.key(0))[0]
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count


@pytest.mark.parametrize("mode", models.MODES)
def test_measuring_is_what_flax_s_own_layers_compute(network, mode):
    definition, model, *point = network
    expected, _ = reference(definition, *point, images(4), running=mode == "running")
    found = jax.jit(model.apply, static_argnums=3)(*point, images(4), mode)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * scale)


def test_training_is_what_flax_s_own_layers_compute_with_each_example_s_masks(network):
    definition, model, *point = network
    keys = jax.random.split(jax.random.key(5), 4)
    expected, moved = reference(definition, *point, images(4), running=False, keys=keys)
    whole = normalisation.whole(4)
    found = jax.jit(lambda *a: model.train(*a, whole))(*point, images(4), keys)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-4 * scale)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
        found[1],
        moved,
    )


def test_convolutions_start_uniform_within_glorot_s_bound():
    parameters, _ = models.build("C1", CIFAR, 10, 0.9).init(jax.random.key(0))
    kernel = parameters["NormalisedConvolution_1"]["kernel"]
    bound = (6 / (25 * 64 + 25 * 64)) ** 0.5
    assert np.abs(kernel).max() <= bound
    np.testing.assert_allclose(kernel.var(), bound**2 / 3, rtol=0.02)


@pytest.mark.parametrize(
    ("name", "variant", "side"),
    [
        ("C1", "paper", 9),
        ("C1", "released", 3),
        ("C2", "paper", 17),
        ("F1", "paper", 1),
    ],
)
def test_the_least_image_is_the_least_whose_last_pool_has_something_to_choose(
    name, variant, side
):
    assert not models.image_error(name, variant, (side, side + 1, 3))
    if side > 1:
        assert models.image_error(name, variant, (side + 1, side - 1, 3)) == (
            f"needs images of at least {side} x {side}, not {side + 1} x {side - 1} x 3"
        )
        assert models.image_error(name, variant, (360,)).endswith("not 360")


@pytest.mark.parametrize("name", ["C1", "C2"])
def test_a_product_with_the_hessian_holds_no_branch(name):
    """In a branch the compiler misses the fast program for a transposed kernel: the product takes up to twice as long."""
    model = models.build(name, (17, 17, 3), 10, 0.9)
    inputs = jnp.zeros((2, 17, 17, 3))
    shapes = jax.eval_shape(model.init, jax.random.key(0))

    def product(parameters, statistics):
        def loss(x):
            return model.apply(x, statistics, inputs, "running").sum()

        return jax.linearize(jax.grad(loss), parameters)[1]

    program = jax.make_jaxpr(lambda x, s, v: product(x, s)(v))
    assert "cond[" not in str(program(*shapes, shapes[0]))
