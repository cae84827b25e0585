"""Wrong statements and broken requests, as a client sends them to a real server on a real broker: each is answered with
its code, its place and a hint, and none changes anything.

In the statements below `^` stands before what is to blame; it is taken out before they are sent.
"""

import json

from laminar import Server, ask, reply

JSON = "application/json"
TOPICS = ("shop-orders", "shop-fading", "shop-out")

# Where to see what there is, in SQL and in REST.
VIEWS = "SELECT * FROM system.views"
QUERIES = ("SHOW SECRETS", "SELECT * FROM system.connections", "SELECT * FROM system.tables", VIEWS,
           "SELECT * FROM system.pipelines", "SELECT * FROM system.jobs")  # fmt: skip
LISTS = ("connection_profiles", "connection_tables", "pipelines", "jobs")

# What there is. The topic of `fading` goes away afterwards.
WORLD = """
CREATE SECRET password AS 'secret';
CREATE CONNECTION broker TO kafka (bootstrap_servers = 'localhost:9092');
CREATE CONNECTION login TO kafka (bootstrap_servers = 'localhost:9092', 'auth.type' = 'sasl', 'auth.username' = 'me',
                                  'auth.password' = '${secret:password}');
CREATE CONNECTION gone TO kafka (bootstrap_servers = '127.0.0.1:1');
CREATE TABLE orders (id BIGINT, item TEXT, price DOUBLE, at TIMESTAMP)
    WITH (connector = 'broker', topic = 'shop-orders', type = 'source', format = 'json');
CREATE TABLE fading (id BIGINT) WITH (connector = 'broker', topic = 'shop-fading', type = 'source', format = 'json');
CREATE TABLE out (id BIGINT NOT NULL, item TEXT, price DOUBLE)
    WITH (connector = 'broker', topic = 'shop-out', type = 'sink', format = 'json');
CREATE VIEW cheap AS SELECT * FROM orders WHERE price < 10;
CREATE VIEW cheaper AS SELECT * FROM cheap WHERE price < 5;
CREATE PIPELINE copy AS INSERT INTO out SELECT id, item, price FROM cheaper;
CREATE PIPELINE kept AS SELECT id FROM orders;
CREATE PIPELINE lost AS SELECT * FROM fading;
STOP PIPELINE lost;
"""

# For these the detail tells what would be right.
WITH_DETAIL = ("invalid_option", "forbidden_option")

# How the statements of several begin or end.
CONNECTION = "CREATE CONNECTION c TO kafka (bootstrap_servers = 'localhost:9092', "
SOURCE = "WITH (connector = 'broker', topic = 'shop-orders', type = 'source', format = 'json')"
SINK = "WITH (connector = 'broker', topic = 'shop-out', type = 'sink', format = 'json')"

# Code, hint in part (for a value the detail, which tells what it may be; None: nothing to advise), statement.
WRONG = [
    # what is no statement
    ("syntax_error", "did you mean CREATE?", "^CREAT TABLE t (id INT) " + SOURCE),
    ("syntax_error", None, "SELECT id FROM^"),
    ("syntax_error", None, "SELECT id FROM orders WHERE item = ^'abc"),
    ("syntax_error", None, "CREATE CONNECTION c TO kafka (bootstrap_servers = 'h:9092'^;"),
    ("syntax_error", None, "SHOW TABLES ^SHOW VIEWS"),
    ("syntax_error", None, "CREATE VIEW v AS SELECT id FROM orders;\n\nSHOW TABLES;\nCREATE VIEW ^;"),
    ("not_supported", "INSERT INTO … SELECT", "^UPDATE orders SET price = 0"),
    ("invalid_request", "CREATE PIPELINE name AS INSERT INTO out", "INSERT INTO ^out SELECT id, item, price FROM orders"),
    # too much of one
    ("statement_too_complex", "IN (…)", "SELECT " + "1 + " * 200 + "^+ 1"),
    ("statement_too_complex", "view", "SELECT " + "abs(" * 40 + "abs^(1" + ")" * 41),
    ("statement_too_complex", "several parts", "SELECT '" + "x" * ((1 << 20) - 8) + "^'"),
    # options
    ("unknown_option", "did you mean topic?", """
        CREATE CONNECTION c TO kafka (
            bootstrap_servers = 'localhost:9092',
            ^topik = 'orders'
        )"""),
    ("unknown_option", "did you mean fetch.min.bytes?", CONNECTION + "^'fetch.mim.bytes' = 1)"),
    ("unknown_option", "did you mean parallelism?", "CREATE PIPELINE p WITH (^paralelism = 2) AS SELECT id FROM orders"),
    ("missing_option", "bootstrap_servers = ", """
        CREATE TABLE ^t (id INT) WITH (connector = 'kafka', type = 'source', topic = 'orders', format = 'json')"""),
    ("missing_option", "topic = ", """
        CREATE TABLE ^t (id INT) WITH (connector = 'broker', type = 'source', format = 'json')"""),
    ("missing_option", "connector = ", "CREATE TABLE ^t (id INT) WITH (topic = 'orders')"),
    ("invalid_option", "integer", "CREATE TABLE t (id INT) " + SOURCE[:-1] + ", ^batch_size = 'many')"),
    ("invalid_option", "earliest", "CREATE TABLE t (id INT) " + SOURCE[:-1] + ", ^offset = 'middle')"),
    ("invalid_option", "Invalid value", CONNECTION + "^'fetch.min.bytes' = 'many')"),
    ("invalid_option", "from 1 to", "CREATE PIPELINE p WITH (^parallelism = 0) AS SELECT id FROM orders"),
    ("invalid_option", "duration", "CREATE PIPELINE p WITH (^checkpoint_interval = 'soon') AS SELECT id FROM orders"),
    ("invalid_option", "at least 1", "SET ^preview_limit = 'many'"),
    ("unknown_setting", "did you mean preview_limit?", "SET ^preview_limt = 1"),
    ("conflicting_options", "leave one out", CONNECTION + "^bootstrap_servers = 'b:1')"),
    ("conflicting_options", "give one", "CREATE TABLE t (id INT) " + SOURCE[:-1] + ", ^topics = 'shop-orders')"),
    ("forbidden_option", "load a library", CONNECTION + "^'plugin.library.paths' = 'x.so')"),
    ("forbidden_option", "only below", CONNECTION + "^'ssl.ca.location' = '/etc/passwd')"),
    ("forbidden_option", "CREATE SECRET", "CREATE CONNECTION c TO kafka (^bootstrap_servers = '${env:HOME}')"),
    ("unknown_secret", "CREATE SECRET pasword AS", """
        CREATE CONNECTION c TO kafka (bootstrap_servers = 'localhost:9092', 'auth.type' = 'sasl', 'auth.username' = 'me',
                                      ^'auth.password' = '${secret:pasword}')"""),
    ("conflicting_options", None, CONNECTION + "^dlq_topic = 'dead')"),
    ("invalid_option", "unclosed group", CONNECTION + "^topic_pattern = 'a(')"),
    ("unknown_option", "bad_data", CONNECTION + "^retry_failed_events = true)"),
    # columns and types
    ("type_mismatch", "did you mean BIGINT?", "CREATE TABLE t (\n    id ^BIGIN\n) " + SOURCE),
    ("duplicate_column", None, "CREATE TABLE t (id INT, name TEXT, ^ID BIGINT) " + SOURCE),
    ("missing_option", "include_metadata", "CREATE TABLE t (id INT, ^_kafka_offset BIGINT) " + SOURCE),
    ("unknown_column", "did you mean offset?", "CREATE TABLE t (id INT, o BIGINT ^METADATA FROM 'ofset') " + SOURCE),
    ("unknown_column", "did you mean item?", "CREATE PIPELINE p AS\nINSERT INTO out\nSELECT id, ^itme, price\nFROM orders"),
    ("unknown_column", "did you mean price?", "CREATE VIEW v AS SELECT o.id, ^o.prise FROM orders o"),
    ("unknown_function", "did you mean upper?", "CREATE PIPELINE p AS SELECT id, ^uper(item) AS item FROM orders"),
    ("wrong_arguments", "SHOW FUNCTIONS", "CREATE PIPELINE p AS SELECT id, ^upper(item, 1) AS item FROM orders"),
    ("type_mismatch", "CAST", "CREATE PIPELINE p AS SELECT ^price + item AS sum FROM orders"),
    ("type_mismatch", "compare it with something", "CREATE PIPELINE p AS SELECT id FROM orders WHERE ^price"),
    ("type_mismatch", "DOUBLE", "CREATE PIPELINE p AS INSERT INTO out SELECT id, item, ^at FROM orders"),
    ("column_count", "columns of out: id, item, price", "CREATE PIPELINE p AS INSERT INTO out ^SELECT id FROM orders"),
    ("not_supported", "ORDER BY … LIMIT n", "CREATE PIPELINE p AS SELECT item FROM orders LIMIT ^5"),
    # what is not there
    ("unknown_table", "did you mean orders?", "SELECT * FROM ^ordres"),
    ("unknown_table", "did you mean orders?", "CREATE PIPELINE p AS INSERT INTO out SELECT id, item, price FROM ^ordres"),
    ("unknown_table", "did you mean out?", "CREATE PIPELINE p AS INSERT INTO ^outt SELECT id, item, price FROM orders"),
    ("unknown_table", "did you mean system.connections?", "SELECT * FROM ^system.conections"),
    ("unknown_table", "did you mean orders?", "DROP TABLE ^ordres"),
    ("unknown_table", "did you mean cheap?", "DROP VIEW ^chep"),
    ("unknown_table", "did you mean orders?", "SHOW CREATE TABLE ^ordres"),
    ("unknown_table", "did you mean orders?", "DESCRIBE ^ordres"),
    ("unknown_connector", "did you mean kafka?", "CREATE CONNECTION c TO ^kafk (bootstrap_servers = 'h:9092')"),
    ("unknown_connector", "did you mean broker?", "CREATE TABLE t (id INT) WITH (^connector = 'brokr', topic = 'a')"),
    ("unknown_connection", "did you mean broker?", "DROP CONNECTION ^brokr"),
    ("unknown_connection", "did you mean broker?", "SELECT ^test_connection('brokr')"),
    ("unknown_secret", "did you mean password?", "DROP SECRET ^pasword"),
    ("unknown_pipeline", "did you mean kept?", "DROP PIPELINE ^keptt"),
    ("unknown_pipeline", "did you mean copy?", "START PIPELINE ^coppy"),
    ("unknown_pipeline", "did you mean copy?", "STOP PIPELINE ^coppy"),
    ("unknown_pipeline", "did you mean kept?", "SUBSCRIBE TO ^keptt"),
    # what is of another kind
    ("wrong_object_kind", "CREATE TABLE", "SELECT * FROM ^broker"),
    ("wrong_object_kind", "type 'source'", "SELECT * FROM ^out"),
    ("wrong_object_kind", "type 'sink'", "CREATE PIPELINE p AS INSERT INTO ^orders SELECT * FROM orders"),
    ("wrong_object_kind", "DROP VIEW", "DROP TABLE ^cheap"),
    ("wrong_object_kind", "SELECT", "SUBSCRIBE TO ^copy"),
    # what is there already, or still needed
    ("duplicate_name", "OR REPLACE", "CREATE SECRET ^password AS 'x'"),
    ("duplicate_name", "OR REPLACE", "CREATE CONNECTION ^broker TO kafka (bootstrap_servers = '127.0.0.1:1')"),
    ("duplicate_name", "OR REPLACE", "CREATE TABLE ^orders (id INT) " + SOURCE),
    ("duplicate_name", "OR REPLACE", "CREATE VIEW ^cheap AS SELECT id FROM orders"),
    ("duplicate_name", "OR REPLACE", "CREATE PIPELINE ^kept AS SELECT item FROM orders"),
    ("duplicate_name", "another name", "CREATE TABLE ^cheap (id INT) " + SOURCE),
    ("duplicate_name", "another name", "CREATE PIPELINE ^orders AS SELECT id FROM orders"),
    ("in_use", "drop what uses it first", "DROP SECRET ^password"),
    ("in_use", "drop what uses it first", "DROP CONNECTION ^broker"),
    ("in_use", "drop what uses it first", "DROP TABLE ^orders"),
    ("in_use", "drop what uses it first", "DROP VIEW ^cheap"),
    ("in_use", "drop what uses it first", "CREATE OR REPLACE TABLE ^orders (id INT) " + SOURCE),
    ("in_use", "drop what uses it first", "CREATE OR REPLACE VIEW ^cheap AS SELECT id FROM orders"),
    ("cyclic_view", None, "CREATE VIEW v AS SELECT * FROM ^v"),
    ("cyclic_view", None, "CREATE OR REPLACE VIEW cheap AS SELECT * FROM ^cheaper"),
    # what only the broker can judge
    ("unknown_topic", "create the topic", """
        CREATE TABLE t (id INT)
        WITH (connector = 'broker', ^topic = 'no-such-topic', type = 'source', format = 'json')"""),
    ("unknown_topic", "create the topic", """
        CREATE TABLE ^t (id INT)
        WITH (connector = 'broker', topics = 'shop-orders,no-such-topic', type = 'source', format = 'json')"""),
    ("unknown_topic", "create the topic", "CREATE PIPELINE ^p AS SELECT * FROM fading"),
    ("unknown_topic", "create the topic", "^SELECT * FROM fading"),
    ("unreachable", "check bootstrap_servers", """
        CREATE TABLE ^t (id INT) WITH (connector = 'gone', topic = 'shop-orders', type = 'source', format = 'json')"""),
]



def test_each_wrong_statement_has_its_code_place_and_hint_and_changes_nothing(broker, binary, tmp_path, say):
    server = start(binary, tmp_path, broker)
    before = everything(server, broker, tmp_path)
    failures = []
    for code, advice, marked in WRONG:
        marked = marked.replace("localhost:9092", broker.address)
        sql = marked.replace("^", "", 1)
        status, error = refusal(server, sql)
        details = error["details"]
        given = details.get("hint") or details.get("detail") if code in WITH_DETAIL else details.get("hint")
        position = details.get("position")
        if status < 400 or (error["code"], position) != (code, place(marked)) or not fits(advice, given):
            failures.append(f"{shown(sql)}\n  expected {code} at {place(marked)}, {advice!r}\n  got {status} {error}")
        after = everything(server, broker, tmp_path)
        if after != before:
            failures.append(f"{shown(sql)}\n  changed {difference(before, after)}")
            before = after
    say(f"{len(WRONG)} wrong statements: {len(failures)} without their code, place and hint, or with an effect")
    assert not failures, "\n".join(failures)


def test_a_script_ends_at_its_first_wrong_statement(broker, binary, tmp_path):
    server = start(binary, tmp_path, broker)
    before = everything(server, broker, tmp_path)
    good = "CREATE VIEW one AS SELECT id FROM orders;\nCREATE VIEW two AS SELECT id FROM one;\n"
    wrong = "CREATE VIEW three AS SELECT idd FROM two;\nCREATE VIEW four AS SELECT id FROM two;"
    status, error = refusal(server, good + wrong)
    assert (status, error["code"]) == (422, "unknown_column")
    assert error["details"]["position"] == {"line": 3, "column": 29}
    after = everything(server, broker, tmp_path)
    assert [row[1] for row in after[VIEWS]] == ["cheap", "cheaper", "one", "two"]
    # Of a script that is none, not even the first.
    status, error = refusal(server, "DROP VIEW two; DROP VIEW one; DROP VIEW cheaper CASCAD")
    assert (status, error["code"]) == (400, "syntax_error")
    assert everything(server, broker, tmp_path) == after

    # A pipeline that cannot start takes the table that was made for it along.
    server.sql("DROP VIEW two; DROP VIEW one")
    sink = f"CREATE TABLE t {SINK} AS "
    for query in ("SELECT * FROM fading", "SELECT count(*) FROM orders"):
        status, error = refusal(server, sink + query)
        assert status == 422 and error["details"]["position"]["column"] > len(sink), error
        assert everything(server, broker, tmp_path) == before


def test_a_pipeline_whose_topic_is_gone_says_so_and_starts_when_it_is_back(broker, binary, tmp_path):
    server = start(binary, tmp_path, broker)
    for statement in ("START PIPELINE lost", "RESTART PIPELINE lost"):
        status, error = refusal(server, statement)
        assert (status, error["code"]) == (422, "unknown_topic")
        assert error["details"]["position"] == {"line": 1, "column": statement.index("lost") + 1}
        assert "create the topic" in error["details"]["hint"]
    query = "SELECT state FROM system.jobs WHERE pipeline_name = 'lost' ORDER BY run_id"
    assert server.sql(query)["rows"] == [["Stopped"], ["Failed"], ["Failed"]]
    # A topic of that name is not the one that was read: nothing of it may be skipped or read as the other's.
    broker.create("shop-fading", 1)
    status, error = refusal(server, "START PIPELINE lost")
    assert error["code"] == "data_loss" and "IGNORING STATE" in error["details"]["hint"], error
    server.sql("RESTART PIPELINE lost IGNORING STATE")
    assert server.sql("SELECT state FROM system.pipelines WHERE name = 'lost'")["rows"] == [["running"]]


# Method, path, content type, body; status, code, and the field to blame if it is one.
BROKEN = [
    ("POST", "/sql", JSON, b'{"query": "SELECT 1"', 400, "invalid_request", None),
    ("POST", "/sql", JSON, b'{"query": "SELECT 1"} {}', 400, "invalid_request", None),
    ("POST", "/sql", JSON, b"", 400, "invalid_request", None),
    ("POST", "/sql", JSON, b'["SELECT 1"]', 400, "invalid_request", None),
    ("POST", "/sql", JSON, b"[" * 100_000, 400, "invalid_request", None),
    ("POST", "/sql", JSON, b'{"query": "SELECT \'\xff\xfe\'"}', 400, "invalid_request", None),
    ("POST", "/sql", JSON, b'{"query": ["SELECT 1"]}', 400, "invalid_request", "query"),
    ("POST", "/sql", JSON, b'{"query": "SELECT 1", "query": "SELECT 2"}', 400, "invalid_request", None),
    ("POST", "/sql", JSON, b'{"query": "SELECT 1", "quiet": true}', 400, "invalid_request", "quiet"),
    ("POST", "/sql", JSON, b'{"query": "DROP VIEW cheaper", "settings": {"preview_limit": []}}', 400,
     "invalid_request", "settings.preview_limit"),
    ("POST", "/sql", JSON, b'{"query": "SELECT \'' + b"x" * (5 << 20) + b'\'"}', 413, "limit_exceeded", None),
    ("POST", "/sql", "text/plain", b"DROP VIEW cheaper", 415, "invalid_request", None),
    ("POST", "/sql", "application/x-www-form-urlencoded", b'{"query": "DROP VIEW cheaper"}', 415, "invalid_request", None),
    ("DELETE", "/sql", JSON, b'{"query": "DROP VIEW cheaper"}', 405, "invalid_request", None),
    ("POST", "/connection_profiles", JSON, b'{"name": "c", "connector": "kafka", "config": []}', 400,
     "invalid_request", "config"),
    ("POST", "/connection_profiles", JSON, b'{"name": "c", "connector": "kafka", "config": {"topik": "a"}}', 400,
     "unknown_option", "topik"),
    ("POST", "/connection_tables", JSON, b'{"name": "t", "connector": "kafka", "schema": {"fields": "id"}}', 400,
     "invalid_request", "schema.fields"),
    ("POST", "/pipelines", JSON, b'{"name": "p", "query": "SELECT id FROM orders", "parallelism": "two"}', 400,
     "invalid_request", "parallelism"),
    ("POST", "/pipelines", JSON, b'{"name": "p"}', 400, "invalid_request", "query"),
    ("PATCH", "/pipelines/copy", JSON, b'{"stop": "tomorrow"}', 400, "invalid_request", "stop"),
]  # fmt: skip


def test_a_broken_request_has_its_status_and_code_and_changes_nothing(broker, binary, tmp_path):
    server = start(binary, tmp_path, broker)
    before = everything(server, broker, tmp_path)
    failures = []
    for method, path, content, body, status, code, field in BROKEN:
        got, text = reply(server.port, f"/api/v1{path}", body, {"Content-Type": content}, method)
        error = json.loads(text)["error"]
        if (got, error["code"], error["details"].get("field")) != (status, code, field):
            failures.append(f"{method} {path} {body[:80]}\n  expected {status} {code} {field}\n  got {got} {error}")
    assert not failures, "\n".join(failures)
    assert everything(server, broker, tmp_path) == before


def start(binary, folder, broker):
    """A server in which all of `WORLD` is, and the topic of `fading` is not any more."""
    for topic in TOPICS:
        broker.create(topic, 1)
    server = Server(binary, folder, f"sqlite:{folder}/metadata.db").wait_until_ready()
    server.sql(WORLD.replace("localhost:9092", broker.address))
    broker.drop("shop-fading")
    return server


def refusal(server, sql):
    """The status and the error that the statements are answered with."""
    body = json.dumps({"query": sql}).encode()
    status, text = reply(server.port, "/api/v1/sql", body, {"Content-Type": JSON})
    return status, json.loads(text).get("error", {"code": "it worked", "details": {}})


def everything(server, broker, folder):
    """All that exists and that a refused statement could have changed, by what it is."""
    answers = server.sql(";".join(QUERIES))["results"]
    return {
        **{query: answer["rows"] for query, answer in zip(QUERIES, answers, strict=True)},
        **{name: stable(ask(server.port, f"/api/v1/{name}")["data"]) for name in LISTS},
        "topics": broker.topics(),
        "checkpoint folders": sorted(path.name for path in (folder / "data/checkpoints").iterdir()),
    }


def stable(items):
    """Without the counters, which grow."""
    return [{name: value for name, value in item.items() if name != "metrics"} for item in items]


def difference(before, after):
    return {name: (before[name], after[name]) for name in before if before[name] != after[name]}


def place(marked):
    """Line and column of the mark, both from 1."""
    lines = marked[: marked.index("^")].split("\n")
    return {"line": len(lines), "column": len(lines[-1]) + 1}


def fits(expected, given):
    return given is None if expected is None else expected in (given or "")


def shown(sql):
    return sql if len(sql) < 500 else f"{sql[:60]} … {sql[-60:]}"
