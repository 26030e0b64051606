# shellcheck shell=sh
# `use_venv deploy` or `use_venv test` makes a .venv with exactly requirements/<set>.txt, and puts it first in PATH.
# A script that sources this file has set $root to the checkout's root.
: "${root:?}"

use_venv() {
    if ! _venv_has "$1"; then
        # If two runs start at once, the second one waits and then finds the venv.
        ( ! command -v flock >/dev/null || flock 9
          _venv_has "$1" || _venv_make "$1" ) 9<"$root/requirements/test.txt" || exit
    fi
    VIRTUAL_ENV=$root/.venv
    PATH=$VIRTUAL_ENV/bin:$PATH
    export VIRTUAL_ENV PATH
    # This variable would replace the path of ansible.cfg, which leads to the checkout.
    [ -z "${ANSIBLE_COLLECTIONS_PATH-}" ] || export ANSIBLE_COLLECTIONS_PATH="$root/.collections:$ANSIBLE_COLLECTIONS_PATH"
    # Ansible starts only in a UTF-8 locale. Bare systems and cron have C.
    [ "$(locale charmap 2>/dev/null)" = UTF-8 ] || export LC_ALL=C.UTF-8
}

# The stamp is written last, so a half-made venv has none. It has the folder's name too, because a venv cannot be moved.
_venv_stamp() { echo "$root" && cat "$root/requirements/$1.txt"; }
_venv_is() { _venv_stamp "$1" | cmp -s - "$root/.venv/stamp" && "$root/.venv/bin/python" -IS -c ''; } 2>/dev/null

# The test set contains the deploy set.
_venv_has() { _venv_is "$1" || { [ "$1" = deploy ] && _venv_is test; }; }

_venv_make() {
    _python=$(_find_python) || { _apt_python && _python=$(_find_python); } || {
        echo "Python 3.11 or newer with venv is needed. On Debian or Ubuntu: sudo apt-get install python3 python3-venv" >&2
        return 1
    }
    echo "Installing requirements/$1.txt into .venv ($("$_python" --version)) ..." >&2
    # A complete deploy set may be in use, so a test set is added to it. Anything else is made anew.
    if ! { [ "$1" = test ] && _venv_is deploy; }; then
        "$_python" -m venv --clear "$root/.venv" || return
    fi
    rm -f "$root/.venv/stamp"
    # The lock file names every package with its hash, hence --no-deps. pip's settings on this machine stay in force,
    # except for user installs, which a venv does not have.
    PIP_USER=0 "$root/.venv/bin/python" -m pip install -q --no-deps --require-hashes --no-input --disable-pip-version-check \
        -r "$root/requirements/$1.txt" >"$root/.venv/pip.log" 2>&1 || { cat "$root/.venv/pip.log" >&2; return 1; }
    _venv_stamp "$1" >"$root/.venv/stamp"
}

# Debian's python3 has no ensurepip until python3-venv is installed.
_find_python() {
    for _python in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$_python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))'; then
            echo "$_python"
            return
        fi
    done
    return 1
} 2>/dev/null

_apt_python() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return
    echo "Installing python3 and python3-venv with apt ..." >&2
    { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends python3 python3-venv; } </dev/null >/dev/null
}
