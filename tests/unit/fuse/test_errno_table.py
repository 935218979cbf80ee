"""Every error of the tree has an errno, and the ones SEMANTICS names have theirs."""

from __future__ import annotations

import errno
import inspect

import pytest

from ossmount import errors
from ossmount.fuse.errno_table import ERRNOS, errno_of, is_known

TREE = [
    cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, errors.OssmountError)
]


@pytest.mark.parametrize(
    ("cls", "code"),
    [
        (errors.NoSuchEntry, errno.ENOENT),
        (errors.NameTooLong, errno.ENAMETOOLONG),
        (errors.NotADirectory, errno.ENOTDIR),
        (errors.IsADirectory, errno.EISDIR),
        (errors.NoSuchAttribute, errno.ENODATA),
        (errors.ReadOnly, errno.EROFS),
        (errors.ObjectChanged, errno.ESTALE),
        (errors.ObjectMissing, errno.ESTALE),
        (errors.AccessDenied, errno.EACCES),
        (errors.DeadlineExceeded, errno.ETIMEDOUT),
        (errors.StoreUnavailable, errno.EIO),
        (errors.Throttled, errno.EIO),
        (errors.BucketMissing, errno.EIO),
        (errors.IndexDamaged, errno.EIO),
    ],
)
def test_errnos_of_semantics(cls: type[errors.OssmountError], code: int) -> None:
    assert errno_of(cls("what happened")) == code


@pytest.mark.parametrize("cls", TREE)
def test_the_whole_tree_is_known(cls: type[errors.OssmountError]) -> None:
    error = cls.__new__(cls)
    assert is_known(error)
    assert errno_of(error) in ERRNOS.values()


def test_a_bug_is_eio_and_not_known() -> None:
    assert errno_of(ZeroDivisionError()) == errno.EIO
    assert not is_known(ZeroDivisionError())


def test_every_answer_to_a_program_has_its_own_row() -> None:
    assert set(errors.FileSystemError.__subclasses__()) <= set(ERRNOS)
