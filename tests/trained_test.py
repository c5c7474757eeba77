"""A run's network, loaded for work of one's own."""

import shutil

import jax.numpy as jnp
import numpy as np
import pytest
import studies
from training import cohorts  # noqa: F401 - names the network "tiny"

from bsexp import door, results, study, trained
from bsexp.data import examples


def small(mnist_dir, *overrides):
    chosen = {
        "data": {"train_size": 400, "dir": str(mnist_dir)},
        "train": {"epochs": 2, "checkpoint_every": 1},
        "batch": {"size": 20},
        "model": {"name": "tiny"},
        "seeds": 1,
        "measure": {"probes": ("evaluation",), "modes": ("running",)},
    }
    return door.open_study(chosen, overrides, study.catalogue())


@pytest.fixture(scope="module")
def run(mnist_dir, tmp_path_factory):
    """The folder of a small run."""
    plan = small(mnist_dir)
    folder = tmp_path_factory.mktemp("trained") / "study"
    assert studies.computed(plan, folder)[0] == 0
    (place,) = (folder / "runs").iterdir()
    return plan.runs[0], place


def test_a_loaded_network_answers_as_the_one_that_was_measured(
    run, mnist_dir, monkeypatch
):
    described, place = run
    monkeypatch.setenv("TFDS_DATA_DIR", str(mnist_dir))
    network = trained.load(place)
    test = examples.load(described.base.data).test
    right = np.argmax(network.logits(jnp.asarray(test.images)), axis=1) == test.labels
    measured = results.measurements(place)["evaluation/running"]["values"]
    assert right.mean() == pytest.approx(measured["test_accuracy"], abs=1e-9)
    assert measured["test_accuracy"] > 0.3, "a network that answers by chance has 0.1"


def test_a_run_whose_last_checkpoint_is_gone_is_not_loaded_as_an_earlier_one(
    run, mnist_dir, monkeypatch, tmp_path
):
    _, place = run
    monkeypatch.setenv("TFDS_DATA_DIR", str(mnist_dir))
    copy = tmp_path / place.name
    shutil.copytree(place, copy)
    last = max(results.checkpoint_steps(copy))
    shutil.rmtree(copy / "checkpoints" / str(last))
    assert results.has_weights(copy), "an earlier one is there"
    with pytest.raises(
        results.BrokenFileError, match=f"no whole checkpoint of its last step, {last}"
    ):
        trained.load(copy)
    with pytest.raises(door.ConfigError, match="no run is there"):
        trained.load(tmp_path)


@pytest.mark.parametrize("damaged", [1, 2])
def test_a_measured_run_whose_end_is_damaged_is_set_aside_before_it_is_trained_again(
    run, mnist_dir, tmp_path, damaged
):
    """What was measured at the old weights must not stand beside what is measured at the new ones."""
    described, place = run
    folder = tmp_path / "study"
    shutil.copytree(place.parent.parent, folder)
    here = folder / "runs" / place.name
    steps = sorted(results.checkpoint_steps(here), reverse=True)
    assert len(steps) == 2
    for step in steps[:damaged]:
        for file in (here / results.CHECKPOINTS / str(step)).rglob("*"):
            if file.is_file():
                file.write_bytes(b"")
    old = results.measurements(here)
    # A mark that no second measurement writes: two may take the same milliseconds.
    old["evaluation/running"]["seconds"] = -1.0
    results.write_points(here, {None: old})
    more = small(mnist_dir, ("measure.probes", "('evaluation', 'distance')"))
    code, said = studies.computed(more, folder)
    assert code == 0, said
    aside = here.with_name(f"{here.name}.before-0")
    assert f"the old results are in {aside}" in said
    assert results.measurements(aside) == old
    new = results.measurements(here)
    assert {*new} == {"evaluation/running", "distance_from_start"}
    assert new["evaluation/running"]["seconds"] >= 0, "it was measured once more"
    assert studies.computed(more, folder)[1].startswith(f"{folder}: nothing to compute")
    assert described.name == here.name
