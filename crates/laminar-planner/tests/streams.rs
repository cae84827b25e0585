//! Graphs compute what their SQL says: rows are put into the source nodes, pushed through the operators by hand, and taken
//! from what feeds the sinks. How tasks run graphs is the engine's to test.

#![allow(clippy::unwrap_used, clippy::panic)] // a test may

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, TimestampMicrosecondArray};
use arrow::util::pretty::pretty_format_batches;
use arrow_json::ReaderBuilder;
use common::Fixture;
use laminar_core::{Changes, TaskId};
use laminar_engine::graph::{Graph, NodeKind};
use laminar_engine::operator::Output;
use laminar_planner::{Statement, parse};

const CATALOGUE: &str = "
    CREATE TABLE orders (id BIGINT, item TEXT, price DOUBLE, payload JSON, tags TEXT[]) WITH (connector = 'memory', type = 'source');
    CREATE TABLE computed (
        id BIGINT NOT NULL,
        name TEXT NOT NULL DEFAULT 'nobody',
        twice BIGINT GENERATED ALWAYS AS (id * 2),
        last INT DEFAULT 7
    ) WITH (connector = 'memory', type = 'source');
    CREATE TABLE out (id BIGINT NOT NULL, item TEXT, price INT) WITH (connector = 'memory', type = 'sink');
    CREATE VIEW big (number, what) AS SELECT id, item FROM orders WHERE price > 10;
";

const ORDERS: &str = r#"
    {"id": 1, "item": "ham", "price": 5.5, "payload": "{\"a\":{\"b\":\"x\"}}", "tags": ["r", "s"]}
    {"id": 2, "item": "egg", "price": 11.0, "payload": "{\"a\":{\"b\":2}}", "tags": []}
    {"id": 3, "item": null, "price": 20.7, "payload": "{}", "tags": ["t"]}
"#;
const COMPUTED: &str = r#"{"id": 1, "name": "ann", "last": 1} {"id": 2}"#;

/// What reaches each sink, or the kept result; or the error.
async fn run(sql: &str) -> String {
    let fixture = Fixture::with(CATALOGUE);
    let Statement::CreatePipeline(create) = parse(&format!("CREATE PIPELINE p AS {sql}")).unwrap().remove(0).statement
    else {
        panic!("{sql}")
    };
    let graph = fixture.plan(&create.body, &Default::default()).unwrap().graph;
    match push(&graph).await {
        Ok(outputs) => outputs.join("\n"),
        Err(error) => format!("{error:?}"),
    }
}

async fn push(graph: &Graph) -> laminar_core::Result<Vec<String>> {
    let mut emitted: BTreeMap<usize, Vec<Changes>> = BTreeMap::new();
    let mut outputs = Vec::new();
    for (i, node) in graph.nodes.iter().enumerate() {
        let ends = !graph.edges.iter().any(|e| e.from == i);
        let inputs: Vec<_> = graph.edges.iter().filter(|e| e.to == i).collect();
        match &node.kind {
            NodeKind::Source(source) => {
                emitted.insert(
                    i,
                    vec![rows(node.schema.clone(), if source.table == "orders" { ORDERS } else { COMPUTED })],
                );
            }
            NodeKind::Operator(factory) if !ends => {
                let task = TaskId { operator: node.id.clone(), index: 0 };
                let mut operator = factory.create(&task)?;
                let mut out = Output::default();
                for edge in inputs {
                    for changes in emitted[&edge.from].clone() {
                        operator.on_changes(edge.input, changes, &mut out).await?;
                    }
                }
                let changes = out.take();
                assert!(changes.iter().all(|c| c.rows().schema() == node.schema), "{} emits another schema", node.id);
                emitted.insert(i, changes);
            }
            _ => {
                let batches: Vec<RecordBatch> =
                    inputs.iter().flat_map(|e| &emitted[&e.from]).map(|c| c.rows().clone()).collect();
                outputs.push(pretty_format_batches(&batches).unwrap().to_string());
            }
        }
    }
    Ok(outputs)
}

fn rows(schema: arrow::datatypes::SchemaRef, json: &str) -> Changes {
    let batch = if schema.fields().is_empty() {
        let count = json.matches("\"id\"").count();
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(count));
        RecordBatch::try_new_with_options(schema, vec![], &options).unwrap()
    } else {
        ReaderBuilder::new(Arc::clone(&schema)).build(json.as_bytes()).unwrap().next().unwrap().unwrap()
    };
    let times = TimestampMicrosecondArray::from_iter_values(0..batch.num_rows() as i64);
    Changes::inserts(batch, times).unwrap()
}

#[track_caller]
fn check(sql: &str, expected: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let trim = |text: &str| {
        text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('+')).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(trim(&runtime.block_on(run(sql))), trim(expected), "{sql}");
}

#[test]
fn filter_and_project() {
    check(
        "SELECT upper(item) AS item, id FROM orders WHERE price > 5.6",
        "| item | id |
         | EGG  | 2  |
         |      | 3  |",
    );
    check("SELECT id FROM orders WHERE item = 'none'", "");
    check("SELECT price FROM orders WHERE item IS NULL", "| price |\n| 20.7  |");
}

#[test]
fn insert_casts_by_position() {
    check(
        "INSERT INTO out (price, id) SELECT price, id FROM orders WHERE id <> 2",
        "| id | item | price |
         | 1  |      | 5     |
         | 3  |      | 20    |",
    );
    check(
        "INSERT INTO out SELECT CASE WHEN id < 3 THEN id END, item, id FROM orders",
        "invalid_value: column id of table out is NOT NULL, and a row has no value for it (hint: leave such rows out: WHERE id IS NOT NULL, or give them a value: coalesce(id, …))",
    );
}

#[test]
fn sinks_share_a_source() {
    check(
        "BEGIN INSERT INTO out SELECT id, item, 0 FROM orders WHERE id = 1; INSERT INTO out SELECT id, item, price FROM orders WHERE id = 2; END",
        "| id | item | price |
         | 1  | ham  | 0     |
         | id | item | price |
         | 2  | egg  | 11    |",
    );
}

#[test]
fn union_view_and_cte() {
    check(
        "WITH c AS (SELECT number + 100 AS n, what FROM big) SELECT n, what FROM c UNION ALL SELECT id, 'all' FROM orders WHERE id = 1",
        "| n   | what |
         | 102 | egg  |
         | 103 |      |
         | 1   | all  |",
    );
}

#[test]
fn unnest_makes_rows() {
    check(
        "SELECT id, unnest(tags) AS tag FROM orders WHERE id < 10",
        "| id | tag |
         | 1  | r   |
         | 1  | s   |
         | 3  | t   |",
    );
}

#[test]
fn json_and_functions() {
    check(
        "SELECT payload -> 'a' ->> 'b' AS b, json_get(payload, 'a') AS a FROM orders",
        r#"| b | a         |
           | x | {"b":"x"} |
           | 2 | {"b":2}   |
           |   |           |"#,
    );
    check("SELECT now() AS t FROM orders WHERE id = 1", "| t                   |\n| 2024-01-02T03:04:05 |");
}

#[test]
fn computed_columns() {
    check(
        "SELECT * FROM computed",
        "| id | name   | twice | last |
         | 1  | ann    | 2     | 1    |
         | 2  | nobody | 4     | 7    |",
    );
    check("SELECT twice FROM computed WHERE name = 'nobody'", "| twice |\n| 4     |");
}

#[test]
fn constants() {
    check("SELECT 1 AS one FROM orders WHERE id > 1", "| one |\n| 1   |\n| 1   |");
    check("SELECT 'x' AS x FROM orders", "| x |\n| x |\n| x |\n| x |");
}

/// Rows and milliseconds of the batches that a source with these options makes.
#[track_caller]
fn check_batches(options: &str, expected: (usize, u128)) {
    let table = format!(
        "CREATE TABLE events (id BIGINT) WITH (connector = 'kafka', bootstrap_servers = 'x:1', topic = 't', type = 'source' {options})"
    );
    let fixture = Fixture::with(&table);
    let Statement::CreatePipeline(create) =
        parse("CREATE PIPELINE p AS SELECT id FROM events").unwrap().remove(0).statement
    else {
        panic!("{options}")
    };
    let graph = fixture.plan(&create.body, &Default::default()).unwrap().graph;
    let sources = graph.nodes.iter().filter_map(|node| match &node.kind {
        NodeKind::Source(source) => Some((source.batch.rows, source.batch_timeout.as_millis())),
        _ => None,
    });
    assert_eq!(sources.collect::<Vec<_>>(), [expected], "{options}");
}

#[test]
fn batches_are_as_the_table_says() {
    check_batches("", (1000, 1000));
    check_batches(", batch_size = 50, batch_timeout_ms = 20", (50, 20));
    check_batches(", 'max.poll.records' = 500", (500, 1000));
}
