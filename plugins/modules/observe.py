#!/usr/bin/python
"""Look at a host, and begin a run there."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: observe
short_description: Look at a host, and begin a run there
version_added: 1.0.0
description:
  - This module returns what the plan of a deploy depends on, and what of the host is as it should be already.
  - It takes the host's lock, so that no other run changes what it has seen. It changes nothing else, and in check mode
    it does not take the lock.
  - This module is for the role P(websockets.deploy.websockets#role) itself; its options change without notice.
author: The authors of this repository (!UNKNOWN)
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  platform:
    support: full
    platforms: debian
options:
  app:
    description: Name of the app.
    type: str
    required: true
  user:
    description: User of the app's processes.
    type: str
    required: true
  python:
    description: Path of the interpreter for the app's virtual environment.
    type: str
    required: true
  listens:
    description: Every address and port that nginx is to listen at for the app.
    type: list
    elements: str
    required: true
  tls:
    description: The certificate that the action M(websockets.deploy.plan) asks about; empty without TLS.
    type: dict
    required: true
  minfds:
    description: Number of file descriptors that a process of the app needs.
    type: int
    required: true
  worker_connections:
    description: Number of file descriptors that a worker of nginx needs.
    type: int
    required: true
  platforms:
    description: What depends on the distribution, such as its packages, by the distribution's ID.
    type: dict
    required: true
  files:
    description: Paths of the host's own files that the role writes.
    type: list
    elements: str
    required: true
  keep_releases:
    description: Number of releases to keep on the host.
    type: int
    required: true
  probe:
    description: A handshake that shows whether a process answers.
    type: dict
    required: true
  headers:
    description: Further headers of the handshake. They may hold secrets.
    type: dict
    required: true
  run:
    description:
      - This run of C(ansible-playbook). C(id) tells it from all others, C(who) names its user and host.
      - The host's lock belongs to it.
    type: dict
    required: true
  ended:
    description: Id of a run that is known to have ended without giving the lock back.
    type: str
    default: ""
"""

EXAMPLES = r"""
---
# The action websockets.deploy.plan runs this module. A task of a playbook never does.
- name: Look at the host
  websockets.deploy.observe:
    app: echo
    user: ws-echo
    python: /usr/bin/python3
    listens: [127.0.0.1:8080]
    tls: {}
    minfds: 5120
    worker_connections: 9216
    platforms: "{{ __websockets_platforms }}"
    files: [/etc/tmpfiles.d/websockets-echo.conf]
    keep_releases: 5
    probe: {host: localhost, path: /, message: hello, timeout: 30, origin: "", proxy_protocol: false, certificate: ""}
    headers: {}
    run: {id: control 4711 /root/.ansible/tmp/local4711, who: root@control (process 4711)}
"""

RETURN = r"""
---
host:
  description: The host as it is. It is missing if another run holds the lock.
  returned: when the lock was free
  type: dict
  sample: {init: systemd, platform: debian-13, python: "3.13", live: 5f2b41c09a7e, serves: true}
holder:
  description: The run that holds the lock, with its C(id) and C(who).
  returned: when another run holds the lock
  type: dict
  sample: {id: control 4711 /root/.ansible/tmp/local4711, who: root@control (process 4711)}
msg:
  description: The same as a sentence.
  returned: when another run holds the lock
  type: str
  sample: root@control (process 4711) is deploying to this host.
"""

import contextlib
import errno
import glob
import grp
import os
import pwd
import re
import resource
import shlex
import socket
import stat
import subprocess

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import handshake, lock, release, sandbox, site, tls
from ..module_utils.supervisor import DOWN, Supervisor, SupervisorError


def platform(platforms, path="/etc/os-release"):
    """Return which of the platforms this distribution is, or is like; empty if none."""
    with open(path, encoding="utf-8") as file:
        pairs = [word.partition("=") for word in shlex.split(file.read(), comments=True)]
    names = {name: value for name, _, value in pairs}
    own = names.get("ID", "")
    like = [f"{own}-{names.get('VERSION_ID', '')}", own, *names.get("ID_LIKE", "").split()]
    return next((name for name in like if name in platforms), "")


def python_version(path):
    """Return the interpreter's version such as 3.13, empty if it is none that can run an app."""
    code = "import sys; print('%d.%d' % sys.version_info[:2] if sys.version_info >= (3, 9) else '')"
    try:
        return subprocess.run([path, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def missing(packages):
    """Return the packages that dpkg does not have; of alternatives (``a | b``), the first if it has none."""
    alternatives = [package.split(" | ") for package in packages]
    query = [
        "dpkg-query",
        "--show",
        "--showformat",
        "${Package} ${db:Status-Status}\n",
        *(name for names in alternatives for name in names),
    ]
    shown = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    installed = {line.split()[0] for line in shown.splitlines() if line.endswith(" installed")}
    return [names[0] for names in alternatives if installed.isdisjoint(names)]


def listener(listen):
    """Return who keeps nginx from listening there: a program's name, or the kernel's reason; empty if nobody."""
    address, port = site.listen_address(listen)
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if attempt.family == socket.AF_INET6:
            attempt.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # as nginx does
        try:
            attempt.bind((address, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                return f"nobody can listen there ({error.strerror}); something else"
            names = owners(port)
            return "" if "nginx" in names else ", ".join(sorted(names)) or "another program"
    return ""


def owners(port):
    """Return the names of the programs that listen at a TCP port."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table, encoding="ascii") as file:
                rows = [line.split() for line in file.readlines()[1:]]
        except FileNotFoundError:
            continue
        listening = "0A"  # TCP_LISTEN
        inodes |= {row[9] for row in rows if row[3] == listening and int(row[1].rsplit(":", 1)[1], 16) == port}
    names = set()
    for link in glob.glob("/proc/[0-9]*/fd/*"):
        try:
            if re.sub(r"\D", "", os.readlink(link)) in inodes and os.readlink(link).startswith("socket:"):
                with open(os.path.join(link.rsplit("/", 2)[0], "comm"), encoding="utf-8") as file:
                    names.add(file.read().strip())
        except OSError:
            continue  # ended meanwhile
    return names


def texts(*patterns):
    """Yield path and text of the files of these patterns, in the order of an include; not of those that are not there."""
    for path in (path for pattern in patterns for path in sorted(glob.glob(pattern))):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                text = file.read()
        except OSError:
            continue
        yield path, text


def servers(app):
    """Return {app: its servers} of the other apps that this role has put behind nginx here."""
    found = {}
    for path, text in texts("/etc/nginx/conf.d/websockets-*.conf"):
        name = os.path.basename(path)[len("websockets-") : -len(".conf")]
        if name != app:
            pairs = re.findall(r"^\s*listen\s+([^;\s]+)[^;]*;\s*server_name\s+([^;]+);", text, re.M)
            found[name] = [server for listen, names in pairs for server in site.server(listen, names.split())]
    return found


# A server that has one of these has them for all servers of its address (ngx_http_core_module, listen).
_LISTEN_OPTIONS = (
    r"\b(setfib|fastopen|backlog|rcvbuf|sndbuf|accept_filter|deferred|bind|ipv6only|reuseport|so_keepalive)\b"
)


def others_at(app, listen):
    """Return what nginx does at this address already for somebody else than this app.

    ``options`` whether it has options there; ``default`` whether somebody is asked for names that nobody has, by
    ``default_server`` or as the first to listen there; ``speaks`` TLS or plain HTTP, and ``proxy_protocol`` whether in
    that, both missing where nobody listens.
    """
    found, own = {"options": False, "default": False}, f"websockets-{app}.conf"
    for path, text in texts("/etc/nginx/conf.d/*.conf", "/etc/nginx/sites-enabled/*"):
        name = os.path.basename(path)
        if name == own:
            continue
        for address, options in re.findall(r"^[^#\n]*?\blisten\s+([^;\s]+)([^;]*);", text, re.M):
            with contextlib.suppress(ValueError):
                if site.listen_address(address.removeprefix("*:")) != site.listen_address(listen):
                    continue
                # Another app's site that comes first has refused all names before; it is no catch-all of anybody's.
                first = "/conf.d/" in path and name < own and not name.startswith("websockets-")
                found["speaks"] = "TLS" if re.search(r"\bssl\b", options) else "plain HTTP"
                found["proxy_protocol"] = bool(re.search(r"\bproxy_protocol\b", options))
                found["options"] |= bool(re.search(_LISTEN_OPTIONS, options))
                found["default"] |= first or bool(re.search(r"\bdefault(_server)?\b", options))
    return found


def certificate(wanted):
    """Return when the certificate begins and ends, or its ``problem``; empty without TLS."""
    if not wanted:
        return {}
    try:
        found = tls.examine(wanted["certificate"], wanted["key"], wanted["names"])
    except tls.CertificateError as error:
        return {"problem": str(error), "about": error.about} if wanted["mode"] == "files" else {}
    if wanted["mode"] == "files" and os.stat(wanted["key"]).st_mode & 0o007:
        return {"problem": "everybody on the host can read it; make it 0600.", "about": "key"}
    return found


def largest(directive, *patterns):
    """Return the largest number that a directive has in these files, 0 where it is in none."""
    numbers = (re.findall(rf"^{directive}\s*=\s*(\d+)", text, re.M) for _, text in texts(*patterns))
    return max((int(number) for some in numbers for number in some), default=0)


def minfds():
    """Return the largest minfds in supervisord's configuration."""
    return largest("minfds", "/etc/supervisor/supervisord.conf", "/etc/supervisor/conf.d/*.conf")


def nginx_nofile():
    """Return the limit of descriptors that the role has given nginx's service."""
    return largest("LimitNOFILE", "/etc/systemd/system/nginx.service.d/websockets.conf")


def nofile(descriptors):
    """Return how many file descriptors a service on this host can have, as far as ``descriptors`` are concerned."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < descriptors:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
        except (ValueError, OSError):
            return hard
    return max(hard, descriptors)


def kernel(name):
    """Return a number of the kernel's (sysctl), 0 where it does not have it."""
    try:
        with open(f"/proc/sys/{name.replace('.', '/')}", encoding="ascii") as file:
            return int(file.read())
    except FileNotFoundError:
        return 0


def limits(descriptors):
    """Return what this host allows, as module_utils/sizing.py judges it."""
    return {
        "nofile": nofile(descriptors),
        "nr_open": kernel("fs.nr_open"),
        "somaxconn": kernel("net.core.somaxconn"),
        "conntrack": kernel("net.netfilter.nf_conntrack_max"),
    }


def files(paths):
    """Return {path: its mode and text}, such as ``0644 # A file``; empty if there is only its folder yet."""
    found = {}
    for path in paths:
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                found[path] = f"{stat.S_IMODE(os.fstat(file.fileno()).st_mode):04o} {file.read()}"
        elif os.path.isdir(os.path.dirname(path)):
            found[path] = ""
    return found


def folders(path):
    """Tell whether the folders of a file of tmpfiles.d are there as it says."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.split() for line in file if line.startswith("d ")]
        for _, folder, mode, user, group in lines:
            found = os.lstat(folder)
            is_as_said = (found.st_mode, found.st_uid, found.st_gid) == (
                stat.S_IFDIR | int(mode, 8),
                pwd.getpwnam(user).pw_uid,
                grp.getgrnam(group).gr_gid,
            )
            if not is_as_said:
                return False
    except (FileNotFoundError, KeyError):
        return False
    return True


# A server of nginx's; a program of Supervisor's, as its sections are called.
_NEIGHBOURS = {
    "nginx": (
        ("/etc/nginx/nginx.conf", "/etc/nginx/conf.d/*.conf", "/etc/nginx/sites-enabled/*"),
        r"^[^#\n]*\b(?:server|stream|mail)\s*\{",
    ),
    "supervisor": (
        ("/etc/supervisor/supervisord.conf", "/etc/supervisor/conf.d/*.conf"),
        r"^\[(?:program|fcgi-program|eventlistener):",
    ),
}


def neighbours(service):
    """Return the files that give a service something to do which is not of this role."""
    patterns, sign = _NEIGHBOURS[service]
    return [
        path
        for path, text in texts(*patterns)
        if not os.path.basename(path).startswith("websockets") and re.search(sign, text, re.M)
    ]


def units(init, acme):
    """Return {name: properties} of the units that have to run, as systemd shows them; None without systemd."""
    if init != "systemd":
        return None
    names = [*sandbox.SERVICES, *(["certbot.timer"] if acme else [])]
    properties = "Id,ActiveState,ActiveEnterTimestamp,UnitFileState,NeedDaemonReload"
    asked = ["systemctl", "show", "--timestamp=unix", f"--property={properties}", *names]
    shown = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
    found = [dict(line.split("=", 1) for line in unit.splitlines()) for unit in shown.strip().split("\n\n") if unit]
    return dict.fromkeys(names, {}) | {unit["Id"].removesuffix(".service"): unit for unit in found}


def sandboxes(units):
    """Return of each service whether the role has it in a sandbox (``on``), whether what the file says comes into force
    at its next start only (``late``), and what of somebody else's it has (``neighbours``)."""
    if units is None:
        return {}
    found = {}
    for name in sandbox.SERVICES:
        path = sandbox.FILE.format(service=name)
        try:
            with open(path, encoding="utf-8") as file:
                on, written = "NoNewPrivileges" in file.read(), int(os.fstat(file.fileno()).st_mtime)
        except FileNotFoundError:
            on, written = False, 0
        entered = units[name].get("ActiveEnterTimestamp", "")
        started = int(entered.removeprefix("@")) if entered.startswith("@") else written
        found[name] = {"on": on, "late": started < written, "neighbours": neighbours(name)}
    return found


def services(units, acme=False):
    """Return which services do not run or not come back at boot, and whether systemd has to read their files again."""
    if units is not None:
        good = ("active", "enabled")
        idle = [name for name, unit in units.items() if (unit.get("ActiveState"), unit.get("UnitFileState")) != good]
        return {
            "idle_services": idle,
            "stale_units": any(unit.get("NeedDaemonReload") == "yes" for unit in units.values()),
        }
    wanted = ["websockets-tmpfiles", *sandbox.SERVICES, *(["cron"] if acme else [])]
    idle = [name for name in wanted if not runs_by_script(name)]
    return {"idle_services": idle, "stale_units": False}


def runs_by_script(name):
    """Tell whether a service with an init script runs, now and at boot."""
    starts = glob.glob(f"/etc/rc2.d/S??{name}")
    return bool(starts) and not subprocess.run(["service", name, "status"], capture_output=True, check=False).returncode


def serves(live, minfds, probe, headers):
    """Tell whether the processes of the live release all run as they should, and answer."""
    try:
        supervisor = Supervisor()
        processes = supervisor.processes(live["program"])
        return (
            bool(processes)
            and not any(process["statename"] in DOWN for process in processes.values())
            and not supervisor.lacks_descriptors(minfds)
            and not any(handshake.fault(process["socket"], probe, headers) for process in live["processes"])
        )
    except SupervisorError:
        return False


def account(user):
    """Return the user's primary group and home, both empty if there is no such user."""
    try:
        entry = pwd.getpwnam(user)
        return {"group": grp.getgrgid(entry.pw_gid).gr_name, "home": entry.pw_dir}
    except KeyError:
        return {"group": "", "home": ""}


def main():
    string = {"type": "str", "required": True}
    module = AnsibleModule(
        {
            "app": string,
            "user": string,
            "python": string,
            "listens": {"type": "list", "elements": "str", "required": True},
            "tls": {"type": "dict", "required": True},
            "minfds": {"type": "int", "required": True},
            "worker_connections": {"type": "int", "required": True},
            "platforms": {"type": "dict", "required": True},
            "files": {"type": "list", "elements": "str", "required": True},
            "keep_releases": {"type": "int", "required": True},
            "probe": {"type": "dict", "required": True},
            "headers": {"type": "dict", "required": True, "no_log": True},
            "run": {"type": "dict", "required": True},
            "ended": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=False, host=observe(module.params))
    try:
        with lock.held(module.params["run"], take=True, ended=module.params["ended"]):
            module.exit_json(changed=False, host=observe(module.params))
    except lock.LockError as error:
        module.exit_json(changed=False, holder=error.holder, msg=str(error))


def observe(parameters):
    app = parameters["app"]
    base = f"{release.BASE}/{app}"
    init = "systemd" if os.path.isdir("/run/systemd/system") else "sysv"  # sd_booted(3)
    found = platform(parameters["platforms"])
    acme = parameters["tls"].get("mode") == "acme"
    shown = units(init, acme)
    live, releases, descriptors = release.live(base), release.on_disk(base), minfds()
    return {
        "init": init,
        "platform": found,
        "python": python_version(parameters["python"]),
        "missing_packages": missing(parameters["platforms"][found]["packages"]) if found else [],
        **account(parameters["user"]),
        "listens": {at: {"listener": listener(at), **others_at(app, at)} for at in parameters["listens"]},
        "certificate": certificate(parameters["tls"]),
        "servers": servers(app),
        "minfds": descriptors,
        "nginx_nofile": nginx_nofile(),
        "limits": limits(parameters["worker_connections"]),
        # Those that this process may run on, where a container has only some of them.
        "cores": len(os.sched_getaffinity(0)),
        "files": files(parameters["files"]),
        "folders": folders(f"/etc/tmpfiles.d/websockets-{app}.conf"),
        **services(shown, acme),
        "sandboxes": sandboxes(shown),
        "live": live,
        "serves": live in releases
        and serves(releases[live], max(parameters["minfds"], descriptors), parameters["probe"], parameters["headers"]),
        "releases": releases,
        "venvs": release.venvs(base),
        "programs": release.programs(app),
        "surplus": bool(release.surplus(base, parameters["keep_releases"])[1]),
    }


if __name__ == "__main__":
    main()
