//! What calls over HTTP share that are made in the middle of code which does not wait: to schema registries and identity providers.

use std::thread;

use laminar_core::{Error, Result};
use tokio::runtime::{Builder, Handle, RuntimeFlavor};

/// Runs the call on a thread and a runtime of its own and waits for it, whichever thread this is: librdkafka's, a test's, or one
/// that moves rows, whose runtime is told that it blocks.
pub(crate) fn wait<T: Send>(call: impl Future<Output = Result<T>> + Send) -> Result<T> {
    let run = || {
        let called = || {
            let runtime = Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| Error::internal(format!("no runtime for a call: {error}")))?;
            runtime.block_on(call)
        };
        let joined = thread::scope(|scope| scope.spawn(called).join());
        joined.unwrap_or_else(|_| Err(Error::internal("a call over HTTP panicked")))
    };
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(run),
        _ => run(),
    }
}

/// The text as part of a path or of a form: RFC 3986 section 2.1.
pub(crate) fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match plain(byte) {
            true => escaped.push(char::from(byte)),
            false => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}
