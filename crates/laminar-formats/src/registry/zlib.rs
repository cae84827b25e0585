//! Bodies that are compressed by zlib, RFC 1950, as AWS Glue's are where their frame says so.
//!
//! The rule that must stay true: **a record that inflates to more than a limit is a bad record**, and not our memory's end.

use laminar_core::format::EncodedValues;
use miniz_oxide::deflate::core::{
    CompressorOxide, TDEFLFlush, TDEFLStatus, compress_to_output, create_comp_flags_from_zip_params,
};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_PARSE_ZLIB_HEADER, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use crate::fault::{Fault, fault};

/// Most bytes of a body: a topic's records have a megabyte unless their broker is set up otherwise, and text shrinks tenfold.
pub(super) const MAX_BODY: usize = 64 << 20;
/// Room that is kept from batch to batch.
const KEPT: usize = 1 << 20;
/// Room for a body at first.
const FIRST: usize = 4 << 10;
/// zlib's own default, and Java's.
const LEVEL: i32 = 6;
/// With zlib's header and checksum, and its largest window.
const WINDOW_BITS: i32 = 15;

/// Inflates one body after the other into the same room.
#[derive(Default)]
pub(super) struct Inflater {
    state: DecompressorOxide,
    room: Vec<u8>,
}

impl Inflater {
    /// The body that starts at `at`.
    pub fn body(&mut self, bytes: &[u8], at: usize) -> Result<&[u8], Fault> {
        let flags = TINFL_FLAG_PARSE_ZLIB_HEADER | TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        let mut rest = bytes.get(at..).unwrap_or_default();
        self.state.init();
        let mut filled = 0;
        loop {
            if filled == self.room.len() {
                if filled >= MAX_BODY {
                    self.room = Vec::new();
                    return Err(fault(at, format!("the compressed body is longer than {} MB", MAX_BODY >> 20)));
                }
                self.room.resize((2 * filled).clamp(FIRST, MAX_BODY), 0);
            }
            let (status, read, written) = decompress(&mut self.state, rest, &mut self.room, filled, flags);
            rest = rest.get(read..).unwrap_or_default();
            filled += written;
            match status {
                TINFLStatus::Done if rest.is_empty() => return Ok(self.room.get(..filled).unwrap_or_default()),
                TINFLStatus::Done => {
                    return Err(fault(bytes.len() - rest.len(), "bytes follow the compressed body"));
                }
                TINFLStatus::HasMoreOutput => {}
                TINFLStatus::Adler32Mismatch => {
                    return Err(fault(at, "the compressed body is damaged: its checksum is another"));
                }
                TINFLStatus::FailedCannotMakeProgress | TINFLStatus::NeedsMoreInput => {
                    return Err(fault(bytes.len(), "the value ends within its compressed body"));
                }
                _ => return Err(fault(bytes.len() - rest.len(), "the body is not compressed by zlib")),
            }
        }
    }

    /// A batch ends: room that few bodies need is given back.
    pub fn end_batch(&mut self) {
        if self.room.len() > KEPT {
            self.room = Vec::new();
        }
    }
}

/// Compresses the bodies of values that are written already.
pub(super) struct Deflater {
    state: CompressorOxide,
    /// The values as they were, reused from call to call.
    plain: Vec<u8>,
}

impl Deflater {
    pub fn new() -> Self {
        let flags = create_comp_flags_from_zip_params(LEVEL, WINDOW_BITS, 0);
        Self { state: CompressorOxide::new(flags), plain: Vec::new() }
    }

    /// Compresses all values from the one at `first` on but for their first `frame` bytes. `None`: it did not work, which does not
    /// happen.
    pub fn bodies(&mut self, out: &mut EncodedValues, first: usize, frame: usize) -> Option<()> {
        let start = first.checked_sub(1).map_or(Some(0), |last| out.ends.get(last).copied())?;
        self.plain.clear();
        self.plain.extend_from_slice(out.bytes.get(start..)?);
        out.bytes.truncate(start);
        let mut begin = 0;
        for end in out.ends.get_mut(first..)? {
            let value = self.plain.get(begin..*end - start)?;
            let (head, body) = value.split_at_checked(frame)?;
            out.bytes.extend_from_slice(head);
            self.state.reset();
            let (status, _) = compress_to_output(&mut self.state, body, TDEFLFlush::Finish, |part| {
                out.bytes.extend_from_slice(part);
                true
            });
            if status != TDEFLStatus::Done {
                return None;
            }
            begin = *end - start;
            *end = out.bytes.len();
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(texts: &[&[u8]]) -> EncodedValues {
        let mut values = EncodedValues::default();
        for text in texts {
            values.bytes.extend_from_slice(text);
            values.end_value();
        }
        values
    }

    #[test]
    fn bodies_come_back_and_frames_and_earlier_values_stay() {
        let long = [b"H".as_slice(), &[b'x'; 100_000]].concat();
        let mut out = values(&[b"before", b"Hbody", b"H", &long]);
        Deflater::new().bodies(&mut out, 1, 1).unwrap();
        assert_eq!(out.get(0), b"before");
        assert!(out.get(3).len() < 1000);
        let mut inflater = Inflater::default();
        for (index, body) in [(1, &b"body"[..]), (2, b""), (3, &long[1..]), (1, b"body")] {
            assert_eq!(out.get(index)[0], b'H');
            assert_eq!(inflater.body(out.get(index), 1).unwrap(), body);
        }
    }

    /// Made by Python: `zlib.compress(b"laminar")`.
    #[test]
    fn what_zlib_itself_made_is_read() {
        let bytes = [0x78, 0x9c, 0xcb, 0x49, 0xcc, 0xcd, 0xcc, 0x4b, 0x2c, 0x02, 0x00, 0x0b, 0x84, 0x02, 0xe5];
        assert_eq!(Inflater::default().body(&bytes, 0).unwrap(), b"laminar");
    }

    #[test]
    fn damage_and_bombs_are_faults() {
        let mut out = values(&[&[b'x'; 5000]]);
        Deflater::new().bodies(&mut out, 0, 0).unwrap();
        let whole = out.get(0).to_vec();
        let mut inflater = Inflater::default();
        for length in 0..whole.len() {
            let cut: Vec<u8> = whole.iter().copied().take(length).collect();
            assert!(inflater.body(&cut, 0).is_err(), "{length}");
        }
        let message = |bytes: &[u8]| Inflater::default().body(bytes, 0).unwrap_err().message;
        assert!(message(&[whole.as_slice(), b"!"].concat()).contains("follow"));
        assert!(message(b"not compressed").contains("not compressed"));
        let mut changed = whole.clone();
        *changed.last_mut().unwrap() ^= 1;
        assert!(message(&changed).contains("checksum"));
        let mut bomb = values(&[&vec![0; MAX_BODY + 1]]);
        Deflater::new().bodies(&mut bomb, 0, 0).unwrap();
        assert!(message(bomb.get(0)).contains("longer than 64 MB"));
        assert_eq!(inflater.body(&whole, 0).unwrap().len(), 5000);
    }
}
