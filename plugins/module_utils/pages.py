"""Pages: folders and files of a release that nginx serves.

nginx's user cannot read a release, which has the app's code and secrets. So what is named in the inputs gets hard links in
another folder, from which nginx serves it by a link to the pages of the live release.
"""

from __future__ import annotations

import filecmp
import glob
import os
import shutil
import time
from collections.abc import Iterable, Sequence

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


def publish(release: Release, pages: Iterable[Page], anew: bool = False) -> list[str]:
    """Make these pages of a release, where there are none yet; return the paths of those that it does not have.

    :param anew: whether to make all of them again: a command before the start may have made other files than the last time
    :raises OSError: if one cannot be made
    """
    top, lacking = paths.pages(release.app, release.id), []
    # nginx makes an ETag of a file's time and size. All files of a release are of 1970, so each publication has its own time.
    times = [int(os.lstat(path).st_mtime) for path in glob.glob(f"{glob.escape(os.path.dirname(top))}/*/*")]
    now = max([int(time.time()), *(at + 1 for at in times)])
    for page in pages if anew else _missing(pages, top):
        partial, place = f"{top}/.partial", paths.page(top, page.source)
        shutil.rmtree(partial, ignore_errors=True)
        for folder in (os.path.dirname(top), top, partial):
            _folder(folder)
        if _publish(release.code, page, f"{partial}/page", (page.place, place), now):
            if os.path.lexists(place):
                os.rename(place, f"{partial}/earlier")
            os.rename(f"{partial}/page", place)
        else:
            lacking.append(page.source)
        shutil.rmtree(partial)
    return lacking


def _missing(pages: Iterable[Page], top: str) -> list[Page]:
    return [page for page in pages if not os.path.lexists(paths.page(top, page.source))]


def _publish(code: str, page: Page, place: str, earlier: Sequence[str], now: int) -> bool:
    """Make a page at a place; return whether the code has it. A link on the way to it may lead anywhere, so there may be none."""
    source = os.path.join(os.path.realpath(code), page.source)
    is_there = os.path.isfile if page.file else os.path.isdir
    if os.path.realpath(source) != source or not is_there(source):
        return False
    (_file if page.file else _tree)(source, place, earlier, now)
    return True


def _tree(source: str, place: str, earlier: Sequence[str], now: int) -> None:
    """Make a folder with what another one has: folders, regular files, and links that stay inside.

    :param earlier: places of the same folder that browsers may have seen
    """
    links = []
    _folder(place)
    for parent, folders, files in os.walk(source):
        folders[:] = filter(_is_public, folders)
        for path in (os.path.join(parent, name) for name in [*folders, *filter(_is_public, files)]):
            inside = os.path.relpath(path, source)
            if os.path.islink(path):
                links.append(f"{place}/{inside}")
                os.symlink(os.readlink(path), links[-1])
            elif os.path.isdir(path):
                _folder(f"{place}/{inside}")
            elif os.path.isfile(path):
                _file(path, f"{place}/{inside}", [f"{folder}/{inside}" for folder in earlier], now)
    for link in links:
        leads_to = os.path.realpath(link)
        if not leads_to.startswith(f"{os.path.realpath(place)}/") or not os.path.exists(leads_to):
            os.unlink(link)
    os.utime(place, (now, now))


def _file(source: str, place: str, earlier: Sequence[str], now: int) -> None:
    """Make a hard link to a file. Everybody can read it: only the folders above it keep others away."""
    os.link(source, place)
    for path in earlier:
        if os.path.isfile(path) and filecmp.cmp(path, place, shallow=False):
            now = int(os.stat(path).st_mtime)  # a browser that has it need not get it again
            break
    os.utime(place, (now, now))


def _folder(path: str) -> None:
    if not os.path.isdir(path):
        os.mkdir(path)
        os.chmod(path, 0o755)  # whatever the umask


def _is_public(name: str) -> bool:
    """Tell whether a file may be served: not .env or .git, but what RFC 8615 has for everybody."""
    return not name.startswith(".") or name == WELL_KNOWN
