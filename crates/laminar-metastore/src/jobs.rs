//! Runs of pipelines, and their error logs.
//!
//! A job's state changes only by compare-and-set, so two controllers cannot both believe they moved it.

use async_trait::async_trait;
use laminar_core::{Code, Error, JobId, PipelineId, Result};

use crate::database::{Failure, Row};
use crate::store::{Store, from_stored, json, page_values, storable};
use crate::{Job, JobChange, JobErrorRow, Jobs, NewJob, NewJobError, Page, new_id};

/// Sorts after every id.
const LAST: &str = "~";
/// Two controllers may take the same run number at once; the loser takes the next.
const RUN_ATTEMPTS: usize = 5;

#[async_trait]
impl Jobs for Store {
    async fn create_job(&self, new: NewJob) -> Result<Job> {
        let sql = "INSERT INTO jobs (id, pipeline_id, run, state, restarts, created_at) \
                   SELECT $1, $2, COALESCE(MAX(run), 0) + 1, $3, 0, $4 FROM jobs WHERE pipeline_id = $2 RETURNING *";
        let values =
            [new.id.as_str().into(), new.pipeline_id.as_str().into(), new.state.as_str().into(), self.now().into()];
        for _ in 0..RUN_ATTEMPTS {
            let mut tx = self.database.begin().await?;
            match tx.fetch(sql, &values).await {
                Ok(rows) => {
                    tx.commit().await?;
                    return read_job(rows.first().ok_or_else(|| unknown(&new.id))?);
                }
                Err(Failure::ForeignKey) => return Err(self.unknown_id(&new.pipeline_id)),
                Err(Failure::Unique) => {
                    drop(tx);
                    if self.job(&new.id).await.is_ok() {
                        break;
                    }
                }
                Err(other) => return Err(other.into()),
            }
        }
        Err(Error::new(Code::DuplicateName, format!("job {} already exists", new.id)))
    }

    async fn job(&self, id: &JobId) -> Result<Job> {
        let rows = self.database.fetch("SELECT * FROM jobs WHERE id = $1", &[id.as_str().into()]).await?;
        read_job(rows.first().ok_or_else(|| unknown(id))?)
    }

    async fn jobs(&self, pipeline: Option<&PipelineId>, page: &Page) -> Result<Vec<Job>> {
        let [after, limit] = page_values(page, LAST);
        let rows = match pipeline {
            Some(pipeline) => {
                let sql = "SELECT * FROM jobs WHERE pipeline_id = $3 AND id < $1 ORDER BY id DESC LIMIT $2";
                self.database.fetch(sql, &[after, limit, pipeline.as_str().into()]).await?
            }
            None => {
                let sql = "SELECT * FROM jobs WHERE id < $1 ORDER BY id DESC LIMIT $2";
                self.database.fetch(sql, &[after, limit]).await?
            }
        };
        rows.iter().map(read_job).collect()
    }

    async fn update_job(&self, id: &JobId, expected: &str, change: JobChange) -> Result<Job> {
        let flag = |set: bool| i64::from(set).into();
        let values = [
            id.as_str().into(),
            expected.into(),
            change.state.as_str().into(),
            flag(change.failure.is_some()),
            change.failure.flatten().map(|f| f.to_string()).into(),
            change.restarts.map(i64::from).into(),
            change.started_at.into(),
            flag(change.finished_at.is_some()),
            change.finished_at.flatten().into(),
        ];
        let sql = "UPDATE jobs SET state = $3, failure = CASE WHEN $4 = 1 THEN $5 ELSE failure END, \
                   restarts = COALESCE($6, restarts), started_at = COALESCE($7, started_at), \
                   finished_at = CASE WHEN $8 = 1 THEN $9 ELSE finished_at END \
                   WHERE id = $1 AND state = $2 RETURNING *";
        let mut tx = self.database.begin().await?;
        let rows = tx.fetch(sql, &values).await?;
        tx.commit().await?;
        match rows.first() {
            Some(row) => read_job(row),
            None => {
                let state = self.job(id).await?.state;
                let message = format!("job {id} is {state}, no longer {expected}");
                Err(Error::new(Code::WrongState, message))
            }
        }
    }

    async fn add_job_error(&self, new: NewJobError) -> Result<JobErrorRow> {
        let row = JobErrorRow {
            id: new_id(&self.clock),
            job_id: new.job_id,
            at: self.now(),
            level: new.level,
            operator: new.operator,
            message: storable(&new.message),
            detail: new.detail,
        };
        let sql = "INSERT INTO job_errors (id, job_id, happened_at, level, operator, message, detail) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7)";
        let values = [
            row.id.as_str().into(),
            row.job_id.as_str().into(),
            row.at.into(),
            row.level.as_str().into(),
            row.operator.clone().into(),
            row.message.as_str().into(),
            row.detail.to_string().into(),
        ];
        let mut tx = self.database.begin().await?;
        match tx.execute(sql, &values).await {
            Ok(_) => tx.commit().await?,
            Err(Failure::ForeignKey) => return Err(unknown(&row.job_id)),
            Err(other) => return Err(other.into()),
        }
        Ok(row)
    }

    async fn job_errors(&self, job: &JobId, page: &Page) -> Result<Vec<JobErrorRow>> {
        let [after, limit] = page_values(page, LAST);
        let sql = "SELECT * FROM job_errors WHERE job_id = $3 AND id < $1 ORDER BY id DESC LIMIT $2";
        let rows = self.database.fetch(sql, &[after, limit, job.as_str().into()]).await?;
        rows.iter().map(read_job_error).collect()
    }
}

fn unknown(id: &JobId) -> Error {
    Error::new(Code::UnknownJob, format!("there is no job {id}"))
}

fn read_job(row: &Row) -> Result<Job> {
    Ok(Job {
        id: JobId::new(row.text("id")?),
        pipeline_id: PipelineId::new(row.text("pipeline_id")?),
        run: from_stored(row.int("run")?, "run number")?,
        state: row.text("state")?,
        failure: row.optional_text("failure")?.map(|text| json(&text, "failure")).transpose()?,
        restarts: from_stored(row.int("restarts")?, "restart count")?,
        created_at: row.int("created_at")?,
        started_at: row.optional_int("started_at")?,
        finished_at: row.optional_int("finished_at")?,
    })
}

fn read_job_error(row: &Row) -> Result<JobErrorRow> {
    Ok(JobErrorRow {
        id: row.text("id")?,
        job_id: JobId::new(row.text("job_id")?),
        at: row.int("happened_at")?,
        level: row.text("level")?,
        operator: row.optional_text("operator")?,
        message: row.text("message")?,
        detail: json(&row.text("detail")?, "error detail")?,
    })
}
