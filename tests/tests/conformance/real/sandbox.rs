// Scenarios against the real server with a scripted model behind it: what a turn may touch, when the agent must ask, and
// the form of the answer. Included once for each runtime.

use crate::support::{RealServer, real_server};
use rt::{
    ApprovalMode, Event, Sandbox, TurnError, TurnRequest,
    protocol::{TurnStart, UserInput},
};
use serde::Deserialize;
use turnwire_testkit::model::{ExecCommand, Reply};

/// Lets the model try to make a file in the next turn.
fn try_to_write(server: &RealServer, name: &str) {
    let file = server.home.work().join(name);
    server.model.push(Reply::new().exec(ExecCommand::new(format!("echo made > '{}'", file.display()))));
    server.model.push(Reply::text("I tried."));
}

fn is_made(server: &RealServer, name: &str) -> bool {
    server.home.work().join(name).exists()
}

real_scenario! {
    fn sb_02_on_the_real_server_a_tighter_turn_holds_and_the_threads_own_sandbox_comes_back() {
        let Some(server) = real_server("sb_02_on_the_real_server_a_tighter_turn_holds") else { return };
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let start = server.thread_start().with_sandbox(&Sandbox::full_access()).approval_mode(ApprovalMode::never());
        let thread = wait!(codex.thread_start(start)).expect("a thread");
        try_to_write(&server, "tight");
        wait!(thread.run(TurnRequest::new("Try.").sandbox(Sandbox::read_only()))).expect("completed");
        assert!(!is_made(&server, "tight"), "the turn may only read");
        // What the server has in force says the answer to resuming a thread that is loaded. Restoring is not waited for.
        let mut in_force = None;
        for _ in 0..300 {
            let resumed = wait!(codex.thread_resume(rt::Resume::new(thread.id()))).expect("it is loaded");
            in_force = Some(resumed.settings.sandbox);
            if matches!(in_force, Some(rt::protocol::SandboxPolicy::DangerFullAccess)) {
                break;
            }
            let _ = wait!(codex.pause(std::time::Duration::from_millis(100)));
        }
        assert!(matches!(in_force, Some(rt::protocol::SandboxPolicy::DangerFullAccess)), "{in_force:?}");
        // Whoever starts the next turn has the thread's own.
        try_to_write(&server, "foreign");
        let mut events = thread.events();
        let foreign = TurnStart::new(thread.id().clone(), [UserInput::text("Try.")]);
        wait!(codex.request(foreign)).expect("a turn");
        loop {
            match wait!(events.next()).expect("the stream goes on") {
                Event::Other(raw) if &*raw.method == "turn/completed" => break,
                _ => {}
            }
        }
        assert!(is_made(&server, "foreign"), "the thread's own is full access");
        try_to_write(&server, "after");
        wait!(thread.run("Try.")).expect("completed");
        assert!(is_made(&server, "after"));
        assert!(codex.diagnostics().iter().all(|told| told.kind != rt::DiagnosticKind::SandboxNotRestored));
        wait!(codex.close());
    }
}

real_scenario! {
    fn sb_01_on_the_real_server_what_one_turn_was_allowed_is_not_allowed_to_the_next() {
        let Some(server) = real_server("sb_01_on_the_real_server_what_one_turn_was_allowed") else { return };
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let start = server.thread_start().with_sandbox(&Sandbox::read_only()).approval_mode(ApprovalMode::never());
        let thread = wait!(codex.thread_start(start)).expect("a thread");
        let more = TurnRequest::new("Try.").sandbox(Sandbox::full_access());
        assert!(matches!(wait!(thread.run(more.clone())), Err(TurnError::Relaxes(_))));
        assert!(server.model.requests().is_empty(), "nothing was sent");
        try_to_write(&server, "allowed");
        wait!(thread.run(more.allow_relaxing())).expect("completed");
        assert!(is_made(&server, "allowed"));
        try_to_write(&server, "next");
        wait!(thread.run("Try.")).expect("completed");
        assert!(!is_made(&server, "next"), "the next turn may only read again");
        wait!(codex.close());
        // Not on the next server either, which reads what this one stored.
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        wait!(codex.thread_resume(rt::protocol::ThreadResume::new(thread.id().clone()))).expect("resumed");
        let thread = codex.thread(thread.id().clone());
        assert!(matches!(
            thread.known_settings().expect("told").sandbox,
            Some(rt::protocol::SandboxPolicy::ReadOnly(_))
        ));
        try_to_write(&server, "resumed");
        wait!(thread.run("Try.")).expect("completed");
        assert!(!is_made(&server, "resumed"));
        wait!(codex.close());
    }
}

real_scenario! {
    fn sb_04_on_the_real_server_an_approval_mode_stays_until_another_is_given() {
        let Some(server) = real_server("sb_04_on_the_real_server_an_approval_mode_stays") else { return };
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let start = server.thread_start().approval_mode(ApprovalMode::deny_all());
        let thread = wait!(codex.thread_start(start)).expect("a thread");
        let told = || thread.known_settings().and_then(|known| known.approval_policy).map(|policy| policy.kind().to_string());
        assert_eq!(told().as_deref(), Some("never"));
        wait!(thread.run("Inherited.")).expect("completed");
        assert_eq!(told().as_deref(), Some("never"));
        wait!(thread.run(TurnRequest::new("Changed.").approval_mode(ApprovalMode::on_request()))).expect("completed");
        wait!(thread.run("It stays.")).expect("completed");
        assert_eq!(told().as_deref(), Some("on-request"));
        wait!(codex.close());
    }
}

#[derive(Debug, Deserialize, PartialEq, schemars::JsonSchema)]
struct Verdict {
    good: bool,
    reason: Option<String>,
}

real_scenario! {
    fn in_07_on_the_real_server_the_schema_of_a_type_reaches_the_model_for_one_turn() {
        let Some(server) = real_server("in_07_on_the_real_server_the_schema_of_a_type") else { return };
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        server.model.push(Reply::text(r#"{"good":true,"reason":null}"#));
        let typed = wait!(thread.run_typed::<Verdict>("Is it good?")).expect("it fits");
        assert_eq!(typed.value, Verdict { good: true, reason: None });
        server.model.push(Reply::text("Yes."));
        wait!(thread.run("Sure?")).expect("completed");
        wait!(codex.close());
        let requests = server.model.requests();
        let format = &requests[0].body()["text"]["format"];
        assert_eq!((&format["type"], &format["strict"]), (&"json_schema".into(), &true.into()));
        assert_eq!(format["schema"]["required"], serde_json::json!(["good", "reason"]));
        assert!(requests[1].body()["text"]["format"]["schema"].is_null(), "{}", requests[1].body()["text"]);
    }
}
