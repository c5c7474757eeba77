"""Networks of one's own: a Linen module that Python finds, named MODULE:NAME.

It is made as NAME(num_classes, momentum) and called with (inputs, ghost, keys), as those of this folder are: inputs
[b, ...], float32, images in [0, 1] and features as they are; ``ghost`` goes to the layers of `normalisation`, ``keys`` to
`dropout`. Both may be ignored: a network without batch norm has no statistics, and its numbers are the same in both modes.
"""

import functools
import hashlib
import importlib
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
from flax import linen as nn

from bsexp.models import normalisation

COLLECTIONS = {"params", "statistics"}


def load(name: str) -> Callable[[int, float], nn.Module]:
    """Return what makes a network.

    Args:
        name: MODULE:NAME.

    Raises:
        ValueError: there is no such module, it cannot be imported, or it has no such name.
    """
    module, attribute = _module(name), name.partition(":")[2]
    if not hasattr(module, attribute):
        raise ValueError(f"{module.__name__} has no class or function {attribute!r}")
    return getattr(module, attribute)


def code(name: str) -> str:
    """Return 16 hex digits of the SHA-256 of the file that holds a network; what that file imports is not looked at.

    Args:
        name: MODULE:NAME.

    Raises:
        ValueError: as `load`.
    """
    return hashlib.sha256(_file(_module(name)).read_bytes()).hexdigest()[:16]


def error(
    name: str, shape: tuple[int, ...] | None, num_classes: int, precision: str
) -> str:
    """Return what is wrong with a network of one's own, "" for nothing; it is called with shapes alone.

    Args:
        name: MODULE:NAME.
        shape: of one example; None where it is not known, and the network is not called.
        num_classes: number of logits.
        precision: in which it is to be trained.
    """
    try:
        factory = load(name)
    except ValueError as found:
        return str(found)
    try:
        network = factory(num_classes, 0.9)
        if wrong := _wrong_fields(network, precision):
            return wrong
        return _wrong_results(network, shape, num_classes) if shape else ""
    except (Exception, SystemExit) as found:  # noqa: BLE001 - whatever the user's code raises
        return _said(found, _file(_module(name)))


def _wrong_fields(network: Any, precision: str) -> str:
    if not isinstance(network, nn.Module):
        return f"makes an object of type {type(network).__name__}, not a Linen module"
    if not hasattr(network, "momentum"):
        return "has no field momentum, the weight of the past in the running averages of batch norm"
    if precision != "float32" and not hasattr(network, "dtype"):
        return f"has no field dtype, in which precision {precision} would be told"
    return ""


def _wrong_results(network: nn.Module, shape: tuple[int, ...], num_classes: int) -> str:
    def examples(number: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((number, *shape), jax.numpy.float32)

    variables = jax.eval_shape(
        lambda key, inputs: network.init(key, inputs, normalisation.whole(2), None),
        *(jax.random.key(0), examples(2)),
    )
    if others := variables.keys() - COLLECTIONS:
        return (
            f"keeps {', '.join(sorted(others))}; batch norm is that of bsexp.models.normalisation, "
            "whose statistics depend on no device, and other states are not carried along"
        )
    if not variables.get("params"):
        return "has no parameters to train"
    kinds = {str(leaf.dtype) for leaf in jax.tree.leaves(variables)} - {"float32"}
    if kinds:
        return f"has weights or statistics of {', '.join(sorted(kinds))}; must be float32, whatever it computes in"
    # Of another number than it was made with: it takes batches of every size.
    number = 3
    ghost = normalisation.whole(number)
    keys = jax.random.split(jax.random.key(0), number)
    # As it is called to train, and to be measured in either mode.
    for how in ((ghost, keys), (None, None), (ghost, None)):
        logits, _ = jax.eval_shape(
            lambda variables, inputs, how=how: network.apply(
                variables, inputs, *how, mutable=["statistics"]
            ),
            *(variables, examples(number)),
        )
        if getattr(logits, "shape", None) != (number, num_classes):
            described = getattr(logits, "shape", type(logits).__name__)
            return f"maps {number} examples to {described}, not to logits ({number}, {num_classes})"
        if not jax.numpy.issubdtype(logits.dtype, jax.numpy.floating):
            return f"gives logits of {logits.dtype}, which have no gradient"
    return ""


@functools.cache
def _module(name: str) -> ModuleType:
    wanted, _, attribute = name.partition(":")
    if not wanted or not attribute:
        raise ValueError("must be MODULE:NAME")
    try:
        module = importlib.import_module(wanted)
    except ModuleNotFoundError as found:
        if found.name != wanted:
            raise ValueError(f"{wanted}: {found}") from found
        raise ValueError(
            f"there is no module {wanted!r} in the working folder, nor elsewhere where Python looks"
        ) from found
    except (Exception, SystemExit) as found:
        raise ValueError(
            _said(found, Path(wanted.replace(".", "/") + ".py"))
        ) from found
    # What is in the file is part of a run's name.
    if getattr(module, "__file__", None) is None:
        raise ValueError(f"{wanted} is in no file")
    return module


def _file(module: ModuleType) -> Path:
    return Path(str(module.__file__))


def _said(found: Exception, file: Path) -> str:
    """Say in one line what the user's code raised, and where."""
    frames = traceback.extract_tb(found.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename.endswith(file.name)]
    place = f" ({file.name}, line {lines[-1]})" if lines else ""
    return f"{type(found).__name__}: {str(found).strip().partition(chr(10))[0]}{place}"
