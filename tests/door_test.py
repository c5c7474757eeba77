import dataclasses

import catalogues
import pytest

from bsexp import bounds, config, conversion, door
from bsexp.training import optim, scaling, schedules


def training_examples(data):
    if data.train_size == 99_999:
        raise bounds.FieldError("data.train_size", "too many")
    return {"mnist": 60_000, "small": 100}[data.name]


CATALOGUE = dataclasses.replace(
    catalogues.PLAIN,
    models={"F1": ("paper",), "C1": ("paper", "released"), "C2": ("paper",)},
    probes=("evaluation", "sharpness"),
    modes=("running", "batch"),
    optimizers={"adam": {"b1": 0.9, "b2": 0.999}, "sgd": {"momentum": None}},
    optimizer_error=lambda optimizer: (
        "too old" if optimizer.arguments.get("b1") == 0.99 else ""
    ),
    training_examples=training_examples,
    finished_run=lambda path: FINISHED[path],
    model_error=lambda base: {"C2": "too small", "mine:Bad": "is bad"}.get(
        base.model.name, ""
    ),
    network_code=lambda name: f"code of {name}",
    kept_epochs=lambda path: {"there": [2, 5]}[path],
)
FINISHED = {
    "there": {
        "run": "a",
        "group": "LB",
        "seed": 4,
        "data": {"name": "small"},
        "model": {"name": "F1", "batch_norm_momentum": 0.5},
        "batch": {"size": 50},
        "optimizer": {"name": "sgd", "learning_rate": 0.1, "arguments": {}},
        "train": {"epochs": 7},
    }
}
SETTINGS = {
    "measure": {"probes": ("evaluation",)},
    "groups": {"LB": {"batch": {"size": "10%"}}, "SB": {}},
    "compare": ("SB", "LB"),
}


def opened(*overrides, settings=SETTINGS):
    return door.open_study(settings, overrides, CATALOGUE)


def errors(*overrides, settings=SETTINGS):
    with pytest.raises(door.ConfigError) as caught:
        opened(*overrides, settings=settings)
    return list(caught.value.errors)


def test_groups_are_laid_over_the_base_run_and_the_baseline_comes_first():
    plan = opened(("optimizer.learning_rate", "0.01"), ("seeds", "2"))
    assert [(run.group, run.seed, run.batch_size) for run in plan.runs] == [
        ("SB", 0, 256),
        ("LB", 0, 6_000),
        ("SB", 1, 256),
        ("LB", 1, 6_000),
    ]
    assert {run.base.optimizer.learning_rate for run in plan.runs} == {0.01}


def test_a_field_of_one_group_can_be_set():
    plan = opened(
        ("groups.LB.batch.size", "3000"),
        ("groups.LB.train.epochs", "7"),
        ("batch.size", "128"),
    )
    assert [(run.batch_size, run.base.train.epochs) for run in plan.runs[:2]] == [
        (128, 20),
        (3_000, 7),
    ]


def test_a_group_can_be_added_from_outside():
    plan = opened(("groups.XL.batch.size", "50%"))
    assert {run.group: run.batch_size for run in plan.runs} == {
        "SB": 256,
        "LB": 6_000,
        "XL": 30_000,
    }


def test_a_group_whose_name_differs_in_case_alone_is_no_new_group():
    assert errors(("groups.lb.batch.size", "3000")) == [
        "config.groups.lb.batch.size=3000: no such group; did you mean LB?"
    ]


def test_settings_that_were_passed_in_are_left_alone():
    settings = {
        "groups": {"a": {"batch": {"size": 8}}},
        "measure": {"probes": ("evaluation",)},
    }
    opened(("groups.a.batch.size", "16"), settings=settings)
    assert settings == {
        "groups": {"a": {"batch": {"size": 8}}},
        "measure": {"probes": ("evaluation",)},
    }


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("batch.size", "-3", "config.batch.size=-3: must be > 0"),
        ("batch.size", "0", "config.batch.size=0: must be > 0"),
        ("batch.size", "60001", "config.batch.size=60001: is 60001 examples; must be 1 to 60000"),
        ("batch.size", "0.0001%", "config.batch.size=0.0001%: is 0 examples; must be 1 to 60000"),
        ("batch.size", "120%", "config.batch.size=120%: must be above 0% and at most 100%"),
        ("batch.size", "many", "config.batch.size=many: must be a whole number or a percentage"),
        ("groups", "{{}}", "config.groups={{}}: must be a mapping of names to values"),
        ("optimizer.learning_rate", "1" + 400 * "0", "config.optimizer.learning_rate=1"),
        ("batch.size", "2.5", "config.batch.size=2.5: must be a whole number or text, not float"),
        ("batch.sise", "3", "config.batch.sise=3: unknown field; did you mean size? valid: size"),
        ("bach.size", "3", "config.bach: unknown field; did you mean batch?"),
        ("batch.size.x", "3", "config.batch.size.x=3: unknown field"),
        ("batch", "3", "config.batch=3: must be a group of fields"),
        ("groups.LB.batch.size", "-1", "config.groups.LB.batch.size=-1: must be > 0"),
        ("groups.LB.batch.sise", "1", "config.groups.LB.batch.sise=1: unknown field; did you mean size?"),
        ("groups.LB.batch.size", "70000", "config.groups.LB.batch.size=70000: is 70000 examples"),
        ("groups.LB.seeds", "2", "config.groups.LB.seeds=2: unknown field"),
        ("groups.LB", "2", "config.groups.LB=2: must be a group of fields"),
        ("optimizer.learning_rate", "nan", "config.optimizer.learning_rate=nan: must be a finite number"),
        ("optimizer.learning_rate", "inf", "config.optimizer.learning_rate=inf: must be a finite number"),
        ("optimizer.learning_rate", "1e-3x", "config.optimizer.learning_rate=1e-3x: must be a number, not str"),
        ("optimizer.learning_rate", "True", "config.optimizer.learning_rate=True: must be a number, not bool"),
        ("optimizer.learning_rate", "-1", "config.optimizer.learning_rate=-1: must be > 0"),
        ("optimizer.name", "adma", "config.optimizer.name=adma: unknown optimizer; did you mean adam? valid: adam, sgd"),
        ("optimizer.arguments.b3", "0.9", "config.optimizer.arguments.b3=0.9: unknown argument of adam; valid: b1, b2"),
        ("optimizer.arguments.b1", "0.99", "config.optimizer.arguments={'b1': 0.99}: adam does not take them: too old"),
        ("model.name", "F11", "config.model.name=F11: unknown model; did you mean F1? valid: F1, C1, C2"),
        ("model.name", "C2", "config.model.name=C2: too small"),
        ("model.variant", "released", "config.model.variant=released: unknown variant of F1; valid: paper"),
        ("groups.LB.model.variant", "released", "config.groups.LB.model.variant=released: unknown variant of F1"),
        ("model.batch_norm_momentum", "1.0", "config.model.batch_norm_momentum=1.0: must be >= 0 and < 1"),
        ("data.train_size", "0", "config.data.train_size=0: must be > 0"),
        ("data.train_size", "99999", "config.data.train_size=99999: too many"),
        ("groups.LB.data.train_size", "99999", "config.groups.LB.data.train_size=99999: too many"),
        ("data.validation_size", "-1", "config.data.validation_size=-1: must be > 0, or 0"),
        ("data.validation_size", "0%", "config.data.validation_size=0%: must be above 0%"),
        ("data.label_noise", "1.5", "config.data.label_noise=1.5: must be from 0 to 1"),
        ("augmentation.shift", "1.0", "config.augmentation.shift=1.0: must be >= 0 and < 1"),
        ("augmentation.rotation", "-1", "config.augmentation.rotation=-1: must be >= 0"),
        ("augmentation.rotation", "181", "config.augmentation.rotation=181: must be at most 180"),
        ("augmentation.crop", "1.5", "config.augmentation.crop=1.5: must be a whole number, not float"),
        ("train.epochs", "0", "config.train.epochs=0: must be > 0"),
        ("train.epochs", "True", "config.train.epochs=True: must be a whole number, not bool"),
        ("seeds", "0", "config.seeds=0: must be > 0"),
        ("measure.probes", "('evaluation', 'sharpnes')", "config.measure.probes=sharpnes: unknown probe; did you mean sharpness?"),
        ("batch.growth_epochs", "(5, 3)", "config.batch.growth_epochs=(5, 3): must ascend"),
        ("measure.probes", "evaluation", "config.measure.probes=evaluation: must be several values in parentheses"),
        ("measure.probes", "()", "config.measure.probes=(): must name at least one"),
        ("measure.modes", "('train',)", "config.measure.modes=train: unknown mode; "),
        ("measure.sharpness.epsilons", "(1e-3, 0.0)", "config.measure.sharpness.epsilons=(0.001, 0.0): must be > 0"),
        ("measure.sharpness.epsilons", "(1e-3, 'a')", "config.measure.sharpness.epsilons=(0.001, 'a'): each must be a number"),
        ("measure.sharpness.epsilons", "(1e-3, 1e-3)", "config.measure.sharpness.epsilons=(0.001, 0.001): must not repeat"),
        ("measure.path.shapes", "('line',)", "config.measure.path.shapes=('line',): must be linear or arc"),
        ("measure.path.first", "3.0", "config.measure.path.last=2.0: must be above config.measure.path.first=3.0"),
        ("compare", "('SB', 'XB')", "config.compare=XB: unknown group; valid: LB, SB"),
        ("compare", "('SB',)", "config.compare=('SB',): must name two different groups"),
        ("groups", "{}", "config.groups: must name at least one"),
        ("compare", "('SB', 'SB')", "config.compare=('SB', 'SB'): must name two different groups"),
        ("groups.SB.batch.size", "6000", "config.groups.LB: is the same run as config.groups.SB"),
        ("groups", "{1: {}}", "config.groups: names must be text, '1' and not 1"),
        ("batch", "{1: 2}", "config.batch: names must be text, not ['1']"),
        ("batch.size", "{}", "config.batch.size: must be a whole number or text, not dict"),
        ("optimizer.arguments.b1", "{1}", "config.optimizer.arguments.b1={1}: must be text, a finite number"),
        ("optimizer.arguments.b1", "1e400", "config.optimizer.arguments.b1=inf: must be text, a finite number"),
        ("seeds", "99999999999999999999", "config.seeds=99999999999999999999: must be at most 10000"),
        ("first_seed", "4294967296", "config.first_seed=4294967296: must be at most 2147483647"),
        ("first_seed", "2147483646", "config.first_seed=2147483646: with config.seeds=3 the last seed would be above 2,147,483,647"),
        ("reference.values", "{'XB': {}}", "config.reference.values=XB: unknown group"),
        ("reference.values", "{'SB': {'test_acuracy': (0.9, 0)}}", "config.reference.values.SB=test_acuracy: unknown measure; such as test_accuracy/batch"),
        ("reference.model", "F11", "config.reference.model=F11: unknown model; did you mean F1?"),
        ("measure.hessian.eigenvalues", "50", "config.measure.hessian.eigenvalues=50: must be at most config.measure.hessian.lanczos_iterations=40"),
        ("measure.hessian.trace_tolerance", "0.05", "config.measure.hessian.trace_tolerance=0.05: is looked at from 20 vectors on; config.measure.hessian.trace_probes=8 must be above"),
        ("measure", "{'probes': ('flatness',), 'flatness': {'sam_examples': 1}}", "config.measure.flatness.sam_examples=1: in mode batch must be >= 2; or leave batch out of config.measure.modes"),
        ("measure", "{'modes': ('running',), 'hessian': {'preconditioned': True}}", "config.measure.hessian.preconditioned=True: is measured in mode batch, which is not among config.measure.modes=('running',)"),
        ("reference.values", "{'SB': {'test_accuracy': (1" + 400 * "0" + ", 1)}}", "config.reference.values: must hold (mean, standard deviation)"),
        ("reference.values", "{'SB': {'test_accuracy': 0.98}}", "config.reference.values: must hold (mean, standard deviation)"),
        ("groups", "5", "config.groups=5: must be a mapping"),
    ],
)  # fmt: skip
def test_each_bad_value_is_named_with_what_it_must_be(path, text, message):
    found = errors((path, text))
    assert any(line.startswith(message) for line in found), found


def test_an_override_must_be_taken_by_some_group():
    groups = {"SB": {"train": {"epochs": 2}}, "LB": {"batch": {"size": 100}}}
    some = {**SETTINGS, "groups": groups}
    for path in ("train.epochs", "batch.size", "optimizer.learning_rate"):
        opened((path, "2"), settings=some)
    all_set = {**groups, "LB": {"train": {"epochs": 3}}}
    every = {**SETTINGS, "groups": all_set}
    assert errors(("train.epochs", "1"), settings=every) == [
        "config.train.epochs=1: every group sets it; say config.groups.NAME.train.epochs, NAME being one of SB, LB"
    ]
    opened(("groups.LB.train.epochs", "1"), settings=every)


def test_all_errors_come_at_once_and_none_twice():
    found = errors(
        ("batch.size", "-3"),
        ("optimizer.name", "adma"),
        ("seeds", "0"),
        ("train.epoch", "3"),
    )
    assert len(found) == 4
    assert [line.partition("=")[0] for line in sorted(found)] == [
        "config.batch.size",
        "config.optimizer.name",
        "config.seeds",
        "config.train.epoch",
    ]


def test_an_unknown_data_set_is_told_with_how_to_get_it():
    def missing(data):
        raise ValueError(f"{data.name} is not in {data.dir}")

    catalogue = dataclasses.replace(catalogues.PLAIN, training_examples=missing)
    with pytest.raises(
        door.ConfigError, match=r"config\.data\.name=nist: nist is not in there"
    ):
        door.open_study(
            {"measure": {"probes": ("evaluation",), "modes": ("running",)}},
            [("data.name", "nist"), ("data.dir", "there")],
            catalogue,
        )


def test_a_batch_larger_than_its_groups_own_data_set_is_refused():
    found = errors(("groups.LB.data.name", "small"), ("groups.LB.batch.size", "101"))
    assert found == [
        "config.groups.LB.batch.size=101: is 101 examples; must be 1 to 100, the size of the training set"
    ]


def test_a_batch_size_that_no_group_trains_with_need_not_fit_the_data():
    """The base run's 256 is more than the 100 examples; both groups have a size of their own."""
    groups = {"SB": {"batch": {"size": 10}}, "LB": {"batch": {"size": "100%"}}}
    settings = {**SETTINGS, "groups": groups, "data": {"name": "small"}}
    sizes = [run.batch_size for run in opened(settings=settings).runs]
    assert sizes[:2] == [10, 100]


def test_every_field_has_a_meaning_and_a_default_that_passes_its_own_check():
    for path, field in conversion.valid_fields(config.Study):
        default = (
            field.default_factory()
            if callable(field.default_factory)
            else field.default
        )
        check = field.metadata["check"]
        assert field.metadata["meaning"], path
        assert not (check and check(default)), path


def test_a_study_of_pairs_alone_needs_two_groups():
    catalogue = dataclasses.replace(CATALOGUE, probes=("path",))
    with pytest.raises(door.ConfigError, match=r"config\.compare names no two groups"):
        door.open_study({"measure": {"probes": ("path",)}}, [], catalogue)


def test_a_finished_run_is_measured_as_it_was_trained_wherever_its_data_lie_now():
    measure = {"measure": {"probes": ("evaluation",)}}
    plan = opened(("run", "there"), ("data.dir", "here"), settings=measure)
    (run,) = plan.runs
    assert (run.group, run.seed, run.batch_size) == ("LB", 4, 50)
    assert run.base.model.batch_norm_momentum == 0.5
    assert run.base.optimizer.name == "sgd"
    assert run.base.train.epochs == 7
    assert run.base.data == config.Data("small", "here")


def test_the_data_of_a_finished_run_may_be_streamed_now():
    measure = {"measure": {"probes": ("evaluation",)}, "run": "there"}
    streamed = ("data.streaming", "True"), ("data.workers", "2")
    (run,) = opened(*streamed, settings=measure).runs
    assert run.base.data == config.Data("small", streaming=True, workers=2)


def test_nothing_of_a_finished_run_can_be_changed():
    measure = {"measure": {"probes": ("evaluation",)}}
    found = errors(
        ("run", "there"), ("train.epochs", "3"), ("seeds", "2"), settings=measure
    )
    assert found == [
        "config.train.epochs=3: belongs to config.run and cannot be set beside it",
        "config.seeds=2: belongs to config.run and cannot be set beside it",
    ]


def test_a_run_that_is_not_there_is_told():
    def missing(path):
        raise ValueError(f"no run is there: {path}")

    catalogue = dataclasses.replace(CATALOGUE, finished_run=missing)
    with pytest.raises(door.ConfigError, match=r"config\.run=x: no run is there"):
        door.open_study({"run": "x"}, [], catalogue)


# A base run of 300 updates of 200 examples an epoch; 20 epochs.
RATED = dataclasses.replace(
    CATALOGUE,
    optimizers=optim.catalogue(),
    optimizer_error=optim.error,
    schedules=schedules.catalogue(),
    schedule_errors=lambda base, size, examples: schedules.errors(
        base.schedule,
        epochs=base.train.epochs * ((examples // size, size),),
        total_examples=examples * base.train.epochs,
    ),
    rules=tuple(scaling.RULES),
    scaling_error=scaling.error,
)


def rated(*overrides):
    return door.open_study(
        {"measure": {"probes": ("evaluation",)}, "batch": {"size": 200}},
        overrides,
        RATED,
    )


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("optimizer.weight_decay", "-0.1", "config.optimizer.weight_decay=-0.1: must be >= 0"),
        ("optimizer.clip_norm", "-1", "config.optimizer.clip_norm=-1: must be >= 0"),
        ("optimizer.sam_radius", "-1", "config.optimizer.sam_radius=-1: must be >= 0"),
        ("optimizer.sam_radius", "nan", "config.optimizer.sam_radius=nan: must be a finite number"),
        ("optimizer.sam_adaptive", "1", "config.optimizer.sam_adaptive=1: must be True or False, not int"),
        ("optimizer.sam_examples", "-1", "config.optimizer.sam_examples=-1: must be >= 0"),
        ("optimizer", "{'name': 'sgd', 'arguments': {'nesterov': 'false'}}", "config.optimizer.arguments.nesterov=false: must be True or False"),
        ("optimizer.arguments.eps", "True", "config.optimizer.arguments.eps=True: must be a number"),
        ("schedule", "{'name': 'exponential_decay', 'arguments': {'decay_rate': 0.5, 'staircase': 'no'}}", "config.schedule.arguments.staircase=no: must be True or False"),
        ("optimizer.decay_mask", "kernel", "config.optimizer.decay_mask=kernel: must be all or kernels"),
        ("optimizer", "{'name': 'novograd', 'decay_mask': 'kernels'}", "config.optimizer.decay_mask=kernels: novograd decays every parameter or none; must be all"),
        ("optimizer", "{'name': 'adam', 'arguments': {'b2': 2}}", "config.optimizer.arguments.b2=2: must be >= 0 and < 1"),
        ("optimizer", "{'name': 'sgd', 'arguments': {'momentum': 1.0}}", "config.optimizer.arguments.momentum=1.0: must be >= 0 and < 1"),
        ("optimizer", "{'name': 'adam', 'arguments': {'eps': -1e-8}}", "config.optimizer.arguments.eps=-1e-08: must be >= 0"),
        ("optimizer", "{'name': 'adamw', 'arguments': {'weight_decay': 0.1}}", "config.optimizer.arguments.weight_decay=0.1: is set by config.optimizer.weight_decay"),
        ("optimizer", "{'name': 'adamw', 'arguments': {'mask': True}}", "config.optimizer.arguments.mask=True: is set by config.optimizer.decay_mask"),
        ("optimizer", "{'name': 'lars', 'arguments': {'weight_decay_mask': True}}", "config.optimizer.arguments.weight_decay_mask=True: is set by config.optimizer.decay_mask"),
        ("schedule.name", "cosine", "config.schedule.name=cosine: unknown schedule; valid: "),
        ("schedule.name", "cosine_decay_shedule", "config.schedule.name=cosine_decay_shedule: unknown schedule; did you mean cosine_decay_schedule? valid: constant_schedule, "),
        ("schedule.unit", "epoch", "config.schedule.unit=epoch: must be steps or epochs or examples"),
        ("schedule.warmup", "-1", "config.schedule.warmup=-1: must be >= 0"),
        ("schedule.warmup", "21", "config.schedule.warmup=21: must be at most 20 epochs, the whole training"),
        ("schedule", "{'unit': 'steps', 'warmup': 6001}", "config.schedule.warmup=6001: must be at most 6000 steps, the whole training"),
        ("schedule", "{'name': 'exponential_decay'}", "config.schedule.arguments: exponential_decay does not take them: TypeError: "),
        ("schedule.arguments.decay_steps", "5", "config.schedule.arguments.decay_steps=5: unknown argument of constant_schedule; valid: value"),
        ("schedule.arguments.value", "{1}", "config.schedule.arguments.value={1}: must be text, a finite number"),
        ("scaling.base_batch", "0", "config.scaling.base_batch=0: must be > 0"),
        ("scaling.rule", "liner", "config.scaling.rule=liner: unknown rule; did you mean linear? valid: none, linear, square_root, adam_sde"),
        ("scaling", "{'rule': 'adam_sde', 'base_batch': 10}", "config.scaling.rule=adam_sde: makes b1 negative (-1) at 20 times config.scaling.base_batch"),
        ("groups", "{'a': {'scaling': {'rule': 'adam_sde'}, 'optimizer': {'name': 'sgd'}}}", "config.groups.a.scaling.rule=adam_sde: is a rule for adam and adamw, and sgd moves otherwise"),
    ],
)  # fmt: skip
def test_each_bad_way_from_gradient_to_update_is_named(path, text, message):
    with pytest.raises(door.ConfigError) as caught:
        rated((path, text))
    (found,) = caught.value.errors
    assert found.startswith(message), found


def test_a_rule_need_not_fit_a_batch_size_that_no_group_trains_with():
    small = "{'a': {'batch': {'size': 100}}}"
    plan = rated(
        ("scaling.rule", "adam_sde"),
        ("scaling.base_batch", "15"),
        ("groups", small),
    )
    assert [run.batch_size for run in plan.runs[:1]] == [100]


def test_a_network_that_no_group_trains_need_not_be_there():
    def code(name):
        if name == "nowhere:Network":
            raise ValueError("there is no module 'nowhere'")
        return f"code of {name}"

    catalogue = dataclasses.replace(CATALOGUE, network_code=code)
    mine = {"model": {"name": "mine:Network"}}
    settings = {
        **SETTINGS,
        "model": {"name": "nowhere:Network"},
        "groups": {"LB": {**mine, "batch": {"size": "100%"}}, "SB": mine},
    }
    plan = door.open_study(settings, (), catalogue)
    codes = {run.base.model.code for run in plan.runs}
    assert (plan.study.model.code, codes) == ("", {"code of mine:Network"})


@pytest.mark.parametrize(
    ("field", "value", "governor"),
    [
        ("optimizer.sam_adaptive", True, "optimizer.sam_radius"),
        ("optimizer.sam_examples", 50, "optimizer.sam_radius"),
        ("optimizer.decay_mask", "kernels", "optimizer.weight_decay"),
        ("robust.conservative_iterations", 7, "robust.conservative"),
        ("robust.adversarial_share", 0.25, "robust.adversarial"),
        ("robust.stability_noise", 0.25, "robust.stability"),
        ("batch.growth", 7, "batch.growth_epochs"),
        ("data.noise_seed", 7, "data.label_noise"),
        ("train.monitor", "train_loss", "train.patience"),
        ("scaling.base_batch", 128, "scaling.rule"),
        ("schedule.unit", "steps", "schedule.warmup or config.schedule.arguments"),
        ("data.split_seed", 7, "data.train_size or config.data.validation_size"),
    ],
)
def test_what_does_nothing_in_any_group_is_refused(field, value, governor):
    catalogue = dataclasses.replace(
        CATALOGUE, rules=("none", "linear"), schedules=schedules.catalogue()
    )
    with pytest.raises(door.ConfigError) as caught:
        door.open_study(SETTINGS, [(field, str(value))], catalogue)
    said = f"config.{field}={value}: does nothing without config.{governor}"
    assert caught.value.errors == (said,)
    first, *_ = governor.split(" or ")
    works = {
        "batch.growth_epochs": "(1,)",
        "train.patience": "3",
        "scaling.rule": "linear",
        "data.train_size": "50%",
    }.get(first, "0.1")
    governed = [(field, str(value)), (f"groups.SB.{first}", works)]
    if first != "train.patience":
        assert door.open_study(SETTINGS, governed, catalogue).runs


def test_a_group_without_a_name_is_refused():
    """config.start.group="" means a random start."""
    settings = {
        **SETTINGS,
        "groups": {**SETTINGS["groups"], "": {"batch": {"size": 7}}},
    }
    assert errors(settings=settings) == ["config.groups: a group needs a name"]


def test_a_field_of_the_base_run_that_is_wrong_in_one_group_names_it():
    bad = {60_000: {"batch.ghost": "bad"}}
    catalogue = dataclasses.replace(
        CATALOGUE, recipe_errors=lambda _base, size, _examples: bad.get(size, {})
    )
    settings = {**SETTINGS, "batch": {"ghost": 9}, "groups": {"LB": {"batch": {"size": "100%"}}, "SB": {}}}  # fmt: skip
    with pytest.raises(door.ConfigError) as caught:
        door.open_study(settings, (), catalogue)
    assert caught.value.errors == ("config.batch.ghost=9: bad (group LB)",)


def test_a_schedule_in_full_goes_through_the_door():
    plan = rated(
        ("schedule.name", "piecewise_constant_schedule"),
        ("schedule.arguments.boundaries_and_scales", "((10, 0.1), (15, 0.1))"),
        ("schedule.warmup", "0.5"),
        ("optimizer.name", "sgd"),
        ("optimizer.arguments.momentum", "0.9"),
        ("optimizer.weight_decay", "1e-4"),
        ("optimizer.decay_mask", "kernels"),
        ("scaling.rule", "linear"),
    )
    base = plan.runs[0].base
    assert base.schedule.arguments == {"boundaries_and_scales": ((10, 0.1), (15, 0.1))}
    assert (base.optimizer.weight_decay, base.scaling.rule) == (1e-4, "linear")


ALONG = {
    "measure": {
        "probes": ("evaluation",),
        "along": {"epochs": (0, 5), "probes": ("sharpness",)},
    }
}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("epochs", "(3, 21)", "config.measure.along.epochs=(3, 21): the runs of base train 20 whole epochs"),
        ("epochs", "(1, -1)", "config.measure.along.epochs=(1, -1): must be >= 0"),
        ("epochs", "(1, 1)", "config.measure.along.epochs=(1, 1): must not repeat"),
        ("epochs", "5", "config.measure.along.epochs=5: must be several values in parentheses"),
        ("epochs", "(0.5,)", "config.measure.along.epochs=(0.5,): each must be a whole number"),
        ("probes", "('sharpnes',)", "config.measure.along.probes=sharpnes: unknown probe; did you mean sharpness?"),
        ("probes", "('sharpness', 'path')", "config.measure.along.probes=path: measures pairs, and no point along training has a partner"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_along_training_is_told(field, value, message):
    catalogue = dataclasses.replace(CATALOGUE, probes=(*CATALOGUE.probes, "path"))
    with pytest.raises(door.ConfigError) as caught:
        door.open_study(ALONG, [(f"measure.along.{field}", value)], catalogue)
    assert caught.value.errors[0].startswith(message)


@pytest.mark.parametrize(
    "other",
    [
        {"model": {"name": "C1"}},
        {"model": {"name": "C1", "variant": "released"}},
        {"data": {"name": "small"}, "batch": {"size": 50}},
    ],
)
def test_there_is_no_path_between_different_networks(other):
    catalogue = dataclasses.replace(CATALOGUE, probes=(*CATALOGUE.probes, "path"))
    pair = SETTINGS | {"groups": {"SB": {}, "LB": other}}
    asked = [("measure.probes", "('evaluation', 'path')")]
    with pytest.raises(door.ConfigError) as caught:
        door.open_study(pair, asked, catalogue)
    assert caught.value.errors == (
        "config.measure.probes=path: SB and LB have different networks or data, and no path between them; leave it out",
    )
    assert door.open_study(pair, (), catalogue).runs
    of_one = SETTINGS | {"groups": {"SB": other, "LB": other | {"batch": {"size": 7}}}}
    assert door.open_study(of_one, asked, catalogue).runs


@pytest.mark.parametrize("field", ["measure.probes", "measure.along.probes"])
def test_scales_are_measured_in_front_of_batch_norm_alone(field):
    catalogue = dataclasses.replace(
        CATALOGUE,
        probes=(*CATALOGUE.probes, "invariance"),
        normalised=lambda base: base.model.name == "F1",
    )
    mixed = SETTINGS | {"groups": {"SB": {}, "LB": {"model": {"name": "C1"}}}}
    asked = [(field, "('evaluation', 'invariance')")]
    with pytest.raises(door.ConfigError) as caught:
        door.open_study(mixed, asked, catalogue)
    assert caught.value.errors == (
        f"config.{field}=invariance: the network of LB has no batch norm that could take a factor out again",
    )
    assert door.open_study(SETTINGS, asked, catalogue).runs


def test_every_group_must_have_the_epochs_that_are_measured():
    settings = ALONG | {"groups": {"long": {}, "short": {"train": {"epochs": 4}}}}
    assert errors(settings=settings) == [
        "config.measure.along.epochs=(0, 5): the runs of short train 4 whole epochs"
    ]


def test_a_finished_run_is_measured_at_the_epochs_that_it_kept():
    plan = opened(("run", "there"), settings=ALONG)
    assert plan.study.measure.along.epochs == (0, 5)
    found = errors(("run", "there"), ("measure.along.epochs", "(0, 3)"), settings=ALONG)
    assert found == [
        "config.measure.along.epochs=(0, 3): the run has its weights after epochs 0, 2, 5 alone, those named when it was trained"
    ]


def test_measuring_along_training_makes_no_other_run():
    plain = {"measure": {"probes": ("evaluation",)}}
    names = [
        [run.name for run in opened(settings=each).runs] for each in (plain, ALONG)
    ]
    assert names[0] == names[1]


def test_a_network_of_ones_own_carries_what_its_file_was_into_the_identity():
    plan = opened(("model.name", "mine.deep:Net"))
    assert plan.study.model.code == "code of mine.deep:Net"
    for run in plan.runs:
        assert run.identity["model"]["code"] == "code of mine.deep:Net"
        assert run.name.startswith("mnist-mine.deep-Net-adam-B")
    assert "code" not in opened().runs[0].identity["model"]


def test_a_network_of_ones_own_whose_file_has_changed_is_refused_where_the_old_one_is_named():
    same = opened(("model.name", "mine:Net"), ("model.code", "'code of mine:Net'")).runs
    assert [run.name for run in same] == [
        run.name for run in opened(("model.name", "mine:Net")).runs
    ]
    assert errors(("model.name", "mine:Net"), ("model.code", "old")) == [
        "config.model.code=old: the file that holds mine:Net has become another one, code of mine:Net"
    ]


def test_what_is_wrong_with_a_network_of_ones_own_is_told():
    assert errors(("model.name", "mine:Bad")) == ["config.model.name=mine:Bad: is bad"]
    assert errors(("model.name", "mine:Net"), ("model.variant", "released")) == [
        "config.model.variant=released: mine:Net has no variants"
    ]
    assert errors(("model.code", "abc")) == [
        "config.model.code=abc: is that of a network of your own, MODULE:NAME"
    ]
    (unknown,) = errors(("model.name", "F9"))
    assert unknown.endswith("or MODULE:NAME for a network of your own")
