"""nginx tests a copy of its configuration; the role changes nginx.conf without losing anything in it."""

import grp
import os
import pwd
import re
import stat
from pathlib import Path

import pytest
from ansible_collections.websockets.deploy.plugins.module_utils import nginx, paths
from role import load, nginx_files, plan

SITE = "server { listen 127.0.0.1:18080; server_name a.example; }\n"


def contents(folder):
    """Return {file: (content, inode)} of a configuration; a rewrite would change the inode."""
    return {path: (path.read_bytes(), path.stat().st_ino) for path in folder.rglob("*") if path.is_file()}


def test_a_valid_file_is_accepted_and_nothing_is_written(nginx_folder):
    before = contents(nginx_folder)
    assert "test is successful" in nginx.test({f"{nginx_folder}/conf.d/websockets-a.conf": SITE})
    assert contents(nginx_folder) == before
    assert not list(nginx_folder.parents[1].glob("websockets-nginx-*"))


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        pytest.param(
            "conf.d/a.conf",
            "server { lisen 1; }\n",
            'unknown directive "lisen" in {folder}/conf.d/a.conf:1',
            id="new file",
        ),
        pytest.param("nginx.conf", "http {}\n", 'no "events" section in configuration', id="main file"),
        pytest.param("conf.d/new/a.conf", "", "", id="new folder, which nginx does not read"),
    ],
)
def test_words_are_nginxs_own_about_the_real_path(nginx_folder, name, text, words):
    before = contents(nginx_folder)
    if words:
        with pytest.raises(nginx.NginxError) as error:
            nginx.test({f"{nginx_folder}/{name}": text})
        assert words.format(folder=nginx_folder) in str(error.value)
        assert "websockets-nginx-" not in str(error.value)
    else:
        nginx.test({f"{nginx_folder}/{name}": text})
    assert contents(nginx_folder) == before


def test_a_mistake_in_another_site_is_told_by_its_own_path(nginx_folder):
    other = nginx_folder / "sites-available" / "theirs"
    other.write_text("server { nonsense; }\n")
    (nginx_folder / "sites-enabled" / "theirs").symlink_to(other)
    with pytest.raises(
        nginx.NginxError, match=f'unknown directive "nonsense" in {nginx_folder}/sites-enabled/theirs:1'
    ):
        nginx.test({f"{nginx_folder}/conf.d/a.conf": SITE})


def test_the_whole_configuration_is_tested_not_the_file_alone(nginx_folder):
    upstream = "upstream same { server 127.0.0.1:1; }\n"
    (nginx_folder / "conf.d" / "theirs.conf").write_text(upstream)
    with pytest.raises(nginx.NginxError, match='duplicate upstream "same"'):
        nginx.test({f"{nginx_folder}/conf.d/a.conf": upstream})


def test_the_users_lines_may_say_what_the_role_says_elsewhere(nginx_folder):
    """The same directive twice in one block is an error of nginx's."""
    lines = "request_pool_size 2k;\nproxy_buffer_size 8k;\nproxy_buffers 4 8k;\nproxy_busy_buffers_size 8k;"
    files = nginx_files(plan(nginx_server=lines, listen="127.0.0.1:18080"), nginx_folder)
    assert sum(text.count("request_pool_size 1k;") for text in files.values()) == 1
    assert "test is successful" in nginx.test(files)


def test_a_file_that_is_to_go_is_not_part_of_the_test(nginx_folder):
    broken = nginx_folder / "conf.d" / "broken.conf"
    broken.write_text("nonsense;\n")
    nginx.test({str(broken): None})
    assert broken.exists()


def test_included_files_are_the_new_ones(nginx_folder):
    """An absolute path in an include has to lead into the copy: otherwise nginx would test the working file."""
    part = nginx_folder / "part.conf"
    part.write_text("keepalive_requests 10;\n")
    (nginx_folder / "conf.d" / "whole.conf").write_text(f"include {part};\n")
    with pytest.raises(nginx.NginxError, match=f'unknown directive "nonsense" in {part}:1'):
        nginx.test({str(part): "nonsense;\n"})


def test_a_path_that_only_ends_like_the_folder_stays(nginx_folder, short_path):
    other = short_path / "other" / nginx_folder.relative_to("/")
    other.mkdir(parents=True)
    (other / "part.conf").write_text("keepalive_requests 10;\n")
    (nginx_folder / "conf.d" / "theirs.conf").write_text(f"include {other}/part.conf;\n")
    nginx.test({f"{nginx_folder}/conf.d/a.conf": SITE})


def test_words_of_a_warning_are_returned(nginx_folder):
    (nginx_folder / "conf.d" / "theirs.conf").write_text(SITE)
    assert 'conflicting server name "a.example"' in nginx.test({f"{nginx_folder}/conf.d/z.conf": SITE})


def test_write_replaces_a_file_by_one_rename(nginx_folder):
    path = nginx_folder / "conf.d" / "a.conf"
    nginx.write({str(path): SITE})
    with open(path) as old:
        nginx.write({str(path): "# new\n"})
        assert old.read() == SITE, "the old file has been written into: nginx could have read half of it"
    assert path.read_text() == "# new\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [name for name in os.listdir(path.parent) if "websockets" in name] == []
    nginx.write({str(path): None})
    assert nginx.read(str(path)) is None


# Old workers


def test_the_status_lists_old_workers_if_there_are_any():
    lines = load("modules/status").old_workers
    assert list(lines([])) == []
    first = {"pid": 4711, "uptime": 90061, "connections": 3, "memory": 12 << 20}
    second = {"pid": 4712, "uptime": 59, "connections": 1, "memory": 1 << 19}
    head, _, *rows = lines([first, second])
    assert head == "nginx: 4 clients of before a reload keep 2 old workers and 12 MiB"
    assert [row.split() for row in rows] == [["4711", "25:01:01", "3", "12.0"], ["4712", "0:00:59", "1", "0.5"]]


# nginx.conf


def value(text, directive):
    (found,) = re.findall(rf"(?m)^\s*{directive}\s+(\d+);", text)
    return int(found)


def test_tune_raises_debians_nginx_conf_to_what_nginx_accepts(nginx_folder):
    before = (nginx_folder / "nginx.conf").read_text()
    after = nginx.tune(before, 8448, 8449)
    assert value(before, "worker_connections") == 768
    assert (value(after, "worker_connections"), value(after, "worker_rlimit_nofile")) == (8448, 8449)
    nginx.test({paths.NGINX_MAIN: after})
    # Everything else stays, byte for byte.
    assert after.replace("worker_rlimit_nofile 8449;\n\n", "").replace("8448", "768") == before


def test_tune_twice_is_tune_once(nginx_folder):
    once = nginx.tune((nginx_folder / "nginx.conf").read_text(), 8448, 8449)
    assert nginx.tune(once, 8448, 8449) == once


def test_tune_never_lowers(nginx_folder):
    once = nginx.tune((nginx_folder / "nginx.conf").read_text(), 8448, 8449)
    assert nginx.tune(once, 100, 100) == once


def test_tune_sets_when_old_workers_end_and_takes_it_back(nginx_folder):
    plain = nginx.tune((nginx_folder / "nginx.conf").read_text(), 8448, 8449)
    capped = nginx.tune(plain, 8448, 8449, 3600)
    assert "worker_shutdown_timeout 3600s;" in capped
    nginx.test({paths.NGINX_MAIN: capped})
    for text in (capped, nginx.tune((nginx_folder / "nginx.conf").read_text(), 8448, 8449, 3600)):
        assert nginx.tune(text, 8448, 8449, 3600) == text
        assert nginx.tune(text, 8448, 8449) == text, "what a person has written stays"
        assert nginx.tune(text, 8448, 8449, 60) == text.replace("3600s", "60s")
        assert nginx.tune(text, 8448, 8449, 0) == plain


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "worker_rlimit_nofile 99999;\nevents {\n\tworker_connections 99;\n}\n",
            "worker_rlimit_nofile 99999;\nevents {\n\tworker_connections 500;\n}\n",
            id="a larger worker_rlimit_nofile stays",
        ),
        pytest.param(
            "worker_rlimit_nofile 10;\nevents {\n\tworker_connections 99;\n}\n",
            "worker_rlimit_nofile 600;\nevents {\n\tworker_connections 500;\n}\n",
            id="a smaller one is raised where it is",
        ),
        pytest.param(
            "events {\n\t# worker_connections 9;\n\tworker_connections 99;\n}\n",
            "worker_rlimit_nofile 600;\n\nevents {\n\t# worker_connections 9;\n\tworker_connections 500;\n}\n",
            id="comments stay",
        ),
        pytest.param(
            "events { worker_connections 99; }\n",
            "worker_rlimit_nofile 600;\n\nevents { worker_connections 500; }\n",
            id="all in one line",
        ),
        pytest.param(
            "events {\n}\n",
            "worker_rlimit_nofile 600;\n\nevents {\n    worker_connections 512;\n}\n",
            id="what is not set is not lowered from nginx's own 512",
        ),
    ],
)
def test_tune(text, expected):
    assert nginx.tune(text, 500, 600) == expected


# The user that connects to the processes

USERS = {
    "Debian's own": ("user www-data;\nworker_processes auto;\n", ("www-data", "www-data")),
    "with a group": ("# user root;\n  user  www-data   daemon ;\n", ("www-data", "daemon")),
    "none": ("worker_processes auto;\n", ("nobody", "nogroup")),
}


@pytest.mark.parametrize(("text", "names"), USERS.values(), ids=USERS)
def test_nginxs_user_is_known(text, names):
    Path(paths.NGINX_MAIN).write_text(text)
    found = nginx.account()
    assert (found.user, grp.getgrgid(found.gid).gr_name) == names
    assert found.uid == pwd.getpwnam(names[0]).pw_uid
    assert found.gid in found.groups


def test_a_host_without_nginx_has_no_user_of_nginxs():
    assert nginx.account() is None
    Path(paths.NGINX_MAIN).write_text("user nobody-yet;\n")  # nginx does not start so
    assert nginx.account() is None
