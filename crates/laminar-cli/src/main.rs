//! The one binary `laminar`: reads the command line, the environment and files, wires the crates together, and nothing else.
//!
//! | command | what it is |
//! |---|---|
//! | `dev` | everything in one process for trying things out, a Kafka-compatible broker included |
//! | `server` | the service: metadata in PostgreSQL or SQLite, checkpoints in a folder or object store |
//! | `run` | the pipelines of one SQL file, as a process that ends when their inputs end |
//! | `sql` | a client: one command, a file, or an interactive shell |
//! | `kafka` | a client: topics and consumer groups of a connection's cluster |
//! | `secrets` | a new key for what is sealed in the metadata database |
//!
//! Exit status: 0 done, 1 a statement or pipeline failed, 2 wrong usage, 3 the server cannot be reached.
//!
//! Reading order: `settings`, `wire` (the system from its settings), the commands, `sql/` (the client).

mod dev;
mod diagnostic;
mod kafka;
mod logging;
#[cfg(test)]
mod reference;
mod run;
mod secrets;
mod serve;
mod server;
mod settings;
mod signals;
mod sql;
mod wire;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The allocator: Arrow's many short-lived buffers cost less with it than with the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// SQL over streams: Kafka and files in, Kafka and files out, exactly once.
#[derive(Parser, Debug)]
#[command(name = "laminar", version, propagate_version = true, arg_required_else_help = true)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Everything in one process, for trying things out; nothing to install
    Dev(dev::Args),
    /// The service
    Server(server::Args),
    /// Run the pipelines of a SQL file until their inputs end
    Run(run::Args),
    /// Send SQL to a server: one command, a file, or an interactive shell
    Sql(sql::Args),
    /// Look at, and move, what is in the Kafka behind a connection
    Kafka(kafka::Args),
    /// Look after the key that seals secrets
    Secrets(secrets::Args),
}

/// Why a command ends, as the exit status tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    Done = 0,
    Failed = 1,
    Unreachable = 3,
}

/// Of each worker thread. An expression as deep as the planner allows needs up to 2 MiB in a debug build.
const STACK: usize = 8 << 20;

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(STACK).build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("laminar: cannot start threads: {error}");
            return ExitCode::from(Exit::Failed as u8);
        }
    };
    let outcome = runtime.block_on(async {
        match args.command {
            Command::Dev(args) => dev::run(args).await,
            Command::Server(args) => server::run(args).await,
            Command::Run(args) => run::run(args).await,
            Command::Sql(args) => sql::run(args).await,
            Command::Kafka(args) => kafka::run(args).await,
            Command::Secrets(args) => secrets::run(args).await,
        }
    });
    // Threads that wait for the terminal or the network must not hold up the end.
    runtime.shutdown_background();
    match outcome {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(error) => {
            diagnostic::print_failure(&error);
            ExitCode::from(Exit::Failed as u8)
        }
    }
}
