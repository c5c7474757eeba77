"""Curvature of a loss: pure functions of functions and pytrees, for any JAX loss.

Nothing here knows a model, a data set or a configuration. A loss is ``loss(x, batch) -> mean over the batch``;
where it carries arrays of its own, pass it as ``jax.tree_util.Partial(function, arrays)``, so that one compiled
program serves every value of them. The products here are those of the arrays' own precision; a loss says so itself, with
``jax.default_matmul_precision("float32")`` around it, or an accelerator rounds their factors to 10 bits or 7.
"""
