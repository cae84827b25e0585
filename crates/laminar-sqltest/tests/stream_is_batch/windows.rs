//! GROUP BY, with and without a window of time.
//!
//! The batch's windows are plain SQL: `date_bin` finds the first window of a row, a cross join with a list of intervals the
//! others.

use crate::expression::Scope;
use crate::query::{Generator, Source};
use crate::relation::{Column, Kind, Relation, Sql};

/// A window function of a row's time.
pub struct Window {
    stream: String,
    /// What the batch's FROM needs besides the source; the row has a column `back` then.
    pub others: Option<String>,
    start: String,
    end: String,
    /// Of the batch's row: is it in the window?
    pub holds: Option<String>,
}

impl Window {
    pub fn named(&self, name: &str) -> Sql {
        Sql::new(format!("{} AS {name}", self.stream), format!("{} AS {name}_s, {} AS {name}_e", self.start, self.end))
    }
}

fn seconds(count: usize) -> String {
    format!("INTERVAL '{count} seconds'")
}

fn list(intervals: impl Iterator<Item = usize>) -> String {
    intervals.map(|s| format!("({})", seconds(s))).collect::<Vec<_>>().join(", ")
}

impl Generator<'_> {
    /// A window of the source's event time; `tumble` only if a row may be in one window only.
    pub fn window(&mut self, source: &Source, one: bool) -> Window {
        let event = source.relation.of_kind(Kind::Time { event: true });
        let time = match (event.first(), self.choices.below(2)) {
            (Some(column), 1) => format!("{}.{}, ", source.alias, column.name),
            _ => String::new(),
        };
        let et = format!("{}.et", source.alias);
        let bin = |size: usize| format!("date_bin({}, {et}, TIMESTAMP '1970-01-01T00:00:00')", seconds(size));
        let kind = if one { 0 } else { self.choices.below(4) };
        match kind {
            0 | 1 => {
                let size = self.choices.one_of(&[10, 5, 20, 7]);
                let end = format!("{} + {}", bin(size), seconds(size));
                let stream = format!("tumble({time}{})", seconds(size));
                Window { stream, others: None, start: bin(size), end, holds: None }
            }
            2 => {
                let (slide, size) = self.choices.one_of(&[(5, 10), (4, 6), (10, 30), (6, 4), (5, 5), (2, 7)]);
                let h = self.fresh("h");
                let start = format!("{} - {h}.back", bin(slide));
                let end = format!("{start} + {}", seconds(size));
                let steps = list((0..size.div_ceil(slide)).map(|i| i * slide));
                Window {
                    stream: format!("hop({time}{}, {})", seconds(slide), seconds(size)),
                    others: Some(format!("CROSS JOIN (VALUES {steps}) AS {h}(back)")),
                    holds: Some(format!("{et} < {end}")),
                    start,
                    end,
                }
            }
            _ => {
                let (step, size) = self.choices.one_of(&[(5, 10), (5, 20), (10, 10), (3, 9)]);
                let h = self.fresh("h");
                let end = format!("{} + {h}.grown", bin(size));
                let steps = list((1..=size / step).map(|i| i * step));
                Window {
                    stream: format!("cumulate({time}{}, {})", seconds(step), seconds(size)),
                    others: Some(format!("CROSS JOIN (VALUES {steps}) AS {h}(grown)")),
                    holds: Some(format!("{et} < {end}")),
                    start: bin(size),
                    end,
                }
            }
        }
    }

    /// GROUP BY, by a window if it is asked for and there can be one.
    pub fn group(&mut self, depth: usize, windowed: bool) -> Relation {
        let source = self.input(depth);
        let scope = Scope::of(&source.relation, &source.alias);
        let timed = source.relation.timed && !source.relation.updating;
        let (mut list, mut columns, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        let mut final_end = None;
        let least = usize::from(!windowed || !timed);
        for _ in 0..least + self.choices.below(3 - least) {
            let name = self.fresh("c");
            if self.choices.rarely(6) {
                let (value, kind) = scope.value(&mut self.choices);
                list.push(Sql::of(&format!("$1 AS {name}"), &[&value]));
                keys.push(Sql::same(name.clone()));
                columns.push(Column { name, kind });
                continue;
            }
            let column = self.choices.one_of(&source.relation.columns);
            list.push(column.renamed(&source.alias, &name));
            let column = Column { name, ..column };
            keys.push(column.bare());
            if column.kind == (Kind::Window { live: true }) && !source.relation.updating && final_end.is_none() {
                final_end = Some(format!("{}_e", column.name));
            }
            columns.push(column);
        }
        let mut others = (None, None);
        if windowed && timed {
            let (name, window) = (self.fresh("c"), self.window(&source, false));
            let column = Column { name, kind: Kind::Window { live: true } };
            let at = self.choices.below(keys.len() + 1);
            list.insert(at, window.named(&column.name));
            keys.insert(at, column.bare());
            final_end = Some(format!("{}_e", column.name));
            columns.insert(at, column);
            others = (window.others, window.holds);
        }
        for _ in 0..1 + self.choices.below(3) {
            let (name, (call, kind)) = (self.fresh("c"), scope.aggregate(&mut self.choices));
            list.push(Sql::of(&format!("$1 AS {name}"), &[&call]));
            columns.push(Column { name, kind });
        }
        let mut from = source.from.clone();
        from.batch = format!("{} {}", from.batch, others.0.unwrap_or_default());
        let condition = self.where_clause(&source);
        let condition = narrowed(condition, others.1);
        let group_by = match keys.is_empty() {
            true => Sql::default(),
            false => Sql::of("GROUP BY $1", &[&Sql::join(&keys, ", ")]),
        };
        let having = self.having(&scope, keys.is_empty());
        let mut sql = self.select(&list, &from, &[condition, group_by, having]);
        if windowed && timed && self.choices.rarely(3) {
            sql.stream = self.emitted_early(&sql.stream);
            final_end = None;
        }
        if let Some(end) = &final_end {
            sql.batch = format!("SELECT g.*, g.{end} - INTERVAL '1 microsecond' AS et FROM ({}) AS g", sql.batch);
        }
        let columns = match &final_end {
            Some(end) => {
                columns.into_iter().map(|c| if format!("{}_e", c.name) == *end { c } else { c.forgotten() }).collect()
            }
            None => columns.into_iter().map(Column::forgotten).collect(),
        };
        let rows = source.relation.rows * if windowed { 3 } else { 1 };
        Relation { sql, columns, timed: final_end.is_some(), updating: final_end.is_none(), rows }
    }

    /// The query with early results, as a view. In the end it has the same rows.
    fn emitted_early(&mut self, query: &str) -> String {
        let view = self.fresh(&format!("{}_early", self.name));
        let every = seconds(self.choices.one_of(&[1, 2, 5, 3, 60]));
        self.views.push(format!("CREATE VIEW {view} AS {query} EMIT EVERY {every};"));
        format!("SELECT * FROM {view}")
    }

    /// Over no rows at all, a batch has one row without keys, and a stream none.
    fn having(&mut self, scope: &Scope, one_row: bool) -> Sql {
        let condition = match self.choices.below(4) {
            3 => {
                let template = self.choices.one_of(&["$1 > 1", "$1 <> 3", "$1 IS NOT NULL"]);
                let call = Sql::of("sum($1)", &[&scope.int(&mut self.choices, 1)]);
                Sql::of(template, &[&call])
            }
            2 => Sql::same(self.choices.one_of(&["count(*) > 1", "count(*) < 3"])),
            _ if one_row => Sql::new("", "HAVING count(*) > 0"),
            _ => return Sql::default(),
        };
        match one_row {
            _ if condition.stream.is_empty() => condition,
            true => {
                Sql::new(format!("HAVING {}", condition.stream), format!("HAVING count(*) > 0 AND {}", condition.batch))
            }
            false => Sql::of("HAVING $1", &[&condition]),
        }
    }
}

fn narrowed(condition: Sql, holds: Option<String>) -> Sql {
    match holds {
        None => condition,
        Some(holds) if condition.batch.is_empty() => Sql::new(condition.stream, format!("WHERE {holds}")),
        Some(holds) => {
            let batch = condition.batch.replacen("WHERE ", "", 1);
            Sql::new(condition.stream, format!("WHERE {holds} AND ({batch})"))
        }
    }
}

impl Column {
    /// By its own name, as a key.
    fn bare(&self) -> Sql {
        let name = &self.name;
        match self.kind {
            Kind::Window { .. } => Sql::new(name.clone(), format!("{name}_s, {name}_e")),
            _ => Sql::same(name.clone()),
        }
    }
}
