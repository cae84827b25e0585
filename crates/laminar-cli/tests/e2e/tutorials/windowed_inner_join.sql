CREATE TABLE cars (
  timestamp TIMESTAMP,
  driver_id BIGINT,
  event_type TEXT,
  location TEXT
) WITH (
  connector = 'single_file',
  path = '$input_dir/cars.json',
  format = 'json',
  type = 'source',
  event_time_field = 'timestamp'
);

CREATE TABLE hourly_aggregates (
  hour TIMESTAMP,
  dropoff_drivers BIGINT,
  pickup_drivers BIGINT
) WITH (
  connector = 'single_file',
  path = '$output_path',
  format = 'json',
  type = 'sink'
);

INSERT INTO hourly_aggregates
SELECT window.start AS hour, dropoff_drivers, pickup_drivers
FROM (
  SELECT dropoffs.window AS window, dropoff_drivers, pickup_drivers
  FROM (
    SELECT TUMBLE(INTERVAL '1' hour) AS window, COUNT(DISTINCT driver_id) AS dropoff_drivers
    FROM cars
    WHERE event_type = 'dropoff'
    GROUP BY 1
  ) dropoffs
  INNER JOIN (
    SELECT TUMBLE(INTERVAL '1' hour) AS window, COUNT(DISTINCT driver_id) AS pickup_drivers
    FROM cars
    WHERE event_type = 'pickup'
    GROUP BY 1
  ) pickups
  ON dropoffs.window = pickups.window
);
