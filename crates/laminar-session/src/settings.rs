//! What a session can SET: its own settings, and the options of pipelines that are created in it.
//!
//! An option's value is that of pipelines whose `WITH (…)` does not say; it is stored with each, so later changes of the
//! setting change no pipeline.

use std::time::Duration;

use laminar_core::options::{HumanDuration, OptionEntry, names, nearest};
use laminar_core::{Code, Error, Options, Result};
use laminar_planner::settings::PipelineOptions;

use crate::Defaults;

/// Names and meanings, in the order SHOW ALL lists them.
const NAMES: [(&str, &str); 2] = [
    ("preview_limit", "most rows that a preview of a stream reads from one table"),
    ("preview_timeout", "longest time that a preview of a stream reads"),
];

/// The value of an option that was not SET, and the one that takes it back.
const DEFAULT: &str = "default";

/// A session's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub preview_limit: usize,
    pub preview_timeout: Duration,
    /// Of pipelines, where they do not say.
    pub pipeline: Options,
}

impl Settings {
    pub fn new(defaults: &Defaults) -> Self {
        let (preview_limit, preview_timeout) = (defaults.preview_limit, defaults.preview_timeout);
        Self { preview_limit, preview_timeout, pipeline: Options::default() }
    }

    /// Errors: `unknown_setting`, `invalid_option`.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let wrong = |detail: String| {
            Error::new(Code::InvalidOption, format!("setting {name} cannot be '{value}'"))
                .with_detail(detail)
                .with_field(name)
        };
        match name {
            "preview_limit" => {
                let limit = value.replace('_', "").parse::<usize>().ok().filter(|n| *n > 0);
                self.preview_limit = limit.ok_or_else(|| wrong("expected an integer of at least 1".to_string()))?;
            }
            "preview_timeout" => self.preview_timeout = value.parse::<HumanDuration>().map_err(wrong)?.0,
            _ => set_option(&mut self.pipeline, name, value)?,
        }
        Ok(())
    }

    /// Errors: `unknown_setting`.
    pub fn get(&self, name: &str) -> Result<String> {
        match name {
            "preview_limit" => Ok(self.preview_limit.to_string()),
            "preview_timeout" => Ok(format!("{:?}", self.preview_timeout)),
            _ if is_option(name) => Ok(self.pipeline.get(name).unwrap_or(DEFAULT).to_string()),
            _ => Err(unknown(name)),
        }
    }

    /// Name, value and meaning of each.
    pub fn list(&self) -> Vec<(String, String, String)> {
        let own = NAMES.map(|(name, about)| (name.to_string(), about.to_string()));
        let of_pipelines = names::<PipelineOptions>().into_iter().map(|name| {
            let about = format!("option {name} of pipelines created later, where they do not say");
            (name, about)
        });
        let value = |(name, about): (String, String)| {
            let value = self.get(&name).unwrap_or_default();
            (name, value, about)
        };
        own.into_iter().chain(of_pipelines).map(value).collect()
    }
}

/// Puts a pipeline's option among the others, or with the value `default` takes it away. Errors: as of [`Settings::set`].
pub(crate) fn set_option(options: &mut Options, name: &str, value: &str) -> Result<()> {
    if !is_option(name) {
        return Err(unknown(name));
    }
    if value.eq_ignore_ascii_case(DEFAULT) {
        options.remove(name);
        return Ok(());
    }
    let entry = OptionEntry { key: name.to_string(), value: value.to_string(), location: None };
    let alone = Options::new(vec![entry.clone()])?;
    if let Err(error) = PipelineOptions::parse(&alone, "of the session") {
        let message = format!("setting {name} cannot be '{value}'");
        let wrong = Error::new(Code::InvalidOption, message).with_field(name);
        return Err(match error.detail() {
            Some(detail) => wrong.with_detail(detail),
            None => wrong.with_detail(error.message()),
        });
    }
    options.set(entry);
    Ok(())
}

fn is_option(name: &str) -> bool {
    names::<PipelineOptions>().iter().any(|option| option == name)
}

fn unknown(name: &str) -> Error {
    let error = Error::new(Code::UnknownSetting, format!("there is no setting {name}")).with_field(name);
    let options = names::<PipelineOptions>();
    let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).chain(options.iter().map(String::as_str)).collect();
    match nearest(name, names.iter().copied()) {
        Some(near) => error.with_hint(format!("did you mean {near}?")),
        None => error.with_hint(format!("settings: {}", names.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_checked() {
        let mut settings = Settings::new(&Defaults::default());
        settings.set("preview_timeout", "3s").unwrap();
        assert_eq!(settings.get("preview_timeout").unwrap(), "3s");
        assert_eq!(settings.set("preview_limit", "0").unwrap_err().code(), Code::InvalidOption);
        assert_eq!(settings.set("preview_timout", "1s").unwrap_err().hint(), Some("did you mean preview_timeout?"));
    }

    #[test]
    fn options_of_pipelines_are_set_and_taken_back() {
        let mut settings = Settings::new(&Defaults::default());
        assert_eq!(settings.get("updating_ttl").unwrap(), "default");
        settings.set("updating_ttl", "1 hour").unwrap();
        assert_eq!(settings.get("updating_ttl").unwrap(), "1 hour");
        let error = settings.set("parallelism", "0").unwrap_err();
        assert_eq!((error.code(), error.message()), (Code::InvalidOption, "setting parallelism cannot be '0'"));
        settings.set("updating_ttl", "DEFAULT").unwrap();
        assert_eq!(settings.pipeline, Options::default());
    }
}
