"""Measuring along training, from the configuration to the report, against runs that end at the same epochs."""

import pytest
import studies

from bsexp import door, results, study

# Few examples and cheap probes.
SETTINGS = {
    "data": {"train_size": 400},
    "batch": {"size": 100},
    "seeds": 2,
    "measure": {
        "probes": ("evaluation",),
        "modes": ("batch",),
        "statistics_batch": 200,
        "hessian": {"examples": 200},
    },
}
PROBES = ("update", "distance")


def settings(mnist_dir, epochs, **measure):
    return SETTINGS | {
        "data": {**SETTINGS["data"], "dir": str(mnist_dir)},
        "train": {"epochs": epochs, "checkpoint_every": 1},
        "measure": SETTINGS["measure"] | measure,
    }


def computed(chosen, folder):
    """Compute a study, and return its exit code and what it said."""
    plan = door.open_study(chosen, [], study.catalogue())
    return studies.computed(plan, folder)


def along(*epochs):
    return {"along": {"epochs": epochs, "probes": PROBES}}


def by_point(folder):
    frame = results.load(folder)
    frame["epoch"] = frame["epoch"].fillna(-1)
    return frame.set_index(["seed", "epoch", "measure"])["value"]


@pytest.fixture(scope="module")
def longer(mnist_dir, tmp_path_factory):
    """Two runs of two epochs, measured at the start and after the first."""
    folder = tmp_path_factory.mktemp("longer") / "study"
    assert computed(settings(mnist_dir, 2, **along(0, 1)), folder)[0] == 0
    return folder


def test_a_point_along_training_is_measured_as_the_end_of_a_shorter_run_is(
    longer, mnist_dir, tmp_path
):
    chosen = settings(mnist_dir, 1, probes=PROBES)
    assert computed(chosen, tmp_path / "study")[0] == 0
    found, expected = by_point(longer), by_point(tmp_path / "study")
    assert len(expected) == 10
    for (seed, _, measure), value in expected.items():
        assert found[seed, 1, measure] == value, (seed, measure)


def test_the_same_command_finds_nothing_to_compute(longer, mnist_dir):
    code, said = computed(settings(mnist_dir, 2, **along(0, 1)), longer)
    assert code == 0
    assert "nothing to compute" in said


def test_the_run_is_named_and_trained_as_without_it(longer, mnist_dir, tmp_path):
    code, _ = computed(settings(mnist_dir, 2), tmp_path / "study")
    assert code == 0
    plain, kept = (
        sorted((each / "runs").iterdir()) for each in (tmp_path / "study", longer)
    )
    assert [each.name for each in plain] == [each.name for each in kept]
    assert not (plain[0] / "snapshots").exists()
    found, expected = by_point(longer), by_point(tmp_path / "study")
    for key, value in expected.items():
        assert found[key] == value
    assert "along" not in results.read_json(tmp_path / "study" / "summary.json")


@pytest.mark.slow
def test_what_is_kept_is_measured_again_and_what_is_not_is_trained_again(
    mnist_dir, tmp_path
):
    folder = tmp_path / "study"
    computed(settings(mnist_dir, 3, **along(1)) | {"seeds": 1}, folder)
    (run,) = (folder / "runs").iterdir()
    more = {"along": {"epochs": (0, 1), "probes": (*PROBES, "evaluation")}}
    _, said = computed(settings(mnist_dir, 3, **more) | {"seeds": 1}, folder)
    assert "computed again" not in said
    assert list(results.points(run)) == [None, 0, 1]
    assert "evaluation/batch" in results.points(run)[1]
    code, said = computed(settings(mnist_dir, 3, **along(1, 2)) | {"seeds": 1}, folder)
    assert code == 0
    assert f"{run.name}: weights that are needed are not here any more" in said
    assert results.kept_epochs(run) == [1, 2]
    assert list(results.points(run)) == [None, 1, 2]


def test_a_run_that_ends_early_is_complete_without_the_later_points(
    mnist_dir, tmp_path
):
    chosen = settings(mnist_dir, 3, **along(1, 3)) | {"seeds": 1}
    chosen["train"] |= {"target": 0.01, "stop_at_target": True}
    folder = tmp_path / "study"
    code, _ = computed(chosen, folder)
    assert code == 0
    assert results.read_json(folder / "study.json")["finished"]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert (
        "ended before epoch 3, the last after which it was to be measured: seed 0 after 1."
        in page.replace("\n", " ")
    )
    assert "This report is incomplete" not in page
    assert "nothing to compute" in computed(chosen, folder)[1]


@pytest.mark.slow
def test_a_damaged_snapshot_is_told_and_the_next_command_trains_its_run_again(
    mnist_dir, tmp_path
):
    chosen = settings(mnist_dir, 2, **along(1)) | {"seeds": 1}
    folder = tmp_path / "study"
    computed(chosen, folder)
    (run,) = (folder / "runs").iterdir()
    for file in (run / "snapshots" / "1").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    points = results.points(run)
    results.write_points(run, {None: points[None]})
    code, said = computed(chosen, folder)
    assert code == 1
    assert (
        "base seed 0 has no whole snapshot of epoch 1; the command that trained it computes it again"
        in said.replace("\n", " ")
    )
    code, _ = computed(chosen, folder)
    assert code == 0
    again = results.points(run)
    assert values(again) == values(points)


def values(points):
    return {
        (epoch, name): record["values"]
        for epoch, records in points.items()
        for name, record in records.items()
    }
