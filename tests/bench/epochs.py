"""One training program, unmodified torchvision: prints a JSON line for construction and for each epoch.

    python epochs.py DIRECTORY [--epochs 2] [--workers 8] [--decode] [--batch 32] [--barrier FIFO]

It is a program of its own, started anew for each run: a program keeps descriptors, memory and import
costs from run to run that belong to nobody.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support.torchvision_ops import import_torchvision

import_torchvision()

import torch  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402
from torchvision import transforms  # noqa: E402
from torchvision.datasets import ImageFolder  # noqa: E402


def read_raw(path: str) -> bytes:
    """The raw loader: the file's bytes as they are."""
    with open(path, "rb") as file:  # noqa: PTH123 - what a user's loader does
        return file.read()


def length(data: bytes) -> int:
    """Stands for a transform; keeps bytes out of the queue between worker and trainer."""
    return len(data)


def image_folder(root: str, decode: bool) -> ImageFolder:
    """ImageFolder with the raw loader, or with the usual training transform."""
    if not decode:
        return ImageFolder(root, loader=read_raw, transform=length)
    return ImageFolder(
        root, transform=transforms.Compose([transforms.RandomResizedCrop(224), transforms.ToTensor()])
    )


def run_epochs(dataset: Any, epochs: int, workers: int, batch: int) -> None:
    """Iterates the data set ``epochs`` times and prints images/s."""
    torch.manual_seed(7)
    loader = DataLoader(dataset, batch_size=batch, shuffle=True, num_workers=workers)
    for epoch in range(epochs):
        started = time.perf_counter()
        images = sum(len(targets) for _, targets in loader)
        seconds = time.perf_counter() - started
        say(case="epoch", epoch=epoch + 1, images=images, seconds=seconds, rate=images / seconds)


def say(**fields: Any) -> None:
    """One JSON line on standard output."""
    print(json.dumps(fields), flush=True)  # noqa: T201


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--decode", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    started = time.perf_counter()
    dataset = image_folder(options.directory, options.decode)
    seconds = time.perf_counter() - started
    say(case="construction", files=len(dataset), seconds=seconds, rate=len(dataset) / seconds)
    run_epochs(dataset, options.epochs, options.workers, options.batch)


if __name__ == "__main__":
    main()
