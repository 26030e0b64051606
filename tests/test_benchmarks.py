"""The arithmetic and the documents of benchmarks/. Only bin/benchmark measures."""

import contextlib
import json
import os
import pathlib
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time

import pytest
from ansible_collections.websockets.deploy.plugins.module_utils import paths, sizing, tls
from role import ROOT
from websockets.sync.server import serve

sys.path.insert(0, str(ROOT / "benchmarks"))

import plots
import proxies
import report
import run
import scheduling
import versions

ROUNDS = [
    {"peer": "direct", "round": 0, "size": 32, "rate": 100},
    {"peer": "project", "round": 0, "size": 32, "rate": 90},
    # In this round the machine was slow.
    {"peer": "direct", "round": 1, "size": 32, "rate": 10},
    {"peer": "project", "round": 1, "size": 32, "rate": 8},
    {"peer": "direct", "round": 2, "size": 32, "rate": 200},
    {"peer": "project", "round": 2, "size": 32, "rate": 140},
]


def test_figures_are_medians_and_ratios_are_those_of_a_round():
    direct, project = report.medians(ROUNDS, ("peer", "size"), ("rate",), "rate")
    assert direct == {"peer": "direct", "size": 32, "rate": 100, "ratio": 1}
    assert project == {"peer": "project", "size": 32, "rate": 90, "ratio": 0.8}


def test_a_ratio_compares_the_same_size():
    other = [{**row, "size": 64, "rate": 2 * row["rate"] if row["peer"] == "direct" else row["rate"]} for row in ROUNDS]
    ratios = {
        row["size"]: row["ratio"]
        for row in report.medians([*ROUNDS, *other], ("peer", "size"), ("rate",), "rate")
        if row["peer"] == "project"
    }
    assert ratios == {32: 0.8, 64: 0.4}


def test_of_storms_the_worst_round_counts():
    rounds = [
        {"peer": "project", "failed": 0, "per_process": [25, 25]},
        {"peer": "project", "failed": 3, "per_process": [20, 25]},
        {"peer": "project", "failed": 1, "per_process": [24, 25]},
    ]
    assert report.worst(rounds, "failed") == [{"peer": "project", "failed": 3, "evenness": 1.25}]


def test_a_process_without_connections_is_uneven_and_no_error():
    assert report.evenness([0, 7]) == 7


def test_a_table_replaces_what_is_between_its_markers():
    text = "a\n<!-- benchmark: one -->\nold\n<!-- end of benchmark -->\nb\n<!-- benchmark: two -->\n<!-- end of benchmark -->\n"
    filled = report.fill(text, {"one": "| new |"})
    assert filled == text.replace("old", "| new |")
    assert report.fill(filled, {"one": "| new |"}) == filled


def test_results_are_written_as_json_with_a_line_for_each_row():
    results = {"rows": [{"number": number, "filler": "x" * 60} for number in range(20)]}
    assert json.loads(report.dump(results)) == results
    assert len(report.dump(results).splitlines()) == 24


needs_compiler = pytest.mark.skipif(
    not shutil.which("cc") or not pathlib.Path("/usr/include/openssl/ssl.h").exists(),
    reason="no C compiler, or no OpenSSL",
)


@needs_compiler
@pytest.mark.parametrize("program", ["load", "proxy"])
def test_the_programs_in_c_compile_without_a_warning(program):
    command = ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", ROOT / f"benchmarks/{program}.c"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@needs_compiler
def test_the_load_client_resumes_the_sessions_of_tls(tmp_path, monkeypatch):
    libraries = ["-lssl", "-lcrypto"]
    subprocess.run(["cc", "-o", tmp_path / "load", ROOT / "benchmarks/load.c", *libraries], check=True)
    monkeypatch.setattr(paths, "SCRATCH", str(tmp_path))
    (tmp_path / "pem").write_text("".join(tls.make(["localhost"])))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pem")
    with serve(
        lambda connection: [connection.send(message) for message in connection], "127.0.0.1", 0, ssl=context
    ) as server:
        threading.Thread(target=server.serve_forever).start()

        def load(command, *arguments):
            target = f"127.0.0.1:{server.socket.getsockname()[1]}"
            given = [tmp_path / "load", command, "--connect", target, *arguments]
            return json.loads(subprocess.run(given, stdout=subprocess.PIPE, check=True, timeout=60).stdout)

        full, resumed = (
            load("handshakes", "--count=20", "--concurrency=4", "--tls", how) for how in ("full", "resumed")
        )
        echo = load("echo", "--clients=2", "--messages=3", "--size=65536", "--tls=full", "--groups=P-256")
        server.shutdown()
    assert (full["opened"], full["failed"], full["resumed"]) == (20, 0, 0)
    # Each of the four clients has to make a first handshake.
    assert (resumed["opened"], resumed["failed"], resumed["resumed"]) == (20, 0, 16)
    assert (echo["messages"], echo["answer_bytes"]) == (6, 65536)
    assert echo["tls"].startswith("TLSv1.3") and echo["tls"].endswith("secp256r1")


@pytest.mark.parametrize(("file", "line"), [("haproxy.cfg", "ssl crt /c.pem"), ("Caddyfile", "tls /c.crt /c.key")])
def test_a_peer_speaks_tls_if_the_project_does(tmp_path, monkeypatch, file, line):
    monkeypatch.setattr(proxies, "SCRATCH", tmp_path)
    plain = pathlib.Path(proxies._fill(file)).read_text()
    secured = pathlib.Path(proxies._fill(file, line)).read_text()
    assert line not in plain
    assert line in secured
    assert "# TLS" not in secured


@pytest.mark.parametrize("secured", [True, False])
def test_the_peers_get_the_certificate_of_the_site(tmp_path, monkeypatch, secured):
    lines = "    ssl_certificate /a.crt;\n    ssl_certificate_key /a.key;\n"
    site = tmp_path / "site.conf"
    # A server that refuses, and the app's: both have the lines.
    site.write_text("".join(f"server {{\n    listen 127.0.0.1:8000;\n{lines if secured else ''}}}\n" for _ in range(2)))
    monkeypatch.setattr(proxies, "SITE", site)
    assert proxies.certificate() == (["/a.crt", "/a.key"] if secured else [])


def test_tls_has_a_column_for_each_peer_and_the_share_that_resumed():
    row = {"peer": "project", "tls": "TLSv1.3, TLS_AES_256_GCM_SHA384, x25519", "failed": 0, "opened": 2000}
    rate = {"handshakes_per_second": 1500.0, "proxy_us": 400.4, "app_us": 200.0}
    part = {
        "rows": [
            {**row, **rate, "kind": "full", "round": 0, "resumed": 0},
            {**row, **rate, "kind": "resumed", "round": 0, "resumed": 1950},
            {**row, **rate, "kind": "full", "round": 0, "resumed": 0, "peer": "caddy", "proxy_us": 600.0},
        ],
        "messages": [{"peer": "project", "round": 0, "messages_per_second": 40000.0, "proxy_us": 22.2, "failed": 0}],
        "memory": [{"peer": "project", "proxy_idle": 50000.0, "proxy_after": 180000.4}],
    }
    lines = report.tls(report.summary({"tls": part}))["tls"].splitlines()
    assert lines[0] == "|  | this project | Caddy |"
    assert "| full: µs of the proxy's CPU | 400 | 600 |" in lines
    assert "| share that was resumed | 0.97 |  |" in lines
    assert "| the same after a message of 64 KiB | 180,000 |  |" in lines


def test_a_message_size_is_measured_with_the_buffer_that_the_role_gives_it():
    for value, buffer in proxies.BUFFERS.items():
        assert sizing.sizes(max_connections=1000, message_size=value).buffer == buffer


def test_each_message_size_has_a_line_with_its_costs_and_gains():
    rows = [
        {"peer": peer, "round": 0, "size": size, "messages_per_second": rate / size, "proxy_us": 12.34, "failed": 0}
        for peer, rate in {"direct": 100000, "16384": 75000}.items()
        for size in (32, 65536)
    ]
    memory = {"peer": "16384", "proxy_idle": 20000.0, "proxy_after": 46000.0, "app_idle": 16000.0, "app_after": 17000.0}
    calls = [{"peer": "16384", "size": size, "calls": calls} for size, calls in {16384: 4.1, 65536: 16.12}.items()]
    part = {"rows": rows, "system_calls": calls, "memory": [memory]}
    lines = report.message_size(report.summary({"message_size": part}))["message_size"].splitlines()
    assert lines[0].startswith("| `websockets_message_size` | 32 B | 64 KiB | system calls")
    assert lines[2] == "| `16384` | 0.75 / 12.3 | 0.75 / 12.3 | 4.1 / 16.1 | 20,000 | 46,000 | 63,000 |"


def test_versions_are_compared_by_the_sum_of_all_that_serves():
    def row(peer, number, proxy, app, supervisord):
        cost = {"proxy_us": proxy, "app_us": app, "supervisord_us": supervisord}
        return {"peer": peer, "round": number, "what": "handshake", "failed": 0, **cost}

    memory = {"proxy_idle": 20000.0, "app_idle": 16000.0, "proxy_after": 150000.0, "app_after": 80000.0}
    part = {
        "commit": "abc1234",
        "rows": [
            row("earlier", 0, 150.0, 300.0, 50.0),
            row("this", 0, 80.0, 200.0, 20.0),
            # In this round the machine was slow.
            row("earlier", 1, 300.0, 600.0, 100.0),
            row("this", 1, 160.0, 400.0, 40.0),
        ],
        "memory": [{"peer": "earlier", **memory}, {"peer": "this", **memory, "app_idle": 7000.0}],
    }
    found = report.versions_summary(part)
    lines = report.versions({"versions": found})["versions"].splitlines()
    assert lines[0] == "| `abc1234` / this version | nginx | app | supervisord | sum | ratio |"
    assert lines[2] == "| handshake, µs of CPU | 225.0 / 120.0 | 450.0 / 300.0 | 75.0 / 30.0 | 750.0 / 450.0 | 0.60 |"
    assert lines[3] == "| idle connection, bytes | 20,000 / 20,000 | 16,000 / 7,000 |  | 36,000 / 27,000 | 0.75 |"


def test_a_clone_without_the_earlier_commit_says_so_and_measures_nothing(capsys):
    missing = 40 * "0"
    assert not versions.has(missing)
    assert versions.measure(quick=True, commit=missing) == {}
    assert missing in capsys.readouterr().err
    with pytest.raises(SystemExit, match="git fetch --unshallow"), versions.checkout(missing):
        pass


def costs(**proxies):
    """Return parts whose peers' proxies take so many microseconds for an echo of 32 B and of 64 KiB, and for a handshake."""
    echoes, handshakes = [], []
    for peer, (small, large, handshake) in {"direct": (0, 0, 0), **proxies}.items():
        row = {"peer": peer, "round": 0, "p50_us": 1, "p99_us": 2, "failed": 0}
        row |= {"client_us": 1.0, "app_us": 10.0, "supervisord_us": 0.5}
        for size, us in ((32, small), (65536, large)):
            rate = {"messages_per_second": 1e6 / (10 + us)}
            echoes += [{**row, **rate, "size": size, "clients": clients, "proxy_us": us} for clients in (50, 500)]
        handshakes.append({**row, "handshakes_per_second": 1e6 / (10 + handshake), "proxy_us": handshake})
    return {
        "throughput": {"rows": echoes, "system_calls": []},
        "handshakes": {"rows": handshakes, "storms": [{**STORM, "failed": 0}]},
        "deploy": {"medians": DEPLOYS},
    }


PROXIES = {"project": (20, 60, 80), "haproxy": (25, 60, 100), "caddy": (40, 50, 200), "floor": (10, 40, 50)}
STORM = {"peer": "project", "seconds": 1.2, "p99_us": 3, "per_process": [4, 4]}
DEPLOYS = {
    count: {
        step: {way: {"seconds": seconds, "ok": 5, "changed": 0} for way, seconds in ways.items()}
        for step, ways in steps.items()
    }
    for count, steps in {
        "1": {"first": {"project": 10, "usual": 10}, "noop": {"project": 2, "usual": 8}},
        "10": {"first": {"project": 30, "usual": 50}, "noop": {"project": 5, "usual": 40}},
    }.items()
}
MACHINE = {"cpu": "A", "cores": 2, "memory_gib": 24, "kernel": "6", "debian": "13", "autogroup": False}
MACHINE |= dict.fromkeys(("nginx", "haproxy", "caddy", "python", "websockets", "uvloop"), "1")


def tables(parts, **results):
    dated = {title: {"date": "2026-01-02", **part} for title, part in parts.items()}
    return report.tables({"machine": MACHINE, "parts": dated, "summary": report.summary(dated), **results})


def test_processor_time_is_shown_with_its_ratio_to_the_floor_and_to_each_peer():
    made = tables(costs(**PROXIES))
    assert "| this project | 20.0 (2.00) | 60.0 (1.50) |" in made["cpu_echo"].splitlines()
    assert "| HAProxy | 0.80 | 1.00 | 0.80 |" in made["cpu_ratio"].splitlines()
    assert "| this project | 1 | 80 | 10 | 0 | 90 | 1.60 |" in made["cpu_handshake"].splitlines()
    assert "| 64 KiB, proxy | 0.0 | 60.0 | 60.0 | 50.0 | 40.0 |" in made["cpu_all"].splitlines()
    assert "0.80 to 1.00 of HAProxy's (for a handshake 0.80)" in made["promise"]
    assert "**14 to 33 %** of the messages and **11 %** of the handshakes" in made["promise"]


def test_the_pictures_have_the_peers_and_leave_out_what_is_only_in_a_table():
    memory = {"proxy_idle": 2e4, "app_idle": 1e4, "proxy_after": 9e4, "app_after": 1e4, "count": 5000}
    rows = [{**memory, "peer": peer} for peer in ("project", "haproxy", "floor", "project_16384")]
    proxies = {"documentation": (20, 180, 70), "documentation_nginx": (20, 190, 70)}
    parts = {**costs(**PROXIES, **proxies), "idle": {"rows": rows, "most": {"opened": 1}}}
    dated = {title: {"date": "2026-01-02", **part} for title, part in parts.items()}
    results = {"machine": MACHINE, "parts": dated, "summary": report.summary(dated)}
    pictures = {path.name: text for path, text in plots.pictures(results).items()}
    assert set(pictures) == {"cpu.svg", "idle.svg"}
    assert ">4.75<" in pictures["cpu.svg"]
    assert "HAProxy" in pictures["idle.svg"]
    assert "16384" not in pictures["idle.svg"]


def test_an_idle_connection_costs_what_a_ping_costs():
    row = {"proxy_idle": 2e4, "app_idle": 1e4, "proxy_after": 9e4, "app_after": 1e4, "opened": 5}
    row |= {"client_us": 4, "proxy_us": 12.26, "app_us": 60, "supervisord_us": 0}
    rows = [{**row, "peer": peer, "count": count} for peer, count in (("project", 5), ("floor", 5), ("project", 9))]
    lines = tables({"idle": {"rows": rows, "most": {"opened": 1}}})["cpu_idle"].splitlines()
    assert lines[2:] == ["| this project | 4.0 | 12.3 | 60.0 | 0.0 |", "| the floor | 4.0 | 12.3 | 60.0 | 0.0 |"]


def test_what_was_aimed_at_is_met_or_missed():
    made = tables(costs(**PROXIES))
    aims = {line.split(" | ")[0]: line.split(" | ")[2:] for line in made["reach"].splitlines()[2:]}
    messages = "| messages a second of 500 clients, at the worst size: this project, of"
    assert aims[f"{messages} HAProxy's"] == ["1.00", "met |"]
    assert aims[f"{messages} Caddy's"] == ["0.86", "missed |"]
    assert aims["| handshakes a second: this project, of the sockets'"] == ["0.11", "missed |"]
    assert aims["| failed handshakes in a storm of 5,000"] == ["0", "met |"]
    assert aims["| seconds until the last one's 101"] == ["1.20", "missed |"]
    assert aims["| first deploy to 10 hosts, of the usual way's time"] == ["0.60", "met |"]
    assert aims["| a run with nothing to do on 10 hosts, of one host's time"] == ["2.50", "missed |"]


def test_an_older_measurement_without_processor_time_keeps_the_other_tables():
    parts = costs(**PROXIES)
    for row in (*parts["throughput"]["rows"], *parts["handshakes"]["rows"]):
        del row["proxy_us"]
    made = tables(parts)
    assert {"throughput", "handshakes"} < set(made)
    assert not {"cpu_echo", "promise"} & set(made)


def test_the_machine_line_says_how_long_it_took_and_how_sessions_were_scheduled():
    parts = costs(**PROXIES)
    assert tables(parts, minutes=28.4)["machine"].endswith("2026-01-02, in 28 minutes")
    assert "Linux 6, autogroup off" in tables(parts)["machine"]


def test_autogroup_is_off_for_a_measurement_and_back_afterwards_also_if_it_fails(tmp_path):
    setting = tmp_path / "sched_autogroup_enabled"
    setting.write_text("1\n")
    with pytest.raises(KeyboardInterrupt), run.without_autogroup(setting):
        assert setting.read_text() == "0\n"
        raise KeyboardInterrupt
    assert setting.read_text() == "1\n"


def test_a_machine_without_autogroup_is_measured_as_it_is(tmp_path):
    with run.without_autogroup(tmp_path / "none" / "such"):
        pass
    assert not list(tmp_path.iterdir())


@pytest.fixture
def floor(tmp_path):
    """The minimal proxy before one Unix socket: its process id, a client's connection and the app's end of it."""
    subprocess.run(["cc", "-o", tmp_path / "proxy", ROOT / "benchmarks/proxy.c"], check=True)
    with socket.socket() as free, socket.socket(socket.AF_UNIX) as app:
        free.bind(("127.0.0.1", 0))
        address = free.getsockname()
        free.close()
        app.bind(str(tmp_path / "app.sock"))
        app.listen()
        app.settimeout(20)
        command = [tmp_path / "proxy", str(address[1]), tmp_path / "app.sock"]
        with subprocess.Popen(command, start_new_session=True) as proxy:
            try:
                with connected(address) as client, app.accept()[0] as served:
                    client.settimeout(20)
                    served.settimeout(20)
                    yield proxy.pid, client, served
            finally:
                os.killpg(proxy.pid, signal.SIGKILL)


def connected(address):
    """Return a connection, as soon as somebody listens."""
    end = time.monotonic() + 20
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            return socket.create_connection(address)
        assert time.monotonic() < end, "the proxy does not listen"
        time.sleep(0.01)


def read_all(connection):
    """Return all that comes until the other side ends."""
    return b"".join(iter(lambda: connection.recv(1 << 16), b""))


@needs_compiler
def test_the_minimal_proxy_passes_on_the_end_of_one_direction_only(floor):
    _, client, served = floor
    client.sendall(b"question")
    client.shutdown(socket.SHUT_WR)
    assert read_all(served) == b"question"
    served.sendall(b"answer")
    served.close()
    assert read_all(client) == b"answer"


@needs_compiler
def test_the_minimal_proxy_reads_no_more_than_the_other_side_takes(floor):
    proxy, client, served = floor
    block, sent = bytes(range(256)) * 4096, 0
    while select.select([], [client], [], 0.5)[1] and sent < 100 << 20:
        sent += client.send(block[sent % len(block) :])
    client.shutdown(socket.SHUT_WR)
    received = read_all(served)
    assert len(received) == sent
    assert received == (block * (sent // len(block) + 1))[:sent]
    workers = pathlib.Path(f"/proc/{proxy}/task/{proxy}/children").read_text().split()
    peaks = [pathlib.Path(f"/proc/{pid}/status").read_text().split("VmHWM:")[1].split()[0] for pid in workers]
    assert max(map(int, peaks)) < 16 << 10  # kB


def test_the_number_of_processes_is_compared_with_four():
    def row(peer, rate, size=None):
        what = {"what": "messages", "size": size} if size else {"what": "handshakes"}
        return {"peer": peer, "round": 0, "rate": rate, **what, **dict.fromkeys(report.CPU, 2)}

    rows = [row("1", 90), row("4", 100), row("1", 50, 32), row("4", 200, 32)]
    memory = [{"peer": "1", "app": 15 * 2**20}, {"peer": "4", "app": 60 * 2**20}]
    table = report.numprocs(report.summary({"numprocs": {"rows": rows, "memory": memory}}))["numprocs"]
    assert [line.split(" | ") for line in table.splitlines()[2:]] == [
        ["| 1", "0.90", "0.25", "2.0 + 2.0 + 2.0", "2.0 + 2.0 + 2.0", "15 |"],
        ["| 4", "1.00", "1.00", "2.0 + 2.0 + 2.0", "2.0 + 2.0 + 2.0", "60 |"],
    ]


def test_a_moments_switch_of_autogroup_is_always_taken_back(tmp_path, monkeypatch):
    setting = tmp_path / "sched_autogroup_enabled"
    setting.write_text("1\n")
    monkeypatch.setattr(scheduling, "AUTOGROUP", setting)
    seen = []
    monkeypatch.setattr(scheduling, "_engine", lambda *_: seen.append(setting.read_text()))
    with pytest.raises(KeyboardInterrupt), scheduling._switched_autogroup("host"):
        raise KeyboardInterrupt
    # The app's processes started anew with each.
    assert seen == ["0", "1\n"]
    assert setting.read_text() == "1\n"


def test_a_condition_that_the_machine_does_not_allow_is_left_out(monkeypatch, tmp_path):
    monkeypatch.setattr(scheduling, "AUTOGROUP", tmp_path / "none" / "sched_autogroup_enabled")
    monkeypatch.setattr(scheduling, "_inside", lambda _container, condition, *_: [condition])
    monkeypatch.setattr(sys.modules["hosts"], "containers", lambda _inventory: {"bench": "bench-1"})
    monkeypatch.setenv("TEST_HOSTS_ENGINE", "false")
    found = scheduling.measure(tmp_path, quick=True)
    assert found["rows"] == ["nothing else", "a busy program", "a second app"]
    assert list(found["left_out"]) == ["a remote client", "autogroup off"]


def test_the_table_of_the_scheduling_compares_a_condition_with_itself():
    usual = {"condition": "a busy program", "what": 1024, "round": 0, "failed": 0, "app_us": 50}
    rows = [
        {**usual, "peer": "other", "per_second": 1000, "p50_us": 60, "p99_us": 300, "proxy_us": 20.06},
        {**usual, "peer": "batch", "per_second": 1500, "p50_us": 2600, "p99_us": 8000, "proxy_us": 15},
    ]
    part = {"rows": rows, "left_out": {"a remote client": "no"}}
    made = report.scheduling(report.summary({"scheduling": part}))
    line = "| a busy program: 1 KiB, 500 clients | 1,000/s | 1.50 | 0.06 ms / 0.3 ms | 20.1 | 2.6 ms / 8 ms | 15.0 |"
    assert made["scheduling"].splitlines()[2:] == [line, "", "Left out on this machine: a remote client (no)."]
