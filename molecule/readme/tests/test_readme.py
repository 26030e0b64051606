"""What README promises of bin/deploy without arguments, on the host itself."""

import pathlib
import re

README = pathlib.Path(__file__).parents[3] / "README.md"


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
