-- The tables of the benchmark, and the small one of q13. $events: how many events the stream has; $batch_size: of the sources.
CREATE TABLE person (
  id BIGINT, name TEXT, email_address TEXT, credit_card TEXT, city TEXT, state TEXT, date_time TIMESTAMP, extra TEXT,
  WATERMARK FOR date_time AS date_time - INTERVAL '4 seconds'
) WITH (connector = 'nexmark', event = 'person', event_rate = 100, message_count = $events, shards = 2, batch_size = $batch_size);

CREATE TABLE auction (
  id BIGINT, item_name TEXT, description TEXT, initial_bid BIGINT, reserve BIGINT, date_time TIMESTAMP, expires TIMESTAMP,
  seller BIGINT, category BIGINT, extra TEXT,
  WATERMARK FOR date_time AS date_time - INTERVAL '4 seconds'
) WITH (connector = 'nexmark', event = 'auction', event_rate = 100, message_count = $events, shards = 2, batch_size = $batch_size);

CREATE TABLE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel TEXT, url TEXT, date_time TIMESTAMP, extra TEXT,
  WATERMARK FOR date_time AS date_time - INTERVAL '4 seconds'
) WITH (connector = 'nexmark', event = 'bid', event_rate = 100, message_count = $events, shards = 2, batch_size = $batch_size);

CREATE TABLE side_input (key BIGINT, value TEXT) WITH (connector = 'memory', format = 'json');

INSERT INTO side_input VALUES
  (0, 'zero'), (1, 'one'), (2, 'two'), (3, 'three'), (4, 'four'), (5, 'five'), (6, 'six'), (7, 'seven'), (8, 'eight'), (9, 'nine');
