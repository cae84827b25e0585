CREATE TABLE ticks (counter BIGINT, subtask_index BIGINT, timestamp TIMESTAMP)
WITH (connector = 'impulse', event_rate = 100, shards = 2);

SELECT * FROM ticks LIMIT 5;
