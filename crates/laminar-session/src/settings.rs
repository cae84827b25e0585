//! What a session can SET.

use std::time::Duration;

use laminar_core::options::{HumanDuration, nearest};
use laminar_core::{Code, Error, Result};

use crate::Defaults;

/// Names and meanings, in the order SHOW ALL lists them.
const NAMES: [(&str, &str); 2] = [
    ("preview_limit", "most rows that a preview of a stream reads from one table"),
    ("preview_timeout", "longest time that a preview of a stream reads"),
];

/// A session's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub preview_limit: usize,
    pub preview_timeout: Duration,
}

impl Settings {
    pub fn new(defaults: &Defaults) -> Self {
        Self { preview_limit: defaults.preview_limit, preview_timeout: defaults.preview_timeout }
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
            _ => return Err(unknown(name)),
        }
        Ok(())
    }

    /// Errors: `unknown_setting`.
    pub fn get(&self, name: &str) -> Result<String> {
        match name {
            "preview_limit" => Ok(self.preview_limit.to_string()),
            "preview_timeout" => Ok(format!("{:?}", self.preview_timeout)),
            _ => Err(unknown(name)),
        }
    }

    /// Name, value and meaning of each.
    pub fn list(&self) -> Vec<(&'static str, String, &'static str)> {
        NAMES.iter().map(|(name, about)| (*name, self.get(name).unwrap_or_default(), *about)).collect()
    }
}

fn unknown(name: &str) -> Error {
    let error = Error::new(Code::UnknownSetting, format!("there is no setting {name}")).with_field(name);
    let names = NAMES.map(|(name, _)| name);
    match nearest(name, names) {
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
}
