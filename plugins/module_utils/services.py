"""The host's services: whether they run, whether they start at boot, and their sandboxes."""

from __future__ import annotations

import glob
import os
import subprocess

from . import neighbours, paths, sandbox, system
from .host import Sandbox

Units = dict[str, dict[str, str]]
"""{name: {property: value}} of systemd's units, as ``systemctl show`` prints them."""


def units(acme: bool) -> Units:
    """Return the units that have to run, each with its properties.

    :param acme: whether certbot's timer has to run too
    """
    names = [*sandbox.SERVICES, *(["certbot.timer"] if acme else [])]
    properties = "Id,ActiveState,ActiveEnterTimestamp,UnitFileState,NeedDaemonReload,MainPID"
    asked = ["systemctl", "show", "--timestamp=unix", f"--property={properties}", *names]
    shown = subprocess.run(asked, capture_output=True, text=True, errors="replace", check=False).stdout
    found = [dict(line.split("=", 1) for line in unit.splitlines()) for unit in shown.strip().split("\n\n") if unit]
    return {name: {} for name in names} | {unit["Id"].removesuffix(".service"): unit for unit in found}


def idle_units(found: Units) -> list[str]:
    """Return the units that do not run, or do not start at boot."""
    good = ("active", "enabled")
    return [name for name, unit in found.items() if (unit.get("ActiveState"), unit.get("UnitFileState")) != good]


def stale(found: Units) -> bool:
    """Tell whether systemd has to read its files again."""
    return any(unit.get("NeedDaemonReload") == "yes" for unit in found.values())


def sandboxes(found: Units) -> dict[str, Sandbox]:
    """Return {service: its sandbox} of :data:`sandbox.SERVICES`."""
    return {name: _sandbox(name, found[name]) for name in sandbox.SERVICES}


def _sandbox(name: str, unit: dict[str, str]) -> Sandbox:
    try:
        with open(paths.sandbox(name), encoding="utf-8", errors="replace") as file:
            on, written = "NoNewPrivileges" in file.read(), int(os.fstat(file.fileno()).st_mtime)
    except FileNotFoundError:
        on, written = False, 0
    entered = unit.get("ActiveEnterTimestamp", "")
    started = int(entered.removeprefix("@")) if entered.startswith("@") else written
    now = system.no_new_privileges(unit.get("MainPID", ""))
    return Sandbox(on=on, late=started < written, now=now, neighbours=neighbours.work(name))


def batched(found: Units) -> list[str]:
    """Return those of :data:`sandbox.SERVICES` that are ``SCHED_BATCH``."""
    return [name for name in sandbox.SERVICES if system.is_batch(found[name].get("MainPID", ""))]


def idle_scripts(acme: bool) -> list[str]:
    """Return the services of a host without systemd that do not run, or do not start at boot.

    :param acme: whether cron has to run too: it starts certbot
    """
    wanted = ["websockets-tmpfiles", *sandbox.SERVICES, *(["cron"] if acme else [])]
    return [name for name in wanted if not runs_by_script(name)]


def runs_by_script(name: str) -> bool:
    """Tell whether a service with an init script runs, and starts at boot."""
    starts = glob.glob(f"/etc/rc2.d/S??{name}")
    return bool(starts) and not subprocess.run(["service", name, "status"], capture_output=True, check=False).returncode
