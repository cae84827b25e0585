//! Definitions of pipelines: an object (name, SQL, options) and a row of `pipelines`.

use async_trait::async_trait;
use laminar_core::{Error, PipelineId, Result};

use crate::database::{Failure, Row, damaged};
use crate::objects::{read_kind, set_uses, wrong_kind};
use crate::store::{Store, from_stored, json, page_values, to_stored};
use crate::{DesiredState, NewObject, NewPipeline, ObjectKind, Page, Pipeline, PipelineChange, Pipelines};

const KIND: ObjectKind = ObjectKind::Pipeline;

#[async_trait]
impl Pipelines for Store {
    async fn create_pipeline(&self, new: NewPipeline) -> Result<Pipeline> {
        let object = NewObject {
            kind: KIND,
            name: new.name,
            definition: new.options,
            sql: new.sql,
            secret: None,
            uses: new.uses,
        };
        let id = new.id.as_str();
        let mut tx = self.database.begin().await?;
        match self.insert(&mut tx, id, self.now(), &object).await {
            Ok(()) => {}
            Err(Failure::Unique) => {
                drop(tx);
                return Err(self.duplicate(KIND, &object.name).await);
            }
            Err(other) => return Err(other.into()),
        }
        let sql =
            "INSERT INTO pipelines (id, parallelism, checkpoint_interval_micros, desired) VALUES ($1, $2, $3, $4)";
        let interval = to_stored(new.checkpoint_interval_micros, "checkpoint interval")?;
        let values = [id.into(), i64::from(new.parallelism).into(), interval.into(), new.desired.as_str().into()];
        tx.execute(sql, &values).await?;
        set_uses(&mut tx, id, &object.uses).await?;
        tx.commit().await?;
        self.pipeline(&new.id).await
    }

    async fn pipeline(&self, id: &PipelineId) -> Result<Pipeline> {
        let sql = "SELECT objects.*, parallelism, checkpoint_interval_micros, desired FROM objects \
                   JOIN pipelines ON pipelines.id = objects.id WHERE objects.id = $1";
        let rows = self.database.fetch(sql, &[id.as_str().into()]).await?;
        self.read_pipeline(rows.first().ok_or_else(|| self.unknown_id(id))?)
    }

    async fn pipeline_named(&self, name: &str) -> Result<Pipeline> {
        let sql = "SELECT objects.*, parallelism, checkpoint_interval_micros, desired FROM objects \
                   LEFT JOIN pipelines ON pipelines.id = objects.id WHERE space = $1 AND name = $2";
        let rows = self.database.fetch(sql, &[KIND.space().into(), name.into()]).await?;
        let Some(row) = rows.first() else { return Err(self.unknown(KIND, name).await) };
        match read_kind(row)? {
            KIND => self.read_pipeline(row),
            found => Err(wrong_kind(name, found, KIND)),
        }
    }

    async fn pipelines(&self, page: &Page) -> Result<Vec<Pipeline>> {
        let sql = "SELECT objects.*, parallelism, checkpoint_interval_micros, desired FROM objects \
                   JOIN pipelines ON pipelines.id = objects.id WHERE objects.id > $1 \
                   ORDER BY objects.id LIMIT $2";
        let rows = self.database.fetch(sql, &page_values(page, "")).await?;
        rows.iter().map(|row| self.read_pipeline(row)).collect()
    }

    async fn update_pipeline(&self, id: &PipelineId, change: PipelineChange) -> Result<Pipeline> {
        let seal = |column: &str, text: Option<String>| {
            text.map(|text| self.seal_column(KIND, column, id.as_str(), &text)).transpose()
        };
        let options = seal("definition", change.options.map(|o| o.to_string()))?;
        let statement = seal("statement", change.sql)?;
        let interval = change.checkpoint_interval_micros.map(|i| to_stored(i, "checkpoint interval")).transpose()?;
        let mut tx = self.database.begin().await?;
        let sql = "UPDATE objects SET definition = COALESCE($2, definition), statement = COALESCE($3, statement), \
                   updated_at = $4 WHERE id = $1 AND kind = 'pipeline'";
        let values = [id.as_str().into(), options.into(), statement.into(), self.now().into()];
        if tx.execute(sql, &values).await? == 0 {
            return Err(self.unknown_id(id));
        }
        let sql = "UPDATE pipelines SET parallelism = COALESCE($2, parallelism), \
                   checkpoint_interval_micros = COALESCE($3, checkpoint_interval_micros), \
                   desired = COALESCE($4, desired) WHERE id = $1";
        let values = [
            id.as_str().into(),
            change.parallelism.map(i64::from).into(),
            interval.into(),
            change.desired.map(|d| d.as_str().to_string()).into(),
        ];
        tx.execute(sql, &values).await?;
        if let Some(uses) = &change.uses {
            set_uses(&mut tx, id.as_str(), uses).await?;
        }
        tx.commit().await?;
        self.pipeline(id).await
    }

    async fn drop_pipeline(&self, id: &PipelineId) -> Result<Pipeline> {
        let pipeline = self.pipeline(id).await?;
        self.delete(KIND, &pipeline.name, id.as_str()).await?;
        Ok(pipeline)
    }
}

impl Store {
    pub(crate) fn unknown_id(&self, id: &PipelineId) -> Error {
        Error::new(KIND.unknown(), format!("there is no pipeline with id {id}"))
    }

    fn read_pipeline(&self, row: &Row) -> Result<Pipeline> {
        let desired = row.text("desired")?;
        let states = [DesiredState::Running, DesiredState::Stopped];
        Ok(Pipeline {
            id: PipelineId::new(row.text("id")?),
            name: row.text("name")?,
            sql: self.open_column(KIND, "statement", row)?,
            options: json(&self.open_column(KIND, "definition", row)?, "pipeline option")?,
            parallelism: from_stored(row.int("parallelism")?, "parallelism")?,
            checkpoint_interval_micros: from_stored(row.int("checkpoint_interval_micros")?, "checkpoint interval")?,
            desired: states.into_iter().find(|s| s.as_str() == desired).ok_or_else(|| damaged("desired state"))?,
            created_at: row.int("created_at")?,
            updated_at: row.int("updated_at")?,
        })
    }
}
