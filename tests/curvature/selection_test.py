import jax
import jax.numpy as jnp
import numpy as np
import pytest
from curvature import networks

from bsexp.curvature import composite, operator, selection

pytestmark = pytest.mark.usefixtures("float64")
TREE = {
    "first": {"kernel": jnp.zeros((2, 3)), "bias": jnp.zeros(3)},
    "second": [jnp.zeros(4), jnp.zeros(5)],
}


def test_paths_are_written_with_slashes_in_the_order_of_the_leaves():
    assert selection.paths(TREE) == [
        "first/bias",
        "first/kernel",
        "second/0",
        "second/1",
    ]


@pytest.mark.parametrize(
    ("patterns", "chosen"),
    [
        ("*kernel", [False, True, False, False]),
        ("first/*", [True, True, False, False]),
        (("second/1", "*/bias"), [True, False, False, True]),
        ("*", [True] * 4),
        ("second/[01]", [False, False, True, True]),
    ],
)
def test_patterns_choose_leaves(patterns, chosen):
    assert jax.tree.leaves(selection.matching(TREE, patterns)) == chosen


def test_the_restricted_hessian_is_the_principal_submatrix():
    case = networks.case("dense")
    chunks = operator.split(case.data, 10)
    whole = networks.hessian(case)
    chosen = selection.matching(case.x, ("first/kernel", "second"))
    mask = np.concatenate(
        [
            np.full(leaf.size, wanted)
            for leaf, wanted in zip(
                jax.tree.leaves(case.x), jax.tree.leaves(chosen), strict=True
            )
        ]
    )
    loss, part = selection.restrict(case.loss, case.x, ("first/kernel", "second"))
    assert list(part) == ["first/kernel", "second"]
    found = networks.columns(operator.objective(loss, chunks).hessian(part), part)
    np.testing.assert_allclose(found, whole[np.ix_(mask, mask)], rtol=0, atol=1e-12)


def test_a_restricted_prediction_has_the_block_of_gauss_newton():
    case = networks.case("dense")
    chunks = operator.split(case.data, 10)
    predict, part = selection.restrict(case.predict, case.x, "first/*")
    block = composite.composite(predict, case.criterion, chunks)
    whole = composite.composite(case.predict, case.criterion, chunks)
    np.testing.assert_allclose(
        networks.flat(block.gauss_newton_diagonal(part)),
        networks.flat(whole.gauss_newton_diagonal(case.x)["first"]),
        rtol=1e-10,
    )


def test_restrictions_of_the_same_kind_share_their_compiled_programs():
    traced = []

    def loss(x, batch):
        traced.append(1)
        return (x["a"] ** 2 * x["b"]).sum() + batch.mean()

    x = {"a": jnp.arange(3.0), "b": jnp.ones(3)}
    restrictable = jax.tree_util.Partial(loss)
    for shift in (0.0, 1.0):
        moved = {"a": x["a"], "b": x["b"] + shift}
        restricted, part = selection.restrict(restrictable, moved, "a")
        value = operator.objective(restricted, [jnp.zeros(2)]).value(part)
        assert value == 5.0 * (1 + shift)
    assert len(traced) == 1


@pytest.mark.parametrize("patterns", ["*scale", ("first/*", "third"), ()])
def test_a_pattern_that_matches_nothing_is_named_with_what_there_is(patterns):
    with pytest.raises(ValueError, match=r"patterns=") as caught:
        selection.matching(TREE, patterns)
    if patterns:
        assert "first/bias, first/kernel, second/0, second/1" in str(caught.value)
