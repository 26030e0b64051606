"""All paths on a host. No other file puts a path together."""

from __future__ import annotations

SRV = "/srv/websockets"
RUN = "/run/websockets"
LOG = "/var/log/websockets"
LIB = "/var/lib/websockets"
LOCK = "/run/websockets.lock"
# This file exists while nginx has not read its new files yet. At boot, when /run is empty, nginx reads all of them.
PENDING = "/run/websockets-nginx.pending"
# In memory, and only root can write there: copies of nginx's configuration for its test may have keys.
SCRATCH = "/run"

NGINX = "/etc/nginx"
NGINX_MAIN = f"{NGINX}/nginx.conf"
NGINX_LOG = "/var/log/nginx/error.log"
NGINX_ACCESS_LOG = "/var/log/nginx/access.log"
SUPERVISOR = "/etc/supervisor"
SUPERVISOR_SOCKET = "/run/supervisor.sock"
LETSENCRYPT = "/etc/letsencrypt"
# Folder from which nginx answers an ACME authority.
WEBROOT = "/var/lib/websockets-acme"
# End of the names of files that only root may read.
KEY = ".key"


def app_base(app: str) -> str:
    """Return the folder of an app, which has its releases, its packages and its live link."""
    return f"{SRV}/{app}"


def app_data(app: str) -> str:
    """Return the folder of what an app itself may write; it has a home folder for each of the app's users."""
    return f"{LIB}/{app}"


def data(app: str) -> str:
    """Return the folder of an app's data, which all of its releases share."""
    return f"{app_data(app)}/data"


def live_link(app: str) -> str:
    """Return the link to the sockets of the release that gets the traffic."""
    return f"{app_base(app)}/live"


def next_link(app: str) -> str:
    """Return the link to the sockets of a release that proves itself through nginx before it gets the traffic."""
    return f"{app_base(app)}/next"


def pages(app: str, id: str) -> str:
    """Return the folder of what nginx's user may read of a release."""
    return f"{app_base(app)}/pages/{id}"


def live_pages(app: str) -> str:
    """Return the link to the pages of the release that gets the traffic."""
    return pages(app, "live")


def page(pages: str, source: str) -> str:
    """Return the place of one of its pages, by its path in the app's folder."""
    # One name, whatever its depth: one page may be a folder of another.
    return f"{pages}/{source.replace('/', ':')}"


def site_record(app: str) -> str:
    """Return the file in which a cut-over records the site that nginx serves for an app, as JSON."""
    return f"{app_base(app)}/site.json"


def pip_log(app: str) -> str:
    """Return the file with everything that venv and pip have said while they last made an app's packages."""
    return f"{LOG}/{app}/pip.log"


def before_start_log(app: str) -> str:
    """Return the file with what the command before the start of an app's release has said when it last ran."""
    return f"{LOG}/{app}/before_start.log"


def inputs_record(app: str) -> str:
    """Return the file in which a cut-over records the inputs of an app, as JSON. Only root may read it."""
    return f"{app_base(app)}/inputs.json"


def maintenance(app: str) -> str:
    """Return the file that is there while an app is in maintenance. Its date is when that began."""
    return f"{app_base(app)}/maintenance"


def site_file(app: str) -> str:
    """Return nginx's file with the site of an app."""
    return f"{NGINX}/conf.d/websockets-{app}.conf"


def next_file(app: str) -> str:
    """Return nginx's file with the server that reaches a release before it gets the traffic."""
    return f"{NGINX}/conf.d/websockets.next-{app}.conf"


def http_file() -> str:
    """Return nginx's file with what all apps share."""
    return f"{NGINX}/conf.d/websockets.conf"


def own_certificate(app: str) -> tuple[str, str]:
    """Return the paths of the certificate and the key that the role writes for an app."""
    return f"{NGINX}/websockets/{app}.crt", f"{NGINX}/websockets/{app}{KEY}"


def lineage(app: str) -> str:
    """Return certbot's name for the certificate of an app."""
    return f"websockets-{app}"


def acme_certificate(app: str) -> tuple[str, str]:
    """Return the paths of the certificate and the key that certbot keeps for an app."""
    return f"{LETSENCRYPT}/live/{lineage(app)}/fullchain.pem", f"{LETSENCRYPT}/live/{lineage(app)}/privkey.pem"


def acme_renewal(app: str) -> str:
    """Return certbot's file that says how it renews the certificate of an app."""
    return f"{LETSENCRYPT}/renewal/{lineage(app)}.conf"


def programs() -> str:
    """Return the folder of Supervisor's programs."""
    return f"{SUPERVISOR}/conf.d"


def descriptors_file() -> str:
    """Return Supervisor's file with the file descriptors of all programs."""
    return f"{programs()}/websockets.conf"


def tmpfiles(app: str) -> str:
    """Return the file from which systemd-tmpfiles makes an app's folders."""
    return f"/etc/tmpfiles.d/websockets-{app}.conf"


def init_script(name: str) -> str:
    """Return a service's script for SysV init."""
    return f"/etc/init.d/{name}"


def drop_in(service: str) -> str:
    """Return the file that gives a service its limits."""
    return f"/etc/systemd/system/{service}.service.d/websockets.conf"


def sandbox(service: str) -> str:
    """Return the file with a service's sandbox.

    By its name systemd reads it before others, so that ``systemctl edit`` can override it.
    """
    return f"/etc/systemd/system/{service}.service.d/10-websockets-sandbox.conf"


def socket(folder: str, process: str) -> str:
    """Return a process's Unix socket.

    :param folder: the folder of its release's sockets, or the live link
    """
    return f"{folder}/{process}.sock"


def starts(folder: str, process: str) -> str:
    """Return the file to which a process adds a line each time it is started."""
    return f"{folder}/{process}.starts"
