//! `${secret:name}`, `${env:NAME}`, `${NAME}` and `{{ NAME }}` in option values.
//!
//! Definitions are stored with the placeholders; they are checked at CREATE and substituted when a connector is opened.
//! What comes out of a placeholder is not looked at again: a secret may contain `${`. `${.column}` and `${$}` are not ours but a
//! connector's, which fills them from each row.

use laminar_core::{Code, Error, Options, Result};

/// Where the values behind placeholders come from.
pub trait Resolver: Send + Sync {
    /// The secret's value; `None` if there is no such secret.
    fn secret(&self, name: &str) -> Result<Option<String>>;
    /// The server's environment variable; `None` if it is not set. An error if the server does not allow reading it.
    fn env(&self, name: &str) -> Result<Option<String>>;
}

/// A resolver that knows nothing: every placeholder is an error.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoResolver;

impl Resolver for NoResolver {
    fn secret(&self, _: &str) -> Result<Option<String>> {
        Ok(None)
    }
    fn env(&self, _: &str) -> Result<Option<String>> {
        Ok(None)
    }
}

/// Every value with its placeholders replaced. Errors: `unknown_secret`, `invalid_option`, each at the option.
pub fn substitute(options: &Options, resolver: &dyn Resolver) -> Result<Options> {
    options.map_values(|value| {
        let mut out = String::with_capacity(value.len());
        for piece in pieces(value) {
            match piece? {
                Piece::Text(text) => out.push_str(text),
                Piece::Secret(name) => out.push_str(&secret(name, resolver)?),
                Piece::Env(name) => out.push_str(&env(name, resolver)?),
            }
        }
        Ok(out)
    })
}

/// Names of the secrets that the options refer to, in order, each once.
pub fn secrets(options: &Options) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for entry in options.iter() {
        for piece in pieces(&entry.value) {
            if let Ok(Piece::Secret(name)) = piece
                && !names.iter().any(|n| n == name)
            {
                names.push(name.to_string());
            }
        }
    }
    names
}

/// Is the value nothing but placeholders, so that showing it gives nothing away?
pub fn is_placeholder(value: &str) -> bool {
    let mut any = false;
    for piece in pieces(value) {
        match piece {
            Ok(Piece::Text(text)) if text.trim().is_empty() => {}
            Ok(Piece::Secret(_) | Piece::Env(_)) => any = true,
            _ => return false,
        }
    }
    any
}

fn secret(name: &str, resolver: &dyn Resolver) -> Result<String> {
    let value = resolver.secret(name)?;
    value.ok_or_else(|| {
        Error::new(Code::UnknownSecret, format!("there is no secret {name}"))
            .with_hint(format!("CREATE SECRET {name} AS '…'"))
    })
}

fn env(name: &str, resolver: &dyn Resolver) -> Result<String> {
    let value = resolver.env(name)?;
    value.ok_or_else(|| {
        Error::new(Code::InvalidOption, format!("the server's environment has no variable {name}"))
            .with_hint(format!("start the server with {name} set"))
    })
}

#[derive(Debug, PartialEq)]
enum Piece<'a> {
    Text(&'a str),
    Secret(&'a str),
    Env(&'a str),
}

/// Cuts a value at its placeholders. `$${` stands for a literal `${`, and `${.` and `${$` for themselves.
fn pieces(value: &str) -> impl Iterator<Item = Result<Piece<'_>>> {
    let mut rest = value;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        if let Some(after) = rest.strip_prefix("$${") {
            rest = after;
            return Some(Ok(Piece::Text("${")));
        }
        if rest.starts_with("${.") || rest.starts_with("${$") {
            let (text, after) = rest.split_at("${".len());
            rest = after;
            return Some(Ok(Piece::Text(text)));
        }
        let (open, close) = match rest {
            _ if rest.starts_with("${") => ("${", "}"),
            _ if rest.starts_with("{{") => ("{{", "}}"),
            _ => {
                let end = next_opening(rest);
                let (text, after) = rest.split_at(end);
                rest = after;
                return Some(Ok(Piece::Text(text)));
            }
        };
        let inside = rest.strip_prefix(open).unwrap_or_default();
        let Some((name, after)) = inside.split_once(close) else {
            rest = "";
            return Some(Err(Error::new(Code::InvalidOption, format!("placeholder {open} has no {close}"))));
        };
        rest = after;
        Some(placeholder(open, name.trim()))
    })
}

/// Where the first placeholder after the first character begins; the text's length if there is none.
fn next_opening(text: &str) -> usize {
    let first = text.chars().next().map_or(0, char::len_utf8);
    let tail = text.get(first..).unwrap_or_default();
    let found = ["$${", "${", "{{"].iter().filter_map(|o| tail.find(o)).min();
    found.map_or(text.len(), |at| first + at)
}

fn placeholder<'a>(open: &str, name: &'a str) -> Result<Piece<'a>> {
    let (kind, name) = match name.split_once(':') {
        Some((kind, name)) if open == "${" => (kind.trim(), name.trim()),
        _ => ("env", name),
    };
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
    match kind {
        _ if !is_name => {
            Err(Error::new(Code::InvalidOption, format!("placeholder {open} has no valid name: '{name}'")))
        }
        "secret" => Ok(Piece::Secret(name)),
        "env" => Ok(Piece::Env(name)),
        _ => Err(Error::new(Code::InvalidOption, format!("placeholder ${{{kind}:{name}}} is of an unknown kind"))
            .with_hint("use ${secret:name} or ${env:NAME}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;
    impl Resolver for Fixed {
        fn secret(&self, name: &str) -> Result<Option<String>> {
            Ok((name == "pw").then(|| "p${x}w".to_string()))
        }
        fn env(&self, name: &str) -> Result<Option<String>> {
            Ok((name == "HOST").then(|| "h".to_string()))
        }
    }

    #[track_caller]
    fn check(value: &str, expected: &str) {
        let result = substitute(&Options::from_pairs([("o", value)]), &Fixed);
        let actual = match result {
            Ok(options) => options.get("o").unwrap().to_string(),
            Err(error) => format!("{error:?}"),
        };
        assert_eq!(actual, expected);
    }

    #[test]
    fn placeholders_become_values() {
        check("plain $ { } text", "plain $ { } text");
        check("${secret:pw}", "p${x}w");
        check("a${env:HOST}:${HOST}-{{ HOST }}b", "ah:h-hb");
        check("$${secret:pw}", "${secret:pw}");
        check("ü{{HOST}}ü", "ühü");
        check("${.a.b}-${HOST}-${.}${$}${.HOST}", "${.a.b}-h-${.}${$}${.HOST}");
        check("${secret:no}", "unknown_secret: there is no secret no (hint: CREATE SECRET no AS '…')");
        check(
            "${env:NO}",
            "invalid_option: the server's environment has no variable NO (hint: start the server with NO set)",
        );
        check("${secret:pw", "invalid_option: placeholder ${ has no }");
        check(
            "${vault:pw}",
            "invalid_option: placeholder ${vault:pw} is of an unknown kind (hint: use ${secret:name} or ${env:NAME})",
        );
    }

    #[test]
    fn secrets_are_listed_and_only_whole_placeholders_are_safe_to_show() {
        let options = Options::from_pairs([("a", "${secret:x} ${secret:y}"), ("b", "${secret:x}")]);
        assert_eq!(secrets(&options), ["x", "y"]);
        assert!(is_placeholder("${secret:x}") && !is_placeholder("a${secret:x}") && !is_placeholder("abc"));
    }
}
