//! JSONPath: the part of RFC 9535 that names places. Filters `?()` are refused when the path is read.
//!
//! ```text
//! $  .name  ['name']  [0]  [-1]  [1:3]  [::2]  [*]  .*  ..name  ['a','b']
//! ```

use serde_json::Value;

/// Nodes that one path may visit: `$..*..*` on a large document would not end.
const MAX_NODES: usize = 100_000;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct JsonPath(Vec<Segment>);

#[derive(Debug, Clone, PartialEq)]
struct Segment {
    /// `..`: also in everything below.
    descends: bool,
    selectors: Vec<Selector>,
}

#[derive(Debug, Clone, PartialEq)]
enum Selector {
    Name(String),
    Index(i64),
    Slice { start: Option<i64>, end: Option<i64>, step: i64 },
    All,
}

impl JsonPath {
    /// An error says what is wrong with the path.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut reader = Reader { text, rest: text.trim() };
        reader.rest = reader.rest.strip_prefix('$').ok_or_else(|| reader.error("it must begin with $"))?;
        let mut segments = Vec::new();
        while !reader.rest.is_empty() {
            segments.push(reader.segment()?);
        }
        Ok(Self(segments))
    }

    /// The values at the path, in document order.
    pub fn find<'a>(&self, root: &'a Value) -> Vec<&'a Value> {
        let mut nodes = vec![root];
        for segment in &self.0 {
            let mut found = Vec::new();
            for node in nodes {
                segment.select(node, &mut found);
                if found.len() > MAX_NODES {
                    found.truncate(MAX_NODES);
                    break;
                }
            }
            nodes = found;
        }
        nodes
    }
}

impl Segment {
    fn select<'a>(&self, node: &'a Value, found: &mut Vec<&'a Value>) {
        if !self.descends {
            self.selectors.iter().for_each(|selector| selector.select(node, found));
            return;
        }
        let mut pending = vec![node];
        while let Some(node) = pending.pop() {
            self.selectors.iter().for_each(|selector| selector.select(node, found));
            if found.len() > MAX_NODES || pending.len() > MAX_NODES {
                return;
            }
            // the first child is to be visited next
            match node {
                Value::Object(fields) => pending.extend(fields.values().rev()),
                Value::Array(items) => pending.extend(items.iter().rev()),
                _ => {}
            }
        }
    }
}

impl Selector {
    fn select<'a>(&self, node: &'a Value, found: &mut Vec<&'a Value>) {
        match (self, node) {
            (Self::Name(name), Value::Object(fields)) => found.extend(fields.get(name)),
            (Self::Index(index), Value::Array(items)) => {
                found.extend(position(*index, items.len()).and_then(|i| items.get(i)))
            }
            (Self::Slice { start, end, step }, Value::Array(items)) => slice(*start, *end, *step, items, found),
            (Self::All, Value::Array(items)) => found.extend(items),
            (Self::All, Value::Object(fields)) => found.extend(fields.values()),
            _ => {}
        }
    }
}

fn position(index: i64, len: usize) -> Option<usize> {
    let len = i64::try_from(len).ok()?;
    usize::try_from(if index < 0 { len + index } else { index }).ok()
}

/// RFC 9535, section 2.3.4.2.2.
fn slice<'a>(start: Option<i64>, end: Option<i64>, step: i64, items: &'a [Value], found: &mut Vec<&'a Value>) {
    let Ok(len) = i64::try_from(items.len()) else { return };
    let from_end = |i: i64| if i < 0 { len.saturating_add(i) } else { i };
    let (default_start, default_end) = if step > 0 { (0, len) } else { (len - 1, -len - 1) };
    let start = from_end(start.unwrap_or(default_start));
    let end = from_end(end.unwrap_or(default_end));
    let (mut i, stop) = if step > 0 {
        (start.clamp(0, len), end.clamp(0, len))
    } else {
        (start.clamp(-1, len - 1), end.clamp(-1, len - 1))
    };
    while (step > 0 && i < stop) || (step < 0 && i > stop) {
        found.extend(usize::try_from(i).ok().and_then(|i| items.get(i)));
        i = i.saturating_add(step);
    }
}

struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn error(&self, what: &str) -> String {
        let at = self.text.len() - self.rest.len();
        format!("'{}' is not a JSON path: {what} (at byte {at})", self.text)
    }

    fn take(&mut self, prefix: &str) -> bool {
        match self.rest.strip_prefix(prefix) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn segment(&mut self) -> Result<Segment, String> {
        let descends = self.take("..");
        if self.take("[") {
            return Ok(Segment { descends, selectors: self.bracket()? });
        }
        if !descends && !self.take(".") {
            return Err(self.error("expected '.', '..' or '['"));
        }
        let selector = if self.take("*") { Selector::All } else { Selector::Name(self.bare_name()?) };
        Ok(Segment { descends, selectors: vec![selector] })
    }

    fn bare_name(&mut self) -> Result<String, String> {
        let end = self.rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-')).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        if name.is_empty() {
            return Err(self.error("expected a name"));
        }
        self.rest = rest;
        Ok(name.to_string())
    }

    fn bracket(&mut self) -> Result<Vec<Selector>, String> {
        let mut selectors = Vec::new();
        loop {
            self.blanks();
            selectors.push(self.selector()?);
            self.blanks();
            if self.take("]") {
                return Ok(selectors);
            }
            if !self.take(",") {
                return Err(self.error("expected ',' or ']'"));
            }
        }
    }

    fn selector(&mut self) -> Result<Selector, String> {
        if self.take("*") {
            return Ok(Selector::All);
        }
        if self.rest.starts_with('?') {
            return Err(self.error("filters ?(…) are not supported"));
        }
        if let Some(quote) = self.rest.chars().next().filter(|c| matches!(c, '\'' | '"')) {
            return self.quoted(quote).map(Selector::Name);
        }
        let start = self.integer()?;
        self.blanks();
        if !self.take(":") {
            return start.map(Selector::Index).ok_or_else(|| self.error("expected a name, an index, a slice or *"));
        }
        self.blanks();
        let end = self.integer()?;
        self.blanks();
        let step = if self.take(":") {
            self.blanks();
            self.integer()?.unwrap_or(1)
        } else {
            1
        };
        Ok(Selector::Slice { start, end, step })
    }

    fn integer(&mut self) -> Result<Option<i64>, String> {
        let digits = self.rest.find(|c: char| !(c.is_ascii_digit() || c == '-')).unwrap_or(self.rest.len());
        let (number, rest) = self.rest.split_at(digits);
        if number.is_empty() {
            return Ok(None);
        }
        let number = number.parse().map_err(|_| self.error("expected an integer"))?;
        self.rest = rest;
        Ok(Some(number))
    }

    fn quoted(&mut self, quote: char) -> Result<String, String> {
        let mut name = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => match chars.next() {
                    Some((_, escaped @ ('\\' | '\'' | '"' | '/'))) => name.push(escaped),
                    _ => return Err(self.error("only quotes, / and \\ can be escaped")),
                },
                c if c == quote => {
                    self.rest = self.rest.get(at + 1..).unwrap_or_default();
                    return Ok(name);
                }
                c => name.push(c),
            }
        }
        Err(self.error("a quoted name does not end"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expected: &str) {
        let json: Value = serde_json::from_str(r#"{"a":{"b":[1,2,3,{"b":4}]},"x y":5,"c":null}"#).unwrap();
        let actual = match JsonPath::parse(path) {
            Ok(path) => serde_json::to_string(&path.find(&json)).unwrap(),
            Err(error) => error,
        };
        assert_eq!(actual, expected);
    }

    #[test]
    fn paths_name_places() {
        check("$.a.b[0]", "[1]");
        check("$['a'][\"b\"][-1].b", "[4]");
        check("$['x y']", "[5]");
        check("$.a.b[1:3]", "[2,3]");
        check("$.a.b[::-2]", "[{\"b\":4},2]");
        check("$.a.b[0,2]", "[1,3]");
        check("$..b", "[[1,2,3,{\"b\":4}],4]");
        check("$.a.*", "[[1,2,3,{\"b\":4}]]");
        check("$.c", "[null]");
        check("$.no.where[7]", "[]");
        check("$.a.b[::0]", "[]");
        check("a.b", "'a.b' is not a JSON path: it must begin with $ (at byte 0)");
        check("$.a[?(@.x)]", "'$.a[?(@.x)]' is not a JSON path: filters ?(…) are not supported (at byte 4)");
        check("$.a['b", "'$.a['b' is not a JSON path: a quoted name does not end (at byte 4)");
    }
}
