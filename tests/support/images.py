"""A small labelled image set, the same at every call. Touch it when tests need images of another kind."""

from __future__ import annotations

import functools
import hashlib
import io
import random
from collections.abc import Mapping
from pathlib import Path

from tests.support.trainer import Epoch

CLASSES = ("ant", "bee", "cat", "dog")
PER_CLASS = 25


@functools.cache
def image_set() -> Mapping[str, bytes]:
    """JPEGs of 1 to 60 KB by ``class/name``."""
    from PIL import Image

    dice = random.Random(11)
    images = {}
    for label in CLASSES:
        for number in range(PER_CLASS):
            side = dice.randint(16, 200)
            stream = io.BytesIO()
            noise = Image.frombytes("RGB", (side, side), dice.randbytes(3 * side * side))
            noise.save(stream, "JPEG", quality=dice.randint(40, 90))
            images[f"{label}/{number:03}.jpg"] = stream.getvalue()
    return images


def write_to(directory: Path) -> Path:
    """The set as files below ``directory``."""
    for name, data in image_set().items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return directory


def expected() -> Epoch:
    """What an epoch over the set must have read."""
    samples = {
        name: (name.partition("/")[0], hashlib.sha256(data).hexdigest()) for name, data in image_set().items()
    }
    return Epoch(sorted(CLASSES), samples)
