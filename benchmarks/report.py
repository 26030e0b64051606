"""The figures of README.md and docs/performance.md, from benchmarks/results.json.

Each table or list replaces the text between its two marker comments. It needs only the standard library.
"""

import json
import pathlib
import re
import statistics

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
RESULTS = HERE / "results.json"
DOCUMENTS = (ROOT / "README.md", ROOT / "docs/performance.md")
NAMES = {
    "direct": "the sockets",
    "project": "this project",
    "project_batch": "this project, batch",
    "project_16384": "this project, `websockets_message_size: 16384`",
    "documentation": "documentation",
    "documentation_nginx": "its nginx.conf alone",
    "documentation_published": "documentation, 512 `worker_connections`",
    "haproxy": "HAProxy",
    "haproxy_batch": "HAProxy, batch",
    "haproxy_tcp": "HAProxy, mode tcp",
    "caddy": "Caddy",
    "floor": "the floor",
}
# Processor time of one operation, by who takes it.
CPU = ("client_us", "proxy_us", "app_us", "supervisord_us")
STEPS = {"first": "first deploy", "noop": "nothing to do", "code": "new code", "rollback": "back"}


# Arithmetic


def medians(rows, by, values, ratio_of=None, base="direct"):
    """Return a row for each combination of ``by``: the median of each value over the rounds, and ``ratio``.

    The ratio is the median of the rounds' ratios to ``base``, not the ratio of the medians: if the machine was slow in a
    round, it was slow for both.
    """
    groups = {}
    for row in rows:
        groups.setdefault(tuple(row.get(key) for key in by), []).append(row)
    found = []
    for group in groups.values():
        row = {key: group[0].get(key) for key in by}
        row.update({value: round(statistics.median(one[value] for one in group), 3) for value in values})
        if ratio_of:
            ratios = [one[ratio_of] / _like(rows, one, by, base)[ratio_of] for one in group]
            row["ratio"] = round(statistics.median(ratios), 3)
        found.append(row)
    return found


def measured(rows, values):
    """Return those of the values that all rows have: an older measurement has fewer."""
    return [value for value in values if all(value in row for row in rows)]


def _like(rows, row, by, base):
    """Return the row of ``base`` in the same round."""
    same = [key for key in ("round", *by) if key != "peer"]
    return next(one for one in rows if one["peer"] == base and all(one.get(key) == row.get(key) for key in same))


def evenness(connections):
    """Return the largest number of connections of a process divided by the smallest."""
    return round(max(connections) / max(min(connections), 1), 3)


def worst(rows, *values):
    """Return a row for each peer, with the worst round of each value, and the worst evenness."""
    found = {}
    for row in rows:
        one = found.setdefault(row["peer"], {"peer": row["peer"], **dict.fromkeys((*values, "evenness"), 0)})
        for value in values:
            one[value] = max(one[value], row[value])
        one["evenness"] = max(one["evenness"], evenness(row["per_process"]))
    return list(found.values())


def phases(rounds):
    """Return the median of each figure of a phase over the rounds, and all failed handshakes."""
    rows = [phase for one in rounds for phase in one["phases"]]
    found = medians(rows, ("name",), ("p50_us", "p99_us", "max_us"))
    for row in found:
        row["failed"] = sum(one["failed"] for one in rows if one["name"] == row["name"])
        row["handshakes"] = sum(one["handshakes"] for one in rows if one["name"] == row["name"])
    return found


def summary(parts):
    """Return the figures that tables and plots show."""
    found = {}
    if part := parts.get("calibrate"):
        found["ceiling"] = part["rows"]
    if part := parts.get("throughput"):
        values = ("messages_per_second", "p50_us", "p99_us", "failed", *measured(part["rows"], CPU))
        found["throughput"] = medians(part["rows"], ("peer", "size", "clients"), values, "messages_per_second")
        found["system_calls"] = part["system_calls"]
    if part := parts.get("message_size"):
        values = ("messages_per_second", "proxy_us", "failed")
        rows = medians(part["rows"], ("peer", "size"), values, "messages_per_second")
        found["message_size"] = {"rows": rows, "system_calls": part["system_calls"], "memory": part["memory"]}
    if part := parts.get("handshakes"):
        values = ("handshakes_per_second", "p50_us", "p99_us", "failed", *measured(part["rows"], CPU))
        found["handshakes"] = medians(part["rows"], ("peer",), values, "handshakes_per_second")
        found["storm"] = worst(part["storms"], "failed", "seconds", "p99_us")
    if part := parts.get("balance"):
        found["balance"] = worst(part["rows"], "failed")
    if part := parts.get("idle"):
        found["idle"], found["most"] = part["rows"], part["most"]
    if part := parts.get("apps"):
        found["apps"] = medians(part["rows"], ("peer", "what", "size"), ("p99_us", *measured(part["rows"], CPU)))
        for row in found["apps"]:
            rate = f"{row['what']}_per_second"
            like = [one for one in part["rows"] if all(one.get(key) == row[key] for key in ("peer", "what", "size"))]
            row["per_second"] = statistics.median(one[rate] for one in like)
        found["apps_memory"] = part["memory"]
    if part := parts.get("numprocs"):
        found["numprocs"] = medians(part["rows"], ("peer", "what", "size"), ("rate", *CPU), "rate", base="4")
        found["numprocs_memory"] = part["memory"]
    if part := parts.get("tls"):
        found["tls"] = tls_summary(part)
    if part := parts.get("versions"):
        found["versions"] = versions_summary(part)
    if part := parts.get("scheduling"):
        values = ("per_second", "p50_us", "p99_us", "failed", "proxy_us", "app_us")
        found["scheduling"] = medians(part["rows"], ("peer", "condition", "what"), values, "per_second", base="other")
        found["scheduling_left_out"] = part["left_out"]
    if part := parts.get("under_load"):
        found["under_load"] = phases(part["rounds"])
    if part := parts.get("deploy"):
        found["deploy"] = part["medians"]
    return found


def tls_summary(part):
    values = ("handshakes_per_second", "proxy_us", "app_us", "failed", "resumed", "opened")
    echoes = ("messages_per_second", "proxy_us", "failed")
    return {
        "handshakes": medians(part["rows"], ("peer", "kind", "tls"), values),
        "messages": medians(part["messages"], ("peer",), echoes),
        "memory": part["memory"],
    }


def versions_summary(part):
    each = ("proxy_us", "app_us", "supervisord_us")
    rows = [{**row, "sum_us": sum(row[what] for what in each)} for row in part["rows"]]
    costs = medians(rows, ("peer", "what"), (*each, "sum_us", "failed"), "sum_us", base="earlier")
    return {"commit": part["commit"], "costs": costs, "memory": part["memory"]}


# Tables


def table(head, rows):
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def name(peer):
    return NAMES.get(peer, peer)


def size(number):
    return f"{number // 1024} KiB" if number >= 1024 else f"{number} B"


def ms(us):
    return f"{us / 1000:.3g} ms" if us < 1e6 else f"{us / 1e6:.3g} s"


def thousands(number):
    return f"{number:,.0f}"


def peers_of(found):
    """Return the peers of rows, or of the keys of a dictionary, in the order of the tables."""
    peers = {row if isinstance(row, str) else row["peer"] for row in found}
    return [peer for peer in NAMES if peer in peers]


def place(row):
    """Return a row's place in a table."""
    return list(NAMES).index(row["peer"])


def pivot(rows, corner, row_of, cell):
    """Return a table with a column for each peer."""
    peers = peers_of(rows)
    cells = {}
    for row in rows:
        cells.setdefault(row_of(row), {})[row["peer"]] = cell(row)
    head = [corner, *map(name, peers)]
    return table(head, [[key, *(line.get(peer, "") for peer in peers)] for key, line in cells.items()])


def tables(results):
    """Return {name of the marker: Markdown}."""
    found, made = results["summary"], {"machine": "; ".join(machine(results))}
    for title, rows in found.items():
        if title in TABLES and rows:
            made.update(TABLES[title](found))
    if cost := costs(found):
        made.update(cpu(found, cost))
        if found.get("deploy"):
            made["promise"] = promise(found, cost)
    if aims := reach(found):
        made["reach"] = table(["", "wanted", "measured", ""], aims)
    return made


def costs(found):
    """Return {peer: {operation: microseconds of the proxy's processor time}}, for 500 clients."""
    rows = found.get("throughput", []), found.get("handshakes", [])
    if not all(like and "proxy_us" in like[0] for like in rows):
        return {}
    echoes = [(row["peer"], size(row["size"]), row["proxy_us"]) for row in rows[0] if row["clients"] == 500]
    cost = {}
    for peer, what, us in [*echoes, *((row["peer"], "a handshake", row["proxy_us"]) for row in rows[1])]:
        if peer != "direct":
            cost.setdefault(peer, {})[what] = us
    return {peer: cost[peer] for peer in peers_of(cost)}


def cpu(found, cost):
    """Return the tables of processor time."""
    floor, ours = cost["floor"], cost["project"]
    echo = [
        [name(peer), *(f"{us:.1f} ({us / floor[what]:.2f})" for what, us in one.items() if what != "a handshake")]
        for peer, one in cost.items()
    ]
    peers = [peer for peer in cost if not peer.startswith("project")]
    ratios = [[name(peer), *(f"{us / cost[peer][what]:.2f}" for what, us in ours.items())] for peer in peers]
    handshake = []
    for row in sorted(found["handshakes"], key=place):
        of_floor = f"{row['proxy_us'] / floor['a handshake']:.2f}" if row["peer"] in cost else ""
        served = sum(row[who] for who in CPU[1:])
        handshake.append([name(row["peer"]), *(f"{row[who]:.0f}" for who in CPU), f"{served:.0f}", of_floor])
    who = [
        {"peer": row["peer"], "place": f"{size(row['size'])}, {who.removesuffix('_us')}", "us": row[who]}
        for row in found["throughput"]
        if row["clients"] == 500
        for who in CPU
    ]
    sizes = [what for what in ours if what != "a handshake"]
    head = ["", "client", "proxy", "app", "supervisord", "all but the client", "proxy, of the floor"]
    return {
        "cpu_echo": table(["µs of the proxy", *sizes], echo),
        "cpu_ratio": table(["this project, of", *ours], ratios),
        "cpu_handshake": table(head, handshake),
        "cpu_all": pivot(who, "µs of CPU", lambda row: row["place"], lambda row: f"{row['us']:.1f}"),
    }


def promise(found, cost):
    """Return the lines of README's first screen."""
    noop = {way: f"{one['seconds']:.1f} s" for way, one in found["deploy"]["1"]["noop"].items()}
    times = []
    for peer, whose in (("haproxy", "HAProxy's"), ("caddy", "Caddy's"), ("floor", "that of a minimal proxy in C")):
        ratios = {what: us / cost[peer][what] for what, us in cost["project"].items()}
        handshake = ratios.pop("a handshake")
        times.append(f"{between(ratios.values())} of {whose} (for a handshake {handshake:.2f})")
    shares = [row["ratio"] * 100 for row in found["throughput"] if (row["peer"], row["clients"]) == ("project", 500)]
    handshakes = next(row["ratio"] * 100 for row in found["handshakes"] if row["peer"] == "project")
    return (
        f"- A run that finds nothing to do takes **{noop['project']}**; a play that does the same job the usual way takes"
        f" {noop['usual']}.\n"
        f"- nginx's processor time for an echo, from 32 bytes to 64 KiB, is {times[0]},\n"
        f"  {times[1]}, and {times[2]}.\n"
        f"- It passes on **{between(shares, '.0f')} %** of the messages and **{handshakes:.0f} %** of the handshakes a second"
        " that the app's bare sockets reach."
    )


def reach(found):
    """Return a row for each aim whose figure was measured: what, the limit, the figure, and whether it was met."""
    rows = []

    def aim(what, limit, figure, form=".2f", least=False):
        figure = round(figure, 2)
        met = figure >= limit if least else figure <= limit
        rows.append([what, f"{'≥' if least else '≤'} {limit:{form}}", f"{figure:{form}}", "met" if met else "missed"])

    if cost := costs(found):
        reach_speed(found, aim, [peer for peer in ("project", "project_batch") if peer in cost])
    shakes = {row["peer"]: row for row in found.get("versions", {}).get("costs", []) if row["what"] == "handshake"}
    if shakes:
        aim(
            "CPU of proxy, app and supervisord for a handshake, of the earlier version's", 0.60, shakes["this"]["ratio"]
        )
        logged = {peer: row["app_us"] + row["supervisord_us"] for peer, row in shakes.items()}
        # 270 µs of 425: the same on a machine of another speed.
        aim("that of app and supervisord", 0.64, logged["this"] / logged["earlier"])
    for row in found.get("idle", [])[:1]:
        aim("bytes for an idle connection", 34000, row["proxy_idle"] + row["app_idle"], ",.0f")
        aim("bytes after a message of 64 KiB", 175000, row["proxy_after"] + row["app_after"], ",.0f")
    for row in found.get("idle", []):
        if row["peer"] == "project_16384":
            what = "bytes after a message of 64 KiB, with websockets_message_size 16384"
            aim(what, 65000, row["proxy_after"] + row["app_after"], ",.0f")
    for row in found.get("storm", []):
        if row["peer"] == "project":
            aim("failed handshakes in a storm of 5,000", 0, row["failed"], ",.0f")
            aim("seconds until the last one's 101", 1.0, row["seconds"])
    if fleet := found.get("deploy", {}).get("10"):
        first, noop = fleet["first"], fleet["noop"]["project"]["seconds"]
        ratio = first["project"]["seconds"] / first["usual"]["seconds"]
        aim("first deploy to 10 hosts, of the usual way's time", 0.8, ratio)
        one = found["deploy"]["1"]["noop"]["project"]["seconds"]
        aim("a run with nothing to do on 10 hosts, of one host's time", 2, noop / one)
    return rows


def reach_speed(found, aim, own):
    """State the aims for messages and handshakes."""
    rates = {(row["peer"], row["size"]): row for row in found["throughput"] if row["clients"] == 500}
    handshakes = {row["peer"]: row for row in found["handshakes"]}
    for ours in own:
        for theirs in ("haproxy", "caddy"):
            of = f"{name(ours)}, of {name(theirs)}'s"
            worst = min(
                row["messages_per_second"] / rates[theirs, number]["messages_per_second"]
                for (peer, number), row in rates.items()
                if peer == ours
            )
            aim(f"messages a second of 500 clients, at the worst size: {of}", 1, worst, least=True)
            ratio = handshakes[ours]["handshakes_per_second"] / handshakes[theirs]["handshakes_per_second"]
            aim(f"handshakes a second: {of}", 1, ratio, least=True)
        of = f"{name(ours)}, of the sockets'"
        aim(f"handshakes a second: {of}", 0.90, handshakes[ours]["ratio"], least=True)


def between(numbers, form=".2f"):
    return f"{min(numbers):{form}} to {max(numbers):{form}}"


def throughput(found):
    # Mode tcp is there for its processor time.
    rows = [row for row in found["throughput"] if row["peer"] != "haproxy_tcp"]

    def what(row):
        return f"{size(row['size'])}, {row['clients']} clients"

    def rate(row):
        per_second = thousands(row["messages_per_second"])
        return f"{per_second}/s" if row["peer"] == "direct" else f"{row['ratio']:.2f}"

    return {
        "throughput": pivot(rows, "messages a second", what, rate),
        "latency": pivot(rows, "p50 / p99", what, lambda row: f"{ms(row['p50_us'])} / {ms(row['p99_us'])}"),
    }


def system_calls(found):
    rows = found["system_calls"]
    return {
        "system_calls": pivot(rows, "system calls", lambda row: size(row["size"]), lambda row: f"{row['calls']:.1f}")
    }


def message_size(found):
    one, lines = found["message_size"], []
    for memory in one["memory"]:
        value = memory["peer"]
        shares = [f"{row['ratio']:.2f} / {row['proxy_us']:.1f}" for row in one["rows"] if row["peer"] == value]
        calls = " / ".join(f"{row['calls']:.1f}" for row in one["system_calls"] if row["peer"] == value)
        nginx = [memory["proxy_idle"], memory["proxy_after"], memory["proxy_after"] + memory["app_after"]]
        lines.append([f"`{value}`", *shares, calls, *map(thousands, nginx)])
    sizes = sorted({row["size"] for row in one["rows"]})
    head = ["`websockets_message_size`", *map(size, sizes), "system calls, 16 / 64 KiB"]
    return {"message_size": table([*head, "nginx, idle", "nginx after 64 KiB", "and the app"], lines)}


def handshakes(found):
    lines = [
        [name(row["peer"]), f"{thousands(row['handshakes_per_second'])}/s", f"{row['ratio']:.2f}", ms(row["p99_us"])]
        for row in sorted(found["handshakes"], key=place)
    ]
    storms = [
        [name(row["peer"]), thousands(row["failed"]), f"{row['seconds']:.2f} s", f"{row['evenness']:.3f}"]
        for row in found["storm"]
    ]
    return {
        "handshakes": table(["", "handshakes", "of direct", "p99"], lines),
        "storm": table(["", "failed of 5,000", "until the last one's 101", "max / min per process"], storms),
    }


def balance(found):
    return {
        "balance": table(
            ["", "max / min per process"], [[name(row["peer"]), f"{row['evenness']:.3f}"] for row in found["balance"]]
        )
    }


def idle(found):
    lines = []
    for row in found["idle"]:
        both = [thousands(row[f"proxy_{when}"] + row[f"app_{when}"]) for when in ("idle", "after")]
        each = [thousands(row[f"{what}_{when}"]) for when in ("idle", "after") for what in ("proxy", "app")]
        lines.append(
            [
                name(row["peer"]),
                thousands(row["count"]),
                thousands(row["opened"]),
                *each[:2],
                both[0],
                *each[2:],
                both[1],
            ]
        )
    head = ["", "clients", "held", "proxy", "app", "both", "proxy after 64 KiB", "app after", "both after"]
    most = f"The largest number held on this machine: {thousands(found['most']['opened'])}."
    made = {"idle": table(head, lines) + f"\n\n{most}"}
    few = found["idle"][0]["count"]
    if pings := [row for row in found["idle"] if row["count"] == few and "proxy_us" in row]:
        lines = [[name(row["peer"]), *(f"{row[who]:.1f}" for who in CPU)] for row in pings]
        made["cpu_idle"] = table(["", "client", "proxy", "app", "supervisord"], lines)
    return made


def apps(found):
    lines = []
    for one in found["apps_memory"]:
        mine = [row for row in found["apps"] if row["peer"] == one["peer"]]
        cost = [f" / {row['app_us']:.0f} µs" if "app_us" in row else "" for row in mine]
        rates = [f"{thousands(row['per_second'])}{us}" for row, us in zip(mine, cost, strict=True)]
        lines.append([one["peer"], *rates, thousands(one["app_idle"])])
    like = [row for row in found["apps"] if row["peer"] == found["apps"][0]["peer"]]
    head = [f"messages of {size(row['size'])}/s" if row["size"] else "handshakes/s" for row in like]
    return {"apps": table(["", *head, "bytes per connection"], lines)}


def numprocs(found):
    lines = []
    for one in found["numprocs_memory"]:
        mine = [row for row in found["numprocs"] if row["peer"] == one["peer"]]
        rates = [f"{row['ratio']:.2f}" for row in mine]
        costs = [" + ".join(f"{row[who]:.1f}" for who in ("proxy_us", "app_us", "supervisord_us")) for row in mine]
        lines.append([one["peer"], *rates, *costs, round(one["app"] / 2**20)])
    like = [row for row in found["numprocs"] if row["peer"] == found["numprocs"][0]["peer"]]
    rates = [f"echoes of {size(row['size'])}" if row["size"] else "handshakes" for row in like]
    costs = [f"µs of an echo of {size(row['size'])}" if row["size"] else "µs of a handshake" for row in like]
    return {"numprocs": table(["processes", *rates, *costs, "MiB of the app"], lines)}


def scheduling(found):
    lines, other = [], {}
    for row in found["scheduling"]:
        what = f"{size(row['what'])}, 500 clients" if isinstance(row["what"], int) else row["what"]
        latency = f"{ms(row['p50_us'])} / {ms(row['p99_us'])}"
        if row["peer"] == "other":
            other[row["condition"], what] = [f"{thousands(row['per_second'])}/s", latency, f"{row['proxy_us']:.1f}"]
            continue
        rate, *usual = other[row["condition"], what]
        gain = "" if what == "100 a second" else f"{row['ratio']:.2f}"
        lines.append([f"{row['condition']}: {what}", rate, gain, *usual, latency, f"{row['proxy_us']:.1f}"])
    head = ["", "other", "batch / other", "other: p50 / p99", "µs of nginx", "batch: p50 / p99", "µs of nginx"]
    left_out = [f"{condition} ({why})" for condition, why in found["scheduling_left_out"].items()]
    words = f"\n\nLeft out on this machine: {'; '.join(left_out)}." if left_out else ""
    return {"scheduling": table(head, lines) + words}


def under_load(found):
    lines = [
        [
            row["name"],
            thousands(row["handshakes"]),
            row["failed"],
            *(ms(row[key]) for key in ("p50_us", "p99_us", "max_us")),
        ]
        for row in found["under_load"]
    ]
    return {"under_load": table(["", "handshakes", "failed", "p50", "p99", "slowest"], lines)}


def deploy(found):
    lines = []
    for count, steps in found["deploy"].items():
        for step, ways in steps.items():
            ours, usual = ways["project"], ways["usual"]
            ratio = f"{ours['seconds'] / usual['seconds']:.2f}"
            seconds = [f"{way['seconds']:.1f} s" for way in (ours, usual)]
            tasks = [f"{way['ok']:g} / {way['changed']:g}" for way in (ours, usual)]
            lines.append([f"{STEPS[step]}, {count} host{'s' * (count != '1')}", *seconds, ratio, *tasks])
    head = ["", "this project", "the usual way", "ratio", "tasks / changed", "the usual way's"]
    return {"deploy": table(head, lines)}


def tls(found):
    lines, one = {}, found["tls"]

    def put(what, row, cell):
        lines.setdefault(what, {})[row["peer"]] = cell

    for row in one["handshakes"]:
        kind = row["kind"]
        put(f"{kind}: handshakes/s", row, thousands(row["handshakes_per_second"]))
        put(f"{kind}: µs of the proxy's CPU", row, f"{row['proxy_us']:.0f}")
        if kind == "full":
            put("how", row, row["tls"].replace("TLS_", ""))
        if kind == "resumed":
            put("share that was resumed", row, f"{row['resumed'] / row['opened']:.2f}")
    for row in one["messages"]:
        put("1 KiB, 50 clients: messages/s", row, thousands(row["messages_per_second"]))
        put("1 KiB, 50 clients: µs of the proxy's CPU", row, f"{row['proxy_us']:.1f}")
    for row in one["memory"]:
        put("bytes of the proxy for an idle connection", row, thousands(row["proxy_idle"]))
        put("the same after a message of 64 KiB", row, thousands(row["proxy_after"]))
    peers = peers_of(one["handshakes"])
    rows = [[what, *(line.get(peer, "") for peer in peers)] for what, line in lines.items()]
    return {"tls": table(["", *map(name, peers)], rows)}


def versions(found):
    one, lines = found["versions"], []
    for this in (row for row in one["costs"] if row["peer"] == "this"):
        earlier = next(row for row in one["costs"] if (row["peer"], row["what"]) == ("earlier", this["what"]))
        parts = [
            f"{earlier[f'{part}_us']:.1f} / {this[f'{part}_us']:.1f}" for part in ("proxy", "app", "supervisord", "sum")
        ]
        lines.append([f"{this['what']}, µs of CPU", *parts, f"{this['ratio']:.2f}"])
    memory = {row["peer"]: row for row in one["memory"]}
    for when, what in {"idle": "idle connection, bytes", "after": "after a message of 64 KiB"}.items():
        sums = {peer: row[f"proxy_{when}"] + row[f"app_{when}"] for peer, row in memory.items()}
        parts = [
            f"{thousands(memory['earlier'][f'{part}_{when}'])} / {thousands(memory['this'][f'{part}_{when}'])}"
            for part in ("proxy", "app")
        ]
        both = f"{thousands(sums['earlier'])} / {thousands(sums['this'])}"
        lines.append([what, *parts, "", both, f"{sums['this'] / sums['earlier']:.2f}"])
    head = [f"`{one['commit']}` / this version", "nginx", "app", "supervisord", "sum", "ratio"]
    return {"versions": table(head, lines)}


def ceiling(found):
    lines = {}
    for row in found["ceiling"]:
        what = f"{size(row['size'])}, {row['clients']} clients" if "size" in row else "handshakes"
        rate = row.get("messages_per_second") or row["handshakes_per_second"]
        lines.setdefault(what, {})[row["target"]] = f"{thousands(rate)}/s"
    rows = [[what, line["unix"], line["127.0.0.1"]] for what, line in lines.items()]
    return {"ceiling": table(["", "Unix socket", "TCP"], rows)}


TABLES = {
    "throughput": throughput,
    "system_calls": system_calls,
    "message_size": message_size,
    "handshakes": handshakes,
    "balance": balance,
    "idle": idle,
    "apps": apps,
    "scheduling": scheduling,
    "under_load": under_load,
    "deploy": deploy,
    "ceiling": ceiling,
    "numprocs": numprocs,
    "tls": tls,
    "versions": versions,
}


def machine(results):
    """Return the machine, and the software with the dates, of the measurements."""
    one = results["machine"]
    dates = sorted({part["date"] for part in results["parts"].values()})
    titles = ("nginx", "HAProxy", "Caddy", "Python", "websockets", "uvloop")
    software = ", ".join(f"{title} {one[title.lower()]}" for title in titles)
    autogroup = {True: ", autogroup on", False: ", autogroup off"}.get(one.get("autogroup"), "")
    took = f", in {results['minutes']:.0f} minutes" if "minutes" in results else ""
    return (
        f"{one['cpu']}, {one['cores']} cores, {one['memory_gib']} GiB, Linux {one['kernel']}{autogroup}",
        f"Debian {one['debian']}, {software}; {' to '.join(sorted({dates[0], dates[-1]}))}{took}",
    )


# Files


def dump(value, indent=""):
    """Return JSON with a line for each row, so that ``git diff`` shows which row differs."""
    line = json.dumps(value)
    if len(line) + len(indent) <= 400 or not isinstance(value, (dict, list)):
        return line
    deeper = indent + " "
    if isinstance(value, dict):
        inner = [f"{deeper}{json.dumps(key)}: {dump(one, deeper)}" for key, one in value.items()]
        return "{\n" + ",\n".join(inner) + f"\n{indent}}}"
    return "[\n" + ",\n".join(deeper + dump(one, deeper) for one in value) + f"\n{indent}]"


def fill(text, made):
    """Put tables between their markers; a table that was not measured stays."""

    def replace(match):
        new = made.get(match[2])
        return f"{match[1]}\n{new}\n{match[4]}" if new else match[0]

    return re.sub(r"(?s)(<!-- benchmark: (\w+) -->)(.*?)(<!-- end of benchmark -->)", replace, text)


def documents():
    """Return {path: its text with the tables of results.json}."""
    made = tables(json.loads(RESULTS.read_text()))
    return {path: fill(path.read_text(), made) for path in DOCUMENTS if path.exists()}
