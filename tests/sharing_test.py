"""Equal runs of the studies of one collection are trained once; anywhere else a new folder computes all."""

import shutil

import pytest

from bsexp import command, door, results, sharing, study, workdir

TINY = """
from ml_collections import ConfigDict

def get_config(arg=""):
    config = ConfigDict()
    config.question = "Tiny?"
    config.seeds = 1
    config.data = {"train_size": 100}
    config.train = {"epochs": 2}
    config.batch = {"size": 50}
    config.groups = {"SB": {}, "LB": {"batch": {"size": "100%"}}}
    config.compare = ("SB", "LB")
    probes = ("distance",) if arg == "" else ("evaluation",)
    config.measure = {"probes": probes, "modes": ("running",)}
    if arg in ("along", "again"):
        config.measure.along = {"epochs": (1,), "probes": ("evaluation",)}
    if arg == "warm":
        start = {"group": "SB", "epoch": 1}
        config.groups = {"SB": {}, "warm": {"start": start}}
        config.compare = ("SB", "warm")
    return config
"""
ALL = """
from ml_collections import ConfigDict

def get_config(arg=""):
    config = ConfigDict()
    config.question = "All?"
    config.studies = ("tiny", "tiny:more", "tiny:along", "tiny:again", "tiny:warm")
    return config
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def experiments(tmp_path_factory):
    folder = tmp_path_factory.mktemp("experiments")
    (folder / "tiny.py").write_text(TINY)
    (folder / "all.py").write_text(ALL)
    return folder


@pytest.fixture(scope="module")
def computed(experiments, tmp_path_factory, command_line):
    """The collection's folder, and what its command printed."""
    out = tmp_path_factory.mktemp("out")
    done = command_line(f"--config={experiments / 'all.py'}", f"--workdir={out}")
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def run_folder(study_folder, group):
    listed = results.read_json(study_folder / "study.json", "runs")["runs"]
    (name,) = {each["run"] for each in listed if each["group"] == group}
    return study_folder / "runs" / name


def losses(folder):
    rows = results.read_rows(folder / results.CURVES)
    return [row["train_loss"] for row in rows]


def values(folder, epoch=None):
    found = results.points(folder)[epoch]
    return {name: record["values"] for name, record in found.items()}


def test_equal_runs_are_trained_once_and_the_line_says_by_which_study(computed):
    out, said = computed
    taken = [line for line in said.splitlines() if "taken over from" in line]
    assert [line.partition(",")[0] for line in taken] == [
        "SB seed 0: trained by tiny already",
        "LB seed 0: trained by tiny already",
        "SB seed 0: trained by tiny-along already",
        "LB seed 0: trained by tiny-along already",
        "SB seed 0: trained by tiny-along already",
    ], "tiny:along needs states after epoch 1, which tiny has not kept"
    for group in ("SB", "LB"):
        trained, taken_over, other = (
            run_folder(out / name, group)
            for name in ("tiny", "tiny-more", "tiny-along")
        )
        curves = (trained / results.CURVES).read_bytes()
        assert (taken_over / results.CURVES).read_bytes() == curves
        # Its seconds are others: it was trained again, to the same numbers.
        assert (other / results.CURVES).read_bytes() != curves
        assert losses(other) == losses(trained)
        evidence = results.read_json(taken_over / "env.json", "trained_by")
        assert evidence["trained_by"] == "tiny"
        assert evidence["seconds"]["measuring"] > 0
        assert not list(taken_over.parent.glob("*.partial"))


def test_what_is_measured_at_a_run_taken_over_is_what_is_measured_at_one_trained(
    computed, experiments, tmp_path, command_line
):
    out, _ = computed
    words = (f"--config={experiments / 'tiny.py'}:along", f"--workdir={tmp_path / 's'}")
    alone = command_line(*words)
    assert alone.returncode == 0, alone.stderr
    assert "taken over" not in alone.stdout
    for group in ("SB", "LB"):
        for epoch in (1, None):
            found = values(run_folder(tmp_path / "s", group), epoch)
            assert found
            assert found == values(run_folder(out / "tiny-again", group), epoch)
        assert values(run_folder(out / "tiny-more", group)) == found


def test_a_run_goes_on_from_a_snapshot_that_came_with_the_run_taken_over(computed):
    out, _ = computed
    start = results.read_json(run_folder(out / "tiny-warm", "warm") / "config.json")
    donor = run_folder(out / "tiny-warm", "SB")
    assert start["start"] == {"run": donor.name, "epoch": 1}
    assert results.kept_epochs(donor) == [1]


def opened(folder, experiments, argument):
    settings = command.load_settings(experiments / "tiny.py", argument)
    plan = door.open_study(settings, (), study.catalogue())
    return workdir.Workdir(folder, plan, "tiny", ""), plan


def taken(folder, experiments, argument=""):
    place, plan = opened(folder, experiments, argument)
    return [line[:2] for line in sharing.take_over(place, plan, plan.runs)]


def test_only_a_folder_of_the_collection_takes_over_and_only_whole_runs(
    computed, experiments, tmp_path
):
    root = tmp_path / "copy"
    shutil.copytree(computed[0], root)
    for name in ("tiny-more", "tiny-along", "tiny-again", "tiny-warm"):
        shutil.rmtree(root / name)
    assert taken(root / "tiny", experiments) == [], "they have begun here"
    assert taken(root / "along", experiments, "along") == [], "epoch 1 was not kept"
    source = run_folder(root / "tiny", "SB")
    results.write_json(source / "status.json", {"state": "interrupted"})
    assert taken(root / "one", experiments) == ["LB"], "SB had not ended"
    shutil.rmtree(run_folder(root / "tiny", "LB") / "checkpoints")
    assert taken(root / "two", experiments) == [], "LB's weights are gone"
    results.write_json(source / "status.json", {"state": "done"})
    (root / results.COLLECTION).rename(root / "elsewhere.json")
    assert taken(root / "three", experiments) == [], "no collection"


def test_a_run_that_was_set_aside_is_computed_again_and_not_taken_over_again(
    computed, experiments, tmp_path
):
    """Its copy was damaged, say, and so may be what it was copied from."""
    root = tmp_path / "copy"
    shutil.copytree(computed[0], root)
    target = run_folder(root / "tiny-more", "SB")
    target.rename(target.with_name(f"{target.name}.before-0"))
    assert taken(root / "tiny-more", experiments, "more") == []


def test_a_run_that_was_taken_over_twice_names_the_study_that_trained_it(
    computed, experiments, tmp_path
):
    root = tmp_path / "copy"
    shutil.copytree(computed[0], root)
    shutil.rmtree(root / "tiny")
    for name in ("tiny-along", "tiny-again", "tiny-warm"):
        shutil.rmtree(root / name)
    place, plan = opened(root / "fresh", experiments, "")
    lines = list(sharing.take_over(place, plan, plan.runs))
    assert ["trained by tiny already" in line for line in lines] == [True, True]
    evidence = results.read_json(place.run_folder(plan.runs[0]) / "env.json")
    assert evidence["trained_by"] == "tiny"


def test_a_run_that_begins_with_another_is_trained_where_that_one_is(
    computed, experiments, tmp_path
):
    root = tmp_path / "copy"
    shutil.copytree(computed[0], root)
    assert taken(root / "warmer", experiments, "warm") == ["SB"]


def test_a_copy_that_was_cut_off_is_made_again(computed, experiments, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(computed[0], root)
    target = run_folder(root / "tiny-more", "SB")
    target.rename(target.with_name(f"{target.name}.partial"))
    assert taken(root / "tiny-more", experiments, "more") == ["SB"]
    assert not list(target.parent.glob("*.partial"))
    assert losses(target) == losses(run_folder(root / "tiny", "SB"))
