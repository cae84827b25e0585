--pk=p
CREATE TABLE debezium_source (
  id INT PRIMARY KEY,
  customer_name TEXT,
  product_name TEXT,
  quantity INTEGER,
  price FLOAT,
  order_date TIMESTAMP,
  status TEXT
) WITH (
  connector = 'single_file',
  path = '$input_dir/aggregate_updates.json',
  format = 'debezium_json',
  type = 'source'
);

CREATE TABLE output (
  p TEXT,
  count BIGINT,
  customers BIGINT,
  quantity BIGINT
) WITH (
  connector = 'single_file',
  path = '$output_path',
  format = 'debezium_json',
  type = 'sink'
);

INSERT INTO output
SELECT concat('p_', product_name) AS p, count(*), count(DISTINCT customer_name), sum(quantity + 5) + 10
FROM debezium_source
GROUP BY p;
