"""From the configuration of a run to what trains it, shared by all runs of its shape."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax

from bsexp import bounds, config, models
from bsexp.data import augmentation
from bsexp.training import (
    conservative,
    division,
    gradient,
    mesh,
    optim,
    perturbed,
    scaling,
    schedules,
    sharpness_aware,
    step,
    timeline,
)
from bsexp.training.timeline import Epoch

_MOST_EXAMPLES = 2**31 - 1  # a run's state counts them in 32 bits


def scaled_optimizer(run: config.Run) -> config.Optimizer:
    """Return the optimizer of a run at its batch size, by its scaling rule."""
    return scaling.scaled(run.base.optimizer, run.base.scaling, run.batch_size)


def shape(run: config.Run) -> str:
    """Write out what runs must share to train as one program: all but seed, learning rate and weight decay."""
    base = run.base
    shared = (
        base.data,
        base.augmentation,
        base.model,
        base.batch,
        run.batch_size,
        optim.without_rates(scaled_optimizer(run)),
        base.schedule,
        base.robust,
        base.train,
        base.execution,
    )
    return repr(shared)


def cohort(run: config.Run) -> tuple[str, bool]:
    """Return what runs must share to train side by side: their shape, and whether they begin with a random start.

    Others may begin with the weights of one that does, and have to wait for it.
    """
    return shape(run), run.donor is None


def schedule_errors(base: config.Base, size: int, examples: int) -> dict[str, str]:
    """Return what is wrong with the schedule of a run that starts at batch size B, by field."""
    # Where there are some, how long it trains is not known; how its batches are divided changes no length.
    if errors(base, size, examples, normalised=False):
        return {}
    lengths = _lengths(base, size, examples)
    return schedules.errors(base.schedule, **lengths)


def _lengths(base: config.Base, size: int, examples: int) -> dict[str, Any]:
    """Return what lengths of a schedule are measured by."""
    listed = timeline.timeline(base.batch, size, base.train, examples)
    return {
        "epochs": tuple((each.whole, each.batch) for each in listed),
        "total_examples": listed[-1].seen_after,
    }


def epochs(run: config.Run, examples: int) -> tuple[Epoch, ...]:
    """Return the epochs of a run over N training examples."""
    return timeline.timeline(run.base.batch, run.batch_size, run.base.train, examples)


def errors(
    base: config.Base, size: int, examples: int, *, normalised: bool
) -> dict[str, str]:
    """Return what is wrong with how a run is divided and how it ends, by field.

    Args:
        base: the configuration.
        size: B of the first epoch.
        examples: N, of the training set.
        normalised: whether the network has batch norm.
    """
    found: dict[str, str] = {}
    for check in (
        lambda: _check_mesh(base, size, examples, normalised=normalised),
        lambda: _check_limit(base, size, examples, "steps"),
        lambda: _check_limit(base, size, examples, "examples"),
        lambda: _check_metric(base, "monitor", base.train.patience),
        lambda: _check_metric(base, "target_metric", base.train.target),
        lambda: _check_target(base.train),
        lambda: _check_robust(base.robust),
        lambda: _check_workers(base.data),
    ):
        try:
            check()
        except bounds.FieldError as error:
            found[error.field] = str(error)
    return found


def _check_mesh(
    base: config.Base, size: int, examples: int, *, normalised: bool
) -> None:
    mesh.check(len(jax.devices()), jax.process_count(), base.execution)
    devices = base.execution.data or 1
    _check_division(base, size, examples, devices, normalised=normalised)


def _check_division(
    base: config.Base, size: int, examples: int, devices: int, *, normalised: bool
) -> None:
    listed = timeline.timeline(base.batch, size, base.train, examples)
    if (seen := listed[-1].seen_after) > _MOST_EXAMPLES:
        raise bounds.FieldError(
            "train.epochs",
            f"{seen:,} examples would be seen, and a run counts up to {_MOST_EXAMPLES:,}",
        )
    unreached = [each for each in base.batch.growth_epochs if each >= len(listed)]
    if unreached:
        raise bounds.FieldError(
            "batch.growth_epochs",
            f"the batch would not grow after epoch {min(unreached)}: the run has {len(listed)}",
        )
    for each in {epoch.batch for epoch in listed}:
        divide(base, each, devices, normalised=normalised)


def _check_limit(base: config.Base, size: int, examples: int, field: str) -> None:
    """Check that the epochs have as many updates or examples as a limit; another limit may come first."""
    asked = getattr(base.train, field)
    if not asked:
        return
    alone = dataclasses.replace(base.train, steps=0, examples=0)
    *_, last = timeline.timeline(base.batch, size, alone, examples)
    ends = {"steps": (last.end, "updates"), "examples": (last.seen_after, "examples")}
    end, unit = ends[field]
    if asked > end:
        raise bounds.FieldError(
            f"train.{field}",
            f"is not reached: config.train.epochs={base.train.epochs} has {end:,} {unit}; raise it",
        )


def _check_metric(base: config.Base, field: str, wanted: float) -> None:
    name = getattr(base.train, field)
    if wanted and not base.data.validation_size and name.startswith("validation"):
        raise bounds.FieldError(
            f"train.{field}",
            f"there is no {name} while config.data.validation_size is 0",
        )


def _check_target(train: config.Train) -> None:
    if train.stop_at_target and not train.target:
        raise bounds.FieldError(
            "train.stop_at_target", "there is none while config.train.target is 0"
        )
    if train.target > 1 and train.target_metric.endswith("accuracy"):
        raise bounds.FieldError(
            "train.target",
            f"{train.target_metric} is a fraction, at most 1, and not in per cent",
        )


def _check_workers(data: config.Data) -> None:
    if data.workers and not data.streaming:
        raise bounds.FieldError(
            "data.workers", "reads nothing while config.data.streaming is False"
        )


def _check_robust(robust: config.Robust) -> None:
    if robust.adversarial and robust.stability:
        raise bounds.FieldError(
            "robust.stability", "cannot be combined with config.robust.adversarial"
        )


def normalised(model: models.Model) -> bool:
    """Say whether a network has batch norm."""
    _, statistics = _shapes(model)
    return bool(statistics)


def divide(
    base: config.Base, size: int, devices: int, *, normalised: bool
) -> division.Division:
    """Divide a batch of B examples over devices as the configuration says.

    Without batch norm no examples belong together, and ghost batches restrict nothing.

    Raises:
        bounds.FieldError: the parts do not divide each other.
    """
    microbatch, alone = base.batch.microbatch, base.optimizer.sam_examples
    if alone and microbatch not in (0, alone):
        raise bounds.FieldError(
            "batch.microbatch",
            f"must be the {alone} of config.optimizer.sam_examples, or 0",
        )
    try:
        return division.divide(
            size,
            alone or microbatch,
            base.batch.ghost if normalised else 1,
            devices,
            ordered=base.execution.deterministic_reduction,
        )
    except bounds.FieldError as error:
        if alone and error.field == "batch.microbatch":
            raise bounds.FieldError("optimizer.sam_examples", str(error)) from error
        raise


def layout(
    run: config.Run, runs: int, model: models.Model, examples: int
) -> mesh.Layout:
    """Choose the mesh on which runs of a shape train here.

    Args:
        run: one of them.
        runs: how many there are.
        model: their network.
        examples: N, of the training set.
    """
    has_norm = normalised(model)

    def fits(devices: int) -> bool:
        try:
            _check_division(
                *(run.base, run.batch_size, examples, devices), normalised=has_norm
            )
        except bounds.FieldError:
            return False
        return True

    devices, execution = jax.devices(), run.base.execution
    platform = devices[0].platform
    if platform == "cpu" and _timed(run.base) and not execution.population:
        runs = 1  # its devices share the cores, and the last of an odd number would have them for itself
    most = stacked(run, model, examples, platform)
    return mesh.plan(len(devices), runs, run.batch_size, execution, fits, most)


def _timed(base: config.Base) -> bool:
    """Say whether seconds are counted: a run then has the machine for itself."""
    return bool(base.train.seconds or base.train.target)


def stacked(run: config.Run, model: models.Model, examples: int, platform: str) -> int:
    """Return how many runs of a shape a device trains side by side.

    On CPU one, which has all cores; of a convolutional network one, since stacked kernels are grouped convolutions. One
    also where seconds are counted, which a run then has for itself, and where sums have a fixed order, since stacked
    products round differently.

    Args:
        run: one of them.
        model: their network.
        examples: N, of the training set.
        platform: of the device: "cpu", or an accelerator's.
    """
    base = run.base
    if (
        platform == "cpu"
        or _convolutional(model)
        or _timed(base)
        or base.execution.deterministic_reduction
    ):
        return 1
    number = sum(leaf.size for leaf in _parameters(model))
    largest = max(each.batch for each in epochs(run, examples))
    return max(1, int(mesh.STACKED_FLOPS // (6 * largest * number)))


def build(run: config.Run, model: models.Model, examples: int) -> step.Recipe:
    """Build what trains a run.

    Args:
        run: any of the runs of a shape; one with weight decay where there is one.
        model: its network.
        examples: N, of the training set.
    """
    optimizer = run.base.optimizer
    ascent = functools.partial(
        sharpness_aware.ascended,
        radius=optimizer.sam_radius,
        adaptive=optimizer.sam_adaptive,
    )
    return step.Recipe(
        model=model,
        optimizer=optim.build(scaled_optimizer(run)),
        factor=schedules.factor(
            run.base.schedule, **_lengths(run.base, run.batch_size, examples)
        ),
        ascent=ascent if optimizer.sam_radius else None,
        ascent_of_parts=optimizer.sam_examples > 0,
        proximal=_proximal(run.base.robust),
        counted=_counted(run.base.robust),
        augment=augmentation.make(run.base.augmentation),
        rolled=_rolled(model),
    )


def start(run: config.Run, model: models.Model, examples: int) -> step.State:
    """Return a run's random start; takes what `build` does."""
    rates = optim.rates(scaled_optimizer(run))
    return step.init(build(run, model, examples), rates, run.seed)


def _proximal(robust: config.Robust) -> conservative.Proximal:
    iterations = robust.conservative_iterations if robust.conservative else 1
    return conservative.Proximal(robust.conservative, iterations)


def _counted(
    robust: config.Robust,
) -> (
    Callable[
        [perturbed.Forward, Any, gradient.Batch], tuple[jax.Array, perturbed.Passed]
    ]
    | None
):
    """Return the loss of a batch whose gradient counts, or None where it is the cross-entropy alone."""
    if robust.adversarial:
        return lambda forward, parameters, batch: perturbed.adversarial(
            *(forward, parameters, batch.inputs, batch.labels),
            size=robust.adversarial,
            share=robust.adversarial_share,
        )
    if robust.stability:
        return lambda forward, parameters, batch: perturbed.stable(
            *(forward, parameters, batch.inputs, batch.labels, batch.keys),
            noise=robust.stability_noise,
            weight=robust.stability,
        )
    return None


def _rolled(model: models.Model) -> bool:
    """Say whether a compiled loop is fast: on CPU not around convolutions, which then run in one thread (JAX #12868)."""
    return jax.default_backend() != "cpu" or not _convolutional(model)


def _convolutional(model: models.Model) -> bool:
    return any(leaf.ndim > 2 for leaf in _parameters(model))


def _parameters(model: models.Model) -> list[jax.ShapeDtypeStruct]:
    parameters, _ = _shapes(model)
    return jax.tree.leaves(parameters)


def _shapes(model: models.Model) -> tuple[Any, Any]:
    """Return the shapes of a network's parameters and of its statistics."""
    return jax.eval_shape(model.init, jax.random.key(0))
