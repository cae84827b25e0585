CREATE TABLE readings_out (sensor TEXT, celsius DOUBLE)
WITH (connector = 'single_file', path = '/tmp/readings.json', type = 'sink', format = 'json');

INSERT INTO readings_out VALUES ('kitchen', 21.5), ('cellar', 12);

CREATE TABLE readings (sensor TEXT, celsius DOUBLE)
WITH (connector = 'single_file', path = '/tmp/readings.json', type = 'source', format = 'json');

SELECT * FROM readings;
