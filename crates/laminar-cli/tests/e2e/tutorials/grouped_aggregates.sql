--pk=counter_mod
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
  counter_mod BIGINT UNSIGNED NOT NULL,
  min BIGINT UNSIGNED NOT NULL,
  max BIGINT UNSIGNED NOT NULL,
  sum BIGINT UNSIGNED NOT NULL,
  count BIGINT NOT NULL,
  avg DOUBLE NOT NULL
) WITH (
  connector = 'single_file',
  path = '$output_path',
  format = 'debezium_json',
  type = 'sink'
);

INSERT INTO aggregates
SELECT counter % 5, min(counter), max(counter), sum(counter), count(*), avg(counter)
FROM impulse_source
GROUP BY 1;
