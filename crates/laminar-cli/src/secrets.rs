//! `laminar secrets rotate`: a new key for what is sealed in the metadata database, while no server runs.
//!
//! ```text
//!  new key to secret.key.new ─► everything sealed anew, one transaction ─► secret.key.new becomes secret.key
//! ```
//!
//! The rule that must stay true: at every moment a file holds the key that opens the database. Killed between two steps, the
//! command is run again and goes on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Subcommand;
use laminar_core::Code;
use laminar_core::time::{SharedClock, SystemClock};
use laminar_metastore::{SecretKey, connect, rotate};

use crate::{Exit, settings};

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Seal all secrets with a new key; stop the servers before
    Rotate(RotateArgs),
}

#[derive(clap::Args, Debug)]
struct RotateArgs {
    /// The server's folder [default: laminar in the user's data folder]
    #[arg(long, env = "LAMINAR_DATA_DIR", value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// The server's metadata database [default: laminar.db in that folder]
    #[arg(long, env = "LAMINAR_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: Option<String>,
}

pub async fn run(args: Args) -> anyhow::Result<Exit> {
    let Command::Rotate(args) = args.command;
    let folder = match args.data_dir {
        Some(folder) => folder,
        None => dirs::data_dir().context("this user has no data folder; give one with --data-dir")?.join("laminar"),
    };
    let url = args.database_url.unwrap_or_else(|| format!("sqlite:{}", folder.join("laminar.db").display()));
    let (key_file, next) = (folder.join("secret.key"), folder.join("secret.key.new"));
    let clock: SharedClock = Arc::new(SystemClock);
    let given = std::env::var(settings::SECRET_KEY).ok();
    let old = match &given {
        Some(text) => SecretKey::from_base64(text)?,
        None if key_file.exists() => SecretKey::load_or_create(&key_file)?,
        None => bail!("there is no key in {} nor in {}", key_file.display(), settings::SECRET_KEY),
    };
    let new = SecretKey::load_or_create(&next)?;
    let count = match rotate(&url, old, &new, Arc::clone(&clock)).await {
        Ok(count) => Some(count),
        // An earlier run was killed after its transaction.
        Err(error) if error.code() == Code::InvalidOption => match connect(&url, new, clock).await {
            Ok(metastore) => {
                metastore.close().await;
                None
            }
            Err(_) => return Err(error.into()),
        },
        Err(error) => return Err(error.into()),
    };
    let count = count.map_or("everything was".to_string(), |count| format!("{count} objects are"));
    if given.is_some() {
        println!(
            "{count} sealed with the key in {}: give it to the servers as {}",
            next.display(),
            settings::SECRET_KEY
        );
    } else {
        replace(&next, &key_file)?;
        println!("{count} sealed with a new key, which is in {}", key_file.display());
    }
    Ok(Exit::Done)
}

/// Durable once it returns.
fn replace(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::rename(from, to).with_context(|| format!("{} cannot become {}", from.display(), to.display()))?;
    if let Some(folder) = to.parent() {
        std::fs::File::open(folder).and_then(|folder| folder.sync_all()).context("the data folder cannot be synced")?;
    }
    Ok(())
}
