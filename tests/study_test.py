"""What a study measures, on real MNIST."""

import pytest

from bsexp import door, study
from bsexp.data.preparation import synthetic


def test_each_group_is_measured_on_shares_of_its_own_training_set():
    settings = {
        "seeds": 1,
        "groups": {"all": {}, "few": {"data": {"train_size": 1_000}}},
        "measure": {
            "probes": ("sharpness", "hessian"),
            "modes": ("running",),
            "sharpness": {"epsilons": (1e-3,), "running_examples": "50%"},
            "along": {"epochs": (1,), "probes": ("hessian",)},
        },
    }
    plan = door.open_study(settings, (), study.catalogue())
    found = {
        (item.run.group, item.epoch, item.task.name): item.settings["examples"]
        for item in study.wanted(plan)
    }
    for group, share, most in (("all", 30_000, 10_000), ("few", 500, 1_000)):
        assert found[group, None, "sharpness/full/1e-3/running"] == share
        assert found[group, None, "hessian/trace/running"] == most
        assert found[group, 1, "hessian/trace/running"] == most


@pytest.mark.parametrize(
    ("data", "augmentation", "expected"),
    [
        ("mnist", {"shift": 0.035}, "shift=0.035: is less than a pixel of mnist's 28 x 28"),
        ("mnist", {"shift": 0.0358}, None),
        ("mnist", {"crop": 28}, "crop=28: must be below the 28 pixels of mnist's shorter side: it is the width of the frame of zeros, not that of the crop"),
        ("mnist", {"crop": 27}, None),
        ("timit_like_50", {"shift": 0.5, "flip": True}, "flip=True: timit_like_50 holds vectors, not images"),
    ],
)  # fmt: skip
def test_an_augmentation_that_could_change_no_example_is_refused(
    data, augmentation, expected, tmp_path
):
    synthetic.prepare(synthetic.resized(synthetic.TIMIT_LIKE, 50), tmp_path)
    settings = {
        "data": {"name": data, "dir": str(tmp_path), "train_size": 50},
        "batch": {"size": 10},
        "augmentation": augmentation,
    }
    if expected is None:
        assert door.open_study(settings, (), study.catalogue()).runs
        return
    with pytest.raises(door.ConfigError) as refused:
        door.open_study(settings, (), study.catalogue())
    assert f"config.augmentation.{expected}" in refused.value.errors
