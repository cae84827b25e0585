"""Settings of the tests that drive the real binary: the parts they need, and how much they do.

The parts come from `scripts/parts.sh run` (as `make test` and `make e2e` do); a missing one is an error, never a skip.
"""

import os

import pytest

from broker import Broker
from laminar import Process, Server
from registry import Registry


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="every setting of the crash tests")
    parser.addoption("--rows", type=int, default=None, help="of the crash tests, 1 M by default")
    parser.addoption("--seed", type=int, default=None, help="of the data and of the moments of death; printed by a run")


def _part(name):
    value = os.environ.get(name)
    if not value:
        pytest.exit(f"{name} is not set: run `make e2e`, or this inside `scripts/parts.sh run`", returncode=2)
    return value


@pytest.fixture(scope="session")
def broker():
    return Broker(_part("LAMINAR_TEST_KAFKA"))


@pytest.fixture(scope="session")
def sasl():
    """The broker's listener that wants a login."""
    return _part("LAMINAR_TEST_KAFKA_SASL")


@pytest.fixture(scope="session")
def postgres():
    return _part("LAMINAR_TEST_POSTGRES")


@pytest.fixture(scope="session")
def registry_url():
    return _part("LAMINAR_TEST_REGISTRY")


@pytest.fixture(scope="session")
def binary():
    return _part("LAMINAR_BINARY")


@pytest.fixture
def registry(registry_url, broker):
    return Registry(registry_url, broker)


@pytest.fixture
def server(binary, tmp_path):
    """One with an embedded database."""
    return Server(binary, tmp_path / "server", f"sqlite:{tmp_path}/laminar.db").wait_until_ready()


@pytest.fixture(autouse=True)
def no_process_is_left():
    yield
    Process.kill_all()


@pytest.fixture
def seed(request):
    given = request.config.getoption("--seed")
    return given if given is not None else int.from_bytes(os.urandom(4), "big")


@pytest.fixture
def crash_rows(request):
    return request.config.getoption("--rows") or 1_000_000


@pytest.fixture
def say(capsys):
    """Prints a line at once, captured or not: a crash test of minutes should show where it is."""

    def line(text):
        with capsys.disabled():
            print(f"  {text}", flush=True)

    return line
