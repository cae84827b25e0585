CREATE TABLE impulse_source (
  timestamp TIMESTAMP,
  counter BIGINT UNSIGNED NOT NULL,
  subtask_index BIGINT UNSIGNED NOT NULL
) WITH (
  connector = 'single_file',
  path = '$input_dir/impulse.json',
  format = 'json',
  type = 'source'
);

CREATE TABLE aggregates (
  min BIGINT UNSIGNED,
  max BIGINT UNSIGNED,
  sum BIGINT UNSIGNED,
  count BIGINT,
  avg DOUBLE
) WITH (
  connector = 'single_file',
  path = '$output_path',
  format = 'debezium_json',
  type = 'sink'
);

INSERT INTO aggregates
SELECT min(counter), max(counter), sum(counter), count(*), avg(counter)
FROM impulse_source;
