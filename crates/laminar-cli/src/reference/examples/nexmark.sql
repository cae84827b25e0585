CREATE TABLE bid (auction BIGINT, bidder BIGINT, price BIGINT, date_time TIMESTAMP, WATERMARK FOR date_time AS date_time - INTERVAL '4 seconds')
WITH (connector = 'nexmark', event = 'bid', event_rate = 1000);

CREATE PIPELINE hot_items AS
SELECT auction, tumble(INTERVAL '10 seconds') AS window, count(*) AS bids, max(price) AS highest FROM bid GROUP BY auction, window;
