"""How the examples of one update are divided: into microbatches, ghost batches and shards."""

import dataclasses

import jax
import jax.numpy as jnp

from bsexp.bounds import FieldError
from bsexp.training.reduction import DATA, Reduction

# Shards of a microbatch where their sum is taken in a fixed order: one to eight devices hold equally many.
ORDERED_SHARDS = 8


@dataclasses.dataclass(frozen=True)
class Division:
    """The parts of a batch of B examples; each divides the one before it.

    Example i of the batch belongs to microbatch i // m and, within it, to ghost batch i // g and to shard i // (m / S).
    None of this but S, which may only change rounding, depends on the devices.

    Attributes:
        batch: B, examples of an update.
        microbatch: m, examples whose gradient is computed at once.
        ghost: g, examples that share their batch-norm statistics.
        reduction: over the S shards of a microbatch.
    """

    batch: int
    microbatch: int
    ghost: int
    reduction: Reduction

    @property
    def microbatches(self) -> int:
        """Number of microbatches of a batch."""
        return self.batch // self.microbatch

    @property
    def shard(self) -> int:
        """Examples of a shard."""
        return self.microbatch // self.reduction.shards

    @property
    def ghost_here(self) -> int:
        """Examples of a ghost batch that lie in one shard."""
        return min(self.ghost, self.shard)

    @property
    def shards_of_a_ghost(self) -> int:
        """Shards over which a ghost batch is spread."""
        return self.ghost // self.ghost_here

    @property
    def shape(self) -> tuple[int, int, int]:
        """[B / m, S, m / S]: a batch reshaped to this has its microbatches, their shards and the examples of a shard.

        Along axis 1 each device holds S / D consecutive ones.
        """
        return self.microbatches, self.reduction.shards, self.shard

    def positions(self) -> jax.Array:
        """Return the places in the batch of the examples that this device holds, int32 [B / m, S / D, m / S]."""
        reduction = self.reduction
        places = jnp.arange(self.batch, dtype=jnp.int32).reshape(self.shape)
        if reduction.devices == 1:
            return places
        first = jax.lax.axis_index(DATA) * reduction.local
        return jax.lax.dynamic_slice_in_dim(places, first, reduction.local, axis=1)


def divide(
    batch: int, microbatch: int, ghost: int, devices: int, *, ordered: bool
) -> Division:
    """Divide a batch over devices.

    Args:
        batch: B.
        microbatch: m; 0: B.
        ghost: g; 0: B.
        devices: D, over which each microbatch is split.
        ordered: whether sums are taken in a fixed order, over ORDERED_SHARDS shards.

    Raises:
        bounds.FieldError: the parts do not divide each other; the message names the numbers and the nearest that work.
    """
    microbatch, ghost = microbatch or batch, ghost or batch
    names = f"the batch of {batch}", f"the microbatch of {microbatch}"
    for field, part, whole, name in (
        ("batch.microbatch", microbatch, batch, names[0]),
        ("batch.ghost", ghost, microbatch, names[microbatch < batch]),
    ):
        if whole % part:
            raise FieldError(
                field,
                f"must divide {name} examples; nearest that do: {_nearest_divisors(whole, part)}",
            )
    shards = ORDERED_SHARDS if ordered else devices
    if shards % devices:
        raise FieldError(
            "execution.data",
            f"must divide the {shards} parts whose sum is taken in a fixed order",
        )
    if microbatch % shards:
        low = microbatch // shards * shards
        near = f"{low} and {low + shards}" if low else f"{shards}"
        raise FieldError(
            "batch.microbatch" if microbatch < batch else "batch.size",
            f"{microbatch} examples cannot be split into {shards} equal parts; nearest that can: {near}",
        )
    shard = microbatch // shards
    if ordered and shard % ghost:
        raise FieldError(
            "batch.ghost",
            f"must divide the {shard} examples of one of {shards} parts: a mean over several of them would have other "
            f"bits on other devices; nearest that do: {_nearest_divisors(shard, ghost)}",
        )
    if shard % ghost and ghost % shard:
        raise FieldError(
            "batch.ghost",
            f"neither divides the {shard} examples of one of {shards} parts nor is made up of them; "
            f"nearest that do: {_nearest_divisors(shard, ghost)}",
        )
    return Division(batch, microbatch, ghost, Reduction(shards, devices, ordered))


def _nearest_divisors(whole: int, part: int) -> str:
    divisors = [each for each in range(1, whole + 1) if whole % each == 0]
    below = max((each for each in divisors if each <= part), default=None)
    above = min((each for each in divisors if each >= part), default=None)
    return " and ".join(str(each) for each in (below, above) if each is not None)
