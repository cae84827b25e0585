//! A query in two texts, one for the stream and one for the batch, and what the grammar must know of its rows.
//!
//! A window is one column in a stream, a struct, and two in the batch: `w` is `w_s` and `w_e`. The event time stands beside
//! the rows of a stream; in the batch it is a column `et` of every relation that is `timed`.

/// The same in both dialects.
#[derive(Clone, Debug, Default)]
pub struct Sql {
    pub stream: String,
    pub batch: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Int,
    Text,
    Decimal,
    /// `event`: the planner knows it to be the event time.
    Time {
        event: bool,
    },
    /// `live`: a group that holds it is final when it closes.
    Window {
        live: bool,
    },
}

#[derive(Clone, Debug)]
pub struct Column {
    pub name: String,
    pub kind: Kind,
}

#[derive(Clone, Debug)]
pub struct Relation {
    pub sql: Sql,
    pub columns: Vec<Column>,
    /// Rows have an event time that does not depend on the order in which they came.
    pub timed: bool,
    pub updating: bool,
    /// About so many at most.
    pub rows: usize,
}

impl Sql {
    pub fn same(text: impl Into<String>) -> Self {
        let stream = text.into();
        Self { batch: stream.clone(), stream }
    }

    pub fn new(stream: impl Into<String>, batch: impl Into<String>) -> Self {
        Self { stream: stream.into(), batch: batch.into() }
    }

    /// `template` with each `$1`, `$2`, … replaced by a part.
    pub fn of(template: &str, parts: &[&Sql]) -> Self {
        let fill = |pick: fn(&Sql) -> &str| {
            let numbered = parts.iter().enumerate();
            numbered.fold(template.to_string(), |text, (i, part)| text.replace(&format!("${}", i + 1), pick(part)))
        };
        Self { stream: fill(|sql| &sql.stream), batch: fill(|sql| &sql.batch) }
    }

    pub fn join(parts: &[Sql], between: &str) -> Self {
        let pick = |pick: fn(&Sql) -> &str| {
            parts.iter().map(pick).filter(|text| !text.is_empty()).collect::<Vec<_>>().join(between)
        };
        Self { stream: pick(|sql| &sql.stream), batch: pick(|sql| &sql.batch) }
    }
}

impl Column {
    /// As a key of GROUP BY or PARTITION BY.
    pub fn key(&self, alias: &str) -> Sql {
        let name = format!("{alias}.{}", self.name);
        match self.kind {
            Kind::Window { .. } => Sql::new(name.clone(), format!("{name}_s, {name}_e")),
            _ => Sql::same(name),
        }
    }

    /// In a SELECT list, under another name.
    pub fn renamed(&self, alias: &str, to: &str) -> Sql {
        let name = format!("{alias}.{}", self.name);
        match self.kind {
            Kind::Window { .. } => {
                Sql::new(format!("{name} AS {to}"), format!("{name}_s AS {to}_s, {name}_e AS {to}_e"))
            }
            _ => Sql::same(format!("{name} AS {to}")),
        }
    }

    /// The values in it that can be compared, with their kinds.
    pub fn scalars(&self, alias: &str) -> Vec<(Sql, Kind)> {
        let name = format!("{alias}.{}", self.name);
        let time = Kind::Time { event: false };
        match self.kind {
            Kind::Window { .. } => vec![
                (Sql::new(format!("{name}['start']"), format!("{name}_s")), time),
                (Sql::new(format!("{name}['end']"), format!("{name}_e")), time),
            ],
            kind => vec![(Sql::same(name), kind)],
        }
    }
}

impl Relation {
    pub fn scalars(&self, alias: &str) -> Vec<(Sql, Kind)> {
        self.columns.iter().flat_map(|c| c.scalars(alias)).collect()
    }

    pub fn of_kind(&self, kind: Kind) -> Vec<&Column> {
        self.columns.iter().filter(|c| c.kind == kind).collect()
    }

    /// The columns to compare results by, for `SELECT … FROM`: the stream's and the batch's.
    pub fn comparable(&self) -> Sql {
        let columns: Vec<Sql> = self.scalars("result").into_iter().map(|(sql, _)| sql).collect();
        Sql::join(&columns, ", ")
    }

    /// `, t.et AS et` in the batch, if there is one.
    pub fn time_of(&self, alias: &str) -> Sql {
        match self.timed {
            true => Sql::new("", format!("{alias}.et AS et")),
            false => Sql::default(),
        }
    }
}
