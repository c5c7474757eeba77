"""The training steps of F1 and C1 in PyTorch: the same networks, optimizer and data as ours, eager and compiled."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from bsexp import config
from bsexp.data import examples
from bsexp.models import normalisation


class Form(NamedTuple):
    """How PyTorch runs.

    Attributes:
        mode: of `torch.compile` for network and loss; "" without it.
        fused: Adam as one kernel for all parameters, or as it comes.
    """

    mode: str
    fused: bool


def forms() -> dict[str, Form]:
    """Return the forms to compare with: those that may be the fastest on this device."""
    found = {"eager": Form("", fused=True), "compiled": Form("default", fused=True)}
    if torch.cuda.is_available():
        return {**found, "compiled, CUDA graphs": Form("reduce-overhead", fused=True)}
    return {**found, "eager, Adam not fused": Form("", fused=False)}


def epoch(base: config.Base, batch_size: int, form: Form) -> Callable[[int], Any]:
    """Return the call of so many updates: batches gathered from uint8 images on the device, float32, Adam at 1e-3.

    Args:
        base: its network, F1 or C1, and its data.
        batch_size: B.
        form: how PyTorch runs.
    """
    train = examples.load(base.data).train
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    # Products are float32 by default, convolutions are not.
    torch.backends.cudnn.allow_tf32 = False
    images = torch.from_numpy(np.array(train.images)).to(device)
    labels = torch.from_numpy(np.array(train.labels)).long().to(device)
    torch.manual_seed(0)
    network = NETWORKS[base.model.name](int(labels.max()) + 1).train().to(device)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=form.fused)
    order = torch.randperm(len(labels)).to(device)

    def loss(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        # [b, H, W, C] in memory and [b, C, H, W] by name: the format in which PyTorch's convolutions are fastest.
        seen = (inputs.float() / 255).permute(0, 3, 1, 2)
        return criterion(network(seen), targets)

    function = torch.compile(loss, dynamic=False, mode=form.mode) if form.mode else loss

    def run(steps: int) -> None:
        for i in range(steps):
            chosen = order[i * batch_size : (i + 1) * batch_size]
            optimizer.zero_grad(set_to_none=True)
            function(images[chosen], labels[chosen]).backward()
            optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return run


def _f1(classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), *_dense((784, *(512,) * 5), 0.0), nn.Linear(512, classes)
    )


def _c1(classes: int) -> nn.Module:
    convolutions = []
    for channels in (3, 64):
        convolutions += [
            nn.Conv2d(channels, 64, 5, stride=2, padding=2),
            nn.BatchNorm2d(64, eps=normalisation.EPSILON),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, padding=1),
        ]
    dense = _dense((256, 384, 192), 0.5)
    network = nn.Sequential(
        *convolutions, nn.Flatten(), *dense, nn.Linear(192, classes)
    )
    return network.to(memory_format=torch.channels_last)


def _dense(widths: tuple[int, ...], dropout: float) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        norm = nn.BatchNorm1d(outputs, eps=normalisation.EPSILON)
        layers += [nn.Linear(inputs, outputs), norm, nn.ReLU()]
        layers += [nn.Dropout(dropout)] * bool(dropout)
    return layers


NETWORKS = {"F1": _f1, "C1": _c1}
