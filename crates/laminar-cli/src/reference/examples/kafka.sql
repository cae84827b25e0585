CREATE CONNECTION broker TO kafka (bootstrap_servers = 'localhost:9092');

CREATE TABLE payments_out (id BIGINT, customer TEXT, amount DOUBLE)
WITH (connector = 'broker', topic = 'payments', type = 'sink', format = 'json', key_field = 'customer', compression = 'lz4');

INSERT INTO payments_out VALUES (1, 'ada', 9.5), (2, 'grace', 120);

CREATE TABLE payments (id BIGINT, customer TEXT, amount DOUBLE, _kafka_offset BIGINT)
WITH (connector = 'broker', topic = 'payments', type = 'source', format = 'json', include_metadata = true);

SELECT * FROM payments LIMIT 2;
