"""What keeps a cell from being the paper's measurement, on numbers known by heart."""

import pytest

from bsexp import results
from bsexp.report import caveats, folder, summary


def said(study):
    found = {"F1": (folder.read(study.path), summary.summarise(study.path))}
    return list(caveats.caveats(found))


def test_a_network_that_stays_below_the_papers_training_accuracy_is_told(study):
    for seed in range(3):
        study.measure("train_accuracy/batch", "SB", {seed: 0.991})
        study.measure("train_accuracy/batch", "LB", {seed: 0.995})
    assert not any("training accuracy" in each for each in said(study))
    for seed in range(3):
        study.measure("train_accuracy/batch", "LB", {seed: 0.98})
    (told,) = [each for each in said(study) if "training accuracy" in each]
    assert told.startswith(
        "F1 ended at a training accuracy of 99.1 % (SB), 98.0 % (LB) in mode batch, where the paper has 99.66 (SB), 99.92 (LB): "
    )
    for seed in range(3):
        study.measure("test_accuracy/batch", "SB", {seed: 0.981})
        study.measure("test_accuracy/batch", "LB", {seed: 0.975})
    (told,) = [each for each in said(study) if "training accuracy" in each]
    assert told.endswith(
        "training less test accuracy is 1.0 points (SB), 0.5 points (LB)."
    )


def test_a_search_that_was_handed_phi_needs_no_word(study):
    name = "sharpness/full/1e-3/batch"
    settings = {"lbfgsb_maximises": "phi"}
    entry = {"settings": settings, "values": {name: 1.0}, "seconds": 1.0}
    for seed in range(3):
        for group in ("SB", "LB"):
            results.write_points(study.run(group, seed), {None: {name: entry}})
    assert not any("L-BFGS-B" in each for each in said(study))


@pytest.mark.parametrize(
    ("variant", "told"), [("paper", [f"C1 {caveats.STRIDE}"]), ("released", [])]
)
def test_which_network_c1_is_is_told(study, variant, told):
    file = study.path / "study.json"
    record = results.read_json(file)
    record["config"]["model"] = {"name": "C1", "variant": variant}
    results.write_json(file, record)
    found = folder.read(study.path), summary.summarise(study.path)
    said_of_c1 = caveats.caveats({"C1": found})
    assert [each for each in said_of_c1 if "stride" in each] == told


def test_phi_of_fewer_examples_and_the_scale_of_subspaces_are_told(study):
    name = "sharpness/full/1e-3/batch"
    entry = {"settings": {}, "values": {name: 1.0}, "seconds": 1.0}
    whole = {**entry, "values": {}, "detail": {"train": 60_000}}

    def measured(examples, more):
        detail = {**entry, "detail": {"examples": examples}}
        found = {name: detail, "evaluation/batch": whole} | more
        for seed in range(3):
            for group in ("SB", "LB"):
                results.write_points(study.run(group, seed), {None: found})

    measured(10_000, {})
    assert said(study)[1] == f"F1: {caveats.LOSS_HANDED}"
    assert said(study)[0].startswith(
        "Our φ is that of some training examples in mode batch (F1: 10,000 of 60,000), the paper's"
    )
    assert caveats.SUBSPACES not in said(study)
    subspace = {"s": {**entry, "values": {"sharpness/subspace/1e-3/batch": 1.0}}}
    measured(60_000, subspace)
    assert not any("some training examples" in each for each in said(study))
    assert caveats.SUBSPACES in said(study)
    # A quadratic of curvature 0.3 rises by 0.3 0.01² / 2 nats where 100 entries of a box of 1e-3 are at their bounds.
    curvature = {**entry, "values": {"hessian/lambda_max/batch": 0.3}}
    measured(60_000, {**subspace, "hessian/lambda_max/batch": curvature})
    assert "λ_max 0.3 in mode batch, φ would be about 0.0015 at most" in said(study)[-1]
