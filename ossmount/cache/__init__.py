"""Block caches: in memory, on disk, both.

``layered`` chooses among them; only :mod:`ossmount.app` names them. Knows level 0 only.
"""
