"""How large everything on a host has to be, from the one number of connections that it shall hold.

Runs on the control node, before anything is touched.
"""

from __future__ import annotations

from dataclasses import dataclass

from .host import Limits

# Logs, libraries and listening sockets of a process, beside its connections.
SPARE_DESCRIPTORS = 256
# What WebSocket puts in front of a payload at most, with its masking key (RFC 6455, 5.2).
FRAME_HEADER = 14
PAGE = 4096
# What an address takes in a zone of limit_conn and in one of limit_req (nginx's documentation of limit_conn_zone and
# limit_req_zone, 64-bit platforms).
CONNECTIONS_STATE, HANDSHAKES_STATE = 64, 128
# What nginx keeps about each page of a zone, and the pages below which it takes no zone at all.
PAGE_RECORD, MIN_PAGES = 24, 8
# Two, so that the death of one leaves somebody to take its clients.
MIN_PROCESSES = 2


@dataclass(frozen=True)
class Sizes:
    """What follows from ``websockets_max_connections`` and ``websockets_message_size``.

    :param worker_connections: nginx's, for one worker
    :param nginx_nofile: file descriptors of nginx's service
    :param minfds: Supervisor's: file descriptors of each process
    :param backlog: clients that may wait to be accepted
    :param buffer: bytes of one of nginx's buffers
    :param connections_zone: bytes of the zone that counts connections for each address
    :param handshakes_zone: bytes of the zone that counts handshakes for each address
    """

    worker_connections: int
    nginx_nofile: int
    minfds: int
    backlog: int
    buffer: int
    connections_zone: int
    handshakes_zone: int


def sizes(max_connections: int, message_size: int, minfds: int = 0, nginx_nofile: int = 0) -> Sizes:
    """Return what follows from ``websockets_max_connections`` and ``websockets_message_size``.

    :param minfds: the largest ``minfds`` that supervisord has on the host already
    :param nginx_nofile: the largest limit that the role has given nginx there, for another app
    """
    worker_connections = worker_needs(max_connections)
    return Sizes(
        worker_connections=worker_connections,
        nginx_nofile=max(worker_connections, nginx_nofile),
        minfds=max(process_needs(max_connections), minfds),
        # All clients may come at once, after a loss of the network for example; the kernel lowers it to somaxconn.
        backlog=max_connections,
        # A message that fits, with its header, goes through in one read and one write on each side.
        buffer=-(-(message_size + FRAME_HEADER) // PAGE) * PAGE,
        # Each client may have an address of its own.
        connections_zone=zone(max_connections, CONNECTIONS_STATE),
        handshakes_zone=zone(max_connections, HANDSHAKES_STATE),
    )


def zone(states: int, size: int) -> int:
    """Return the bytes of a zone of nginx's that so many states fit into."""
    pages = -(-states * size // PAGE)
    return (pages + -(-pages * PAGE_RECORD // PAGE) + MIN_PAGES) * PAGE


def process_needs(max_connections: int) -> int:
    """Return the descriptors of one of the app's processes.

    Any one has to be able to hold all: the others may be down. Below that it hangs instead of refusing.
    """
    return max_connections + SPARE_DESCRIPTORS


def worker_needs(max_connections: int) -> int:
    """Return the connections, and so the descriptors, of one of nginx's workers.

    A proxied WebSocket is two, and one worker may get them all: the kernel wakes whichever it likes.
    """
    return 2 * max_connections + SPARE_DESCRIPTORS


def numprocs(wanted: str, cores: int) -> int:
    """Return the processes of a host with so many cores: ``auto`` is one for each of them."""
    return max(cores, MIN_PROCESSES) if wanted == "auto" else int(wanted)


def shortcomings(max_connections: int, processes: int, limits: Limits) -> list[str]:
    """Return what is too small, and how to change it, for each limit of the host that cannot carry the connections."""
    found = []
    need = worker_needs(max_connections)
    largest = (min(limits.nofile, limits.nr_open) - SPARE_DESCRIPTORS) // 2
    if limits.nr_open < need:
        found.append(
            f"nginx would need {need} file descriptors, and the kernel allows {limits.nr_open}; use at most {largest},"
            f" or on the host: sysctl -w fs.nr_open={need}"
        )
    elif limits.nofile < need:
        found.append(
            f"nginx would need {need} file descriptors, and the host's services get {limits.nofile}; use at most"
            f" {largest}, or raise what the host, a container then, is started with: --ulimit nofile={need}:{need}"
        )
    waiting = -(-max_connections // processes)
    if limits.somaxconn < waiting:
        found.append(
            f"at {processes} processes {waiting} clients may wait for each, and the kernel lets"
            f" {limits.somaxconn} wait; use at most {limits.somaxconn * processes}, a larger websockets_numprocs,"
            f" or on the host: sysctl -w net.core.somaxconn={waiting}"
        )
    if 0 < limits.conntrack < max_connections:
        found.append(
            f"the host's firewall tracks {limits.conntrack} connections and drops all others; use at most"
            f" {limits.conntrack}, or on the host: sysctl -w net.netfilter.nf_conntrack_max={2 * max_connections}"
        )
    return found
