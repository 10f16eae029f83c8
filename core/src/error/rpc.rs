//! What the server says when it refuses a request.

use super::cut;
use crate::json::Json;
use alloc::string::String;
use core::fmt;
use serde::Deserialize;

/// The error object of a response, as the server sent it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RpcError {
    /// The code, for example -32600.
    pub code: i64,
    /// The text, written for people. It changes between versions of the server.
    pub message: String,
    /// Whatever else came with it.
    pub data: Option<Json>,
}

impl RpcError {
    /// An error object with no data.
    #[must_use]
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    /// The kind of error that the code stands for.
    #[must_use]
    pub fn kind(&self) -> RpcErrorKind {
        match self.code {
            -32700 => RpcErrorKind::Parse,
            -32600 => RpcErrorKind::InvalidRequest,
            -32601 => RpcErrorKind::MethodNotFound,
            -32602 => RpcErrorKind::InvalidParams,
            -32603 => RpcErrorKind::Internal,
            -32001 => RpcErrorKind::Overloaded,
            -32099..=-32000 => RpcErrorKind::Server,
            _ => RpcErrorKind::Other,
        }
    }

    /// Whether the server says that it is overloaded and did not take the request, in any of its spellings: the code
    /// -32001, whatever its data; or, under any code, `serverOverloaded` or `server_overloaded` in the data.
    #[must_use]
    pub fn is_overload(&self) -> bool {
        self.kind() == RpcErrorKind::Overloaded || self.data.as_ref().is_some_and(says_overloaded)
    }

    /// The value that the server refused because it does not know it (any more), if that is what the error says: a
    /// retired approval policy, an unknown method. The server says so in its text only.
    #[must_use]
    pub fn refused_value(&self) -> Option<&str> {
        let (_, rest) = self.message.split_once("unknown variant `")?;
        Some(rest.split_once('`')?.0)
    }

    pub(crate) fn parse(raw: &serde_json::value::RawValue) -> Self {
        #[derive(Deserialize)]
        struct Wire {
            code: i64,
            #[serde(default)]
            message: String,
            data: Option<Json>,
        }
        match serde_json::from_str::<Wire>(raw.get()) {
            Ok(wire) => Self { code: wire.code, message: wire.message, data: wire.data },
            Err(_) => Self { code: 0, message: "an error object without a code".into(), data: Some(raw.into()) },
        }
    }
}

impl fmt::Debug for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcError")
            .field("code", &self.code)
            .field("message", &format_args!("{} bytes", self.message.len()))
            .field("data", &self.data)
            .finish()
    }
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An unknown method is answered with a list of all that are known.
        write!(f, "{} (code {})", cut(&self.message, 400), self.code)
    }
}

impl core::error::Error for RpcError {}

/// Whether the data of an error says that the server is overloaded: as a word of its own, or as the value of some member
/// at any depth.
fn says_overloaded(data: &Json) -> bool {
    // A text in JSON stands between quotes, whatever is around it; these words need no escapes.
    ["\"serverOverloaded\"", "\"server_overloaded\"", "\"server_is_overloaded\""]
        .iter()
        .any(|word| data.as_str().contains(word))
}

/// What the code of an [`RpcError`] stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RpcErrorKind {
    /// -32603: the server failed, or refused late.
    Internal,
    /// -32602: the params have the right form but cannot be taken, for example because the input is too large.
    InvalidParams,
    /// -32600: nearly everything that the client did wrong, unknown methods and wrong params included.
    InvalidRequest,
    /// -32601: not supported here.
    MethodNotFound,
    /// Any other code.
    Other,
    /// -32001: the server did not take the request because it is overloaded. It was not executed.
    Overloaded,
    /// -32700: the server could not parse the line.
    Parse,
    /// Another code between -32099 and -32000.
    Server,
}
