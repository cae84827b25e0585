//! How fast Protobuf becomes columns and columns become Protobuf, beside the library one would use instead.
//!
//! `cargo bench -p laminar-formats --bench protobuf -- [rows]` (3 million by default). Every contender gets the same bytes in the same
//! run: Nexmark-style bids of 7 fields, made by prost-reflect from a fixed seed. Time is the process's own CPU time, as the
//! machine may be shared; each figure is the best of three repetitions. prost-reflect makes its dynamic messages, and no columns yet.

mod bids;

use std::hint::black_box;

use bids::{Bid, CHUNK, Contender, Outcome, compare, rows_or, table};
use laminar_core::Changes;
use laminar_core::format::{Decoder, EncodedValues, Encoder};
use laminar_core::options::Options;
use laminar_formats::{FormatOptions, decoder, encoder};
use prost_reflect::prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor, Value};

const SCHEMA: &str = "syntax = 'proto3';
    message Bid { int64 auction = 1; int64 bidder = 2; int64 price = 3; string channel = 4; string url = 5; int64 date_time = 6;
                  string extra = 7; }";

fn message_type() -> Outcome<MessageDescriptor> {
    struct Text;
    impl protox::file::FileResolver for Text {
        fn open_file(&self, name: &str) -> Result<protox::file::File, protox::Error> {
            protox::file::File::from_source(name, SCHEMA)
        }
    }
    let mut compiler = protox::Compiler::with_file_resolver(Text);
    compiler.open_file("bid.proto")?;
    Ok(compiler.descriptor_pool().get_message_by_name("Bid").ok_or("no message Bid")?)
}

fn message(descriptor: &MessageDescriptor, bid: Bid) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    message.set_field_by_name("auction", Value::I64(bid.auction));
    message.set_field_by_name("bidder", Value::I64(bid.bidder));
    message.set_field_by_name("price", Value::I64(bid.price));
    message.set_field_by_name("channel", Value::String(bid.channel));
    message.set_field_by_name("url", Value::String(bid.url));
    message.set_field_by_name("date_time", Value::I64(bid.date_time));
    message.set_field_by_name("extra", Value::String(bid.extra));
    message
}

fn options() -> Outcome<FormatOptions> {
    Ok(Options::from_pairs([("format", "protobuf"), ("protobuf.schema", SCHEMA)]).parse("bench")?)
}

fn decode(decoder: &mut dyn Decoder, records: &[Vec<u8>], rows: impl FnMut(Changes)) -> Outcome<()> {
    bids::decode(decoder, records.iter().map(Vec::as_slice), rows)
}

fn main() -> Outcome<()> {
    let descriptor = message_type()?;
    let values = bids::bids(CHUNK, |bid| message(&descriptor, bid));
    let records: Vec<Vec<u8>> = values.iter().map(Message::encode_to_vec).collect();
    let bytes: usize = records.iter().map(Vec::len).sum();

    let mut sample = Vec::new();
    decode(decoder(&options()?, &table((0..7).collect()))?.as_mut(), &records, |changes| sample.push(changes))?;
    let mut all = decoder(&options()?, &table((0..7).collect()))?;
    let mut two = decoder(&options()?, &table(vec![0, 2]))?;
    let mut ours: Box<dyn Encoder> = encoder(&options()?, &table((0..7).collect()))?;
    let mut out = EncodedValues::default();
    let contenders: Vec<Contender<'_>> = vec![
        (
            "decode, 7 columns: prost-reflect, to messages",
            None,
            Box::new(|| {
                for record in &records {
                    black_box(DynamicMessage::decode(descriptor.clone(), record.as_slice())?);
                }
                Ok(())
            }),
        ),
        (
            "decode, 7 columns: laminar",
            Some(0),
            Box::new(|| decode(all.as_mut(), &records, |changes| drop(black_box(changes)))),
        ),
        (
            "decode, 2 columns: laminar",
            Some(0),
            Box::new(|| decode(two.as_mut(), &records, |changes| drop(black_box(changes)))),
        ),
        (
            "encode, 7 columns: prost-reflect, of messages",
            None,
            Box::new(|| {
                for value in &values {
                    black_box(value.encode_to_vec());
                }
                Ok(())
            }),
        ),
        (
            "encode, 7 columns: laminar",
            Some(3),
            Box::new(|| {
                for changes in &sample {
                    out.clear();
                    ours.encode(changes, &mut out)?;
                    black_box(&out);
                }
                Ok(())
            }),
        ),
    ];
    compare(contenders, bytes, rows_or(3_000_000))
}
