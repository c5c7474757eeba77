"""Updates until the target against the batch size: which groups the law is fitted to, and what is said and drawn of it."""

import math

import numpy as np
import pytest

from bsexp import report, results
from bsexp.report import critical_noise, folder, steps_to_target, summary
from bsexp.report.law import Law

SIZES = (16, 64, 256, 1_024, 4_096)
UPDATES, CRITICAL = 90.0, 300.0
RATES = (0.01, 0.1, 1.0)


def exact(size):
    return UPDATES * (1 + CRITICAL / size)


@pytest.fixture
def tuned(study):
    """The artificial study at five batch sizes with three learning rates each; the middle one is the fastest."""
    runs, groups = [], {}
    for size in SIZES:
        for rate, slower in zip(RATES, (4, 1, 2), strict=True):
            group = f"B{size:04d}-{rate:g}".replace(".", "_")
            groups[group] = {
                "batch": {"size": size},
                "optimizer": {"learning_rate": rate},
            }
            for seed in range(2):
                place = study.path / "runs" / f"{group}-{seed}"
                place.mkdir()
                content = (study.run("SB", 0) / "env.json").read_bytes()
                (place / "env.json").write_bytes(content)
                results.write_points(place, {None: {}})
                # Found at the fifth of evenly spaced evaluations, so that half of the way from the fourth is taken off.
                step = round(slower * exact(size) * (1 + 0.02 * seed) / 0.9)
                row = results.read_rows(study.run("SB", 0) / results.CURVES)[0]
                results.write_rows(
                    place / results.CURVES,
                    [
                        {**row, "epoch": i / 2, "step": step * i / 5}
                        for i in range(1, 7)
                    ],
                )
                reached = {"epoch": 2.5, "step": step, "examples": step * size}
                # The largest batches take the least time, and the smallest rate.
                reached["seconds"] = 1_000 / size * rate
                results.write_json(
                    place / "status.json", {"state": "done", "target": reached}
                )
                runs.append((place.name, group, seed, size))
    train = {"target": 0.95, "target_metric": "validation_accuracy"}
    study.study(
        comparison=None,
        reference={},
        config={"groups": groups, "train": train},
        runs=[
            {"run": run, "group": group, "seed": seed, "batch_size": size}
            for run, group, seed, size in runs
        ],
    )
    return study


def said(study):
    return list(steps_to_target.answer(folder.read(study.path)))


def miss(study, group):
    """Let the second run of a group never reach the target."""
    file = study.path / "runs" / f"{group}-1" / "status.json"
    results.write_json(file, {"state": "done", "target": None})


def test_of_each_batch_size_the_fastest_group_is_told_and_the_law_that_they_follow(
    tuned,
):
    sentences = said(tuned)
    assert sentences[0] == (
        "Updates until validation accuracy 95 %, of the optimizer.learning_rate tried at each the fastest: "
        "1,795 at 16, 517 at 64, 198 at 256, 117 at 1,024, 97 at 4,096."
    )
    assert sentences[1] == (
        "S = S_min (1 + B_crit / B) fits with B_crit = 301 (95 %: 300 to 303); a batch size scatters about it by 0.135 %. There a run "
        "takes twice the 90.7 updates that no batch size can save, and twice the 27,300 examples that the smallest ones need."
    )
    assert sentences[2] == (
        "The fewest examples: 28,700, at 16; the fewest seconds, on the machines that trained them: 0.0244, at 4,096."
    )
    assert len(sentences) == 3
    found = report.build(tuned.path)
    assert " ".join(sentences) in found["answer"]
    law = results.read_json(tuned.path / "summary.json")["steps_to_target"]
    assert law["critical"] == pytest.approx(CRITICAL, rel=0.03)
    assert law["updates"] == pytest.approx(1.01 * UPDATES, rel=0.03)
    assert law["low"] < law["critical"] < law["high"]
    assert law["groups"] == {str(size): f"B{size:04d}-0_1" for size in SIZES}
    assert (tuned.path / "figures" / "steps_to_target.svg").is_file()
    page = (tuned.path / "report.html").read_text(encoding="utf-8")
    assert "Updates until validation accuracy 95 %" in page
    assert not (tuned.path / "figures" / "batch_sizes.svg").exists()


def test_the_figure_shows_updates_and_examples_of_the_fastest_and_the_others(tuned):
    figure = steps_to_target.steps_to_target(folder.read(tuned.path))
    updates, examples = figure.axes
    for axes, power in ((updates, 0), (examples, 1)):
        lines = {line.get_label(): line.get_xydata() for line in axes.lines}
        fastest = lines["the fastest of each batch size"]
        expected = [
            (size, size**power * exact(size) * by) for size in SIZES for by in (1, 1.02)
        ]
        np.testing.assert_allclose(fastest, expected, rtol=0.01)
        others = lines["other settings tried"]
        assert len(others) == 2 * len(fastest)
        assert set(others[:, 1]).isdisjoint(fastest[:, 1])
        x, y = lines["S = S_min (1 + B_crit / B)"].T
        np.testing.assert_allclose(y, x**power * exact(x) * 1.01, rtol=0.03)
        x, y = lines["examples alone count: S = E_min / B"].T
        np.testing.assert_allclose(y, x**power * UPDATES * CRITICAL / x, rtol=0.05)
        x, y = lines["updates alone count: S = S_min"].T
        np.testing.assert_allclose(y, x**power * UPDATES, rtol=0.05)
        assert lines["B_crit"][0, 0] == pytest.approx(CRITICAL, rel=0.03)
        assert axes.get_ylim()[0] > 0.2 * fastest[:, 1].min(), "runs fill the frame"
    assert updates.get_ylabel() == "updates until validation accuracy 95 %"
    assert examples.get_ylabel() == "examples until validation accuracy 95 %"


def test_a_size_that_no_setting_brings_to_the_target_is_held_against_the_law(tuned):
    """The slowest of its runs ends after six fifths of the updates to the target; a size with one that is not trained yet has not failed."""
    miss(tuned, "B0064-0_1")
    for rate in ("0_01", "0_1", "1"):
        miss(tuned, f"B4096-{rate}")
    sentences = said(tuned)
    assert "1,034 at 64, " in sentences[0], "the next one"
    assert (
        "117 at 1,024; at 4,096 no setting brought every run there within 526 updates, where the law has "
        in sentences[0]
    )
    assert sentences[2].startswith(
        "At 64 the fastest learning rate is the smallest or the largest"
    )
    miss(tuned, "B0064-1")
    assert any(each.startswith("At 64 ") for each in said(tuned)), "0.01 is left"
    file = tuned.path / "runs" / "B4096-1-0" / "status.json"
    results.write_json(file, {"state": "training"})
    assert said(tuned)[0].endswith("; 4,096 is not yet trained.")


def test_of_equally_fast_rates_one_within_those_tried_is_enough(tuned):
    """The one with the fewest seconds counts, here the smallest, and the edge is not blamed."""
    for seed in range(2):
        slow, fast = (
            tuned.path / "runs" / f"B0016-{rate}-{seed}" / "status.json"
            for rate in ("0_01", "0_1")
        )
        target = results.read_json(fast)["target"]
        results.write_json(
            slow, {"state": "done", "target": {**target, "seconds": 1e-3}}
        )
        curve = fast.with_name(results.CURVES).read_bytes()
        slow.with_name(results.CURVES).write_bytes(curve)
    sentences = said(tuned)
    assert not any("another one may be faster" in each for each in sentences)
    assert sentences[-1].endswith(": 0.001, at 16.")
    assert report.build(tuned.path)["steps_to_target"]["groups"]["16"] == "B0016-0_01"


def test_without_its_curve_a_run_reaches_the_target_where_that_was_found(tuned):
    for seed in range(2):
        (tuned.path / "runs" / f"B0016-0_1-{seed}" / results.CURVES).unlink()
    assert f": {1_795 / 0.9:,.0f} at 16, 517 at 64" in said(tuned)[0]


def test_sizes_with_one_learning_rate_say_that_it_is_not_tuned(tuned):
    record = results.read_json(tuned.path / "study.json")
    record["runs"] = [run for run in record["runs"] if run["group"].endswith("-0_1")]
    groups = record["config"]["groups"]
    kept = {name: fields for name, fields in groups.items() if name.endswith("-0_1")}
    tuned.study(runs=record["runs"], config={**record["config"], "groups": kept})
    sentences = said(tuned)
    assert sentences[0].startswith(
        "Updates until validation accuracy 95 %: 1,795 at 16"
    )
    assert sentences[2] == (
        "At 16, 64, 256, 1,024 and 4,096 one learning rate was tried: the updates may tell of it rather than of the batch size."
    )


def noisy(study, group, seed, points):
    """Let a run have noise scales: epoch, None for the end, -> (trace of Σ, |G|²), those of HΣ and GᵀHG a tenth as large a quotient."""
    place = study.path / "runs" / f"{group}-{seed}"
    found = {None: {}}
    for epoch, (trace, squared) in points.items():
        quotient = trace / squared if squared > 0 else math.inf
        found[epoch] = {
            "noise_scale/running": {
                "settings": {},
                "seconds": 0.1,
                "values": {
                    "noise_scale/simple/running": quotient,
                    "noise_scale/curved/running": quotient / 10,
                },
                "detail": {
                    "simple": {"trace_covariance": trace, "squared_gradient": squared},
                    "curved": {
                        "trace_covariance": trace / 10,
                        "squared_gradient": squared,
                    },
                },
            }
        }
    results.write_points(place, found)


def test_the_noise_scale_along_the_fastest_runs_stands_beside_the_law(tuned):
    """Seeds of a size together, 7 points in all; a slower group's do not count, nor does a value that noise hides end the rest."""
    noisy(tuned, "B0016-0_1", 0, {1: (100.0, 1.0), None: (900.0, 1.0)})
    noisy(tuned, "B0016-0_1", 1, {1: (500.0, 2.0), None: (900.0, 1.0)})  # 200, 900
    noisy(tuned, "B0064-0_1", 0, {1: (2_000.0, 1.0), 2: (3_000.0, 1.0)})
    noisy(tuned, "B0256-0_1", 0, {1: (4_000.0, 1.0), 2: (10.0, -1.0)})  # and infinite
    noisy(tuned, "B1024-0_1", 0, {None: (5_000.0, 1.0)})
    noisy(tuned, "B1024-1", 0, {1: (7.0, 1.0)})
    assert said(tuned)[2] == (
        "The gradient noise scale, an estimate of B_crit that one run gives, measured in these runs, the seeds of a size together: "
        "B_simple = tr Σ / |G|² is 3,000 (half of 7 points along training: 900 to 5,000); "
        "B_noise = tr HΣ / GᵀHG is 300 (half of 7 points along training: 90 to 500)."
    )
    kept = report.build(tuned.path)["steps_to_target"]["noise_scale"]
    assert kept["simple"] == {"low": 900, "median": 3_000, "high": 5_000, "points": 7}
    assert (tuned.path / "figures" / "critical_noise.svg").is_file()


def test_the_figure_of_the_noise_scale_has_a_line_per_size_and_b_crit(tuned):
    assert critical_noise.critical_noise(folder.read(tuned.path)) is None
    noisy(tuned, "B0016-0_1", 0, {1: (100.0, 1.0), 2: (10.0, -1.0), None: (900.0, 1.0)})
    noisy(tuned, "B0064-0_1", 0, {1: (2_000.0, 1.0), 2: (3_000.0, 1.0)})
    study = folder.read(tuned.path)
    law = steps_to_target.found_in(study).law
    curved, simple = critical_noise.critical_noise(study).axes
    for axes, power in ((curved, 0.1), (simple, 1)):
        lines = {line.get_label(): line.get_xydata() for line in axes.lines}
        np.testing.assert_allclose(lines["B = 16"], [[1, 100 * power], [2, math.nan]])
        np.testing.assert_allclose(lines["B = 64"], [[1, 2_000 * power], [2, 3_000 * power]])  # fmt: skip
        (star,) = (line for line in axes.lines if line.get_marker() == "*")
        # The runs of the artificial study have rows up to the third epoch.
        np.testing.assert_allclose(star.get_xydata(), [[3, 900 * power]])
        assert lines["B_crit"][0, 1] == law.critical


def test_without_two_ends_of_b_crit_there_is_nothing_to_hold_the_noise_scale_against(
    tuned,
):
    noisy(tuned, "B0016-0_1", 0, {1: (100.0, 1.0)})
    for place in (tuned.path / "runs").glob("B*-0_1-*"):
        status = results.read_json(place / "status.json")
        # As many updates at every size.
        status["target"]["step"] = 100 + len(place.name) % 3
        results.write_json(place / "status.json", status)
    study = folder.read(tuned.path)
    assert not steps_to_target.found_in(study).law.bounded
    assert critical_noise.critical_noise(study) is None


@pytest.mark.parametrize(
    ("law", "words"),
    [
        (Law(9, 9, 0, math.inf, 1), "do not tell where B_crit of"),
        (Law(9, 9, 0, 64, 1), "is below 64 (95 %): the updates may not depend"),
        (Law(9, 9, 5_000, math.inf, 1), "is above 5,000 (95 %): twice the examples"),
        (Law(80, 200, 150, 1_234, 1.2), "= 200 (95 %: 150 to 1,230); a batch size scatters about it by 20 %. There a run takes twice the 80 updates that no batch size can save, and twice the 16,000 examples"),
    ],
)  # fmt: skip
def test_an_open_end_of_the_interval_is_a_bound(law, words):
    assert words in steps_to_target._law_in_words(law)


def test_a_loss_is_a_target_too_and_what_is_not_known_is_left_out(tuned):
    config = results.read_json(tuned.path / "study.json")["config"]
    tuned.study(config={**config, "train": {"target": 0.05, "target_metric": "train_loss"}})  # fmt: skip
    for file in (tuned.path / "runs").glob("B*/status.json"):
        status = results.read_json(file)
        del status["target"]["seconds"]
        results.write_json(file, status)
    sentences = said(tuned)
    assert sentences[0].startswith("Updates until train loss 0.05 nats, ")
    assert sentences[-1].endswith("that trained them: not known.")
    assert report.build(tuned.path)["steps_to_target"]["updates"] > 0


def test_a_study_without_a_target_or_with_two_sizes_that_reach_it_says_nothing(tuned):
    for size in SIZES[2:]:
        for rate in ("0_01", "0_1", "1"):
            miss(tuned, f"B{size:04d}-{rate}")
    assert said(tuned) == []
    assert "steps_to_target" not in report.build(tuned.path)
    assert not (tuned.path / "figures" / "steps_to_target.svg").exists()
    for file in (tuned.path / "runs").glob("B*/status.json"):
        results.write_json(file, {"state": "done"})
    assert said(tuned) == []
    assert "Updates until" not in summary.summarise(tuned.path)["answer"]


def test_groups_that_differ_in_more_than_what_a_batch_size_wants_make_no_law(tuned):
    """Nor do batch sizes that grow while a run trains."""
    settings = results.read_json(tuned.path / "study.json")["config"]
    tuned.study(config={**settings, "batch": {"growth_epochs": [2]}})
    assert said(tuned) == []
    settings["groups"]["B0016-0_1"]["optimizer"]["name"] = "adam"
    tuned.study(config=settings)
    assert said(tuned) == []
