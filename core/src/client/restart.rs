//! Starting a turn again on the server that took the place of one that died.

use super::{Codex, Turn, TurnRequest, hub::Session};
use crate::{
    connection::KnownSettings,
    error::{CallError, Delivery, Fault, TurnError},
    id::ThreadId,
    protocol::ThreadResume,
    sandbox::{Sandbox, is_at_most},
};
use std::{
    process,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// The first server whose turns bear a mark of the client's.
const MARKS: &str = "0.144.4";

/// Numbers the marks of this process.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// Starts a turn. If the session replaces servers that die, and this one dies before it has taken the turn, the turn is
/// started once more on the next: after the thread was resumed there, and only if its history does not hold the turn, and if
/// the thread's sandbox allows no more there than it did and its approvals are what they were.
pub(super) async fn start_turn(
    session: &Arc<Session>,
    thread: &ThreadId,
    request: TurnRequest,
    with_events: bool,
) -> Result<Turn, TurnError> {
    if !session.supervisor.restarts() {
        return Turn::start(session, thread, request, with_events).await;
    }
    let since = session.hub.now();
    let (request, mark) = match session.hub.read(|connection| connection.is_at_least(MARKS)) {
        true => request.marked(|| new_mark(session)),
        // Without a mark it cannot be told whether a turn that was sent is in the history.
        false => (request, None),
    };
    let turn = Turn::enter(session, thread, request.clone(), with_events);
    let (error, was_seen) = match turn {
        Err(error) => (error, false),
        Ok(turn) => match turn.accepted().await {
            Ok(()) => return Ok(turn),
            Err(error) => (error, turn.was_seen()),
        },
    };
    let TurnError::Start(CallError { fault: Fault::Disconnected { delivery, .. }, .. }) = &error else {
        return Err(error);
    };
    if was_seen {
        return Err(error);
    }
    let next = session.supervisor.renewed();
    if next.generation == session.generation {
        return Err(error);
    }
    let settings = |session: &Session| session.hub.read(|connection| connection.thread_settings(thread));
    let before = settings(session).unwrap_or_default();
    let Ok(history) = Codex::of(&next).request_raw("thread/resume", resume_as(thread, &before)).await else {
        // The thread is not there, or not to be had: the end of the server before is what happened to the turn.
        return Err(error);
    };
    // A server restores from its own settings what it does not find with the thread, and they may allow more.
    if !holds_to(&settings(&next).unwrap_or_default(), &before) {
        return Err(error);
    }
    if *delivery == Delivery::Sent && mark.is_none_or(|mark| holds(history.as_str(), &mark)) {
        return Err(error);
    }
    let request = request.shortened(next.hub.now().since(since));
    Turn::start(&next, thread, request, with_events).await
}

/// A resume that says again what the thread had.
fn resume_as(thread: &ThreadId, settings: &KnownSettings) -> ThreadResume {
    let mut params = ThreadResume::new(thread.clone());
    match (&settings.permission_profile, &settings.sandbox) {
        (Some(profile), _) => params.permissions = Some(profile.clone()),
        (None, Some(sandbox)) => params = params.with_sandbox(&Sandbox::from(sandbox.clone())),
        (None, None) => {}
    }
    params.approval_policy.clone_from(&settings.approval_policy);
    params.approvals_reviewer.clone_from(&settings.approvals_reviewer);
    params
}

/// Whether a thread may do no more than before, and asks as it did. What is not known is not the same as anything.
fn holds_to(now: &KnownSettings, before: &KnownSettings) -> bool {
    let is_as_tight = match (&now.sandbox, &before.sandbox) {
        (Some(now), Some(before)) => is_at_most(now, before),
        (now, before) => now.is_none() && before.is_none(),
    };
    is_as_tight && now.approval_policy == before.approval_policy && now.approvals_reviewer == before.approvals_reviewer
}

/// Whether a history holds the turn with this mark. The mark is looked for as it is written in JSON, wherever it stands: if a
/// text looks like it, the turn is not started again, which is the safe way to be wrong.
fn holds(history: &str, mark: &str) -> bool {
    serde_json::to_string(mark).map_or(true, |mark| history.contains(&mark))
}

/// A word that no other turn has.
fn new_mark(session: &Session) -> String {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let (day, time) = (session.supervisor.unix_seconds(), session.hub.now().as_nanos());
    format!("turnwire-{day:x}-{time:x}-{:x}-{number:x}", process::id())
}

#[cfg(test)]
mod tests {
    use super::holds;

    #[test]
    fn a_mark_is_found_as_it_is_written_in_json_only() {
        assert!(holds(r#"{"items":[{"clientId":"turnwire-1-2-3-4"}]}"#, "turnwire-1-2-3-4"));
        assert!(!holds(r#"{"items":[{"clientId":"turnwire-1-2-3-45"}]}"#, "turnwire-1-2-3-4"));
        assert!(holds(r#"{"clientId":"say \"x\""}"#, r#"say "x""#));
    }
}
