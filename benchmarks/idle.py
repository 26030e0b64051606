"""Measure the memory of proxy and app for an idle connection, before and after a message of 64 KiB."""

import time

import proxies
from tools import hold, load, memory, per_process, say, until

MESSAGE = 65536


def measure(quick):
    few, many, most = (200, 400, 600) if quick else (5000, 15000, proxies.DESCRIPTORS - 100)
    peers = (project, proxies.documentation, proxies.documentation_nginx, proxies.haproxy, proxies.caddy)
    rows = [per_connection(peer, few) for peer in (peers[:1] if quick else peers)]
    rows.append(per_connection(project, many))
    # The other proxies hold both ends of a connection in one process, so their descriptors last for half as many.
    rows += [per_connection(peer, min(many, proxies.DESCRIPTORS // 2 - 200)) for peer in ([] if quick else peers[1:])]
    return {"rows": rows, "most": per_connection(project, most)}


def project():
    return proxies.variant("project")


def per_connection(start, count):
    """Return the bytes for a connection, in new processes: old ones keep the memory that they have once had."""
    proxies.restart_app()
    with start() as peer:
        load(
            "handshakes", *peer.target, "--count", 200
        )  # the first connections also need memory that is not per connection
        until(lambda: not sum(per_process(peer.sockets)), "all have left")
        empty = both(peer)
        with hold("idle", *peer.target, "--count", count, "--size", MESSAGE) as held:
            opened = max(held.report["opened"], 1)
            time.sleep(0.5)  # pages of the handshakes are given back
            idle = both(peer)
            held.talk()
            time.sleep(0.5)
            after = both(peer)
        say(f"  {peer.name}: {opened} of {count} held")
        until(lambda: not sum(per_process(peer.sockets)), "all have left")
    row = {"peer": peer.name, "count": count, "opened": held.report["opened"], "failures": held.report["failures"]}
    for what in empty:
        row[f"{what}_idle"] = (idle[what] - empty[what]) / opened
        row[f"{what}_after"] = (after[what] - empty[what]) / opened
    return row


def both(peer):
    return {"proxy": memory(peer.proxy_pids), "app": memory(peer.app_pids)}
