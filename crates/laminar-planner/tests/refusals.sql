-- # hop in SELECT without GROUP BY
CREATE PIPELINE p AS SELECT id, hop(INTERVAL '1 minute', INTERVAL '5 minutes') AS w FROM orders;
-- # cumulate in SELECT without GROUP BY
CREATE PIPELINE p AS SELECT id, cumulate(INTERVAL '1 minute', INTERVAL '5 minutes') AS w FROM orders;
-- # session in SELECT without GROUP BY
CREATE PIPELINE p AS SELECT id, session(INTERVAL '1 minute') AS w FROM orders;
-- # hop in WHERE
CREATE PIPELINE p AS SELECT id FROM orders
WHERE hop_end(INTERVAL '1 minute', INTERVAL '5 minutes') > TIMESTAMP '2024-01-01';
-- # session in a join condition
CREATE PIPELINE p AS SELECT a.id FROM orders a JOIN items b
ON a.id = b.id AND session(a.at, INTERVAL '1 minute') = session(b.at, INTERVAL '1 minute');
-- # hop inside an aggregate
CREATE PIPELINE p AS SELECT item, max(hop(INTERVAL '1 minute', INTERVAL '5 minutes')['end']) AS last
FROM orders GROUP BY item;
-- # hop inside the FILTER of an aggregate
CREATE PIPELINE p AS SELECT item, count(*) FILTER (WHERE hop_start(INTERVAL '1 minute', INTERVAL '5 minutes') > TIMESTAMP '2024-01-01') AS n
FROM orders GROUP BY item;
-- # hop in PARTITION BY
CREATE PIPELINE p AS SELECT id, row_number() OVER (PARTITION BY hop(INTERVAL '1 minute', INTERVAL '5 minutes') ORDER BY id) AS n FROM orders;
-- # session in ORDER BY of OVER
CREATE PIPELINE p AS SELECT id, row_number() OVER (ORDER BY session_start(INTERVAL '1 minute')) AS n FROM orders;
-- # hop in ORDER BY
CREATE PIPELINE p AS SELECT id FROM orders ORDER BY hop_start(INTERVAL '1 minute', INTERVAL '5 minutes') LIMIT 3;
-- # two windows in GROUP BY
CREATE PIPELINE p AS SELECT count(*) AS n FROM orders
GROUP BY item, tumble(INTERVAL '1 minute'), hop(INTERVAL '1 minute', INTERVAL '5 minutes');
-- # a window within an expression of GROUP BY
CREATE PIPELINE p AS SELECT count(*) AS n FROM orders GROUP BY date_trunc('hour', hop_end(INTERVAL '1 minute', INTERVAL '5 minutes'));
-- # a window of a column that is not the event time
CREATE PIPELINE p AS SELECT tumble(paid_at, INTERVAL '1 minute') AS w, count(*) AS n
FROM orders GROUP BY w;
-- # a session of a column that is not the event time
CREATE PIPELINE p AS SELECT item, session(paid_at, INTERVAL '1 minute') AS w, count(*) AS n FROM orders GROUP BY item, w;
-- # a window of a computed time
CREATE PIPELINE p AS SELECT count(*) AS n FROM orders GROUP BY hop(at + INTERVAL '1 hour', INTERVAL '1 minute', INTERVAL '5 minutes');
-- # a window of months
CREATE PIPELINE p AS SELECT tumble(INTERVAL '1 day') AS w, count(*) AS n FROM orders GROUP BY tumble(INTERVAL '1 day')
UNION ALL SELECT tumble(INTERVAL '1 month') AS w, count(*) AS n FROM orders GROUP BY tumble(INTERVAL '1 month');
-- # a window of no size
CREATE PIPELINE p AS SELECT count(*) AS n FROM orders GROUP BY tumble(INTERVAL '0 seconds');
-- # a window of a negative size
CREATE PIPELINE p AS SELECT count(*) AS n FROM orders GROUP BY hop(INTERVAL '1 second', INTERVAL '-5 seconds');
-- # a window whose size is a column
CREATE PIPELINE p AS SELECT count(*) AS n FROM orders GROUP BY tumble(price);
-- # a window whose size is a number
CREATE PIPELINE p AS SELECT count(*) AS n FROM orders GROUP BY item, session(30);
-- # a window without a size
CREATE PIPELINE p AS SELECT count(*) AS n FROM orders GROUP BY tumble(at);
-- # a window with too many sizes
CREATE PIPELINE p AS SELECT count(*) AS n FROM orders GROUP BY tumble(at, INTERVAL '1 minute', INTERVAL '1 minute');
-- # cumulate whose step does not divide its size
CREATE PIPELINE p AS SELECT count(*) AS n FROM orders GROUP BY cumulate(INTERVAL '2 minutes', INTERVAL '5 minutes');
-- # a window of rows that change
CREATE PIPELINE p AS SELECT tumble(INTERVAL '1 minute') AS w, count(*) AS n
FROM (SELECT item, count(*) AS c FROM orders GROUP BY item) GROUP BY w;
-- # the window of a row that changes
CREATE PIPELINE p AS SELECT tumble(INTERVAL '1 minute') AS w, item FROM (SELECT DISTINCT item FROM orders);
-- # a window of the rows of an outer join that may change
CREATE PIPELINE p AS SELECT session(INTERVAL '1 minute') AS w, count(*) AS n
FROM orders a LEFT JOIN items b ON a.id = b.id GROUP BY w;
-- # ROLLUP
CREATE PIPELINE p AS SELECT item, count(*) AS n FROM orders
GROUP BY ROLLUP (item);
-- # CUBE
CREATE PIPELINE p AS SELECT item, id, count(*) AS n FROM orders GROUP BY CUBE (item, id);
-- # GROUPING SETS
CREATE PIPELINE p AS SELECT item, id, count(*) AS n FROM orders GROUP BY GROUPING SETS ((item), (id), ());
-- # GROUP BY ALL
CREATE PIPELINE p AS SELECT item, count(*) AS n FROM orders GROUP BY ALL;
-- # a column that is not grouped
CREATE PIPELINE p AS SELECT item, price, count(*) AS n FROM orders GROUP BY item;
-- # an aggregate in WHERE
CREATE PIPELINE p AS SELECT item FROM orders WHERE count(*) > 1 GROUP BY item;
-- # an aggregate of an aggregate
CREATE PIPELINE p AS SELECT max(count(*)) AS n FROM orders GROUP BY item;
-- # a place in GROUP BY that does not exist
CREATE PIPELINE p AS SELECT item, count(*) AS n FROM orders GROUP BY 3;
-- # OVER in WHERE
CREATE PIPELINE p AS SELECT id FROM orders WHERE row_number() OVER (ORDER BY id) = 1;
-- # a function that needs OVER
CREATE PIPELINE p AS SELECT id, row_number() AS n FROM orders;
-- # a frame that ends before it starts
CREATE PIPELINE p AS SELECT sum(price) OVER (ORDER BY id ROWS BETWEEN 1 FOLLOWING AND 1 PRECEDING) AS s FROM orders;
-- # a frame of GROUPS without ORDER BY
CREATE PIPELINE p AS SELECT sum(price) OVER (PARTITION BY item GROUPS 1 PRECEDING) AS s FROM orders;
-- # ORDER BY without LIMIT
CREATE PIPELINE p AS SELECT id FROM orders ORDER BY id DESC;
-- # ORDER BY without LIMIT in a subquery
CREATE PIPELINE p AS SELECT id FROM (SELECT id FROM orders ORDER BY id) AS o;
-- # LIMIT without ORDER BY
CREATE PIPELINE p AS SELECT id FROM orders LIMIT 10;
-- # OFFSET alone
CREATE PIPELINE p AS SELECT id FROM orders ORDER BY id OFFSET 5;
-- # a LIMIT that is computed from a column
CREATE PIPELINE p AS SELECT id FROM orders ORDER BY id LIMIT id;
-- # a LIMIT that is a query
CREATE PIPELINE p AS SELECT id FROM orders ORDER BY id LIMIT (SELECT count(*) FROM items);
-- # FETCH FIRST
CREATE PIPELINE p AS SELECT id FROM orders FETCH FIRST 5 ROWS ONLY;
-- # LIMIT in the SELECT of a union
CREATE PIPELINE p AS (SELECT id FROM orders LIMIT 1) UNION ALL SELECT id FROM items;
-- # NOT IN with a subquery
CREATE PIPELINE p AS SELECT id FROM orders WHERE price > 1
AND id NOT IN (SELECT id FROM items);
-- # ANY with a subquery
CREATE PIPELINE p AS SELECT id FROM orders WHERE id = ANY (SELECT id FROM items);
-- # ALL with a subquery
CREATE PIPELINE p AS SELECT id FROM orders WHERE id > ALL (SELECT id FROM items);
-- # a scalar subquery of many rows
CREATE PIPELINE p AS SELECT id, (SELECT i.name FROM items i WHERE i.id = o.id) AS name FROM orders o;
-- # a subquery of several rows
CREATE PIPELINE p AS SELECT id FROM orders WHERE price > (SELECT id FROM items);
-- # a LIMIT of each outer row
CREATE PIPELINE p AS SELECT id, (SELECT i.name FROM items i WHERE i.id = o.id ORDER BY i.at LIMIT 1) AS name FROM orders o;
-- # a subquery as an argument
CREATE PIPELINE p AS SELECT array_length(ARRAY(SELECT id FROM items)) AS n FROM orders;
-- # tumble of no time in PARTITION BY
CREATE PIPELINE p AS SELECT id, count(*) OVER (PARTITION BY tumble(INTERVAL '1 minute')) AS n FROM orders;
-- # tumble of no time in a join condition
CREATE PIPELINE p AS SELECT a.id FROM orders a JOIN items b ON a.id = b.id AND tumble(INTERVAL '1 minute') = tumble(b.at, INTERVAL '1 minute');
-- # a scalar subquery of two columns
CREATE PIPELINE p AS SELECT id, (SELECT max(id), min(id) FROM items) AS pair FROM orders;
-- # IN with a subquery of two columns
CREATE PIPELINE p AS SELECT id FROM orders WHERE id IN (SELECT id, name FROM items);
-- # WITH RECURSIVE
CREATE PIPELINE p AS WITH RECURSIVE r AS (SELECT id FROM orders UNION ALL SELECT id + 1 FROM r) SELECT id FROM r;
-- # VALUES
CREATE PIPELINE p AS SELECT id FROM orders UNION ALL VALUES (1);
-- # VALUES in FROM
CREATE PIPELINE p AS SELECT o.id FROM orders o JOIN (VALUES (1, 'a')) AS v(id, name) ON o.id = v.id;
-- # a SELECT without FROM
CREATE PIPELINE p AS SELECT id FROM orders UNION ALL SELECT 1 AS id;
-- # MINUS
CREATE PIPELINE p AS SELECT id FROM orders MINUS SELECT id FROM items;
-- # UNION BY NAME
CREATE PIPELINE p AS SELECT id FROM orders UNION BY NAME SELECT id FROM items;
-- # INTERSECT ALL
CREATE PIPELINE p AS SELECT id FROM orders INTERSECT ALL SELECT id FROM items;
-- # EXCEPT ALL
CREATE PIPELINE p AS SELECT id FROM orders EXCEPT ALL SELECT id FROM items;
-- # a session in FROM that is not grouped
CREATE PIPELINE p AS SELECT * FROM SESSION(TABLE orders, DESCRIPTOR(at), INTERVAL '1 minute');
-- # a session in FROM of other keys than those grouped
CREATE PIPELINE p AS SELECT item, window_end, count(*) AS n
FROM SESSION(TABLE orders PARTITION BY id, DESCRIPTOR(at), INTERVAL '1 minute') GROUP BY item, window_start, window_end;
-- # a window in FROM without DESCRIPTOR
CREATE PIPELINE p AS SELECT * FROM TUMBLE(TABLE orders, INTERVAL '1 minute');
-- # a window in FROM without TABLE
CREATE PIPELINE p AS SELECT * FROM TUMBLE(orders, DESCRIPTOR(at), INTERVAL '1 minute');
-- # a window in FROM with an offset
CREATE PIPELINE p AS SELECT * FROM TUMBLE(TABLE orders, DESCRIPTOR(at), INTERVAL '1 minute', INTERVAL '10 seconds');
-- # a window in FROM with an argument that it does not have
CREATE PIPELINE p AS SELECT * FROM HOP(DATA => TABLE orders, TIMECOL => DESCRIPTOR(at), SLIDE => INTERVAL '1 minute', GAP => INTERVAL '1 minute');
-- # a window in FROM with PARTITION BY
CREATE PIPELINE p AS SELECT * FROM TUMBLE(TABLE orders PARTITION BY id, DESCRIPTOR(at), INTERVAL '1 minute');
-- # a window in FROM of no size
CREATE PIPELINE p AS SELECT * FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(at), INTERVAL '0 seconds'));
-- # a window in FROM of a column that is not the event time
CREATE PIPELINE p AS SELECT window_end, count(*) AS n
FROM HOP(TABLE orders, DESCRIPTOR(paid_at), INTERVAL '1 minute', INTERVAL '5 minutes') GROUP BY window_start, window_end;
-- # a window in FROM of a table that is not there
CREATE PIPELINE p AS SELECT * FROM TUMBLE(TABLE ordres, DESCRIPTOR(at), INTERVAL '1 minute');
-- # a union of other columns
CREATE PIPELINE p AS SELECT id, item FROM orders UNION ALL SELECT id FROM items;
-- # a union of other types
CREATE PIPELINE p AS SELECT at FROM orders UNION ALL SELECT tags FROM items;
-- # a table function
CREATE PIPELINE p AS SELECT value FROM generate_series(1, 10);
-- # unnest in FROM
CREATE PIPELINE p AS SELECT u.tag FROM items, UNNEST(tags) AS u(tag);
-- # unnest in WHERE
CREATE PIPELINE p AS SELECT id FROM items WHERE unnest(tags) = 'a';
-- # unnest of a number
CREATE PIPELINE p AS SELECT unnest(id) AS x FROM orders;
-- # LATERAL
CREATE PIPELINE p AS SELECT o.id, l.name FROM orders o, LATERAL (SELECT name FROM items i WHERE i.id = o.id) AS l;
-- # PIVOT
CREATE PIPELINE p AS SELECT * FROM orders PIVOT (sum(price) FOR item IN ('a', 'b'));
-- # TABLESAMPLE
CREATE PIPELINE p AS SELECT id FROM orders TABLESAMPLE BERNOULLI (10);
-- # an ASOF join
CREATE PIPELINE p AS SELECT o.id FROM orders o ASOF JOIN items i MATCH_CONDITION (o.at >= i.at) ON o.id = i.id;
-- # USING a column that one side lacks
CREATE PIPELINE p AS SELECT name FROM orders JOIN items USING (item);
-- # a join condition that is no condition
CREATE PIPELINE p AS SELECT a.id FROM orders a JOIN items b ON a.price;
-- # a system table
CREATE PIPELINE p AS SELECT o.id FROM orders o JOIN system.connections c ON c.name = o.item;
-- # a sink that is read
CREATE PIPELINE p AS SELECT o.id FROM orders o JOIN out ON out.id = o.id;
-- # updates into a sink that only adds
CREATE PIPELINE p AS INSERT INTO out SELECT count(*), item, max(price) FROM orders GROUP BY item;
-- # a top-N into a sink that only adds
CREATE PIPELINE p AS INSERT INTO out SELECT id, item, price FROM orders ORDER BY price DESC LIMIT 3;
-- # a join that updates into a sink that only adds
CREATE PIPELINE p AS INSERT INTO out SELECT a.id, b.name, a.price FROM orders a LEFT JOIN items b ON a.id = b.id;
-- # DISTINCT into a sink that only adds
CREATE PIPELINE p AS INSERT INTO out (id) SELECT DISTINCT id FROM orders;
-- # EXCEPT into a sink that only adds
CREATE PIPELINE p AS INSERT INTO out (id) SELECT id FROM orders EXCEPT SELECT id FROM items;
-- # OVER into a sink that only adds
CREATE PIPELINE p AS INSERT INTO out (id, price) SELECT id, sum(price) OVER (PARTITION BY item ORDER BY id) FROM orders;
-- # a session that updates into a sink that only adds, as its rows were grouped before
CREATE PIPELINE p AS INSERT INTO out (id) SELECT max(n) FROM (SELECT tumble(INTERVAL '1 minute') AS w, count(*) AS n FROM orders GROUP BY w);
-- # FOR UPDATE
CREATE PIPELINE p AS SELECT id FROM orders FOR UPDATE;
-- # SELECT INTO
CREATE PIPELINE p AS SELECT id INTO elsewhere FROM orders;
-- # CLUSTER BY
CREATE PIPELINE p AS SELECT id FROM orders CLUSTER BY id;
-- # a QUALIFY of no OVER
CREATE PIPELINE p AS SELECT id FROM orders QUALIFY id > 1;
-- # wrong arguments of an aggregate
CREATE PIPELINE p AS SELECT item, sum(item) AS s FROM orders GROUP BY item;
-- # wrong arguments of an aggregate, in HAVING
CREATE PIPELINE p AS SELECT item FROM orders GROUP BY item HAVING avg(payload) > 1;
-- # wrong arguments in GROUP BY
CREATE PIPELINE p AS SELECT count(*) AS n FROM orders GROUP BY abs(item);
-- # a wrong operator in a join
CREATE PIPELINE p AS SELECT a.id FROM orders a JOIN items b ON a.id = b.id AND a.at + b.at > 1;
-- # a wrong operator in a subquery
CREATE PIPELINE p AS SELECT n FROM (
  SELECT item, price + payload AS n FROM orders
) WHERE n > 1;
-- # a wrong operator in a CTE
CREATE PIPELINE p AS WITH sums AS (SELECT item || 1 - payload AS n FROM orders) SELECT n FROM sums;
-- # hop outside GROUP BY, inside a view
CREATE VIEW hopped AS SELECT id, hop(INTERVAL '1 minute', INTERVAL '5 minutes') AS w FROM orders;
CREATE PIPELINE p AS SELECT h.id, h.w FROM items i JOIN hopped h ON h.id = i.id;
-- # the time, of rows that change
CREATE PIPELINE p AS SELECT item, count(*) AS n, now() AS at FROM orders GROUP BY item;
-- # the time, in a condition on rows that change
CREATE PIPELINE p AS SELECT item FROM (SELECT item, max(at) AS last FROM orders GROUP BY item) WHERE last > now() - INTERVAL '1 hour';
-- # a random number, of rows that change
CREATE PIPELINE p AS SELECT a.item, a.n FROM (SELECT item, count(*) AS n FROM orders GROUP BY item) a JOIN items b ON a.n = b.id AND b.id * random() < a.n;
-- # a frame by the distance of windows
CREATE PIPELINE p AS SELECT item, row_number() OVER (PARTITION BY item ORDER BY w DESC) AS n FROM (SELECT item, tumble(INTERVAL '1 minute') AS w, count(*) AS n FROM orders GROUP BY item, w);
-- # a join that does not say on what
CREATE PIPELINE p AS SELECT a.id FROM orders a JOIN items b WHERE a.id = b.id;
