"""Packages of an app: those of the distribution."""

import pytest

testinfra_hosts = ["ansible://debian13"]

# What only this file's apps have.
OWN = {"websockets_app": "pack", "websockets_listen": "8090"}


@pytest.fixture(scope="module")
def removed(host, play):
    """Remove the app and its packages at the end."""
    yield
    assert play("remove", **OWN, app_to_remove="pack").returncode == 0
    assert host.package("memcached").is_installed  # another app may need it
    host.check_output("apt-get purge --yes --autoremove memcached libpq5")


def test_a_package_that_apt_does_not_know_ends_the_deploy_before_anything_changes(host, deploy):
    done = deploy(**OWN, websockets_packages=["memcached", "no-such-package"])
    assert done.returncode == 2
    assert "No package matching 'no-such-package' is available" in done.stdout
    assert not host.user("ws-pack").exists
    assert not host.package("memcached").is_installed


def test_a_package_is_installed_and_its_service_starts(host, deploy, removed):
    packages = ["memcached", "libpq5"]
    done = deploy(**OWN, websockets_packages=packages)
    assert done.returncode == 0, done.stdout
    assert host.service("memcached").is_running
    again = deploy(**OWN, websockets_packages=packages)
    assert "changed=0" in again.stdout
