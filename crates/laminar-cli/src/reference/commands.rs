//! The commands of the binary and their flags, from clap's own description of them.

use clap::{Arg, ArgAction, Command};

use super::{any_of, code, table};

/// One section a command; what a command shares with an earlier one is named there and not told again.
pub fn sections(mut command: Command) -> String {
    command.build();
    let mut told: Vec<Vec<String>> = Vec::new();
    let mut text = String::new();
    let of_kafka = command.find_subcommand("kafka").expect("a command of this name").get_subcommands();
    let of_kafka = of_kafka.filter(|command| command.get_name() != "help");
    let commands =
        ["server", "dev", "run", "sql"].map(|name| command.find_subcommand(name).expect("a command of this name"));
    let named = commands.into_iter().map(|command| (command.get_name().to_string(), command));
    for (name, command) in named.chain(of_kafka.map(|command| (format!("kafka {}", command.get_name()), command))) {
        let shown = |arg: &&Arg| !["help", "version"].contains(&arg.get_id().as_str());
        let rows: Vec<Vec<String>> = command.get_arguments().filter(shown).map(row).collect();
        let (old, new): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| told.contains(row));
        text.push_str(&format!(
            "## laminar {name}\n\n{}.\n\n",
            command.get_about().map(ToString::to_string).unwrap_or_default()
        ));
        if !old.is_empty() {
            let names: Vec<&str> = old.iter().filter_map(|row| row.first()).map(String::as_str).collect();
            text.push_str(&format!("As above: {}.\n\n", names.join(", ")));
        }
        if !new.is_empty() {
            text.push_str(&table(&["flag", "variable", "value", "default", "meaning"], new.clone()));
            text.push('\n');
        }
        told.extend(new);
    }
    text
}

fn row(arg: &Arg) -> Vec<String> {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    assert!(!help.is_empty(), "flag {} has no doc comment", arg.get_id());
    let (about, words) = match help.split_once(" [default: ") {
        Some((about, words)) => (about, words.trim_end_matches(']').to_string()),
        None => (help.as_str(), String::new()),
    };
    let values: Vec<String> = arg.get_default_values().iter().map(|v| code(&v.to_string_lossy())).collect();
    let takes_value = arg.get_action().takes_values();
    vec![
        name(arg),
        arg.get_env().map(|name| code(&name.to_string_lossy())).unwrap_or_default(),
        if takes_value { value(arg) } else { String::new() },
        match (takes_value && !values.is_empty(), arg.is_required_set()) {
            (true, _) => values.join(", "),
            (false, true) => "**required**".to_string(),
            (false, false) => words,
        },
        format!("{about}."),
    ]
}

fn name(arg: &Arg) -> String {
    let long = arg.get_long().map(|long| format!("--{long}"));
    let short = arg.get_short().map(|short| format!("-{short}"));
    let names: Vec<String> = long.into_iter().chain(short).collect();
    if names.is_empty() { code(&value_name(arg)) } else { any_of(&names) }
}

fn value(arg: &Arg) -> String {
    let choices: Vec<String> = arg.get_possible_values().iter().map(|v| v.get_name().to_string()).collect();
    let again = if matches!(arg.get_action(), ArgAction::Append) { " …" } else { "" };
    if choices.is_empty() { code(&(value_name(arg) + again)) } else { any_of(&choices) }
}

fn value_name(arg: &Arg) -> String {
    let names = arg.get_value_names().unwrap_or_default();
    names.first().map_or_else(|| arg.get_id().to_string().to_uppercase(), ToString::to_string)
}

/// Every variable that a flag of the binary reads.
pub fn variables(mut command: Command) -> Vec<String> {
    command.build();
    let arguments = command.get_subcommands().flat_map(Command::get_arguments);
    arguments.filter_map(|arg| Some(arg.get_env()?.to_string_lossy().into_owned())).collect()
}

#[test]
fn settings_names_every_variable_of_a_flag() {
    let known: Vec<&str> = crate::settings::names().collect();
    for name in variables(<crate::Args as clap::CommandFactory>::command()) {
        assert!(known.contains(&name.as_str()), "{name} is not in settings::FLAGS");
    }
}
