"""What path in the mount an object gets that was named by a complete URI.

What may live here: that one rule, pure. Who may touch it: whoever changes the rule, with the docs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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
            self._common = common_directory(self._common, path)

    def path(self, store: str, key: str) -> bytes:
        """The object's path relative to the mount."""
        path = key.partition("?")[0] if self._stores[store] else key
        alone = len(self._stores) == 1
        relative = path[len(self._common or "") :] if alone else f"{self._name(store)}/{path}"
        return relative.encode("utf-8", "surrogateescape")

    def add_column(self, store: str, keys: Sequence[str]) -> None:
        """Takes note of objects of one store: what the least and the greatest share, all share."""
        self.add(store, min(keys))
        self.add(store, max(keys))

    def paths(self, store: str, keys: Sequence[str]) -> list[bytes]:
        """:meth:`path` of objects of one store other than HTTP."""
        if len(self._stores) > 1:
            return [self.path(store, key) for key in keys]
        skip = len(self._common or "")
        return [key[skip:].encode("utf-8", "surrogateescape") for key in keys]

    def _name(self, store: str) -> str:
        if self._names is None:
            self._names = _store_names(self._stores)
        return self._names[store]


class BaseDirectory:
    """The rule where ``--base-uri`` is given: paths are relative to it.

    A complete URI that is not below the base gets its bucket's name and its whole key.
    """

    def __init__(self, store: str, prefix: str) -> None:
        self._store = store
        self._prefix = prefix

    def path(self, store: str, key: str) -> bytes:
        """The object's path relative to the mount."""
        path = key.partition("?")[0] if store.startswith(HTTP_SCHEMES) else key
        if store == self._store and path.startswith(self._prefix):
            path = path[len(self._prefix) :]
        else:
            path = f"{_store_names([store])[store]}/{path}"
        return path.encode("utf-8", "surrogateescape")

    def paths(self, store: str, keys: Sequence[str]) -> list[bytes]:
        """:meth:`path` of objects of one store."""
        return [self.path(store, key) for key in keys]


def _directory(path: str) -> str:
    return path[: path.rfind("/") + 1]


def common_directory(one: str, other: str) -> str:
    """The longest directory (with its trailing slash, or "") that both begin with."""
    same = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        same += 1
    return _directory(one[:same])


def _store_names(stores: Iterable[str]) -> dict[str, str]:
    split = {store: store.partition("://")[::2] for store in stores}
    hosts = [host for _, host in split.values()]
    return {
        store: scheme if host in {"", "/"} else f"{scheme}-{host}" if hosts.count(host) > 1 else host
        for store, (scheme, host) in split.items()
    }
