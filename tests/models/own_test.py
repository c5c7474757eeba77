import hashlib
import textwrap

import jax
import numpy as np
import pytest

from bsexp import models
from bsexp.models import normalisation, own

HEAD = """
from flax import linen as nn

from bsexp.models import normalisation
"""
FIELDS = """
    num_classes: int
    momentum: float
"""
WITHOUT_BATCH_NORM = f"""
class Network(nn.Module):{FIELDS}
    @nn.compact
    def __call__(self, inputs, ghost, keys):
        hidden = nn.Dense(8)(inputs.reshape((len(inputs), -1)))
        return nn.Dense(self.num_classes)(nn.relu(nn.LayerNorm()(hidden)))
"""
SHAPE = (4, 4, 1)


@pytest.fixture
def write(tmp_path, monkeypatch, request):
    """Write a module that Python finds, with a name of its own for each test; returns its file."""
    monkeypatch.syspath_prepend(tmp_path)
    name = "own_" + hashlib.sha256(request.node.name.encode()).hexdigest()[:8]

    def written(code):
        file = tmp_path / f"{name}.py"
        file.write_text(HEAD + code)
        return file

    return written


def module_of(methods="", fields=FIELDS, base="nn.Module"):
    body = textwrap.indent(textwrap.dedent(methods), " " * 4)
    return f"class Network({base}):{fields}\n{body}"


def test_a_network_of_the_package_named_as_ones_own_is_that_network():
    ours, theirs = (
        models.build(name, SHAPE, 10, 0.9) for name in ("bsexp.models.dense:f1", "F1")
    )
    inputs = jax.random.uniform(jax.random.key(1), (6, *SHAPE))
    start = theirs.init(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, ours.init(jax.random.key(0)), start)
    ghost = normalisation.whole(3)
    found = [each.train(*start, inputs, None, ghost) for each in (ours, theirs)]
    jax.tree.map(np.testing.assert_array_equal, *found)
    assert own.error("bsexp.models.dense:f1", SHAPE, 10, "bfloat16") == ""


def test_without_batch_norm_there_are_no_statistics_and_the_modes_are_one(write):
    name = f"{write(WITHOUT_BATCH_NORM).stem}:Network"
    assert own.error(name, SHAPE, 3, "float32") == ""
    model = models.build(name, SHAPE, 3, 0.9)
    parameters, statistics = model.init(jax.random.key(0))
    inputs = jax.random.uniform(jax.random.key(1), (6, *SHAPE))
    running, batch = (
        model.apply(parameters, statistics, inputs, mode) for mode in models.MODES
    )
    ghost = normalisation.whole(3)
    trained, moved = model.train(parameters, statistics, inputs, None, ghost)
    assert statistics == moved == model.observe(parameters, statistics, inputs) == {}
    np.testing.assert_array_equal(running, batch)
    np.testing.assert_array_equal(running, trained)


def test_its_code_is_that_of_its_file_as_it_stands(write):
    file = write(WITHOUT_BATCH_NORM)
    name = f"{file.stem}:Network"
    first = own.code(name)
    assert first == hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    file.write_text(file.read_text() + "# a remark\n")
    assert own.code(name) != first


CALL = "@nn.compact\ndef __call__(self, inputs, ghost, keys):\n    "
FLAT = "inputs.reshape((len(inputs), -1))"
WRONG = {
    "no such name": (
        "Network = None",
        "float32",
        "TypeError: 'NoneType' object is not callable",
    ),
    "not a module": (
        "def Network(num_classes, momentum):\n    return 3",
        "float32",
        "makes an object of type int, not a Linen module",
    ),
    "no momentum": (
        module_of(f"{CALL}return inputs", "\n    num_classes: int\n    width: float\n"),
        "float32",
        "has no field momentum",
    ),
    "no dtype": (
        module_of(f"{CALL}return nn.Dense(self.num_classes)({FLAT})"),
        "bfloat16",
        "has no field dtype, in which precision bfloat16 would be told",
    ),
    "another batch norm": (
        module_of(
            f"{CALL}hidden = nn.BatchNorm(use_running_average=False)({FLAT})\n    return nn.Dense(self.num_classes)(hidden)"
        ),
        "float32",
        "keeps batch_stats; batch norm is that of bsexp.models.normalisation",
    ),
    "no logits": (
        module_of(f"{CALL}return nn.Dense(self.num_classes)(inputs)"),
        "float32",
        "maps 3 examples to (3, 4, 4, 3), not to logits (3, 3)",
    ),
    "of a fixed batch": (
        module_of(f"{CALL}return nn.Dense(self.num_classes)(inputs.reshape((2, -1)))"),
        "float32",
        "ScopeParamShapeError: ",
    ),
    "weights of 16 bits": (
        module_of(
            f"{CALL}return nn.Dense(self.num_classes, param_dtype='bfloat16')({FLAT})"
        ),
        "float32",
        "has weights or statistics of bfloat16; must be float32",
    ),
    "logits of whole numbers": (
        module_of(f"{CALL}return nn.Dense(self.num_classes)({FLAT}).astype(int)"),
        "float32",
        "gives logits of int32, which have no gradient",
    ),
    "it leaves": ("import sys\nsys.exit(3)", "float32", "SystemExit: 3 (own_"),
    "no parameters": (
        module_of(f"{CALL}return {FLAT}[:, : self.num_classes]"),
        "float32",
        "has no parameters to train",
    ),
    "it raises": (
        module_of(f"{CALL}return nn.Dense(self.classes)({FLAT})"),
        "float32",
        'AttributeError: "Network" object has no attribute "classes". (own_',
    ),
    "it cannot be measured by its averages": (
        module_of(
            f"{CALL}hidden = inputs * ghost.size\n    return nn.Dense(self.num_classes)({FLAT.replace('inputs', 'hidden')})"
        ),
        "float32",
        "AttributeError: 'NoneType' object has no attribute 'size' (own_",
    ),
    "it cannot be trained": (
        module_of(
            f"{CALL}hidden = {FLAT} if keys is None else keys\n    return nn.Dense(self.num_classes)(hidden)"
        ),
        "float32",
        "Error: ",
    ),
    "it cannot be imported": ("import numpyy", "float32", "No module named 'numpyy'"),
    "it raises when it is imported": (
        "1 / 0",
        "float32",
        "ZeroDivisionError: division by zero (own_",
    ),
}


@pytest.mark.parametrize(("code", "precision", "words"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said_before_anything_is_trained(
    write, code, precision, words
):
    name = f"{write(code).stem}:Network"
    assert words in own.error(name, SHAPE, 3, precision)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere_at_all:Network", "there is no module 'nowhere_at_all' in the"),
        ("bsexp.models.dense:F9", "bsexp.models.dense has no class or function 'F9'"),
        ("sys:maxsize", "sys is in no file"),
        ("bsexp.models.dense:", "must be MODULE:NAME"),
        (":Network", "must be MODULE:NAME"),
    ],
)
def test_a_name_that_leads_nowhere_is_told(name, words):
    assert words in own.error(name, SHAPE, 3, "float32")
    with pytest.raises(ValueError, match=words.split("'")[0]):
        models.build(name, SHAPE, 3, 0.9)


def test_without_data_its_fields_are_checked_and_it_is_not_called(write):
    code = module_of(f"{CALL}raise AssertionError")
    assert own.error(f"{write(code).stem}:Network", None, 1, "float32") == ""
