CREATE TABLE impulse_source (
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

CREATE TABLE sliding_output (
  count BIGINT,
  min BIGINT UNSIGNED,
  max BIGINT UNSIGNED,
  start TIMESTAMP,
  end TIMESTAMP
) WITH (
  connector = 'single_file',
  path = '$output_path',
  format = 'json',
  type = 'sink'
);

INSERT INTO sliding_output
SELECT count, min, max, window.start, window.end
FROM (
  SELECT
    hop(interval '2 second', interval '10 second') AS window,
    count(*) AS count,
    min(counter) AS min,
    max(counter) AS max
  FROM impulse_source
  GROUP BY 1
);
