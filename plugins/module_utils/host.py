"""A host as the module observe has found it: what a plan depends on, and what is as it should be already."""

from __future__ import annotations

from dataclasses import dataclass, field

from .release import Stored
from .site import Others


@dataclass(frozen=True)
class Limits:
    """What the kernel, or a container, allows.

    :param nofile: file descriptors that a service can have
    :param nr_open: file descriptors that any process can have (``fs.nr_open``)
    :param somaxconn: clients that can wait for one process (``net.core.somaxconn``)
    :param conntrack: connections that the firewall can track, 0 where it tracks none
    """

    nofile: int
    nr_open: int
    somaxconn: int
    conntrack: int


@dataclass(frozen=True)
class Sandbox:
    """The sandbox of one of the host's services.

    :param on: whether the role has given it one
    :param late: whether what its file says comes into force at the service's next start only
    :param neighbours: files that give the service something to do which is not of this role
    """

    on: bool
    late: bool
    neighbours: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Validity:
    """What a certificate on the host is like.

    :param since: when it begins, in seconds since the epoch; 0 where there is none yet
    :param until: when it ends
    :param about: ``certificate`` or ``key``: which of them has the problem
    :param problem: why it cannot be used, empty if it can
    """

    since: int = 0
    until: int = 0
    about: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Host:
    """:param init: ``systemd`` or ``sysv``
    :param platform: which of the known platforms it is, empty if none
    :param python: version of the interpreter for packages, such as ``3.13``; empty if it cannot run an app
    :param missing_packages: Debian packages that are to be installed
    :param group: primary group of the app's user, empty if there is no such user
    :param home: that user's home folder
    :param listens: {listen: what is there already}, for all that nginx shall listen at
    :param certificate: the certificate that the site needs
    :param claims: {other app: addresses with names that its servers have}
    :param minfds: the largest ``minfds`` in supervisord's configuration
    :param nginx_nofile: the limit of descriptors that the role has given nginx's service
    :param cores: processors that this host may use
    :param files: {path: mode and text} of the host's own files, empty where there is only the folder
    :param folders: whether the app's folders are as systemd-tmpfiles would make them
    :param idle_services: services that do not run, or do not come back at boot
    :param stale_units: whether systemd has to read its files again
    :param sandboxes: {service: its sandbox}; nothing without systemd
    :param live: id of the release with the traffic, empty if there is none
    :param serves: whether all processes of the live release answer
    :param releases: {id: release} of the app
    :param venvs: folders of packages that are whole
    :param programs: ids of the releases that supervisord runs
    :param surplus: whether there is anything that no rollback needs
    """

    init: str
    platform: str
    python: str
    missing_packages: list[str]
    group: str
    home: str
    listens: dict[str, Others]
    certificate: Validity
    claims: dict[str, list[str]]
    minfds: int
    nginx_nofile: int
    limits: Limits
    cores: int
    files: dict[str, str]
    folders: bool
    idle_services: list[str]
    stale_units: bool
    sandboxes: dict[str, Sandbox]
    live: str
    serves: bool
    releases: dict[str, Stored]
    venvs: list[str]
    programs: list[str]
    surplus: bool
