"""The vendors' PyTorch connectors as data sets for epochs.py.

Both give an object per index; the label is the key's directory, as ImageFolder has it. OssMapDataset
implements ``__getitems__``: PyTorch's loader hands it the indices of a whole batch, which it fetches at
once in C++ (its batch hints). S3MapDataset has no such thing.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


class Labelled:
    """What becomes of an object: (its length or its transformed image, its class's name)."""

    def __init__(self, transform: Any) -> None:
        self._transform = transform

    def __call__(self, item: Any) -> tuple[Any, str]:
        label = item.key.rsplit("/", 2)[-2]
        data = item.read()
        if self._transform is None:
            return len(data), label
        from PIL import Image

        return self._transform(Image.open(io.BytesIO(data)).convert("RGB")), label


def open_connector(source: str, transform: Any, scratch: Path) -> Any:
    """The data set of ``oss+http://host:port/bucket`` or ``s3+http://host:port/bucket``."""
    parts = urlsplit(source)
    kind, _, scheme = parts.scheme.partition("+")
    endpoint, bucket = f"{scheme}://{parts.netloc}", parts.path.strip("/")
    if kind == "oss":
        return _open_oss(endpoint, bucket, Labelled(transform), scratch)
    return _open_s3(endpoint, bucket, Labelled(transform))


def _open_oss(endpoint: str, bucket: str, transform: Labelled, scratch: Path) -> Any:
    from osstorchconnector import OssMapDataset

    keys, config = scratch / "oss-keys.json", scratch / "oss-config.json"
    keys.write_text(
        json.dumps(
            {
                "AccessKeyId": "nobody",
                "AccessKeySecret": "nothing",
                "SecurityToken": "",
                "Expiration": "2099-01-01T00:00:00Z",
            }
        )
    )
    config.write_text(json.dumps({"logLevel": 2, "logPath": str(scratch / "oss-connector.log")}))
    return OssMapDataset.from_prefix(
        f"oss://{bucket}/",
        endpoint=endpoint,
        cred_path=str(keys),
        config_path=str(config),
        region="cn-hangzhou",
        transform=transform,
    )


def _open_s3(endpoint: str, bucket: str, transform: Labelled) -> Any:
    from s3torchconnector import S3ClientConfig, S3MapDataset

    return S3MapDataset.from_prefix(
        f"s3://{bucket}/",
        region="us-east-1",
        endpoint=endpoint,
        transform=transform,
        s3client_config=S3ClientConfig(unsigned=True, force_path_style=True),
    )
