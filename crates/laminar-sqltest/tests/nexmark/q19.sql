-- The ten best bids of each auction. Of equal prices the earlier one is better, so that the answer is one.
SELECT auction, bidder, price, channel, url, date_time, extra, rank_number
FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY auction ORDER BY price DESC, date_time) AS rank_number
  FROM bid
)
WHERE rank_number <= 10
