--pk=left_counter
CREATE TABLE impulse (
  timestamp TIMESTAMP,
  counter BIGINT UNSIGNED NOT NULL,
  subtask_index BIGINT UNSIGNED NOT NULL
) WITH (
  connector = 'single_file',
  path = '$input_dir/impulse.json',
  format = 'json',
  type = 'source',
  event_time_field = 'timestamp'
);

CREATE TABLE output (
  left_counter BIGINT UNSIGNED NOT NULL,
  counter_mod_2 BIGINT UNSIGNED NOT NULL,
  right_count BIGINT UNSIGNED NOT NULL
) WITH (
  connector = 'single_file',
  path = '$output_path',
  format = 'debezium_json',
  type = 'sink'
);

CREATE VIEW impulse_odd AS (
  SELECT * FROM impulse
  WHERE counter % 2 == 1
);

INSERT INTO output
SELECT A.counter, A.counter % 2, B.counter
FROM impulse A
JOIN impulse_odd B ON A.counter = B.counter;
