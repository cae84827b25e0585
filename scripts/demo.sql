-- Where the topics are.
CREATE CONNECTION broker TO kafka (bootstrap_servers = 'BROKER');

-- 1. Orders, made up: 200 a second, into the topic `orders`.
CREATE TABLE made_up_orders (id BIGINT, customer TEXT, item TEXT, quantity INT, price DOUBLE, placed_at TIMESTAMP)
WITH (
  connector = 'datagen', rows_per_second = 200,
  'fields.id.kind' = 'sequence', 'fields.id.start' = 1,
  'fields.customer.kind' = 'choice', 'fields.customer.values' = 'ada,alan,barbara,edsger,grace,tony',
  'fields.item.kind' = 'choice', 'fields.item.values' = 'tea,coffee,chair,lamp,piano',
  'fields.quantity.min' = 1, 'fields.quantity.max' = 5,
  'fields.price.min' = 1, 'fields.price.max' = 200
);

CREATE TABLE orders_out (id BIGINT, customer TEXT, item TEXT, quantity INT, price DOUBLE, placed_at TIMESTAMP)
WITH (connector = 'broker', topic = 'orders', type = 'sink', format = 'json', key_field = 'customer');

CREATE PIPELINE make_orders WITH (checkpoint_interval = '500ms') AS
INSERT INTO orders_out SELECT * FROM made_up_orders;

-- 2. The topic `orders` in; each row knows its partition and offset.
CREATE TABLE orders (
  id BIGINT, customer TEXT, item TEXT, quantity INT, price DOUBLE, placed_at TIMESTAMP,
  _kafka_partition INT, _kafka_offset BIGINT
)
WITH (connector = 'broker', topic = 'orders', type = 'source', format = 'json', include_metadata = true);

-- 3. Filtered and transformed, into the topic `big-orders`.
CREATE TABLE big_orders_out (id BIGINT, customer TEXT, what TEXT, total DOUBLE, source_partition INT, source_offset BIGINT)
WITH (connector = 'broker', topic = 'big-orders', type = 'sink', format = 'json', key_field = 'customer');

CREATE PIPELINE find_big_orders WITH (checkpoint_interval = '500ms') AS
INSERT INTO big_orders_out
SELECT id, upper(customer), quantity || ' x ' || item, round(quantity * price * 1.19, 2), _kafka_partition, _kafka_offset
FROM orders
WHERE quantity * price >= 300;

-- 4. The topic `big-orders`, to look at.
CREATE TABLE big_orders (id BIGINT, customer TEXT, what TEXT, total DOUBLE, source_partition INT, source_offset BIGINT)
WITH (connector = 'broker', topic = 'big-orders', type = 'source', format = 'json');
