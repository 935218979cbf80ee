"""The kernel's side: the adapter to pyfuse3, and the processes that serve a mount.

``supervisor.run_mount`` is the entrance; ``contract`` holds the types that :mod:`ossmount.app` writes
against, ``mountpoint`` what can be told of a mount without touching it, ``pages`` the page cache.
"""
