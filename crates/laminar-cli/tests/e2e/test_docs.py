"""What the documents tell a reader to type is typed here: the README's example and every statement of the quickstart."""

import re
from pathlib import Path

import yaml

from laminar import Process, ask_sql, free_port
from orders import wait_until

ROOT = Path(__file__).parents[4]


def run_page(page, binary, folder, broker=None):
    """Runs each block of SQL in `laminar dev`, against `broker` or else the one inside it; how many blocks."""
    blocks = re.findall(r"^```sql\n(.*?)^```", (ROOT / page).read_text(), re.S | re.M)
    assert blocks, f"{page} shows no SQL"
    port = free_port()
    dev = Process([binary, "dev", "--bind", f"127.0.0.1:{port}"], folder)
    inside = wait_until(lambda: re.search(r"Kafka +(\S+:\d+)", dev.log.read_text()), 30, "laminar dev")[1]
    for block in blocks:
        ask_sql(port, re.sub(r"localhost:9092|kafka:29092", broker or inside, block))
    assert dev.stop() == 0
    return len(blocks)


def test_the_example_of_the_readme_runs_against_kafka(broker, binary, tmp_path):
    broker.create("orders")
    run_page("README.md", binary, tmp_path, broker.address)


def test_every_statement_of_the_quickstart_runs(binary, tmp_path):
    assert run_page("docs/guide/quickstart.md", binary, tmp_path) > 5


def test_the_statements_of_the_docker_guide_run_on_what_its_generator_makes(broker, binary, tmp_path):
    script = tmp_path / "generator.sql"
    folder = ROOT / "docker-compose/kafka"
    script.write_text((folder / "generator.sql").read_text().replace("kafka:29092", broker.address))
    generator = Process([binary, "run", script, "--state-dir", tmp_path / "state"], tmp_path)
    reader = broker.consumer({}, broker.create("test-input"))
    assert wait_until(lambda: reader.consume(1, 0.1), 30, f"the generator\n{generator.tail()}")
    run_page("docker-compose/kafka/README.md", binary, tmp_path / "dev", broker.address)
    assert generator.stop() == 0


def test_the_compose_file_is_what_its_guide_says():
    folder = ROOT / "docker-compose/kafka"
    compose = yaml.safe_load((folder / "docker-compose.yml").read_text())
    services = compose["services"]
    assert set(services) == {"laminar", "generator", "postgres", "kafka", "kafka-ui"}
    open_ports = {port for service in services.values() for port in service.get("ports", [])}
    assert open_ports == {"127.0.0.1:5115:5115", "127.0.0.1:8080:8080", "127.0.0.1:9092:9092"}
    for name, service in services.items():
        assert set(service.get("depends_on", {})) <= set(services), name
        for needed in service.get("depends_on", {}):
            assert "healthcheck" in services[needed], f"{name} waits for {needed} to be healthy, but it never says"
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            there = (folder / source).exists() if source.startswith(".") else source in compose["volumes"]
            assert there, f"{name}: {volume}"
    context = (folder / services["laminar"]["build"]["context"]).resolve()
    assert context == ROOT and (context / services["laminar"]["build"]["dockerfile"]).exists()
