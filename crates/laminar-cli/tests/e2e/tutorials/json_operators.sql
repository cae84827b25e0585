CREATE TABLE cars (
  value JSON
) WITH (
  connector = 'single_file',
  path = '$input_dir/cars.json',
  format = 'json',
  type = 'source',
  'json.unstructured' = 'true'
);

CREATE TABLE cars_output WITH (
  connector = 'single_file',
  path = '$output_path',
  format = 'json',
  type = 'sink'
);

INSERT INTO cars_output
SELECT value->'driver_id' AS driver_id, value->'event_type' AS event_type, value->'not_a_field' AS missing
FROM cars;
