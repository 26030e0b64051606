"""The second app of this scenario; what all scenarios share is in molecule/conftest.py."""

import dataclasses

import pytest


@pytest.fixture(scope="module")
def asgi(echo):
    return dataclasses.replace(echo, name="asgi", numprocs=2, port=8081)
