//! GROUP BY a session, with and without other keys.
//!
//! The batch knows no sessions: there they are the islands between gaps. A row begins one if no row of its key came in less
//! than the gap before it; the number of beginnings up to a row says which session it is in.

use crate::expression::Scope;
use crate::query::Generator;
use crate::relation::{Column, Kind, Relation, Sql};

impl Generator<'_> {
    /// GROUP BY keys and a session, where rows have times; else by keys alone.
    pub fn sessions(&mut self, depth: usize) -> Relation {
        let source = self.input(depth);
        let relation = &source.relation;
        if !relation.timed || relation.updating {
            return source.relation;
        }
        let (alias, scope) = (source.alias.clone(), Scope::of(relation, &source.alias));
        let (mut list, mut columns, mut keys, mut parts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.choices.below(3) {
            let (name, column) = (self.fresh("c"), self.choices.one_of(&relation.columns));
            if matches!(column.kind, Kind::Window { .. }) {
                continue;
            }
            list.push(column.renamed(&alias, &name));
            parts.push(format!("{alias}.{}", column.name));
            keys.push(name.clone());
            columns.push(Column { name, ..column.forgotten() });
        }
        let (window, gap) = (self.fresh("c"), self.choices.one_of(&[2, 1, 5, 11]));
        let gap = format!("INTERVAL '{gap} seconds'");
        let event = relation.of_kind(Kind::Time { event: true });
        let time = match (event.first(), self.choices.below(2)) {
            (Some(column), 1) => format!("{alias}.{}, ", column.name),
            _ => String::new(),
        };
        list.push(Sql::new(
            format!("session({time}{gap}) AS {window}"),
            format!("min({alias}.et) AS {window}_s, max({alias}.et) + {gap} AS {window}_e"),
        ));
        columns.push(Column { name: window.clone(), kind: Kind::Window { live: true } });
        for _ in 0..1 + self.choices.below(3) {
            let (name, (call, kind)) = (self.fresh("c"), scope.aggregate(&mut self.choices));
            list.push(Sql::of(&format!("$1 AS {name}"), &[&call]));
            columns.push(Column { name, kind });
        }
        let condition = self.where_clause(&source);
        let partition = |of: &str| {
            let keys: Vec<String> = parts.iter().map(|key| key.replacen(&alias, of, 1)).collect();
            if keys.is_empty() { String::new() } else { format!("PARTITION BY {}", keys.join(", ")) }
        };
        let (rows, island) = (self.fresh("t"), self.fresh("c"));
        let begins = format!(
            "CASE WHEN {alias}.et < lag({alias}.et) OVER ({} ORDER BY {alias}.et) + {gap} THEN 0 ELSE 1 END AS begins",
            partition(&alias)
        );
        let islands = format!(
            "(SELECT {rows}.*, sum({rows}.begins) OVER ({} ORDER BY {rows}.et) AS {island} \
             FROM (SELECT {alias}.*, {begins} FROM {} {}) AS {rows}) AS {alias}",
            partition(&rows),
            source.from.batch,
            condition.batch
        );
        let by = |last: &str| keys.iter().map(String::as_str).chain([last]).collect::<Vec<_>>().join(", ");
        let group_by = Sql::new(format!("GROUP BY {}", by(&window)), format!("GROUP BY {}", by(&island)));
        let from = Sql::new(source.from.stream.clone(), islands);
        let mut sql = self.select(&list, &from, &[Sql::new(condition.stream, ""), group_by]);
        sql.batch = format!("SELECT g.*, g.{window}_e - INTERVAL '1 microsecond' AS et FROM ({}) AS g", sql.batch);
        Relation { sql, columns, timed: true, updating: false, rows: relation.rows }
    }
}
