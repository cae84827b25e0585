CREATE TABLE cars (
  timestamp TIMESTAMP,
  driver_id BIGINT,
  event_type TEXT,
  location TEXT,
  WATERMARK FOR timestamp AS (timestamp - INTERVAL '1 hour')
) WITH (
  connector = 'single_file',
  path = '$input_dir/cars.json',
  format = 'json',
  type = 'source'
);

CREATE TABLE most_active_driver (
  driver_id BIGINT,
  count BIGINT,
  start TIMESTAMP,
  end TIMESTAMP,
  row_number BIGINT
) WITH (
  connector = 'single_file',
  path = '$output_path',
  format = 'json',
  type = 'sink'
);

INSERT INTO most_active_driver
SELECT driver_id, count, window.start, window.end, row_number
FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY window ORDER BY count DESC, driver_id DESC) AS row_number
  FROM (
    SELECT driver_id, hop(INTERVAL '1' minute, INTERVAL '1' hour) AS window, count(*) AS count
    FROM cars
    GROUP BY 1, 2
  )
)
WHERE row_number = 1;
