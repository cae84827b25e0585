//! Which requests may come in: those that call the server by a name of its own, and those of no other site's page.
//!
//! The API asks nobody who they are; often only loopback keeps others out. A browser on that machine is inside, and the
//! pages it shows are not to be trusted:
//!
//! ```text
//! rebinding   the page's own evil.example now resolves to 127.0.0.1:   Host: evil.example:5115     refused by its Host
//! forgery     a form of evil.example posts to 127.0.0.1:               Origin: http://evil.example  refused by its Origin
//! ```
//!
//! An address cannot be rebound, so every IP address is a good host. A client that is no browser sends no `Origin`, and one
//! of HTTP/1.0 no `Host`: both pass.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::{Authority, Scheme};
use axum::http::{HeaderMap, HeaderName, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use laminar_core::{Code, Error, Result};

use crate::error::ApiError;

/// Names of this server besides every IP address and `localhost`. A proxy may put another of them into `Host` than the
/// browser has in `Origin`.
#[derive(Clone, Debug, Default)]
pub struct AllowedHosts(Arc<[String]>);

impl AllowedHosts {
    /// Host names without a port, in any case; IPv6 addresses without brackets. An empty name is none.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        let names = names.into_iter().filter(|name| !name.is_empty());
        Self(names.map(|name| name.to_ascii_lowercase()).collect())
    }

    fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|allowed| allowed == name)
    }

    /// Errors: `forbidden_origin`.
    fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<()> {
        let host = match text(headers, &header::HOST)? {
            Some(host) => Some(Site::of_host(host).ok_or_else(|| unknown_host(host))?),
            None => uri.authority().map(Site::new),
        };
        if let Some(host) = &host {
            let own = is_local(&host.name) || self.contains(&host.name);
            if !own {
                return Err(unknown_host(&host.name));
            }
        }
        let Some(written) = text(headers, &header::ORIGIN)? else { return Ok(()) };
        let (origin, default_port) = Site::of_origin(written).ok_or_else(|| other_site(written))?;
        let same = host.is_some_and(|host| {
            host.name == origin.name && host.port.unwrap_or(default_port) == origin.port.unwrap_or(default_port)
        });
        if same || self.contains(&origin.name) { Ok(()) } else { Err(other_site(written)) }
    }
}

/// The layer over every path.
pub(crate) async fn check(State(allowed): State<AllowedHosts>, request: Request, next: Next) -> Response {
    match allowed.check(request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => ApiError::from(error).into_response(),
    }
}

/// Host and port, the name in lower case, without brackets and without the dot that ends a full name.
struct Site {
    name: String,
    port: Option<u16>,
}

impl Site {
    fn new(authority: &Authority) -> Self {
        let name = authority.host().trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
        Self { name: name.to_ascii_lowercase(), port: authority.port_u16() }
    }

    fn of_host(text: &str) -> Option<Self> {
        text.parse().ok().map(|authority: Authority| Self::new(&authority))
    }

    /// With the port that its scheme means where it names none. `null` is nobody's.
    fn of_origin(text: &str) -> Option<(Self, u16)> {
        let uri: Uri = text.parse().ok()?;
        let default_port = if uri.scheme()? == &Scheme::HTTPS { 443 } else { 80 };
        Some((Self::new(uri.authority()?), default_port))
    }
}

/// No name server can make this name another machine's, or another machine's this one.
fn is_local(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost") || name.parse::<IpAddr>().is_ok()
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    match value.to_str() {
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(Error::new(Code::ForbiddenOrigin, format!("the header {name} is not text"))),
    }
}

fn unknown_host(host: &str) -> Error {
    Error::new(Code::ForbiddenOrigin, format!("this server is not called {host}")).with_field("Host").with_hint(
        format!("if it is, start it with --allowed-hosts {host} (LAMINAR_ALLOWED_HOSTS); its address works too"),
    )
}

fn other_site(origin: &str) -> Error {
    Error::new(Code::ForbiddenOrigin, format!("a page of {origin} may not use this server"))
        .with_field("Origin")
        .with_hint("if the page is this server's behind a proxy, name the page's host in --allowed-hosts (LAMINAR_ALLOWED_HOSTS)")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Headers as `name: value`, apart by `; ` → what is blamed, or `passes`.
    fn check(headers: &str, expected: &str) {
        let allowed = AllowedHosts::new(["Laminar".to_string(), "10.1.2.3".to_string()]);
        let parse = |header: &str| {
            let (name, value) = header.split_once(": ").unwrap();
            (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())
        };
        let given: HeaderMap = headers.split("; ").filter(|h| !h.is_empty()).map(parse).collect();
        let outcome = allowed.check(&Uri::from_static("/api/v1/ping"), &given);
        let blamed = outcome.err().map(|error| error.field().unwrap_or_default().to_string());
        assert_eq!(blamed.as_deref().unwrap_or("passes"), expected, "{headers}");
    }

    #[test]
    fn addresses_and_names_of_its_own_are_good_hosts() {
        for host in ["127.0.0.1:5115", "127.0.0.1", "[::1]:5115", "[::1]", "192.168.1.7:80", "localhost:5115"] {
            check(&format!("host: {host}"), "passes");
        }
        for host in ["LOCALHOST", "localhost.:5115", "a.localhost:5115", "laminar:5115", "LAMINAR", "laminar."] {
            check(&format!("host: {host}"), "passes");
        }
        check("", "passes");
    }

    #[test]
    fn other_names_are_not() {
        for host in ["evil.example:5115", "evil.example", "localhost.evil.example", "evillocalhost", "laminar.evil"] {
            check(&format!("host: {host}"), "Host");
        }
        for host in ["127.0.0.1.evil.example", "a b", "[::1", "user@evil.example", ":5115"] {
            check(&format!("host: {host}"), "Host");
        }
    }

    #[test]
    fn a_page_of_another_site_is_refused() {
        for origin in
            ["http://evil.example", "null", "http://127.0.0.1:3000", "http://127.0.0.1", "http://localhost:5115", "x"]
        {
            check(&format!("host: 127.0.0.1:5115; origin: {origin}"), "Origin");
        }
        check("origin: http://127.0.0.1:5115", "Origin"); // no browser leaves out the host
        check("host: evil.example; origin: http://evil.example", "Host");
    }

    #[test]
    fn a_page_of_the_server_is_not() {
        check("host: 127.0.0.1:5115; origin: http://127.0.0.1:5115", "passes");
        check("host: [::1]:5115; origin: http://[::1]:5115", "passes");
        check("host: Laminar:5115; origin: http://laminar:5115", "passes");
        check("host: localhost:80; origin: http://localhost", "passes");
        check("host: laminar; origin: https://laminar", "passes");
        // a proxy that speaks TLS on a port of its own, and one that calls the server by its address
        check("host: laminar; origin: https://laminar:8443", "passes");
        check("host: 127.0.0.1:5115; origin: https://laminar", "passes");
        check("host: 127.0.0.1:5115; origin: https://10.1.2.3:8443", "passes");
    }
}
