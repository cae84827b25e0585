"""The pipeline that all of these tests run, with its topics, its feed and its judge."""

import subprocess
import uuid

from laminar import Server
from orders import PIPELINE, SQL, Feed, judge, origin, outcome


class Doubler:
    """One pipeline on topics of its own, in an installation (folder and database) of its own."""

    def __init__(self, binary, broker, folder, database, orders):
        self.binary, self.broker, self.folder, self.database, self.orders = binary, broker, folder, database, orders
        self.source, self.sink = broker.create_topic("orders"), broker.create_topic("doubled")
        self.feed = Feed(broker, self.source, orders)
        self.feed.start()
        self.reader = broker.reader(self.sink, outcome)

    def tables(self):
        return SQL.format(address=self.broker.address, source=self.source, sink=self.sink)

    def server(self, env=None):
        """A life of the server: it goes on with the pipelines that should run."""
        return Server(self.binary, self.folder, self.database, env)

    def create(self, server, parallelism):
        server.sql(self.tables())
        server.sql(PIPELINE.format(parallelism=parallelism))

    def rows_out(self):
        """How many rows a `read_committed` reader sees now."""
        return len(self.reader.drain())

    def finish(self, server, patience=60):
        """Lets all orders through and judges the output. Only what a `read_committed` reader sees counts."""
        self.feed.finish()
        self.reader.wait_for(self.orders.expected(), patience)
        outcomes = self.reader.drain(quiet=2)
        origins = self.broker.reader(self.source, origin)
        assert origins.wait_for(self.orders.count, patience), f"only {len(origins.kept)} orders can be read back"
        verdict = judge(self.orders, self.source, origins.kept, outcomes)
        assert verdict.clean, f"{verdict}\n{server.tail()}"
        return verdict


def new_database(kind, postgres, folder):
    """The URL of an empty metadata database."""
    if kind == "sqlite":
        folder.mkdir(parents=True, exist_ok=True)
        return f"sqlite:{folder}/laminar.db"
    name = f"laminar_{uuid.uuid4().hex[:12]}"
    subprocess.run(["psql", "-q", postgres, "-c", f"CREATE DATABASE {name}"], check=True)
    return f"{postgres.rsplit('/', 1)[0]}/{name}"
