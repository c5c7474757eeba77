"""F1's training step in PyTorch: the same network, optimizer and data as ours, eager and compiled."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from bsexp.data import sources
from bsexp.models import normalisation

WIDTHS = (784, 512, 512, 512, 512, 512)
FORMS = ("eager", "compiled")


def epoch(batch_size: int, form: str) -> Callable[[int], Any]:
    """Return the call of so many updates: batches gathered from uint8 images in memory, Adam at 1e-3.

    Args:
        batch_size: B.
        form: one of FORMS; "compiled" is `torch.compile` of network and loss, without its guard of shapes.
    """
    train = sources.load("mnist", "").train
    images = torch.from_numpy(np.array(train.images)).reshape(len(train.labels), -1)
    labels = torch.from_numpy(np.array(train.labels)).long()
    torch.manual_seed(0)
    network, criterion = _f1(), nn.CrossEntropyLoss()
    # The optimizer's own best form on a CPU: one kernel for all parameters.
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    order = torch.randperm(len(labels))

    def loss(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return criterion(network(inputs.float() / 255), targets)

    function = torch.compile(loss, dynamic=False) if form == "compiled" else loss

    def run(steps: int) -> None:
        for i in range(steps):
            chosen = order[i * batch_size : (i + 1) * batch_size]
            optimizer.zero_grad(set_to_none=True)
            function(images[chosen], labels[chosen]).backward()
            optimizer.step()

    return run


def _f1() -> nn.Module:
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(WIDTHS):
        norm = nn.BatchNorm1d(outputs, eps=normalisation.EPSILON)
        layers += [nn.Linear(inputs, outputs), norm, nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(WIDTHS[-1], 10)).train()
