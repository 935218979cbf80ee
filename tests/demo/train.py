"""A training program as people write it: it knows torchvision and a directory, nothing of ossmount.

python train.py DIRECTORY [--epochs 2] [--workers 2] [--step]
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--step", action="store_true", help="wait for Enter after each epoch")
    return parser.parse_args()


def train(loader: DataLoader, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, float]:
    """One epoch: (images, mean loss)."""
    images, total = 0, 0.0
    for pictures, labels in loader:
        loss = nn.functional.cross_entropy(model(pictures), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        images += len(labels)
        total += loss.item() * len(labels)
    return images, total / images


def main() -> None:
    given = arguments()
    torch.manual_seed(7)
    data = ImageFolder(
        given.directory, transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])
    )
    print(f"{len(data.classes)} classes: {', '.join(data.classes)}; {len(data)} images", flush=True)
    loader = DataLoader(data, batch_size=32, shuffle=True, num_workers=given.workers)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, len(data.classes)))
    optimizer = torch.optim.Adam(model.parameters())
    for epoch in range(given.epochs):
        started = time.perf_counter()
        images, loss = train(loader, model, optimizer)
        seconds = time.perf_counter() - started
        print(f"epoch {epoch + 1}: {images / seconds:,.0f} images/s, loss {loss:.2f}", flush=True)
        if given.step:
            input()


if __name__ == "__main__":
    main()
