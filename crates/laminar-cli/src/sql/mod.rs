//! `laminar sql`: a client of a running server. `-c` and `-f` send and end; without them it is a shell, or reads stdin.

mod client;
mod completion;
mod events;
mod history;
mod meta;
mod render;
mod shell;
mod text;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use laminar_api::encode::Setting;

use crate::diagnostic::{self, Source};
use crate::{Exit, settings};
pub use client::{Client, ClientError, Piece};
pub use render::{Output, Printer};
pub use text::read_script;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// The server
    #[arg(long, env = settings::API_URL, default_value = "http://127.0.0.1:5115", value_name = "URL")]
    url: String,
    /// Run these statements and end; may be given again
    // SQL may begin with a comment, which looks like an option.
    #[arg(short, long, value_name = "SQL", conflicts_with = "file", allow_hyphen_values = true)]
    command: Vec<String>,
    /// Run the statements of this file and end; `-` is stdin
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// How rows are written
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Output,
    /// One block per row instead of a table
    #[arg(short = 'x', long, conflicts_with = "output")]
    expanded: bool,
    /// Show how long each answer took
    #[arg(long)]
    timing: bool,
}

/// Runs one statement as `laminar sql -c` does.
pub async fn run_one(url: String, command: String, output: Output) -> anyhow::Result<Exit> {
    run(Args { url, command: vec![command], file: None, output, expanded: false, timing: false }).await
}

pub async fn run(args: Args) -> anyhow::Result<Exit> {
    let client = match Client::new(&args.url) {
        Ok(client) => client,
        Err(error) => return Ok(told(&error, None)),
    };
    let mut console = Console::new(
        client,
        Printer::new(args.output, args.expanded, std::io::stdout(), std::io::stderr()),
        args.timing,
    );
    if !args.command.is_empty() {
        for command in &args.command {
            let exit = console.run(Source { name: None, text: command }).await?;
            if exit != Exit::Done {
                return Ok(exit);
            }
        }
        return Ok(Exit::Done);
    }
    if args.file.is_none() && std::io::stdin().is_terminal() {
        return shell::run(console).await;
    }
    let (name, text) = read_script(args.file.as_deref().unwrap_or(Path::new("-")))?;
    console.run(Source { name: Some(&name), text: &text }).await
}

/// What a client remembers between requests.
struct Console {
    client: Client,
    printer: Printer<std::io::Stdout, std::io::Stderr>,
    timing: bool,
    /// What SET changed: the server forgets it after each request, so it is sent again with the next.
    settings: Vec<Setting>,
    /// Tags of the statements that the last script completed.
    done: Vec<String>,
}

impl Console {
    fn new(client: Client, printer: Printer<std::io::Stdout, std::io::Stderr>, timing: bool) -> Self {
        Self { client, printer, timing, settings: Vec::new(), done: Vec::new() }
    }

    /// Runs a script and writes its answer. Ctrl-C ends the answer: well if its rows have no end of their own.
    async fn run(&mut self, source: Source<'_>) -> anyhow::Result<Exit> {
        self.done.clear();
        if text::is_blank(source.text) {
            return Ok(Exit::Done);
        }
        let started = Instant::now();
        let outcome = self.answer(source.text).await;
        match &outcome {
            Ok(Exit::Done) => drop(self.printer.finish()?),
            _ => self.printer.break_off()?,
        }
        let exit = match outcome {
            Ok(exit) => exit,
            Err(Failure::Client(error)) => told(&error, Some(source)),
            // A reader such as `head` that has enough is not an error.
            Err(Failure::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(Exit::Done),
            Err(Failure::Output(error)) => return Err(error).context("cannot write the answer"),
        };
        if self.timing {
            eprintln!("Time: {}", shown(started.elapsed()));
        }
        Ok(exit)
    }

    async fn answer(&mut self, sql: &str) -> Result<Exit, Failure> {
        let interrupt = tokio::signal::ctrl_c();
        tokio::pin!(interrupt);
        let mut answer = tokio::select! {
            answer = self.client.sql(sql, &self.settings) => answer?,
            _ = &mut interrupt => return Ok(Exit::Failed),
        };
        let mut endless = false;
        loop {
            let piece = tokio::select! {
                piece = answer.next() => piece?,
                _ = &mut interrupt => {
                    // Below the terminal's own `^C`.
                    eprintln!();
                    return Ok(if endless { Exit::Done } else { Exit::Failed });
                }
            };
            let Some(piece) = piece else { return Ok(Exit::Done) };
            match &piece {
                Piece::Columns { endless: e, .. } => endless = *e,
                Piece::Done(done) => {
                    self.done.push(done.tag.clone());
                    if let Some(setting) = &done.setting {
                        self.settings.retain(|s| s.name != setting.name);
                        self.settings.push(setting.clone());
                    }
                }
                Piece::Rows(_) | Piece::Notices(_) => {}
            }
            self.printer.piece(piece)?;
        }
    }
}

enum Failure {
    Client(ClientError),
    Output(std::io::Error),
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Output(error)
    }
}

/// Shows the error; the status it ends the command with.
pub fn told(error: &ClientError, source: Option<Source<'_>>) -> Exit {
    let mut stderr = std::io::stderr();
    match error {
        ClientError::Server(error) => {
            let _ = writeln!(stderr, "{}", diagnostic::render_info(error, source));
            Exit::Failed
        }
        ClientError::Unreachable(fact) => {
            let _ = writeln!(stderr, "error: {fact}\nhint: is a server running there? start one with: laminar dev");
            Exit::Unreachable
        }
    }
}

fn shown(duration: Duration) -> String {
    let millis = duration.as_secs_f64() * 1e3;
    if millis < 1000.0 { format!("{millis:.1} ms") } else { format!("{:.2} s", millis / 1e3) }
}
