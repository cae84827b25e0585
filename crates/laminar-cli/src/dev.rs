//! `laminar dev`: everything in one process, for trying things out. What it made is gone when it ends, unless it is told
//! where to keep it: the broker's topics are in memory, and pipelines that outlive them would only fail.

use std::net::SocketAddr;

use anyhow::Context;
use laminar_connectors::kafka::DevBroker;

use crate::settings::ServerSettings;
use crate::{Exit, logging, serve, wire};

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    settings: ServerSettings,
    /// Start no broker: connections name one of your own. The broker's topics are in memory: with --data-dir too, it begins
    /// empty and at another address each time
    #[arg(long)]
    no_kafka: bool,
}

pub async fn run(args: Args) -> anyhow::Result<Exit> {
    logging::start(Some("warn,laminar=info"))?;
    let settings = args.settings;
    serve::warn(&settings);
    let temporary = match &settings.storage.data_dir {
        Some(_) => None,
        None => Some(tempfile::Builder::new().prefix("laminar-dev-").tempdir().context("a temporary folder")?),
    };
    let data_dir = match &temporary {
        Some(folder) => folder.path().to_path_buf(),
        None => settings.storage.data_dir()?,
    };
    let places = settings.places(&data_dir);
    let _claim = serve::claim(&places.data_dir)?;
    let listener = serve::listen(settings.bind.address).await?;
    let address = listener.local_addr()?;
    let broker = if args.no_kafka { None } else { Some(DevBroker::start()?) };
    let kafka = broker.as_ref().map(DevBroker::bootstrap_servers);
    let system = wire::system(&settings, &places, kafka).await?;
    let kept = temporary.is_none().then(|| data_dir.display().to_string());
    println!("{}", banner(address, kafka, kept.as_deref()));
    serve::until_stopped(listener, system, settings.hosts()).await?;
    Ok(Exit::Done)
}

fn banner(address: SocketAddr, kafka: Option<&str>, kept: Option<&str>) -> String {
    let mut out = format!("Laminar {} is running; Ctrl-C stops it.\n\n", env!("CARGO_PKG_VERSION"));
    out.push_str(&format!(
        "  SQL and REST   http://{address}/api/v1   (its description: /api/v1/openapi.json, metrics: /metrics)\n"
    ));
    if let Some(kafka) = kafka {
        out.push_str(&format!(
            "  Kafka          {kafka}   (in this process, topics in memory, delivery at least once: for trying out)\n"
        ));
    }
    match kept {
        Some(folder) => {
            out.push_str(&format!("  Kept in        {folder}"));
            if kafka.is_some() {
                out.push_str("   (but the broker's topics: it begins empty, at another address, each time)");
            }
            out.push('\n');
        }
        None => out.push_str("  Kept           nothing; --data-dir FOLDER keeps tables, pipelines and checkpoints\n"),
    }
    let url =
        if address.port() == laminar_api::DEFAULT_PORT { String::new() } else { format!(" --url http://{address}") };
    out.push_str(&format!("\nIn another terminal: laminar sql{url}\n\n"));
    out.push_str(&match kafka {
        Some(kafka) => KAFKA_STEPS.replace("BROKER", kafka),
        None => STEPS.to_string(),
    });
    out
}

const STEPS: &str = "  \
  CREATE TABLE ticks (counter BIGINT UNSIGNED) WITH (connector = 'impulse', event_rate = 10);
  CREATE PIPELINE evens AS SELECT counter FROM ticks WHERE counter % 2 = 0;
  SUBSCRIBE TO evens;
";

const KAFKA_STEPS: &str = "  \
  CREATE CONNECTION kafka TO kafka (bootstrap_servers = 'BROKER');
  CREATE TABLE ticks (counter BIGINT UNSIGNED) WITH (connector = 'impulse', event_rate = 10);
  CREATE TABLE evens (n BIGINT) WITH (connector = 'kafka', topic = 'evens', type = 'sink', format = 'json');
  CREATE PIPELINE to_kafka AS INSERT INTO evens SELECT counter FROM ticks WHERE counter % 2 = 0;
  CREATE TABLE evens_again (n BIGINT) WITH (connector = 'kafka', topic = 'evens', type = 'source', format = 'json');
  SELECT * FROM evens_again LIMIT 5;
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_banner_says_what_is_kept() {
        let address = SocketAddr::from(([127, 0, 0, 1], laminar_api::DEFAULT_PORT));
        let kept = |kafka, folder| {
            let banner = banner(address, kafka, folder);
            banner.lines().find(|line| line.contains("Kept")).map(|line| line.trim().to_string()).unwrap()
        };
        assert_eq!(kept(None, Some("/d")), "Kept in        /d");
        assert!(kept(Some("127.0.0.1:1"), Some("/d")).contains("but the broker's topics"));
        assert!(kept(Some("127.0.0.1:1"), None).starts_with("Kept           nothing"));
    }
}
