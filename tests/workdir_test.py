import dataclasses
import types

import pytest

from bsexp import config, door, items, renewal, results, workdir
from bsexp.probes import task

TASKS = [
    task.Task("point", {"examples": 5}, 1.0, lambda: None),
    task.Task("pair", {}, 1.0, lambda: None, pair=True),
]


def at_the_end(_run):
    return TASKS, []


def plan(**changes):
    study = dataclasses.replace(
        config.Study(seeds=2, compare=("SB", "LB"), groups={"SB": {}, "LB": {}}),
        **changes,
    )
    runs = [
        config.Run(group, seed, size, config.Base())
        for seed in range(2)
        for group, size in (("SB", 8), ("LB", 80))
    ]
    return door.Plan(study, tuple(runs))


def place(folder, **changes):
    return workdir.Workdir(folder, plan(**changes), "name", "command")


ENVIRONMENT = {"commit": None}
FOUND = task.Measurement({"m": 1.0}, {})


def test_pairs_are_measured_at_the_compared_run_against_the_baseline_of_its_seed():
    found = [
        (item.run.group, item.run.seed, item.task.name)
        for item in items.plan_items(plan(), at_the_end)
    ]
    assert [entry for entry in found if entry[2] == "pair"] == [
        ("LB", 0, "pair"),
        ("LB", 1, "pair"),
    ]
    assert len(found) == 6
    pair = next(item for item in items.plan_items(plan(), at_the_end) if item.task.pair)
    assert pair.settings == {"from": pair.baseline.name}
    assert (pair.baseline.group, pair.baseline.seed) == ("SB", 0)


def test_what_the_baseline_does_not_have_is_measured_in_the_other_groups_alone():
    others = [task.Task("others", {}, 1.0, lambda: None, baseline=False)]
    measure = config.Measure(along=config.Along(epochs=(1,)))

    def groups(**changes):
        chosen = plan(measure=measure, **changes)
        return {
            (item.run.group, item.epoch)
            for item in items.plan_items(chosen, lambda _run: (others, others))
        }

    assert groups() == {("LB", None), ("LB", 1)}
    both = {("SB", None), ("SB", 1)} | groups()
    assert groups(compare=()) == both, "without a comparison there is no baseline"


def test_a_measurement_is_missing_until_it_was_recorded_with_the_same_settings(
    tmp_path,
):
    here, wanted = place(tmp_path), items.plan_items(plan(), at_the_end)
    here.open(ENVIRONMENT)
    here.open_run(wanted[0].run, ENVIRONMENT)
    here.record(wanted[0], FOUND, 1.0)
    assert here.missing(wanted) == wanted[1:]
    other = dataclasses.replace(wanted[0], settings={"examples": 6})
    assert here.missing([other]) == [other]


def test_what_another_configuration_measured_is_put_aside_and_comes_back_with_it(
    tmp_path,
):
    here, (item, *_) = place(tmp_path), items.plan_items(plan(), at_the_end)
    other = dataclasses.replace(item, settings={"examples": 6})
    along = dataclasses.replace(item, epoch=3)
    here.open(ENVIRONMENT)
    here.open_run(item.run, ENVIRONMENT)
    folder = here.run_folder(item.run)
    for each in (item, along):
        here.record(each, FOUND, 1.0)
    both = results.points(folder)

    def shown():
        return {
            (epoch, name): record["settings"]["examples"]
            for epoch, records in results.points(folder).items()
            for name, record in records.items()
        }

    here.sort_out([item, along])
    assert (shown(), results.aside(folder)) == ({(None, "point"): 5, (3, "point"): 5}, [])  # fmt: skip
    here.sort_out([other])
    assert (shown(), len(results.aside(folder))) == ({}, 2)
    assert here.missing([item, along, other]) == [other]
    here.record(other, FOUND, 1.0)
    assert shown() == {(None, "point"): 6}
    here.sort_out([item, along])
    assert results.points(folder) == both
    assert [each["settings"] for each in results.aside(folder)] == [{"examples": 6}]
    assert here.missing([item, along, other]) == []


def test_a_folder_is_finished_only_for_the_study_that_finished_it(tmp_path):
    here = place(tmp_path)
    assert here.finished is None
    here.open(ENVIRONMENT)
    assert place(tmp_path).finished is None
    here.close(complete=True)
    assert place(tmp_path).finished is not None
    assert place(tmp_path, question="another?").finished is None
    assert (
        workdir.Workdir(
            tmp_path, plan(), "name", "the same, typed in another way"
        ).finished
        is not None
    )


def test_a_run_that_was_killed_before_it_said_that_it_is_done_is_done_when_nothing_is_missing(
    tmp_path,
):
    chosen, aimed = plan(), config.Base(train=config.Train(target=0.9))
    runs = tuple(dataclasses.replace(run, base=aimed) for run in chosen.runs)
    here = workdir.Workdir(tmp_path, door.Plan(chosen.study, runs), "name", "command")
    first, second, third, *_ = runs
    here.open(ENVIRONMENT)
    for run in (first, second, third):
        here.open_run(run, ENVIRONMENT)
    here.set_status(first, "trained")
    here.set_status(third, "interrupted", reason="a signal")
    here.set_status(second, "failed", reason="diverged")
    here.close(complete=False)
    assert here.status(first)["state"] == "trained"
    here.close(complete=True)
    assert (here.status(first)["state"], here.status(first)["target"]) == ("done", None)
    assert here.status(second)["state"] == "failed"
    assert here.status(third).items() >= {"state": "done"}.items()
    assert "reason" not in here.status(third)


def test_what_differs_from_the_last_use_is_told_field_by_field(tmp_path):
    here = place(tmp_path)
    assert here.differences() == []
    here.open(ENVIRONMENT)
    assert place(tmp_path).differences() == []
    assert place(tmp_path, data=config.Data(dir="moved")).differences() == []
    changed = place(tmp_path, train=config.Train(epochs=5), seeds=2).differences()
    assert changed[1:] == ["  config.train.epochs: was 20, is 5"]


def test_time_adds_up_over_sessions_until_the_study_is_finished(tmp_path):
    run = plan().runs[0]
    for _ in range(2):
        here = place(tmp_path)
        here.open(ENVIRONMENT)
        here.open_run(run, ENVIRONMENT)
        here.add_run_seconds(run, training=1.5)
    assert here.seconds()["training"] == 3.0
    here.close(complete=True)
    again = place(tmp_path)
    again.open(ENVIRONMENT)
    # What it lacks once more is a new computation, whose total is that of its runs.
    assert again.seconds() == {"total": 3.0, "training": 3.0, "measuring": 0.0}


def test_another_study_begins_with_the_time_of_the_runs_that_it_finds(tmp_path):
    """More seeds, say; what another study's folder gave was not spent here."""
    first, second, *_ = plan().runs
    here = place(tmp_path)
    here.open(ENVIRONMENT)
    here.open_run(first, ENVIRONMENT)
    here.open_run(second, {**ENVIRONMENT, "trained_by": "elsewhere"})
    for run in (first, second):
        here.add_run_seconds(run, training=1.5)
        here.add_run_seconds(run, measuring=0.5)
    here.close(complete=True)
    again = place(tmp_path, question="another?")
    again.open(ENVIRONMENT)
    assert again.seconds() == {"total": 2.5, "training": 1.5, "measuring": 1.0}


def test_a_session_that_is_killed_has_counted_its_total_as_far_as_its_parts(
    tmp_path, monkeypatch
):
    """Each part moves the total up to its own end: there is no more to add when the session ends."""
    moments = iter((10.0, 25.0))
    monkeypatch.setattr(workdir.bsexp, "STARTED", 2.0)
    clock = types.SimpleNamespace(perf_counter=lambda: next(moments))
    monkeypatch.setattr(workdir, "time", clock)
    run, here = plan().runs[0], place(tmp_path)
    here.open(ENVIRONMENT)
    here.open_run(run, ENVIRONMENT)
    here.add_run_seconds(run, training=7.0)
    assert here.seconds() == {"total": 8.0, "training": 7.0, "measuring": 0.0}
    here.add_run_seconds(run, measuring=15.0)
    assert here.seconds() == {"total": 23.0, "training": 7.0, "measuring": 15.0}


def test_a_study_after_another_in_one_program_does_not_count_its_time(
    tmp_path, monkeypatch
):
    clock = types.SimpleNamespace(perf_counter=lambda: 50.0)
    monkeypatch.setattr(workdir, "time", clock)
    here = workdir.Workdir(tmp_path, plan(), "name", "command", began=40.0)
    here.open(ENVIRONMENT)
    here.add_seconds()
    assert here.seconds()["total"] == 10.0


def test_one_process_works_in_a_folder_at_a_time(tmp_path):
    with workdir.locked(tmp_path):
        second = workdir.locked(tmp_path)
        with pytest.raises(workdir.FolderError, match="another process"):
            second.__enter__()
    with workdir.locked(tmp_path):
        pass


def test_published_values_stand_only_beside_the_same_data_and_network(tmp_path):
    values = {"SB": {"test_accuracy": (0.98, 0.01)}}

    def written(**of):
        place(tmp_path, reference=config.Reference(**of, values=values)).open(
            ENVIRONMENT
        )
        return results.read_json(tmp_path / "study.json")["reference"]

    assert written(data="mnist", model="F1") == {"SB": {"test_accuracy": [0.98, 0.01]}}
    assert written(data="cifar10", model="F1") == {}
    assert written(data="mnist", model="C1") == {}
    chosen = plan(reference=config.Reference(data="mnist", model="F1", values=values))
    for other in ({"train_size": 1_000}, {"validation_size": 1}, {"label_noise": 0.1}):
        base = config.Base(data=config.Data(**other))
        runs = tuple(dataclasses.replace(run, base=base) for run in chosen.runs)
        part = dataclasses.replace(chosen, runs=runs)
        workdir.Workdir(tmp_path, part, "name", "command").open(ENVIRONMENT)
        assert results.read_json(tmp_path / "study.json")["reference"] == {}, other


def test_a_study_that_only_says_something_else_keeps_the_time_at_which_it_was_finished(
    tmp_path,
):
    here = place(tmp_path)
    here.open(ENVIRONMENT)
    here.close(complete=True)
    file = tmp_path / "study.json"
    results.write_json(file, {**results.read_json(file), "finished": "long ago"})
    place(tmp_path, question="asked in other words?").close(complete=True)
    written = results.read_json(file)
    assert (written["question"], written["finished"]) == (
        "asked in other words?",
        "long ago",
    )


def measure_everything(here, wanted):
    for item in wanted:
        here.open_run(item.run, ENVIRONMENT)
        here.record(item, FOUND, 1.0)


def with_weights(here, *runs):
    for run in runs:
        (here.run_folder(run) / "checkpoints" / "45").mkdir(parents=True)


def test_a_run_whose_weights_are_gone_is_not_mixed_with_a_new_training_of_it(tmp_path):
    here, wanted = place(tmp_path), items.plan_items(plan(), at_the_end)
    measure_everything(here, wanted)
    assert renewal.renew(here, wanted) == [], (
        "nothing is missing, so nothing is trained, so the weights are not needed"
    )
    changed = [
        dataclasses.replace(item, settings={"examples": 6})
        if item == wanted[0]
        else item
        for item in wanted
    ]
    told = renewal.renew(here, changed)
    # The baseline of seed 0 is trained again, so its pair is as well; seed 1 stays.
    assert len(told) == 2
    again = {item.run.seed for item in here.missing(changed)}
    assert again == {0}
    assert len(here.missing(changed)) == 3
    kept = sorted(
        path.name for path in (tmp_path / "runs").iterdir() if "before" in path.name
    )
    assert len(kept) == 2
    assert results.measurements(tmp_path / "runs" / kept[0])


def test_a_pair_is_measured_again_when_its_baseline_is(tmp_path):
    here, wanted = place(tmp_path), items.plan_items(plan(), at_the_end)
    measure_everything(here, wanted)
    compared = next(item.run for item in wanted if item.task.pair)
    with_weights(here, compared)
    changed = [
        dataclasses.replace(item, settings={"examples": 6})
        if item == wanted[0]
        else item
        for item in wanted
    ]
    assert len(renewal.renew(here, changed)) == 1
    missing = [(item.run.group, item.task.name) for item in here.missing(changed)]
    assert missing == [("SB", "point"), ("LB", "pair")]


def test_a_runs_evidence_says_what_is_otherwise_in_later_sessions(tmp_path):
    here, (run, *_) = place(tmp_path), plan().runs
    file = here.run_folder(run) / "env.json"
    here.open(ENVIRONMENT)
    first = {"commit": "a", "devices": ["cpu:0 cpu"], "mesh": {"data": 1}}
    elsewhere = {**first, "devices": ["cuda:0 H200"]}
    for environment in (first, first, elsewhere, {"commit": "a"}, elsewhere, first):
        here.open_run(run, environment)
        here.add_run_seconds(run, training=1.0)
    found = results.read_json(file)
    assert {key: found[key] for key in first} == first
    assert found["seconds"]["training"] == 6
    later = [{**each, "time": None} for each in found["later"]]
    assert later == [
        {"time": None, "devices": elsewhere["devices"]},
        {"time": None, "devices": first["devices"]},
    ]


def test_a_run_is_set_aside_under_the_first_name_that_is_free(tmp_path):
    (run, *_), here = plan().runs, place(tmp_path)
    folder = here.run_folder(run)
    for number, there in ((0, {1}), (2, {0, 1})):
        here.open_run(run, ENVIRONMENT)
        for each in there:
            other = folder.with_name(f"{folder.name}.before-{each}")
            other.mkdir(exist_ok=True)
            (other / "kept").touch()
        assert renewal._set_aside(here, run).endswith(f".before-{number}")


def test_a_run_with_its_weights_is_only_measured(tmp_path):
    here, wanted = place(tmp_path), items.plan_items(plan(), at_the_end)
    measure_everything(here, wanted)
    with_weights(here, *plan().runs)
    changed = [
        dataclasses.replace(item, settings={"examples": 6})
        if item == wanted[0]
        else item
        for item in wanted
    ]
    assert renewal.renew(here, changed) == []
    assert here.missing(changed) == [changed[0]]


def test_a_kill_between_the_two_files_of_a_study_costs_nothing(tmp_path):
    here = place(tmp_path)
    here.open(ENVIRONMENT)
    (tmp_path / "env.json").unlink()
    again = place(tmp_path)
    again.open(ENVIRONMENT)
    assert again.seconds() == {"total": 0.0, "training": 0.0, "measuring": 0.0}


@pytest.mark.parametrize("content", ["[1]", '{"a": 1}', "{"])
def test_a_study_file_that_is_something_else_is_named(tmp_path, content):
    (tmp_path / "study.json").write_text(content)
    with pytest.raises(results.BrokenFileError, match=r"study\.json is not"):
        place(tmp_path)


def along(*epochs):
    chosen = config.Measure(along=config.Along(epochs=epochs))
    return items.plan_items(plan(measure=chosen), lambda _run: (TASKS[:1], TASKS[:1]))


def trained(here, run, epochs, *kept, state="done"):
    """Let a run have trained some epochs of ten steps, with snapshots after some of them."""
    here.open_run(run, ENVIRONMENT)
    here.set_status(run, state)
    folder = here.run_folder(run)
    rows = [{"epoch": i + 1, "step": 10 * (i + 1)} for i in range(epochs)]
    results.write_rows(folder / "metrics.jsonl", rows)
    (folder / "checkpoints" / str(10 * epochs)).mkdir(parents=True)
    for epoch in kept:
        (folder / "snapshots" / str(epoch)).mkdir(parents=True)


def of_first(found):
    return [item for item in found if item.run == found[0].run]


def test_points_along_training_are_measured_after_the_end_in_their_order():
    found = [(item.task.name, item.epoch) for item in of_first(along(3, 0))]
    assert found == [("point", None), ("point", 0), ("point", 3)]


def test_each_point_has_measurements_of_its_own(tmp_path):
    here, wanted = place(tmp_path), of_first(along(0, 3))
    here.open_run(wanted[0].run, ENVIRONMENT)
    here.record(wanted[1], FOUND, 1.0)
    assert here.missing(wanted) == [wanted[0], wanted[2]]
    here.record(wanted[0], task.Measurement({"m": 5.0}, {}), 1.0)
    here.record(wanted[2], task.Measurement({"m": 7.0}, {}), 1.0)
    points = results.points(here.run_folder(wanted[0].run))
    values = {epoch: point["point"]["values"]["m"] for epoch, point in points.items()}
    assert values == {None: 5.0, 0: 1.0, 3: 7.0}


def test_a_study_without_epochs_writes_the_same_file_as_ever(tmp_path):
    here, wanted = place(tmp_path), of_first(along())
    here.open_run(wanted[0].run, ENVIRONMENT)
    here.record(wanted[0], FOUND, 1.0)
    file = here.run_folder(wanted[0].run) / "measurements.json"
    assert list(results.read_json(file)) == ["schema", "measurements"]


@pytest.mark.parametrize(
    ("asked", "kept", "aside"),
    [
        ((0, 2), (), True),  # 0 is computed anew, 2 is gone
        ((0, 2), (2,), False),
        ((0,), (), False),
        ((2, 3), (2,), True),
        ((9,), (), False),  # it ended before
    ],
)
def test_an_epoch_that_was_not_kept_has_its_run_computed_again(
    tmp_path, asked, kept, aside
):
    here, wanted = place(tmp_path), along(*asked)
    run = wanted[0].run
    trained(here, run, 4, *kept)
    here.record(wanted[0], FOUND, 1.0)
    told = renewal.renew(here, wanted)
    assert [line.split(":")[0] for line in told] == [run.name] * aside
    if aside:
        assert results.points(here.run_folder(run)) == {None: {}}


def test_a_run_that_is_not_past_the_epoch_goes_on(tmp_path):
    """It was killed after the row of epoch 4 and before its checkpoint: epoch 4 is trained again."""
    here, wanted = place(tmp_path), along(4)
    trained(here, wanted[0].run, 3, state="training")
    folder = here.run_folder(wanted[0].run)
    results.append_row(folder / "metrics.jsonl", {"epoch": 4, "step": 40})
    assert renewal.renew(here, wanted) == []
    (folder / "checkpoints" / "40").mkdir()
    assert len(renewal.renew(here, wanted)) == 1


def test_a_run_that_ended_early_lacks_nothing_after_its_end(tmp_path):
    here, wanted = place(tmp_path), of_first(along(2, 9))
    trained(here, wanted[0].run, 4, 2, state="trained")
    assert [item.epoch for item in here.missing(wanted)] == [None, 2]
    here.set_status(wanted[0].run, "interrupted")
    assert [item.epoch for item in here.missing(wanted)] == [None, 2, 9]


def test_a_folder_that_is_older_than_a_field_had_its_default(tmp_path):
    place(tmp_path).open(ENVIRONMENT)
    file = tmp_path / "study.json"
    written = results.read_json(file)
    del written["config"]["measure"]["along"]
    results.write_json(file, written)
    assert place(tmp_path).differences() == []
    chosen = config.Measure(along=config.Along(epochs=(1,)))
    assert len(place(tmp_path, measure=chosen).differences()) == 2


def test_a_measured_run_that_has_lost_its_last_checkpoint_does_not_go_on_from_an_older_one(
    tmp_path,
):
    """It would end at other weights, perhaps, beside what was measured at the old ones."""
    here, (item, *_) = place(tmp_path), items.plan_items(plan(), at_the_end)
    trained(here, item.run, 4)
    here.record(item, FOUND, 1.0)
    more = [dataclasses.replace(item, settings={"examples": 6})]
    assert renewal.renew(here, more) == []
    checkpoints = here.run_folder(item.run) / "checkpoints"
    (checkpoints / "40").rename(checkpoints / "30")
    assert len(renewal.renew(here, more)) == 1
