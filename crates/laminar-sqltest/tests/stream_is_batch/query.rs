//! Random queries of what pipelines support, each as the stream's SQL and as plain SQL over the same rows.
//!
//! A query is relations in relations: each step here reads one or two and makes one. What a step claims of its rows (see
//! [`Relation`]) says which steps may follow.

use crate::choices::Choices;
use crate::expression::Scope;
use crate::relation::{Column, Kind, Relation, Sql};

/// More rows than that are not joined with others: a debug build has to keep up.
pub const MANY_ROWS: usize = 400;

pub struct Generator<'a> {
    pub choices: Choices<'a>,
    /// Of the tables, by name.
    pub sizes: [(&'static str, usize); 2],
    /// Prefix of the names of views.
    pub name: String,
    /// CREATE VIEW statements that the stream's query needs.
    pub views: Vec<String>,
    names: usize,
    with: Vec<Sql>,
}

/// A relation in FROM.
pub struct Source {
    pub relation: Relation,
    pub alias: String,
    pub from: Sql,
}

impl<'a> Generator<'a> {
    pub fn new(tape: &'a [u8], sizes: [(&'static str, usize); 2], name: String) -> Self {
        Self { choices: Choices::new(tape), sizes, name, views: Vec::new(), names: 0, with: Vec::new() }
    }

    /// A query with steps nested `depth` deep.
    pub fn relation(&mut self, depth: usize) -> Relation {
        if depth == 0 {
            return self.scan();
        }
        match self.choices.below(22) {
            0 | 1 => self.project(depth),
            2..=4 => self.group(depth, false),
            5..=7 => self.group(depth, true),
            8..=10 => self.join(depth),
            11 | 12 => self.semi_join(depth),
            13 => self.compare_with_scalar(depth),
            14 => self.set_operation(depth),
            15 => self.distinct(depth),
            16 | 17 => self.over(depth),
            18 => self.first_of_each(depth),
            19 | 20 => self.sessions(depth),
            _ => self.limit(depth),
        }
    }

    fn scan(&mut self) -> Relation {
        let (table, rows) = self.choices.one_of(&self.sizes);
        let (alias, names) = (self.fresh("t"), [self.fresh("c"), self.fresh("c"), self.fresh("c"), self.fresh("c")]);
        let kinds = [("id", Kind::Int), ("k", Kind::Text), ("v", Kind::Int), ("d", Kind::Decimal)];
        let mut columns: Vec<Column> =
            names.iter().zip(kinds).map(|(name, (_, kind))| Column { name: name.clone(), kind }).collect();
        let mut list: Vec<String> =
            names.iter().zip(kinds).map(|(name, (of, _))| format!("{alias}.{of} AS {name}")).collect();
        let time = self.fresh("c");
        list.push(format!("{alias}.at AS {time}"));
        columns.push(Column { name: time, kind: Kind::Time { event: true } });
        let list = list.join(", ");
        let sql = Sql::new(
            format!("SELECT {list} FROM {table} AS {alias}"),
            format!("SELECT {list}, {alias}.at AS et FROM {table} AS {alias}"),
        );
        Relation { sql, columns, timed: true, updating: false, rows }
    }

    pub fn fresh(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    /// The relation as a derived table, a CTE or a view.
    pub fn source(&mut self, relation: Relation) -> Source {
        let alias = self.fresh("t");
        let sql = &relation.sql;
        let from = match self.choices.below(8) {
            6 => {
                let cte = self.fresh("q");
                self.with.push(Sql::of(&format!("{cte} AS ($1)"), &[sql]));
                Sql::same(format!("{cte} AS {alias}"))
            }
            7 => {
                let view = self.fresh(&format!("{}_view", self.name));
                self.views.push(format!("CREATE VIEW {view} AS {};", sql.stream));
                Sql::new(format!("{view} AS {alias}"), format!("({}) AS {alias}", sql.batch))
            }
            _ => Sql::of(&format!("($1) AS {alias}"), &[sql]),
        };
        Source { relation, alias, from }
    }

    pub fn input(&mut self, depth: usize) -> Source {
        // CTEs of this query's other sources are not for the steps below.
        let with = std::mem::take(&mut self.with);
        let relation = self.relation(depth - 1);
        self.with = with;
        self.source(relation)
    }

    pub fn with_clause(&mut self) -> Sql {
        match std::mem::take(&mut self.with).as_slice() {
            [] => Sql::default(),
            all => Sql::of("WITH $1", &[&Sql::join(all, ", ")]),
        }
    }

    /// `SELECT list FROM from rest`, with the CTEs that the sources need.
    pub fn select(&mut self, list: &[Sql], from: &Sql, rest: &[Sql]) -> Sql {
        let with = self.with_clause();
        let select = Sql::of("SELECT $1 FROM $2", &[&Sql::join(list, ", "), from]);
        let mut parts = vec![with, select];
        parts.extend(rest.iter().cloned());
        Sql::join(&parts, " ")
    }

    /// `WHERE …`, or nothing.
    pub fn where_clause(&mut self, source: &Source) -> Sql {
        match self.choices.below(3) {
            0 | 1 => Sql::default(),
            _ => Sql::of("WHERE $1", &[&Scope::of(&source.relation, &source.alias).condition(&mut self.choices, 2)]),
        }
    }

    /// All columns of the source under new names.
    pub fn all_of(&mut self, source: &Source) -> (Vec<Sql>, Vec<Column>) {
        let rename = |column: &Column| {
            let name = self.fresh("c");
            (column.renamed(&source.alias, &name), Column { name, kind: column.kind })
        };
        source.relation.columns.iter().map(rename).unzip()
    }

    fn project(&mut self, depth: usize) -> Relation {
        let source = self.input(depth);
        let scope = Scope::of(&source.relation, &source.alias);
        let (mut list, mut columns) = (Vec::new(), Vec::new());
        for _ in 0..1 + self.choices.below(4) {
            let name = self.fresh("c");
            let kind = match self.choices.below(5) {
                0 | 1 => {
                    let column = self.choices.one_of(&source.relation.columns);
                    list.push(column.renamed(&source.alias, &name));
                    column.kind
                }
                4 if source.relation.timed && !source.relation.updating => {
                    let window = self.window(&source, true);
                    list.push(window.named(&name));
                    Kind::Window { live: true }
                }
                _ => {
                    let (value, kind) = scope.value(&mut self.choices);
                    list.push(Sql::of(&format!("$1 AS {name}"), &[&value]));
                    kind
                }
            };
            columns.push(Column { name, kind });
        }
        list.push(source.relation.time_of(&source.alias));
        let condition = self.where_clause(&source);
        let sql = self.select(&list, &source.from, &[condition]);
        Relation { sql, columns, ..source.relation }
    }

    fn compare_with_scalar(&mut self, depth: usize) -> Relation {
        let source = self.input(depth);
        let inner = self.scan();
        let inner = self.source(inner);
        let (outer, scope) = (Scope::of(&source.relation, &source.alias), Scope::of(&inner.relation, &inner.alias));
        let template = self.choices.one_of(&["min($1)", "max($1)", "sum($1)"]);
        let aggregate = Sql::of(template, &[&scope.int(&mut self.choices, 1)]);
        let condition =
            match (self.choices.below(3), source.relation.of_kind(Kind::Int), source.relation.of_kind(Kind::Text)) {
                (1, ints, _) if !ints.is_empty() => Some((self.choices.one_of(&ints).clone(), Kind::Int)),
                (2, _, texts) if !texts.is_empty() => Some((self.choices.one_of(&texts).clone(), Kind::Text)),
                _ => None,
            };
        let correlation = match condition {
            None => self.where_clause(&inner),
            Some((column, kind)) => {
                let own = self.choices.one_of(&inner.relation.of_kind(kind)).clone();
                Sql::same(format!("WHERE {}.{} = {}.{}", inner.alias, own.name, source.alias, column.name))
            }
        };
        let subquery = Sql::of("(SELECT $1 FROM $2 $3)", &[&aggregate, &inner.from, &correlation]);
        let left = outer.int(&mut self.choices, 1);
        let operator = self.choices.one_of(&["$1 >= $2", "$1 < $2", "$1 = $2", "($1 IS DISTINCT FROM $2)"]);
        let comparison = Sql::of(operator, &[&left, &subquery]);
        let (list, columns) = self.all_of(&source);
        let sql = self.select(&list, &source.from, &[Sql::of("WHERE $1", &[&comparison])]);
        let columns = columns.into_iter().map(Column::forgotten).collect();
        Relation { sql, columns, timed: false, updating: true, rows: source.relation.rows }
    }

    fn set_operation(&mut self, depth: usize) -> Relation {
        let (left, right) = (self.input(depth), self.input(depth));
        let of_both: Vec<(Column, Column)> = left
            .relation
            .columns
            .iter()
            .filter_map(|l| {
                let same = |r: &&Column| std::mem::discriminant(&r.kind) == std::mem::discriminant(&l.kind);
                right.relation.columns.iter().rfind(same).map(|r| (l.clone(), r.clone()))
            })
            .collect();
        let operator = self.choices.one_of(&["UNION ALL", "UNION", "INTERSECT", "EXCEPT"]);
        let appends = !left.relation.updating && !right.relation.updating;
        let all = operator == "UNION ALL";
        let timed = all && left.relation.timed && right.relation.timed;
        let (mut lists, mut columns) = ([Vec::new(), Vec::new()], Vec::new());
        for (l, r) in &of_both {
            let name = self.fresh("c");
            lists[0].push(l.renamed(&left.alias, &name));
            lists[1].push(r.renamed(&right.alias, &name));
            let kind = if l.kind == r.kind && all { l.kind } else { l.clone().forgotten().kind };
            columns.push(Column { name, kind });
        }
        if of_both.is_empty() {
            let name = self.fresh("c");
            lists.iter_mut().for_each(|list| list.push(Sql::same(format!("1 AS {name}"))));
            columns.push(Column { name, kind: Kind::Int });
        }
        if timed {
            lists[0].push(left.relation.time_of(&left.alias));
            lists[1].push(right.relation.time_of(&right.alias));
        }
        let with = self.with_clause();
        let (one, other) = (self.select(&lists[0], &left.from, &[]), self.select(&lists[1], &right.from, &[]));
        let sql = Sql::join(&[with, one, Sql::same(operator), other], " ");
        let rows = left.relation.rows + right.relation.rows;
        Relation { sql, columns, timed, updating: !(appends && all), rows }
    }

    fn distinct(&mut self, depth: usize) -> Relation {
        let source = self.input(depth);
        let (mut list, mut columns) = (Vec::new(), Vec::new());
        for _ in 0..1 + self.choices.below(3) {
            let (name, column) = (self.fresh("c"), self.choices.one_of(&source.relation.columns));
            list.push(column.renamed(&source.alias, &name));
            columns.push(Column { name, kind: column.kind });
        }
        list[0] = Sql::of("DISTINCT $1", &[&list[0]]);
        let sql = self.select(&list, &source.from, &[]);
        let columns = columns.into_iter().map(Column::forgotten).collect();
        // With a window among the columns it does not update; nothing may count on either.
        Relation { sql, columns, timed: false, updating: true, rows: source.relation.rows }
    }
}

impl Column {
    /// Of it nothing is known but its type.
    pub fn forgotten(mut self) -> Self {
        self.kind = match self.kind {
            Kind::Time { .. } => Kind::Time { event: false },
            Kind::Window { .. } => Kind::Window { live: false },
            kind => kind,
        };
        self
    }
}
