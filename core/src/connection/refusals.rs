//! How each request of the server is refused.
//!
//! Silence would stall the turn for ever, "method not found" is no refusal where the server expects a decision, and
//! nothing is ever granted that the application did not grant. So each method has its own safe answer.

use super::AskKind;
use crate::{
    error::RpcError,
    json::Json,
    record::{is_member, is_word},
};
use alloc::{boxed::Box, string::String};
use serde::Deserialize;

/// The answer to a request that nobody wants to answer.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// This result.
    Result(&'static str),
    /// This error.
    Error(RpcError),
    /// The time of day, which grants nothing: the caller is asked for it.
    Time,
}

/// The refusal that fits a method.
pub(crate) fn refusal(method: &str) -> Refusal {
    match method {
        "item/commandExecution/requestApproval" | "item/fileChange/requestApproval" => {
            Refusal::Result(r#"{"decision":"decline"}"#)
        }
        "item/permissions/requestApproval" => Refusal::Result(r#"{"permissions":{}}"#),
        "item/tool/requestUserInput" => Refusal::Result(r#"{"answers":{}}"#),
        "mcpServer/elicitation/request" => Refusal::Result(r#"{"action":"decline"}"#),
        "item/tool/call" => Refusal::Result(
            r#"{"contentItems":[{"type":"inputText","text":"This client does not run tools."}],"success":false}"#,
        ),
        "applyPatchApproval" | "execCommandApproval" => Refusal::Result(r#"{"decision":"denied"}"#),
        "currentTime/read" => Refusal::Time,
        "account/chatgptAuthTokens/refresh" => {
            Refusal::Error(RpcError::new(-32603, "this client has no provider of tokens"))
        }
        "attestation/generate" => Refusal::Error(RpcError::new(-32603, "this client does not attest")),
        _ => Refusal::Error(RpcError::new(-32601, "method not found")),
    }
}

/// The word for an answer that may be shown: a decision. What was told or typed is nobody else's business.
pub(crate) fn decision(kind: AskKind, answer: Option<&Json>) -> Box<str> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Answer {
        decision: Option<Json>,
        action: Option<String>,
        success: Option<bool>,
    }
    let Some(answer) = answer else { return "error".into() };
    if matches!(kind, AskKind::Attestation | AskKind::TokenRefresh | AskKind::UserInput | AskKind::Unknown) {
        return "answered".into();
    }
    let Answer { decision, action, success } = answer.decode().unwrap_or_default();
    if let Some(decision) = decision {
        let text = decision.as_str();
        // A decision is a word, or an object whose only member is named by it.
        let word = text.split('"').nth(1).unwrap_or_default();
        // What no schema spells out may be anything.
        let is_known = is_word("decision", word) || is_member(word);
        return if is_known { word.into() } else { "answered".into() };
    }
    match (action, success) {
        (Some(action), _) if !is_word("action", &action) => "answered".into(),
        (Some(action), _) => action.into(),
        (None, Some(true)) => "success".into(),
        (None, Some(false)) => "failure".into(),
        (None, None) => "answered".into(),
    }
}
