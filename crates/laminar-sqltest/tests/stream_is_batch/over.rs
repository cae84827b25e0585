//! OVER, the first rows of each key, and the first of all. Every ordering is total up to rows that are equal.

use crate::expression::Scope;
use crate::query::{Generator, Source};
use crate::relation::{Column, Kind, Relation, Sql};

impl Generator<'_> {
    /// All rows, with functions OVER their key.
    pub fn over(&mut self, depth: usize) -> Relation {
        let source = self.input(depth);
        let (partition, closes) = self.partition(&source);
        let scope = Scope::of(&source.relation, &source.alias);
        let (mut list, mut columns) = self.all_of(&source);
        let order = self.order(&source);
        for _ in 0..1 + self.choices.below(2) {
            let (name, int) = (self.fresh("c"), scope.int(&mut self.choices, 1));
            let call = match self.choices.below(8) {
                0 => Sql::same("row_number()"),
                1 => Sql::same("rank()"),
                2 => Sql::of("lag($1)", &[&int]),
                3 => Sql::of("lead($1, 2)", &[&int]),
                4 => Sql::of("min($1)", &[&int]),
                5 => Sql::same("count(*)"),
                6 => Sql::same("dense_rank()"),
                _ => Sql::of("sum($1)", &[&int]),
            };
            let framed = ["min", "count", "sum"].iter().any(|f| call.stream.starts_with(f));
            let frame = match framed {
                false => "",
                true => self.choices.one_of(&[
                    "ROWS BETWEEN 1 PRECEDING AND CURRENT ROW",
                    "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW",
                    "ROWS BETWEEN 2 PRECEDING AND 1 FOLLOWING",
                    "ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING",
                ]),
            };
            let over = Sql::join(&[partition.clone(), order.clone(), Sql::same(frame)], " ");
            list.push(Sql::of(&format!("$1 OVER ($2) AS {name}"), &[&call, &over]));
            columns.push(Column { name, kind: Kind::Int });
        }
        list.push(closing(&closes, &source));
        let sql = self.select(&list, &source.from, &[]);
        self.made(sql, &source.relation, columns, closes)
    }

    /// The rows of each key with the first numbers.
    pub fn first_of_each(&mut self, depth: usize) -> Relation {
        let source = self.input(depth);
        let (partition, closes) = self.partition(&source);
        let (mut list, columns) = self.all_of(&source);
        let (number, order, alias) = (self.fresh("n"), self.order(&source), self.fresh("t"));
        let function = self.choices.one_of(&["row_number", "rank"]);
        let over = Sql::join(&[partition, order], " ");
        list.push(Sql::of(&format!("{function}() OVER ($1) AS {number}"), &[&over]));
        list.push(closing(&closes, &source));
        let inner = self.select(&list, &source.from, &[]);
        let template =
            self.choices.one_of(&["$1 <= 2", "$1 = 1", "$1 < 4", "$1 BETWEEN 2 AND 3", "$1 > 1", "$1 <= 2 AND $1 > 1"]);
        let condition = Sql::of(template, &[&Sql::same(number)]);
        let relation = Relation { sql: inner, columns, timed: closes.is_some(), ..source.relation.clone() };
        let outer = Source { from: Sql::of(&format!("($1) AS {alias}"), &[&relation.sql]), relation, alias };
        let (mut list, columns) = self.all_of(&outer);
        list.push(outer.relation.time_of(&outer.alias));
        let sql = self.select(&list, &outer.from, &[Sql::of("WHERE $1", &[&condition])]);
        self.made(sql, &source.relation, columns, closes)
    }

    /// `columns`: first those of the source, under new names. Of its windows only the one that closes is still open.
    fn made(&self, sql: Sql, source: &Relation, columns: Vec<Column>, closes: Option<Column>) -> Relation {
        let own = &source.columns;
        let columns = match &closes {
            Some(window) => own
                .iter()
                .map(|column| Some(&column.name))
                .chain(std::iter::repeat(None))
                .zip(columns)
                .map(|(own, c)| if own == Some(&window.name) { c } else { c.forgotten() })
                .collect(),
            None => columns.into_iter().map(Column::forgotten).collect(),
        };
        Relation { sql, columns, timed: closes.is_some(), updating: closes.is_none(), rows: source.rows }
    }

    pub fn limit(&mut self, depth: usize) -> Relation {
        let source = self.input(depth);
        let (list, columns) = self.all_of(&source);
        let rest = self.choices.one_of(&["LIMIT 3", "LIMIT 1", "LIMIT 10", "LIMIT 2 OFFSET 1", "LIMIT 4 OFFSET 3"]);
        let (condition, order) = (self.where_clause(&source), self.order(&source));
        let sql = self.select(&list, &source.from, &[condition, order, Sql::same(rest)]);
        let columns = columns.into_iter().map(Column::forgotten).collect();
        Relation { sql, columns, timed: false, updating: true, rows: source.relation.rows.min(10) }
    }

    /// `PARTITION BY …`, and the window in it by whose end the rows are final.
    fn partition(&mut self, source: &Source) -> (Sql, Option<Column>) {
        let mut keys = Vec::new();
        for _ in 0..self.choices.below(3) {
            keys.push(self.choices.one_of(&source.relation.columns));
        }
        let live = source.relation.of_kind(Kind::Window { live: true });
        if let (Some(window), true) = (live.first(), self.choices.below(2) == 1) {
            keys.push((*window).clone());
        }
        let is_live = |c: &&Column| c.kind == (Kind::Window { live: true }) && !source.relation.updating;
        let closes = keys.iter().find(is_live).cloned();
        let keys: Vec<Sql> = keys.iter().map(|c| c.key(&source.alias)).collect();
        match keys.is_empty() {
            true => (Sql::default(), None),
            false => (Sql::of("PARTITION BY $1", &[&Sql::join(&keys, ", ")]), closes),
        }
    }

    /// `ORDER BY` all columns, in some order.
    fn order(&mut self, source: &Source) -> Sql {
        let mut scalars = source.relation.scalars(&source.alias);
        let by = self.choices.below(scalars.len());
        scalars.rotate_left(by);
        let mut keys = Vec::new();
        for (sql, _) in scalars {
            let template = self.choices.one_of(&["$1", "$1", "$1 DESC", "$1 NULLS FIRST", "$1 DESC NULLS LAST"]);
            keys.push(Sql::of(template, &[&sql]));
        }
        Sql::of("ORDER BY $1", &[&Sql::join(&keys, ", ")])
    }
}

/// Rows that come out when a window closes are of its last moment.
fn closing(closes: &Option<Column>, source: &Source) -> Sql {
    match closes {
        None => Sql::default(),
        Some(window) => Sql::new("", format!("{}.{}_e - INTERVAL '1 microsecond' AS et", source.alias, window.name)),
    }
}
