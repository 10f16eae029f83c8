//! Whether what was said fits the types that are generated from the server's schema.

use serde_json::Value;
use std::{collections::BTreeMap, fmt, fmt::Debug};
use turnwire_core::{
    protocol::{
        DecodeError, Request, RequestVisitor, ServerNotification, ServerRequestParams, Wire, decode, visit_request,
    },
    record::{Recording, Step},
};

/// A message that does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Misfit {
    /// The number of its record; of what a scripted server said, the number of its line, from 1.
    pub number: u64,
    /// Its method, or that of the request that it answers.
    pub method: String,
    /// What does not fit.
    pub problem: String,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "number {}: {}: {}", self.number, self.method, self.problem)
    }
}

struct Params<'a>(&'a str);
struct Answer<'a>(&'a str);

impl RequestVisitor for Params<'_> {
    type Output = Result<(), DecodeError>;

    fn visit<R, A>(self) -> Self::Output
    where
        R: Request<Response = A> + serde::de::DeserializeOwned + Wire + Debug,
        A: serde::de::DeserializeOwned + serde::Serialize + Wire + Debug,
    {
        decode::<R>(self.0).map(drop)
    }
}

impl RequestVisitor for Answer<'_> {
    type Output = Result<(), DecodeError>;

    fn visit<R, A>(self) -> Self::Output
    where
        R: Request<Response = A> + serde::de::DeserializeOwned + Wire + Debug,
        A: serde::de::DeserializeOwned + serde::Serialize + Wire + Debug,
    {
        R::decode_response(self.0).map(drop)
    }
}

/// The messages of a recording, of either side, that do not fit the types: methods that no schema has, params and results
/// that do not decode. Of what a scripted server says, this shows where the script has left the protocol.
///
/// Answers to the server's requests, errors, and lines that are no messages are passed over.
#[must_use]
pub fn misfits(recording: &Recording) -> Vec<Misfit> {
    let lines = recording.records.iter().filter_map(|record| match &record.step {
        Step::Sent(line) => Some((record.number, false, &*line.bytes)),
        Step::Received(line) => Some((record.number, true, &*line.bytes)),
        _ => None,
    });
    misfits_of(lines)
}

/// The misfits among numbered lines, the server's (`true`) and the client's.
pub(crate) fn misfits_of<'a>(lines: impl Iterator<Item = (u64, bool, &'a [u8])>) -> Vec<Misfit> {
    let mut found = Vec::new();
    let mut asked: BTreeMap<String, String> = BTreeMap::new();
    for (number, is_servers, line) in lines {
        let Ok(Value::Object(message)) = serde_json::from_slice::<Value>(line) else { continue };
        let id = message.get("id").map(Value::to_string);
        let method = message.get("method").and_then(Value::as_str);
        let params = message.get("params").map_or_else(|| "{}".to_owned(), Value::to_string);
        let (method, problem) = match (is_servers, method, id) {
            (true, Some(method), None) => (method.to_owned(), fits_notification(method, &params)),
            (true, Some(method), Some(_)) => (method.to_owned(), fits_server_request(method, &params)),
            (false, Some(method), Some(id)) => {
                asked.insert(id, method.to_owned());
                (method.to_owned(), known(method, visit_request(method, Params(&params))))
            }
            (true, None, Some(id)) => {
                let (Some(method), Some(result)) = (asked.remove(&id), message.get("result")) else { continue };
                let problem = known(&method, visit_request(&method, Answer(&result.to_string())));
                (method, problem)
            }
            _ => continue,
        };
        if let Some(problem) = problem {
            found.push(Misfit { number, method, problem });
        }
    }
    found
}

fn known(method: &str, decoded: Option<Result<(), DecodeError>>) -> Option<String> {
    match decoded {
        Some(Ok(())) => None,
        Some(Err(error)) => Some(error.to_string()),
        None => Some(format!("no schema has `{method}`")),
    }
}

fn fits_notification(method: &str, params: &str) -> Option<String> {
    known(
        method,
        match ServerNotification::decode(method, params) {
            Ok(ServerNotification::Unknown { .. }) => None,
            decoded => Some(decoded.map(drop)),
        },
    )
}

fn fits_server_request(method: &str, params: &str) -> Option<String> {
    known(
        method,
        match ServerRequestParams::decode(method, params) {
            Ok(ServerRequestParams::Unknown { .. }) => None,
            decoded => Some(decoded.map(drop)),
        },
    )
}
