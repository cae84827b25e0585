//! A token to log in with, given to a client.

use std::ffi::{CString, c_char};

use rdkafka::admin::AdminClient;
use rdkafka::bindings as c;
use rdkafka::client::Client;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, Producer};

use crate::kafka::client::Events;

/// Any client of librdkafka.
pub(in super::super) trait AnyClient {
    fn inner_client(&self) -> &Client<Events>;
}

impl AnyClient for BaseConsumer<Events> {
    fn inner_client(&self) -> &Client<Events> {
        self.client()
    }
}
impl AnyClient for BaseProducer<Events> {
    fn inner_client(&self) -> &Client<Events> {
        self.client()
    }
}
impl AnyClient for AdminClient<Events> {
    fn inner_client(&self) -> &Client<Events> {
        self.inner()
    }
}

/// Makes the client log in with the token from now on. `expires_ms` is since 1970. The error is librdkafka's text.
pub(in super::super) fn set_token(
    client: &Client<Events>,
    value: &str,
    principal: &str,
    expires_ms: i64,
    extensions: &[(String, String)],
) -> Result<(), String> {
    let text = |text: &str| CString::new(text).map_err(|_| "it has a zero byte".to_string());
    let (value, principal) = (text(value)?, text(principal)?);
    let mut pairs = Vec::with_capacity(extensions.len() * 2);
    for (name, content) in extensions {
        pairs.extend([text(name)?, text(content)?]);
    }
    let mut pairs: Vec<*const c_char> = pairs.iter().map(|text| text.as_ptr()).collect();
    let mut failure = [0 as c_char; 512];
    // SAFETY: the client and all texts are alive during the call, which copies what it keeps; it writes a C string of at
    // most the given size.
    unsafe {
        let code = c::rd_kafka_oauthbearer_set_token(
            client.native_ptr(),
            value.as_ptr(),
            expires_ms,
            principal.as_ptr(),
            pairs.as_mut_ptr(),
            pairs.len(),
            failure.as_mut_ptr(),
            failure.len(),
        );
        if code == c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Ok(());
        }
        Err(super::text(failure.as_ptr()))
    }
}
