//! The cache of what checkpoints there are; their manifests are the truth.

use async_trait::async_trait;
use laminar_core::{Code, Epoch, Error, JobId, PipelineId, Result};

use crate::database::{Failure, Row, Value};
use crate::store::{Store, from_stored, json, to_stored};
use crate::{CheckpointRow, Checkpoints, Page};

#[async_trait]
impl Checkpoints for Store {
    async fn put_checkpoint(&self, row: &CheckpointRow) -> Result<()> {
        let sql = "INSERT INTO checkpoints (pipeline_id, epoch, job_id, state, started_at, finished_at, bytes, detail) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (pipeline_id, epoch) DO UPDATE SET \
                   job_id = excluded.job_id, state = excluded.state, started_at = excluded.started_at, \
                   finished_at = excluded.finished_at, bytes = excluded.bytes, detail = excluded.detail";
        let values = [
            row.pipeline_id.as_str().into(),
            to_stored(row.epoch.0, "epoch")?.into(),
            row.job_id.as_str().into(),
            row.state.as_str().into(),
            row.started_at.into(),
            row.finished_at.into(),
            to_stored(row.bytes, "size")?.into(),
            row.detail.to_string().into(),
        ];
        let mut tx = self.database.begin().await?;
        match tx.execute(sql, &values).await {
            Ok(_) => tx.commit().await,
            Err(Failure::ForeignKey) => Err(self.unknown_id(&row.pipeline_id)),
            Err(other) => Err(other.into()),
        }
    }

    async fn checkpoints(&self, pipeline: &PipelineId, page: &Page) -> Result<Vec<CheckpointRow>> {
        let before = match &page.starting_after {
            Some(epoch) => epoch.parse::<i64>().map_err(|_| {
                Error::new(Code::InvalidRequest, format!("'{epoch}' is not the number of a checkpoint"))
                    .with_field("starting_after")
            })?,
            None => i64::MAX,
        };
        let sql = "SELECT * FROM checkpoints WHERE pipeline_id = $1 AND epoch < $2 ORDER BY epoch DESC LIMIT $3";
        let values = [pipeline.as_str().into(), Value::from(before), i64::from(page.limit).into()];
        self.database.fetch(sql, &values).await?.iter().map(read_checkpoint).collect()
    }

    async fn latest_checkpoint(&self, pipeline: &PipelineId) -> Result<Option<CheckpointRow>> {
        let sql =
            "SELECT * FROM checkpoints WHERE pipeline_id = $1 AND state = 'committed' ORDER BY epoch DESC LIMIT 1";
        let rows = self.database.fetch(sql, &[pipeline.as_str().into()]).await?;
        rows.first().map(read_checkpoint).transpose()
    }

    async fn forget_checkpoints(&self, pipeline: &PipelineId, before: Epoch) -> Result<u64> {
        let mut tx = self.database.begin().await?;
        let sql = "DELETE FROM checkpoints WHERE pipeline_id = $1 AND epoch < $2";
        let values = [pipeline.as_str().into(), to_stored(before.0, "epoch")?.into()];
        let forgotten = tx.execute(sql, &values).await?;
        tx.commit().await?;
        Ok(forgotten)
    }
}

fn read_checkpoint(row: &Row) -> Result<CheckpointRow> {
    Ok(CheckpointRow {
        pipeline_id: PipelineId::new(row.text("pipeline_id")?),
        job_id: JobId::new(row.text("job_id")?),
        epoch: Epoch(from_stored(row.int("epoch")?, "epoch")?),
        state: row.text("state")?,
        started_at: row.int("started_at")?,
        finished_at: row.optional_int("finished_at")?,
        bytes: from_stored(row.int("bytes")?, "size")?,
        detail: json(&row.text("detail")?, "checkpoint detail")?,
    })
}
