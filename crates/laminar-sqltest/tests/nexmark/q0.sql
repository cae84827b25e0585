-- Passing on: what it costs to do nothing.
SELECT auction, bidder, price, date_time, extra FROM bid
