"""One training program, unmodified torchvision: prints a JSON line for construction and for each epoch.

    python epochs.py SOURCE [--epochs 2] [--workers 8] [--decode] [--gate] [--seconds N] [--announce]

SOURCE is a directory, or what a connector reads (``oss+http://host:port/bucket``; connectors.py).
``--gate``: before each epoch says so and waits for a line on standard input, so that whoever measures can
drop caches and read counters. It is a program of its own, started anew for each run: a program keeps
descriptors, memory and import costs from run to run that belong to nobody.
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
from torch.utils.data import DataLoader, Sampler  # noqa: E402
from torchvision import transforms  # noqa: E402
from torchvision.datasets import ImageFolder  # noqa: E402


def read_raw(path: str) -> bytes:
    """The raw loader: the file's bytes as they are."""
    with open(path, "rb") as file:  # noqa: PTH123 - what a user's loader does
        return file.read()


def length(data: bytes) -> int:
    """Stands for a transform; keeps bytes out of the queue between worker and trainer."""
    return len(data)


def training_transform() -> Any:
    """The usual one."""
    return transforms.Compose([transforms.RandomResizedCrop(224), transforms.ToTensor()])


def open_dataset(source: str, options: argparse.Namespace) -> Any:
    """ImageFolder, or a connector's data set, with the raw or the decoding loader."""
    if options.announce:
        import tests.bench.known_order  # noqa: F401 - where a program imports: before it trains
    if "+http" in source:
        from tests.bench.connectors import open_connector

        return open_connector(source, training_transform() if options.decode else None, Path(options.scratch))
    if options.decode:
        return ImageFolder(source, transform=training_transform())
    return ImageFolder(source, loader=read_raw, transform=length)


class AnnouncedOrder(Sampler[int]):
    """A shuffled order that is told to the mount as soon as it is drawn.

    Like PyTorch's own samplers that know their order, it is drawn by ``set_epoch``, which a program calls
    before it begins the epoch: the mount fetches while the loader starts its workers.
    """

    def __init__(self, dataset: ImageFolder, root: str) -> None:
        self._dataset = dataset
        self._root = root
        self._order: list[int] = []

    def __len__(self) -> int:
        return len(self._dataset)

    def __iter__(self) -> Any:
        return iter(self._order)

    def set_epoch(self, epoch: int) -> None:
        """Draws the order of ``epoch`` and tells it."""
        from tests.bench.known_order import announce

        generator = torch.Generator().manual_seed(epoch)
        self._order = torch.randperm(len(self._dataset), generator=generator).tolist()
        announce(self._root, [self._dataset.samples[i][0] for i in self._order])


def make_loader(dataset: Any, options: argparse.Namespace) -> DataLoader[Any]:
    """The loader that a user would write; with ``--announce`` the sampler tells the mount its order."""
    common = {"batch_size": options.batch, "num_workers": options.workers}
    if options.announce:
        return DataLoader(dataset, sampler=AnnouncedOrder(dataset, options.source), **common)
    return DataLoader(dataset, shuffle=True, **common)


def run_epochs(dataset: Any, options: argparse.Namespace) -> None:
    """Iterates the data set and prints each epoch's images and seconds."""
    torch.manual_seed(7)
    loader = make_loader(dataset, options)
    for epoch in range(options.epochs):
        if options.gate:
            say(case="gate", epoch=epoch + 1)
            sys.stdin.readline()
        images, started = 0, time.perf_counter()
        if isinstance(loader.sampler, AnnouncedOrder):
            loader.sampler.set_epoch(epoch)
        for batch in loader:
            images += len(batch[1])
            if options.seconds and time.perf_counter() - started > options.seconds:
                break
        seconds = time.perf_counter() - started
        say(case="epoch", epoch=epoch + 1, images=images, seconds=seconds, whole=images == len(dataset))


def say(**fields: Any) -> None:
    """One JSON line on standard output."""
    print(json.dumps(fields), flush=True)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("source")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--decode", action="store_true")
    parser.add_argument("--gate", action="store_true")
    parser.add_argument("--announce", action="store_true", help="tell the mount the order (known_order.py)")
    parser.add_argument("--seconds", type=float, default=0.0, help="cut an epoch that takes longer")
    parser.add_argument("--scratch", default=".", help="directory for a connector's configuration")
    return parser.parse_args(arguments)


def main() -> None:
    """Runs what the command line asks for."""
    options = parse(sys.argv[1:])
    torch.set_num_threads(1)
    say(case="ready")
    if options.gate:
        sys.stdin.readline()
    started = time.perf_counter()
    dataset = open_dataset(options.source, options)
    seconds = time.perf_counter() - started
    say(case="construction", files=len(dataset), seconds=seconds)
    run_epochs(dataset, options)


if __name__ == "__main__":
    main()
