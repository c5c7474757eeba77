"""A data set that another one takes the name of: its numbers are not called those of the first."""

import io

import numpy as np
import pytest
import studies
from rich.console import Console
from training import cohorts  # noqa: F401 - names the network "tiny"

from bsexp import door, dry_run, results, sharing, study, workdir
from bsexp.data.preparation import arrays


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """Folders that hold "mine": "here" and "copy" the same examples, "other" other ones."""
    folder = tmp_path_factory.mktemp("data")
    for name, seed in (("here", 0), ("copy", 0), ("other", 1)):
        draw = np.random.default_rng(seed)
        content = {
            f"{split}_{kind}": draw.integers(0, most, (size, *shape)).astype(np.uint8)
            for split, size in (("train", 60), ("test", 20))
            for kind, most, shape in (("images", 256, (6, 6, 1)), ("labels", 3, ()))
        }
        file = folder / f"{name}.npz"
        np.savez(file, **content)
        arrays.prepare("mine", file, folder / name)
    return folder


def plan(root):
    chosen = {
        "data": {"name": "mine", "dir": str(root)},
        "model": {"name": "tiny"},
        "batch": {"size": 20},
        "train": {"epochs": 1},
        "seeds": 1,
        "measure": {"probes": ("evaluation",), "modes": ("running",)},
    }
    return door.open_study(chosen, (), study.catalogue())


@pytest.fixture(scope="module")
def computed(roots, tmp_path_factory):
    """A collection's folder with one study in it, of the data "here"."""
    out = tmp_path_factory.mktemp("out")
    assert studies.computed(plan(roots / "here"), out / "first")[0] == 0
    listed = [{"folder": "first"}, {"folder": "second"}]
    results.write_json(out / results.COLLECTION, {"studies": listed})
    return out


def test_runs_of_other_data_of_the_name_are_not_reused(roots, computed):
    other, folder = plan(roots / "other"), computed / "first"
    (run,) = other.runs
    assert run.name == plan(roots / "here").runs[0].name
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    said = rf"config.data.name=mine: {folder}/runs/\S+ was computed with other data"
    with pytest.raises(door.ConfigError, match=said):
        studies.computed(other, folder)
    with pytest.raises(door.ConfigError, match=said):
        dry_run.show(other, folder, Console(file=io.StringIO()))
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert after == before


def test_one_name_means_the_same_data_in_all_groups_of_a_study(roots, tmp_path):
    """Or the runs of one would be called those of the other's data, and be reused as such."""

    def chosen(first, second):
        groups = {
            name: {"data": {"dir": str(roots / root)}, "batch": {"size": size}}
            for name, root, size in (("a", first, 20), ("b", second, 30))
        }
        base = {"data": {"name": "mine"}, "model": {"name": "tiny"}, "groups": groups}
        return door.open_study(base, (), study.catalogue())

    assert study.data_sets(chosen("here", "copy")).keys() == {"mine"}
    said = r"config\.data\.dir=\S+other: holds other data under the name mine"
    with pytest.raises(door.ConfigError, match=said):
        studies.computed(chosen("here", "other"), tmp_path / "study")
    assert not list(tmp_path.glob("study/runs"))


def test_the_same_data_elsewhere_are_the_same(roots, computed):
    code, said = studies.computed(plan(roots / "copy"), computed / "first")
    assert code == 0
    assert "nothing to compute" in said


def test_what_is_not_written_down_is_not_missed(roots, tmp_path):
    """Folders that are older than the digest, and broken ones, which the report names."""
    place = workdir.Workdir(tmp_path, plan(roots / "other"), "name", "command")
    found = study.data_sets(plan(roots / "other"))
    (run,) = plan(roots / "other").runs
    place.run_folder(run).mkdir(parents=True)
    for content in ('{"data": {"mine": {"version": "1.0.0"}}}', "{", "[]", "{}"):
        (place.run_folder(run) / "env.json").write_text(content)
        place.check_data(found)


@pytest.mark.parametrize(("root", "number"), [("other", 0), ("copy", 1)])
def test_only_a_run_of_the_same_data_is_taken_over(roots, computed, root, number):
    wanted = plan(roots / root)
    place = workdir.Workdir(computed / "second", wanted, "name", "command")
    assert len(list(sharing.take_over(place, wanted, wanted.runs))) == number


def test_what_another_study_has_measured_is_no_time_of_the_one_that_takes_over(
    roots, computed
):
    wanted = plan(roots / "here")
    place = workdir.Workdir(computed / "third", wanted, "name", "command")
    assert len(list(sharing.take_over(place, wanted, wanted.runs))) == 1
    (run,) = wanted.runs
    seconds = results.read_json(place.run_folder(run) / "env.json")["seconds"]
    assert seconds["training"] > 0
    assert seconds["measuring"] == 0
