//! `laminar secrets rotate`: a new key for what is sealed in the metadata database, while no server runs.
//!
//! ```text
//!  new key to secret.key.new ─► everything sealed anew, one transaction ─► secret.key.new becomes secret.key
//! ```
//!
//! The rule that must stay true: at every moment a file holds the key that opens the database. Killed between two steps, the
//! command is run again and goes on.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Subcommand;
use laminar_core::Code;
use laminar_core::time::{SharedClock, SystemClock};
use laminar_metastore::{SecretKey, connect, rotate};

use crate::settings::{self, Storage, key_file};
use crate::{Exit, serve};

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Seal all secrets with a new key. Stop every server of the database before: one on another folder or machine is not noticed, and would go on with the old key
    Rotate(RotateArgs),
}

#[derive(clap::Args, Debug)]
struct RotateArgs {
    #[command(flatten)]
    storage: Storage,
}

pub async fn run(args: Args) -> anyhow::Result<Exit> {
    let Command::Rotate(args) = args.command;
    let folder = args.storage.data_dir()?;
    // Before a key is read: a server on this folder would go on sealing with the old one.
    let _claim = serve::claim(&folder)?;
    let (url, key_file, next) = (args.storage.database_url(&folder), key_file(&folder), folder.join("secret.key.new"));
    let clock: SharedClock = Arc::new(SystemClock);
    let given = std::env::var(settings::SECRET_KEY).ok();
    let old = match &given {
        Some(text) => SecretKey::from_base64(text)?,
        None if key_file.exists() => SecretKey::load_or_create(&key_file)?,
        None => bail!("there is no key in {} nor in {}", key_file.display(), settings::SECRET_KEY),
    };
    let mut new = SecretKey::load_or_create(&next)?;
    if new == old {
        // The key that an earlier rotation made is in use by now. It may be nowhere else but in our environment.
        replace(&next, &folder.join("secret.key.old"))?;
        new = SecretKey::load_or_create(&next)?;
    }
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
