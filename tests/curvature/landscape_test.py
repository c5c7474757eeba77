import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bsexp.curvature import landscape

pytestmark = pytest.mark.usefixtures("float64")


def network(seed=0):
    generator = np.random.default_rng(seed)
    shapes = {"kernel": (3, 3, 2, 4), "bias": (4,), "dense": (4, 5), "scale": ()}
    return {
        name: jnp.asarray(generator.normal(size=shape))
        for name, shape in shapes.items()
    }


def norms(kernel):
    """One norm for each output channel."""
    return np.linalg.norm(np.asarray(kernel).reshape(-1, kernel.shape[-1]), axis=0)


def dot(a, b):
    return float(sum(jax.tree.leaves(jax.tree.map(lambda u, v: (u * v).sum(), a, b))))


def assert_close(a, b, **tolerance):
    jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, **tolerance), a, b)


def test_the_line_runs_through_both_ends_and_beyond():
    start, end = {"w": jnp.array([1.0, 2.0])}, {"w": jnp.array([3.0, -2.0])}
    for alpha, expected in (
        (0, [1, 2]),
        (1, [3, -2]),
        (0.5, [2, 0]),
        (-1, [-1, 6]),
        (2, [5, -6]),
    ):
        np.testing.assert_allclose(landscape.line(start, end, alpha)["w"], expected)


def test_the_arc_runs_from_start_to_end_and_on_to_minus_the_start():
    start, end = {"w": jnp.array([1.0, 2.0])}, {"w": jnp.array([3.0, -2.0])}
    for alpha, expected in (
        (0, [1, 2]),
        (1, [3, -2]),
        (0.5, [4 / 2**0.5, 0]),
        (2, [-1, -2]),
    ):
        np.testing.assert_allclose(
            landscape.arc(start, end, alpha)["w"], expected, atol=1e-15
        )


def test_the_arc_between_orthogonal_ends_of_one_norm_stays_on_their_sphere():
    start = {"a": jnp.array([2.0, 0.0]), "b": jnp.array([1.0])}
    end = {"a": jnp.array([0.0, 5**0.5]), "b": jnp.array([0.0])}
    for alpha in np.linspace(-1, 2, 13):
        point = landscape.arc(start, end, alpha)
        np.testing.assert_allclose(dot(point, point), 5, rtol=1e-14)


def test_filters_have_the_norms_of_the_point_s_and_other_leaves_do_not_move():
    x = network()
    direction = landscape.filter_normalised(jax.random.key(0), x)
    for name in ("kernel", "dense"):
        np.testing.assert_allclose(norms(direction[name]), norms(x[name]), rtol=1e-13)
    assert not direction["bias"].any()
    assert not direction["scale"].any()


def test_within_a_filter_the_direction_is_uniform_on_the_sphere():
    """In 3 dimensions one coordinate of a uniform unit vector is uniform on [-1, 1]: mean 0, variance 1/3."""
    x = {"w": jnp.ones((3, 4_000)) / 3**0.5}
    drawn = np.asarray(landscape.filter_normalised(jax.random.key(1), x)["w"])
    # Four standard deviations of the mean and the variance of 4 000 uniform numbers.
    np.testing.assert_allclose(drawn.mean(axis=1), 0, atol=0.037)
    np.testing.assert_allclose(drawn.var(axis=1), 1 / 3, atol=0.019)
    np.testing.assert_allclose(np.cov(drawn)[~np.eye(3, dtype=bool)], 0, atol=0.022)


def scale_invariant_loss(x):
    """Filters count only through their directions, as under batch norm."""
    generator = np.random.default_rng(9)
    images = jnp.asarray(generator.normal(size=(7, 18)))
    kernel = x["kernel"].reshape(-1, 4)
    hidden = jnp.tanh(images @ (kernel / jnp.linalg.norm(kernel, axis=0)) + x["bias"])
    logits = hidden @ (x["dense"] / jnp.linalg.norm(x["dense"], axis=0))
    return float(jax.nn.logsumexp(logits, axis=1).mean())


def test_rescaled_filters_rescale_the_direction_and_leave_the_profile_as_it_is():
    """Li et al. 2018, section 4: what the normalisation is for."""
    x, key = network(), jax.random.key(2)
    factors = {
        "kernel": jnp.array([0.1, 1.0, 7.0, 30.0]),
        "dense": 1.5 ** jnp.arange(5),
    }
    scaled = {
        name: leaf * factors[name] if name in factors else leaf
        for name, leaf in x.items()
    }
    before, after = (landscape.filter_normalised(key, p) for p in (x, scaled))
    for name, factor in factors.items():
        np.testing.assert_allclose(after[name], before[name] * factor, rtol=1e-13)
    grid = np.linspace(-1, 1, 9)
    profiles = [
        landscape.surface(
            scale_invariant_loss, landscape.Plane(p, d, d), grid, np.zeros(1)
        )
        for p, d in ((x, before), (scaled, after))
    ]
    np.testing.assert_allclose(*profiles, rtol=1e-12)
    assert np.ptp(profiles[0]) > 0.01


@pytest.mark.parametrize("near", [1.0, 1e-5])
def test_a_plane_holds_its_three_points_at_their_coordinates(near):
    """Also where the third point is nearly on the line of the others."""
    p0, p1, off = network(0), network(1), network(2)
    p2 = jax.tree.map(lambda a, b: a + near * b, landscape.line(p0, p1, 3.0), off)
    plane, coordinates = landscape.through(p0, p1, p2)
    for point, (a, b) in zip((p0, p1, p2), coordinates, strict=True):
        assert_close(landscape.point(plane, a, b), point, rtol=1e-12, atol=1e-12)
    gram = [[dot(u, v) for u in plane[1:]] for v in plane[1:]]
    np.testing.assert_allclose(gram, np.eye(2), atol=1e-13)
    assert coordinates[0].tolist() == [0, 0]
    assert coordinates[1, 1] == 0
    assert min(coordinates[1, 0], coordinates[2, 1]) > 0


def test_single_precision_keeps_its_type_and_finds_the_points_to_its_rounding():
    points = [
        jax.tree.map(lambda leaf: leaf.astype(jnp.float32), network(seed))
        for seed in range(3)
    ]
    plane, coordinates = landscape.through(*points)
    assert coordinates.dtype == np.float64
    for point, (a, b) in zip(points, coordinates, strict=True):
        found = landscape.point(plane, a, b)
        assert_close(found, point, rtol=1e-5, atol=1e-5)
        assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype("float32")}


def test_the_surface_of_a_quadratic_along_two_eigenvectors_is_the_sum_of_two_parabolas():
    x = {"a": jnp.array([1.0, 0.0]), "b": jnp.array([0.0])}
    first = {"a": jnp.array([0.0, 1.0]), "b": jnp.array([0.0])}
    second = {"a": jnp.array([0.0, 0.0]), "b": jnp.array([1.0])}

    def value(point):
        return point["a"] @ point["a"] + 3 * point["b"][0] ** 2

    rows, columns = np.array([-1.0, 0.0, 2.0]), np.array([0.0, 0.5])
    found = landscape.surface(value, landscape.Plane(x, first, second), rows, columns)
    assert found.dtype == np.float64
    np.testing.assert_allclose(
        found, 1 + rows[:, None] ** 2 + 3 * columns**2, rtol=1e-14
    )


def test_a_loss_that_is_not_finite_is_kept_on_the_surface():
    x = jnp.ones(1)
    found = landscape.surface(
        lambda point: jnp.log(point[0]), landscape.Plane(x, x, x), [-2.0, 0.0], [0.0]
    )
    assert np.isnan(found[0, 0])
    assert found[1, 0] == 0


X = {"w": np.ones((2, 2)), "b": np.arange(2.0)}
OTHER = {"w": np.ones((2, 3)), "b": np.arange(2.0)}
BROKEN = {"w": np.full((2, 2), np.nan), "b": np.arange(2.0)}


def moved(alpha):
    return jax.tree.map(lambda leaf: leaf + alpha, X)


def surface(plane, rows):
    return landscape.surface(lambda _: 0.0, landscape.Plane(*plane), rows, [0.0])


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda: landscape.line(X, OTHER, 0.5), "end: must have the structure"),
        (lambda: landscape.line(X, {"w": X["w"]}, 0.5), "end: must have the structure"),
        (lambda: landscape.arc(X, OTHER, 0.5), "end: must have the structure"),
        (lambda: landscape.through(X, OTHER, X), "p1: must have the structure"),
        (lambda: landscape.through(X, moved(1), OTHER), "p2: must have the structure"),
        (lambda: landscape.through(BROKEN, X, X), "p0: holds a number that is not"),
        (lambda: landscape.through(X, moved(0), moved(1)), "p1: is p0"),
        (lambda: landscape.through(X, moved(1), moved(0)), "p2: is on the line"),
        (lambda: landscape.through(X, moved(1), moved(1)), "p2: is on the line"),
        (lambda: landscape.through(X, moved(0.1), moved(0.7)), "p2: is on the line"),
        (lambda: surface((X, OTHER, X), [0.0]), "plane.first: must have the structure"),
        (lambda: surface((X, X, {}), [0.0]), "plane.second: must have the structure"),
        (lambda: surface((X, X, X), []), "first_grid: must be one row"),
        (lambda: surface((X, X, X), [0.0, np.nan]), "first_grid: must be one row"),
        (lambda: surface((X, X, X), [[0.0]]), "first_grid: must be one row"),
        (
            lambda: landscape.filter_normalised(jax.random.key(0), {"b": X["b"]}),
            "x: no leaf has the 2 axes of filters",
        ),
        (
            lambda: landscape.filter_normalised(jax.random.key(0), BROKEN),
            "x: holds a number that is not finite",
        ),
    ],
)
def test_bad_input_is_named(broken, message):
    with pytest.raises(ValueError, match=message):
        broken()
