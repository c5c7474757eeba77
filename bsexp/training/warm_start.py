"""Warm start: a run that begins where another one was."""

from typing import Any

from bsexp.training import step


def begun(recipe: step.Recipe, rates: dict[str, Any], donor: step.State) -> step.State:
    """Return the state before the first update of a run that begins with another's weights.

    Parameters and batch norm's running averages are taken over. The optimizer begins anew, and so do the counts of updates and
    examples, on which schedule, data order and random numbers depend: moments gathered with another batch size would be
    of another noise.

    Args:
        recipe: what trains the run.
        rates: its learning rate and weight decay.
        donor: state of the other run, which stays as it is.

    Source: Keskar et al. 2017, arXiv:1609.04836, Figure 5, which does not say what became of ADAM's moments.
    """
    return step.State(
        step=donor.step * 0,
        examples=donor.examples * 0,
        parameters=donor.parameters,
        statistics=donor.statistics,
        optimizer=recipe.optimizer.init(donor.parameters, rates),
        sums=step.no_sums(),
    )
