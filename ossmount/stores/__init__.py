"""Object stores: S3, OSS, HTTP hosts and local files behind one interface, ``protocols.ObjectStore``.

What may live here: everything that knows boto3, oss2 or a native transfer client, and the wrappers that
every store gets. Nothing else in the package may import those libraries. Who may touch it: whoever adds
a store; a new one must pass ``tests/store_suite``. Rooms above ask :mod:`ossmount.stores.opening`.
"""

from ossmount.stores.addresses import Address, Resolving
from ossmount.stores.opening import StorePool, import_stores, open_store, resolve_addresses, split_uri
from ossmount.stores.pacing import Pace, Paced

__all__ = [
    "Address",
    "Pace",
    "Paced",
    "Resolving",
    "StorePool",
    "import_stores",
    "open_store",
    "resolve_addresses",
    "split_uri",
]
