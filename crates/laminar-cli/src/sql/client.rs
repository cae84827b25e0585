//! Talks to a server over its REST API; SQL is answered as Server-Sent Events, so that everything shows as it comes.

use std::fmt;
use std::time::Duration;

use laminar_api::SqlRequest;
use laminar_api::encode::rows::ColumnInfo;
use laminar_api::encode::{Done, Setting};
use laminar_api::error::{ErrorBody, ErrorInfo};
use laminar_session::Notice;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::events::{Event, Events};

/// A row's values as the server wrote them: numbers keep their digits.
pub type Row = Vec<Box<RawValue>>;

/// One piece of an answer.
#[derive(Debug)]
pub enum Piece {
    Columns { columns: Vec<ColumnInfo>, endless: bool },
    Rows(Vec<Row>),
    Notices(Vec<Notice>),
    Done(Done),
}

#[derive(Debug)]
pub enum ClientError {
    /// No answer came, or it broke off.
    Unreachable(String),
    /// The server's own error.
    Server(Box<ErrorInfo>),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(fact) => f.write_str(fact),
            Self::Server(error) => write!(f, "{}: {}", error.code, error.message),
        }
    }
}

pub struct Client {
    http: reqwest::Client,
    /// With the prefix, without a slash at the end.
    base: String,
}

/// The server sends a comment at least this often while nothing happens.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);

impl Client {
    /// A client of the server at `url`, such as `http://127.0.0.1:5115` or `127.0.0.1:5115`.
    pub fn new(url: &str) -> Result<Self, ClientError> {
        let builder = reqwest::Client::builder().connect_timeout(Duration::from_secs(5)).read_timeout(LONGEST_SILENCE);
        let http = builder.build().map_err(|error| ClientError::Unreachable(format!("no HTTP client: {error}")))?;
        let url = url.trim_end_matches('/');
        let url = if url.contains("://") { url.to_string() } else { format!("http://{url}") };
        let base = if url.ends_with("/api/v1") { url } else { format!("{url}/api/v1") };
        Ok(Self { http, base })
    }

    pub fn url(&self) -> &str {
        self.base.trim_end_matches("/api/v1")
    }

    /// Reads a resource.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let response = self.http.get(format!("{}{path}", self.base)).send().await.map_err(|e| self.unreachable(&e))?;
        let response = self.checked(response).await?;
        response.json().await.map_err(|error| self.unreachable(&error))
    }

    /// Sends a JSON body to a resource.
    pub async fn post<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B) -> Result<T, ClientError> {
        let request = self.http.post(format!("{}{path}", self.base)).json(body);
        let response = request.send().await.map_err(|e| self.unreachable(&e))?;
        let response = self.checked(response).await?;
        response.json().await.map_err(|error| self.unreachable(&error))
    }

    /// Runs statements; their answer is read with [`Answer::next`].
    pub async fn sql(&self, query: &str, settings: &[Setting]) -> Result<Answer, ClientError> {
        let settings = settings.iter().map(|s| (s.name.clone(), Value::String(s.value.clone()))).collect();
        let request = SqlRequest { query: query.to_string(), params: Vec::new(), settings };
        let request = self.http.post(format!("{}/sql", self.base)).header("Accept", "text/event-stream").json(&request);
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        Ok(Answer { response: self.checked(response).await?, events: Events::default(), ended: false })
    }

    fn unreachable(&self, error: &reqwest::Error) -> ClientError {
        let mut fact = format!("no answer from {}: {error}", self.url());
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            fact = format!("no answer from {}: {cause}", self.url());
            source = cause.source();
        }
        ClientError::Unreachable(fact)
    }

    async fn checked(&self, response: reqwest::Response) -> Result<reqwest::Response, ClientError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(body) => Err(ClientError::Server(Box::new(body.error))),
            Err(_) => {
                Err(ClientError::Unreachable(format!("{} answered {status}, and not as Laminar does", self.url())))
            }
        }
    }
}

/// The answer to a script, piece by piece.
pub struct Answer {
    response: reqwest::Response,
    events: Events,
    ended: bool,
}

impl Answer {
    /// The next piece; `None` when the script is done. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<Piece>, ClientError> {
        while !self.ended {
            if let Some(event) = self.events.pop() {
                match piece(&event)? {
                    Some(piece) => return Ok(Some(piece)),
                    None => self.ended = true,
                }
                continue;
            }
            match self.response.chunk().await {
                Ok(Some(bytes)) => self.events.push(&bytes).map_err(broken)?,
                Ok(None) => return Err(broken("the answer breaks off")),
                Err(error) => return Err(broken(error)),
            }
        }
        Ok(None)
    }
}

fn broken(error: impl fmt::Display) -> ClientError {
    ClientError::Unreachable(format!("the answer cannot be read: {error}"))
}

#[derive(Deserialize)]
struct Columns {
    columns: Vec<ColumnInfo>,
    #[serde(default)]
    endless: bool,
}

#[derive(Deserialize)]
struct Rows {
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Notices {
    notices: Vec<Notice>,
}

/// `None` for the end.
fn piece(event: &Event) -> Result<Option<Piece>, ClientError> {
    Ok(Some(match event.name.as_str() {
        "columns" => {
            let Columns { columns, endless } = parse(&event.data)?;
            Piece::Columns { columns, endless }
        }
        "rows" => Piece::Rows(parse::<Rows>(&event.data)?.rows),
        "notices" => Piece::Notices(parse::<Notices>(&event.data)?.notices),
        "done" => Piece::Done(parse(&event.data)?),
        "error" => return Err(ClientError::Server(Box::new(parse::<ErrorBody>(&event.data)?.error))),
        "end" => return Ok(None),
        other => return Err(broken(format!("there is no event {other}; is the server newer than this client?"))),
    }))
}

fn parse<'a, T: Deserialize<'a>>(data: &'a str) -> Result<T, ClientError> {
    serde_json::from_str(data).map_err(broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_completed() {
        for url in ["127.0.0.1:5115", "http://127.0.0.1:5115/", "http://127.0.0.1:5115/api/v1"] {
            let client = Client::new(url).unwrap();
            assert_eq!((client.base.as_str(), client.url()), ("http://127.0.0.1:5115/api/v1", "http://127.0.0.1:5115"));
        }
    }

    #[test]
    fn numbers_keep_their_digits() {
        let data = r#"{"rows":[[12345678901234567890.10,null]]}"#;
        let event = Event { name: "rows".into(), data: data.into() };
        let Ok(Some(Piece::Rows(rows))) = piece(&event) else { panic!("no rows") };
        assert_eq!(rows[0][0].get(), "12345678901234567890.10");
    }

    #[test]
    fn an_error_event_is_the_servers_error() {
        let data = r#"{"error":{"code":"unknown_table","message":"x","details":{}}}"#;
        let event = Event { name: "error".into(), data: data.into() };
        assert!(matches!(piece(&event), Err(ClientError::Server(error)) if error.code == "unknown_table"));
    }
}
