"""Block caches: in memory, on disk, both.

What may be seen from outside is in ``layered``; knows level 0 only.
"""
