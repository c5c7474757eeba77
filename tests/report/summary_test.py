"""The summary against numbers worked out by hand, and the answer in every outcome."""

import json
import math

import pytest
from scipy import stats

from bsexp import results
from bsexp.report import folder, summary, tables

SHARP = "sharpness/full/1e-3/running"


def test_mean_std_n_of_a_measure_are_the_sample_statistics_in_seed_order(study):
    study.measure("test_accuracy", "SB", {0: 0.90, 1: 0.94, 2: 0.92})
    entry = summary.summarise(study.path)["groups"]["SB"]["test_accuracy"]
    assert entry["mean"] == pytest.approx(0.92)
    assert entry["std"] == pytest.approx(
        0.02
    )  # ddof = 1; the population's would be 0.0163
    assert entry["n"] == 3
    assert entry["values"] == [0.90, 0.94, 0.92]
    assert entry["seeds"] == [0, 1, 2]
    assert entry["paper"] == {"mean": 0.9803, "std": 0.0007}


def test_values_are_ordered_by_seed_whatever_the_order_of_the_runs(study):
    runs = results.read_json(study.path / "study.json")["runs"]
    study.study(runs=runs[::-1])
    study.measure("test_accuracy", "SB", {0: 0.1, 1: 0.2, 2: 0.3})
    values = summary.summarise(study.path)["groups"]["SB"]["test_accuracy"]["values"]
    assert values == [0.1, 0.2, 0.3]


def test_a_null_value_is_kept_but_not_counted(study):
    study.measure(SHARP, "LB", {0: 10.0, 1: None, 2: 30.0})
    entry = summary.summarise(study.path)["groups"]["LB"][SHARP]
    assert (entry["mean"], entry["n"]) == (20.0, 2)
    assert math.isnan(entry["values"][1])
    ratio = summary.summarise(study.path)["pairs"]["LB/SB"][f"ratio/{SHARP}"]
    assert ratio["n"] == 2


def test_one_seed_has_no_std(make):
    entry = summary.summarise(make(1).path)["groups"]["SB"]["test_accuracy"]
    assert entry["n"] == 1
    assert math.isnan(entry["std"])


def test_ratio_is_compared_over_baseline_and_gap_is_baseline_minus_compared(study):
    study.measure(SHARP, "SB", {0: 1.0, 1: 2.0, 2: 4.0})
    study.measure(SHARP, "LB", {0: 10.0, 1: 40.0, 2: 120.0})
    pair = summary.summarise(study.path)["pairs"]["LB/SB"]
    assert pair["seeds"] == [0, 1, 2]
    assert pair[f"ratio/{SHARP}"]["values"] == [10.0, 20.0, 30.0]
    assert pair["ratio/distance_from_start"]["mean"] == 1.0
    assert pair["gap/test_accuracy"]["mean"] == pytest.approx(0.01)
    assert "ratio/test_accuracy" not in pair
    assert "gap/distance_from_start" not in pair


def test_pairs_match_seeds_and_one_without_a_partner_has_no_ratio(study):
    (study.run("SB", 1) / "measurements.json").unlink()
    study.measure(SHARP, "SB", {0: 1.0, 2: 4.0})
    study.measure(SHARP, "LB", {0: 10.0, 1: 77.0, 2: 120.0})
    pair = summary.summarise(study.path)["pairs"]["LB/SB"]
    assert pair["seeds"] == [0, 1, 2]
    ratio = pair[f"ratio/{SHARP}"]
    assert ratio["values"][::2] == [10.0, 30.0]
    assert math.isnan(ratio["values"][1])
    assert ratio["n"] == 2
    assert math.isnan(pair["gap/test_accuracy"]["values"][1])


def test_a_seed_that_diverged_is_not_passed_over_in_silence(study):
    """Diverging is an outcome of a batch size, and what the other seeds have is not what every seed has."""
    study.measure(SHARP, "SB", dict.fromkeys(range(3), 1.0))
    study.measure(SHARP, "LB", dict.fromkeys(range(3), 8.0))

    def fail(seed, **status):
        (study.run("LB", seed) / "measurements.json").unlink()
        results.write_json(study.run("LB", seed) / "status.json", {"state": "failed", "reason": "nan", **status})  # fmt: skip

    fail(1, diverged=True)
    text = answer(study)
    assert "is sharper than SB (batch size 100) wherever it has a value" in text
    assert "over the 2 of 3 seeds that have it)" in text
    assert text.endswith("Without any number: LB, seed 1 (diverged).")
    row = next(row for row in tables.rows(summary.summarise(study.path)) if row.label.startswith("φ, full space, ε = 1e-3"))  # fmt: skip
    assert row.cells["SB"].n == "3"
    assert row.cells["LB"].n == "2 of 3"
    assert row.contrast.endswith("(2 of 3)")
    fail(2)
    text = answer(study)
    assert "in the only seed that has it" in text
    assert "lower by 1.00 points in the only seed that has it, and one seed" in text
    assert text.endswith("LB, seed 1 (diverged); LB, seed 2 (failed).")


def test_two_runs_of_one_seed_are_not_paired_by_guess(study):
    runs = results.read_json(study.path / "study.json")["runs"]
    twin = {**runs[0], "run": runs[2]["run"]}  # SB, seed 0 again
    study.study(runs=[*runs[:2], twin, *runs[3:]])
    assert summary.summarise(study.path)["pairs"]["LB/SB"]["seeds"] == [2]


def test_a_baseline_of_zero_gives_no_ratio(study):
    study.measure(SHARP, "SB", {0: 0.0, 1: 1.0, 2: 1.0})
    ratio = summary.summarise(study.path)["pairs"]["LB/SB"][f"ratio/{SHARP}"]
    assert ratio["n"] == 2
    assert math.isnan(ratio["values"][0])


def test_numbers_below_zero_give_no_ratio_and_a_zero_over_a_baseline_is_one(study):
    """A trace away from a minimum may be negative."""
    study.measure(SHARP, "SB", {0: 1.0, 1: -1.0, 2: 1.0})
    study.measure(SHARP, "LB", {0: -8.0, 1: -8.0, 2: 0.0})
    ratio = summary.summarise(study.path)["pairs"]["LB/SB"][f"ratio/{SHARP}"]
    assert ratio["n"] == 1
    assert math.isnan(ratio["values"][0])
    assert math.isnan(ratio["values"][1])
    assert ratio["values"][2] == 0.0


def test_p_value_is_the_one_sided_welch_test_of_scipy(study):
    baseline, compared = [0.95, 0.97, 0.96], [0.94, 0.955, 0.92]
    study.measure("test_accuracy", "SB", dict(enumerate(baseline)))
    study.measure("test_accuracy", "LB", dict(enumerate(compared)))
    gap = summary.summarise(study.path)["pairs"]["LB/SB"]["gap/test_accuracy"]
    test = stats.ttest_ind(baseline, compared, equal_var=False, alternative="greater")
    assert gap["p_value"] == pytest.approx(test.pvalue, rel=1e-9)


def test_a_measure_that_only_the_paper_has_is_there_with_n_zero(study):
    study.study(reference={"SB": {"sharpness/random/1e-3/batch": [0.11, 0.0]}})
    entry = summary.summarise(study.path)["groups"]["SB"]["sharpness/random/1e-3/batch"]
    assert (entry["n"], entry["values"], entry["paper"]["mean"]) == (0, [], 0.11)


def test_the_written_file_is_strict_json_with_flags_for_what_is_not_finite(make):
    study = make(1)
    summary.write(study.path)

    def refuse(constant):
        raise AssertionError(f"{constant} is not strict JSON")

    text = (study.path / "summary.json").read_text(encoding="utf-8")
    entry = json.loads(text, parse_constant=refuse)["groups"]["SB"]["test_accuracy"]
    assert (entry["std"], entry["std_flag"]) == (None, "nan")


def test_the_data_frame_of_results_agrees(study):
    study.measure(SHARP, "LB", {1: None})
    frame = (
        results.load(study.path)
        .groupby(["group", "measure"])
        .value.agg(["mean", "std", "count"])
    )
    groups = summary.summarise(study.path)["groups"]
    for (group, measure), row in frame.iterrows():
        entry = groups[group][measure]
        assert entry["mean"] == pytest.approx(row["mean"])
        assert entry["std"] == pytest.approx(row["std"])
        assert entry["n"] == row["count"]
    assert len(frame) == sum(
        len(group) - 1 for group in groups.values()
    )  # but batch_size


def answer(study, ratio=None, accuracy=None):
    """The answer when LB is ``ratio`` times as sharp and the test accuracies are (SB, LB)."""
    for seed, value in enumerate(ratio or []):
        study.measure(SHARP, "SB", {seed: 2.0})
        study.measure(SHARP, "LB", {seed: 2.0 * value})
    for seed, (baseline, compared) in enumerate(accuracy or []):
        study.measure("test_accuracy", "SB", {seed: baseline})
        study.measure("test_accuracy", "LB", {seed: compared})
    return summary.summarise(study.path)["answer"]


def test_answer_says_how_many_seeds_it_is_about(study):
    text = answer(study, [2, math.nan, 4])
    assert "is sharper than SB (batch size 100) wherever it has a value" in text
    assert "(from 2.0 to 4.0 over the 2 of 3 seeds that have it)" in text
    assert "in the only seed that has it" in answer(study, [2, math.nan, math.nan])


def test_answer_sharper_with_range_and_significant_loss(study):
    accuracy = [(0.981, 0.978), (0.982, 0.978), (0.980, 0.977)]
    # 0.07 is the root of (0.1 ** 2 + 0.058 ** 2) / 3; the p-value is from scipy.stats.ttest_ind on the six accuracies
    assert answer(study, [90, 100, 110], accuracy) == (
        "LB (batch size 1000) is sharper than SB (batch size 100) at every seed: φ at ε = 1e-3 in the full space, "
        "running-average batch norm, is 100 times as large (from 90 to 110 over 3 seeds); the test accuracy of LB is "
        "lower by 0.33 points (standard error 0.07), which exceeds the noise between seeds (one-sided Welch test at 5 %, p = 0.0066). "
        "The mean test loss of both is 0.06 nats. "
        "Other measures, LB / SB: trace of the Hessian 1.0 (running), 1.0 (batch); λ_max of the Hessian 1.0 (running)."
    )


def test_answer_quotes_the_ratio_of_the_means_and_measures_that_say_otherwise(study):
    for seed, (small, large) in enumerate([(1, 30), (2, 20), (3, 10)]):
        study.measure(SHARP, "SB", {seed: small})
        study.measure(SHARP, "LB", {seed: large})
        study.measure("hessian/trace/batch", "LB", {seed: 25.25})
        study.measure("test_loss", "LB", {seed: 0.05})
    text = answer(study)
    assert "is 10 times as large (from 3.3 to 30 over 3 seeds)" in text
    assert "trace of the Hessian 1.0 (running), 0.25 (batch);" in text
    assert "The mean test loss of LB is lower: 0.05 nats, that of SB 0.06." in text


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (0.07, "The mean test loss of LB is higher: 0.07 nats, that of SB 0.06."),
        (0.05, "The mean test loss of LB is lower: 0.05 nats, that of SB 0.06."),
        (0.06, "The mean test loss of both is 0.06 nats."),
    ],
)
def test_answer_says_how_the_losses_compare(study, loss, words):
    study.measure("test_loss", "LB", dict.fromkeys(range(3), loss))
    assert words in answer(study)


def test_answer_compares_every_other_group_with_the_compared_one():
    def entry(*values):
        mean = sum(values) / len(values)
        return {"mean": mean, "n": 2, "values": values, "seeds": [0, 1]}

    groups = {
        "SB": {"batch_size": 10, SHARP: entry(1.0, 1.0)},
        "LB": {
            "batch_size": 100,
            SHARP: entry(10.0, 14.0),
            "test_accuracy": entry(0.97, 0.971),
        },
        "ghost": {SHARP: entry(5.0, 1.0), "test_accuracy": entry(0.975, 0.974)},
        "broken": {SHARP: entry(math.nan, math.nan)},
    }
    pairs = {"LB/SB": {f"ratio/{SHARP}": entry(10.0, 14.0)}}
    # The p-value is scipy.stats.ttest_ind's on the four accuracies.
    assert summary.answer(("SB", "LB"), groups, pairs, finished=True).endswith(
        "Against LB, in points of test accuracy (p of the one-sided Welch test that it is higher, not corrected for their number) "
        "and by the same φ: ghost +0.40 (p = 0.015), φ 0.25 times."
    )


def test_answer_quotes_the_ratio_of_the_seeds_that_both_groups_have():
    """SB's third seed, which LB lacks, is not in the range and so not in the mean either."""

    def entry(*values):
        return {"n": len(values), "values": values, "seeds": range(len(values))}

    groups = {
        "SB": {"batch_size": 10, SHARP: {**entry(1.0, 1.0, 100.0), "mean": 34.0}},
        "LB": {"batch_size": 100, SHARP: {**entry(50.0, 60.0), "mean": 55.0}},
    }
    pairs = {"LB/SB": {f"ratio/{SHARP}": entry(50.0, 60.0)}}
    text = summary.answer(("SB", "LB"), groups, pairs, finished=True)
    assert "is 55 times as large (from 50 to 60 over 2 seeds)" in text


def test_answer_explains_no_p_value_where_one_seed_gives_none():
    def entry(value):
        return {"mean": value, "n": 1, "values": [value], "seeds": [0]}

    groups = {
        "SB": {"batch_size": 10, SHARP: entry(1.0)},
        "LB": {"batch_size": 100, SHARP: entry(8.0), "test_accuracy": entry(0.97)},
        "ghost": {SHARP: entry(4.0), "test_accuracy": entry(0.975)},
        "same": {"test_accuracy": entry(0.96999)},
    }
    pairs = {"LB/SB": {f"ratio/{SHARP}": entry(8.0)}}
    assert summary.answer(("SB", "LB"), groups, pairs, finished=True).endswith(
        "Against LB, in points of test accuracy and by the same φ: ghost +0.50, φ 0.50 times; same +0.00."
    )


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (
            [0.5, 0.25, 0.75],
            [
                "LB (batch size 1000) is flatter than SB",
                "0.50 times as large (from 0.25 to 0.75",
            ],
        ),
        (
            [0.5, 2, 4],
            [
                "The seeds disagree on whether LB",
                "ratios from 0.50 to 4.0 over 3 seeds",
            ],
        ),
        ([1, 2, 4], ["The seeds disagree", "ratios from 1.0 to 4.0 over 3 seeds"]),
        ([0.5, 1, 1], ["The seeds disagree", "ratios from 0.50 to 1.0 over 3 seeds"]),
        ([1, 1, 1], ["is as sharp as SB"]),
    ],
)
def test_answer_names_the_direction_of_sharpness(study, ratio, words):
    text = answer(study, ratio)
    assert all(word in text for word in words), text


@pytest.mark.parametrize(
    ("accuracy", "words"),
    [
        (
            [(0.90, 0.89), (0.95, 0.94), (0.85, 0.84)],
            ["lower by 1.00 points (standard error 4.08)", "does not exceed the noise"],
        ),
        (
            [(0.90, 0.92), (0.90, 0.93), (0.91, 0.93)],
            ["not lower but higher by 2.33 points (standard error 0.47)", "no loss"],
        ),
        ([(0.9, 0.9)] * 3, ["the same on average"]),
        (
            [(0.9, 0.8)] * 3,
            ["lower by 10.00 points (standard error 0.00)", "no spread"],
        ),
    ],
)
def test_answer_names_the_direction_of_accuracy_and_the_noise(study, accuracy, words):
    text = answer(study, accuracy=accuracy)
    assert all(word in text for word in words), text


def test_answer_says_that_one_seed_cannot_tell(make):
    text = answer(make(1))
    assert text.count("one seed cannot tell") == 2
    assert "±" not in text


def test_answer_quotes_what_there_is_and_names_it(study):
    study.drop(SHARP)
    assert "φ at ε = 5e-4 in the full space, running-average batch norm" in answer(
        study
    )
    study.drop("sharpness/full/5e-4/running")
    assert (
        "φ at ε = 1e-3 in the full space, batch norm by the statistics of the batch"
        in answer(study)
    )


ALL_SHARP = [
    f"sharpness/full/{epsilon}/{mode}"
    for epsilon in ("1e-3", "5e-4")
    for mode in ("running", "batch")
]


def test_answer_names_what_was_not_measured(study):
    for measure in ALL_SHARP:
        for group in ("SB", "LB"):
            study.measure(measure, group, dict.fromkeys(range(3)))
    assert answer(study).startswith("Whether LB (batch size 1000) is sharper")
    for measure in ALL_SHARP:
        study.drop(measure)
    said = "Sharpness was not measured; the test accuracy of LB is lower by 1.00"
    assert answer(study).startswith(said)
    study.drop("evaluation/running")
    study.drop("evaluation/batch")
    assert answer(study).startswith("The question cannot be answered: no seed")


def test_answer_without_test_accuracy(study):
    study.drop("evaluation/running")
    study.drop("evaluation/batch")
    assert "nothing can be said about generalisation" in answer(study)
    assert "LB (batch size 1000) is sharper" in answer(study)


def test_answer_of_an_unfinished_study_and_of_one_without_comparison(study):
    study.study(finished=None)
    assert answer(study).startswith("So far, with the study unfinished, LB")
    study.study(comparison=None)
    assert answer(study).startswith("This study names no two groups to compare")
    study.study(comparison=["SB", "XL"])
    assert answer(study).startswith("The question cannot be answered yet")


def test_updates_to_the_target_stand_with_the_runs_that_reached_it(study):
    """LB's second seed did not: two of three, and no ratio of that seed."""
    for group, steps in (("SB", [400, 500, 600]), ("LB", [100, None, 60])):
        for seed, step in enumerate(steps):
            reached = step and {"epoch": 1, "step": step, "examples": 9, "seconds": 1.5}
            file = study.run(group, seed) / "status.json"
            results.write_json(file, {"state": "done", "target": reached})
    found = summary.summarise(study.path)
    assert found["groups"]["SB"]["target/step"]["mean"] == 500
    assert found["groups"]["LB"]["target/step"]["n"] == 2
    ratio = found["pairs"]["LB/SB"]["ratio/target/step"]
    assert ratio["values"][::2] == [0.25, 0.1]
    assert not any("target" in said for said in folder.missing(folder.read(study.path)))
