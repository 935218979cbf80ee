"""What path in the mount an object gets that was named by a complete URI.

What may live here: that one rule, pure. Who may touch it: whoever changes the rule, with the docs.
"""

from __future__ import annotations

from collections.abc import Iterable

from ossmount.uris import HTTP_SCHEMES


class CommonDirectory:
    """The rule for complete URIs: what all of them share is left out, in whole components.

    - All in one store: the longest common directory of the keys is stripped
      (``s3://b/x/1/a`` and ``s3://b/x/2/b`` → ``1/a`` and ``2/b``; a single ``s3://b/x/a`` → ``a``).
    - Several stores: the bucket's (or host's) name comes first, and the whole key follows
      (``s3://b/x/a`` and ``s3://c/x/a`` → ``b/x/a`` and ``c/x/a``). Where two schemes have a bucket
      of the same name, the scheme is put before it: ``s3-b/…`` and ``oss-b/…``. Local files: ``file/…``.
    - ``http(s)``: the query is part of the object but not of the path.
    """

    def __init__(self) -> None:
        self._stores: dict[str, bool] = {}
        self._common: str | None = None
        self._names: dict[str, str] | None = None

    def add(self, store: str, key: str) -> None:
        """Takes note of one object; all have to be added before the first path is asked for."""
        if store not in self._stores:
            self._stores[store] = store.startswith(HTTP_SCHEMES)
        path = key.partition("?")[0] if self._stores[store] else key
        if self._common is None:
            self._common = _directory(path)
        elif not path.startswith(self._common):
            self._common = _common_directory(self._common, path)

    def path(self, store: str, key: str) -> bytes:
        """The object's path relative to the mount."""
        path = key.partition("?")[0] if self._stores[store] else key
        if len(self._stores) == 1:
            path = path[len(self._common or "") :]
        else:
            path = f"{self._name(store)}/{path}"
        return path.encode("utf-8", "surrogateescape")

    def _name(self, store: str) -> str:
        if self._names is None:
            self._names = _store_names(self._stores)
        return self._names[store]


def _directory(path: str) -> str:
    return path[: path.rfind("/") + 1]


def _common_directory(directory: str, path: str) -> str:
    same = 0
    for left, right in zip(directory, path, strict=False):
        if left != right:
            break
        same += 1
    return _directory(directory[:same])


def _store_names(stores: Iterable[str]) -> dict[str, str]:
    split = {store: store.partition("://")[::2] for store in stores}
    hosts = [host for _, host in split.values()]
    return {
        store: scheme if host in {"", "/"} else f"{scheme}-{host}" if hosts.count(host) > 1 else host
        for store, (scheme, host) in split.items()
    }
