"""What the documents tell a reader to type is typed here: the README's example, every statement of the quickstart, and the
examples of the reference pages."""

import json
import os
import re
from pathlib import Path

import pytest
import yaml

from laminar import Process, ask_sql, free_port
from orders import wait_until

ROOT = Path(__file__).parents[4]


def run_page(page, binary, folder, broker=None):
    """Runs each block of SQL in `laminar dev`, against `broker` or else the one inside it, with `folder` as /tmp; how many."""
    blocks = re.findall(r"^```sql\n(.*?)^```", (ROOT / page).read_text(), re.S | re.M)
    assert blocks, f"{page} shows no SQL"
    port = free_port()
    dev = Process([binary, "dev", "--bind", f"127.0.0.1:{port}"], folder)
    inside = wait_until(lambda: re.search(r"Kafka +(\S+:\d+)", dev.log.read_text()), 30, "laminar dev")[1]
    for block in blocks:
        block = re.sub(r"localhost:9092|kafka:29092", broker or inside, block)
        ask_sql(port, block.replace("'/tmp/", f"'{folder}/"))
    assert dev.stop() == 0
    return len(blocks)


def test_the_example_of_the_readme_runs_against_kafka(broker, binary, tmp_path):
    broker.create("orders")
    run_page("README.md", binary, tmp_path, broker.address)


def test_every_statement_of_the_quickstart_runs(binary, tmp_path):
    assert run_page("docs/guide/quickstart.md", binary, tmp_path) > 5


def test_every_statement_of_the_sql_page_runs(binary, tmp_path):
    assert run_page("docs/reference/sql.md", binary, tmp_path) > 5


@pytest.mark.parametrize("page", sorted((ROOT / "docs/reference/connectors").glob("*.md")), ids=lambda page: page.stem)
def test_the_example_of_the_reference_page_runs(page, binary, tmp_path):
    run_page(page, binary, tmp_path)


def test_the_statements_of_the_docker_guide_run_on_what_its_generator_makes(broker, binary, tmp_path):
    script = tmp_path / "generator.sql"
    folder = ROOT / "docker-compose/kafka"
    script.write_text((folder / "generator.sql").read_text().replace("kafka:29092", broker.address))
    generator = Process([binary, "run", script], tmp_path)
    reader = broker.consumer({}, broker.create("test-input"))
    assert wait_until(lambda: reader.consume(1, 0.1), 30, "the generator", generator.tail)
    run_page("docker-compose/kafka/README.md", binary, tmp_path / "dev", broker.address)
    assert generator.stop() == 0


COMPOSE = ROOT / "docker-compose/kafka"


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((COMPOSE / "docker-compose.yml").read_text())


def test_the_compose_file_is_what_its_guide_says(compose):
    services = compose["services"]
    assert set(services) == {"laminar", "generator", "postgres", "kafka", "kafka-ui"}
    open_ports = {port for service in services.values() for port in service.get("ports", [])}
    assert open_ports == {"127.0.0.1:5115:5115", "127.0.0.1:8080:8080", "127.0.0.1:9092:9092"}
    for name, service in services.items():
        for needed in service.get("depends_on", {}):
            assert "healthcheck" in services[needed], f"{name} waits for {needed} to be healthy, but it never says"
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            there = (COMPOSE / source).exists() if source.startswith(".") else source in compose["volumes"]
            assert there, f"{name}: {volume}"
    context = (COMPOSE / services["laminar"]["build"]["context"]).resolve()
    assert context == ROOT and (context / services["laminar"]["build"]["dockerfile"]).exists()
    assert os.access(COMPOSE / "kafka-console-consumer", os.X_OK)


def test_images_are_pinned_and_as_new_as_what_is_tested(compose):
    images = {name: service["image"] for name, service in compose["services"].items()}
    built = {name for name, image in images.items() if image == "laminar"}
    assert built == {"laminar", "generator"} and compose["services"]["generator"]["pull_policy"] == "never"
    for name in set(images) - built:
        assert re.search(r":v?\d+\.\d+", images[name]), f"{images[name]} may be another one tomorrow"
    tested = re.search(r"<kafka.version>(.*)<", (ROOT / "scripts/kafka/pom.xml").read_text())[1]
    assert images["kafka"] == f"apache/kafka:{tested}"
    rust = re.search(r'^rust-version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    assert f"FROM rust:{rust}-" in (ROOT / "docker-compose/Dockerfile").read_text()


def test_the_image_holds_what_it_needs(compose):
    dockerfile = (ROOT / "docker-compose/Dockerfile").read_text()
    ignored = (ROOT / "docker-compose/Dockerfile.dockerignore").read_text()
    needed = {line[1:] for line in ignored.splitlines() if line.startswith("!")}
    assert {"Cargo.toml", "Cargo.lock", "crates", "migrations"} == needed and all((ROOT / path).exists() for path in needed)
    build, run = dockerfile.split("\nFROM ")[1:]
    assert "cargo build --release --locked -p laminar-cli" in build and "/target/release/laminar" in build
    # what the binary is linked with, and what the health check calls
    assert all(package in run for package in ["libssl3", "zlib1g", "curl"])
    assert compose["services"]["laminar"]["healthcheck"]["test"][:2] == ["CMD", "curl"]
    data_dir = re.search(r'"--data-dir", "(.*?)"', run)[1]
    assert f"VOLUME {data_dir}\n" in run and f"--home-dir {data_dir} --create-home" in run
    assert f"laminar-data:{data_dir}" in compose["services"]["laminar"]["volumes"]
    arguments = json.loads(re.search(r"^CMD (.*)", run, re.M)[1])
    assert arguments[:3] == ["server", "--bind", "0.0.0.0:5115"]
