-- Test data for the topic test-input: 20 made-up events a second.
CREATE CONNECTION broker TO kafka (bootstrap_servers = 'kafka:29092');

CREATE TABLE generated (
    id BIGINT,
    name TEXT,
    amount DOUBLE
) WITH (connector = 'datagen', rows_per_second = 20);

CREATE TABLE test_input (
    id BIGINT,
    name TEXT,
    amount DOUBLE
) WITH (connector = 'broker', topic = 'test-input', type = 'sink', format = 'json', key_field = 'id');

CREATE PIPELINE generator WITH (checkpoint_interval = '1s') AS
INSERT INTO test_input SELECT id, name, amount FROM generated;
