"""Who owns the code of a release: root, but while a command may write to it, the app's user.

Other processes of that user may work against root meanwhile. So root changes an entry only while nobody else can put
another one in its place, that is, as long as root owns the folder that it is in.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator

# As the role itself puts files in place.
_FOLDER, _EXECUTABLE, _FILE = 0o755, 0o755, 0o644


@contextlib.contextmanager
def by(folder: str, uid: int) -> Iterator[None]:
    """Give a folder and all that is in it to a user for the time of a block."""
    take_back(folder, uid)  # an earlier block may have been killed
    # From below: what is given away is never entered again.
    for _, folders, files, inside in os.fwalk(folder, topdown=False):
        for name in folders + files:
            os.chown(name, uid, -1, dir_fd=inside, follow_symlinks=False)
    os.chown(folder, uid, -1, follow_symlinks=False)
    try:
        yield
    finally:
        take_back(folder, uid)


def take_back(folder: str, uid: int) -> None:
    """Give a folder and all that is in it to root, with the modes that the role gives a release's files.

    :param uid: the user that may have written there
    """
    _take_folder(folder, None)
    # From above: what is in a folder is looked at when nobody else can change the folder any more.
    for _, folders, files, inside in os.fwalk(folder):
        for name in folders + files:
            found = os.stat(name, dir_fd=inside, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                _take_folder(name, inside)
            elif stat.S_ISLNK(found.st_mode):
                os.chown(name, 0, 0, dir_fd=inside, follow_symlinks=False)
            else:
                _take_file(name, inside, found, uid)


def _take_folder(name: str, inside: int | None) -> None:
    handle = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=inside)
    try:
        os.fchown(handle, 0, 0)
        os.fchmod(handle, _FOLDER)
    finally:
        os.close(handle)


def _take_file(name: str, inside: int, found: os.stat_result, uid: int) -> None:
    mode = _EXECUTABLE if found.st_mode & stat.S_IXUSR else _FILE
    if stat.S_ISREG(found.st_mode) and found.st_uid in (uid, 0):
        if found.st_nlink == 1 and (found.st_uid == uid or stat.S_IMODE(found.st_mode) == mode):
            os.chown(name, 0, 0, dir_fd=inside, follow_symlinks=False)
            os.chmod(name, mode, dir_fd=inside)  # it is no link
            return
        if found.st_uid == uid:
            # Its other name, such as one in a cache in HOME, stays the user's.
            _copy(name, inside, mode)
            return
    # A socket or a pipe, or a file of somebody else, which the user has got here by a rename or a hard link.
    os.unlink(name, dir_fd=inside)


def _copy(name: str, inside: int, mode: int) -> None:
    """Replace a file by a copy."""
    copy = f".{os.getpid()}.copy"

    def opener(path: str, flags: int) -> int:
        return os.open(path, flags | os.O_NOFOLLOW, mode=0o600, dir_fd=inside)

    with open(name, "rb", opener=opener) as source, open(copy, "xb", opener=opener) as target:
        shutil.copyfileobj(source, target)
        os.fchmod(target.fileno(), mode)
    os.rename(copy, name, src_dir_fd=inside, dst_dir_fd=inside)
