"""A host as the module ``observe`` has found it: everything that a plan depends on."""

from __future__ import annotations

from dataclasses import dataclass, field

from .release import Stored
from .site import Others
from .tls import Validity


@dataclass(frozen=True)
class Limits:
    """What the kernel, or a container, allows. All are numbers.

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

    :param on: whether the role has put the service in a sandbox
    :param late: whether the service has not been started since the sandbox's file was written
    :param now: whether the service runs in a sandbox now
    :param neighbours: files that give the service work which is not this role's
    """

    on: bool
    late: bool
    now: bool = False
    neighbours: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Replaced:
    """An app in whose place another one comes.

    :param claims: what no other app's server may have, see :meth:`site.Server.claims`
    :param files: paths of what its processes have written, a few of them
    :param used_by: other apps, or files of other sites, from which nginx passes requests on to it
    """

    claims: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    used_by: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Host:
    """The state of a host.

    :param init: ``systemd`` or ``sysv``
    :param distribution: its name, such as ``Debian GNU/Linux 13``; empty if the host does not say it
    :param platform: which of the role's platforms it is or is like, empty if none
    :param python: version of the app's interpreter, such as ``3.13``; empty if it cannot run an app
    :param markers: that interpreter for :mod:`wheels`, empty if the deploy needs no wheels
    :param missing_packages: Debian packages that the role has to install
    :param group: primary group of the app's user, empty if the host does not have the user
    :param home: that user's home folder
    :param ipv6: whether the host has IPv6
    :param listens: {listen: what is there already}, for everything that nginx has to listen at
    :param certificate: the certificate that the site needs
    :param claims: {other app, or file of another site: what no other app's server may have}, see
        :meth:`site.Server.claims`
    :param minfds: the largest ``minfds`` in supervisord's configuration
    :param nginx_nofile: the limit of descriptors that the role has given nginx's service
    :param cores: processors that this host may use
    :param files: {path: mode and text} of those of the host's own files that exist
    :param folders: whether the app's folders are as systemd-tmpfiles would make them
    :param idle_services: services that do not run, or do not start at boot
    :param stale_units: whether systemd has to read its files again
    :param sandboxes: {service: its sandbox}; empty without systemd
    :param batch: whether a service of this host can be ``SCHED_BATCH``
    :param batched: services that are it now
    :param live: id of the release with the traffic, empty if there is none
    :param serves: whether all processes of the live release answer
    :param releases: {id: release} of the app
    :param venvs: paths of the app's complete virtual environments
    :param programs: ids of the releases that supervisord runs
    :param unneeded: whether the host has something of the app that no rollback needs
    :param data_owner: user to whom the folder of the app's data belongs, empty if the host has none
    :param served: {path: digest} of what nginx serves for the app: its files, and the record of its site
    :param replaced: the app in whose place this one comes, None if this host has nothing of it
    :param maintenance: when the app's maintenance began, in the host's time; empty without one
    :param proof: milliseconds of a handshake through nginx, None if it fails, or if the host itself can tell that a
        cut-over has something to do
    :param apps: apps that nginx serves on this host
    :param used_by: other apps, or files of other sites, from which nginx passes requests on to this one
    """

    init: str
    distribution: str
    platform: str
    python: str
    missing_packages: list[str]
    group: str
    home: str
    ipv6: bool
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
    batch: bool
    batched: list[str]
    live: str
    serves: bool
    releases: dict[str, Stored]
    venvs: list[str]
    programs: list[str]
    unneeded: bool
    data_owner: str = ""
    served: dict[str, str] = field(default_factory=dict)
    replaced: Replaced | None = None
    maintenance: str = ""
    proof: float | None = None
    markers: dict[str, str] = field(default_factory=dict)
    apps: list[str] = field(default_factory=list)
    used_by: list[str] = field(default_factory=list)
