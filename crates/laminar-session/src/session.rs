//! One client's conversation: its settings, and the statements it runs one after another.

use std::sync::Arc;

use laminar_core::{Code, Error, Result};
use laminar_planner::Parsed;

use crate::{Outcome, System};

pub struct Session {
    system: Arc<System>,
}

impl Session {
    pub(crate) fn new(system: Arc<System>) -> Self {
        Self { system }
    }

    pub fn system(&self) -> &Arc<System> {
        &self.system
    }

    /// Runs one statement. It takes effect as a whole or not at all.
    pub async fn execute(&mut self, _parsed: &Parsed) -> Result<Outcome> {
        Err(Error::new(Code::NotSupported, "being written"))
    }

    /// Runs the statements in order; the first that fails ends the script and the ones before it stay done.
    ///
    /// A script with a syntax error anywhere runs nothing.
    pub async fn run_script(&mut self, sql: &str) -> Result<Vec<Outcome>> {
        let mut outcomes = Vec::new();
        for parsed in laminar_planner::parse(sql)? {
            outcomes.push(self.execute(&parsed).await?);
        }
        Ok(outcomes)
    }
}
