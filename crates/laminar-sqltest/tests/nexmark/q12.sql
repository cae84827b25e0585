-- Bids of a user in each window. The benchmark has windows of the time of processing; these are of event time.
SELECT bidder, bid_count, window.start AS starttime, window.end AS endtime
FROM (
  SELECT bidder, count(*) AS bid_count, TUMBLE(INTERVAL '10' SECOND) AS window
  FROM bid
  GROUP BY bidder, window
)
