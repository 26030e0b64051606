"""Sizes of buffers, queues and limits on a host, from the number of connections that it has to hold."""

from __future__ import annotations

from dataclasses import dataclass

from .host import Limits

# File descriptors for logs, libraries and listening sockets of a process, beside its connections.
SPARE_DESCRIPTORS = 256
# Bytes of the largest WebSocket frame header, with its masking key (RFC 6455, 5.2).
FRAME_HEADER = 14
PAGE, KIB = 4096, 1024
# Bytes of an address in a zone of limit_conn and in a zone of limit_req (nginx's documentation of limit_conn_zone and
# limit_req_zone, 64-bit platforms).
CONNECTIONS_STATE, HANDSHAKES_STATE = 64, 128
# Bytes that nginx keeps about each page of a zone, and the smallest number of pages that it accepts for a zone.
PAGE_RECORD, MIN_PAGES = 24, 8
# With two, the clients of a process that dies can connect to the other.
MIN_PROCESSES = 2


@dataclass(frozen=True)
class Sizes:
    """What follows from ``websockets_max_connections`` and ``websockets_message_size``.

    :param worker_connections: connections of one of nginx's workers
    :param nginx_nofile: file descriptors of nginx's service
    :param minfds: file descriptors of each process of the app, from supervisord
    :param backlog: clients that may wait until nginx or a process accepts them
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
    :param nginx_nofile: the limit of file descriptors that the role has given nginx there already
    """
    worker_connections = worker_needs(max_connections)
    return Sizes(
        worker_connections=worker_connections,
        nginx_nofile=max(worker_connections, nginx_nofile),
        minfds=max(process_needs(max_connections), minfds),
        # All clients may connect at once, for example after a network failure. The kernel lowers it to somaxconn.
        backlog=max_connections,
        # nginx passes on a message that fits, with its header, in one read and one write. The app's answer to a handshake
        # has to fit, too: not less than nginx's own.
        buffer=max(-(-(message_size + FRAME_HEADER) // KIB) * KIB, PAGE),
        # Each client may have an address of its own.
        connections_zone=zone(max_connections, CONNECTIONS_STATE),
        handshakes_zone=zone(max_connections, HANDSHAKES_STATE),
    )


def zone(states: int, size: int) -> int:
    """Return the bytes of a zone of nginx's that holds so many states.

    :param size: bytes of one state
    """
    pages = -(-states * size // PAGE)
    return (pages + -(-pages * PAGE_RECORD // PAGE) + MIN_PAGES) * PAGE


def process_needs(max_connections: int) -> int:
    """Return the number of file descriptors of one of the app's processes.

    Each process has to be able to hold all connections, because the others may be down. A process that has no descriptor
    left hangs instead of refusing.
    """
    return max_connections + SPARE_DESCRIPTORS


def worker_needs(max_connections: int) -> int:
    """Return the number of connections, and so of file descriptors, of one of nginx's workers.

    A proxied WebSocket is two connections, and one worker may get all of them: the kernel chooses which one it wakes.
    """
    return 2 * max_connections + SPARE_DESCRIPTORS


def numprocs(wanted: str, cores: int) -> int:
    """Return the number of the app's processes.

    :param wanted: ``websockets_numprocs``: a number, or ``auto`` for one per core and at least :data:`MIN_PROCESSES`
    :param cores: number of the host's cores
    """
    return max(cores, MIN_PROCESSES) if wanted == "auto" else int(wanted)


def shortcomings(max_connections: int, processes: int, limits: Limits) -> list[str]:
    """Return a message for each limit of the host that is too small, with what to do.

    :param processes: number of the app's processes
    """
    found = []
    need = worker_needs(max_connections)
    largest = (min(limits.nofile, limits.nr_open) - SPARE_DESCRIPTORS) // 2
    if limits.nr_open < need:
        found.append(
            f"nginx would need {need} file descriptors, and the kernel allows {limits.nr_open}; use at most {largest},"
            f" or run on the host: sysctl -w fs.nr_open={need}"
        )
    elif limits.nofile < need:
        found.append(
            f"nginx would need {need} file descriptors, and the host's services get {limits.nofile}; use at most"
            f" {largest}; if the host is a container, you can start it with --ulimit nofile={need}:{need} instead"
        )
    waiting = -(-max_connections // processes)
    if limits.somaxconn < waiting:
        found.append(
            f"with {processes} processes {waiting} clients may wait for each, and the kernel lets"
            f" {limits.somaxconn} wait; use at most {limits.somaxconn * processes}, a larger websockets_numprocs,"
            f" or run on the host: sysctl -w net.core.somaxconn={waiting}"
        )
    if 0 < limits.conntrack < max_connections:
        found.append(
            f"the host's firewall tracks {limits.conntrack} connections and drops all others; use at most"
            f" {limits.conntrack}, or run on the host: sysctl -w net.netfilter.nf_conntrack_max={2 * max_connections}"
        )
    return found
