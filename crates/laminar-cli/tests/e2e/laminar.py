"""The binary under test as a process: start it, talk to it over REST, kill it."""

import json
import os
import random
import signal
import socket
import subprocess
import urllib.error
import urllib.request

from orders import wait_until


def free_port():
    """A loopback port that nothing listens on, below the range that the kernel hands out to clients."""
    while True:
        port = random.randint(20_000, 32_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port


def clean_environment():
    """Ours without the variables that steer the tests or the developer's own server."""
    return {name: value for name, value in os.environ.items() if not name.startswith("LAMINAR_")}


class Process:
    """One life of the binary. Its output goes to a file, whose end is shown when something is wrong."""

    started = []  # every one, so that a test that fails leaves none behind

    def __init__(self, command, folder, env=None):
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "laminar.log"
        with open(self.log, "ab") as log:
            self.child = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**clean_environment(), "LAMINAR_LOG": "warn,laminar=info", "RUST_BACKTRACE": "1", **(env or {})},
            )
        Process.started.append(self)

    @classmethod
    def kill_all(cls):
        for process in cls.started:
            process.kill()
        cls.started.clear()

    def signal(self, number):
        self.child.send_signal(number)

    def kill(self):
        """kill -9, and waits until it is gone; its exit status."""
        if self.child.poll() is None:
            self.child.kill()
        return self.child.wait(30)

    def stop(self, seconds=60):
        """Ctrl-C, and the exit status."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGINT)
        return self.wait(seconds)

    def wait(self, seconds):
        try:
            return self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds} s\n{self.tail()}") from None

    def alive(self):
        return self.child.poll() is None

    def tail(self, lines=40):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class Server(Process):
    """`laminar server` on a port of its own; the same folder and database make it the same installation."""

    def __init__(self, binary, folder, database, env=None):
        self.port = free_port()
        command = [binary, "server", "--bind", f"127.0.0.1:{self.port}", "--data-dir", folder / "data"]
        super().__init__(command, folder, {"LAMINAR_DATABASE_URL": database, **(env or {})})

    def wait_until_ready(self, seconds=30):
        def ready():
            assert self.alive(), f"the server ended with {self.child.returncode}\n{self.tail()}"
            try:
                return ask(self.port, "/api/v1/ping") is not None
            except OSError:
                return False

        wait_until(ready, seconds, "the server", self.tail)
        return self

    def rows(self, query):
        """The rows of a query, each by the names of its columns."""
        answer = self.sql(query)
        names = [column["name"] for column in answer["columns"]]
        return [dict(zip(names, row, strict=True)) for row in answer["rows"]]

    def sql(self, text):
        return ask_sql(self.port, text)


def ask_sql(port, text):
    """Runs the statements; the answer of the last one. An error answer fails with its text."""
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    return ask(port, "/api/v1/sql", json.dumps({"query": text}).encode(), headers)


def ask(port, path, body=None, headers=None):
    """One request to the API; its JSON answer. An error answer fails with its text, OSError while nobody listens."""
    status, text = reply(port, path, body, headers)
    assert status < 400, f"{status} {text}"
    return json.loads(text)


def reply(port, path, body=None, headers=None, method=None):
    """One request to the API; its status and its text, whatever they are."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, headers or {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
