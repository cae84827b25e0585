//! A graph as people and programs read it.
//!
//! ```text
//! parallelism 2
//! sink-2: write kafka table big_orders, exactly once
//! └─ project-1: id, upper(item) AS item where price > 10
//!    └─ source-0: read kafka table orders (id, item, price)
//! ```
//!
//! A node that feeds several is drawn in full the first time, then by its id.

use std::collections::HashSet;

use arrow::datatypes::Schema;
use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::Expr;
use datafusion::sql::unparser::Unparser;
use datafusion::sql::unparser::dialect::Dialect;
use laminar_core::connector::PartitionSet;
use laminar_core::sink::Delivery;
use laminar_engine::graph::{Exchange, Graph, Node, NodeKind, SinkNode};
use serde_json::{Value, json};

use super::lower::Shown;
use crate::catalog::TableDef;
use crate::parse::quote_name;
use crate::types::sql_name;

pub(crate) fn source_line(table: &TableDef, schema: &Schema, partitions: Option<&PartitionSet>) -> String {
    let columns: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    let partitions = partitions.map(|set| format!(", partitions {set}")).unwrap_or_default();
    format!("read {} table {} ({}){partitions}", table.connector, table.name, columns.join(", "))
}

pub(crate) fn sink_line(connector: &str, sink: &SinkNode) -> String {
    format!("write {connector} table {}, {}", sink.table, guarantee(sink.sink.delivery()))
}

pub(crate) fn project_line(shown: &Shown, schema: &Schema) -> String {
    let columns = shown.exprs.iter().zip(schema.fields()).map(|(expr, field)| {
        let name = quote_name(field.name());
        if *expr == name || expr.ends_with(&format!(" AS {name}")) { expr.clone() } else { format!("{expr} AS {name}") }
    });
    let columns = columns.collect::<Vec<_>>().join(", ");
    match &shown.predicate {
        Some(predicate) => format!("{columns} where {predicate}"),
        None => columns,
    }
}

/// The expression as SQL, where it has a spelling; columns without their table.
pub(crate) fn expression(expr: &Expr) -> String {
    let bare = expr.clone().transform(|e| match e {
        Expr::Column(column) => Ok(Transformed::yes(Expr::Column(Column::new_unqualified(column.name)))),
        other => Ok(Transformed::no(other)),
    });
    let Ok(bare) = bare else { return expr.to_string() };
    match Unparser::new(&Spelling).with_pretty(true).expr_to_sql(&bare.data) {
        // DataFusion's name for a list while it is being unnested
        Ok(sql) => sql.to_string().replace("__unnest_placeholder(", "unnest(").replace(",depth=1)", ")"),
        Err(_) => bare.data.to_string(),
    }
}

/// Of µs, in the largest unit that fits: `90 seconds`.
pub(crate) fn duration(micros: i64) -> String {
    const UNITS: [(i64, &str); 6] = [
        (86_400_000_000, "day"),
        (3_600_000_000, "hour"),
        (60_000_000, "minute"),
        (1_000_000, "second"),
        (1_000, "millisecond"),
        (1, "microsecond"),
    ];
    let unit = UNITS.iter().find(|(unit, _)| micros % unit == 0);
    let (count, name) = unit.map_or((micros, "microsecond"), |(unit, name)| (micros / unit, *name));
    if count == 1 { format!("1 {name}") } else { format!("{count} {name}s") }
}

/// Quotes only names that need it.
struct Spelling;

impl Dialect for Spelling {
    fn identifier_quote_style(&self, name: &str) -> Option<char> {
        quote_name(name).starts_with('"').then_some('"')
    }
}

pub(crate) fn guarantee(delivery: Delivery) -> &'static str {
    match delivery {
        Delivery::ExactlyOnce => "exactly once",
        Delivery::AtLeastOnce => "at least once",
    }
}

pub(crate) fn text(graph: &Graph, parallelism: usize) -> String {
    let mut drawing = Drawing { graph, drawn: HashSet::new(), lines: vec![format!("parallelism {parallelism}")] };
    for (i, _) in graph.nodes.iter().enumerate().filter(|(i, _)| !graph.edges.iter().any(|e| e.from == *i)) {
        drawing.node(i, "", "");
    }
    drawing.lines.join("\n")
}

struct Drawing<'a> {
    graph: &'a Graph,
    drawn: HashSet<usize>,
    lines: Vec<String>,
}

impl Drawing<'_> {
    fn node(&mut self, index: usize, first: &str, rest: &str) {
        let Some(node) = self.graph.nodes.get(index) else { return };
        if !self.drawn.insert(index) {
            self.lines.push(format!("{first}{} (see above)", node.id));
            return;
        }
        self.lines.push(format!("{first}{}: {}", node.id, node.name));
        let inputs: Vec<_> = self.graph.edges.iter().filter(|e| e.to == index).collect();
        for (i, edge) in inputs.iter().enumerate() {
            let (branch, below) = if i + 1 == inputs.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            let exchange = if matches!(edge.exchange, Exchange::Hash(_)) { "by hash " } else { "" };
            self.node(edge.from, &format!("{rest}{branch}{exchange}"), &format!("{rest}{below}"));
        }
    }
}

pub(crate) fn json(graph: &Graph, parallelism: usize) -> Value {
    let column = |f: &arrow::datatypes::FieldRef| json!({"name": f.name(), "type": sql_name(f.data_type()), "nullable": f.is_nullable()});
    let node = |node: &Node| {
        let columns: Vec<Value> = node.schema.fields().iter().map(column).collect();
        let mut value =
            json!({"id": node.id.as_str(), "kind": "operator", "description": node.name, "columns": columns});
        match &node.kind {
            NodeKind::Source(source) => {
                value["kind"] = json!("source");
                value["table"] = json!(source.table);
            }
            NodeKind::Sink(sink) => {
                value["kind"] = json!("sink");
                value["table"] = json!(sink.table);
                value["delivery"] = json!(sink.sink.delivery());
            }
            NodeKind::Operator(_) => {}
        }
        value
    };
    let id = |index: usize| graph.nodes.get(index).map(|n| n.id.as_str()).unwrap_or_default();
    let edges = graph.edges.iter().map(|edge| {
        let exchange = if matches!(edge.exchange, Exchange::Hash(_)) { "hash" } else { "forward" };
        json!({"from": id(edge.from), "to": id(edge.to), "input": edge.input, "exchange": exchange})
    });
    json!({
        "parallelism": parallelism,
        "nodes": graph.nodes.iter().map(node).collect::<Vec<_>>(),
        "edges": edges.collect::<Vec<_>>(),
    })
}
