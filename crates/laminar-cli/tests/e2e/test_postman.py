"""The Postman collection against a real server and broker, by the command that the Kafka guide gives to its readers.

Run again and again on one server it passes each time and leaves nothing behind but topics.
"""

import collections
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from doubler import new_database
from laminar import Server, ask

GUIDE = Path(__file__).parents[4] / "docker-compose/kafka"
COLLECTION = "../../postman-collections/Kafka-Connector-Tests.postman_collection.json"
ENVIRONMENT = "../../postman-collections/environments/local.postman_environment.json"
OUTPUT_TOPIC = "test-output"


@pytest.fixture
def newman(tmp_path):
    """Runs the collection, in the folder and with the paths of the guide; how many assertions passed."""
    packages = Path(os.environ.get("LAMINAR_NODE_PACKAGES") or pytest.exit("run this by scripts/e2e.sh", returncode=2))
    command = [Path(sys.executable).with_name("node"), packages / "node_modules/newman/bin/newman.js", "run", COLLECTION]

    def run(*options):
        report = tmp_path / "report.json"
        reporters = ["--reporters", "cli,json", "--reporter-json-export", report, "--color", "off"]
        done = subprocess.run([*command, "--environment", ENVIRONMENT, *reporters, *options], cwd=GUIDE, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-8000:] + done.stderr
        return json.loads(report.read_text())["run"]["stats"]["assertions"]["total"]

    return run


def test_the_collection_passes_again_and_again(broker, postgres, binary, tmp_path, newman):
    server = Server(binary, tmp_path, new_database("postgres", postgres, tmp_path)).wait_until_ready()
    here = ["--env-var", f"base_url=http://127.0.0.1:{server.port}/api/v1", "--env-var", f"bootstrap_servers={broker.address}"]
    for _ in range(2):
        assert newman("--folder", "Kafka Tests", *here) > 30
    assert newman(*here) > 100

    for kind in ["connection_profiles", "connection_tables", "pipelines"]:
        assert ask(server.port, f"/api/v1/{kind}")["data"] == [], f"{kind} are left"
    assert list((tmp_path / "data/checkpoints").iterdir()) == [], "checkpoints are left"
    assert server.stop() == 0

    rows = collections.defaultdict(list)
    for row in broker.reader(OUTPUT_TOPIC, lambda message: json.loads(message.value())).drain():
        if "run" in row:  # other tests write to this topic too
            rows[row["run"]].append((row["id"], row["name"], row["cents"]))
    expected = [(1, "ANN", 150), (3, "CEM", 3025), (4, "DÉE", 400)]
    assert len(rows) >= 3 and all(sorted(run) == expected for run in rows.values()), rows
