"""Sharpness-aware minimisation: the point at which the gradient of an update is taken."""

from typing import Any

import jax
import jax.numpy as jnp
import optax


def ascended(parameters: Any, gradient: Any, radius: float, adaptive: bool) -> Any:
    """Return the point uphill at which SAM or ASAM takes the gradient that it descends.

    SAM: x + rho g / |g|. ASAM: x + rho T^2 g / |T g| with T = |x|, elementwise, which makes the step blind to a
    rescaling of the parameters. |.| is the norm over all parameters; where it is zero, x itself comes out.

    Args:
        parameters: x.
        gradient: g at x, a pytree like x, of the whole batch: the norm of a part of it would be another.
        radius: rho >= 0.
        adaptive: ASAM instead of SAM.

    Source: Foret et al. 2021, arXiv:2010.01412; Kwon et al. 2021, arXiv:2102.11600, without the small constant that its
    experiments add to |x|: here a parameter that is zero stays.
    """
    stretch = jax.tree.map(jnp.abs if adaptive else jnp.ones_like, parameters)
    stretched = jax.tree.map(jnp.multiply, stretch, gradient)
    norm = optax.tree.norm(stretched)
    length = radius / jnp.where(norm > 0, norm, 1)
    return jax.tree.map(
        lambda x, t, tg: x + length * t * tg, parameters, stretch, stretched
    )
