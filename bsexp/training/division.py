"""How the examples of one update are divided: into microbatches, ghost batches and shards."""

import dataclasses
from typing import NamedTuple

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
    shards = ORDERED_SHARDS if ordered else devices
    if shards % devices:
        raise FieldError(
            "execution.data",
            f"must divide the {shards} parts whose sum is taken in a fixed order",
        )
    asked = _Asked(batch, microbatch, ghost, shards, ordered)
    if fault := _fault(asked):
        field, words = fault
        raise FieldError(f"batch.{field}", f"{words}; {_nearest(asked, field)}")
    microbatch, ghost = asked.whole()
    return Division(batch, microbatch, ghost, Reduction(shards, devices, ordered))


class _Asked(NamedTuple):
    """How a batch is to be divided; the names are those of config.batch, 0 stands for the whole of it."""

    size: int
    microbatch: int
    ghost: int
    shards: int
    ordered: bool

    def whole(self) -> tuple[int, int]:
        return self.microbatch or self.size, self.ghost or self.size


def _fault(asked: _Asked) -> tuple[str, str] | None:
    """Return the field whose value does not divide, and why; None where all parts divide each other."""
    size, shards = asked.size, asked.shards
    microbatch, ghost = asked.whole()
    names = f"the batch of {size}", f"the microbatch of {microbatch}"
    if size % microbatch:
        return "microbatch", f"must divide {names[0]} examples"
    if microbatch % ghost:
        return "ghost", f"must divide {names[microbatch < size]} examples"
    if microbatch % shards:
        field = "microbatch" if microbatch < size else "size"
        return (
            field,
            f"{microbatch} examples cannot be split into {shards} equal parts",
        )
    shard = microbatch // shards
    if asked.ordered and shard % ghost:
        words = "a mean over several of them would have other bits on other devices"
        return (
            "ghost",
            f"must divide the {shard} examples of one of {shards} parts: {words}",
        )
    if shard % ghost and ghost % shard:
        return (
            "ghost",
            f"neither divides the {shard} examples of one of {shards} parts nor is made up of them",
        )
    return None


def _nearest(asked: _Asked, field: str) -> str:
    """Say with which values of a field, nearest below and above, everything divides; a ghost batch that was not asked for may."""
    microbatch, ghost = asked.whole()
    value = {"size": asked.size, "microbatch": microbatch, "ghost": ghost}[field]
    others = asked._replace(ghost=asked.ghost or 1)
    # A batch that is a multiple of all parts divides; a part is no larger than the batch.
    most = value + asked.shards * others.ghost if field == "size" else asked.size

    def divides(other: int) -> bool:
        return _fault(others._replace(**{field: other})) is None

    below = next(filter(divides, range(value - 1, 0, -1)), None)
    above = next(filter(divides, range(value + 1, most + 1)), None)
    near = [str(each) for each in (below, above) if each is not None]
    return (
        f"nearest that do: {' and '.join(near)}"
        if near
        else "no other does, with batch, parts and devices as they are"
    )
