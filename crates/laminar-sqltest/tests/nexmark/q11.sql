-- User sessions: how many bids someone made without a pause.
SELECT bidder, bid_count, window.start AS starttime, window.end AS endtime
FROM (
  SELECT bidder, count(*) AS bid_count, SESSION(INTERVAL '2' SECOND) AS window
  FROM bid
  GROUP BY bidder, window
)
