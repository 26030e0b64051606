"""Pages: folders and files of a release that nginx serves.

nginx's user cannot read a release, which has the app's code and secrets. So what is named in the inputs gets hard links in
another folder, from which nginx serves it by a link to the pages of the live release.
"""

from __future__ import annotations

import contextlib
import filecmp
import glob
import os
import shutil
import stat
import time
from collections.abc import Iterable

from . import paths
from . import release as releases
from .release import Release
from .site import WELL_KNOWN, Page, Site


def in_place(site: Site, id: str) -> bool:
    """Tell whether nginx serves all pages of a site from this release."""
    return not site.pages or (live_id(site.app) == id and not _missing(site.pages.values(), paths.pages(site.app, id)))


def live_id(app: str) -> str:
    """Return the id of the release whose pages nginx serves, empty if there is none."""
    try:
        return os.readlink(paths.live_pages(app))
    except OSError:
        return ""


def point(app: str, id: str) -> None:
    """Have nginx serve the pages of this release; without an id, none."""
    link = paths.live_pages(app)
    if id:
        releases.point(link, id)
    elif os.path.lexists(link):
        os.unlink(link)


def publish(release: Release, pages: Iterable[Page]) -> list[str]:
    """Make these pages of a release, where there are none yet; return the paths of those that it does not have.

    :raises OSError: if one cannot be made
    """
    top, lacking = paths.pages(release.app, release.id), []
    # nginx makes an ETag of a file's time and size. All files of a release are of 1970, so each publication has its own time.
    times = [int(os.lstat(path).st_mtime) for path in glob.glob(f"{glob.escape(os.path.dirname(top))}/*/*")]
    now = max([int(time.time()), *(at + 1 for at in times)])
    for page in _missing(pages, top):
        partial = f"{top}/.partial"
        shutil.rmtree(partial, ignore_errors=True)
        for folder in (os.path.dirname(top), top, partial):
            _folder(folder)
        if _publish(release.code, page, f"{partial}/page", now):
            os.rename(f"{partial}/page", paths.page(top, page.source))
        else:
            lacking.append(page.source)
        shutil.rmtree(partial)
    return lacking


def _missing(pages: Iterable[Page], top: str) -> list[Page]:
    return [page for page in pages if not os.path.lexists(paths.page(top, page.source))]


def _publish(code: str, page: Page, place: str, now: int) -> bool:
    """Make a page at a place; return whether the code has it.

    The app's user may own what a build has made, and may exchange it meanwhile. So no link is followed on the way.
    """
    *folders, name = page.source.split("/")
    if not page.file:
        folders.append(name)
    with contextlib.ExitStack() as opened:
        at = os.open(code, os.O_DIRECTORY)
        opened.callback(os.close, at)
        try:
            for folder in folders:
                at = os.open(folder, os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
                opened.callback(os.close, at)
            if page.file:
                regular = stat.S_ISREG(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode)
                return regular and _file(name, at, place, page.place, now)
        except (FileNotFoundError, NotADirectoryError):
            return False
        _tree(at, place, page.place, now)
    return True


def _tree(top: int, place: str, live: str, now: int) -> None:
    """Make a folder with what an open folder has: folders, regular files, and links that stay inside.

    :param live: the same folder of the live release
    """
    links = []
    _folder(place)
    # This walk follows no link either.
    for path, folders, files, at in os.fwalk(".", dir_fd=top):
        folders[:] = [name for name in folders if _is_public(name)]
        for name in [*folders, *filter(_is_public, files)]:
            inside = os.path.normpath(os.path.join(path, name))
            mode = os.stat(name, dir_fd=at, follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                _folder(f"{place}/{inside}")
            elif stat.S_ISREG(mode):
                _file(name, at, f"{place}/{inside}", f"{live}/{inside}", now)
            elif stat.S_ISLNK(mode):
                os.symlink(os.readlink(name, dir_fd=at), f"{place}/{inside}")
                links.append(f"{place}/{inside}")
    for link in links:
        leads_to = os.path.realpath(link)
        if not leads_to.startswith(f"{os.path.realpath(place)}/") or not os.path.exists(leads_to):
            os.unlink(link)
    os.utime(place, (now, now))


def _file(name: str, at: int, place: str, live: str, now: int) -> bool:
    """Make a hard link to a file in an open folder that everybody can read; return whether it is a regular file."""
    os.link(name, place, src_dir_fd=at, follow_symlinks=False)
    found = os.lstat(place)
    if not stat.S_ISREG(found.st_mode):
        os.unlink(place)
        return False
    os.chown(place, os.geteuid(), os.getegid())
    os.chmod(place, found.st_mode & 0o755 | 0o444)
    if os.path.isfile(live) and filecmp.cmp(live, place, shallow=False):
        now = int(os.stat(live).st_mtime)  # a browser that has it need not get it again
    os.utime(place, (now, now))
    return True


def _folder(path: str) -> None:
    if not os.path.isdir(path):
        os.mkdir(path)
        os.chmod(path, 0o755)  # whatever the umask


def _is_public(name: str) -> bool:
    """Tell whether a file may be served: not .env or .git, but what RFC 8615 has for everybody."""
    return not name.startswith(".") or name == WELL_KNOWN
