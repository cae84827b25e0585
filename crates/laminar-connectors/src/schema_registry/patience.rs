//! How long a registry is waited for, and how often it is asked again: it depends on who waits.

use std::time::Duration;

use laminar_core::{Code, Error, Result};
use tokio::time::{sleep, timeout};

/// Longest wait for one answer.
pub(super) const ANSWER: Duration = Duration::from_secs(5);
/// Longest wait of a statement, for all that it asks.
const STATEMENT: Duration = Duration::from_secs(8);
/// Waits before a call is made again that had no answer.
const AGAIN: [Duration; 3] = [Duration::from_millis(100), Duration::from_millis(400), Duration::from_millis(1600)];

/// Who waits for the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// A person: one try, and a clear error in less than ten seconds.
    Statement,
    /// A job, which would have to start over.
    Job,
}

impl Patience {
    /// What `asked` gives, within the time that whoever waits for it has. `name`: the registry's, for messages.
    pub async fn in_time<T>(self, name: &str, asked: impl Future<Output = Result<T>>) -> Result<T> {
        match self {
            Self::Job => asked.await,
            Self::Statement => timeout(STATEMENT, asked).await.unwrap_or_else(|_| {
                Err(Error::new(Code::Timeout, format!("the schema registry at {name} does not answer"))
                    .with_detail(format!("it was waited for {} s", STATEMENT.as_secs())))
            }),
        }
    }

    /// One call, made again while there is no answer, unless a person waits for it. Waiting in vain for an answer was a try that took
    /// long enough.
    pub async fn again<T, F: Future<Output = Result<T>>>(self, call: impl Fn() -> F) -> Result<T> {
        let mut waits = match self {
            Self::Job => AGAIN.iter(),
            Self::Statement => [].iter(),
        };
        loop {
            let error = match call().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            match waits.next() {
                Some(wait) if error.code() == Code::Unreachable => sleep(*wait).await,
                _ => return Err(error),
            }
        }
    }
}
