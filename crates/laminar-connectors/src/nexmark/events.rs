//! Which event has which number: its kind, its time, the ids that exist by then.
//!
//! ```text
//!  number  0       1 2 3     4 … 49  │ 50      51 52 53  54 … 99 │ …
//!  event   person  auctions  bids    │ person  auctions  bids    │
//!  the     0th     0 1 2     0 … 45  │ 1st     3  4  5   46 … 91 │       of its kind, from 0
//! ```
//!
//! The rule: whatever an event names exists, made by an event of a smaller number, and an auction is open for as long as
//! bids name it.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::generator::mix;

const BLOCK: u64 = 50;
const PERSONS: u64 = 1;
const AUCTIONS: u64 = 3;
const BIDS: u64 = BLOCK - PERSONS - AUCTIONS;

/// Ids start here, so that they are seen not to be row numbers.
const FIRST_ID: u64 = 1000;
/// Bids are on one of so many last auctions.
const OPEN_AUCTIONS: u64 = 100;
/// Sellers and bidders are among so many last persons.
const ACTIVE_PERSONS: u64 = 1000;
/// One in so many ids is a hot one, for as long as it is the last such.
const HOT_EVERY: u64 = 100;
/// Events until an auction is no longer among the open ones: whole blocks, and one for where in its block it stands.
const OPEN_EVENTS: u64 = (OPEN_AUCTIONS / AUCTIONS + 1) * BLOCK;
/// Letters that texts are cut from.
const LETTERS: usize = 1 << 16;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Someone joins, to sell and to bid: `id` BIGINT, `name` TEXT, `email_address` TEXT, `credit_card` TEXT, `city` TEXT, `state`
    /// TEXT, `date_time` TIMESTAMP, `extra` TEXT.
    Person,
    /// A person sells something: `id` BIGINT, `item_name` TEXT, `description` TEXT, `initial_bid` BIGINT, `reserve` BIGINT,
    /// `date_time` TIMESTAMP, `expires` TIMESTAMP, `seller` BIGINT, `category` BIGINT, `extra` TEXT.
    Auction,
    /// A person bids on an auction: `auction` BIGINT, `bidder` BIGINT, `price` BIGINT, `channel` TEXT, `url` TEXT, `date_time`
    /// TIMESTAMP, `extra` TEXT.
    Bid,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Auction => "auction",
            Self::Bid => "bid",
        }
    }

    pub fn of(number: u64) -> Self {
        match number % BLOCK {
            at if at < PERSONS => Self::Person,
            at if at < PERSONS + AUCTIONS => Self::Auction,
            _ => Self::Bid,
        }
    }

    /// Where the kind starts in a block, and how many there are.
    fn place(self) -> (u64, u64) {
        match self {
            Self::Person => (0, PERSONS),
            Self::Auction => (PERSONS, AUCTIONS),
            Self::Bid => (PERSONS + AUCTIONS, BIDS),
        }
    }

    /// The part of all events that is of this kind.
    pub fn share(self) -> f64 {
        self.place().1 as f64 / BLOCK as f64
    }

    /// How many of the first `events` events are of this kind.
    pub fn among(self, events: u64) -> u64 {
        let (start, count) = self.place();
        events / BLOCK * count + (events % BLOCK).saturating_sub(start).min(count)
    }

    /// The event number of the kind's `index`th event, from 0.
    #[inline]
    pub fn number(self, index: u64) -> u64 {
        // Constant divisors: this runs for every row.
        let (block, at) = match self {
            Self::Person => (index, 0),
            Self::Auction => (index / AUCTIONS, PERSONS + index % AUCTIONS),
            Self::Bid => (index / BIDS, PERSONS + AUCTIONS + index % BIDS),
        };
        block.saturating_mul(BLOCK).saturating_add(at)
    }
}

/// What is drawn for an event; each value has a draw of its own.
#[derive(Clone, Copy, Debug)]
pub enum Draw {
    Name = 1,
    Email,
    Card,
    City,
    Extra,
    Item,
    Description,
    InitialBid,
    Reserve,
    Open,
    Seller,
    Category,
    Auction,
    Bidder,
    Price,
    Channel,
    Url,
}

/// The stream.
#[derive(Debug)]
pub struct Events {
    seed: u64,
    start: i64,
    micros_per_event: f64,
    letters: String,
}

impl Events {
    /// The first event happens at `start`, µs since 1970 UTC; `rate` follow in a second.
    pub fn new(seed: u64, start: i64, rate: f64) -> Self {
        let seed = mix(seed);
        let letter = |at: u64| char::from(b'a' + bounded(mix(seed ^ mix(!at)), 26) as u8);
        Self { seed, start, micros_per_event: 1e6 / rate, letters: (0..LETTERS as u64).map(letter).collect() }
    }

    /// 64 random bits.
    #[inline]
    pub fn draw(&self, number: u64, what: Draw) -> u64 {
        mix(mix(self.seed ^ number) ^ what as u64)
    }

    /// Random letters: where `draw` says, `length` of them.
    pub fn letters(&self, draw: u64, length: usize) -> &str {
        let from = bounded(draw, (LETTERS - length.min(LETTERS)) as u64) as usize;
        self.letters.get(from..from + length).unwrap_or_default()
    }

    /// When the event happens, µs since 1970 UTC.
    #[inline]
    pub fn time(&self, number: u64) -> i64 {
        self.start.saturating_add((number as f64 * self.micros_per_event) as i64)
    }

    /// When the auction that this event opens ends: after the last bid on it.
    pub fn expires(&self, number: u64) -> i64 {
        let longer = bounded(self.draw(number, Draw::Open), OPEN_EVENTS);
        self.time(number.saturating_add(OPEN_EVENTS + longer))
    }

    /// The id of the newest person when the event happens, which is the event's own if it is one.
    #[inline]
    pub fn last_person(&self, number: u64) -> i64 {
        id(number / BLOCK)
    }

    /// The id of the newest auction when the event happens, which is the event's own if it is one. There is one for every
    /// event but number 0.
    #[inline]
    pub fn last_auction(&self, number: u64) -> i64 {
        id(last_auction(number))
    }

    /// The auction that a bid is on: every second time the hot one, else one of the last.
    #[inline]
    pub fn chosen_auction(&self, number: u64) -> i64 {
        id(chosen(self.draw(number, Draw::Auction), last_auction(number), 2, OPEN_AUCTIONS, 0))
    }

    /// Who sells: three times in four the hot seller, else one of the last persons.
    pub fn chosen_seller(&self, number: u64) -> i64 {
        id(chosen(self.draw(number, Draw::Seller), number / BLOCK, 4, ACTIVE_PERSONS, 0))
    }

    /// Who bids: three times in four the hot bidder, who is another than the hot seller, else one of the last persons.
    pub fn chosen_bidder(&self, number: u64) -> i64 {
        id(chosen(self.draw(number, Draw::Bidder), number / BLOCK, 4, ACTIVE_PERSONS, 1))
    }
}

fn last_auction(number: u64) -> u64 {
    Kind::Auction.among(number.saturating_add(1)).saturating_sub(1)
}

/// The hot one but for one time in `rare`; then any of the last `recent` up to `last`.
#[inline]
fn chosen(draw: u64, last: u64, rare: u64, recent: u64, hot_offset: u64) -> u64 {
    // The draw's low bits say which way, its high bits which one.
    if !draw.is_multiple_of(rare) {
        return (last / HOT_EVERY * HOT_EVERY + hot_offset).min(last);
    }
    last - bounded(draw, recent.min(last + 1))
}

fn id(base: u64) -> i64 {
    i64::try_from(FIRST_ID + base).unwrap_or(i64::MAX)
}

/// Evenly from 0 to `span` - 1, by the high bits of the draw.
#[inline]
pub fn bounded(draw: u64, span: u64) -> u64 {
    ((u128::from(draw) * u128::from(span)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_come_in_the_fixed_order() {
        let kinds: String = (0..60).map(|n| Kind::of(n).as_str().chars().next().unwrap()).collect();
        assert_eq!(kinds, format!("paaa{}paaa{}", "b".repeat(46), "b".repeat(6)));
        for kind in [Kind::Person, Kind::Auction, Kind::Bid] {
            let numbers: Vec<u64> = (0..1000).filter(|n| Kind::of(*n) == kind).collect();
            assert_eq!((0..numbers.len() as u64).map(|i| kind.number(i)).collect::<Vec<_>>(), numbers);
            for events in 0..200 {
                let count = numbers.iter().filter(|n| **n < events).count() as u64;
                assert_eq!(kind.among(events), count, "{kind:?} among {events}");
            }
        }
    }

    #[test]
    fn what_is_named_exists_and_is_open() {
        let events = Events::new(7, 0, 3_000_000.0);
        let auction_event = |id: i64| Kind::Auction.number(id as u64 - FIRST_ID);
        for number in (0..20_000).chain(1 << 40..(1 << 40) + 20_000) {
            match Kind::of(number) {
                Kind::Person => assert_eq!(Kind::Person.number(events.last_person(number) as u64 - FIRST_ID), number),
                Kind::Auction => {
                    assert_eq!(auction_event(events.last_auction(number)), number);
                    assert!((1000..=events.last_person(number)).contains(&events.chosen_seller(number)));
                    assert!(events.time(number) < events.expires(number));
                }
                Kind::Bid => {
                    let opened = auction_event(events.chosen_auction(number));
                    assert!(opened < number);
                    let now = events.time(number);
                    assert!((events.time(opened)..=events.expires(opened)).contains(&now), "bid {number}");
                    assert!((1000..=events.last_person(number)).contains(&events.chosen_bidder(number)));
                }
            }
        }
    }

    #[test]
    fn some_are_hot() {
        let events = Events::new(0, 0, 1.0);
        let bids: Vec<u64> = (100_000..110_000).filter(|n| Kind::of(*n) == Kind::Bid).collect();
        let hot = |is_hot: &dyn Fn(u64) -> bool| bids.iter().filter(|n| is_hot(**n)).count() as f64 / bids.len() as f64;
        assert!((0.49..0.53).contains(&hot(&|n| events.chosen_auction(n) % 100 == 0)));
        assert!((0.73..0.78).contains(&hot(&|n| events.chosen_bidder(n) % 100 == 1)));
    }
}
