#!/usr/bin/python
"""Start a release beside what runs, and wait until each of its processes answers."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: start
short_description: Start a release beside what runs, and wait until each of its processes answers
version_added: 1.0.0
description:
  - This module adds the release's Supervisor program by name, and asks each of its sockets for a WebSocket handshake.
  - Each of its workers, which have no socket, has to run for a number of seconds meanwhile.
  - If a process of a new release does not answer or run, the module removes the program again and fails.
  - If a process of the live release does not answer or run, the module restarts that process.
  - With O(restart) it restarts all processes of the live release one after the other, each as soon as the one before it
    answers, and after them its workers. If a process does not, the module stops there, and the others go on serving.
  - This module is for the role P(websockets.deploy.websockets#role) itself; its options change without notice.
author: The authors of this repository (!UNKNOWN)
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
  - websockets.deploy.step
  - websockets.deploy.step.run
attributes:
  diff_mode:
    support: none
options:
  release:
    description: The release, as the action M(websockets.deploy.plan) returns it.
    type: dict
    required: true
  minfds:
    description: Number of file descriptors that supervisord's processes need.
    type: int
    required: true
  probe:
    description: The handshake, as the action M(websockets.deploy.plan) returns it.
    type: dict
    required: true
  headers:
    description:
      - Further headers of the handshake. They may hold secrets.
      - Without this option they are those that the app's last deploy has recorded.
    type: dict
  restart:
    description: Whether to restart the processes of the live release, and to give the host's lock back after that.
    type: bool
    default: false
  interval:
    description: The least number of seconds from the stop of one process to that of the next, for O(restart).
    type: int
    default: 0
"""

EXAMPLES = r"""
---
- name: Start the release and wait until every process answers
  websockets.deploy.start:
    release: "{{ __websockets_release }}"
    run: "{{ __websockets_plan.run }}"
    minfds: 5120
    probe: "{{ __websockets_plan.probe }}"
    headers: {}
"""

RETURN = r"""
---
# This module returns only changed.
"""

import dataclasses
import os
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import handshake, lock, paths, processes, recorded
from ..module_utils import release as releases
from ..module_utils.probe import Probe
from ..module_utils.record import from_dict
from ..module_utils.release import Process, Release, Worker, is_worker
from ..module_utils.run import Run
from ..module_utils.supervisor import DOWN, FAILED, Supervisor, SupervisorError

# Seconds in which supervisord starts a process of a program that it has got.
_SPAWNED = 5
# SQLite's words name no path.
_UNWRITABLE = re.compile("unable to open database file|attempt to write a readonly database")
_DENIED = re.compile("(?i)read-only file system|permission denied")


def start(supervisor: Supervisor, release: Release) -> bool:
    """Start the processes of a release that are down; return whether there were any."""
    processes = supervisor.processes(release.program)
    if not processes:
        releases.point(release.program_file, f"{release.path}/program.conf")
        supervisor.add(release.program)
        return True
    down = [name for name, process in processes.items() if process["statename"] in DOWN]
    for name in down:
        supervisor.call("startProcess", f"{release.program}:{name}", False)
    return bool(down)


def gate(supervisor: Supervisor, release: Release, probe: Probe, headers: Mapping[str, object]) -> None:
    """Wait until every process answers a handshake, and every worker has run for its seconds.

    :raises GateError: as soon as a process has failed, gives the same definite answer for a tenth of ``probe.timeout``, or
        ``probe.timeout`` is over; or as soon as a worker has ended
    """
    watches = [
        Watch(supervisor, release, worker, process) for worker in release.workers for process in worker.processes
    ]
    deadline = time.monotonic() + probe.timeout
    begun = {name: process["pid"] for name, process in supervisor.processes(release.program).items()}
    for process in release.processes:
        pause, answer, since = 0.05, "", 0.0
        while (error := handshake.fault(process.socket, probe, headers, deadline - time.monotonic())) is not None:
            now = time.monotonic()
            if error.answer != answer:
                answer, since, pause = error.answer, now, 0.05
            # Not at the first one: some apps listen a moment before all of their paths are there.
            settled = answer and now - since > probe.timeout / 10
            state = supervisor.processes(release.program)[process.name]
            if state["statename"] in FAILED or settled or now > deadline:
                see_foreground(supervisor, release, process, begun[process.name], now, answers=False)
                raise GateError(process, error, state)
            for watch in watches:
                watch.look()
            time.sleep(pause)
            pause = min(2 * pause, 1)  # otherwise the gate's tries would fill the log
    # A parent that leaves the server in the background often waits until the server is ready.
    deadline = time.monotonic() + 1
    for process in release.processes:
        see_foreground(supervisor, release, process, begun[process.name], deadline, answers=True)
    while not all([watch.look() for watch in watches]):
        time.sleep(0.1)


class Watch:
    """The gate of one process of a worker: it has to stay the same process for the worker's seconds."""

    def __init__(self, supervisor: Supervisor, release: Release, worker: Worker, process: Process) -> None:
        self.supervisor, self.release, self.process = supervisor, release, process
        self.seconds = worker.runs_for
        self.begun = time.monotonic()
        self.pid, self.passed = 0, False

    def look(self) -> bool:
        """Return whether the process has run for its seconds.

        :raises GateError: if it has ended, does not start, or has put itself into the background
        """
        if self.passed:
            return True
        state, now = self.supervisor.processes(self.release.program)[self.process.name], time.monotonic()
        if state["pid"] and not self.pid:
            # The live release's may run for long. supervisord counts whole seconds.
            self.pid, self.begun = state["pid"], now - max(0, state["now"] - state["start"] - 1)
        ran = now - self.begun
        if state["statename"] in FAILED or state["pid"] != self.pid or (not self.pid and ran > _SPAWNED):
            see_foreground(self.supervisor, self.release, self.process, self.pid, now, answers=False)
            raise WorkerError(self.process, self.seconds, state)
        if state["statename"] == "RUNNING" and ran >= self.seconds:
            see_foreground(self.supervisor, self.release, self.process, self.pid, now, answers=True)
            self.passed = True
        return self.passed


def see_foreground(
    supervisor: Supervisor, release: Release, process: Process, pid: int, deadline: float, answers: bool
) -> None:
    """See that a command has not put itself into the background, where Supervisor can neither watch nor stop it.

    :param pid: pid of the process that Supervisor knew before, 0 if there was none
    :param deadline: until then a process that has children is watched
    :param answers: whether its socket answers a handshake
    :raises GateError: if it has, or if it answers and Supervisor's process has ended
    """
    patience = 5 if answers else 3  # seconds to find out what a process that has ended has left
    ended, commands, outside = False, dict[processes.Process, str](), set[processes.Process]()
    while True:
        state = supervisor.processes(release.program)[process.name]
        if not state["pid"]:
            time.sleep(0.2)  # some children end when they notice that their parent has
        family = processes.of(release.program, process.name, commands)
        tree = processes.descendants(state["pid"])
        again = supervisor.processes(release.program)[process.name]
        # Nothing of a later start is in the family then.
        if (state["pid"], state["start"]) == (again["pid"], again["start"]):
            # A child that has ended with its parent is in no tree either.
            left = {one for one in family if one.pid not in tree and one.alive}
            outside |= left
            if left or not state["pid"]:
                listening = {one for one in processes.listener(process.socket) if one.pid not in tree}
                left = listening or (set() if state["pid"] else left)
            elif pid not in (0, state["pid"]):  # its next start may have ended them
                left = {one for one in (commands if answers else outside) if one.pid not in tree | {pid}}
            if left:
                commands |= {one: commands.get(one) or one.command for one in left}
                last = max(left, key=lambda one: (commands[one] != "", one.start))  # the first ones are the script's
                raise BackgroundError(process, last.pid, commands[last], state)
            ended, pid = ended or pid not in (0, state["pid"]) or not state["pid"], state["pid"]
        commands |= {one: one.command or commands.get(one, "") for one in family}
        if len(family) == 1 and not ended:
            return
        if time.monotonic() > deadline + (patience if ended else 0):
            if ended and answers:
                raise EndedError(process, state)
            return
        time.sleep(0.05)


def repair(supervisor: Supervisor, release: Release, probe: Probe, headers: Mapping[str, object]) -> bool:
    """Restart the processes of a running release that do not answer or run; return whether there were any.

    A process that works and expects another question stays: its clients do not deserve a restart.
    """
    faults = {process.name: handshake.fault(process.socket, probe, headers) for process in release.processes}
    broken = [name for name, error in faults.items() if error and not error.wrong_question]
    there = supervisor.processes(release.program)
    broken += [name for name in there if is_worker(name) and there[name]["statename"] in FAILED]
    for name in broken:
        supervisor.restart(release, name)
    return bool(broken)


def restart(
    supervisor: Supervisor, release: Release, probe: Probe, headers: Mapping[str, object], interval: float
) -> None:
    """Restart the processes of the live release one after the other, so that the others serve meanwhile.

    Those that do not answer come first: after them, no restart leaves nginx without a process that answers. Workers come
    last.

    :raises RestartError: if a process does not answer or run after its restart
    """
    if start(supervisor, release):  # what was down is new by now
        gate(supervisor, release, probe, headers)
    silent = {process.name for process in release.processes if handshake.fault(process.socket, probe, headers)}
    web = sorted(release.processes, key=lambda process: process.name not in silent)
    alone = [dataclasses.replace(release, processes=[process], workers=[]) for process in web]
    for worker in release.workers:
        one = [dataclasses.replace(worker, processes=[process]) for process in worker.processes]
        alone += [dataclasses.replace(release, processes=[], workers=[each]) for each in one]
    waiting = [*web, *(process for worker in release.workers for process in worker.processes)]
    next_stop = time.monotonic()
    for part in alone:
        process = waiting.pop(0)
        if part.processes:
            time.sleep(max(0, next_stop - time.monotonic()))
        next_stop = time.monotonic() + interval
        supervisor.restart(release, process.name)
        try:
            gate(supervisor, part, probe, headers)
        except GateError as error:
            raise RestartError(release, process, waiting, error) from None


class RestartError(Exception):
    """A process has not come back; the message says which ones were not restarted."""

    def __init__(self, release: Release, process: Process, waiting: Sequence[Process], error: Exception) -> None:
        rest = ", ".join(sorted(other.name for other in waiting))
        stays = f"; not restarted, and serving as before: {rest}" if rest else ""
        super().__init__(f"{process.name} of {release.id} does not come back after its restart{stays}. {error}")


_FOREGROUND = "leave out an option such as --daemon, or an & at the end: it has to stay in the foreground"


class GateError(Exception):
    """A process does not answer; the message has supervisord's view of it and the end of its log."""

    def __init__(self, process: Process, error: Exception | str, state: Mapping[str, Any]) -> None:
        why = state["spawnerr"] or state["description"]
        if isinstance(error, Exception) and (state["statename"], state["exitstatus"]) == ("EXITED", 0):
            why += f". {process.name}'s own process has ended without an error: if its command puts itself into the"
            why += f" background, {_FOREGROUND}"
        super().__init__(
            f"{process.socket or process.name} {error}. supervisord says {process.name} is {state['statename']}"
            f"{f': {why}' if why else ''}.\n{last_lines(process.log)}"
        )


class WorkerError(GateError):
    """A worker has not stayed the same process for its seconds."""

    def __init__(self, process: Process, seconds: int, state: Mapping[str, Any]) -> None:
        words = f"is a worker that has to run for {seconds} s (runs_for) before the release gets traffic, and has ended"
        super().__init__(process, words, state)


class EndedError(GateError):
    """Something answers, but the process that Supervisor has started has ended."""

    def __init__(self, process: Process, state: Mapping[str, Any]) -> None:
        words = (
            f"answers, but {process.name}'s own process has ended since its start. If the command puts itself into the"
            f" background, {_FOREGROUND}"
        )
        super().__init__(process, words, state)


class BackgroundError(GateError):
    """A command has put itself into the background."""

    def __init__(self, process: Process, pid: int, command: str, state: Mapping[str, Any]) -> None:
        words = (
            f"is of a command that puts itself into the background: {process.name}'s own process has ended, but not process"
            f" {pid} ({command}), which it has started. Supervisor can neither watch nor stop it."
            f" {_FOREGROUND.capitalize()}"
        )
        super().__init__(process, words, state)


def hint(release: Release, message: str) -> str:
    """Return a line about the app's data if a message has an error of an app that writes beside its code, else nothing."""
    for line in message.splitlines():
        # A path that is not absolute is in the release: its code is the processes' folder.
        inside = release.path in line or not re.search(r"(?<![\w./])/\w", line)
        if _UNWRITABLE.search(line) or (_DENIED.search(line) and inside):
            place = paths.data(release.app)
            return f"\nAn app cannot write beside its code. {{data}} is a folder for that, which stays: {place}."
    return ""


def last_lines(path: str, lines: int = 15) -> str:
    """Return the last lines of a log, with its path."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            file.seek(max(0, os.path.getsize(path) - 8192))
            text = "".join(file.readlines()[-lines:]).rstrip()
    except OSError:
        text = ""
    return f"The end of {path}:\n{text}" if text else f"{path} is empty."


def main() -> None:
    module = AnsibleModule(
        {
            "release": {"type": "dict", "required": True},
            "run": {"type": "dict", "required": True},
            "minfds": {"type": "int", "required": True},
            "probe": {"type": "dict", "required": True},
            "headers": {"type": "dict", "no_log": True},
            "restart": {"type": "bool", "default": False},
            "interval": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    release = from_dict(Release, module.params["release"])
    if module.check_mode:
        module.exit_json(changed=module.params["restart"] or not os.path.lexists(release.program_file))
    recorded.fill_headers(module, release.app)
    with lock.hold(module):
        start_and_gate(module, release, from_dict(Probe, module.params["probe"]), module.params["headers"])


def start_and_gate(module: AnsibleModule, release: Release, probe: Probe, headers: Mapping[str, object]) -> None:
    """Start the release, wait for the gate, and exit the module; stop a new release that fails."""
    supervisor = Supervisor()
    live = releases.live_id(release.app) == release.id
    try:
        supervisor.wait()
        changed = supervisor.raise_descriptors(module.params["minfds"])
        if module.params["restart"]:
            restart(supervisor, release, probe, headers, module.params["interval"])
            lock.end(from_dict(Run, module.params["run"]))
            module.exit_json(changed=True)
        started = start(supervisor, release)
        if not started and live:
            started = repair(supervisor, release, probe, headers)
        gate(supervisor, release, probe, headers)
    except RestartError as error:
        module.fail_json(msg=f"{error}{hint(release, str(error))}")
    except (SupervisorError, GateError, OSError) as error:
        if live:
            fails = "has a worker that does not run" if isinstance(error, WorkerError) else "does not answer"
            module.fail_json(msg=f"The live release {release.id} {fails}. {error}{hint(release, str(error))}")
        try:
            supervisor.retire(release)
            releases.discard(release)
        except (SupervisorError, OSError) as second:
            module.warn(f"{release.program} could not be removed: {second}")
        module.fail_json(
            msg=f"Release {release.id} has not passed the gate and gets no traffic; {releases.still_serves(release.app)}."
            f" {error}{hint(release, str(error))}"
        )
    module.exit_json(changed=changed or started)


if __name__ == "__main__":
    main()
