"""The file system in its own terms: look-up, attributes, listing, reading, extended attributes.

Speaks inode numbers, our values and our errors; never errno, never pyfuse3. May know ``readahead`` and
level 0.
"""

from ossmount.fs.filesystem import FileSystem
from ossmount.fs.incidents import Incidents
from ossmount.fs.succession import Succession

__all__ = ["FileSystem", "Incidents", "Succession"]
