//! Server-Sent Events from bytes, as they arrive in pieces of any size.
//!
//! ```text
//! event: rows⏎data: {"rows":[[1]]}⏎⏎   →   Event { name: "rows", data: "{\"rows\":[[1]]}" }
//! ```
//!
//! After the "Server-sent events" section of the HTML standard; without `id` and `retry`, which our server does not send.

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    pub name: String,
    pub data: String,
}

/// An event that is longer is not one of ours.
const MAX_EVENT_BYTES: usize = 256 << 20;

/// The reader: bytes in, events out.
#[derive(Debug, Default)]
pub struct Events {
    /// Bytes after the last line break.
    pending: Vec<u8>,
    /// The event that the lines so far belong to.
    open: Event,
    ready: std::collections::VecDeque<Event>,
}

impl Events {
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end);
            self.pending.extend_from_slice(line);
            let line = std::mem::take(&mut self.pending);
            self.line(std::str::from_utf8(&line).map_err(|_| "it is not UTF-8")?.trim_end_matches('\r'));
            rest = after.get(1..).unwrap_or_default();
        }
        self.pending.extend_from_slice(rest);
        if self.pending.len() + self.open.data.len() > MAX_EVENT_BYTES { Err("an event is too large") } else { Ok(()) }
    }

    pub fn pop(&mut self) -> Option<Event> {
        self.ready.pop_front()
    }

    fn line(&mut self, line: &str) {
        if line.is_empty() {
            let event = std::mem::take(&mut self.open);
            if !event.data.is_empty() {
                self.ready.push_back(event);
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.open.name = value.to_string(),
            "data" => {
                if !self.open.data.is_empty() {
                    self.open.data.push('\n');
                }
                self.open.data.push_str(value);
            }
            _ => {} // a comment, or a field that is not for us
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_do_not_depend_on_how_bytes_arrive() {
        let text = ": hello\n\nevent: rows\r\ndata: {\"é\":1}\r\n\r\nevent:end\ndata:{}\n\n".as_bytes();
        let expected = [("rows", "{\"é\":1}"), ("end", "{}")].map(|(n, d)| Event { name: n.into(), data: d.into() });
        for size in 1..=text.len() {
            let mut events = Events::default();
            for piece in text.chunks(size) {
                events.push(piece).unwrap();
            }
            assert_eq!([events.pop().unwrap(), events.pop().unwrap()], expected);
            assert_eq!(events.pop(), None);
        }
    }
}
