"""What README promises of bin/deploy without arguments, on the host itself."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[3]
README = ROOT / "README.md"


def test_second_time_nothing_changes_and_the_proof_is_shown(host):
    (command,) = re.findall(r"```sh\n(bin/deploy)\n```", README.read_text())
    printed = host.check_output(f"cd /root/checkout && {command}")
    assert re.search(r"localhost +: ok=\d+ +changed=0 +unreachable=0 +failed=0", printed)
    assert "url: ws://localhost:8080/" in printed
    assert re.search(r"proof: a message went through nginx and came back in [\d.]+ ms", printed)


def test_the_check_by_hand_answers(host):
    (command,) = re.findall(r"(?m)^\$ (\.venv/bin/websockets .*)$", README.read_text())
    # As a person does: the client is open until its answer is there.
    typed = f"""coproc client {{ {command}; }}; echo hello >&"${{client[1]}}"; timeout 20 grep -m 1 '< hello' <&"${{client[0]}}" """
    assert host.run("cd /root/checkout && bash -c %s", typed).rc == 0


def test_it_is_reached_from_this_host_only(host):
    assert host.socket("tcp://127.0.0.1:8080").is_listening
    assert not host.socket("tcp://0.0.0.0:8080").is_listening


def test_four_processes_run(host):
    assert len(re.findall("^echo-.*RUNNING", host.check_output("supervisorctl status"), re.M)) == 4


def test_there_is_nothing_to_go_back_to(host):
    refused = host.run("cd /root/checkout && bin/rollback")
    assert refused.rc != 0
    assert "there is nothing to go back to" in refused.stdout


def test_two_apps_as_the_recipe_has_them(host):
    """docs/apps.md, word for word: only the host, and its certificate in the place of a public one, are the test's."""
    if host.backend.get_hostname() != "debian13":
        return  # once is enough, and the hosts do not differ here
    section = (ROOT / "docs/apps.md").read_text().split("## Two apps on one host")[1]
    (described,) = re.findall(r"```yaml\n(.*?)```", section, re.S)
    both, feed, status, rollback, remove = re.findall(r"\$ (bin/.*?) *(?:#.*)?\n", section)
    host.check_output(f"""
        set -e
        mkdir -p ~/chat ~/feed
        cd /root/checkout
        cp files/echo/* ~/chat
        cp files/echo/app.py ~/feed/feed.py
        cp files/echo/requirements.txt ~/feed
        mkdir -p inventory/mine/group_vars inventory/mine/host_vars
        cp inventory/local/hosts.yml inventory/mine
        echo 'websockets_tls: self-signed' > inventory/mine/host_vars/localhost.yml
        cat > inventory/mine/group_vars/websockets.yml <<'EOF'\n{described}\nEOF""")

    def run(command, **expected):
        done = host.run(f"cd /root/checkout && {command}")
        assert done.rc == expected.get("rc", 0), done.stdout + done.stderr
        return done.stdout + done.stderr

    def processes():
        return sorted(re.findall("^(chat|feed)-.*RUNNING", host.check_output("supervisorctl status"), re.M))

    assert re.findall("url: (.*)", run(both)) == ["wss://chat.example.com/", "wss://feed.example.com/"]
    assert processes() == ["chat"] * 4 + ["feed"] * 2
    first = live(run(status))
    site = host.file("/etc/nginx/conf.d/websockets-feed.conf").content_string

    run("echo >> ~/feed/feed.py")
    assert "wss://chat" not in run(feed)
    second = live(run(status))
    assert (second["chat"], second["feed"] != first["feed"]) == (first["chat"], True)

    # The feed is no longer described, and can go back and be removed all the same.
    run("sed -i '/^  feed:/,$d' inventory/mine/group_vars/websockets.yml")
    run(rollback)
    assert live(run(status)) == first
    assert host.file("/etc/nginx/conf.d/websockets-feed.conf").content_string == site
    assert "Nothing has been removed" in (refused := run(f"{remove} < /dev/null", rc=2))
    assert "-e app_to_remove=feed" in refused
    run(f"printf 'feed\\n' | script --quiet --return --command '{remove}' /dev/null")
    assert live(run(status)).keys() == {"chat", "echo"}
    assert processes() == ["chat"] * 4
    run(f"{remove.replace('feed', 'chat')} -e app_to_remove=chat")


def live(status):
    """Return {app: its live release} of what bin/status prints."""
    return dict(re.findall(r"- '?(\w+): ([0-9a-f]{12}) live since", status))
