"""Draw the pictures in benchmarks/plots/ from benchmarks/results.json. The same figures give the same bytes.

The SVG is written by hand, so it needs no package, and its style sheet follows the reader's light or dark theme.
"""

import math
import pathlib
from xml.sax.saxutils import escape

import report

FOLDER = pathlib.Path(__file__).resolve().parent / "plots"
COLOURS = {
    "project": "#2f81f7",
    "documentation": "#d29922",
    "documentation_nginx": "#8b949e",
    "haproxy": "#3fb950",
    "caddy": "#a371f7",
}
STYLE = """
 text { font: 12px system-ui, sans-serif; fill: #1f2328 }
 .title { font-size: 15px; font-weight: 600 } .note { font-size: 10.5px; fill: #59636e }
 .grid { stroke: #8b949e; stroke-opacity: .3 } .phase { fill: #8b949e; fill-opacity: .14 }
 @media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .note { fill: #9198a1 } }
"""
WIDTH, LEFT, RIGHT, BAR = 760, 150, 70, 13


def picture(height, title, body, results):
    machine, software = report.machine(results)
    height += 14
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
            f' role="img" aria-label="{escape(title)}">',
            f"<style>{STYLE}</style>",
            text(12, 22, title, "title"),
            *body,
            text(12, height - 22, machine, "note"),
            text(12, height - 8, software, "note"),
            "</svg>\n",
        ]
    )


def text(x, y, words, kind="", anchor="start"):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(str(words))}</text>'


def rectangle(x, y, width, height, colour="", kind="", opacity=1):
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}"'
        f' fill="{colour}" fill-opacity="{opacity}" class="{kind}"/>'
    )


def legend(y, entries):
    """Return the legend of a picture; each entry is (colour, opacity, words)."""
    body, x = [], LEFT
    for colour, opacity, words in entries:
        body += [rectangle(x, y - 10, 11, 11, colour, opacity=opacity), text(x + 16, y, words)]
        x += 34 + 6.6 * len(words)
    return body


def bars(title, groups, largest, ticks, unit, entries, results):
    """Return horizontal bars. A group is (name, bars); a bar is (segments of (value, colour, opacity), label)."""
    scale = (WIDTH - LEFT - RIGHT) / largest
    body, y, top = legend(46, entries), 64, 58
    for name, group in groups:
        body.append(text(LEFT - 10, y + BAR * len(group) / 2 + 4, name, anchor="end"))
        for segments, label in group:
            x = LEFT
            for value, colour, opacity in segments:
                body.append(rectangle(x, y + 1, value * scale, BAR - 2, colour, opacity=opacity))
                x += value * scale
            body.append(text(x + 5, y + BAR - 3, label, "note"))
            y += BAR
        y += 10
    grid = []
    for tick in ticks:
        x = LEFT + tick * scale
        grid.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{y - 4}" class="grid"/>')
        grid.append(text(x, y + 10, unit(tick), "note", "middle"))
    return picture(y + 36, title, [*grid, *body], results)


def cpu(found, results):
    cost = report.costs(found)
    floor, groups = cost["floor"], []
    for what in floor:
        ratios = {peer: cost[peer][what] / floor[what] for peer in COLOURS}
        groups.append(
            (what, [([(ratios[peer], colour, 1)], f"{ratios[peer]:.2f}") for peer, colour in COLOURS.items()])
        )
    largest = max(one[what] / floor[what] for one in cost.values() for what in floor)
    return bars(
        "CPU of the proxy for an echo or a handshake, 1 being a minimal proxy in C",
        groups,
        largest,
        range(int(largest) + 1),
        "{:g}".format,
        [(colour, 1, report.name(peer)) for peer, colour in COLOURS.items()],
        results,
    )


def memory(found, results):
    few = min(row["count"] for row in found["idle"])
    rows = [row for row in found["idle"] if row["count"] == few and row["peer"] in COLOURS]
    groups = []
    for row in rows:
        group = []
        for when, label in (("idle", "idle"), ("after", "after 64 KiB")):
            proxy, app = row[f"proxy_{when}"], row[f"app_{when}"]
            colour = COLOURS[row["peer"]]
            group.append(([(proxy, colour, 1), (app, colour, 0.45)], f"{(proxy + app) / 1000:.0f} kB {label}"))
        groups.append((report.name(row["peer"]), group))
    largest = 1.12 * max(row[f"proxy_{when}"] + row[f"app_{when}"] for row in rows for when in ("idle", "after"))
    step = next(step for step in (10000, 25000, 50000, 100000) if largest / step < 8)
    return bars(
        f"Memory per connection at {few:,} connections",
        groups,
        largest,
        range(0, int(largest) + 1, step),
        lambda tick: f"{tick // 1000} kB",
        [("#8b949e", 1, "proxy"), ("#8b949e", 0.45, "app")],
        results,
    )


def deploy(found, results):
    """Return a plot of the deploy under load: its first round, second by second, on a logarithmic scale."""
    one = results["parts"]["under_load"]["rounds"][0]
    seconds = [second for second in one["seconds"] if second["handshakes"]]
    end, top, bottom = one["phases"][-1]["to"], 64, 264
    decades = (100, 1000, 10000, 100000, 1000000)

    def place(at, us):
        share = math.log10(max(us, 100) / 100) / 4
        return LEFT / 2 + at * (WIDTH - LEFT / 2 - 20) / end, bottom - (bottom - top) * min(share, 1)

    body = legend(46, [("#2f81f7", 1, "p50 of each second"), ("#d29922", 1, "slowest of each second")])
    for phase in one["phases"]:
        x, to = place(phase["from"], 100)[0], place(phase["to"], 100)[0]
        if phase["name"] in ("nothing to do", "deploy"):
            body.append(rectangle(x, top, to - x, bottom - top, kind="phase"))
        body.append(text((x + to) / 2, top + 14, phase["name"], "note", "middle"))
    for us in decades:
        y = place(0, us)[1]
        body.append(f'<line x1="{LEFT / 2}" x2="{WIDTH - 20}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        body.append(text(LEFT / 2 - 8, y + 4, report.ms(us), "note", "end"))
    for key, colour in (("p50_us", "#2f81f7"), ("max_us", "#d29922")):
        points = " ".join("{:.1f},{:.1f}".format(*place(second["at"] + 0.5, second[key])) for second in seconds)
        body.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
    for at in range(0, int(end) + 1, 10):
        body.append(text(place(at, 100)[0], bottom + 16, f"{at} s", "note", "middle"))
    load = results["parts"]["under_load"]
    title = f"Handshakes of clients while it is deployed: {load['rate']} a second, beside {load['held']} held ones"
    return picture(bottom + 44, title, body, results)


def pictures(results):
    """Return {path: SVG} for the parts that were measured."""
    found = results["summary"]
    made = {"idle": memory, "under_load": deploy}
    pictures = {FOLDER / f"{part}.svg": draw(found, results) for part, draw in made.items() if part in found}
    if report.costs(found):
        pictures[FOLDER / "cpu.svg"] = cpu(found, results)
    return pictures
