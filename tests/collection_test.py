"""Several studies by one command: what is missing is computed, what is there is reused, what cannot be run is said."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from bsexp import collection, command, door, estimate, results
from bsexp.collection import open_members

TINY = """
from ml_collections import ConfigDict

def get_config(arg=""):
    config = ConfigDict()
    config.question = "Tiny?"
    config.seeds = 1
    config.data = {"train_size": 100}
    config.train = {"epochs": 1}
    config.batch = {"size": 50}
    config.groups = {"SB": {}, "LB": {"batch": {"size": "100%"}}}
    config.compare = ("SB", "LB")
    config.measure = {"probes": ("distance",), "modes": ("running",)}
    if arg == "absent":
        config.data.name = "nowhere"
    if arg == "wrong":
        config.seeds = 0
    if arg == "long":
        config.data = {"name": "mnist"}
    return config
"""
ALL = """
from ml_collections import ConfigDict

def get_config(arg=""):
    config = ConfigDict()
    config.question = "All?"
    config.studies = ("tiny", "tiny:absent")
    config.estimated = ("tiny:long",)
    return config
"""


@pytest.fixture
def experiments(tmp_path):
    folder = tmp_path / "experiments"
    folder.mkdir()
    (folder / "tiny.py").write_text(TINY)
    (folder / "all.py").write_text(ALL)
    return folder


def asked(experiments, *words):
    return command.parse([f"--config={experiments / 'all.py'}", *words])


def test_every_study_is_opened_before_the_first_one_starts(experiments, tmp_path):
    settings = command.load_settings(experiments / "all.py", "")
    members = open_members(settings, asked(experiments), tmp_path / "out")
    assert [each.name for each in members] == ["tiny", "tiny:absent", "tiny:long"]
    assert [each.folder.name for each in members] == [
        "tiny",
        "tiny-absent",
        "tiny-long",
    ]
    assert [each.plan is not None for each in members] == [True, False, False]
    assert members[1].reason.startswith("the data set nowhere is not prepared")
    assert "and the time below" in members[2].reason
    assert not (tmp_path / "out").exists()


def test_the_fields_of_every_study_are_printed(experiments, tmp_path):
    settings = command.load_settings(experiments / "all.py", "")
    printed = io.StringIO()
    words = asked(experiments, "--print_config")
    assert collection.lead(settings, words, tmp_path, Console(file=printed)) == 0
    said = printed.getvalue()
    assert said.index("tiny: to be computed") < said.index("config.data.train_size")
    assert said.count("config.train.epochs") == 1, "the others are not run here"


def test_all_errors_of_all_studies_are_told_at_once(experiments, tmp_path):
    settings = {"question": "?", "studies": ("tiny:wrong", "nothing"), "sudies": ()}
    overridden = asked(experiments, "--config.seeds=3")
    with pytest.raises(door.ConfigError) as caught:
        open_members(settings, overridden, tmp_path)
    errors = caught.value.errors
    assert errors[0].startswith("config.seeds=3: belongs to one study")
    assert errors[1] == "config.sudies: unknown field"
    assert errors[2] == "tiny:wrong: config.seeds=0: must be > 0"
    assert errors[3].startswith("nothing: --config=")
    assert len(errors) == 4


@pytest.mark.parametrize("names", ["tiny", ("sub/tiny",), (1,), ("",), {"tiny": 1}])
def test_what_names_no_experiments_is_told(experiments, tmp_path, names):
    for kind in ("studies", "estimated"):
        with pytest.raises(door.ConfigError) as caught:
            open_members({"question": "?", kind: names}, asked(experiments), tmp_path)
        assert caught.value.errors[0].startswith(f"config.{kind}=")


def test_a_collection_of_nothing_is_told(experiments, tmp_path):
    with pytest.raises(door.ConfigError, match=r"config\.studies=\(\): names no study"):
        open_members({"studies": ()}, asked(experiments), tmp_path)


def test_a_data_set_that_is_there_and_cannot_serve_is_told_by_the_door(
    experiments, tmp_path, monkeypatch
):
    folder = tmp_path / "data/nowhere/1.0.0"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text("{")
    (folder / "features.json").write_text("{")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    settings = {"question": "?", "studies": ("tiny:absent",)}
    with pytest.raises(
        door.ConfigError, match=r"tiny:absent: config\.data\.name=nowhere: "
    ):
        open_members(settings, asked(experiments), tmp_path)


@pytest.mark.slow
def test_a_folder_that_cannot_be_used_is_told(experiments, tmp_path, command_line):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/collection.json").write_text("{")
    for name in ("file", "broken"):
        done = command_line(
            f"--config={experiments / 'all.py'}", f"--workdir={tmp_path / name}"
        )
        assert done.returncode == 2
        assert name in done.stderr
        assert "Traceback" not in done.stderr


def test_several_processes_are_refused(experiments, tmp_path):
    place = ("--coordinator=here:1", "--processes=2", "--process=0")
    with pytest.raises(door.ConfigError, match="runs in one process"):
        open_members({"question": "?"}, asked(experiments, *place), tmp_path)


@pytest.mark.slow
def test_a_collection_is_computed_once_and_rebuilt_to_the_same_bytes(
    experiments, tmp_path, command_line
):
    out = tmp_path / "out"
    words = (f"--config={experiments / 'all.py'}", f"--workdir={out}")
    listed = command_line(*words, "--dry_run")
    assert listed.returncode == 0, listed.stderr
    assert "tiny: to be computed" in listed.stdout
    assert not out.exists()
    first = command_line(*words)
    assert first.returncode == 0, first.stderr
    assert "1 of 3 studies have results here." in first.stdout
    record = results.read_json(out / results.COLLECTION)
    estimates = {each["name"]: each["estimate"] for each in record["studies"]}
    assert estimates["tiny"] is None
    assert estimates["tiny:long"]["runs"] == 2
    assert str(tmp_path) not in str(results.read_json(out / "tiny/summary.json"))
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    # Its data set is gone: what was computed is shown as it is.
    (experiments / "tiny.py").write_text(
        TINY.replace('"train_size": 100', '"name": "gone"')
    )
    again = command_line(*words)
    assert again.returncode == 0, again.stderr
    assert "taken as it is" in again.stdout
    after = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert after == before


@pytest.mark.parametrize("argument", ["", "full", "smoke"])
def test_the_collection_of_the_paper_names_experiments_that_are_there(
    argument, tmp_path
):
    file = "experiments/keskar2017.py"
    settings = command.load_settings(
        command.parse([f"--config={file}"]).experiment, argument
    )
    found = command.parse([f"--config={file}:{argument}"])
    members = open_members(settings, found, tmp_path)
    assert len({each.folder for each in members}) == len(members) >= 4
    networks = {each.name for each in members if ":" in each.name}
    assert argument == "smoke" or networks >= {
        f"sharp_minima:{network}" for network in ("F1", "F2", "C1", "C2", "C3", "C4")
    }


def test_the_studies_of_the_paper_open_with_the_papers_sizes():
    for network, sizes in (("F2", [256, 72_133]), ("C4", [256, 5_000])):
        settings = command.load_settings(Path("experiments/sharp_minima.py"), network)
        plan = estimate.plan(settings)
        assert sorted({run.batch_size for run in plan.runs}) == sizes
