//! `laminar run file.sql`: the pipelines of a file as a process, which ends when their inputs end.
//!
//! Statements run in order. The script's own `INSERT INTO … SELECT`s become one pipeline that shares its sources. With
//! `--state-dir` a later run goes on where this one stopped; the folder belongs to its script, and another script is
//! refused rather than mixed in.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Stderr, Stdout};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures::StreamExt;
use laminar_api::encode::Done;
use laminar_api::encode::rows::{Shape, columns, write_rows};
use laminar_core::Options;
use laminar_planner::statement::{CreatePipeline, Name, OnExisting, Parsed, PipelineBody, PipelineStep, Statement};
use laminar_session::{Outcome, PipelineInfo, Session, System};

use crate::diagnostic::{self, ShownError, Source};
use crate::settings::{Bind, PipelineDefaults, ServerSettings, Storage};
use crate::sql::{Output, Piece, Printer, read_script};
use crate::{Exit, logging, signals, wire};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// The script; `-` is stdin
    file: PathBuf,
    /// Name of the pipeline that the script's INSERTs become [default: the file's name]
    #[arg(long)]
    name: Option<String>,
    /// Keep metadata and checkpoints here, so that a later run goes on where this one stopped [default: keep nothing]
    #[arg(long, value_name = "FOLDER")]
    state_dir: Option<PathBuf>,
    /// The only folder in which the script may name files [default: any]
    #[arg(long, env = "LAMINAR_FILES_DIR", value_name = "FOLDER")]
    files_dir: Option<PathBuf>,
    /// How rows of SELECT are written
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Output,
    #[command(flatten)]
    defaults: PipelineDefaults,
}

/// How often the pipelines are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

pub async fn run(args: Args) -> anyhow::Result<Exit> {
    // What becomes of the pipelines is told below, once.
    logging::start(Some("warn,laminar_controller=off"))?;
    let (name, text) = read_script(&args.file)?;
    let source = Source { name: Some(&name), text: &text };
    let script = laminar_planner::parse(&text).map_err(|error| ShownError(diagnostic::render(&error, Some(source))))?;

    let temporary = match args.state_dir {
        Some(_) => None,
        None => Some(tempfile::Builder::new().prefix("laminar-run-").tempdir().context("a temporary folder")?),
    };
    let folder = match (&args.state_dir, &temporary) {
        (Some(folder), _) => std::path::absolute(folder)?,
        (None, Some(folder)) => folder.path().to_path_buf(),
        (None, None) => anyhow::bail!("no folder for the state"),
    };
    let goes_on = claim(&folder, &text)?;
    let settings = ServerSettings {
        bind: Bind { host: String::new(), address: ([127, 0, 0, 1], 0).into() },
        allowed_hosts: Vec::new(),
        storage: Storage { data_dir: Some(folder.clone()), database_url: None },
        state_url: None,
        files_dir: args.files_dir,
        allow_env: true, // the script is run by the person whose environment it is
        defaults: args.defaults,
    };
    let system = wire::system(&settings, &settings.places(&folder), None).await?;
    let pipeline = args.name.unwrap_or_else(|| free_name(pipeline_name(&args.file), &script));
    let work = async {
        if goes_on {
            eprintln!("laminar: going on from {}", folder.display());
            start_all(&system).await?;
        } else {
            let mut runner = Runner {
                session: system.session(),
                printer: Printer::new(args.output, false, std::io::stdout(), std::io::stderr()),
            };
            runner
                .script(script, &pipeline)
                .await
                .map_err(|error| ShownError(diagnostic::render(&error, Some(source))))?;
            settle(&folder)?;
        }
        watch(&system).await
    };
    let outcome = tokio::select! {
        outcome = work => outcome,
        () = signals::asked_to_stop() => {
            eprintln!("laminar: stopping with a checkpoint; a second signal stops at once");
            Ok(Exit::Done)
        }
    };
    system.shutdown().await;
    outcome
}

/// Written when the script's statements have run: from then on the folder goes on with its pipelines.
const SCRIPT: &str = "script.sql";
/// Written before they run: a folder with only this one is of a run that failed, and what is in it is of no use.
const BEGUN: &str = "script.sql.begun";

/// Does the folder hold an earlier run of this script? Errors if it holds something else.
fn claim(folder: &Path, text: &str) -> anyhow::Result<bool> {
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let (script, begun) = (earlier(&folder.join(SCRIPT))?, earlier(&folder.join(BEGUN))?);
    match script {
        Some(earlier) if earlier == text => return Ok(true),
        Some(_) => anyhow::bail!(
            "{} holds the state of another script ({SCRIPT} in it); choose another --state-dir",
            folder.display()
        ),
        None => {}
    }
    if begun.is_some() {
        for made in ["laminar.db", "laminar.db-wal", "laminar.db-shm", "laminar.db.lock", "secret.key"] {
            removed(std::fs::remove_file(folder.join(made)))?;
        }
        removed(std::fs::remove_dir_all(folder.join("checkpoints")))?;
    } else if std::fs::exists(folder.join("laminar.db"))? {
        anyhow::bail!(
            "{} holds something that `laminar run` has not made; choose another --state-dir",
            folder.display()
        );
    }
    std::fs::write(folder.join(BEGUN), text).with_context(|| folder.display().to_string())?;
    Ok(false)
}

fn earlier(path: &Path) -> anyhow::Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

fn removed(outcome: std::io::Result<()>) -> std::io::Result<()> {
    match outcome {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn settle(folder: &Path) -> anyhow::Result<()> {
    std::fs::rename(folder.join(BEGUN), folder.join(SCRIPT)).with_context(|| folder.display().to_string())
}

/// `…/Daily-Orders.sql` → `daily_orders`
fn pipeline_name(file: &Path) -> String {
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_lowercase();
    let name: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    match name.trim_matches('_') {
        "" => "pipeline".to_string(),
        name if name.starts_with(|c: char| c.is_ascii_digit()) => format!("p_{name}"),
        name => name.to_string(),
    }
}

/// The name, or with `_pipeline` behind it if the script itself makes a table or view of that name.
fn free_name(name: String, script: &[Parsed]) -> String {
    let taken = script.iter().any(|parsed| match &parsed.statement {
        Statement::CreateTable(table) => table.name.value == name,
        Statement::CreateView(view) => view.name.value == name,
        _ => false,
    });
    if taken { format!("{name}_pipeline") } else { name }
}

struct Runner {
    session: Session,
    printer: Printer<Stdout, Stderr>,
}

impl Runner {
    async fn script(&mut self, script: Vec<Parsed>, pipeline: &str) -> laminar_core::Result<()> {
        let (inserts, others): (Vec<Parsed>, Vec<Parsed>) =
            script.into_iter().partition(|parsed| matches!(parsed.statement, Statement::InsertSelect(_)));
        // What the INSERTs need comes first; a SELECT may look at what they do, so it comes after them.
        let (questions, definitions): (Vec<Parsed>, Vec<Parsed>) = others
            .into_iter()
            .partition(|parsed| matches!(parsed.statement, Statement::Query(_) | Statement::Subscribe(_)));
        for parsed in &definitions {
            self.statement(parsed).await?;
        }
        if let Some(parsed) = one_pipeline(inserts, pipeline) {
            self.statement(&parsed).await?;
        }
        for parsed in &questions {
            self.statement(parsed).await?;
        }
        Ok(())
    }

    async fn statement(&mut self, parsed: &Parsed) -> laminar_core::Result<()> {
        match self.session.execute(parsed).await? {
            Outcome::Done { notices, .. } => self.print(Piece::Notices(notices)),
            Outcome::Rows { schema, mut rows, notices, late, tag } => {
                self.print(Piece::Columns { columns: columns(&schema), endless: tag == "SUBSCRIBE" });
                self.print(Piece::Notices(notices));
                while let Some(batch) = rows.next().await {
                    let mut json = vec![b'['];
                    write_rows(&batch?, Shape::Array, b',', &mut json)?;
                    json.push(b']');
                    let rows = serde_json::from_slice(&json)
                        .map_err(|e| laminar_core::Error::internal(format!("rows cannot be shown: {e}")))?;
                    self.print(Piece::Rows(rows));
                }
                self.print(Piece::Notices(late.take()));
                self.print(Piece::Done(Done { tag, setting: None }));
            }
        }
        Ok(())
    }

    /// A stdout that nobody reads any more does not stop the pipelines.
    fn print(&mut self, piece: Piece) {
        if let Err(error) = self.printer.piece(piece) {
            tracing::debug!(%error, "rows cannot be written");
        }
    }
}

/// `CREATE PIPELINE name AS BEGIN INSERT …; INSERT …; END`, each INSERT still at its place in the script.
fn one_pipeline(inserts: Vec<Parsed>, name: &str) -> Option<Parsed> {
    let start = inserts.first()?.start;
    let texts: Vec<&str> = inserts.iter().map(|parsed| parsed.text.as_str()).collect();
    let text = format!("CREATE PIPELINE \"{}\" AS BEGIN\n{};\nEND", name.replace('"', "\"\""), texts.join(";\n"));
    let step = |parsed: Parsed| match parsed.statement {
        Statement::InsertSelect(insert) => Some(PipelineStep::Insert(insert)),
        _ => None,
    };
    let body = PipelineBody { steps: inserts.into_iter().filter_map(step).collect() };
    let create =
        CreatePipeline { name: Name::new(name), options: Options::default(), body, on_existing: OnExisting::Fail };
    Some(Parsed { statement: Statement::CreatePipeline(create), text, start })
}

async fn start_all(system: &Arc<System>) -> laminar_core::Result<()> {
    for pipeline in system.pipelines().await? {
        if pipeline.state != "finished" {
            system.start_pipeline(&pipeline.id).await?;
        }
    }
    Ok(())
}

/// Tells what the pipelines do until all of them have ended.
async fn watch(system: &Arc<System>) -> anyhow::Result<Exit> {
    let mut told: BTreeMap<String, String> = BTreeMap::new();
    loop {
        let pipelines = system.pipelines().await?;
        for pipeline in &pipelines {
            if ["created", "scheduling"].contains(&pipeline.state.as_str()) {
                continue;
            }
            if told.insert(pipeline.name.clone(), pipeline.state.clone()).as_ref() != Some(&pipeline.state) {
                tell(system, pipeline).await?;
            }
        }
        if pipelines.iter().all(|pipeline| ["finished", "failed", "stopped"].contains(&pipeline.state.as_str())) {
            let failed = pipelines.iter().any(|pipeline| pipeline.state == "failed");
            return Ok(if failed { Exit::Failed } else { Exit::Done });
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

async fn tell(system: &Arc<System>, pipeline: &PipelineInfo) -> laminar_core::Result<()> {
    let mut line = format!("laminar: {} is {}", pipeline.name, pipeline.state);
    if let Some(id) = &pipeline.job_id {
        let job = system.job(id).await?;
        if pipeline.state == "finished" {
            line = format!("{line}: {} rows read, {} rows written", job.metrics.records_in, job.metrics.records_out);
        }
        if let Some(message) = job.failure_message.as_ref().filter(|_| pipeline.state != "finished") {
            let code = job.failure_code.as_deref().unwrap_or("internal");
            line = format!("{line}\nerror[{code}]: {message}");
            if let Some(hint) = &job.failure_hint {
                line = format!("{line}\n  = hint: {hint}");
            }
        }
    }
    eprintln!("{line}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_files() {
        for (file, name) in
            [("a/Daily-Orders.sql", "daily_orders"), ("1.sql", "p_1"), ("-", "pipeline"), ("été.sql", "t")]
        {
            assert_eq!(pipeline_name(Path::new(file)), name);
        }
    }

    #[test]
    fn a_script_may_be_named_like_its_table() {
        let script = laminar_planner::parse("CREATE TABLE Totals (n INT) WITH (connector = 'stdout')").unwrap();
        assert_eq!(free_name("totals".into(), &script), "totals_pipeline");
        assert_eq!(free_name("sums".into(), &script), "sums");
    }

    #[test]
    fn a_folder_belongs_to_its_script() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!claim(folder.path(), "SELECT 1").unwrap());
        std::fs::write(folder.path().join("laminar.db"), "half done").unwrap();
        assert!(!claim(folder.path(), "SELECT 2").unwrap(), "a run that failed leaves nothing of use");
        assert!(!folder.path().join("laminar.db").exists());
        settle(folder.path()).unwrap();
        assert!(claim(folder.path(), "SELECT 2").unwrap());
        assert!(claim(folder.path(), "SELECT 1").is_err());
    }

    #[test]
    fn a_folder_of_something_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("laminar.db"), "a server's").unwrap();
        assert!(claim(folder.path(), "SELECT 1").is_err());
        assert!(folder.path().join("laminar.db").exists());
    }

    #[test]
    fn inserts_become_one_pipeline() {
        let script = laminar_planner::parse("INSERT INTO a SELECT x FROM s;\nINSERT INTO b SELECT y FROM s").unwrap();
        let parsed = one_pipeline(script, "two\"").unwrap();
        assert!(matches!(&parsed.statement, Statement::CreatePipeline(p) if p.body.steps.len() == 2));
        let again = laminar_planner::parse(&parsed.text).unwrap();
        assert!(
            matches!(&again[0].statement, Statement::CreatePipeline(p) if p.body.steps.len() == 2 && p.name.value == "two\"")
        );
    }
}
