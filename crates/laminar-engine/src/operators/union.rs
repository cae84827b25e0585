//! `UNION ALL`: rows of all inputs as they come.
//!
//! The planner has already cast every input to one schema, so only the column names are replaced. Holds no state.

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use laminar_core::{Changes, Result, TaskId};

use crate::operator::{Operator, OperatorFactory, Output};

/// `schema`: of the output; every input has the same types in the same order.
#[derive(Clone, Debug)]
pub struct UnionFactory {
    pub schema: SchemaRef,
}

impl OperatorFactory for UnionFactory {
    fn create(&self, _task: &TaskId) -> Result<Box<dyn Operator>> {
        Ok(Box::new(Union { schema: self.schema.clone() }))
    }
    fn fingerprint(&self) -> String {
        "union all".to_string()
    }
}

struct Union {
    schema: SchemaRef,
}

#[async_trait]
impl Operator for Union {
    async fn on_changes(&mut self, _input: usize, changes: Changes, out: &mut Output) -> Result<()> {
        let rows = changes.rows().clone().with_schema(self.schema.clone());
        let rows = match rows {
            Ok(rows) => rows,
            // `with_schema` refuses a change of nullability; the columns themselves fit.
            Err(_) => arrow::array::RecordBatch::try_new(self.schema.clone(), changes.rows().columns().to_vec())?,
        };
        out.push(changes.with_rows(rows)?);
        Ok(())
    }

    fn filtered(&self) -> Option<u64> {
        Some(0)
    }
}
