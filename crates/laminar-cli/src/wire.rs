//! The system from its settings: database, key, checkpoint store, connectors, clock.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;

use anyhow::Context;
use laminar_connectors::{Registry, Surroundings};
use laminar_core::time::SystemClock;
use laminar_core::{Code, Error};
use laminar_engine::crash::CrashPoints;
use laminar_metastore::SecretKey;
use laminar_session::{Defaults, System, SystemConfig};

use crate::settings::{self, PipelineDefaults, Places, ServerSettings};

/// Opens everything and resumes the pipelines that should run. `dev_broker` is the address of the broker in this process.
pub async fn system(
    settings: &ServerSettings,
    places: &Places,
    dev_broker: Option<&str>,
) -> anyhow::Result<Arc<System>> {
    std::fs::create_dir_all(&places.data_dir).with_context(|| format!("data folder {}", places.data_dir.display()))?;
    let clock = Arc::new(SystemClock);
    let metastore = laminar_metastore::connect(&places.database_url, secret_key(places)?, clock.clone()).await?;
    let surroundings = Surroundings {
        files_dir: places.files_dir.clone(),
        spool_dir: Some(places.data_dir.join("spool")),
        dev_broker: dev_broker.map(str::to_string),
        ..Surroundings::default()
    };
    let config = SystemConfig {
        metastore,
        state_url: places.state_url.clone(),
        registry: Arc::new(Registry::with(surroundings)),
        clock,
        defaults: defaults(&settings.defaults),
        environment: environment(std::env::vars_os()),
        allow_env: settings.allow_env,
        crash: crash_points()?,
    };
    let system = System::start(config).await?;
    system.limit_query_memory(settings.defaults.query_memory)?;
    Ok(system)
}

/// What credentials and `${env:X}` may come from: everything but our own settings, which hold the database's password and
/// the key of the secrets.
fn environment(all: impl Iterator<Item = (OsString, OsString)>) -> BTreeMap<String, String> {
    let texts = all.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    texts.filter(|(name, _)| !name.starts_with("LAMINAR_")).collect()
}

/// The key that seals secrets in the database: from the environment, else from a file that is made at the first start.
fn secret_key(places: &Places) -> anyhow::Result<SecretKey> {
    match std::env::var(settings::SECRET_KEY) {
        Ok(text) => Ok(SecretKey::from_base64(&text).map_err(|error| error.with_field(settings::SECRET_KEY))?),
        Err(_) => Ok(SecretKey::load_or_create(&places.key_file)?),
    }
}

fn defaults(given: &PipelineDefaults) -> Defaults {
    Defaults {
        parallelism: given.parallelism,
        checkpoint_interval: given.checkpoint_interval,
        checkpoint_timeout: given.checkpoint_timeout,
        preview_timeout: given.preview_timeout,
        preview_limit: given.preview_limit,
    }
}

/// For the crash tests: `point` or `point:n`, where the process aborts at its n-th pass.
fn crash_points() -> laminar_core::Result<CrashPoints> {
    let Ok(text) = std::env::var(settings::CRASH_AT) else { return Ok(CrashPoints::default()) };
    let (point, pass) = text.split_once(':').unwrap_or((&text, "1"));
    let wrong =
        || Error::new(Code::InvalidOption, format!("{} is '{text}': expected point:number", settings::CRASH_AT));
    CrashPoints::abort_at(point, pass.parse().map_err(|_| wrong())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_settings_are_not_for_sql() {
        let all =
            [("LAMINAR_SECRET_KEY", "x"), ("AWS_REGION", "eu")].map(|(n, v)| (OsString::from(n), OsString::from(v)));
        assert_eq!(environment(all.into_iter()).into_keys().collect::<Vec<_>>(), ["AWS_REGION"]);
    }
}
