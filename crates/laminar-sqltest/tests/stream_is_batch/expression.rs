//! Scalar expressions, conditions and aggregate calls over the columns of a relation.
//!
//! Integers, texts, decimals and times only: what they give does not depend on the order of additions.

use crate::choices::Choices;
use crate::relation::{Kind, Relation, Sql};

/// Columns in scope, by kind.
pub struct Scope(Vec<(Sql, Kind)>);

impl Scope {
    pub fn of(relation: &Relation, alias: &str) -> Self {
        Self(relation.scalars(alias))
    }

    pub fn both(mut self, other: Scope) -> Self {
        self.0.extend(other.0);
        self
    }

    /// A column of the kind, if there is one.
    fn column(&self, kind: Kind, choices: &mut Choices) -> Option<Sql> {
        let same = |other: &Kind| match (kind, other) {
            (Kind::Time { .. }, Kind::Time { .. }) => true,
            _ => kind == *other,
        };
        let all: Vec<&Sql> = self.0.iter().filter(|(_, k)| same(k)).map(|(sql, _)| sql).collect();
        (!all.is_empty()).then(|| choices.one_of(&all).clone())
    }

    pub fn any(&self, choices: &mut Choices) -> (Sql, Kind) {
        choices.one_of(&self.0)
    }

    pub fn int(&self, choices: &mut Choices, depth: usize) -> Sql {
        let Some(column) = self.column(Kind::Int, choices) else { return Sql::same("1") };
        if depth == 0 {
            return column;
        }
        let template = match choices.below(9) {
            0..=2 => return column,
            3 => "($1 + 1)",
            4 => "($1 - $2)",
            5 => "$1 * 2",
            6 => "$1 % 3",
            7 => "coalesce($1, $2, 7)",
            _ => "CASE WHEN $3 THEN $1 ELSE $2 END",
        };
        let other = self.int(choices, depth - 1);
        let condition = self.condition(choices, depth - 1);
        Sql::of(template, &[&column, &other, &condition])
    }

    fn text(&self, choices: &mut Choices, depth: usize) -> Sql {
        let Some(column) = self.column(Kind::Text, choices) else { return Sql::same("'w'") };
        let template = match choices.below(7) {
            0..=2 => return column,
            3 => "coalesce($1, 'n')",
            4 => "upper($1)",
            5 => "($1 || 'y')",
            _ => "CASE WHEN $2 THEN $1 ELSE 'x' END",
        };
        let condition = self.condition(choices, depth.saturating_sub(1));
        Sql::of(template, &[&column, &condition])
    }

    fn decimal(&self, choices: &mut Choices) -> Sql {
        let Some(column) = self.column(Kind::Decimal, choices) else { return Sql::same("CAST(1.5 AS DECIMAL(10, 2))") };
        let template = choices.one_of(&[
            "$1",
            "$1",
            "-$1",
            "($1 + CAST(0.5 AS DECIMAL(10, 2)))",
            "abs($1)",
            "coalesce($1, CAST(0.25 AS DECIMAL(10, 2)))",
        ]);
        Sql::of(template, &[&column])
    }

    /// A computed value and its kind.
    pub fn value(&self, choices: &mut Choices) -> (Sql, Kind) {
        match choices.below(4) {
            0 | 1 => (self.int(choices, 2), Kind::Int),
            2 => (self.text(choices, 1), Kind::Text),
            _ => (self.decimal(choices), Kind::Decimal),
        }
    }

    pub fn condition(&self, choices: &mut Choices, depth: usize) -> Sql {
        let int = self.int(choices, depth.saturating_sub(1));
        let templates = [
            "$1 > 0",
            "$1 <= 1",
            "$1 = 2",
            "$1 <> $2",
            "$1 < $2",
            "$1 BETWEEN 0 AND 2",
            "$1 IN (0, 1, 3)",
            "$1 IS NULL",
            "$1 IS NOT NULL",
            "($1 IS DISTINCT FROM $2)",
        ];
        match choices.below(if depth == 0 { 4 } else { 8 }) {
            0 | 1 => {
                let template = choices.one_of(&templates);
                Sql::of(template, &[&int, &self.int(choices, depth.saturating_sub(1))])
            }
            2 => {
                let text = self.text(choices, depth);
                let template =
                    choices.one_of(&["$1 = 'x'", "$1 <> 'y'", "$1 IS NULL", "$1 LIKE 'x%'", "$1 IN ('x', 'z')"]);
                Sql::of(template, &[&text])
            }
            3 => match choices.below(2) {
                0 => Sql::of(choices.one_of(&["$1 > 0.25", "$1 < 1", "$1 IS NULL"]), &[&self.decimal(choices)]),
                _ => match self.column(Kind::Time { event: false }, choices) {
                    None => Sql::same("true"),
                    Some(time) => Sql::of(choices.one_of(&TIMES), &[&time]),
                },
            },
            4 => Sql::of("NOT ($1)", &[&self.condition(choices, depth - 1)]),
            n => {
                let (one, other) = (self.condition(choices, depth - 1), self.condition(choices, depth - 1));
                Sql::of(if n == 5 { "($1 OR $2)" } else { "($1 AND $2)" }, &[&one, &other])
            }
        }
    }

    /// An aggregate call and the kind of its result.
    pub fn aggregate(&self, choices: &mut Choices) -> (Sql, Kind) {
        let (call, kind) = match choices.below(9) {
            0 => (Sql::same("count(*)"), Kind::Int),
            1 => (Sql::of("sum($1)", &[&self.int(choices, 1)]), Kind::Int),
            2 => (Sql::of("count($1)", &[&self.any(choices).0]), Kind::Int),
            3 => (Sql::of("count(DISTINCT $1)", &[&self.any(choices).0]), Kind::Int),
            4 | 5 => {
                let (column, kind) = self.any(choices);
                let kind = if let Kind::Time { .. } = kind { Kind::Time { event: false } } else { kind };
                (Sql::of(choices.one_of(&["min($1)", "max($1)"]), &[&column]), kind)
            }
            6 => (Sql::of("sum($1)", &[&self.decimal(choices)]), Kind::Decimal),
            7 => (Sql::of("avg($1)", &[&self.decimal(choices)]), Kind::Decimal),
            _ => (Sql::of("sum(DISTINCT $1)", &[&self.int(choices, 0)]), Kind::Int),
        };
        if !choices.rarely(4) {
            return (call, kind);
        }
        (Sql::of("$1 FILTER (WHERE $2)", &[&call, &self.condition(choices, 1)]), kind)
    }
}

const TIMES: [&str; 4] = [
    "$1 >= TIMESTAMP '2024-01-01T00:00:10'",
    "$1 < TIMESTAMP '2024-01-01T00:00:30'",
    "$1 = TIMESTAMP '2024-01-01T00:00:20'",
    "$1 IS NOT NULL",
];
