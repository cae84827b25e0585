-- The metadata of one Laminar installation, in SQL that PostgreSQL and SQLite both run (in PostgreSQL in schema laminar).
-- Times are milliseconds since 1970 UTC; ids are UUIDs of version 7, as text; JSON is text.
-- A migration that has been released is never edited: add the next one.

-- Facts about the installation: instance_id, key_check.
CREATE TABLE settings (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

-- Everything with a name. `space` is the namespace of the name: tables, views and pipelines share `relation`.
-- `definition`, `statement` and `secret` are sealed where they may hold credentials (see crates/laminar-metastore).
CREATE TABLE objects (
    id TEXT NOT NULL PRIMARY KEY,
    space TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    definition TEXT NOT NULL,
    statement TEXT NOT NULL,
    secret TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (space, name)
);

-- What refers to what: a used object cannot be deleted.
CREATE TABLE object_uses (
    object_id TEXT NOT NULL REFERENCES objects (id) ON DELETE CASCADE,
    used_id TEXT NOT NULL REFERENCES objects (id),
    PRIMARY KEY (object_id, used_id)
);
CREATE INDEX object_uses_used ON object_uses (used_id);

-- What pipelines have besides a name, options (`definition`) and SQL (`statement`).
CREATE TABLE pipelines (
    id TEXT NOT NULL PRIMARY KEY REFERENCES objects (id) ON DELETE CASCADE,
    parallelism BIGINT NOT NULL,
    checkpoint_interval_micros BIGINT NOT NULL,
    desired TEXT NOT NULL
);

CREATE TABLE jobs (
    id TEXT NOT NULL PRIMARY KEY,
    pipeline_id TEXT NOT NULL REFERENCES pipelines (id) ON DELETE CASCADE,
    run BIGINT NOT NULL,
    state TEXT NOT NULL,
    failure TEXT,
    restarts BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    finished_at BIGINT,
    UNIQUE (pipeline_id, run)
);

CREATE TABLE job_errors (
    id TEXT NOT NULL PRIMARY KEY,
    job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    happened_at BIGINT NOT NULL,
    level TEXT NOT NULL,
    operator TEXT,
    message TEXT NOT NULL,
    detail TEXT NOT NULL
);
CREATE INDEX job_errors_job ON job_errors (job_id, id);

-- A cache: the manifests in the checkpoint store are the truth.
CREATE TABLE checkpoints (
    pipeline_id TEXT NOT NULL REFERENCES pipelines (id) ON DELETE CASCADE,
    job_id TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    state TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    finished_at BIGINT,
    bytes BIGINT NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (pipeline_id, epoch)
);
