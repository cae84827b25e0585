//! `laminar server`: the service.

use anyhow::Context;

use crate::settings::ServerSettings;
use crate::{Exit, logging, serve, wire};

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    settings: ServerSettings,
}

pub async fn run(args: Args) -> anyhow::Result<Exit> {
    logging::start(None)?;
    let settings = args.settings;
    let mut places = settings.places(&settings.storage.data_dir()?);
    // Others than the owner of the machine may send SQL here.
    let files = places.files_dir.get_or_insert_with(|| places.data_dir.join("files"));
    std::fs::create_dir_all(&files).with_context(|| format!("folder for files {}", files.display()))?;
    tracing::info!("laminar {} starts with\n{}", env!("CARGO_PKG_VERSION"), settings.report(&places));
    serve::warn(&settings);
    let _claim = serve::claim(&places.data_dir)?;
    let listener = serve::listen(settings.bind.address).await?;
    let address = listener.local_addr()?;
    let system = wire::system(&settings, &places, None).await?;
    tracing::info!("listening on http://{address}/api/v1");
    serve::until_stopped(listener, system, settings.hosts()).await?;
    Ok(Exit::Done)
}
