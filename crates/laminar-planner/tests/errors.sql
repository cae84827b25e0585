-- # a word that is no statement
CREAT TABLE t (a INT);
-- # a statement of another kind of database
UPDATE orders SET price = 0;
-- # an unfinished statement
SELECT id FROM
-- # two statements without a semicolon
SHOW TABLES SHOW VIEWS
-- # a string that does not end
SELECT 'abc FROM orders;
-- # a missing bracket
CREATE CONNECTION c TO kafka (bootstrap_servers = 'h:9092';
-- # an option without a value
CREATE CONNECTION c TO kafka (bootstrap_servers = , topic = 't');
-- # an option given twice
CREATE CONNECTION c TO kafka (
    topic = 'a',
    topic = 'b'
);
-- # OR REPLACE with IF NOT EXISTS
CREATE OR REPLACE VIEW IF NOT EXISTS v AS SELECT 1;
-- # a qualified name
CREATE TABLE public.orders (id INT) WITH (connector = 'memory', type = 'source');
-- # a materialized view
CREATE MATERIALIZED VIEW v AS SELECT * FROM orders;
-- # a column without a type
CREATE TABLE t (id, name TEXT) WITH (connector = 'memory');
-- # an unknown type
CREATE TABLE t (
    id BIGIN
) WITH (connector = 'memory');
-- # a constraint that is not supported
CREATE TABLE t (id INT CHECK (id > 0)) WITH (connector = 'memory');
-- # an interval column
CREATE TABLE t (id INTERVAL) WITH (connector = 'memory');
-- # a column given twice
CREATE TABLE t (id INT, name TEXT, ID BIGINT) WITH (connector = 'memory');
-- # a primary key that is not a column
CREATE TABLE t (id INT, PRIMARY KEY (idd)) WITH (connector = 'memory');
-- # two primary keys
CREATE TABLE t (id INT PRIMARY KEY, n INT, PRIMARY KEY (n)) WITH (connector = 'memory');
-- # a watermark on a column of another type
CREATE TABLE t (id INT, at TEXT, WATERMARK FOR at) WITH (connector = 'memory');
-- # a watermark that is no delay
CREATE TABLE t (at TIMESTAMP, WATERMARK FOR at AS date_trunc('hour', at)) WITH (connector = 'memory');
-- # a watermark and an event time
CREATE TABLE t (at TIMESTAMP, WATERMARK FOR at) WITH (connector = 'memory', event_time_field = 'at');
-- # an event time that is not a column
CREATE TABLE t (at TIMESTAMP) WITH (connector = 'memory', event_time_field = 'time');
-- # no connector
CREATE TABLE t (id INT) WITH (topic = 'a');
-- # a table that is a view
CREATE TABLE t AS SELECT * FROM orders;
-- # an unknown connector
CREATE CONNECTION c TO kafk (bootstrap_servers = 'h:9092');
-- # an unknown connector or connection
CREATE TABLE t (id INT) WITH (connector = 'kafka_conect');
-- # an unknown connection
CREATE TABLE t (id INT) WITH (connection = 'nowhere');
-- # a connection of another connector
CREATE TABLE t (id INT) WITH (connection = 'kafka_connection', connector = 'memory');
-- # an unknown option
CREATE CONNECTION c TO kafka (
    bootstrap_servers = 'localhost:9092',
    topik = 'orders'
);
-- # a missing required option
CREATE TABLE t (id INT) WITH (connector = 'kafka', type = 'source', topic = 'a', format = 'json');
-- # an option of the wrong type
CREATE TABLE t (id INT) WITH (connector = 'kafka_connection', type = 'source', topic = 'a', batch_size = 'many');
-- # a value that does not exist
CREATE TABLE t (id INT) WITH (connector = 'kafka_connection', type = 'source', topic = 'a', offset = 'middle');
-- # a type that is neither
CREATE TABLE t (id INT) WITH (connector = 'memory', type = 'both');
-- # a connection of one type, a table of the other
CREATE TABLE t (id INT) WITH (connector = 'kafka_read', type = 'sink');
-- # dead letters that would be read again
CREATE TABLE t (id INT) WITH (connector = 'kafka_connection', topic = 'a', bad_data = 'dlq', dlq_topic = 'a');
-- # a topic of dead letters that has no such name
CREATE TABLE t (id INT) WITH (connector = 'kafka_connection', topic = 'a', late_data = 'dlq', dlq_topic = 'a/b');
-- # a place for dead letters that nobody writes
CREATE TABLE t (id INT) WITH (connector = 'kafka_connection', topic = 'a', bad_data = 'skip', dlq_topic = 'b');
-- # dead letters of what is written
CREATE TABLE t (id INT) WITH (connector = 'kafka_connection', type = 'sink', topic = 'a', bad_data = 'dlq');
-- # a limit of errors without skipping
CREATE TABLE t (id INT) WITH (connector = 'memory', max_errors_per_batch = 5);
-- # an unknown secret
CREATE CONNECTION c TO kafka (
    bootstrap_servers = 'localhost:9092',
    'auth.type' = 'sasl',
    'auth.username' = 'u',
    'auth.password' = '${secret:kafka_pasword}'
);
-- # an unset variable
CREATE CONNECTION c TO kafka (bootstrap_servers = '{{ BROKERS }}');
-- # a placeholder that does not end
CREATE CONNECTION c TO kafka (bootstrap_servers = '${env:HOST');
-- # metadata that is not included
CREATE TABLE t (id INT, _kafka_offset BIGINT) WITH (connector = 'kafka_read');
-- # metadata that does not exist
CREATE TABLE t (id INT, o BIGINT METADATA FROM 'ofset') WITH (connector = 'kafka_read');
-- # metadata in a type that cannot hold it
CREATE TABLE t (id INT, _kafka_offset BYTEA) WITH (connector = 'kafka_read', include_metadata = true);
-- # metadata in a sink
CREATE TABLE t (id INT, o BIGINT METADATA FROM 'offset') WITH (connector = 'kafka_connection', type = 'sink', topic = 'a');
-- # a generated column in a sink
CREATE TABLE t (id INT, twice INT GENERATED ALWAYS AS (id * 2)) WITH (connector = 'memory', type = 'sink');
-- # a generated column of an unknown column
CREATE TABLE t (id INT, twice INT GENERATED ALWAYS AS (idd * 2)) WITH (connector = 'memory', type = 'source');
-- # a default of the wrong type
CREATE TABLE t (id INT, at TIMESTAMP DEFAULT true) WITH (connector = 'memory');
-- # a source without columns
CREATE TABLE t WITH (connector = 'memory', type = 'source');
-- # an unknown table
CREATE PIPELINE p AS INSERT INTO out SELECT id, item, price FROM ordres;
-- # a connection that is read
CREATE PIPELINE p AS SELECT * FROM kafka_read;
-- # an unknown column
CREATE PIPELINE p AS
INSERT INTO out
SELECT id, itme, price
FROM orders;
-- # an unknown column of a table
SELECT o.id, o.prize FROM orders o;
-- # an unknown function
CREATE PIPELINE p AS SELECT id, uper(item) AS item FROM orders;
-- # wrong arguments
CREATE PIPELINE p AS SELECT id, upper(item, 1) AS item FROM orders;
-- # an operator on types that do not fit
CREATE PIPELINE p AS
SELECT id,
       price + payload AS sum
FROM orders;
-- # a filter that is no condition
CREATE PIPELINE p AS SELECT id FROM orders WHERE price;
-- # an unknown type in a cast
SELECT CAST(id AS INTEGR) FROM orders;
-- # an unknown sink
CREATE PIPELINE p AS INSERT INTO outt SELECT id, item, price FROM orders;
-- # a sink that is read
CREATE PIPELINE p AS SELECT * FROM out;
-- # a source that is written
CREATE PIPELINE p AS INSERT INTO orders SELECT * FROM orders;
-- # a view that is written
CREATE PIPELINE p AS INSERT INTO cheap SELECT * FROM orders;
-- # too few columns
CREATE PIPELINE p AS INSERT INTO out SELECT id, item FROM orders;
-- # too many columns for the list
CREATE PIPELINE p AS INSERT INTO out (id, item) SELECT id, item, price FROM orders;
-- # an unknown column in the list
CREATE PIPELINE p AS INSERT INTO out (id, name) SELECT id, item FROM orders;
-- # a column that cannot be null gets nothing
CREATE PIPELINE p AS INSERT INTO out (item, price) SELECT item, price FROM orders;
-- # types that cannot be cast
CREATE PIPELINE p AS INSERT INTO out
SELECT id, item, at FROM orders;
-- # two columns of one name
CREATE PIPELINE p AS SELECT id, price AS id FROM orders;
-- # rows that change into a sink that only adds
CREATE PIPELINE p AS INSERT INTO out
SELECT count(*), item, 1 FROM orders
GROUP BY item;
-- # sets of keys
CREATE PIPELINE p AS SELECT item, count(*) AS n FROM orders GROUP BY ROLLUP (item);
-- # two windows
CREATE PIPELINE p AS SELECT count(*) AS n FROM orders GROUP BY tumble(interval '1 minute'), hop(interval '1 minute', interval '5 minutes');
-- # a window of what is no event time
CREATE PIPELINE p AS SELECT tumble(at, interval '1 minute') AS w, count(*) AS n FROM orders GROUP BY w;
-- # a window that a row has several of, outside of GROUP BY
CREATE PIPELINE p AS SELECT hop(interval '1 minute', interval '5 minutes') AS w FROM orders;
-- # a window of months
CREATE PIPELINE p AS SELECT count(*) AS n FROM orders GROUP BY tumble(interval '1 month');
-- # a window of nothing
CREATE PIPELINE p AS SELECT count(*) AS n FROM orders GROUP BY tumble(interval '0 seconds');
-- # steps that do not fill the window
CREATE PIPELINE p AS SELECT count(*) AS n FROM orders GROUP BY cumulate(interval '2 minutes', interval '5 minutes');
-- # a window of numbers
CREATE PIPELINE p AS SELECT count(*) AS n FROM orders GROUP BY tumble(5);
-- # NOT IN with a subquery
CREATE PIPELINE p AS SELECT id FROM orders WHERE id NOT IN (SELECT id FROM orders);
-- # EXISTS inside OR
CREATE PIPELINE p AS SELECT id FROM orders o WHERE id = 1 OR EXISTS (SELECT 1 FROM orders i WHERE i.id = o.id);
-- # recursion
CREATE PIPELINE p AS WITH RECURSIVE r AS (SELECT id FROM orders UNION ALL SELECT id + 1 FROM r) SELECT id FROM r;
-- # ORDER BY
CREATE PIPELINE p AS SELECT id FROM orders ORDER BY id;
-- # LIMIT
CREATE PIPELINE p AS SELECT id FROM orders LIMIT 10;
-- # VALUES in a union
CREATE PIPELINE p AS SELECT id FROM orders UNION ALL VALUES (1);
-- # GROUP BY ALL
CREATE PIPELINE p AS SELECT item, count(*) AS n FROM orders GROUP BY ALL;
-- # no table
CREATE PIPELINE p AS SELECT 1 AS one;
-- # a system table in a pipeline
CREATE PIPELINE p AS SELECT * FROM system.connections;
-- # an unknown system table
SELECT * FROM system.conections;
-- # an unknown schema
SELECT * FROM other.orders;
-- # an ambiguous column
SELECT id FROM orders a, orders b;
-- # a view of itself
CREATE VIEW v AS SELECT * FROM v;
-- # a view of itself through another
CREATE OR REPLACE VIEW cheap AS SELECT * FROM cheaper;
-- # an error inside a view
CREATE VIEW totals AS SELECT item, sum(price) AS total FROM orders GROUP BY item ORDER BY item;
CREATE PIPELINE p AS SELECT * FROM totals;
-- # a view with the wrong number of names
CREATE VIEW v (a, b) AS SELECT id FROM orders;
-- # an unknown pipeline option
CREATE PIPELINE p WITH (paralelism = 4) AS SELECT id FROM orders;
-- # a pipeline option out of range
CREATE PIPELINE p WITH (parallelism = 0) AS SELECT id FROM orders;
-- # a guarantee that does not exist
CREATE PIPELINE p WITH (delivery = 'at_most_once') AS SELECT id FROM orders;
-- # a SELECT between BEGIN and END
CREATE PIPELINE p AS BEGIN
    INSERT INTO out SELECT id, item, price FROM orders;
    SELECT id FROM orders;
END;
-- # test_connection of nothing
SELECT test_connection();
-- # a statement that cannot be explained
EXPLAIN DROP TABLE orders;
-- # text into a number
CREATE PIPELINE p AS INSERT INTO out (id, price) SELECT item, price FROM orders;
-- # text into a number, computed
CREATE PIPELINE p AS INSERT INTO out SELECT id, item, upper(item) || '0' AS n
FROM orders;
-- # text into a number, in VALUES
INSERT INTO out VALUES ('1', 'a', 2), (upper('2'), 'b', 3);
-- # JSON into a number
CREATE PIPELINE p AS INSERT INTO out SELECT payload ->> 'id', item, price FROM orders;
-- # a table without columns and type
CREATE TABLE t WITH (connector = 'kafka_connection', topic = 'orders');
-- # text without quotes
SELECT * FROM orders WHERE item = Ada;
-- # text in double quotes
SELECT * FROM orders WHERE "ada" = item;
-- # a pattern in double quotes
SELECT * FROM orders WHERE item LIKE "a%";
-- # text without quotes in a list
SELECT * FROM orders WHERE item IN ('a', b);
-- # text without quotes in VALUES
INSERT INTO out VALUES (1, ada, 2);
-- # a SELECT without FROM
SELECT id WHERE id > 1;
-- # a SELECT without FROM in a pipeline
CREATE PIPELINE p AS SELECT id WHERE id > 1;
-- # an address without quotes
CREATE CONNECTION c TO kafka (bootstrap_servers = 127.0.0.1:36211, topic = 't');
-- # a host without quotes
CREATE CONNECTION c TO kafka (bootstrap_servers = localhost:9092);
-- # a path without quotes
CREATE TABLE t (id INT) WITH (connector = 'memory', path = /tmp/x);
-- # an unknown name inside an expression
SELECT id, 'x' || nope FROM orders;
-- # an unknown name inside a function
SELECT id, upper(lower(nope)) FROM orders;
-- # a column that is not grouped
SELECT item, count(*) FROM orders;
-- # a column that is not among those grouped
SELECT item, id, count(*) FROM orders GROUP BY item;
-- # a sum of text
SELECT sum(item) FROM orders;
-- # an average of text
SELECT avg(item) FROM orders;
-- # rows from the top
SELECT TOP 5 id FROM orders;
-- # a table that is like no other
SELECT * FROM xyz;
-- # a system table that does not exist
SELECT * FROM system.pipeline;
-- # rows from the top of a pipeline
CREATE PIPELINE p AS SELECT TOP 5 id FROM orders;
-- # a system table with too many names
DESCRIBE system.a.b;
-- # text without quotes that looks like a column
SELECT * FROM orders WHERE item = itme;
-- # early results without a window
CREATE PIPELINE p AS
SELECT item, count(*) AS n FROM orders GROUP BY item
EMIT EVERY INTERVAL '1 minute';
-- # early results of sessions
CREATE PIPELINE p AS SELECT session(INTERVAL '1 minute') AS w, count(*) AS n FROM orders GROUP BY w EMIT EVERY INTERVAL '1 second';
-- # early results after no time
CREATE PIPELINE p AS SELECT tumble(INTERVAL '1 minute') AS w, count(*) AS n FROM orders GROUP BY w EMIT EVERY INTERVAL '-1 second';
-- # early results every month
CREATE PIPELINE p AS SELECT tumble(INTERVAL '1 minute') AS w, count(*) AS n FROM orders GROUP BY w EMIT EVERY INTERVAL '1 month';
-- # early results in too many parts
CREATE PIPELINE p AS SELECT tumble(INTERVAL '1 day') AS w, count(*) AS n FROM orders GROUP BY w EMIT EVERY INTERVAL '7 milliseconds';
-- # early results of what is answered once
SELECT count(*) FROM orders EMIT EVERY INTERVAL '1 minute';
-- # early results for a sink of inserts
CREATE PIPELINE p AS INSERT INTO out SELECT count(*) AS id, item, sum(price) AS price FROM orders GROUP BY item, tumble(INTERVAL '1 minute') EMIT EVERY INTERVAL '1 second';
-- # a checkpoint that may take no time
CREATE PIPELINE p WITH (checkpoint_timeout = 0) AS SELECT id FROM orders;
-- # a window of processing time over rows that have another time
CREATE PIPELINE p AS SELECT tumble(PROCTIME(), INTERVAL '1 minute') AS w, count(*) AS n FROM orders GROUP BY w;
-- # processing time with a delay
CREATE TABLE t (id INT, at TIMESTAMP GENERATED ALWAYS AS (PROCTIME()), WATERMARK FOR at AS at - INTERVAL '1 second') WITH (connector = 'memory');
-- # a watermark of a generated column
CREATE TABLE t (id INT, at TIMESTAMP GENERATED ALWAYS AS (now()), WATERMARK FOR at) WITH (connector = 'memory');
-- # processing time that waits
CREATE TABLE t (id INT, at TIMESTAMP GENERATED ALWAYS AS (PROCTIME()), WATERMARK FOR at) WITH (connector = 'memory', allowed_lateness = '1s');
-- # processing time by an option
CREATE TABLE t (id INT, at TIMESTAMP GENERATED ALWAYS AS (PROCTIME())) WITH (connector = 'memory', event_time_field = 'at');
-- # processing time into several transactions
CREATE TABLE t (id INT, at TIMESTAMP GENERATED ALWAYS AS (PROCTIME()), WATERMARK FOR at) WITH (connector = 'memory', type = 'source');
CREATE TABLE one (id INT) WITH (connector = 'kafka', bootstrap_servers = 'one:9092', topic = 'a', type = 'sink', format = 'json');
CREATE TABLE two (id INT) WITH (connector = 'kafka', bootstrap_servers = 'two:9092', topic = 'b', type = 'sink', format = 'json');
CREATE PIPELINE p AS BEGIN INSERT INTO one SELECT id FROM t; INSERT INTO two SELECT id FROM t; END;
-- # versions of a table without a key
CREATE PIPELINE p AS
SELECT a.id FROM orders a
JOIN orders FOR SYSTEM_TIME AS OF a.at AS b ON a.id = b.id;
-- # versions of a view
CREATE PIPELINE p AS SELECT a.id FROM orders a JOIN cheap FOR SYSTEM_TIME AS OF a.at AS b ON a.id = b.id;
-- # versions of nothing that is there
CREATE PIPELINE p AS SELECT a.id FROM orders a JOIN rates FOR SYSTEM_TIME AS OF a.at AS b ON a.id = b.id;
-- # versions of a part of the key
CREATE TABLE rates (item TEXT, shop INT, rate DOUBLE, PRIMARY KEY (item, shop)) WITH (connector = 'memory', type = 'source');
CREATE TABLE timed (id INT, item TEXT, at TIMESTAMP, WATERMARK FOR at) WITH (connector = 'memory', type = 'source');
CREATE PIPELINE p AS SELECT id FROM timed o JOIN rates FOR SYSTEM_TIME AS OF o.at AS r ON r.item = o.item;
-- # versions at another time
CREATE TABLE rates (item TEXT PRIMARY KEY, rate DOUBLE) WITH (connector = 'memory', type = 'source');
CREATE PIPELINE p AS SELECT id FROM orders o JOIN rates FOR SYSTEM_TIME AS OF o.at AS r ON r.item = o.item;
-- # versions now
CREATE TABLE rates (item TEXT PRIMARY KEY, rate DOUBLE) WITH (connector = 'memory', type = 'source');
CREATE PIPELINE p AS SELECT id FROM orders o JOIN rates FOR SYSTEM_TIME AS OF PROCTIME() AS r ON r.item = o.item;
-- # versions in a full join
CREATE PIPELINE p AS SELECT 1 FROM orders o FULL JOIN orders FOR SYSTEM_TIME AS OF o.at AS r ON r.item = o.item;
-- # versions without a join
CREATE PIPELINE p AS SELECT id FROM orders FOR SYSTEM_TIME AS OF now();
-- # versions by another clause
CREATE PIPELINE p AS SELECT id FROM orders o JOIN orders VERSION AS OF 3 AS b ON o.id = b.id;
-- # versions in a one-off query
SELECT a.id FROM orders a JOIN orders FOR SYSTEM_TIME AS OF a.at AS b ON a.id = b.id;
-- # backquotes around a column
SELECT `Id` FROM orders;
-- # backquotes around a table
CREATE TABLE `t` (id INT) WITH (connector = 'memory');
-- # a stream of ksqlDB
CREATE STREAM s (id INT) WITH (kafka_topic = 't', value_format = 'json');
-- # PRINT of ksqlDB
PRINT 'orders' FROM BEGINNING;
-- # LIST TOPICS of ksqlDB
LIST TOPICS;
-- # SHOW TOPICS of ksqlDB
SHOW TOPICS;
-- # SHOW STREAMS of ksqlDB
SHOW STREAMS;
-- # SHOW QUERIES of ksqlDB
SHOW QUERIES;
-- # SHOW DATABASES of Flink
SHOW DATABASES;
-- # TERMINATE of ksqlDB
TERMINATE query_1;
-- # EMIT CHANGES of ksqlDB
SELECT id FROM orders EMIT CHANGES;
-- # EMIT CHANGES of ksqlDB behind a condition
SELECT id FROM orders WHERE id > 1 EMIT CHANGES;
-- # EMIT FINAL of ksqlDB
SELECT item, count(*) FROM orders GROUP BY item EMIT FINAL;
-- # a window of ksqlDB
SELECT item, count(*) FROM orders WINDOW TUMBLING (SIZE 1 MINUTE) GROUP BY item;
-- # a row type of Flink
CREATE TABLE t (a ROW<x INT, y TEXT>) WITH (connector = 'memory');
-- # a timestamp type of Flink
CREATE TABLE t (a TIMESTAMP_LTZ(3)) WITH (connector = 'memory');
-- # a string type of Java
CREATE TABLE t (a UTF8) WITH (connector = 'memory');
-- # a function of Flink for JSON
SELECT json_value(payload, '$.a') FROM orders;
-- # a function of Flink for conditions
SELECT if(id > 1, 'a', 'b') FROM orders;
-- # a function of ksqlDB
SELECT ucase(item) FROM orders;
-- # a format of Java for times
SELECT date_format(at, 'yyyy-MM-dd') FROM orders;
-- # a format of Java for times in a pipeline
CREATE PIPELINE p AS SELECT to_char(at, 'YYYY-MM-DD') AS day FROM orders;
-- # a format of Java for text
SELECT to_timestamp(item, 'yyyy-MM-dd') FROM orders;
-- # an option of Flink that is a property
CREATE CONNECTION c TO kafka ('properties.bootstrap.servers' = 'h:9092');
-- # an option of Flink that only Java knows
CREATE CONNECTION c TO kafka (bootstrap_servers = 'h:9092', 'properties.sasl.jaas.config' = 'x');
-- # the topic of ksqlDB
CREATE TABLE t (id INT) WITH (connection = kafka_connection, kafka_topic = 't', type = 'source');
-- # the format of ksqlDB
CREATE TABLE t (id INT) WITH (connection = kafka_connection, topic = 't', value_format = 'json', type = 'source');
-- # the format of Flink
CREATE TABLE t (id INT) WITH (connection = kafka_connection, topic = 't', 'value.format' = 'json', type = 'source');
-- # the key's format of ksqlDB
CREATE TABLE t (id INT) WITH (connection = kafka_connection, topic = 't', key_format = 'json', type = 'source');
-- # the start of Flink
CREATE TABLE t (id INT) WITH (connection = kafka_connection, topic = 't', 'scan.startup.mode' = 'earliest-offset', type = 'source');
-- # the partitions of ksqlDB
CREATE TABLE t (id INT) WITH (connection = kafka_connection, topic = 't', partitions = 3, type = 'source');
-- # an option that is like none
CREATE TABLE t (id INT) WITH (connection = kafka_connection, topic = 't', zzz = 'json', type = 'source');
