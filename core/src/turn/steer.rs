//! What the server means when it refuses a steer.

use crate::{
    error::{CallError, SteerError},
    id::TurnId,
    protocol::{self, CodexErrorInfo},
    turn::InputError,
};

/// Tells the refusals of `turn/steer` apart.
///
/// The server does so in English only, but for one. These are the texts of the versions from 0.133 to 0.163; any other
/// error stays a [`SteerError::Call`].
#[must_use]
pub fn steer_error(error: CallError, expected: &TurnId) -> SteerError {
    if let Some(fault) = InputError::of(&error) {
        return SteerError::Input(fault);
    }
    let Some(rpc) = error.rpc() else { return SteerError::Call(error) };
    let data = rpc.data.as_ref().and_then(|data| protocol::decode::<protocol::TurnError>(data.as_str()).ok());
    if let Some(CodexErrorInfo::ActiveTurnNotSteerable(info)) = data.and_then(|data| data.codex_error_info) {
        return SteerError::NotSteerable { kind: info.turn_kind.as_str().into() };
    }
    if says_no_active_turn(&error) {
        return SteerError::Ended;
    }
    if let Some(kind) = between(&rpc.message, "cannot steer a ", " turn") {
        return SteerError::NotSteerable { kind: kind.into() };
    }
    if let Some(actual) = actual_turn(&rpc.message) {
        return SteerError::Mismatch { expected: expected.clone(), actual: actual.into() };
    }
    SteerError::Call(error)
}

/// Whether a refusal says that no turn is active: not yet, or not any more.
pub(crate) fn says_no_active_turn(error: &CallError) -> bool {
    error.rpc().is_some_and(|rpc| rpc.message.contains("no active turn"))
}

/// The turn that runs instead of the expected one, from "expected active turn id `X` but found `U`", quoted or not.
pub(crate) fn actual_turn(message: &str) -> Option<&str> {
    let (_, found) = message.split_once("expected active turn id")?.1.split_once(" but found ")?;
    let found = found.trim().trim_matches('`');
    (!found.is_empty()).then_some(found)
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    Some(text.split_once(before)?.1.split_once(after)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        error::{Fault, RpcError},
        json::Json,
    };

    fn refusal(message: &str, data: Option<&str>) -> SteerError {
        let mut rpc = RpcError::new(-32600, message);
        rpc.data = data.map(|data| Json::parse(data).expect("JSON"));
        steer_error(CallError::new("turn/steer", Fault::Rpc(rpc)), &"X".into())
    }

    #[test]
    fn st_02_a_steer_when_nothing_runs_is_told_by_the_servers_text() {
        assert!(matches!(refusal("no active turn to steer", None), SteerError::Ended));
    }

    #[test]
    fn st_03_a_steer_of_another_turn_names_both_turns() {
        for text in ["expected active turn id `X` but found `U`", "expected active turn id X but found U"] {
            let SteerError::Mismatch { expected, actual } = refusal(text, None) else { panic!("a mismatch: {text}") };
            assert_eq!((expected.as_str(), actual.as_str()), ("X", "U"));
        }
    }

    #[test]
    fn a_turn_that_takes_no_input_is_told_by_data_or_text() {
        let data = r#"{"message":"m","codexErrorInfo":{"activeTurnNotSteerable":{"turnKind":"compact"}}}"#;
        assert!(matches!(refusal("anything", Some(data)), SteerError::NotSteerable { kind } if &*kind == "compact"));
        let by_text = refusal("cannot steer a review turn", None);
        assert!(matches!(by_text, SteerError::NotSteerable { kind } if &*kind == "review"));
    }

    #[test]
    fn an_unknown_refusal_stays_the_servers_own() {
        assert!(matches!(refusal("the moon is full", None), SteerError::Call(_)));
    }
}
