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

CREATE TABLE session_window_output (
  start TIMESTAMP,
  end TIMESTAMP,
  user_id BIGINT,
  rows BIGINT
) WITH (
  connector = 'single_file',
  path = '$output_path',
  format = 'json',
  type = 'sink'
);

INSERT INTO session_window_output
SELECT window.start, window.end, user_id, rows
FROM (
  SELECT
    SESSION(interval '20 seconds') AS window,
    CASE WHEN counter % 10 = 0 THEN 0 ELSE counter END AS user_id,
    count(*) AS rows
  FROM impulse_source
  GROUP BY window, user_id
);
