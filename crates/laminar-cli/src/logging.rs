//! Log lines on stderr, filtered by `LAMINAR_LOG` (as `info,laminar_engine=debug`).

use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::settings;

/// librdkafka tells of every lost connection at INFO, and of most things twice.
const DEFAULT: &str = "info,librdkafka=warn,rdkafka=warn";

/// Starts logging. `default` is the filter when the environment has none.
pub fn start(default: Option<&str>) -> anyhow::Result<()> {
    let filter = match std::env::var(settings::LOG) {
        Ok(text) => EnvFilter::try_new(&text).with_context(|| format!("{} is '{text}'", settings::LOG))?,
        Err(_) => EnvFilter::new(default.unwrap_or(DEFAULT)),
    };
    let ansi = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi).init();
    Ok(())
}
