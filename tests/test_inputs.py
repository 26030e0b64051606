"""Inputs that the role cannot use: it refuses each with the variable, its value and what it accepts."""

import re
from pathlib import Path

import pytest
import websockets
from ansible.template import trust_as_template
from ansible_collections.websockets.deploy.plugins.module_utils import rules, source, tls
from ansible_collections.websockets.deploy.plugins.module_utils.inputs import HIDDEN, PREFIX, InputError
from role import ECHO, HOST, ROLE, plan, read

APP_NAME = "use lower-case letters, digits, - and _, starting with a letter."
USER_NAME = "use a user name of at most 32 lower-case letters, digits, - and _, starting with a letter."
OWN_PREFIX = " A variable of your own needs another prefix than websockets_."
PROCESSES = "use 1 to 512, or auto for one process per core."
LISTEN = "use PORT, ADDRESS:PORT or [ADDRESS]:PORT with a port of 1 to 65535."
HOST_NAMES = "use host names such as ws.example.com or *.example.com."
ORIGIN = (
    "use origins as browsers send them, such as https://www.example.com or http://localhost:3000: in lower case, without a"
    " path, and without the scheme's default port."
)
BELOW = (
    "write https://*.example.com for all names below example.com: one * in front of a domain of two labels or more, in"
    " lower case, without a path, and without the scheme's default port."
)
STICKY = "use none, address, or cookie NAME with a name of at most 64 letters, digits and _ that the app does not use."
SOCKET = "the app has to know its Unix socket; use {socket} here or in websockets_environment."
ONE_LINE = "use one line with a program and its arguments."
ENV_NAME = "use names of letters, digits and _ that do not start with a digit."
TAKEN_NAME = "the role or Supervisor sets this name; use another."
NO_SHELL = "the role starts the program without a shell"
QUOTE = "use a string or a number; put anything else in quotes."
GATE_PATH = "use a path that starts with / and has no spaces; encode other characters as %XX."
ONE_LINE_HEADER = "use a string on one line as a header's value."
PIP_ARGUMENT = "use arguments that are not empty and have no line break."
CHOOSE = (
    "nginx listens on more than loopback (websockets_listen is {}). Use acme (a certificate from an authority such as"
    " Let's Encrypt), files (a certificate of your own), self-signed (a certificate for tests), or none (a proxy in front"
    " speaks TLS, or you trust the network)."
)
PACKAGE = "use names of Debian packages such as libpq5 or libpq5:amd64, without versions and options."
LOCATION = "use a path such as /static/, = /robots.txt or = /; the app has / itself, and the role has /.websockets."
PATH = "use / or a path that starts and ends with /, such as /ws/."
BELOW_PATH = "the app gets only what is below websockets_path (/ws/); use a path below it."
UPSTREAM = (
    "use http://ADDRESS:PORT with an IP address and without a path, http://unix:/PATH of a socket, or http://websockets_APP"
    " for an app on this host: nginx does not start if it cannot resolve a name."
)
FOLDER = "use {release}/ and the path of a folder in the app's folder, such as {release}/public, of letters, digits, _ . @ + and -."
INSIDE = "with websockets_repo, name a folder inside the repository."
REPO = "https://git.example/app.git"

WORKER_NAME = "name a worker by at most 32 lower-case letters, digits and _, starting with a letter."
OF_WORKER = "command, numprocs, stopwaitsecs, runs_for"
NO_SOCKET = "a worker serves no clients and has no socket; leave {socket} out."


def workers(**mail):
    """Return inputs with a worker ``mail``, which has these values beside a command."""
    return {"workers": {"mail": {"command": "celery", **mail}}}


REFUSED = {
    # Workers
    "worker with a capital": ({"workers": {"Mail": {"command": "x"}}}, f"websockets_workers is 'Mail': {WORKER_NAME}"),
    "worker with a dash": (
        {"workers": {"my-mail": {"command": "x"}}},
        f"websockets_workers is 'my-mail': {WORKER_NAME}",
    ),
    "worker that is a number": ({"workers": {1: {"command": "x"}}}, f"websockets_workers is 1: {WORKER_NAME}"),
    "worker with a path": ({"workers": {"../x": {"command": "x"}}}, f"websockets_workers is '../x': {WORKER_NAME}"),
    "worker with a long name": (
        {"workers": {"a" * 33: {"command": "x"}}},
        f"websockets_workers is '{'a' * 33}': {WORKER_NAME}",
    ),
    "workers that are a list": ({"workers": ["celery"]}, "websockets_workers is ['celery']: use a mapping."),
    "worker that is a command": (
        {"workers": {"mail": "celery"}},
        f"websockets_workers.mail is 'celery': use a mapping of {OF_WORKER}.",
    ),
    "worker that is empty": (
        {"workers": {"mail": None}},
        f"websockets_workers.mail is None: use a mapping of {OF_WORKER}.",
    ),
    "worker that is a list": (
        {"workers": {"mail": ["celery"]}},
        f"websockets_workers.mail is ['celery']: use a mapping of {OF_WORKER}.",
    ),
    "misspelt keys of workers": (
        workers(numproc=2, run_for=5, stopwaitseconds=9),
        "websockets_workers.mail.numproc is not an input of a worker: did you mean numprocs?",
        "websockets_workers.mail.run_for is not an input of a worker: did you mean runs_for?",
        "websockets_workers.mail.stopwaitseconds is not an input of a worker: did you mean stopwaitsecs?",
    ),
    "key of a worker that is like none": (
        workers(environment={"A": "1"}),
        f"websockets_workers.mail.environment is not an input of a worker: it can have {OF_WORKER}.",
    ),
    "worker without a command": (
        {"workers": {"mail": {}}},
        f"websockets_workers.mail.command is '': {ONE_LINE}",
    ),
    "worker with an empty command": (
        workers(command=None),
        "websockets_workers.mail.command is None: use a string.",
    ),
    "worker whose command is a list": (
        workers(command=["celery"]),
        "websockets_workers.mail.command is ['celery']: use a string.",
    ),
    "worker with a socket": (
        workers(command="celery {socket}"),
        f"websockets_workers.mail.command is 'celery {{socket}}': {NO_SOCKET}",
    ),
    "worker with an unknown placeholder": (
        workers(command="celery {port}"),
        "websockets_workers.mail.command is 'celery {port}': {port} is not a placeholder; use {venv}, {release}, {data},"
        " {ping_interval}, {backlog}.",
    ),
    "worker with a shell's line": (
        workers(command="a && b"),
        f"websockets_workers.mail.command is 'a && b': {NO_SHELL}, and && means something only to a shell. Write sh -c '...'"
        " around the whole line to have one (with exec before the last program), or quotes around what is a plain"
        " argument.",
    ),
    "worker with a variable": (
        workers(command="A=1 celery"),
        f"websockets_workers.mail.command is 'A=1 celery': {NO_SHELL}; put the variable A into websockets_environment.",
    ),
    "worker with an open quote": (
        workers(command="celery '"),
        'websockets_workers.mail.command is "celery \'": it cannot be split into words (No closing quotation); close its'
        " quotes.",
    ),
    "worker with a file that is not there": (
        workers(command="python mail.py"),
        "websockets_workers.mail.command is 'python mail.py': there is no mail.py in the app's folder"
        f" ({ECHO}), which has app.py, requirements.txt.",
    ),
    "worker with numbers that are too small": (
        workers(numprocs=0, stopwaitsecs=0, runs_for=0),
        "websockets_workers.mail.numprocs is 0: use a whole number of 1 to 512.",
        "websockets_workers.mail.stopwaitsecs is 0: use a whole number of 1 to 86400.",
        "websockets_workers.mail.runs_for is 0: use a whole number of 1 to 3600.",
    ),
    "worker with numbers that are too large": (
        workers(numprocs=513, stopwaitsecs=86401, runs_for=3601),
        "websockets_workers.mail.numprocs is 513: use a whole number of 1 to 512.",
        "websockets_workers.mail.stopwaitsecs is 86401: use a whole number of 1 to 86400.",
        "websockets_workers.mail.runs_for is 3601: use a whole number of 1 to 3600.",
    ),
    "worker with other things than numbers": (
        workers(numprocs="auto", stopwaitsecs=True, runs_for=1.5),
        "websockets_workers.mail.numprocs is 'auto': use a whole number of 1 to 512.",
        "websockets_workers.mail.stopwaitsecs is True: use a whole number of 1 to 86400.",
        "websockets_workers.mail.runs_for is 1.5: use a whole number of 1 to 3600.",
    ),
    "user whose home would be the data": (
        {"user": "data", "environment": {"DATABASE": "{data}/db"}},
        "websockets_user is 'data': the user's home would be the folder of {data}; use another user.",
    ),
    # Names
    "misspelt variable": (
        {"numproc": 8},
        "websockets_numproc is not an input of the role websockets: did you mean websockets_numprocs?" + OWN_PREFIX,
    ),
    "two misspelt variables, one of them beside the right one": (
        {"num_procs": 8, "numprocs": 8, "serverName": "a"},
        "websockets_num_procs is not an input of the role websockets: did you mean websockets_numprocs?" + OWN_PREFIX,
        "websockets_serverName is not an input of the role websockets: did you mean websockets_server_name?"
        + OWN_PREFIX,
    ),
    "variable like none": (
        {"zzz": 1},
        "websockets_zzz is not an input of the role websockets: see docs/variables.md for the inputs." + OWN_PREFIX,
    ),
    "app with a capital": ({"app": "Echo", "user": "x"}, f"websockets_app is 'Echo': {APP_NAME}"),
    "app that starts with a digit": ({"app": "7up"}, f"websockets_app is '7up': {APP_NAME}"),
    "name of an app that is a path": (
        {"replaces": "../x"},
        "websockets_replaces is '../x': use the name that the app had: lower-case letters, digits, - and _.",
    ),
    "in its own place": (
        {"replaces": "echo"},
        "websockets_replaces is 'echo': this is the app's own name; use the name that it had, or leave this out.",
    ),
    "app that is a path": (
        {"app": "../x", "user": "x"},
        f"websockets_app is '../x': {APP_NAME}",
    ),
    "no app": ({"app": "", "user": "x"}, f"websockets_app is '': {APP_NAME}"),
    "app with a line break": ({"app": "echo\n", "user": "x"}, f"websockets_app is 'echo\\n': {APP_NAME}"),
    "socket path of 108 bytes": (
        {"app": "z" * 35, "user": "z"},
        f"websockets_app is '{'z' * 35}': the path of its Unix socket, /run/websockets/{'z' * 35}/<id>/{'z' * 35}_00.sock,"
        " has 108 bytes of at most 107; use a shorter name.",
    ),
    "root": ({"user": "root"}, "websockets_user is 'root': the app must not run as root; name a user of its own."),
    "user with a capital": ({"user": "Web"}, f"websockets_user is 'Web': {USER_NAME}"),
    "user of 33 letters": ({"user": "u" * 33}, f"websockets_user is '{'u' * 33}': {USER_NAME}"),
    "user that an app's name makes too long": ({"app": "a" * 30}, f"websockets_user is 'ws-{'a' * 30}': {USER_NAME}"),
    # Numbers
    "no processes": ({"numprocs": 0}, f"websockets_numprocs is '0': {PROCESSES}"),
    "too many processes": ({"numprocs": 513}, f"websockets_numprocs is '513': {PROCESSES}"),
    "processes that are no number": ({"numprocs": "four"}, f"websockets_numprocs is 'four': {PROCESSES}"),
    "half a process": ({"numprocs": 1.5}, f"websockets_numprocs is '1.5': {PROCESSES}"),
    "automatic processes, misspelt": ({"numprocs": "Auto"}, f"websockets_numprocs is 'Auto': {PROCESSES}"),
    "no time to stop": ({"stopwaitsecs": 0}, "websockets_stopwaitsecs is 0: use 1 to 86400."),
    "no time to start": ({"gate_timeout": 0}, "websockets_gate_timeout is 0: use 1 to 3600."),
    "pings off": ({"ping_interval": 0}, "websockets_ping_interval is 0: use 1 to 86400."),
    "proxy timeout of zero": (
        {"proxy_timeout": 0},
        "websockets_proxy_timeout is 0: use 1 to 604800.",
        "websockets_proxy_timeout is 0: nginx would cut idle clients between two pings; use more than"
        " websockets_ping_interval (20).",
    ),
    "ping interval as long as the proxy timeout": (
        {"ping_interval": 60},
        "websockets_proxy_timeout is 60: nginx would cut idle clients between two pings; use more than"
        " websockets_ping_interval (60).",
    ),
    "drain without a rate": ({"drain_rate": 0}, "websockets_drain_rate is 0: use 1 to 100000."),
    "drain into the past": (
        {"drain_timeout": -1, "drain_interval": -1},
        "websockets_drain_timeout is -1: use 0 to 86400.",
        "websockets_drain_interval is -1: use 0 to 3600.",
    ),
    "no release to keep": ({"keep_releases": 0}, "websockets_keep_releases is 0: use 1 to 1000."),
    "too few connections": ({"max_connections": 15}, "websockets_max_connections is 15: use 16 to 65535."),
    "too many connections": ({"max_connections": 65536}, "websockets_max_connections is 65536: use 16 to 65535."),
    "messages of nothing": ({"message_size": 0}, "websockets_message_size is 0: use 1 to 1048576."),
    "location of the app itself": (
        {"nginx_locations": {"/": "return 204;"}},
        f"websockets_nginx_locations is '/': {LOCATION}",
    ),
    "location by a regular expression": (
        {"nginx_locations": {"~ x": "return 204;"}},
        f"websockets_nginx_locations is '~ x': {LOCATION}",
    ),
    "location that the role has": (
        {"nginx_locations": {"= /.websockets-auth": "return 204;"}},
        f"websockets_nginx_locations is '= /.websockets-auth': {LOCATION}",
    ),
    "location without lines": (
        {"nginx_locations": {"/a": " "}},
        "websockets_nginx_locations is {'/a': ' '}: use nginx's lines for this location, or the absolute path of a folder"
        " of static files on the host.",
    ),
    "folder with lines": (
        {"nginx_locations": {"/a/": "/srv/a; deny all"}},
        "websockets_nginx_locations is {'/a/': '/srv/a; deny all'}: use only letters, digits, _ . / @ + and - in a"
        " folder's path; nginx's own lines do not start with /.",
    ),
    "folder whose path would reach beside it": (
        {"nginx_locations": {"/static": "/srv/static/"}},
        "websockets_nginx_locations is '/static': end the path with /, because its value is a folder.",
    ),
    "path without its last slash": ({"path": "/ws"}, f"websockets_path is '/ws': {PATH}"),
    "path without its first slash": ({"path": "ws/"}, f"websockets_path is 'ws/': {PATH}"),
    "no path": ({"path": ""}, f"websockets_path is '': {PATH}"),
    "path that goes up": ({"path": "/a/../ws/"}, f"websockets_path is '/a/../ws/': {PATH}"),
    "path with an empty part": ({"path": "/a//ws/"}, f"websockets_path is '/a//ws/': {PATH}"),
    "path with a space": ({"path": "/w s/"}, f"websockets_path is '/w s/': {PATH}"),
    "path with words for nginx": ({"path": "/ws/;deny all;/"}, f"websockets_path is '/ws/;deny all;/': {PATH}"),
    "path of the role's own": ({"path": "/.websockets/"}, f"websockets_path is '/.websockets/': {PATH}"),
    "gate beside the app's path": ({"path": "/ws/", "gate_path": "/"}, f"websockets_gate_path is '/': {BELOW_PATH}"),
    "gate beside the app's path, with a like name": (
        {"path": "/ws/", "gate_path": "/wss"},
        f"websockets_gate_path is '/wss': {BELOW_PATH}",
    ),
    "gate beside the app's path, with it in the query": (
        {"path": "/ws/", "gate_path": "/?a=/ws/"},
        f"websockets_gate_path is '/?a=/ws/': {BELOW_PATH}",
    ),
    **{
        f"location {path} of an app at /ws/": (
            {"path": "/ws/", "nginx_locations": {path: "return 204;"}},
            f"websockets_nginx_locations is {path!r}: {LOCATION.replace('/ itself', '/ws/ itself')}",
        )
        for path in ("/ws/", "^~ /ws/", "= /ws")
    },
    **{
        f"upstream {url}": (
            {"nginx_locations": {"/api/": url}},
            f"websockets_nginx_locations is {{'/api/': {url!r}}}: {UPSTREAM}",
        )
        for url in (
            *("http://api.example.com", "http://localhost:9000", "https://127.0.0.1:9000", "http://127.0.0.1:0"),
            *("http://127.0.0.1:9000/v1", "http://1.2.3.4.5", "http://[::1]:99999", "http://unix:run/api.sock"),
            *(
                "http://unix:/run/api.sock:/v1",
                "http://websockets_Feed",
                "http://127.0.0.1:9000; deny all",
                "ws://[::1]",
            ),
        )
    },
    **{
        f"upstream {url}": (
            {"nginx_locations": {"/api/": url}},
            f"websockets_nginx_locations is {{'/api/': {url!r}}}: leave out the last slash: nginx passes on the path that the"
            " client has asked for.",
        )
        for url in ("http://127.0.0.1:9000/", "http://[::1]/")
    },
    **{
        f"folder {folder}": (
            {"nginx_locations": {"/a/": folder}},
            f"websockets_nginx_locations is {{'/a/': {folder!r}}}: {FOLDER}",
        )
        for folder in (
            *("{release}", "{release}/", "{release}/../x", "{release}/a/./b", "{release}//etc", "{venv}/lib"),
            *("{release}/a b", "{release}/a; deny all"),
        )
    },
    **{
        f"folder {folder}": (
            {"nginx_locations": {"/a/": folder}},
            f"websockets_nginx_locations is {{'/a/': {folder!r}}}: nginx serves no name that starts with a dot, such as .env; use"
            " another folder.",
        )
        for folder in ("{release}/.git", "{release}/a/.env", "{release}/.hidden/a")
    },
    "folder of the app whose path would reach beside it": (
        {"nginx_locations": {"/a": "{release}/a"}},
        "websockets_nginx_locations is '/a': end the path with /, because its value is a folder.",
    ),
    "folder for an exact path": (
        {"nginx_locations": {"= /a": "{release}/a/"}},
        "websockets_nginx_locations is {'= /a': '{release}/a/'}: a path with = is one file; name it without a slash at its end.",
    ),
    "folder that the app does not have": (
        {"src": str(ECHO), "nginx_locations": {"/a/": "{release}/public"}},
        f"websockets_nginx_locations is '{{release}}/public': there is no folder public in the app's folder ({ECHO}).",
    ),
    "folder that is a file": (
        {"src": str(ECHO), "nginx_locations": {"/a/": "{release}/app.py"}},
        f"websockets_nginx_locations is '{{release}}/app.py': there is no folder app.py in the app's folder ({ECHO}).",
    ),
    "file that the app does not have": (
        {"src": str(ECHO), "nginx_locations": {"= /a": "{release}/robots.txt"}},
        f"websockets_nginx_locations is '{{release}}/robots.txt': there is no file robots.txt in the app's folder ({ECHO}).",
    ),
    "sandbox that is neither": ({"sandbox": True}, "websockets_sandbox is 'True': use auto, always or never."),
    # The source
    "no folder named": (
        {"src": ""},
        "websockets_src is '': name the folder of the app on the control node, or set websockets_repo.",
    ),
    "no such folder": (
        {"src": "/nonexistent/app"},
        "websockets_src is '/nonexistent/app': there is no folder /nonexistent/app on the control node.",
    ),
    "file instead of a folder": (
        {"src": f"{ECHO}/app.py"},
        f"websockets_src is '{ECHO}/app.py': there is no folder {ECHO}/app.py on the control node.",
    ),
    "revision without a repository": (
        {"version": "v1.0"},
        "websockets_version is 'v1.0': a revision needs a repository; set websockets_repo, or leave this out.",
    ),
    "repository without a revision": (
        {"repo": REPO, "version": "", "src": ""},
        "websockets_version is '': name a branch, tag or commit of websockets_repo.",
    ),
    "absolute folder with a repository": ({"repo": REPO, "src": "/app"}, f"websockets_src is '/app': {INSIDE}"),
    "folder above a repository": ({"repo": REPO, "src": "a/../../b"}, f"websockets_src is 'a/../../b': {INSIDE}"),
    "pattern of two lines": (
        {"exclude": ["*.log\n*.txt"]},
        "websockets_exclude is '*.log\\n*.txt': use patterns as in a .gitignore, each on one line.",
    ),
    "package that is an option": ({"packages": ["-y"]}, f"websockets_packages is '-y': {PACKAGE}"),
    "package with a version": (
        {"packages": ["git=1:2.39.5-0+deb12u2", "git/bookworm"]},
        f"websockets_packages is 'git=1:2.39.5-0+deb12u2': {PACKAGE}",
        f"websockets_packages is 'git/bookworm': {PACKAGE}",
    ),
    "two packages in one name": ({"packages": ["git gcc"]}, f"websockets_packages is 'git gcc': {PACKAGE}"),
    "package to remove": ({"packages": ["nginx-"]}, f"websockets_packages is 'nginx-': {PACKAGE}"),
    "packages by a pattern": ({"packages": ["python3-*"]}, f"websockets_packages is 'python3-*': {PACKAGE}"),
    "package with a line break": ({"packages": ["git\n"]}, f"websockets_packages is 'git\\n': {PACKAGE}"),
    "package without a name": ({"packages": [""]}, f"websockets_packages is '': {PACKAGE}"),
    # The command
    "command without the socket": (
        {"command": "{venv}/bin/python app.py"},
        f"websockets_command is '{{venv}}/bin/python app.py': {SOCKET}",
    ),
    "unknown placeholder": (
        {"command": "app --uds {socket} --port {port}"},
        "websockets_command is 'app --uds {socket} --port {port}': {port} is not a placeholder; use {socket}, {venv},"
        " {release}, {data}, {ping_interval}, {backlog}.",
    ),
    "open quote": (
        {"command": "app '{socket}"},
        'websockets_command is "app \'{socket}": it cannot be split into words (No closing quotation); close its quotes.',
    ),
    "no command": ({"command": ""}, f"websockets_command is '': {ONE_LINE}"),
    "command of two lines": ({"command": "app\n{socket}"}, f"websockets_command is 'app\\n{{socket}}': {ONE_LINE}"),
    "command before the start with a socket": (
        {"before_start": "app migrate {socket} {x}"},
        "websockets_before_start is 'app migrate {socket} {x}': {socket} is not a placeholder; use {venv}, {release},"
        " {data}, {ping_interval}, {backlog}.",
        "websockets_before_start is 'app migrate {socket} {x}': {x} is not a placeholder; use {venv}, {release},"
        " {data}, {ping_interval}, {backlog}.",
    ),
    "command before the start with an open quote": (
        {"before_start": "app 'x"},
        'websockets_before_start is "app \'x": it cannot be split into words (No closing quotation); close its quotes.',
    ),
    "command before the start of two lines": (
        {"before_start": "app\nother"},
        f"websockets_before_start is 'app\\nother': {ONE_LINE}",
    ),
    "command before the start of blanks": ({"before_start": "  "}, f"websockets_before_start is '  ': {ONE_LINE}"),
    "a variable in front of the command before the start": (
        {"before_start": "NODE_ENV=production npm ci"},
        f"websockets_before_start is 'NODE_ENV=production npm ci': {NO_SHELL}; put the variable NODE_ENV into"
        " websockets_environment.",
    ),
    "two commands before the start": (
        {"before_start": "npm ci && npm run build"},
        f"websockets_before_start is 'npm ci && npm run build': {NO_SHELL}, and && means something only to a shell. Write"
        " sh -c '...' around the whole line to have one (with exec before the last program), or quotes around what is a"
        " plain argument.",
    ),
    "hosts for the command before the start": (
        {"before_start_on": "first"},
        "websockets_before_start_on is 'first': use each or one.",
    ),
    "command with a file that is not there": (
        {"command": "{venv}/bin/python main.py {socket}"},
        "websockets_command is '{venv}/bin/python main.py {socket}': there is no main.py in the app's folder"
        f" ({ECHO}), which has app.py, requirements.txt.",
    ),
    "a variable in front of the command": (
        {"command": "DEBUG=1 {venv}/bin/python app.py {socket}"},
        f"websockets_command is 'DEBUG=1 {{venv}}/bin/python app.py {{socket}}': {NO_SHELL}; put the variable DEBUG into"
        " websockets_environment.",
    ),
    "exec": (
        {"command": "exec {venv}/bin/python app.py {socket}"},
        f"websockets_command is 'exec {{venv}}/bin/python app.py {{socket}}': {NO_SHELL}; leave exec out.",
    ),
    # The environment
    "yes in the environment": ({"environment": {"A": True}}, f"websockets_environment is {{'A': True}}: {QUOTE}"),
    "list in the environment": ({"environment": {"A": [1]}}, f"websockets_environment is {{'A': [1]}}: {QUOTE}"),
    "nothing in the environment": ({"environment": {"A": None}}, f"websockets_environment is {{'A': None}}: {QUOTE}"),
    "zero byte in the environment": (
        {"environment": {"A": "a\0b"}},
        "websockets_environment is {'A': 'a\\x00b'}: a value cannot contain a zero byte.",
    ),
    "name with a dash": ({"environment": {"A-B": 1}}, f"websockets_environment is 'A-B': {ENV_NAME}"),
    "name with a line break": ({"environment": {"A\n": 1}}, f"websockets_environment is 'A\\n': {ENV_NAME}"),
    "name that runs a command": (
        {"environment": {"A=$(id);B": 1}},
        f"websockets_environment is 'A=$(id);B': {ENV_NAME}",
    ),
    "name that is a number": ({"environment": {1: "a"}}, f"websockets_environment is 1: {ENV_NAME}"),
    "name of the role's": (
        {"environment": {"WEBSOCKETS_PING_INTERVAL": 5}},
        f"websockets_environment is 'WEBSOCKETS_PING_INTERVAL': {TAKEN_NAME}",
    ),
    **{
        f"{wrong} in the environment": (
            {"environment": {wrong: 5}},
            f"websockets_environment is '{wrong}': {f'did you mean WEBSOCKETS_{right}?' if right else TAKEN_NAME}",
        )
        for wrong, right in {
            "WEBSOCKETS_MAX_LINE_LENGHT": "MAX_LINE_LENGTH",
            "WEBSOCKETS_MAX_HEADERS": "MAX_NUM_HEADERS",
            "WEBSOCKETS_MAXBODYSIZE": "MAX_BODY_SIZE",
            "WEBSOCKETS_max_body_size": "MAX_BODY_SIZE",
            "WEBSOCKETS_BACKLOG": "",
            "WEBSOCKETS_DRAIN_RATE": "",
            "WEBSOCKETS_STOPWAITSECS": "",
            "WEBSOCKETS_MINE": "",
            "SUPERVISOR_MAX_BODY_SIZE": "",
        }.items()
    },
    "misspelt variable of the library in the secrets": (
        {"secrets": {"WEBSOCKETS_SERVERS": "x"}},
        "websockets_secrets is 'WEBSOCKETS_SERVERS': did you mean WEBSOCKETS_SERVER?",
    ),
    "name of Supervisor's": (
        {"secrets": {"SUPERVISOR_PROCESS_NAME": "x"}},
        f"websockets_secrets is 'SUPERVISOR_PROCESS_NAME': {TAKEN_NAME}",
    ),
    "name in both": (
        {"environment": {"TOKEN": "a"}, "secrets": {"TOKEN": "b"}},
        "websockets_secrets is 'TOKEN': it is in websockets_environment as well; set it in one of them.",
    ),
    "repository by a relative path": (
        {"repo": "../app", "src": ""},
        "websockets_repo is '../app': use a URL, user@host:path or an absolute path.",
    ),
    # No message has the secret hunter2
    "list as a secret": ({"secrets": {"A": ["hunter2"]}}, f"websockets_secrets is {{'A': '(hidden)'}}: {QUOTE}"),
    "zero byte in a secret": (
        {"secrets": {"A": "hunter2\0"}},
        "websockets_secrets is {'A': '(hidden)'}: a value cannot contain a zero byte.",
    ),
    "secret that is no dict": (
        {"secrets": "TOKEN=hunter2"},
        "websockets_secrets is a string: use a mapping, which on the command line is"
        " -e '{\"websockets_secrets\": {...}}'.",
    ),
    "header with a line break, which may be a token": (
        {"gate_headers": {"Authorization": "hunter2\r\nX: y"}},
        f"websockets_gate_headers is {{'Authorization': '(hidden)'}}: {ONE_LINE_HEADER}",
    ),
    "header that is a list": (
        {"gate_headers": {"Authorization": ["hunter2"]}},
        f"websockets_gate_headers is {{'Authorization': '(hidden)'}}: {ONE_LINE_HEADER}",
    ),
    "index that is no URL": (
        {"pip_index_url": "user:hunter2@pypi.example"},
        "websockets_pip_index_url is '(hidden)': use an http, https or file URL.",
    ),
    "index with a second line": (
        {"pip_index_url": "https://user:hunter2@pypi.example\n--pre"},
        "websockets_pip_index_url is '(hidden)': use an http, https or file URL.",
    ),
    # Packages
    "relative interpreter": (
        {"python": "python3.12"},
        "websockets_python is 'python3.12': use the absolute path of a Python interpreter on the host, or a version in"
        ' quotes, such as "3.12".',
    ),
    "interpreter by a version that YAML has shortened": (
        {"python": "3.1"},
        "websockets_python is '3.1': use the absolute path of a Python interpreter on the host, or a version in quotes,"
        ' such as "3.12".',
    ),
    "empty pip argument": ({"pip_args": ["--pre", ""]}, f"websockets_pip_args is '': {PIP_ARGUMENT}"),
    "pip argument of two lines": ({"pip_args": ["--pre\n-q"]}, f"websockets_pip_args is '--pre\\n-q': {PIP_ARGUMENT}"),
    # The gate
    "gate path with a space": ({"gate_path": "/a b"}, f"websockets_gate_path is '/a b': {GATE_PATH}"),
    "gate path that adds a header": (
        {"gate_path": "/ HTTP/1.1\r\nX: y"},
        f"websockets_gate_path is '/ HTTP/1.1\\r\\nX: y': {GATE_PATH}",
    ),
    "relative gate path": ({"gate_path": "ws"}, f"websockets_gate_path is 'ws': {GATE_PATH}"),
    "gate path with an umlaut": ({"gate_path": "/ä"}, f"websockets_gate_path is '/ä': {GATE_PATH}"),
    "header name with a colon": (
        {"gate_headers": {"Origin: x\r\nY": "z"}},
        "websockets_gate_headers is 'Origin: x\\r\\nY': use header names such as Origin.",
    ),
    "header that the handshake has": (
        {"gate_headers": {"host": "a.example"}},
        "websockets_gate_headers is 'host': the handshake has this header already; leave it out.",
    ),
    "gate message of 64 KiB": (
        {"gate_message": "ä" * 32768},
        f"websockets_gate_message is '{'ä' * 20}…': use at most 65535 bytes.",
    ),
    # nginx
    "port 0": ({"listen": "0"}, f"websockets_listen is '0': {LISTEN}"),
    "port 70000": ({"listen": "127.0.0.1:70000"}, f"websockets_listen is '127.0.0.1:70000': {LISTEN}"),
    "address 300.1.1.1": ({"listen": "300.1.1.1:80"}, f"websockets_listen is '300.1.1.1:80': {LISTEN}"),
    "address of three numbers": ({"listen": "127.1.1:80"}, f"websockets_listen is '127.1.1:80': {LISTEN}"),
    "IPv6 address that is none": ({"listen": "[1:::2]:80"}, f"websockets_listen is '[1:::2]:80': {LISTEN}"),
    "host name to listen at": ({"listen": "localhost:80"}, f"websockets_listen is 'localhost:80': {LISTEN}"),
    "listen with an option": ({"listen": "80 default_server"}, f"websockets_listen is '80 default_server': {LISTEN}"),
    "port in other digits": ({"listen": "\uff18\uff10"}, f"websockets_listen is '\uff18\uff10': {LISTEN}"),
    "no address": ({"listen": []}, "websockets_listen is []: name at least one address, such as 443."),
    "second address of a list": ({"listen": ["443", "[::1"], "tls": "none"}, f"websockets_listen is '[::1': {LISTEN}"),
    "list as text, with a space": ({"listen": "443, 80", "tls": "none"}, f"websockets_listen is ' 80': {LISTEN}"),
    "all addresses of a port, and one of them": (
        {"listen": ["443", "127.0.0.1:443", "[::1]:443"], "tls": "self-signed"},
        "websockets_listen is '127.0.0.1:443': 443 has all addresses of this port already; leave one of them out.",
        "websockets_listen is '[::1]:443': [::]:443 has all addresses of this port already; leave one of them out.",
    ),
    "plain HTTP at one of the addresses of TLS": (
        {"listen": "443", "tls": "self-signed", "listen_plain": ["80", "127.0.0.1:443"]},
        "websockets_listen_plain is '127.0.0.1:443': 443 has all addresses of this port already; leave one of them out.",
    ),
    "no server name": ({"server_name": []}, "websockets_server_name is []: name at least one host name."),
    "server name with a semicolon": (
        {"server_name": ["a.example; include /etc/shadow"]},
        f"websockets_server_name is 'a.example; include /etc/shadow': {HOST_NAMES}",
    ),
    "server name that is a URL": (
        {"server_name": ["a.example", "https://b.example"]},
        f"websockets_server_name is 'https://b.example': {HOST_NAMES}",
    ),
    "server name that is a regular expression": (
        {"server_name": ["~^a"]},
        f"websockets_server_name is '~^a': {HOST_NAMES}",
    ),
    "server name of 254 letters": (
        {"server_name": [".".join(["a" * 50] * 4 + ["b" * 50])]},
        f"websockets_server_name is '{'.'.join(['a' * 50] * 4 + ['b' * 50])}': {HOST_NAMES}",
    ),
    **{
        f"server name {name}": (
            {"server_name": ["a.example", name]},
            f"websockets_server_name is {name!r}: nginx gives it no meaning, and any other name is refused by a server of the"
            " role's own. Name what clients use, such as ws.example.com or *.example.com.",
        )
        for name in ("_", "__", "*", "*.", "-")
    },
    "server name with its port": (
        {"server_name": ["localhost:8080"]},
        "websockets_server_name is 'localhost:8080': leave out the port, which is that of websockets_listen.",
    ),
    "server name that is empty": ({"server_name": [""]}, f"websockets_server_name is '': {HOST_NAMES}"),
    "log that is none": (
        {"access_log": False},
        "websockets_access_log is 'False': use full, path or none.",
    ),
    "old workers without an end in sight": (
        {"worker_shutdown_timeout": 604801},
        "websockets_worker_shutdown_timeout is 604801: use 0 to 604800.",
    ),
    # Pages and clients that may connect
    **{
        f"origin {what}": ({"origins": [origin]}, f"websockets_origins is {origin!r}: {ORIGIN}")
        for what, origin in {
            "of a sandbox, in capitals": "NULL",
            "of a file with its path": "file:///home/me/page.html",
            "with a path": "https://a.example/",
            "without a scheme": "a.example",
            "in capitals": "https://A.example",
            "with the scheme's own port": "https://a.example:443",
            "with a port that is none": "https://a.example:65536",
            "with a quote": 'https://a.example"',
            "with a variable": "https://$host",
            "with a line break": "https://a.example\n",
            "that is empty": "",
            "that is a regular expression": "~https://a.example",
        }.items()
    },
    **{
        f"origins below {what}": ({"origins": [origin]}, f"websockets_origins is {origin!r}: {BELOW}")
        for what, origin in {
            "nothing": "https://*",
            "a domain of one label": "https://*.example",
            "a domain with a port, of one label": "https://*.example:8443",
            "a domain without a scheme": "*.example.com",
            "a domain of all schemes": "*://*.example.com",
            "a domain in the middle of a name": "https://a.*.example.com",
            "two domains": "https://*.*.example.com",
            "a part of a label": "https://a*.example.com",
            "a domain without its dot": "https://*example.com",
            "an empty label": "https://*..example.com",
            "a domain that ends with a dot": "https://*.example.com.",
            "a domain in capitals": "https://*.Example.com",
            "a domain with a path": "https://*.example.com/",
            "a domain with the scheme's own port": "https://*.example.com:443",
            "a domain with a port that is none": "https://*.example.com:65536",
            "a domain of all ports": "https://*.example.com:*",
            "a domain with a line break": "https://*.example.com\n",
            "a domain with a quote": 'https://*.example.com"',
            "a domain with a regular expression": "https://*.(a|b).example.com",
        }.items()
    },
    **{
        f"sticky {what}": ({"sticky": value}, f"websockets_sticky is {value!r}: {STICKY}")
        for what, value in {
            "by another word": "ip",
            "by nothing": "",
            "by a cookie without a name": "cookie",
            "by a cookie without a name, but a space": "cookie ",
            "by two cookies": "cookie a b",
            "by a cookie with a dash": "cookie my-node",
            "by a cookie with a value": "cookie node=1",
            "by a cookie with attributes": "cookie node;Domain=example.com",
            "by a cookie with a variable": "cookie ${request_id}",
            "by a cookie with a brace": "cookie a{",
            "by a cookie with a quote": 'cookie a"',
            "by a cookie with a line break": "cookie node\n",
            "by a cookie with a letter that is not ASCII": "cookie n\u00f6de",
            "by a long cookie": f"cookie {'a' * 65}",
            "in capitals": "Address",
        }.items()
    },
    "no headers": ({"header_size": 0}, "websockets_header_size is 0: use 1024 to 131072."),
    "small headers": ({"header_size": 1023}, "websockets_header_size is 1023: use 1024 to 131072."),
    "large headers": ({"header_size": 131073}, "websockets_header_size is 131073: use 1024 to 131072."),
    "headers with a unit": (
        {"header_size": "16k"},
        "websockets_header_size is '16k': use a whole number of 1024 to 131072.",
    ),
    "any origin, and another": (
        {"origins": ["*", "https://a.example"]},
        "websockets_origins is ['*', 'https://a.example']: use [\"*\"] alone; it allows the pages of all sites.",
    ),
    "any origin, but one": (
        {"origins": ["*"], "origin_required": True},
        "websockets_origin_required is True: websockets_origins allows all origins; list some there, or leave this out.",
    ),
    "wildcard without an origin": (
        {"server_name": ["a.example", "*.example.com"]},
        "websockets_origins is []: *.example.com of websockets_server_name does not say which pages may connect; list"
        ' their origins, such as https://*.example.com, or use ["*"] to allow all.',
    ),
    **{
        f"origin at the gate that is {origin}": (
            {"gate_headers": {"origin": origin}, "origins": ["https://*.example.com"], "origin_required": True},
            f"websockets_gate_headers is {{'origin': {origin!r}}}: nginx would refuse this origin; use one that it"
            " allows (https://*.example.com), or change websockets_origins.",
        )
        for origin in (
            "https://example.com",
            "https://a.example.org",
            "https://*.example.com",
            "https://a.example.com/",
        )
    },
    "origin at the gate that nginx refuses": (
        {"gate_headers": {"origin": "https://a.example"}, "origins": ["https://b.example", "https://c.example"]},
        "websockets_gate_headers is {'origin': 'https://a.example'}: nginx would refuse this origin; use one that it"
        " allows (https://b.example, https://c.example), or change websockets_origins.",
    ),
    **{
        f"proxy that is {what}": (
            {"trusted_proxies": ["192.0.2.1", proxy]},
            f"websockets_trusted_proxies is {proxy!r}: use addresses and networks such as 192.0.2.10, 10.0.0.0/8 or"
            " 2001:db8::/32.",
        )
        for what, proxy in {
            "a name": "proxy.example",
            "an address in a network": "10.1.2.3/8",
            "a directive": "10.0.0.0/8; deny all",
            "a netmask": "10.0.0.0/255.0.0.0",
            "an interface's": "fe80::1%eth0",
            "nothing": "",
        }.items()
    },
    "proxy of all addresses": (
        {"trusted_proxies": ["0.0.0.0/0"]},
        "websockets_trusted_proxies is '0.0.0.0/0': it covers all addresses, so any client could forge its address; use"
        " the proxies' own network.",
    ),
    "PROXY protocol without a proxy": (
        {"proxy_protocol": True},
        "websockets_proxy_protocol is True: name the proxies that speak it in websockets_trusted_proxies; nginx takes"
        " clients' addresses only from them.",
    ),
    "limits of nothing": (
        {"connections_per_address": 0, "handshakes_per_address": 0, "handshake_timeout": 0, "body_size": -1},
        "websockets_handshake_timeout is 0: use 1 to 3600.",
        "websockets_body_size is -1: use 0 to 1073741824.",
        "websockets_connections_per_address is 0: use 1 to 65535.",
        "websockets_handshakes_per_address is 0: use 1 to 100000.",
    ),
    **{
        f"authorizer that is {what}": (
            {"auth_request": url},
            f"websockets_auth_request is {url!r}: use http://ADDRESS:PORT/path with an IP address: nginx does not start if it"
            " cannot resolve a name.",
        )
        for what, url in {
            "a name": "http://auth.example/check",
            "no URL": "127.0.0.1:9000",
            "without a path": "http://127.0.0.1:9000",
            "a variable": "http://127.0.0.1:9000/$uri",
            "a directive": "http://127.0.0.1:9000/; deny all",
            "at no port": "http://127.0.0.1:65536/",
        }.items()
    },
    # TLS
    "clients from outside without a choice": ({"listen": "80"}, f"websockets_tls is '': {CHOOSE.format('80')}"),
    "clients from outside by IPv6": (
        {"listen": "[::]:8080"},
        f"websockets_tls is '': {CHOOSE.format('[::]:8080')}",
    ),
    "clients from outside by one of several addresses": (
        {"listen": ["127.0.0.1:80", "192.0.2.1:80"]},
        f"websockets_tls is '': {CHOOSE.format('127.0.0.1:80, 192.0.2.1:80')}",
    ),
    "TLS of another kind": (
        {"listen": "443", "tls": "letsencrypt"},
        "websockets_tls is 'letsencrypt': use acme, files, self-signed or none.",
    ),
    "own certificate without its files": (
        {"listen": "443", "tls": "files"},
        "websockets_tls_certificate is '': use the certificate's absolute path on the host, or its PEM text.",
        "websockets_tls_key is '': use the key's absolute path on the host, or its PEM text.",
    ),
    "own certificate by a relative path": (
        {"listen": "443", "tls": "files", "tls_certificate": "files/a.pem", "tls_key": "/a; include b"},
        "websockets_tls_certificate is 'files/a.pem': use the certificate's absolute path on the host, or its PEM text.",
        "websockets_tls_key is '(hidden)': use the key's absolute path on the host, or its PEM text.",
    ),
    "half of a certificate in the inputs": (
        {"listen": "443", "tls": "files", "tls_certificate": "/a.pem", "tls_key": "-----BEGIN hunter2"},
        "websockets_tls_key is '(hidden)': give the certificate and its key in the same way, as paths or as PEM text.",
    ),
    "key that is none": (
        {
            **{"listen": "443", "tls": "files", "tls_key": "-----BEGIN hunter2"},
            "tls_certificate": "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----",
        },
        "websockets_tls_key is '(hidden)': it has no private key in PEM (-----BEGIN PRIVATE KEY-----).",
    ),
    "certificate without its mode of TLS": (
        {"tls_certificate": "/a.pem", "tls_key": "/a.key"},
        "websockets_tls_certificate is '/a.pem': only websockets_tls: files uses it; leave it out.",
        "websockets_tls_key is '(hidden)': only websockets_tls: files uses it; leave it out.",
    ),
    "names that no authority asks for": (
        {"listen": "443", "tls": "acme", "server_name": ["*.a.example", "localhost", "192.0.2.1"], "origins": ["*"]},
        *(
            f"websockets_server_name is '{name}': an authority that asks over HTTP cannot check this name; use one such as"
            " ws.example.com."
            for name in ("*.a.example", "localhost", "192.0.2.1")
        ),
    ),
    "authority without plain HTTP to answer it": (
        {"listen": "443", "tls": "acme", "server_name": ["a.example"], "listen_plain": "none"},
        "websockets_listen_plain is 'none': the authority connects to this host over plain HTTP; use 80.",
    ),
    "directory without TLS": (
        {"acme_directory": "http://ca.example/dir"},
        "websockets_acme_directory is 'http://ca.example/dir': use the https URL of an authority's directory.",
    ),
    "email that is none": (
        {"acme_email": "ops"},
        "websockets_acme_email is 'ops': use an address such as ops@example.com.",
    ),
    "plain HTTP where TLS is": (
        {"listen": "443", "tls": "self-signed", "listen_plain": "0.0.0.0:443"},
        "websockets_listen_plain is '0.0.0.0:443': nginx speaks TLS there (websockets_listen); use another port.",
    ),
    "plain HTTP beside plain HTTP": (
        {"listen_plain": "80"},
        "websockets_listen_plain is '80': without TLS nginx speaks plain HTTP at websockets_listen; leave this out,"
        " or set websockets_tls.",
    ),
    "port of plain HTTP that is none": (
        {"listen": "443", "tls": "self-signed", "listen_plain": "http"},
        f"websockets_listen_plain is 'http': {LISTEN}",
    ),
    "promise of TLS without it": (
        {"hsts": 1},
        "websockets_hsts is 1: it tells browsers to use TLS only; set websockets_tls, or leave this out.",
    ),
    "promise for the past": (
        {"hsts": -1, "listen": "443", "tls": "self-signed"},
        "websockets_hsts is -1: use 0 to 315360000.",
    ),
    # One message has a line for each of several problems
    "several": (
        {"numprocs": 0, "user": "root", "listen": "0"},
        "websockets_user is 'root': the app must not run as root; name a user of its own.",
        f"websockets_numprocs is '0': {PROCESSES}",
        f"websockets_listen is '0': {LISTEN}",
    ),
}


@pytest.mark.parametrize(("given", "messages"), [(case[0], case[1:]) for case in REFUSED.values()], ids=REFUSED)
def test_refused(given, messages):
    with pytest.raises(InputError) as error:
        plan(**given)
    told = re.sub(r"\b[0-9a-f]{12}\b", "<id>", str(error.value))
    assert told.splitlines() == list(messages)
    assert "hunter2" not in told


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("cd data && app {socket}", "cd"),
        ("{venv}/bin/migrate && app {socket}", "&&"),
        ("{venv}/bin/migrate&&app {socket}", "&&"),
        ("app {socket} | tee log", "|"),
        ("app {socket}|tee log", "|"),
        ("app {socket} > /tmp/log 2>&1", ">"),
        ("app {socket} 2>&1", ">&"),
        ("app {socket} < /dev/null", "<"),
        ("app {socket} &", "&"),
        ("{venv}/bin/migrate; app {socket}", ";"),
        ("app --data $HOME/data {socket}", "$HOME"),
        ("app --data=${HOME} {socket}", "${HOME}"),
        ("app --workers $(nproc) {socket}", "$(nproc"),
        ("app --workers `nproc` {socket}", "`"),
        ("~/venv/bin/app {socket}", "~/venv/bin/app"),
        ("app --data ~chat {socket}", "~chat"),
        (". ./env && app {socket}", "."),
        ("app 'a && b' && app {socket}", "&&"),
    ],
)
def test_a_command_that_needs_a_shell_is_refused(command, found):
    with pytest.raises(InputError) as error:
        plan(command=command)
    assert str(error.value) == (
        f"websockets_command is {command!r}: {NO_SHELL}, and {found} means something only to a shell. Write sh -c '...'"
        " around the whole line to have one (with exec before the last program), or quotes around what is a plain"
        " argument."
    )


def test_refused_where_a_template_has_no_value():
    with pytest.raises(InputError, match=r"^websockets_server_name cannot be templated: .*'domain' is undefined"):
        plan(server_name=[trust_as_template("ws.{{ domain }}")])


# Problems that only the host shows

LIMITS = HOST["limits"]
DATA_OF = (
    "websockets_user is 'ws-echo': /var/lib/websockets/echo/data, which is {{data}}, belongs to {}, and only that user may use"
    " it. Keep the user, or give its files to ws-echo on the host: chown -R ws-echo /var/lib/websockets/echo/data. From then"
    " on the release that is live cannot use them, until this one is."
)
ON_THIS_HOST = {
    "data of another user": (
        {"data_owner": "ws-old"},
        {"environment": {"DATABASE": "{data}/db"}},
        DATA_OF.format("ws-old"),
    ),
    "data of another user, in a secret": (
        {"data_owner": "1234"},
        {"secrets": {"DATABASE": "sqlite:///{data}/db?key=hunter2"}},
        DATA_OF.format("1234"),
    ),
    "data of another user, in the command": (
        {"data_owner": "root"},
        {"command": "app {data} {socket}"},
        DATA_OF.format("root"),
    ),
    "data of another user, in a worker": (
        {"data_owner": "root"},
        {"workers": {"mail": {"command": "mail {data}"}}},
        DATA_OF.format("root"),
    ),
    "port of another program": (
        {"listens": {"127.0.0.1:8080": {"listener": "apache2 listens there already"}}},
        {},
        "websockets_listen is '127.0.0.1:8080': apache2 listens there already; use another address or port, or free this"
        " one.",
    ),
    "port alone of another program": (
        {
            "listens": {
                "8080": {"listener": "sshd listens there already"},
                "[::]:8080": {"listener": "sshd listens there already"},
            }
        },
        {"listen": "8080", "tls": "none"},
        "websockets_listen is '8080': sshd listens there already; use another address or port, or free this one.",
    ),
    "port alone, of which another program has IPv6": (
        {"listens": {"[::]:8080": {"listener": "sshd listens there already"}}},
        {"listen": "8080", "tls": "none"},
        "websockets_listen is '[::]:8080': sshd listens there already; use another address or port, or free this one.",
    ),
    "IPv6 on a host that has none": (
        {"ipv6": False},
        {"listen": ["443", "[2001:db8::1]:8443"], "tls": "self-signed"},
        "websockets_listen is '[2001:db8::1]:8443': the host has no IPv6; use an IPv4 address, or a port alone.",
    ),
    "no interpreter": (
        {"python": ""},
        {"python": "/usr/bin/python3.12"},
        "websockets_python is '/usr/bin/python3.12': the host has no Python >= 3.9 at this path; install it, or use"
        " /usr/bin/python3.",
    ),
    "no interpreter of a version": (
        {"python": ""},
        {"python": "3.12"},
        "websockets_python is '3.12': the host has no python3.12 in /usr/local/bin or /usr/bin; install it there"
        " (docs/packages.md), or give the path of one.",
    ),
    "server name and port of another app": (
        {"claims": {"chat": ["127.0.0.1:8080 a.example", "127.0.0.1:8080 b.example"]}},
        {"server_name": ["B.example", "c.example"]},
        "websockets_server_name is 'b.example': the app chat has this name at 127.0.0.1:8080 already; use another name,"
        " or another port in websockets_listen. If this app comes in its place, set websockets_replaces to chat.",
    ),
    "another site without the PROXY protocol at the same port": (
        {"listens": {"127.0.0.1:8080": {"speaks": "plain HTTP", "proxy_protocol": False}}},
        {"proxy_protocol": True, "trusted_proxies": ["192.0.2.1"]},
        "websockets_proxy_protocol is True: another site has False at 127.0.0.1:8080, and both must have the same; use"
        " another port.",
    ),
    "port of plain HTTP of another program": (
        {"listens": {"443": {"listener": ""}, "80": {"listener": "apache2 listens there already"}}},
        {"listen": "443", "tls": "self-signed"},
        "websockets_listen_plain is '80': apache2 listens there already; use another address or port, or free this one.",
    ),
    "port where another site speaks TLS": (
        {"listens": {"127.0.0.1:8080": {"listener": "", "speaks": "TLS"}}},
        {},
        "websockets_listen is '127.0.0.1:8080': another site speaks TLS there, and nginx cannot speak both at one"
        " address; use another port.",
    ),
    "port where another site speaks plain HTTP": (
        {"listens": {"443": {"listener": "", "speaks": "plain HTTP"}, "80": {"speaks": "plain HTTP"}}},
        {"listen": "443", "tls": "self-signed"},
        "websockets_listen is '443': another site speaks plain HTTP there, and nginx cannot speak both at one"
        " address; use another port.",
    ),
    "name and plain port of another app": (
        {"claims": {"chat": ["0.0.0.0:80 a.example"]}},
        {"listen": "443", "tls": "self-signed", "server_name": ["a.example"]},
        "websockets_server_name is 'a.example': the app chat has this name at 0.0.0.0:80 already; use another name, or"
        " another port in websockets_listen. If this app comes in its place, set websockets_replaces to chat.",
    ),
    "name of another site": (
        {"claims": {"/etc/nginx/conf.d/a.conf": ["127.0.0.1:8080 localhost"]}},
        {},
        "websockets_server_name is 'localhost': the site in /etc/nginx/conf.d/a.conf has this name at 127.0.0.1:8080 already;"
        " use another name, or another port in websockets_listen.",
    ),
    "in the place of an app that serves more": (
        {"replaced": {"claims": ["127.0.0.1:8080 localhost", "127.0.0.1:8081 feed.example"]}},
        {"replaces": "feed"},
        "websockets_replaces is 'feed': that app serves feed.example at 127.0.0.1:8081, and echo would not; give echo all of"
        " its addresses and host names, or take them from that app in a deploy before.",
    ),
    "in the place of an app that serves elsewhere": (
        {"replaced": {"claims": ["0.0.0.0:8080 localhost"]}},
        {"replaces": "feed"},
        "websockets_replaces is 'feed': that app serves localhost at 0.0.0.0:8080, and echo would not; give echo all of its"
        " addresses and host names, or take them from that app in a deploy before.",
    ),
    "in the place of an app with data": (
        {"replaced": {"claims": [], "files": ["/var/lib/websockets/feed/ws-feed/state.db"]}},
        {"replaces": "feed"},
        "websockets_replaces is 'feed': that app has /var/lib/websockets/feed/ws-feed/state.db, and would be removed with all"
        " that is in /var/lib/websockets/feed; move that to another folder first (docs/deploys.md says how).",
    ),
    "in the place of an app that another one's site names": (
        {"replaced": {"used_by": ["chat", "/etc/nginx/sites-enabled/own"]}},
        {"replaces": "feed"},
        "websockets_replaces is 'feed': nginx passes requests on to that app from chat and /etc/nginx/sites-enabled/own,"
        " which would have nowhere to go; change or remove that first.",
    ),
    "user of the app that goes": (
        {"replaced": {}, "home": "/srv/websockets/feed", "group": "ws-feed"},
        {"replaces": "feed", "user": "ws-feed"},
        "websockets_user is 'ws-feed': it is the user of feed, and is removed with it; use another one.",
    ),
    "certificate of the app that goes": (
        {"replaced": {}},
        {
            **{"replaces": "feed", "listen": "443", "tls": "files"},
            **{"tls_certificate": "/etc/nginx/websockets/feed.crt", "tls_key": "/etc/nginx/websockets/feed.key"},
        },
        "websockets_tls_certificate is '/etc/nginx/websockets/feed.crt': it is the certificate of feed, and is removed with"
        " it; use a copy of it and of its key.",
    ),
    "certificate of the host's that cannot be used": (
        {"certificate": {"about": "certificate", "problem": "certificate has expired."}},
        {"listen": "443", "tls": "files", "tls_certificate": "/a.pem", "tls_key": "/a.key"},
        "websockets_tls_certificate (on the host): certificate has expired.",
    ),
    "descriptors above what the host gives its services": (
        {"limits": LIMITS | {"nofile": 4096}},
        {"max_connections": 10000},
        "websockets_max_connections is 10000: nginx would need 20256 file descriptors, and the host's services get 4096;"
        " use at most 1920; if the host is a container, you can start it with --ulimit nofile=20256:20256 instead",
    ),
    "descriptors above what the kernel has": (
        {"limits": LIMITS | {"nofile": 65536, "nr_open": 100000}},
        {"max_connections": 65535, "numprocs": 16},
        "websockets_max_connections is 65535: nginx would need 131326 file descriptors, and the kernel allows 100000;"
        " use at most 32640, or run on the host: sysctl -w fs.nr_open=131326",
    ),
    "more clients than may wait": (
        {},
        {"max_connections": 16389, "numprocs": 4},
        "websockets_max_connections is 16389: with 4 processes 4098 clients may wait for each, and the kernel lets 4096"
        " wait; use at most 16384, a larger websockets_numprocs, or run on the host: sysctl -w net.core.somaxconn=4098",
    ),
    "more clients than a firewall tracks": (
        {"limits": LIMITS | {"conntrack": 8192}},
        {"max_connections": 10000},
        "websockets_max_connections is 10000: the host's firewall tracks 8192 connections and drops all others; use at"
        " most 8192, or run on the host: sysctl -w net.netfilter.nf_conntrack_max=20000",
    ),
}


@pytest.mark.parametrize(("host", "given", "message"), ON_THIS_HOST.values(), ids=ON_THIS_HOST)
def test_refused_on_this_host(host, given, message):
    with pytest.raises(InputError) as error:
        plan(host, **given)
    assert str(error.value) == message


def test_one_name_for_two_apps_of_a_run_is_refused():
    before = plan(app="chat")["ansible_facts"]
    with pytest.raises(InputError) as error:
        plan(app="chat", numprocs=2, ansible_facts=before)
    assert str(error.value) == "websockets_app is 'chat': another app of this run has this name; use another name."
    # The same app again, or another one, is not.
    plan(app="chat", ansible_facts=before)
    plan(app="other", ansible_facts=before)


# Inputs at the other side of each limit

ACCEPTED = {
    "workers": {
        "workers": {
            "a": {"command": "sh -c 'a | b'"},
            "b_2": {"command": "{venv}/bin/x {data}", "numprocs": 512, "stopwaitsecs": 86400, "runs_for": 3600},
            "c" * 32: {"command": """c '{"a": {"b": 1}}'""", "numprocs": 1, "stopwaitsecs": 1, "runs_for": 1},
        }
    },
    "data": {"environment": {"DATABASE": "{data}/db"}},
    "nothing but the folder": {},
    "longest socket path": {"app": "a" * 34, "user": "a"},
    "most processes": {"numprocs": 512},
    "a number as text": {"numprocs": "8"},
    "proxy timeout just above the ping interval": {"ping_interval": 59},
    "socket in the environment": {"command": "app", "environment": {"SOCKET": "unix:{socket}"}},
    "braces of another meaning": {"command": """app '{"a": {"b": 1}}' {socket}"""},
    "a shell": {"command": "sh -c 'cd data && A=1 exec app {socket} 2>&1 | tee ~/log; echo $HOME `id`'"},
    "a shell that starts a file": {"command": "sh -c 'exec {venv}/bin/python other.py' {socket}"},
    "a shell, in double quotes": {"command": 'sh -c "cd \\"$HOME\\" && exec app {socket}"'},
    "quoted and escaped characters": {"command": r"""app --filter='a|b' "x & y;" a\;b \$HOME '~' {socket}"""},
    "characters that a shell leaves alone": {
        "command": "app --ips=* --pattern=^x$ a~b --x=y {socket} a=b [x] # {a,b}",
    },
    "a variable of env": {"command": "env DEBUG=1 app {socket}"},
    "a command before the start": {"before_start": "sh -c 'npm ci && npm run build' {venv} {release}"},
    "a command before the start on one host": {"before_start": "app migrate", "before_start_on": "one"},
    "numbers in the environment": {"environment": {"A": 1, "B": 2.5, "C": ""}},
    "variables of the library": {
        "environment": {"WEBSOCKETS_MAX_LINE_LENGTH": 32768, "WEBSOCKETS_MAX_NUM_HEADERS": "256"},
        "secrets": {"WEBSOCKETS_SERVER": ""},
    },
    "clients of one address together": {"sticky": "address"},
    "requests with one cookie together": {"sticky": f"cookie {'a' * 64}"},
    "another cookie": {"sticky": "cookie _Node_1"},
    "smallest headers": {"header_size": 1024},
    "largest headers": {"header_size": 131072},
    "origins below a domain": {
        "origins": [
            *("https://*.example.com", "http://*.a-b.c_d.example:3000", "https://*.example.com:65535"),
            *("https://*.xn--bcher-kva.example", "capacitor://*.a.example"),
        ],
    },
    "an origin below a domain at the gate": {
        "gate_headers": {"Origin": "https://a.b.example.com"},
        "origins": ["https://*.example.com"],
    },
    "longest gate message": {"gate_message": "a" * 65535},
    "headers": {"gate_headers": {"Cookie": "a=b", "X-Number": 1}},
    "an origin of the app's own": {"gate_headers": {"origin": "http://localhost:8080"}, "origin_required": True},
    "any origin at the gate": {"gate_headers": {"Origin": "https://a.example"}, "origins": ["*"]},
    "origins": {
        "origins": [
            "https://www.example.com",
            "http://localhost:65535",
            "http://[2001:db8::1]:3000",
            "http://example.com:443",
            "chrome-extension://abcdefghijklmnop",
            "capacitor://localhost",
            "null",
            "file://",
        ]
    },
    "load balancers": {
        "trusted_proxies": ["192.0.2.10", "10.0.0.0/8", "2001:db8::/32", "::1"],
        "proxy_protocol": True,
    },
    "as much as nginx counts from one address": {"connections_per_address": 65535, "handshakes_per_address": 100000},
    "wildcards and underscores": {
        "server_name": ["*.example.com", "_dev.example.com", "192.0.2.1"],
        "origins": ["https://www.example.com"],
    },
    "an authorizer": {"auth_request": "http://[::1]:9000/check?app=echo"},
    "port alone": {"listen": "80", "tls": "none"},
    "lines for nginx": {"nginx_server": "allow all;", "nginx_locations": {"= /": "return 204;", "^~ /a/": "/srv/a"}},
    "a path": {"path": "/ws/"},
    "a longer path": {"path": "/a/b-1/", "gate_path": "/a/b-1/health?x=/"},
    "the gate at a path without its last slash": {"path": "/ws/", "gate_path": "/ws?token=1"},
    "other paths beside the app's": {
        "path": "/ws/",
        "nginx_locations": {"/": "return 204;", "= /": "return 204;", "/ws": "return 204;", "= /ws/": "return 204;"},
    },
    "files of the app": {"nginx_locations": {"= /app": "{release}/app.py", "= /": "{release}/requirements.txt"}},
    "a folder that a build makes": {"before_start": "make", "nginx_locations": {"/a/": "{release}/a/.well-known/b/"}},
    "upstreams": {
        "nginx_locations": {
            "/a/": "http://127.0.0.1",
            "/b/": "http://[::1]:9000\n",
            "/c": "http://unix:/run/api.sock",
            "/d/": "http://websockets_echo",
        }
    },
    "all IPv6 addresses": {"listen": "[::]:443", "tls": "self-signed"},
    "loopback without TLS": {"listen": "[::1]:80"},
    "both loopback addresses": {"listen": ["127.0.0.1:80", "[::1]:80"]},
    "a port as a number": {"listen": 80, "tls": "none"},
    "addresses as text": {"listen": "127.0.0.1:80,[::1]:80"},
    "the same address twice": {"listen": ["443", "0.0.0.0:443"], "tls": "self-signed"},
    "no plain HTTP, as text": {"listen": "443", "tls": "self-signed", "listen_plain": ""},
    "an authority": {"listen": "443", "tls": "acme", "server_name": ["ws.example.com"]},
    "an authority at another port": {
        **{"listen": "8443", "tls": "acme", "server_name": ["ws.example.com"], "listen_plain": "8081"},
        "acme_email": "ops@example.com",
    },
    "no plain HTTP": {"listen": "443", "tls": "self-signed", "listen_plain": "none"},
    "files of the host": {"listen": "443", "tls": "files", "tls_certificate": "/etc/a.pem", "tls_key": "/etc/a.key"},
    "another app's name at another port": {"listen": "8081", "tls": "none", "server_name": ["taken.example"]},
    "as many connections as the host allows": {"max_connections": 65535, "numprocs": 16},
    "as many processes as cores": {"numprocs": "auto"},
    "Debian packages": {"packages": ["libpq5", "g++", "libstdc++6", "python3.11-dev", "libpq5:amd64", "gcc"]},
}


@pytest.mark.parametrize("given", ACCEPTED.values(), ids=ACCEPTED)
def test_accepted(given):
    plan({"claims": {"chat": ["0.0.0.0:8080 taken.example"]}}, **given)


@pytest.mark.parametrize("name", list(read("defaults/main.yml")))
def test_an_empty_value_is_refused(name):
    """In YAML, ``name:`` without a value is None."""
    with pytest.raises(InputError) as error:
        plan(**{name.removeprefix("websockets_"): None})
    assert f"{name} is None: give it a value, or leave it out for its default." in str(error.value)


# Secrets


def test_no_result_has_a_secret(monkeypatch, tmp_path):
    (tmp_path / "app.py").touch()
    monkeypatch.setattr(source, "checkout", lambda *_: str(tmp_path))
    planned = plan(
        repo="https://user:hunter2@git.example/app.git",
        src="",
        secrets={"TOKEN": "hunter2"},
        gate_headers={"Authorization": "hunter2"},
        pip_index_url="https://user:hunter2@pypi.example/simple",
    )
    certificate, key = tls.make(["localhost", "127.0.0.1"])
    with_key = plan(tls="files", tls_certificate=certificate, tls_key=key)
    assert key.splitlines()[1] not in repr(with_key)
    assert "hunter2" not in repr(planned)


# Inputs that the role takes with a warning


def test_an_origin_that_every_page_can_send_is_taken_with_a_warning():
    why = {
        "null": "every site can make its pages send this origin, by an iframe with the attribute sandbox",
        "file://": "every HTML file sends this origin that a visitor opens from a disk, such as a download",
    }
    for origin, words in why.items():
        (warning,) = plan(origins=["https://a.example", origin])["warnings"]
        assert warning.startswith(f"websockets_origins is {origin!r}: {words}. The app itself")
    assert len(plan(origins=["file://", "null"])["warnings"]) == 2
    assert plan(origins=["https://a.example"])["warnings"] == plan(origins=["*"])["warnings"] == []


# Values that follow from the inputs


def test_every_variable_that_the_library_reads_may_be_set():
    texts = "".join(path.read_text() for path in Path(websockets.__file__).parent.rglob("*.py"))
    theirs = set(re.findall(r"""["'](WEBSOCKETS_[A-Z_]+)["']""", texts))
    assert theirs == set(rules.OF_THE_LIBRARY)
    assert not theirs & set(re.findall(r"WEBSOCKETS_[A-Z_]+", (ROLE / "templates" / "run.j2").read_text()))


@pytest.mark.parametrize(
    ("listen", "names", "address", "url", "mode"),
    [
        ("8080", ["localhost"], ["127.0.0.1", 8080], "ws://localhost:8080/", "none"),
        ("80", ["ws.example.com"], ["127.0.0.1", 80], "ws://ws.example.com/", "none"),
        ("0.0.0.0:80", ["ws.example.com"], ["127.0.0.1", 80], "ws://ws.example.com/", "none"),
        ("192.0.2.1:81", ["a.example", "b.example"], ["192.0.2.1", 81], "ws://a.example:81/", "none"),
        ("[::]:82", ["a.example"], ["::1", 82], "ws://a.example:82/", "none"),
        ("443", ["ws.example.com"], ["127.0.0.1", 443], "wss://ws.example.com/", "self-signed"),
        ("8443", ["ws.example.com"], ["127.0.0.1", 8443], "wss://ws.example.com:8443/", "self-signed"),
        ("[2001:db8::1]:82", ["a.example"], ["2001:db8::1", 82], "ws://a.example:82/", "none"),
    ],
)
def test_address_and_url(listen, names, address, url, mode):
    planned = plan(listen=listen, server_name=names, tls=mode)
    assert (planned["site"]["address"], planned["site"]["url"]) == (address, url)


@pytest.mark.parametrize(
    ("inputs", "has", "lacks"),
    [
        ({"listen": "8080", "tls": "none"}, ["8080", "[::]:8080"], ["8080"]),
        ({"listen": 8080, "tls": "none"}, ["8080", "[::]:8080"], ["8080"]),
        ({"listen": ["443"], "tls": "acme"}, ["443", "[::]:443", "80", "[::]:80"], ["443", "80"]),
        (
            {"listen": ["443", "127.0.0.1:8443"], "tls": "acme"},
            ["443", "[::]:443", "127.0.0.1:8443", "80", "[::]:80"],
            ["443", "127.0.0.1:8443", "80"],
        ),
        ({"listen": ["443", "0.0.0.0:443", "[::]:443"], "tls": "none"}, ["443", "[::]:443"], None),
        ({"listen": ["0.0.0.0:443", "443"], "tls": "none"}, ["0.0.0.0:443", "[::]:443"], ["0.0.0.0:443"]),
        (
            {"listen": ["192.0.2.1:443", "[2001:db8::1]:8443"], "tls": "self-signed"},
            ["192.0.2.1:443", "[2001:db8::1]:8443", "192.0.2.1:80"],
            None,
        ),
        (
            {
                "listen": ["192.0.2.1:443", "192.0.2.2:443"],
                "tls": "self-signed",
                "listen_plain": ["81", "127.0.0.1:82"],
            },
            ["192.0.2.1:443", "192.0.2.2:443", "81", "[::]:81", "127.0.0.1:82"],
            ["192.0.2.1:443", "192.0.2.2:443", "81", "127.0.0.1:82"],
        ),
        ({"listen": "127.0.0.1:8080"}, ["127.0.0.1:8080"], ["127.0.0.1:8080"]),
    ],
)
def test_a_port_alone_is_both_families_where_the_host_has_both(inputs, has, lacks):
    def listens(ipv6):
        servers = plan({"ipv6": ipv6}, server_name=["a.example"], **inputs)["site"]["servers"]
        found = [server["listen"] for kind in ("app", "plain") for server in servers if server["kind"] == kind]
        assert {server["listen"] for server in servers if server["kind"] == "refuse"} == set(found)
        return found

    assert listens(True) == has
    if lacks:
        assert listens(False) == lacks


def test_probe_has_a_name_that_a_wildcard_matches():
    assert plan(server_name=["*.example.com"], origins=["*"])["probe"]["server_name"] == "any.example.com"


@pytest.mark.parametrize(
    ("given", "lets_in"),
    [
        ({"listen": "80", "tls": "none", "server_name": ["A.example"]}, ["", "https://a.example", "http://a.example"]),
        (
            {"listen": "8443", "tls": "self-signed", "server_name": ["a.example"]},
            ["", "https://a.example", "https://a.example:8443"],
        ),
        (
            {"server_name": ["localhost"]},
            ["", "https://localhost", "https://localhost:8080", "http://localhost", "http://localhost:8080"],
        ),
        (
            {"listen": ["443", "8443", "9443"], "tls": "self-signed", "server_name": ["a.example"]},
            ["", "https://a.example", "https://a.example:8443", "https://a.example:9443"],
        ),
        ({"origins": ["https://b.example"]}, ["", "https://b.example"]),
        ({"origins": ["https://b.example"], "origin_required": True}, ["https://b.example"]),
        ({"origins": ["*"]}, []),
    ],
)
def test_origins(given, lets_in):
    assert plan(**given)["site"]["origins"] == lets_in


def test_the_proof_has_an_origin_where_one_is_required():
    assert plan()["probe"]["origin"] == ""
    assert plan(origin_required=True)["probe"]["origin"] == "https://localhost"
    below = plan(origin_required=True, origins=["https://*.example.com"])
    assert below["probe"]["origin"] == "https://any.example.com"
    own = {"ORIGIN": "http://localhost"}
    assert plan(origin_required=True, gate_headers=own)["probe"]["origin"] == ""


def test_sizes_follow_from_the_connections():
    assert plan(max_connections=1000)["sizes"] == {
        "worker_connections": 2256,
        "nginx_nofile": 2256,
        "minfds": 1256,
        "backlog": 1000,
        "buffer": 66560,
        "connections_zone": (16 + 1 + 8) * 4096,
        "handshakes_zone": (32 + 1 + 8) * 4096,
    }


@pytest.mark.parametrize(("message", "buffer"), [(1, 4096), (4082, 4096), (4083, 5120), (16384, 17408)])
def test_a_message_fits_into_a_buffer_with_its_header(message, buffer):
    assert plan(message_size=message)["sizes"]["buffer"] == buffer


def test_what_another_app_of_the_host_needs_is_not_lowered():
    sizes = plan({"minfds": 100000, "nginx_nofile": 200000}, max_connections=1000)["sizes"]
    assert (sizes["minfds"], sizes["nginx_nofile"]) == (100000, 200000)


def test_defaults_are_all_there_is_to_know():
    """The tests plan with the same inputs as a play."""
    inputs = {*plan()["inputs"], *HIDDEN, "apps", "only"}
    assert set(read("defaults/main.yml")) == {f"{PREFIX}{name}" for name in inputs}
