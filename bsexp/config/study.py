"""A study, its groups, and a run's identity."""

import dataclasses
import hashlib
import json
from typing import Any

from bsexp.bounds import between, published, some
from bsexp.config.examples import Augmentation, Data
from bsexp.config.measure import Measure
from bsexp.config.option import IF_SET, identity_fields, option
from bsexp.config.training import Execution, Start, Train
from bsexp.config.update import Batch, Model, Optimizer, Robust, Scaling, Schedule


@dataclasses.dataclass(frozen=True)
class Reference:
    """Published values, which stand beside ours where the data set and the network are theirs."""

    data: str = option("", "data set of the published values")
    model: str = option("", "network of the published values")
    values: dict[str, dict[str, Any]] = option(
        {},
        "group name -> measure -> (mean, standard deviation)",
        check=published,
    )


@dataclasses.dataclass(frozen=True)
class Base:
    """Everything of a run but its seed."""

    data: Data = Data()
    augmentation: Augmentation = Augmentation()
    model: Model = Model()
    batch: Batch = Batch()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    scaling: Scaling = Scaling()
    robust: Robust = option(
        Robust(), "remedies of Keskar et al. 2017, Appendix E", identity=IF_SET
    )
    start: Start = option(Start(), "where a run begins", identity=IF_SET)
    train: Train = Train()
    execution: Execution = Execution()


@dataclasses.dataclass(frozen=True)
class Study(Base):
    """A question: a base run, what varies in it, and what is measured."""

    run: str = option(
        "",
        "folder of a finished run: it is measured, and nothing is trained; empty: the groups are trained",
    )
    question: str = option("", "what the study asks, for the report")
    source: str = option("", "where the question comes from, for the report")
    seeds: int = option(
        3,
        "runs of each group; seeds count from first_seed",
        unit="runs",
        check=between(1, 10_000),
    )
    first_seed: int = option(
        0, "seed of the first run: start and data order", check=between(0, 2**31 - 1)
    )
    groups: dict[str, dict[str, Any]] = option(
        {"base": {}},
        "what varies: group name -> fields of the base run that differ",
        check=some,
    )
    compare: tuple[str, ...] = option(
        (), "two groups: the baseline and the one that is compared with it"
    )
    reference: Reference = Reference()
    measure: Measure = Measure()


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run, resolved: equal fields, equal numbers."""

    group: str
    seed: int
    batch_size: int
    base: Base
    donor: "Run | None" = None  # the run that config.start means

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the numbers: all that enters the hash."""
        fields = identity_fields(self._deciding)
        if self.donor is not None:
            # The run itself, not what the study calls its group.
            fields["start"] = {"run": self.donor.name, "epoch": self.base.start.epoch}
        batch = {**fields["batch"], "size": self.batch_size}
        return {**fields, "batch": batch, "seed": self.seed}

    @property
    def _deciding(self) -> Base:
        """The base run, without a target that ends nothing: it is read off the curves, whenever it is asked for."""
        train = self.base.train
        if train.stop_at_target:
            return self.base
        read = {field: getattr(Train, field) for field in ("target", "target_metric")}
        return dataclasses.replace(self.base, train=dataclasses.replace(train, **read))

    @property
    def name(self) -> str:
        """Readable keys and eight hex digits of the hash of ``identity``."""
        digest = hashlib.sha256(
            json.dumps(self.identity, sort_keys=True).encode()
        ).hexdigest()[:8]
        data, model = (
            each.name.replace("/", "-").replace(":", "-")
            for each in (self.base.data, self.base.model)
        )
        return f"{data}-{model}-{self.base.optimizer.name}-B{self.batch_size}-seed{self.seed}-{digest}"
