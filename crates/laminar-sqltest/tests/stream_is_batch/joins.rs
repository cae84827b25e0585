//! Joins of all kinds, and conditions on whether another relation has a row.

use crate::expression::Scope;
use crate::query::{Generator, MANY_ROWS, Source};
use crate::relation::Relation;
use crate::relation::{Column, Kind, Sql};

/// When two rows match.
struct Matching {
    conditions: Vec<Sql>,
    /// The times of rows that match are within bounds, which the planner finds.
    bounded: bool,
    /// Windows that are equal, by their places: those of rows that match are open when a match comes.
    windows: Option<(usize, usize)>,
}

impl Generator<'_> {
    pub fn join(&mut self, depth: usize) -> Relation {
        let (left, right) = (self.input(depth), self.input(depth));
        if left.relation.rows * right.relation.rows / 3 > 4 * MANY_ROWS {
            return self.having_match(left, right);
        }
        let matching = self.matching(&left, &right);
        let kind = self.choices.one_of(&["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]);
        let (mut list, mut columns) = self.all_of(&left);
        let (more, right_columns) = self.all_of(&right);
        list.extend(more);
        columns.extend(right_columns);
        let appends = !left.relation.updating && !right.relation.updating;
        let inner = kind == "JOIN";
        let timed = inner && appends && left.relation.timed && right.relation.timed;
        if timed {
            list.push(Sql::new("", format!("greatest({}.et, {}.et) AS et", left.alias, right.alias)));
        }
        let from = Sql::of(
            &format!("$1 {kind} $2 ON $3"),
            &[&left.from, &right.from, &Sql::join(&matching.conditions, " AND ")],
        );
        let sql = self.select(&list, &from, &[]);
        let open = matching.windows.filter(|_| inner).map(|(l, r)| [l, left.relation.columns.len() + r]);
        let columns = joined(columns, open.as_ref().map_or(&[], |open| open.as_slice()));
        let rows = left.relation.rows * right.relation.rows / 3 + 1;
        Relation { sql, columns, timed, updating: !(appends && (inner || matching.bounded)), rows }
    }

    fn matching(&mut self, left: &Source, right: &Source) -> Matching {
        let (mut conditions, mut bounded, mut equal) = (Vec::new(), false, None);
        let appends = !left.relation.updating && !right.relation.updating;
        let windows = |s: &Source| s.relation.columns.iter().find(|c| matches!(c.kind, Kind::Window { .. })).cloned();
        if let (Some(l), Some(r), true) = (windows(left), windows(right), !self.choices.rarely(4)) {
            let (l_name, r_name) = (format!("{}.{}", left.alias, l.name), format!("{}.{}", right.alias, r.name));
            conditions.push(Sql::new(
                format!("{l_name} = {r_name}"),
                format!("{l_name}_s = {r_name}_s AND {l_name}_e = {r_name}_e"),
            ));
            let live = Kind::Window { live: true };
            if appends && l.kind == live && r.kind == live {
                bounded = true;
                let place = |s: &Source, c: &Column| s.relation.columns.iter().position(|other| other.name == c.name);
                equal = place(left, &l).zip(place(right, &r));
            }
        }
        let event = Kind::Time { event: true };
        let times = (left.relation.of_kind(event), right.relation.of_kind(event));
        if let ([l, ..], [r, ..], true) = (times.0.as_slice(), times.1.as_slice(), self.choices.below(2) == 1) {
            let template = self.choices.one_of(&[
                "$2 BETWEEN $1 AND $1 + INTERVAL '10 seconds'",
                "$2 BETWEEN $1 - INTERVAL '3 seconds' AND $1 + INTERVAL '2 seconds'",
                "$1 BETWEEN $2 - INTERVAL '7 seconds' AND $2",
                "$1 >= $2 AND $1 < $2 + INTERVAL '5 seconds'",
                "$1 = $2",
                "$2 BETWEEN $1 + INTERVAL '2 seconds' AND $1 + INTERVAL '4 seconds'",
                "$1 > $2",
            ]);
            let names = (format!("{}.{}", left.alias, l.name), format!("{}.{}", right.alias, r.name));
            conditions.push(Sql::of(template, &[&Sql::same(names.0), &Sql::same(names.1)]));
            bounded |= appends && template != "$1 > $2";
        }
        for kind in [Kind::Int, Kind::Text] {
            let pair = (left.relation.of_kind(kind), right.relation.of_kind(kind));
            if pair.0.is_empty() || pair.1.is_empty() || self.choices.below(2) == 1 && !conditions.is_empty() {
                continue;
            }
            let (l, r) = (self.choices.one_of(&pair.0), self.choices.one_of(&pair.1));
            conditions.push(Sql::same(format!("{}.{} = {}.{}", left.alias, l.name, right.alias, r.name)));
        }
        if conditions.is_empty() || self.choices.rarely(3) {
            let scope = Scope::of(&left.relation, &left.alias).both(Scope::of(&right.relation, &right.alias));
            conditions.push(scope.condition(&mut self.choices, 2));
        }
        Matching { conditions, bounded, windows: equal }
    }

    pub fn semi_join(&mut self, depth: usize) -> Relation {
        let (left, right) = (self.input(depth), self.input(depth));
        self.having_match(left, right)
    }

    /// The rows of the left that have a row of the right, or that have none.
    fn having_match(&mut self, left: Source, right: Source) -> Relation {
        let appends = !left.relation.updating && !right.relation.updating;
        let ints = (left.relation.of_kind(Kind::Int), right.relation.of_kind(Kind::Int));
        let (condition, bounded, open) = match (self.choices.below(3), ints) {
            (2, (l, r)) if !l.is_empty() && !r.is_empty() => {
                let (l, r) = (self.choices.one_of(&l).clone(), self.choices.one_of(&r).clone());
                let condition = self.where_clause(&right);
                let (l, r) = (format!("{}.{}", left.alias, l.name), format!("{}.{}", right.alias, r.name));
                (Sql::of(&format!("{l} IN (SELECT {r} FROM $1 $2)"), &[&right.from, &condition]), false, None)
            }
            (n, _) => {
                let matching = self.matching(&left, &right);
                let not = if n == 0 { "" } else { "NOT " };
                let all = Sql::join(&matching.conditions, " AND ");
                (
                    Sql::of(&format!("{not}EXISTS (SELECT 1 FROM $1 WHERE $2)"), &[&right.from, &all]),
                    matching.bounded,
                    matching.windows.filter(|_| n == 0),
                )
            }
        };
        let (list, columns) = self.all_of(&left);
        let sql = self.select(&list, &left.from, &[Sql::of("WHERE $1", &[&condition])]);
        let open: Vec<usize> = open.map(|(l, _)| l).into_iter().collect();
        let columns = joined(columns, &open);
        // When a row comes out depends on which match came first: no window can be of its time.
        Relation { sql, columns, timed: false, updating: !(appends && bounded), rows: left.relation.rows }
    }
}

/// Columns of a join, whose rows are not of the time of one side; the windows at `open` have not closed when they come.
fn joined(columns: Vec<Column>, open: &[usize]) -> Vec<Column> {
    let columns = columns.into_iter().enumerate();
    columns.map(|(place, c)| if open.contains(&place) { c } else { c.forgotten() }).collect()
}
