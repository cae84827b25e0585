//! Runs a script and hands its answer, frame by frame, to whoever writes it.
//!
//! ```text
//! request ─► spawned task: execute, execute, …  ──bounded channel──► encoder ─► body
//!                 ▲ the client left, or the server stops: no further row, no further statement
//! ```
//!
//! The statements run in a task of their own so that a client that leaves cannot interrupt a CREATE half-way: the
//! statement at hand completes, the rest does not run. A query ends with its reader.

use std::future::Future;
use std::sync::Arc;

use futures::StreamExt;
use laminar_core::{Code, Error, Location, Result};
use laminar_planner::{Name, Parsed, Statement};
use laminar_session::{Outcome, Session, System};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tracing::Instrument;

use crate::encode::{Done, Frame, Frames, Setting};

/// Frames between the running statement and the writer of the answer; a frame holds at most one batch of rows.
const FRAMES_IN_FLIGHT: usize = 4;

/// Starts the statements. `settings` apply to this script only; `stopping` turns true when the server goes down.
pub fn run(
    system: &Arc<System>,
    settings: Vec<Setting>,
    script: Vec<Parsed>,
    stopping: watch::Receiver<bool>,
) -> Frames {
    spawn(system, stopping, |run| run.script(settings, script))
}

/// The frames of one outcome.
pub fn run_outcome(system: &Arc<System>, outcome: Outcome, stopping: watch::Receiver<bool>) -> Frames {
    spawn(system, stopping, |mut run| async move { run.answer(outcome, None).await })
}

fn spawn<F>(system: &Arc<System>, stopping: watch::Receiver<bool>, work: impl FnOnce(Run) -> F) -> Frames
where
    F: Future<Output = Result<(), End>> + Send + 'static,
{
    let (sender, frames) = mpsc::channel(FRAMES_IN_FLIGHT);
    let work = work(Run { session: system.session(), sender: sender.clone(), stopping });
    tokio::spawn(
        async move {
            let outcome = tokio::spawn(work.in_current_span()).await;
            let failure = match outcome {
                Ok(Ok(())) => return,
                Ok(Err(End::Failed(error))) => error,
                Ok(Err(End::Left)) => return,
                Err(_panic) => Error::internal("the statement failed because of a fault in the server"),
            };
            // A reader that is gone does not need it.
            let _ = sender.send(Frame::Failed(failure)).await;
        }
        .in_current_span(),
    );
    ReceiverStream::new(frames).boxed()
}

/// Why a script ends before its last statement.
enum End {
    Failed(Error),
    /// Nobody reads the answer any more.
    Left,
}

impl End {
    /// What rows fail of has no place of its own.
    fn at(self, start: Location) -> Self {
        match self {
            Self::Failed(error) => Self::Failed(error.at(start)),
            Self::Left => Self::Left,
        }
    }
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

struct Run {
    session: Session,
    sender: mpsc::Sender<Frame>,
    stopping: watch::Receiver<bool>,
}

impl Run {
    async fn script(mut self, settings: Vec<Setting>, script: Vec<Parsed>) -> Result<(), End> {
        for setting in settings {
            let statement = Statement::Set { name: Name::new(setting.name), value: setting.value };
            let parsed = Parsed { statement, text: String::new(), start: Location { line: 1, column: 1 } };
            self.session.execute(&parsed).await?;
        }
        for parsed in script {
            if *self.stopping.borrow() {
                return Err(stopped().into());
            }
            let outcome = self.session.execute(&parsed).await.map_err(|error| error.at(parsed.start))?;
            let setting = match parsed.statement {
                Statement::Set { name, value } => Some(Setting { name: name.value, value }),
                _ => None,
            };
            self.answer(outcome, setting).await.map_err(|end| end.at(parsed.start))?;
        }
        Ok(())
    }

    async fn answer(&mut self, outcome: Outcome, setting: Option<Setting>) -> Result<(), End> {
        match outcome {
            Outcome::Done { tag, notices } => {
                self.send_notices(notices).await?;
                self.send(Frame::Done(Done { tag, setting })).await
            }
            Outcome::Rows { schema, mut rows, notices, late, tag } => {
                self.send(Frame::Columns { schema, endless: tag == "SUBSCRIBE" }).await?;
                self.send_notices(notices).await?;
                let mut count = 0;
                while let Some(batch) = self.next_batch(&mut rows).await? {
                    count += batch.num_rows();
                    self.send(Frame::Rows(batch)).await?;
                    self.send_notices(late.take()).await?;
                }
                self.send_notices(late.take()).await?;
                let tag = if tag == "SELECT" { format!("SELECT {count}") } else { tag };
                self.send(Frame::Done(Done { tag, setting })).await
            }
        }
    }

    async fn next_batch(&mut self, rows: &mut RowStream) -> Result<Option<arrow::array::RecordBatch>, End> {
        tokio::select! {
            batch = rows.next() => Ok(batch.transpose()?),
            () = self.sender.closed() => Err(End::Left),
            _ = self.stopping.wait_for(|stopping| *stopping) => Err(stopped().into()),
        }
    }

    async fn send_notices(&self, notices: Vec<laminar_session::Notice>) -> Result<(), End> {
        if notices.is_empty() { Ok(()) } else { self.send(Frame::Notices(notices)).await }
    }

    async fn send(&self, frame: Frame) -> Result<(), End> {
        self.sender.send(frame).await.map_err(|_| End::Left)
    }
}

type RowStream = futures::stream::BoxStream<'static, Result<arrow::array::RecordBatch>>;

fn stopped() -> Error {
    Error::new(Code::Cancelled, "the server is shutting down")
}
