//! What `laminar server` and `laminar dev` can be told, by flag or by environment; the only place that knows the names.
//!
//! Secrets have no flag (other users of the machine could read it) and are never printed: [`ServerSettings::report`] is
//! what the log shows at start.

use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use laminar_api::AllowedHosts;
use laminar_core::options::{ByteSize, HumanDuration, nearest};

/// Where and how the system keeps and runs things.
#[derive(clap::Args, Clone, Debug)]
pub struct ServerSettings {
    /// Address to listen on. Anyone who reaches it can run SQL: keep it on loopback, or behind a proxy that asks who it is
    #[arg(long, env = "LAMINAR_BIND", default_value = "127.0.0.1:5115", value_name = "ADDRESS", value_parser = bind)]
    pub bind: Bind,
    /// Names by which clients call the server, comma separated, such as laminar.example.com behind a proxy; its addresses, localhost and the name in --bind need none
    #[arg(long, env = "LAMINAR_ALLOWED_HOSTS", value_name = "NAMES", value_delimiter = ',', value_parser = host)]
    pub allowed_hosts: Vec<String>,
    #[command(flatten)]
    pub storage: Storage,
    /// Where checkpoints live: a folder, s3://, gs:// or az:// [default: a folder in the data folder]
    #[arg(long, env = "LAMINAR_STATE_URL", value_name = "URL")]
    pub state_url: Option<String>,
    /// The only folder in which SQL may name files: inputs, outputs, certificates [default: `server`: files in the data folder; else any]
    #[arg(long, env = "LAMINAR_FILES_DIR", value_name = "FOLDER")]
    pub files_dir: Option<PathBuf>,
    /// Let option values read this process's environment with ${env:NAME}
    #[arg(long, env = "LAMINAR_ALLOW_ENV")]
    pub allow_env: bool,
    #[command(flatten)]
    pub defaults: PipelineDefaults,
}

/// Where the metadata and the key are.
#[derive(clap::Args, Clone, Debug)]
pub struct Storage {
    /// Folder for what is not told to be elsewhere: metadata, checkpoints, the key [default: laminar in the user's data folder; `dev`: a folder that is removed at the end]
    #[arg(long, env = "LAMINAR_DATA_DIR", value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// Metadata database: postgres://… or sqlite:PATH [default: sqlite in the data folder]
    #[arg(long, env = "LAMINAR_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<String>,
}

impl Storage {
    pub fn data_dir(&self) -> anyhow::Result<PathBuf> {
        match &self.data_dir {
            Some(folder) => std::path::absolute(folder).with_context(|| format!("data folder {}", folder.display())),
            None => {
                Ok(dirs::data_dir().context("this user has no data folder; give one with --data-dir")?.join("laminar"))
            }
        }
    }

    /// In `data_dir` where nothing else is said.
    pub fn database_url(&self, data_dir: &Path) -> String {
        let embedded = || format!("sqlite:{}", data_dir.join("laminar.db").display());
        self.database_url.clone().unwrap_or_else(embedded)
    }
}

/// The file in a data folder with the key that seals secrets.
pub fn key_file(data_dir: &Path) -> PathBuf {
    data_dir.join("secret.key")
}

/// Where to listen.
#[derive(Clone, Debug)]
pub struct Bind {
    /// As it is written: a name or an address.
    pub host: String,
    pub address: SocketAddr,
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

/// What pipelines and previews use where SQL says nothing else.
#[derive(clap::Args, Clone, Debug)]
pub struct PipelineDefaults {
    /// Parallel instances of a pipeline's tasks
    #[arg(long, env = "LAMINAR_PARALLELISM", default_value_t = 1, value_name = "NUMBER", value_parser = parallelism)]
    pub parallelism: usize,
    /// Time between checkpoints, such as 500ms or 10s
    #[arg(long, env = "LAMINAR_CHECKPOINT_INTERVAL", default_value = "10s", value_name = "DURATION", value_parser = duration)]
    pub checkpoint_interval: Duration,
    /// A checkpoint that takes longer fails, and the next one has all of it
    #[arg(long, env = "LAMINAR_CHECKPOINT_TIMEOUT", default_value = "10m", value_name = "DURATION", value_parser = duration)]
    pub checkpoint_timeout: Duration,
    /// Longest time that a SELECT on a stream reads
    #[arg(long, env = "LAMINAR_PREVIEW_TIMEOUT", default_value = "10s", value_name = "DURATION", value_parser = duration)]
    pub preview_timeout: Duration,
    /// Most rows that a SELECT on a stream reads
    #[arg(long, env = "LAMINAR_PREVIEW_LIMIT", default_value_t = 100_000, value_name = "ROWS")]
    pub preview_limit: usize,
    /// Most memory that all SELECTs under way may hold, such as 512MB; one that needs more fails
    #[arg(long, env = "LAMINAR_QUERY_MEMORY", default_value = "1GB", value_name = "SIZE", value_parser = size)]
    pub query_memory: usize,
}

pub const API_URL: &str = "LAMINAR_API_URL";
pub const SECRET_KEY: &str = "LAMINAR_SECRET_KEY";
pub const LOG: &str = "LAMINAR_LOG";
pub const CRASH_AT: &str = "LAMINAR_CRASH_AT";

/// Variables that no flag stands for, and what each does.
pub const VARIABLES: &[(&str, &str)] = &[
    (
        SECRET_KEY,
        "The key that seals secrets in the metadata database: 32 bytes in base64. Default: a file `secret.key` in the data \
         folder, made at the first start. `laminar secrets rotate` seals everything with a new one, while no server runs",
    ),
    (
        LOG,
        "What is logged on stderr: a level, or levels by module, such as `info,laminar_engine=debug`. Default: `info`",
    ),
    (CRASH_AT, "For the crash tests: the process aborts at this step, or at its n-th pass with `step:n`"),
];

/// Variables of flags.
const FLAGS: &[&str] = &[
    "LAMINAR_BIND",
    "LAMINAR_ALLOWED_HOSTS",
    "LAMINAR_DATA_DIR",
    "LAMINAR_DATABASE_URL",
    "LAMINAR_STATE_URL",
    "LAMINAR_FILES_DIR",
    "LAMINAR_ALLOW_ENV",
    "LAMINAR_PARALLELISM",
    "LAMINAR_CHECKPOINT_INTERVAL",
    "LAMINAR_CHECKPOINT_TIMEOUT",
    "LAMINAR_PREVIEW_TIMEOUT",
    "LAMINAR_PREVIEW_LIMIT",
    "LAMINAR_QUERY_MEMORY",
    API_URL,
];

/// Every variable that we read.
pub fn names() -> impl Iterator<Item = &'static str> {
    FLAGS.iter().copied().chain(VARIABLES.iter().map(|(name, _)| *name))
}

/// `host:port`; a name stands for the first address that it has.
fn bind(text: &str) -> Result<Bind, String> {
    let found = text.to_socket_addrs().map_err(|error| format!("{error}; expected host:port, such as 127.0.0.1:5115"));
    let address = found?.next().ok_or_else(|| format!("{text} has no address"))?;
    let host = text.rsplit_once(':').map_or(text, |(host, _port)| host);
    Ok(Bind { host: host.to_string(), address })
}

/// A name alone, for a scheme, port or path in it would never match; or nothing, as a variable may be set to.
fn host(text: &str) -> Result<String, String> {
    let text = text.trim();
    let is_name =
        text.parse::<IpAddr>().is_ok() || text.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
    if is_name { Ok(text.to_string()) } else { Err("expected host names, such as laminar.example.com".to_string()) }
}

fn duration(text: &str) -> Result<Duration, String> {
    match text.parse::<HumanDuration>()?.0 {
        Duration::ZERO => Err("must be longer than nothing".to_string()),
        duration => Ok(duration),
    }
}

fn size(text: &str) -> Result<usize, String> {
    match usize::try_from(text.parse::<ByteSize>()?.0) {
        Ok(0) => Err("must be more than nothing".to_string()),
        Ok(bytes) => Ok(bytes),
        Err(error) => Err(error.to_string()),
    }
}

fn parallelism(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".to_string()),
        Ok(number) => Ok(number),
        Err(_) => Err("expected a whole number".to_string()),
    }
}

/// Where the settings lead, every place filled in.
#[derive(Clone, Debug)]
pub struct Places {
    pub data_dir: PathBuf,
    pub database_url: String,
    pub state_url: String,
    /// The key that seals secrets, unless the environment has it.
    pub key_file: PathBuf,
    /// The only folder in which SQL may name files; `None`: any.
    pub files_dir: Option<PathBuf>,
}

impl ServerSettings {
    /// All places, below `data_dir` where nothing else is said.
    pub fn places(&self, data_dir: &Path) -> Places {
        let state = || data_dir.join("checkpoints").display().to_string();
        Places {
            data_dir: data_dir.to_path_buf(),
            database_url: self.storage.database_url(data_dir),
            state_url: self.state_url.clone().unwrap_or_else(state),
            key_file: key_file(data_dir),
            files_dir: self.files_dir.clone(),
        }
    }

    /// The names that the server goes by.
    pub fn hosts(&self) -> AllowedHosts {
        AllowedHosts::new(self.allowed_hosts.iter().chain([&self.bind.host]).cloned())
    }

    /// One line per setting, without secrets.
    pub fn report(&self, places: &Places) -> String {
        let mut lines = Vec::new();
        let mut line = |name: &str, value: &dyn fmt::Display| lines.push(format!("  {name:<20} {value}"));
        line("bind", &self.bind);
        line("allowed_hosts", &self.allowed_hosts.join(","));
        line("database", &without_password(&places.database_url));
        line("checkpoints", &without_password(&places.state_url));
        line("files_dir", &places.files_dir.as_ref().map_or("any".to_string(), |f| f.display().to_string()));
        line("allow_env", &self.allow_env);
        line("parallelism", &self.defaults.parallelism);
        line("checkpoint_interval", &format!("{:?}", self.defaults.checkpoint_interval));
        line("checkpoint_timeout", &format!("{:?}", self.defaults.checkpoint_timeout));
        line("preview_timeout", &format!("{:?}", self.defaults.preview_timeout));
        line("preview_limit", &self.defaults.preview_limit);
        line("query_memory", &format!("{} MiB", self.defaults.query_memory >> 20));
        lines.join("\n")
    }
}

/// The URL with its password and query replaced: both may hold credentials.
pub fn without_password(url: &str) -> String {
    let (url, query) = match url.split_once('?') {
        Some((url, _)) => (url, "?…"),
        None => (url, ""),
    };
    let Some((scheme, rest)) = url.split_once("://") else { return format!("{url}{query}") };
    let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    let shown = match authority.rsplit_once('@') {
        Some((user, host)) => match user.split_once(':') {
            Some((name, _)) => format!("{name}:***@{host}"),
            None => format!("{user}@{host}"),
        },
        None => authority.to_string(),
    };
    format!("{scheme}://{shown}{path}{query}")
}

/// Variables that look like a misspelt setting, with what was probably meant. Others are not ours: a container platform
/// adds variables of its own that begin with the service's name.
pub fn misspelt(environment: impl Iterator<Item = String>) -> Vec<(String, &'static str)> {
    let unknown = |name: &String| name.starts_with(PREFIX) && !names().any(|ours| ours == name);
    environment.filter(unknown).filter_map(|name| nearest_setting(&name).map(|near| (name.clone(), near))).collect()
}

/// What the names of all our variables begin with.
const PREFIX: &str = "LAMINAR_";

/// The prefix that all share says nothing about likeness.
fn nearest_setting(name: &str) -> Option<&'static str> {
    let short = |name: &'static str| name.strip_prefix(PREFIX).unwrap_or(name);
    let near = nearest(name.strip_prefix(PREFIX)?, names().map(short))?;
    names().find(|name| short(name) == near)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        settings: ServerSettings,
    }

    fn parse(args: &[&str]) -> Result<ServerSettings, String> {
        let command = Command::try_parse_from([&["laminar"], args].concat());
        command.map(|c| c.settings).map_err(|e| e.to_string())
    }

    #[test]
    fn places_follow_the_data_folder_unless_said() {
        let settings = parse(&["--data-dir", "/d", "--state-url", "s3://bucket/x"]).unwrap();
        let places = settings.places(&settings.storage.data_dir().unwrap());
        assert_eq!(places.database_url, "sqlite:/d/laminar.db");
        assert_eq!(places.state_url, "s3://bucket/x");
        assert_eq!(places.key_file, Path::new("/d/secret.key"));
    }

    #[test]
    fn values_are_checked() {
        assert_eq!(
            parse(&["--checkpoint-interval", "200ms"]).unwrap().defaults.checkpoint_interval,
            Duration::from_millis(200)
        );
        for (wrong, fact) in [
            (["--checkpoint-interval", "soon"], "expected a duration"),
            (["--checkpoint-interval", "0s"], "longer than nothing"),
            (["--parallelism", "0"], "at least 1"),
            (["--query-memory", "much"], "expected a size"),
            (["--query-memory", "0"], "more than nothing"),
            (["--bind", "localhost"], "invalid socket address"),
            (["--allowed-hosts", "http://laminar"], "expected host names"),
            (["--allowed-hosts", "laminar:5115"], "expected host names"),
        ] {
            let error = parse(&wrong).unwrap_err();
            assert!(error.contains(fact), "{error}");
        }
    }

    #[test]
    fn the_name_it_is_bound_by_is_the_servers() {
        let names = |args: &[&str]| format!("{:?}", parse(args).unwrap().hosts());
        assert_eq!(names(&["--bind", "localhost:0"]), r#"AllowedHosts(["localhost"])"#);
        assert_eq!(
            names(&["--bind", "127.0.0.1:0", "--allowed-hosts", "A.example, b,"]),
            r#"AllowedHosts(["a.example", "b", "127.0.0.1"])"#
        );
    }

    #[test]
    fn the_report_has_no_secret() {
        let settings =
            parse(&["--data-dir", "/d", "--database-url", "postgres://me:hunter2@db/laminar?sslkey=x"]).unwrap();
        let report = settings.report(&settings.places(Path::new("/d")));
        assert!(report.contains("postgres://me:***@db/laminar?…"), "{report}");
        assert!(!report.contains("hunter2"));
    }

    #[test]
    fn urls_without_passwords_stay() {
        for url in ["sqlite:/d/laminar.db", "postgres://db/x", "postgres://me@db/x", "s3://bucket/a@b"] {
            assert_eq!(without_password(url), url);
        }
    }

    #[test]
    fn misspelt_variables_are_found() {
        let environment =
            ["LAMINAR_DATABSE_URL", "LAMINAR_BIND", "LAMINAR_SERVICE_HOST", "LAMINAR_PARTS", "HOME"].map(String::from);
        assert_eq!(misspelt(environment.into_iter()), [("LAMINAR_DATABSE_URL".to_string(), "LAMINAR_DATABASE_URL")]);
    }
}
