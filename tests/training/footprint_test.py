"""What a run needs, from its compiled programs."""

import dataclasses

import jax
import numpy as np
import pytest
from training import jobs

from bsexp import config
from bsexp.data.sources import Description
from bsexp.training import feed, footprint, mesh

MIB = 2**20


def subject(batch_size=4_096, layout=jobs.ALONE, **batch):
    base = config.Base(batch=config.Batch(**batch), train=config.Train(epochs=2))
    run = config.Run("LB", 0, batch_size, base)
    fields = {
        "image_shape": (28, 28, 1),
        "dtype": np.dtype(np.uint8),
        "num_classes": 10,
        "train_examples": 10_000,
        "test_examples": 100,
    }
    names = {field.name for field in dataclasses.fields(Description)}
    data = Description(**{name: fields.get(name, 0) for name in names})
    return footprint.Subject(run, jobs.network(), data, layout)


def test_flops_are_those_of_the_matrix_products():
    """6 B P an update, P the entries of the kernels, less the gradient with respect to the images; the rest is a few per cent."""
    kernels = 784 * 512 + 4 * 512**2 + 512 * 10
    updates = 2 * (10_000 // 4_096)
    expected = updates * 4_096 * (6 * kernels - 2 * 784 * 512)
    assert footprint.flops(subject()) == pytest.approx(expected, rel=0.05)


def test_a_batch_size_that_grows_is_counted_size_by_size():
    grown = footprint.flops(subject(1_024, growth=4, growth_epochs=(1,)))
    parts = [footprint.flops(subject(size)) / 2 for size in (1_024, 4_096)]
    assert grown == pytest.approx(sum(parts), rel=1e-3)


def test_memory_falls_with_the_microbatch_and_with_devices():
    """A layer's activations: 4 bytes x 512 units x examples, at least one for each of five layers."""
    whole = footprint.peak_bytes(subject(ghost=128))
    parts = footprint.peak_bytes(subject(ghost=128, microbatch=128))
    spread = footprint.peak_bytes(subject(ghost=128, layout=mesh.Layout(1, 8, 1)))
    activations = 5 * 4 * 512 * (4_096 - 128)
    assert whole - parts > activations
    assert whole - spread > 0.8 * activations


def test_streamed_examples_take_two_portions_not_the_training_set(monkeypatch):
    """Of 10 000 MNIST images a portion holds one batch of 4 096; labels are int32."""
    monkeypatch.setattr(feed, "PORTION", 1)
    resident = subject()
    base = dataclasses.replace(resident.run.base, data=config.Data(streaming=True))
    streamed = resident._replace(run=dataclasses.replace(resident.run, base=base))
    saved = footprint.peak_bytes(resident) - footprint.peak_bytes(streamed)
    # The order goes too; XLA may keep a float batch for itself in one of the two.
    expected = 10_000 * (784 + 4 + 4) - 2 * 4_096 * (784 + 4)
    assert abs(saved - expected) < MIB


def test_where_it_does_not_fit_a_microbatch_that_does_is_named():
    free = subject(ghost=128)
    needed = footprint.peak_bytes(free)
    found = footprint.fitting_microbatch(free, needed - 10 * MIB)
    assert found in (1_024, 2_048)
    fits = subject(ghost=128, microbatch=found)
    assert footprint.peak_bytes(fits) <= needed - 10 * MIB
    said = footprint.out_of_memory(free, needed - 10 * MIB)
    assert f"config.batch.microbatch={found} would fit" in said


def test_a_microbatch_that_the_devices_cannot_share_is_passed_over():
    """Of 5 000 examples in ghost batches of 125 eight devices can share 1 000, and neither 2 500 nor 1 250."""
    asked = subject(5_000, mesh.Layout(1, 8, 1), ghost=125)
    needed = footprint.peak_bytes(asked)
    assert footprint.fitting_microbatch(asked, needed - MIB) == 1_000


def test_where_nothing_fits_it_says_so():
    said = footprint.out_of_memory(subject(ghost=1_024), 10 * MIB)
    assert "no microbatch that keeps the ghost batches fits" in said
    assert "10 MiB" in said
    assert footprint.fitting_microbatch(subject(), 10 * MIB) is None


def test_where_the_compiler_runs_out_as_well_it_says_what_it_can(monkeypatch):
    """On accelerators it tries kernels out, in the memory that is full."""

    def exhausted(_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 1 GiB")

    monkeypatch.setattr(footprint, "peak_bytes", exhausted)
    assert footprint.out_of_memory(subject(), 10 * MIB) == (
        "out of memory; try a smaller config.batch.microbatch"
    )


def test_where_sam_s_parts_are_the_microbatches_no_other_is_offered():
    asked = subject(ghost=128)
    optimizer = config.Optimizer(sam_radius=0.05, sam_examples=1_024)
    base = dataclasses.replace(asked.run.base, optimizer=optimizer)
    run = dataclasses.replace(asked.run, base=base)
    said = footprint.out_of_memory(asked._replace(run=run), 10 * MIB)
    assert "config.optimizer.sam_examples is the microbatch" in said
