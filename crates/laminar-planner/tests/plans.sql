-- # filter and projection are one node
EXPLAIN INSERT INTO out SELECT id, upper(item), price * 2 FROM orders WHERE price > 10 AND item <> 'x';
-- # all columns as they are
EXPLAIN SELECT * FROM orders;
-- # only the columns that are used, in another order
EXPLAIN SELECT price, id FROM orders;
-- # casts to the sink's types, and a column list
EXPLAIN INSERT INTO out (price, id) SELECT id, price::bigint FROM orders WHERE id = 7;
-- # a view, a CTE and a subquery leave no trace
EXPLAIN WITH c AS (SELECT * FROM cheap) SELECT d.item FROM (SELECT item, id FROM c WHERE id > 1) d;
-- # WITH before INSERT
EXPLAIN WITH c AS (SELECT id, item, price FROM orders) INSERT INTO out SELECT * FROM c WHERE id > 5;
-- # two sinks share a source
CREATE PIPELINE both WITH (parallelism = 4) AS BEGIN
    INSERT INTO out SELECT id, item, price FROM orders WHERE price > 10;
    INSERT INTO texts SELECT id, payload FROM orders;
END;
-- # a union
EXPLAIN SELECT id, item FROM orders UNION ALL SELECT id + 1, upper(item) FROM orders WHERE id > 2;
-- # unnest
EXPLAIN SELECT id, unnest(tags) AS tag FROM tagged WHERE id > 3;
-- # defaults and generated columns, only those that are used
EXPLAIN SELECT twice FROM computed;
EXPLAIN SELECT name FROM computed WHERE twice > 4;
EXPLAIN SELECT * FROM computed;
-- # a common expression is computed once
EXPLAIN SELECT id * 17 + 1 AS a, id * 17 + 2 AS b FROM orders;
-- # JSON
EXPLAIN SELECT payload -> 'a' -> 'b' ->> 'c' AS c, payload ->> 0 AS first FROM orders;
-- # the clock is not frozen
EXPLAIN SELECT id, now() AS seen FROM orders WHERE at > now() - INTERVAL '1 hour';
-- # a condition that is never true
EXPLAIN SELECT id FROM orders WHERE 1 = 2;
-- # constants only
EXPLAIN SELECT 1 AS one FROM orders;
-- # metadata columns
CREATE TABLE meta (id BIGINT, _kafka_offset BIGINT, p INT METADATA FROM 'partition') WITH (connector = 'kafka_read', include_metadata = true, topic = 'x');
EXPLAIN SELECT id, _kafka_offset, p FROM meta WHERE p = 0;
EXPLAIN SELECT id FROM meta WHERE id > 5 AND p % 4 = 1 AND p < 12;
EXPLAIN SELECT id FROM meta WHERE p = 0 UNION ALL SELECT id + 1 FROM meta WHERE p = 2;
EXPLAIN SELECT id FROM meta WHERE p = 0 UNION ALL SELECT id + 1 FROM meta;
EXPLAIN SELECT id FROM meta WHERE p = id;
EXPLAIN SELECT id FROM meta WHERE p = random() * 10;
-- # a sink that takes the query's columns
CREATE TABLE any WITH (connector = 'memory', type = 'sink');
EXPLAIN INSERT INTO any SELECT id, payload -> 'x' AS x, json_get(payload, 'y') AS y FROM orders;
-- # as JSON
EXPLAIN FORMAT JSON INSERT INTO out SELECT id, item, price FROM orders;
-- # with the logical plan
EXPLAIN VERBOSE SELECT id FROM orders WHERE item = 'a';
-- # one-off queries can do everything
SELECT a.item, count(*) AS n, max(at) FROM orders a JOIN out_read b ON a.id = b.id GROUP BY a.item ORDER BY n LIMIT 3;
-- # one-shot inserts
INSERT INTO out VALUES (1, 'a', 2.5), (2, 'b', 3);
INSERT INTO out (id) SELECT 7;
INSERT INTO computed_out (id) VALUES (1);
-- # words that are also column names
CREATE TABLE words (timestamp TIMESTAMP, partition INT, offset BIGINT, key BYTEA, value BYTEA, start TIMESTAMP, end TIMESTAMP, count BIGINT, window INT, rows INT, topic TEXT, type TEXT, date DATE, position INT, floor INT, min INT, hour INT) WITH (connector = 'memory');
EXPLAIN SELECT timestamp, partition, offset, key, value, start, end, count, window, rows, topic, type, date, position, floor, min, hour FROM words WHERE offset > 5 AND partition = 0 AND end > start AND type == 'a' AND timestamp > TIMESTAMP '2024-01-01T00:00:00';
SELECT count AS end, w.offset AS timestamp, w.end FROM words w WHERE w.timestamp IS NOT NULL;
-- # intervals in every spelling
SELECT now() - INTERVAL '1 hour' AS a, now() - INTERVAL '1' HOUR AS b, now() - interval '2 second' AS c, now() - INTERVAL 5 MINUTE AS d, now() - INTERVAL '10 SECONDS' AS e, interval '30' day AS f;
-- # windows that come out while they grow
EXPLAIN SELECT item, hop(INTERVAL '1 minute', INTERVAL '3 minutes') AS w, count(*) AS n FROM orders GROUP BY item, w EMIT EVERY INTERVAL '90 seconds';
-- # the watermark comes with the source's rows
EXPLAIN SELECT id, current_watermark() AS w FROM orders WHERE id > 1 OR current_watermark() IS NULL;
-- # distinct values are found before they are counted
EXPLAIN SELECT item, count(DISTINCT price) AS prices FROM orders GROUP BY item;
-- # rows with the versions of their time
CREATE TABLE timed (id INT, item TEXT, unused TEXT, at TIMESTAMP, WATERMARK FOR at) WITH (connector = 'memory', type = 'source');
CREATE TABLE rates (item TEXT PRIMARY KEY, rate DOUBLE, unused TEXT) WITH (connector = 'memory', type = 'source');
EXPLAIN SELECT o.id, r.rate FROM timed o LEFT JOIN rates FOR SYSTEM_TIME AS OF o.at AS r ON r.item = o.item AND r.rate > 0.5;
