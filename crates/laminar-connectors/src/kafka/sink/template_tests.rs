//! Templates: what each placeholder becomes, and which texts are refused.

use std::sync::Arc;

use arrow::array::{Float64Array, Int64Array, StructArray, TimestampMicrosecondArray};
use arrow::datatypes::{Field, Fields, TimeUnit};

use super::*;

fn column(name: &str, data_type: DataType, json: bool) -> Column {
    Column { name: name.into(), data_type, nullable: true, json, metadata: None }
}

/// `id BIGINT, name TEXT, temperature DOUBLE, at TIMESTAMP, place STRUCT<city TEXT>, more JSON`, and two rows of it.
fn sample() -> (TableSpec, Changes) {
    let city = Fields::from(vec![Field::new("city", DataType::Utf8, true)]);
    let columns = vec![
        column("id", DataType::Int64, false),
        column("name", DataType::Utf8, false),
        column("temperature", DataType::Float64, false),
        column("at", DataType::Timestamp(TimeUnit::Microsecond, None), false),
        column("place", DataType::Struct(city.clone()), false),
        column("more", DataType::Utf8, true),
    ];
    let projection = (0..columns.len()).collect();
    let table = TableSpec { name: "t".into(), columns, projection, event_time: None, primary_key: Vec::new() };
    let cities: ArrayRef = Arc::new(StringArray::from(vec![Some("Köln"), Some("hidden")]));
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![Some(7), None])),
        Arc::new(StringArray::from(vec![Some("a \"b\""), None])),
        Arc::new(Float64Array::from(vec![Some(21.5), None])),
        Arc::new(TimestampMicrosecondArray::from(vec![Some(1_704_067_200_000_000), None])),
        Arc::new(StructArray::new(city, vec![cities], Some(vec![true, false].into()))),
        Arc::new(StringArray::from(vec![Some(r#"{"h1":"v1","n":[1,{"x":2}],"z":null}"#), Some("no json")])),
    ];
    let rows = RecordBatch::try_new(table.schema(), arrays).unwrap();
    (table, Changes::inserts(rows, vec![0, 0].into()).unwrap())
}

#[track_caller]
fn check(text: &str, expected: [&str; 2]) {
    let (table, changes) = sample();
    let template = Template::parse(text, &table, "sink.value").unwrap();
    let columns: Vec<usize> = (0..table.columns.len()).collect();
    let mut renderer = Renderer::new(&template, &table, &table, &columns, &FormatOptions::default()).unwrap();
    let mut out = EncodedValues::default();
    renderer.render(&changes, &mut out).unwrap();
    let texts: Vec<_> = out.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect();
    assert_eq!(texts, expected, "{text}");
}

#[test]
fn placeholders_are_filled_from_each_row() {
    check("snot", ["snot", "snot"]);
    check("", ["", ""]);
    check("${.name}", ["a \"b\"", ""]);
    check("${name}-${.ID}", ["a \"b\"-7", "-"]);
    check("v = ${.temperature}°", ["v = 21.5°", "v = °"]);
    check("${.at}", ["2024-01-01T00:00:00Z", ""]);
    check("${.place.city}", ["Köln", ""]);
    check("${.place}", [r#"{"city":"Köln"}"#, ""]);
    check("${.place.street}", ["", ""]);
    check("${.more.h1} ${.more.n.1.x} ${.more.z}${.more.none}", ["v1 2 ", "  "]);
    check("${.more.n}", [r#"[1,{"x":2}]"#, ""]);
    check("cost: ${$}${.id}", ["cost: $7", "cost: $"]);
    let row = r#"{"id":7,"name":"a \"b\"","temperature":21.5,"at":"2024-01-01T00:00:00Z","place":{"city":"Köln"},"more":{"h1":"v1","n":[1,{"x":2}],"z":null}}"#;
    let nulls = r#"{"id":null,"name":null,"temperature":null,"at":null,"place":null,"more":"no json"}"#;
    check("[${.}]", [&format!("[{row}]"), &format!("[{nulls}]")]);
}

#[test]
fn texts_that_cannot_be_meant_are_refused() {
    let (table, _) = sample();
    let refused = |text: &str| format!("{:?}", Template::parse(text, &table, "sink.key").unwrap_err());
    assert_eq!(refused("${.nmae}"), "unknown_column: table t has no column nmae (hint: did you mean name?)");
    assert_eq!(
        refused("a ${.name"),
        "invalid_option: option sink.key of connector kafka cannot be 'a ${.name': a placeholder that begins with ${ does not end (hint: write ${.column}, or ${$} for a dollar sign)"
    );
}
