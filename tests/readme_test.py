import importlib.util
import json
import re
from pathlib import Path

import pytest

from bsexp import command, door, results, study, workdir

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def script(name):
    specification = importlib.util.spec_from_file_location(
        name, ROOT / "scripts" / f"{name}.py"
    )
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_table_is_what_results_hold():
    assert script("readme_table").with_table(README) == README, (
        "run: python scripts/readme_table.py"
    )


def test_the_verdicts_are_on_the_first_screen():
    verdicts = README.index("<!-- results/keskar2017: ")
    assert verdicts < README.index("<!-- end -->") < README.index("## Two commands")
    # The shortest of them: F1's, which a reader can compute again in half an hour.
    assert "| 2 | F1 | test accuracy, %" in README[verdicts:]


def test_every_relative_link_leads_somewhere():
    targets = [
        target for target in re.findall(r"\]\(([^)]+)\)", README) if "://" not in target
    ]
    assert len(targets) >= 4
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_the_example_on_an_own_loss_runs_as_written(capsys):
    jax = pytest.importorskip("jax")
    (code,) = [
        block
        for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL)
        if "curvature" in block
    ]
    inputs = jax.random.normal(jax.random.key(0), (2_500, 3))
    labels = (inputs[:, 0] > 0).astype(int)
    names = {
        "predict": lambda x, inputs: jax.numpy.tanh(inputs @ x),
        "data": (inputs, labels),
        "x": jax.numpy.ones((3, 2)) / 2,
    }
    exec(code, names)
    printed = capsys.readouterr().out

    def loss(x):
        return -jax.nn.log_softmax(names["predict"](x.reshape(3, 2), inputs))[
            jax.numpy.arange(2_500), labels
        ].mean()

    exact = float(jax.numpy.trace(jax.hessian(loss)(names["x"].ravel())))
    found = float(re.search(r"Trace\(value=([\d.]+)", printed)[1])
    assert abs(found - exact) < 0.05 * exact
    assert "stopped=" in printed
    assert "best=" in printed


def test_the_example_of_an_experiment_is_a_valid_study(tmp_path):
    (code,) = [
        block
        for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL)
        if "get_config" in block
    ]
    (tmp_path / "mine.py").write_text(code)
    plan = door.open_study(
        command.load_settings(tmp_path / "mine.py", ""), [], study.catalogue()
    )
    assert [run.batch_size for run in plan.runs[:2]] == [64, 6_000]


@pytest.mark.parametrize("name", ["sharp_minima", "critical_batch_size"])
def test_a_committed_study_is_whole_and_is_the_experiment_as_it_stands(name):
    """A newcomer's first command must find nothing to compute."""
    settings = command.load_settings(ROOT / "experiments" / f"{name}.py", "")
    plan = door.open_study(settings, [], study.catalogue())
    place = workdir.Workdir(ROOT / "results" / name, plan, name, "")
    assert place.missing(study.wanted(plan)) == []
    assert place.finished is not None


def test_the_committed_study_shows_what_it_is_meant_to_show():
    summary = results.read_json(ROOT / "results" / "sharp_minima" / "summary.json")
    small, large = summary["groups"]["SB"], summary["groups"]["LB"]
    assert (small["batch_size"], large["batch_size"]) == (256, 6_000)
    name = "sharpness/full/1e-3/running"
    ratios = [
        b / a for a, b in zip(small[name]["values"], large[name]["values"], strict=True)
    ]
    assert len(ratios) == 3
    assert min(ratios) > 8
    assert min(small["test_accuracy"]["values"]) >= 0.975


def test_results_hold_no_checkpoints_and_nothing_large():
    files = [
        path
        for path in (ROOT / "results").rglob("*")
        if path.is_file() and "checkpoints" not in path.parts
    ]
    assert max(path.stat().st_size for path in files) < 1_000_000
    for path in files:
        if path.suffix == ".json":
            json.loads(
                path.read_text(),
                parse_constant=lambda name, path=path: pytest.fail(
                    f"{path} holds {name}"
                ),
            )
