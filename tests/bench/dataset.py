"""The benchmark's image set: JPEGs of about 70 KB in class directories, made once and kept."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = 100
SIDE = 512
"""Pixels; with quality 60 and this much texture a JPEG of about 70 KB, ImageNet's order of magnitude."""


def make_images(root: Path, count: int, classes: int = CLASSES) -> int:
    """Makes ``count`` JPEGs below ``root/<class>/``; returns their total bytes. Nothing if they exist."""
    done = root.with_suffix(".complete")
    if not done.exists():
        source = np.random.default_rng(7)
        for number in range(count):
            path = root / f"class_{number % classes:04d}" / f"image_{number:06d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            _texture(source).save(path, quality=60)
        done.write_text(str(sum(p.stat().st_size for p in root.rglob("*.jpg"))))
    return int(done.read_text())


def _texture(source: np.random.Generator) -> Image.Image:
    """Noise over a gradient: as hard to compress as a photograph with much detail."""
    noise = source.integers(0, 110, (SIDE, SIDE, 3), dtype=np.uint8)
    slope = np.linspace(0, 140, SIDE, dtype=np.uint8)
    return Image.fromarray(noise + slope[None, :, None])


def make_names(root: Path, count: int, classes: int) -> None:
    """Makes ``count`` small files in ``classes`` directories, for the construction case."""
    done = root.with_suffix(".complete")
    if done.exists():
        return
    for number in range(count):
        path = root / f"class_{number % classes:04d}" / f"image_{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\xff\xd8" + number.to_bytes(4, "big"))
    done.write_text(str(count))


def make_object(path: Path, size: int) -> None:
    """Makes one file of ``size`` random bytes. Nothing if it exists."""
    if path.exists() and path.stat().st_size == size:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    source = random.Random(7)
    with path.open("wb") as file:
        for start in range(0, size, 1 << 20):
            file.write(source.randbytes(min(1 << 20, size - start)))
