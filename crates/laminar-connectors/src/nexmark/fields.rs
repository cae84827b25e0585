//! Every value of an event, by the name of its column: a pure function of the event's number.

use std::fmt::Write;

use arrow::datatypes::DataType;
use laminar_core::table::timestamp_type;

use super::events::{Draw, Events, Kind, bounded};
use crate::generator::mix;

/// A column of one kind of event, and how its value is made.
#[derive(Debug)]
pub struct Field {
    pub name: &'static str,
    pub make: Make,
}

/// A value of the event with this number.
#[derive(Clone, Copy, Debug)]
pub enum Make {
    Number(fn(&Events, u64) -> i64),
    /// µs since 1970 UTC.
    Time(fn(&Events, u64) -> i64),
    /// Appends the text.
    Text(fn(&Events, u64, &mut String)),
}

impl Field {
    pub fn data_type(&self) -> DataType {
        match self.make {
            Make::Number(_) => DataType::Int64,
            Make::Time(_) => timestamp_type(),
            Make::Text(_) => DataType::Utf8,
        }
    }
}

const fn number(name: &'static str, make: fn(&Events, u64) -> i64) -> Field {
    Field { name, make: Make::Number(make) }
}
const fn time(name: &'static str, make: fn(&Events, u64) -> i64) -> Field {
    Field { name, make: Make::Time(make) }
}
const fn text(name: &'static str, make: fn(&Events, u64, &mut String)) -> Field {
    Field { name, make: Make::Text(make) }
}

static PERSON: [Field; 8] = [
    number("id", Events::last_person),
    text("name", name),
    text("email_address", email_address),
    text("credit_card", credit_card),
    text("city", |events, number, out| out.push_str(home(events, number).0)),
    text("state", |events, number, out| out.push_str(home(events, number).1)),
    time("date_time", Events::time),
    text("extra", |events, number, out| extra(events, number, 100, out)),
];

static AUCTION: [Field; 10] = [
    number("id", Events::last_auction),
    text("item_name", |events, number, out| out.push_str(events.letters(events.draw(number, Draw::Item), 20))),
    text("description", |events, number, out| {
        out.push_str(events.letters(events.draw(number, Draw::Description), 100));
    }),
    number("initial_bid", initial_bid),
    number("reserve", |events, number| {
        initial_bid(events, number).saturating_add(price(events.draw(number, Draw::Reserve)))
    }),
    time("date_time", Events::time),
    time("expires", Events::expires),
    number("seller", Events::chosen_seller),
    number("category", |events, number| 10 + bounded(events.draw(number, Draw::Category), 5) as i64),
    text("extra", |events, number, out| extra(events, number, 300, out)),
];

static BID: [Field; 7] = [
    number("auction", Events::chosen_auction),
    number("bidder", Events::chosen_bidder),
    number("price", |events, number| price(events.draw(number, Draw::Price))),
    text("channel", channel),
    text("url", url),
    time("date_time", Events::time),
    text("extra", |events, number, out| extra(events, number, 50, out)),
];

/// The columns of a kind, in the benchmark's order.
pub fn fields(kind: Kind) -> &'static [Field] {
    match kind {
        Kind::Person => &PERSON,
        Kind::Auction => &AUCTION,
        Kind::Bid => &BID,
    }
}

const FIRST_NAMES: [&str; 12] =
    ["Ada", "Bela", "Clara", "David", "Emil", "Fatima", "Grace", "Hugo", "Ines", "Jonas", "Kate", "Luis"];
const LAST_NAMES: [&str; 10] =
    ["Abrams", "Becker", "Costa", "Dubois", "Evans", "Farkas", "Garcia", "Haruki", "Ivanov", "Jones"];
/// Cities with their states; half of them are in those that query 3 asks for (OR, ID, CA).
const CITIES: [(&str, &str); 10] = [
    ("Phoenix", "AZ"),
    ("Los Angeles", "CA"),
    ("San Francisco", "CA"),
    ("Boise", "ID"),
    ("Portland", "OR"),
    ("Bend", "OR"),
    ("Redmond", "WA"),
    ("Seattle", "WA"),
    ("Kent", "WA"),
    ("Cheyenne", "WY"),
];
/// Every second bid comes through one of these; query 21 knows them.
const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];
const CHANNELS: u64 = 10_000;

fn pick<T: Copy>(values: &[T], draw: u64, none: T) -> T {
    values.get(bounded(draw, values.len() as u64) as usize).copied().unwrap_or(none)
}

fn name(events: &Events, number: u64, out: &mut String) {
    let draw = events.draw(number, Draw::Name);
    out.push_str(pick(&FIRST_NAMES, draw, ""));
    out.push(' ');
    out.push_str(pick(&LAST_NAMES, mix(draw), ""));
}

fn email_address(events: &Events, number: u64, out: &mut String) {
    let draw = events.draw(number, Draw::Email);
    out.push_str(events.letters(draw, 7));
    out.push('@');
    out.push_str(events.letters(mix(draw), 5));
    out.push_str(".com");
}

fn credit_card(events: &Events, number: u64, out: &mut String) {
    let draw = events.draw(number, Draw::Card);
    let four = |at: u32| (((draw >> (16 * at)) & 0xffff) * 10_000) >> 16;
    // Writing to a String cannot fail, here and below.
    let _ = write!(out, "{:04} {:04} {:04} {:04}", four(0), four(1), four(2), four(3));
}

fn home(events: &Events, number: u64) -> (&'static str, &'static str) {
    pick(&CITIES, events.draw(number, Draw::City), ("", ""))
}

/// Letters that make an event as long as others of its kind: `shortest` to twice that many.
fn extra(events: &Events, number: u64, shortest: usize, out: &mut String) {
    let draw = events.draw(number, Draw::Extra);
    out.push_str(events.letters(draw, shortest + bounded(mix(draw), shortest as u64) as usize));
}

fn initial_bid(events: &Events, number: u64) -> i64 {
    price(events.draw(number, Draw::InitialBid))
}

/// Cents: 1 to a million units, all orders of magnitude alike.
fn price(draw: u64) -> i64 {
    let unit = (draw >> 11) as f64 / (1u64 << 53) as f64;
    (10f64.powf(unit * 6.0) * 100.0).round() as i64
}

/// The number of a bid's channel; the first are the hot ones.
fn channel_number(events: &Events, number: u64) -> u64 {
    let draw = events.draw(number, Draw::Channel);
    let hot = HOT_CHANNELS.len() as u64;
    if draw & 1 == 0 { bounded(draw, hot) } else { hot + bounded(draw, CHANNELS) }
}

fn channel(events: &Events, number: u64, out: &mut String) {
    let channel = channel_number(events, number);
    match HOT_CHANNELS.get(channel as usize) {
        Some(hot) => out.push_str(hot),
        None => {
            let _ = write!(out, "channel-{}", channel - HOT_CHANNELS.len() as u64);
        }
    }
}

/// The channel's page: three folders, and for nine in ten of those that are not hot its id.
fn url(events: &Events, number: u64, out: &mut String) {
    let channel = channel_number(events, number);
    let draw = events.draw(channel, Draw::Url);
    out.push_str("https://www.nexmark.com/");
    for folder in 0..3 {
        out.push_str(events.letters(mix(draw ^ folder), 5));
        out.push('/');
    }
    out.push_str("item.htm?query=1");
    if channel >= HOT_CHANNELS.len() as u64 && !draw.is_multiple_of(10) {
        let _ = write!(out, "&channel_id={}", draw >> 33);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_spread_over_six_digits() {
        let events = Events::new(0, 0, 1.0);
        let mut counts = [0; 6];
        for number in 0..60_000 {
            let price = price(events.draw(number, Draw::Price));
            counts[(price / 100).ilog10() as usize] += 1;
        }
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
    }

    #[test]
    fn urls_have_three_folders_and_a_channel() {
        let events = Events::new(0, 0, 1.0);
        let (mut hot, mut with_id) = (0, 0);
        for number in 0..10_000 {
            let (mut from, mut page) = (String::new(), String::new());
            channel(&events, number, &mut from);
            url(&events, number, &mut page);
            let parts: Vec<&str> = page.split('/').collect();
            assert_eq!((parts.len(), parts[2]), (7, "www.nexmark.com"), "{page}");
            assert!(parts[3..6].iter().all(|folder| folder.len() == 5), "{page}");
            hot += usize::from(!from.starts_with("channel-"));
            with_id += usize::from(page.contains("&channel_id="));
        }
        assert!((4_800..5_200).contains(&hot), "{hot}");
        assert!((4_300..4_700).contains(&with_id), "{with_id}");
    }
}
