//! SQL types to Arrow types: one table for columns of CREATE TABLE, casts and literals.
//!
//! All times are UTC without a zone, in microseconds: `TIMESTAMP` and `TIMESTAMP WITH TIME ZONE` are the same type here.
//! `JSON` is text that holds JSON; the field says so, the Arrow type does not. `UUID` is text.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, IntervalUnit, TimeUnit};
use datafusion::common::{DataFusionError, plan_datafusion_err};
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::sql::sqlparser::ast::{self, ArrayElemTypeDef, ExactNumberInfo};
use datafusion::sql::sqlparser::parser::Parser;
use laminar_core::options::nearest;
pub use laminar_core::sql_name::sql_name;
use laminar_core::table::{TYPE_KEY, timestamp_type};
use laminar_core::{Code, Error, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::dialect::LaminarDialect;

/// A column's type, as written and as Arrow knows it. Stored as its text.
#[derive(Clone, Debug, PartialEq)]
pub struct SqlType {
    text: String,
    pub data_type: DataType,
    /// Text that holds JSON.
    pub json: bool,
}

impl SqlType {
    /// Errors: `type_mismatch` for a type that does not exist here, with the nearest name.
    pub fn from_ast(sql_type: &ast::DataType) -> Result<Self> {
        let data_type = arrow_type(sql_type)?;
        Ok(Self { text: spelled(sql_type), data_type, json: is_json(sql_type) })
    }

    /// The SQL spelling of an Arrow type, as for columns that come from a query.
    pub fn from_arrow(field: &Field) -> Self {
        let json = field.metadata().get(TYPE_KEY).is_some_and(|t| t == "json");
        let text = if json { "JSON".to_string() } else { sql_name(field.data_type()) };
        Self { text, data_type: field.data_type().clone(), json }
    }

    pub fn parse(text: &str) -> Result<Self> {
        let syntax = |e: &dyn fmt::Display| {
            Error::new(Code::SyntaxError, format!("'{text}' is not a type")).with_detail(e.to_string())
        };
        let dialect = LaminarDialect::new(text);
        let mut parser = Parser::new(&dialect).try_with_sql(text).map_err(|e| syntax(&e))?;
        let sql_type = parser.parse_data_type().map_err(|e| syntax(&e))?;
        match parser.peek_token_ref().token {
            datafusion::sql::sqlparser::tokenizer::Token::EOF => Self::from_ast(&sql_type),
            ref token => Err(syntax(&format!("unexpected {token}"))),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// A field of this type.
    pub fn field(&self, name: &str, nullable: bool) -> Field {
        with_json_mark(Field::new(name, self.data_type.clone(), nullable), self.json)
    }
}

impl fmt::Display for SqlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for SqlType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for SqlType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// Gives DataFusion our types in casts and typed literals.
#[derive(Debug)]
pub(crate) struct LaminarTypes;

impl TypePlanner for LaminarTypes {
    fn plan_type_field(&self, sql_type: &ast::DataType) -> datafusion::common::Result<Option<FieldRef>> {
        let data_type = arrow_type(sql_type).map_err(|e| DataFusionError::External(Box::new(e)))?;
        Ok(Some(Arc::new(with_json_mark(Field::new("", data_type, true), is_json(sql_type)))))
    }
    fn plan_type(&self, sql_type: &ast::DataType) -> datafusion::common::Result<Option<DataType>> {
        arrow_type(sql_type).map(Some).map_err(|e| plan_datafusion_err!("{e}"))
    }
}

fn with_json_mark(field: Field, json: bool) -> Field {
    if json { field.with_metadata([(TYPE_KEY.to_string(), "json".to_string())].into()) } else { field }
}

/// As it is parsed again; the parser's own text of a MAP is not.
fn spelled(sql_type: &ast::DataType) -> String {
    use ast::DataType as Sql;
    match sql_type {
        Sql::Map(key, value) => format!("MAP<{}, {}>", spelled(key), spelled(value)),
        Sql::Array(ArrayElemTypeDef::AngleBracket(item)) => format!("ARRAY<{}>", spelled(item)),
        Sql::Array(ArrayElemTypeDef::SquareBracket(item, None)) => format!("{}[]", spelled(item)),
        Sql::Struct(fields, _) => {
            let field = |field: &ast::StructField| match &field.field_name {
                Some(name) => format!("{name} {}", spelled(&field.field_type)),
                None => spelled(&field.field_type),
            };
            format!("STRUCT<{}>", fields.iter().map(field).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

fn is_json(sql_type: &ast::DataType) -> bool {
    matches!(sql_type, ast::DataType::JSON | ast::DataType::JSONB)
}

fn arrow_type(sql_type: &ast::DataType) -> Result<DataType> {
    use ast::DataType as Sql;
    Ok(match sql_type {
        Sql::Boolean | Sql::Bool => DataType::Boolean,
        Sql::TinyInt(_) => DataType::Int8,
        Sql::SmallInt(_) | Sql::Int2(_) | Sql::Int16 => DataType::Int16,
        Sql::Int(_) | Sql::Integer(_) | Sql::Int4(_) | Sql::MediumInt(_) | Sql::Int32 => DataType::Int32,
        Sql::BigInt(_) | Sql::Int8(_) | Sql::Int64 => DataType::Int64,
        Sql::TinyIntUnsigned(_) | Sql::UTinyInt | Sql::UInt8 => DataType::UInt8,
        Sql::SmallIntUnsigned(_) | Sql::Int2Unsigned(_) | Sql::USmallInt | Sql::UInt16 => DataType::UInt16,
        Sql::IntUnsigned(_) | Sql::IntegerUnsigned(_) | Sql::Int4Unsigned(_) | Sql::UInt32 => DataType::UInt32,
        Sql::BigIntUnsigned(_) | Sql::Int8Unsigned(_) | Sql::UBigInt | Sql::UInt64 => DataType::UInt64,
        Sql::Real | Sql::Float4 | Sql::Float32 => DataType::Float32,
        // FLOAT(p) of the standard: up to 24 bits is single precision
        Sql::Float(ExactNumberInfo::Precision(bits)) if *bits > 24 => DataType::Float64,
        Sql::Float(_) => DataType::Float32,
        Sql::Double(_) | Sql::DoublePrecision | Sql::Float8 | Sql::Float64 => DataType::Float64,
        Sql::Text | Sql::String(_) | Sql::JSON | Sql::JSONB | Sql::Uuid => DataType::Utf8,
        Sql::Varchar(_) | Sql::Char(_) | Sql::Character(_) | Sql::CharVarying(_) | Sql::CharacterVarying(_) => {
            DataType::Utf8
        }
        Sql::Bytea | Sql::Bytes(_) | Sql::Binary(_) | Sql::Varbinary(_) | Sql::Blob(_) => DataType::Binary,
        Sql::Date | Sql::Date32 => DataType::Date32,
        Sql::Time(None | Some(0..=6), ast::TimezoneInfo::None | ast::TimezoneInfo::WithoutTimeZone) => {
            DataType::Time64(TimeUnit::Microsecond)
        }
        Sql::Timestamp(precision, _) | Sql::Datetime(precision) | Sql::TimestampNtz(precision) => {
            timestamp(*precision, sql_type)?
        }
        Sql::Interval { .. } => DataType::Interval(IntervalUnit::MonthDayNano),
        Sql::Numeric(info) | Sql::Decimal(info) | Sql::Dec(info) => decimal(info, sql_type)?,
        Sql::Array(ArrayElemTypeDef::AngleBracket(item) | ArrayElemTypeDef::SquareBracket(item, None)) => {
            DataType::List(Arc::new(element("item", item)?))
        }
        Sql::Map(key, value) => {
            let entries = [element("key", key)?.with_nullable(false), element("value", value)?];
            let entries = DataType::Struct(Fields::from_iter(entries));
            DataType::Map(Arc::new(Field::new("entries", entries, false)), false)
        }
        Sql::Struct(fields, _) => DataType::Struct(struct_fields(fields)?),
        _ => return Err(unknown(sql_type)),
    })
}

fn element(name: &str, sql_type: &ast::DataType) -> Result<Field> {
    Ok(with_json_mark(Field::new(name, arrow_type(sql_type)?, true), is_json(sql_type)))
}

fn struct_fields(fields: &[ast::StructField]) -> Result<Fields> {
    let mut out: Vec<Field> = Vec::with_capacity(fields.len());
    for (i, field) in fields.iter().enumerate() {
        let name = match &field.field_name {
            Some(ident) => crate::parse::identifier_text(ident),
            None => format!("c{i}"),
        };
        if out.iter().any(|f| *f.name() == name) {
            return Err(Error::new(Code::DuplicateColumn, format!("the struct has two fields {name}")));
        }
        out.push(element(&name, &field.field_type)?);
    }
    Ok(out.into())
}

fn timestamp(precision: Option<u64>, sql_type: &ast::DataType) -> Result<DataType> {
    match precision {
        None | Some(0..=6) => Ok(timestamp_type()),
        Some(_) => Err(Error::new(Code::NotSupported, format!("{sql_type} is finer than microseconds"))
            .with_hint("use TIMESTAMP: it has microseconds")),
    }
}

fn decimal(info: &ExactNumberInfo, sql_type: &ast::DataType) -> Result<DataType> {
    let (precision, scale) = match *info {
        ExactNumberInfo::None => (38, 10),
        ExactNumberInfo::Precision(precision) => (precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (precision, scale),
    };
    let fits = (1..=38).contains(&precision) && (0..=precision as i64).contains(&scale);
    match (u8::try_from(precision), i8::try_from(scale)) {
        (Ok(precision), Ok(scale)) if fits => Ok(DataType::Decimal128(precision, scale)),
        _ => Err(Error::new(Code::TypeMismatch, format!("{sql_type} is out of range"))
            .with_hint("precision is 1 to 38, scale 0 to the precision")),
    }
}

/// Spellings offered as "did you mean".
const NAMES: &[&str] = &[
    "BOOLEAN",
    "TINYINT",
    "SMALLINT",
    "INT",
    "INTEGER",
    "BIGINT",
    "REAL",
    "FLOAT",
    "DOUBLE",
    "DECIMAL",
    "NUMERIC",
    "TEXT",
    "VARCHAR",
    "STRING",
    "CHAR",
    "BYTEA",
    "BYTES",
    "DATE",
    "TIME",
    "TIMESTAMP",
    "TIMESTAMPTZ",
    "INTERVAL",
    "JSON",
    "JSONB",
    "UUID",
    "ARRAY",
    "STRUCT",
    "MAP",
];

fn unknown(sql_type: &ast::DataType) -> Error {
    let text = sql_type.to_string();
    let error = Error::new(Code::TypeMismatch, format!("there is no type {text}"));
    match nearest(&text, NAMES.iter().copied()).filter(|name| !name.eq_ignore_ascii_case(&text)) {
        Some(name) => error.with_hint(format!("did you mean {name}?")),
        None => error.with_hint(format!("types: {}, T[]", NAMES.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let actual = match SqlType::parse(text) {
            Ok(sql_type) if SqlType::parse(sql_type.as_str()).as_ref() != Ok(&sql_type) => {
                format!("{sql_type} is not what {text} is")
            }
            Ok(sql_type) => format!("{} {}", sql_name(&sql_type.data_type), if sql_type.json { "json" } else { "" }),
            Err(error) => format!("{error:?}"),
        };
        assert_eq!(actual.trim_end(), expected);
    }

    #[test]
    fn types_have_one_meaning() {
        check("bigint", "BIGINT");
        check("BIGINT UNSIGNED", "BIGINT UNSIGNED");
        check("varchar(20)", "TEXT");
        check("TIMESTAMP(3) WITH TIME ZONE", "TIMESTAMP");
        check("timestamptz", "TIMESTAMP");
        check("double precision", "DOUBLE");
        check("DECIMAL", "DECIMAL(38, 10)");
        check("numeric(5,2)", "DECIMAL(5, 2)");
        check("json", "TEXT json");
        check("uuid", "TEXT");
        check("bytes", "BYTEA");
        check("TEXT[]", "TEXT[]");
        check("ARRAY<STRUCT<a INT, B MAP<TEXT, BIGINT[]>>>", "STRUCT<a INT, b MAP<TEXT, BIGINT[]>>[]");
        check("MAP<TEXT, JSON>[]", "MAP<TEXT, TEXT>[]");
        check("STRUCT<\"B\" INT, \"a b\" MAP<TEXT, INT>>", "STRUCT<\"B\" INT, \"a b\" MAP<TEXT, INT>>");
        check("bigin", "type_mismatch: there is no type bigin (hint: did you mean BIGINT?)");
        check(
            "decimal(50,2)",
            "type_mismatch: DECIMAL(50,2) is out of range (hint: precision is 1 to 38, scale 0 to the precision)",
        );
        check(
            "timestamp(9)",
            "not_supported: TIMESTAMP(9) is finer than microseconds (hint: use TIMESTAMP: it has microseconds)",
        );
        check("int int", "syntax_error: 'int int' is not a type: unexpected int");
    }

    #[test]
    fn every_arrow_type_we_name_parses_again() {
        for text in [
            "BOOLEAN",
            "SMALLINT UNSIGNED",
            "REAL",
            "DECIMAL(5, 2)",
            "TIME",
            "STRUCT<a INT, b TEXT[]>",
            "MAP<TEXT, BIGINT>",
            "STRUCT<\"userId\" MAP<TEXT, STRUCT<\"say \"\"hi\"\"\" INT>>>",
        ] {
            let sql_type = SqlType::parse(text).unwrap();
            assert_eq!(SqlType::parse(&sql_name(&sql_type.data_type)).unwrap().data_type, sql_type.data_type);
        }
    }
}
