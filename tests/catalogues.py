"""A small catalogue in which nothing is wrong; tests replace what they are about."""

from bsexp import config
from bsexp.catalogue import Catalogue

PLAIN = Catalogue(
    models={"F1": ("paper",)},
    probes=config.Measure().probes,
    modes=("running", "batch"),
    is_measure=lambda name: name.startswith("test_accuracy"),
    optimizers={"adam": {}},
    optimizer_error=lambda _optimizer: "",
    training_examples=lambda _data: 100,
    finished_run={}.get,
    model_error=lambda _base: "",
    normalised=lambda _base: True,
    network_code=lambda _name: "",
    schedules={},
    schedule_errors=lambda _base, _size, _examples: {},
    rules=(config.Scaling.rule,),
    recipe_errors=lambda _base, _size, _examples: {},
    scaling_error=lambda _optimizer, _scaling, _size: "",
    whole_epochs=lambda base, _size, _examples: base.train.epochs,
    kept_epochs=lambda _folder: (),
)
