CREATE TABLE cars (
  timestamp TIMESTAMP,
  driver_id BIGINT,
  event_type TEXT,
  location TEXT,
  WATERMARK FOR timestamp
) WITH (
  connector = 'single_file',
  path = '$input_dir/cars.json',
  format = 'json',
  type = 'source'
);

CREATE TABLE group_by_aggregate (
  timestamp TIMESTAMP,
  count BIGINT
) WITH (
  connector = 'single_file',
  path = '$output_path',
  format = 'json',
  type = 'sink'
);

CREATE VIEW group_by_view AS (
  SELECT window.end AS timestamp, count
  FROM (
    SELECT TUMBLE(INTERVAL '1' HOUR) AS window, COUNT(*) AS count
    FROM cars
    GROUP BY window
  )
);

INSERT INTO group_by_aggregate SELECT timestamp, count FROM group_by_view;
