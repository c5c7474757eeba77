"""A part of the parameters, chosen by patterns over their paths."""

import fnmatch
from collections.abc import Callable
from typing import Any

import jax
from jax.tree_util import Partial

from bsexp.curvature.operator import as_partial

Pytree = Any


def paths(x: Pytree) -> list[str]:
    """List the paths of a pytree's leaves, such as "layer/kernel", in the order of `jax.tree.leaves`."""
    return [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, _ in jax.tree_util.tree_leaves_with_path(x)
    ]


def matching(x: Pytree, patterns: str | tuple[str, ...]) -> Pytree:
    """Say which leaves match a pattern: a pytree of booleans.

    Args:
        x: a pytree.
        patterns: one or several globs over whole paths, such as "*/kernel"; "*" matches "/" too.

    Raises:
        ValueError: a pattern matches nothing, or there is none.
    """
    several = (patterns,) if isinstance(patterns, str) else tuple(patterns)
    existing = paths(x)
    for pattern in several:
        if not any(fnmatch.fnmatchcase(path, pattern) for path in existing):
            raise ValueError(
                f"patterns={pattern!r}: matches nothing; there are {', '.join(existing)}"
            )
    if not several:
        raise ValueError("patterns=(): must hold at least one")
    chosen = [
        any(fnmatch.fnmatchcase(path, pattern) for pattern in several)
        for path in existing
    ]
    return jax.tree.unflatten(jax.tree.structure(x), chosen)


def restrict(
    function: Callable[[Pytree, Any], Any], x: Pytree, patterns: str | tuple[str, ...]
) -> tuple[Callable[[dict[str, jax.Array], Any], Any], dict[str, jax.Array]]:
    """Make a function of the chosen leaves alone; the others stay as they are in x.

    The Hessian of the restricted loss is the principal submatrix of the whole, at less cost.

    Args:
        function: (x, batch) -> anything: a loss, or the prediction of `composite.composite`.
        x: the point.
        patterns: see `matching`.

    Returns:
        (the function of the part and a batch, the part: path -> leaf).

    Raises:
        ValueError: a pattern matches nothing.
    """
    chosen = jax.tree.leaves(matching(x, patterns))
    leaves = dict(zip(paths(x), jax.tree.leaves(x), strict=True))
    part = {
        path: leaf
        for (path, leaf), wanted in zip(leaves.items(), chosen, strict=True)
        if wanted
    }
    rest = {path: leaf for path, leaf in leaves.items() if path not in part}
    joined = Partial(
        _Joined(tuple(leaves), jax.tree.structure(x)), as_partial(function), rest
    )
    return joined, part


class _Joined:
    """The whole from its parts, hashed by value: equal ones share their compiled programs."""

    def __init__(self, order: tuple[str, ...], structure: Any) -> None:
        self._key = order, structure

    def __call__(
        self,
        function: Partial,
        rest: dict[str, jax.Array],
        part: dict[str, jax.Array],
        batch: Any,
    ) -> Any:
        order, structure = self._key
        whole = {**rest, **part}
        return function(
            jax.tree.unflatten(structure, [whole[path] for path in order]), batch
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Joined) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)
