//! `extract_json(json, path)`: every match as JSON text in a list. `extract_json_string`: the first match, if it is a string.
//! `get_first_json_object`: the first match as JSON text.
//!
//! A path is read once per batch when it is a constant. NULL, text that is not JSON and a path without a match give NULL (an
//! empty list for `extract_json`); a wrong path is an error.

use std::sync::Arc;

use arrow::array::{ArrayRef, ListBuilder, StringArray, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field};
use datafusion::common::cast::as_string_array;
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, exec_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use serde_json::Value;

use super::json_path::JsonPath;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Answer {
    All,
    FirstString,
    First,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct PathFunction {
    name: &'static str,
    answer: Answer,
    signature: Signature,
}

pub(crate) fn functions() -> Vec<ScalarUDF> {
    let function = |name, answer| {
        let signature = Signature::string(2, Volatility::Immutable);
        ScalarUDF::from(PathFunction { name, answer, signature })
    };
    vec![
        function("extract_json", Answer::All),
        function("extract_json_string", Answer::FirstString),
        function("get_first_json_object", Answer::First),
    ]
}

impl ScalarUDFImpl for PathFunction {
    fn name(&self) -> &str {
        self.name
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.answer {
            Answer::All => DataType::List(Arc::new(Field::new("item", DataType::Utf8, true))),
            Answer::FirstString | Answer::First => DataType::Utf8,
        })
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = match args.args.get(1) {
            Some(ColumnarValue::Scalar(path)) => Some(constant_path(path)?),
            _ => None,
        };
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [json, paths] = arrays.as_slice() else { return exec_err!("{} takes two arguments", self.name) };
        let (json, paths) = (cast(json, &DataType::Utf8)?, cast(paths, &DataType::Utf8)?);
        let (json, paths) = (as_string_array(&json)?, as_string_array(&paths)?);
        let matches = Matches { json, paths, constant };
        Ok(ColumnarValue::Array(match self.answer {
            Answer::All => matches.all()?,
            Answer::FirstString => matches.first(|value| value.as_str().map(str::to_string))?,
            Answer::First => matches.first(|value| Some(value.to_string()))?,
        }))
    }
}

/// `None`: the path is NULL.
fn constant_path(path: &ScalarValue) -> Result<Option<JsonPath>> {
    match path.try_as_str().flatten() {
        Some(text) => parse(text).map(Some),
        None => Ok(None),
    }
}

fn parse(text: &str) -> Result<JsonPath> {
    JsonPath::parse(text).map_err(|error| exec_datafusion_err!("{error}"))
}

struct Matches<'a> {
    json: &'a StringArray,
    paths: &'a StringArray,
    constant: Option<Option<JsonPath>>,
}

impl Matches<'_> {
    /// Calls `visit` for each row with what the path finds; `None` for a NULL on either side or text that is not JSON.
    fn visit(&self, mut visit: impl FnMut(Option<&[&Value]>)) -> Result<()> {
        for (json, path) in self.json.iter().zip(self.paths) {
            let parsed;
            let path = match (&self.constant, path) {
                (Some(constant), _) => constant.as_ref(),
                (None, Some(text)) => {
                    parsed = parse(text)?;
                    Some(&parsed)
                }
                (None, None) => None,
            };
            let root: Option<Value> = json.and_then(|text| serde_json::from_str(text).ok());
            match (path, &root) {
                (Some(path), Some(root)) => visit(Some(&path.find(root))),
                _ => visit(None),
            }
        }
        Ok(())
    }

    fn all(&self) -> Result<ArrayRef> {
        let mut lists = ListBuilder::new(StringBuilder::new());
        self.visit(|matches| {
            if let Some(matches) = matches {
                matches.iter().for_each(|value| lists.values().append_value(value.to_string()));
            }
            lists.append(matches.is_some());
        })?;
        Ok(Arc::new(lists.finish()))
    }

    fn first(&self, answer: impl Fn(&Value) -> Option<String>) -> Result<ArrayRef> {
        let mut texts = StringBuilder::new();
        self.visit(|matches| texts.append_option(matches.and_then(|m| m.first()).and_then(|value| answer(value))))?;
        Ok(Arc::new(texts.finish()))
    }
}
