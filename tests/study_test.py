"""What a study measures, on real MNIST."""

from bsexp import door, study


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
