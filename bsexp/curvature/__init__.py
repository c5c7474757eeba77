"""Curvature of a loss: pure functions of functions and pytrees, for any JAX loss.

Nothing here knows a model, a data set or a configuration. A loss is ``loss(x, batch) -> mean over the batch``;
where it carries arrays of its own, pass it as ``jax.tree_util.Partial(function, arrays)``, so that one compiled
program serves every value of them.
"""
