"""The doors for people: the interactive shell in a terminal, scripts with a mistake in the middle, servers that cannot start."""

import os
import pty
import re
import select
import signal
import socket
import subprocess

import pytest

from laminar import Process, Server, clean_environment
from orders import wait_until


@pytest.fixture
def server(binary, tmp_path):
    return Server(binary, tmp_path / "server", f"sqlite:{tmp_path}/laminar.db").wait_until_ready()


class Shell:
    """`laminar sql` in a terminal of its own."""

    def __init__(self, binary, server, home):
        self.child, self.terminal = pty.fork()
        if self.child == 0:
            os.environ.update(TERM="xterm-256color", HOME=str(home), XDG_STATE_HOME=str(home))
            os.execv(binary, [str(binary), "sql", "--url", f"127.0.0.1:{server.port}"])
        self.seen = b""

    def text(self):
        """What was written since the last look, without what steers the terminal."""
        return re.sub(r"\x1b(\[[0-9;?]*[a-zA-Z]|[78=>])", "", self.seen.decode(errors="replace")).replace("\r", "")

    def read(self):
        if not select.select([self.terminal], [], [], 0.05)[0]:
            return
        try:
            new = os.read(self.terminal, 65536)
        except OSError:  # it ended
            return
        self.seen += new
        for _ in range(new.count(b"\x1b[6n")):  # where is the cursor?
            os.write(self.terminal, b"\x1b[1;1R")

    def expect(self, text, then="laminar=>", seconds=15):
        """Waits for the text and the next prompt (before it, keys would not reach the editor); what came is forgotten."""

        def there():
            self.read()
            at = self.text().find(text)
            return at >= 0 and self.text().find(then, at) >= 0

        wait_until(there, seconds, f"{text!r} in the shell", self.text)
        self.seen = b""

    def type(self, keys):
        os.write(self.terminal, keys.encode())

    def status(self, seconds=10):
        def ended():
            self.read()
            child, status = os.waitpid(self.child, os.WNOHANG)
            return child and (os.waitstatus_to_exitcode(status),)

        return wait_until(ended, seconds, "the shell to end")[0]


def test_the_shell_in_a_terminal(binary, server, tmp_path):
    shell = Shell(binary, server, tmp_path)
    shell.expect("\\? for help")
    shell.type("help\r")
    shell.expect("A statement ends with a semicolon")
    shell.type("SELECT 'ü漢' AS two,\r NULL AS nothing;\r")
    shell.expect(" ü漢 | NULL\n(1 row)")
    shell.type("SELECT 1;\r")
    shell.expect("(1 row)")
    shell.type("SELECT 1 +\r  nope\rFROM system.tables;\r")
    shell.expect("error[unknown_column]: there is no column nope")
    shell.type("\x1b[200~SELECT 11;\nSELECT\t22;\n\x1b[201~\r")  # pasted, with a tab
    shell.expect("22\n(1 row)")
    shell.type("CREATE TABLE ticks (counter BIGINT UNSIGNED) WITH (connector = 'impulse', event_rate = 50);\r")
    shell.expect("CREATE TABLE\n")
    shell.type("CREATE PIPELINE p AS SELECT counter FROM ticks;\r")
    shell.expect("CREATE PIPELINE\n")
    shell.type("SUBSCRIBE TO p;\r")
    shell.expect("-----\n", then="\n")  # rows flow
    shell.type("\x03")
    shell.expect("rows)")
    shell.type("DROP PIPELINE p; DROP")  # a line that is given up
    shell.expect("p; DROP", then="")
    shell.type("\x03")
    shell.expect("\n")
    shell.type("SHOW PIPELINES;\r")
    shell.expect("(1 row)")
    shell.type("CREATE SECRET s AS 'hunter2';\r")
    shell.expect("CREATE SECRET\n")
    shell.type("quit\r")
    assert shell.status() == 0
    history = tmp_path / "laminar/history"
    assert "SUBSCRIBE TO p;" in history.read_text() and "hunter2" not in history.read_text()
    assert history.stat().st_mode & 0o777 == 0o600

    again = Shell(binary, server, tmp_path)
    again.expect("\\? for help")
    again.type("\x04")
    assert again.status() == 0
    assert server.stop() == 0


def laminar(binary, *arguments, env=None, text=None):
    done = subprocess.run(
        [binary, *arguments], input=text, capture_output=True, text=True, timeout=60, env={**clean_environment(), **(env or {})}
    )
    return done.returncode, done.stdout, done.stderr


def test_a_script_stops_at_its_mistake_and_says_where(binary, server, tmp_path):
    url = f"127.0.0.1:{server.port}"
    script = tmp_path / "script.sql"
    script.write_bytes("\ufeffSELECT 1 AS one;\r\nSELECT nope\r\nFROM system.tables;\r\nSELECT 3 AS three;\r\n".encode())
    for command in (["sql", "--url", url, "-f", script], ["run", script]):
        status, out, err = laminar(binary, *command)
        assert status == 1 and "one" in out and "three" not in out, (out, err)
        assert err.startswith(f"{script}:2:8: error[unknown_column]: there is no column nope"), err
    script.write_text("SELECT 1 AS one;\nSELEC 2;\n")
    status, out, err = laminar(binary, "sql", "--url", url, "-f", script)
    assert (status, out) == (1, "") and "script.sql:2:1: error[syntax_error]" in err, "nothing runs of a script that cannot be read"
    assert laminar(binary, "sql", "--url", url, "-c", "SELECT 1", "-c", "SELECT nope", "-c", "SELECT 3")[0] == 1
    assert laminar(binary, "sql", "--url", url, text="SELECT 5 AS five")[1] == " five\n------\n    5\n(1 row)\n"
    assert laminar(binary, "sql", "--url", "127.0.0.1:1", "-c", "SELECT 1")[0] == 3
    assert laminar(binary, "run", tmp_path / "nope.sql")[0] == 1
    assert laminar(binary, "run", script, script)[0] == 2
    assert server.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_stopped_goes_on_later(number, binary, tmp_path):
    out = tmp_path / "out.jsonl"
    script = tmp_path / "count.sql"
    script.write_text(f"""
        CREATE TABLE ticks (counter BIGINT UNSIGNED) WITH (connector = 'impulse', event_rate = 200);
        CREATE TABLE kept (counter BIGINT UNSIGNED) WITH (connector = 'single_file', path = '{out}', type = 'sink', format = 'json');
        INSERT INTO kept SELECT counter FROM ticks;
    """)

    def lines():
        return len(out.read_text().splitlines()) if out.exists() else 0

    for _ in range(2):
        before = lines()
        process = Process([binary, "run", script, "--state-dir", tmp_path / "state", "--checkpoint-interval", "100ms"], tmp_path)
        wait_until(lambda: lines() > before, 30, "rows", process.tail)
        process.signal(number)
        assert process.wait(30) == 0, process.tail()
        assert out.read_text() == "".join(f'{{"counter":{n}}}\n' for n in range(lines()))


def test_a_server_that_cannot_start_says_why(binary, server, tmp_path):
    data = ["--data-dir", tmp_path / "data"]
    (tmp_path / "file").touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free, busy = "127.0.0.1:0", f"127.0.0.1:{taken.getsockname()[1]}"
        for arguments, env, status, why in [
            (["--bind", busy, *data], {}, 1, f"cannot listen on {busy}"),
            (["--bind", "nowhere", *data], {}, 2, "expected host:port, such as 127.0.0.1:5115"),
            (["--bind", free, "--data-dir", tmp_path / "file"], {}, 1, "Not a directory"),
            (["--bind", free, *data], {"LAMINAR_PARALLELISM": "zero"}, 2, "expected a whole number"),
            (["--bind", free, *data], {"LAMINAR_SECRET_KEY": "short"}, 1, "not base64 of 32 bytes"),
            (["--bind", free, *data], {"LAMINAR_DATABASE_URL": "mysql://x/y"}, 1, "unknown scheme"),
            (["--bind", free, *data], {"LAMINAR_DATABASE_URL": "postgres://u:hunter2@127.0.0.1:1/x"}, 1, "error[metadata_unavailable]"),
            (["--bind", free, *data, "--state-url", "ftp://x"], {}, 1, "error[invalid_option]"),
            (["--bind", "localhost:0", "--data-dir", tmp_path / "server" / "data"], {}, 1, "is in use by another laminar"),
        ]:
            got, _, err = laminar(binary, "server", *arguments, env=env)
            assert got == status and why in err and "hunter2" not in err, (arguments, env, got, err)
