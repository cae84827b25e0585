//! The interactive shell: lines until `;`, history, completion, and psql's commands.

use std::borrow::Cow;
use std::path::Path;

use laminar_session::ConnectorInfo;
use reedline::{
    ColumnarMenu, Emacs, KeyCode, KeyModifiers, MenuBuilder, Prompt, PromptEditMode, PromptHistorySearch, Reedline,
    ReedlineEvent, ReedlineMenu, Signal, ValidationResult, Validator, default_emacs_keybindings,
};
use serde::Deserialize;

use super::completion::Names;
use super::history::{self, QuietHistory};
use super::meta::{self, Meta};
use super::{Console, text, told};
use crate::Exit;
use crate::diagnostic::Source;

/// Reads and runs until `\q` or Ctrl-D.
pub(super) async fn run(mut console: Console) -> anyhow::Result<Exit> {
    let connectors = match console.client.get::<Connectors>("/connectors").await {
        Ok(connectors) => connectors.data,
        Err(error) => return Ok(told(&error, None)),
    };
    let version = connectors.first().map_or("", |c| c.version.as_str());
    println!("laminar {} at {} — \\? for help, \\q to quit", version, console.client.url());
    let names = Names::default();
    refresh(&names, &console).await;
    let mut editor = editor(names.clone());
    loop {
        let signal = tokio::task::block_in_place(|| editor.read_line(&LaminarPrompt))?;
        let line = match signal {
            Signal::Success(line) => line,
            Signal::CtrlD => return Ok(Exit::Done),
            _ => continue,
        };
        if meta::is_command(&line) {
            if command(&mut console, meta::parse(&line)).await? == Next::Quit {
                return Ok(Exit::Done);
            }
        } else {
            console.run(Source { name: None, text: &line }).await?;
        }
        if console.done.iter().any(|tag| tag.starts_with("CREATE") || tag.starts_with("DROP")) {
            refresh(&names, &console).await;
        }
    }
}

#[derive(Deserialize)]
struct Connectors {
    data: Vec<ConnectorInfo>,
}

/// Completion without names is better than a complaint.
async fn refresh(names: &Names, console: &Console) {
    if let Err(error) = names.refresh(&console.client).await {
        tracing::debug!(%error, "no names for completion");
    }
}

#[derive(PartialEq, Eq)]
enum Next {
    Line,
    Quit,
}

async fn command(console: &mut Console, meta: Meta) -> anyhow::Result<Next> {
    match meta {
        Meta::Quit => return Ok(Next::Quit),
        Meta::Help => println!("{}", meta::HELP.trim_matches('\n')),
        Meta::Expanded => {
            console.printer.expanded = !console.printer.expanded;
            println!("expanded display is {}", on_off(console.printer.expanded));
        }
        Meta::Timing => {
            console.timing = !console.timing;
            println!("timing is {}", on_off(console.timing));
        }
        Meta::ConnectionInfo => println!("{}", console.client.url()),
        Meta::Include(path) => match text::read_script(Path::new(&path)) {
            Ok((name, text)) => {
                console.run(Source { name: Some(&name), text: &text }).await?;
            }
            Err(error) => eprintln!("error: {error:#}"),
        },
        Meta::Sql(sql) => {
            console.run(Source { name: None, text: &sql }).await?;
        }
        Meta::Unknown(line) => eprintln!("error: there is no command {line}\nhint: \\? lists the commands"),
    }
    Ok(Next::Line)
}

fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

const MENU: &str = "completion";

fn editor(names: Names) -> Reedline {
    let mut keys = default_emacs_keybindings();
    let complete = ReedlineEvent::UntilFound(vec![ReedlineEvent::Menu(MENU.to_string()), ReedlineEvent::MenuNext]);
    keys.add_binding(KeyModifiers::NONE, KeyCode::Tab, complete);
    let menu = Box::new(ColumnarMenu::default().with_name(MENU));
    let editor = Reedline::create()
        .with_validator(Box::new(Complete))
        .with_completer(Box::new(names))
        .with_partial_completions(true)
        .with_quick_completions(true)
        // Else a pasted tab would complete, and each pasted line would run by itself.
        .use_bracketed_paste(true)
        .with_menu(ReedlineMenu::EngineCompleter(menu))
        .with_edit_mode(Box::new(Emacs::new(keys)));
    match history::path().and_then(QuietHistory::open) {
        Some(history) => editor.with_history(Box::new(history)),
        None => editor,
    }
}

/// Enter sends a complete text, else begins another line.
struct Complete;

impl Validator for Complete {
    fn validate(&self, line: &str) -> ValidationResult {
        if meta::is_command(line) || text::is_blank(line) || text::is_complete(line) {
            ValidationResult::Complete
        } else {
            ValidationResult::Incomplete
        }
    }
}

struct LaminarPrompt;

impl Prompt for LaminarPrompt {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        "laminar".into()
    }
    fn render_prompt_right(&self) -> Cow<'_, str> {
        "".into()
    }
    fn render_prompt_indicator(&self, _mode: PromptEditMode) -> Cow<'_, str> {
        "=> ".into()
    }
    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        "laminar-> ".into()
    }
    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        format!("(search: {}) ", search.term).into()
    }
}
