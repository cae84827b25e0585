"""Credentials go in by every door and come out by none: not in an answer, a log, a metric, an error, a checkpoint, the marker in
Kafka or the metadata database. Each credential is a canary that occurs nowhere else.
"""

import base64
import json
import os
import subprocess
import time

from confluent_kafka import TopicPartition

from laminar import Server, ask, reply
from orders import wait_until

PAGES = ("connection_profiles", "connection_tables", "pipelines", "jobs", "connectors")
SHOWN = (
    "SHOW CONNECTIONS", "SHOW TABLES", "SHOW PIPELINES", "SHOW SECRETS", "SHOW ALL",
    "SHOW CREATE CONNECTION written", "SHOW CREATE CONNECTION by_token", "SHOW CREATE CONNECTION by_name",
    "SHOW CREATE CONNECTION from_rest", "SHOW CREATE TABLE lines", "SHOW CREATE TABLE sunk", "SHOW CREATE PIPELINE writes",
    "SHOW CREATE PIPELINE scripted", "DESCRIBE CONNECTION written", "DESCRIBE lines", "DESCRIBE PIPELINE writes",
    "EXPLAIN CREATE PIPELINE x AS INSERT INTO sunk SELECT counter AS id FROM ticks",
    "SELECT test_connection('written')", "SELECT test_connection('by_name')", "SELECT test_connection('by_token')",
)  # fmt: skip


def token(canary):
    """A token that the broker of the tests takes; the canary is its subject, and its text."""
    part = lambda claims: base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    now = int(time.time())
    return f"{part({'alg': 'none'})}.{part({'sub': canary, 'iat': now, 'exp': now + 3600})}."


class Canaries:
    def __init__(self, seed):
        self.seed, self.all = seed, []

    def new(self, what):
        canary = f"canary{self.seed}{what}"
        self.all.append(canary)
        return canary

    def token(self, what):
        made = token(f"canary{self.seed}{what}")
        self.all.append(made.split(".")[1])
        return made

    def seen_in(self, data):
        data = data.encode() if isinstance(data, str) else data
        return [canary for canary in self.all if canary.encode() in data]


def everything(server):
    """What the server answers to whoever asks, by what was asked."""
    # An unknown one is answered with the list of those that there are.
    hint = json.loads(answer_to(server, "SELECT * FROM system.nothing")[1])["error"]["details"]["hint"]
    tables = hint.removeprefix("system tables: ").split(", ")
    assert "connections" in tables and "kafka_brokers" in tables, hint
    for query in [*SHOWN, *(f"SELECT * FROM system.{name}" for name in tables)]:
        yield query, answer_to(server, query)[1]
    for page in PAGES:
        text = reply(server.port, f"/api/v1/{page}")[1]
        yield page, text
        for item in json.loads(text).get("data", []):
            if "id" in item:
                yield f"{page}/…", reply(server.port, f"/api/v1/{page}/{item['id']}")[1]
                yield f"{page}/…/errors", reply(server.port, f"/api/v1/{page}/{item['id']}/errors")[1]
    yield "metrics", reply(server.port, "/metrics")[1]
    yield "openapi", reply(server.port, "/api/v1/openapi.json")[1]


def answer_to(server, query):
    """Status and text."""
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    return reply(server.port, "/api/v1/sql", json.dumps({"query": query}).encode(), headers)


def wrong_statements(secret):
    """Statements that fail, each with a credential in it."""
    connection = "CREATE CONNECTION wrong TO kafka (bootstrap_servers = '127.0.0.1:1', "
    return [
        f"{connection} 'auth.username' = 'u', 'auth.password' = '{secret}', 'auth.mechanism' = 'NTLM');",
        f"{connection} 'sasl.password' = '{secret}', 'auth.password' = 'other');",
        f"{connection} 'ssl.key.pem' = '{secret}', 'fetch.min.bytes' = 'many');",
        f"{connection} 'ssl.keystore.password' = '{secret}', nonsense = 1);",
        f"CREATE TABLE wrong (id BIGINT) WITH (connector = 'kafka', topic = 't', bootstrap_servers = '127.0.0.1:1', "
        f"type = 'source', 'auth.username' = 'u', 'auth.password' = '{secret}', format = 'json');",
    ]


def test_credentials_come_out_by_no_door(binary, broker, sasl, tmp_path, seed):
    canaries = Canaries(seed)
    topic = broker.create_topic("secret", 1)
    environment = {"KAFKA_PASSWORD": canaries.new("environment"), "LAMINAR_ALLOW_ENV": "true", "LAMINAR_LOG": "debug"}
    server = Server(binary, tmp_path, f"sqlite:{tmp_path}/data/laminar.db", environment).wait_until_ready()
    login = f"bootstrap_servers = '{sasl}', 'auth.protocol' = 'SASL_PLAINTEXT'"
    good = canaries.token("token")
    server.sql(f"""
        CREATE SECRET kept AS '{canaries.new("secret")}';
        CREATE CONNECTION written TO kafka ({login}, 'auth.username' = 'u', 'auth.password' = '{canaries.new("written")}');
        CREATE CONNECTION by_name TO kafka ({login}, 'auth.username' = 'u', 'auth.password' = '${{secret:kept}}');
        CREATE CONNECTION by_env TO kafka ({login}, 'auth.username' = 'u', 'auth.password' = '{{{{ KAFKA_PASSWORD }}}}');
        CREATE CONNECTION by_token TO kafka ({login}, 'auth.token' = '{good}');
        CREATE CONNECTION by_client TO kafka ({login}, 'sasl.oauthbearer.method' = 'oidc', 'auth.mechanism' = 'OAUTHBEARER',
          'sasl.oauthbearer.client.id' = 'x', 'sasl.oauthbearer.client.secret' = '{canaries.new("client")}',
          'sasl.oauthbearer.token.endpoint.url' = 'http://127.0.0.1:1/token');
        CREATE TABLE ticks (counter BIGINT) WITH (connector = 'impulse', event_rate = 50);
        CREATE TABLE sunk (id BIGINT) WITH (connector = 'by_token', topic = '{topic}', type = 'sink', format = 'json');
        CREATE TABLE lines (id BIGINT) WITH (connector = 'kafka', topic = '{topic}', type = 'source', format = 'json',
          {login}, 'auth.token' = '{canaries.token("table")}');
        CREATE PIPELINE writes WITH (checkpoint_interval = '500ms') AS INSERT INTO sunk SELECT counter AS id FROM ticks;
    """)
    config = {"bootstrapServers": sasl, "auth.protocol": "SASL_PLAINTEXT", "auth.username": "u"}
    config["auth.password"] = canaries.new("rest")
    made = json.dumps({"name": "from_rest", "connector": "kafka", "config": config}).encode()
    ask(server.port, "/api/v1/connection_profiles", made, {"Content-Type": "application/json"})
    script = f"""
        CREATE TABLE own (id BIGINT) WITH (connector = 'kafka', topic = '{topic}-own', type = 'sink', format = 'json',
          {login}, 'auth.token' = '{canaries.token("script")}');
        INSERT INTO own SELECT counter AS id FROM ticks;
    """
    query = json.dumps({"name": "scripted", "query": script, "checkpoint_interval_micros": 500_000}).encode()
    ask(server.port, "/api/v1/pipelines", query, {"Content-Type": "application/json"})

    answers = []
    for number, statement in enumerate(wrong_statements(canaries.new("wrong"))):
        status, text = answer_to(server, statement)
        assert status >= 400, (number, text)
        answers.append((f"wrong statement {number}", text))

    def runs():
        made = any(path.is_file() for path in (tmp_path / "data" / "checkpoints").rglob("*"))
        return made and written(broker, topic) > 10

    wait_until(runs, 60, "checkpoints, and rows written with a token", server.tail)
    answers.extend(everything(server))
    shown = {name: canaries.seen_in(text) for name, text in answers if canaries.seen_in(text)}
    assert shown == {}, f"answers that show credentials: {shown}"
    assert any("****" in text or "${secret:kept}" in text for _, text in answers), "nothing was masked"

    server.stop()
    kept = {}
    for file in (path for path in tmp_path.rglob("*") if path.is_file()):
        if found := canaries.seen_in(file.read_bytes()):
            kept[str(file.relative_to(tmp_path))] = found
    assert kept == {}, f"files that hold credentials in clear: {kept}"
    progress = broker.consumer({}, "__laminar_progress")
    for message in progress.consume(100_000, timeout=5):
        assert not canaries.seen_in(message.value() or b""), "the marker holds a credential"
    progress.close()


def written(broker, topic):
    low, high = broker.consumer({}, topic).get_watermark_offsets(TopicPartition(topic, 0))
    return high - low


def test_the_key_is_rotated_and_everything_still_opens(binary, tmp_path, seed):
    canary, data = f"canary{seed}", tmp_path / "data"
    database = f"sqlite:{data}/laminar.db"

    def rotate(key=None):
        environment = os.environ | ({"LAMINAR_SECRET_KEY": key} if key else {})
        command = [binary, "secrets", "rotate", "--data-dir", data]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    server = Server(binary, tmp_path, database).wait_until_ready()
    server.sql(f"CREATE SECRET kept AS '{canary}'; CREATE TABLE ticks (counter BIGINT) WITH (connector = 'impulse', event_rate = 1);")
    key = (data / "secret.key").read_text()
    while_it_runs = rotate()
    assert while_it_runs.returncode == 1 and "is in use by another laminar" in while_it_runs.stderr, while_it_runs
    assert not (data / "secret.key.new").exists()
    server.stop()
    done = rotate()
    assert done.returncode == 0 and "2 objects are sealed with a new key" in done.stdout, (done.stdout, done.stderr)
    new = (data / "secret.key").read_text()
    assert new != key and not (data / "secret.key.new").exists()

    # Killed after its transaction and before the new file got its name: it goes on.
    (data / "secret.key").rename(data / "secret.key.new")
    (data / "secret.key").write_text(key)
    done = rotate()
    assert done.returncode == 0 and (data / "secret.key").read_text() == new, (done.stdout, done.stderr)

    # With the key in the environment: each rotation makes another one.
    given = [new]
    for _ in range(2):
        done = rotate(given[-1])
        assert done.returncode == 0 and "2 objects are sealed" in done.stdout, (done.stdout, done.stderr)
        given.append((data / "secret.key.new").read_text())
    assert len(set(given)) == 3, "a key was used twice"
    assert (data / "secret.key.old").read_text() == given[1]

    server = Server(binary, tmp_path, database, {"LAMINAR_SECRET_KEY": given[-1]}).wait_until_ready()
    assert "ticks" in json.dumps(server.sql("SHOW TABLES"))
    server.stop()
    # The old key opens nothing any more.
    late = Server(binary, tmp_path, database)
    assert late.wait(60) == 1
    assert "secret key does not open" in late.tail()
