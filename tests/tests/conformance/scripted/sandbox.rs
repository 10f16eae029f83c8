// Scenarios against the scripted server, a fake: what a turn may touch, when the agent must ask, and the form of the
// answer. Included once for each runtime.

use crate::support::scripted;
use rt::{
    ApprovalMode, Sandbox, TurnError, TurnRequest, TypedError,
    protocol::{ThreadFork, ThreadStart},
};
use serde::Deserialize;
use serde_json::{Value, json};
use turnwire_testkit::scripted::{Script, TurnPlan};

/// The params of each request of this method.
fn params(received: &[Value], method: &str) -> Vec<Value> {
    received.iter().filter(|line| line["method"] == method).map(|line| line["params"].clone()).collect()
}

scenario! {
    fn sb_01_each_preset_is_a_mode_on_a_thread_and_a_policy_on_a_turn() {
        let server = scripted(&Script::new());
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        for (preset, mode, kind) in [
            (Sandbox::read_only(), "read-only", "readOnly"),
            (Sandbox::workspace_write(), "workspace-write", "workspaceWrite"),
            (Sandbox::full_access(), "danger-full-access", "dangerFullAccess"),
        ] {
            let thread = wait!(codex.thread_start(ThreadStart::new().with_sandbox(&preset))).expect("a thread");
            wait!(thread.run(TurnRequest::new("Go.").sandbox(preset))).expect("no looser than the thread");
            let received = server.received();
            assert_eq!(params(&received, "thread/start").last().expect("a start")["sandbox"], mode);
            assert_eq!(params(&received, "turn/start").last().expect("a turn")["sandboxPolicy"]["type"], kind);
        }
        wait!(codex.close());
    }
}

scenario! {
    fn sb_01_a_turn_that_may_allow_more_than_its_thread_is_refused_before_anything_is_sent() {
        let server = scripted(&Script::new());
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let start = ThreadStart::new().with_sandbox(&Sandbox::read_only());
        let thread = wait!(codex.thread_start(start)).expect("a thread");
        let more = TurnRequest::new("Go.").sandbox(Sandbox::full_access());
        let Err(TurnError::Relaxes(relaxation)) = wait!(thread.run(more.clone())) else { panic!("refused") };
        assert_eq!(&relaxation.thread, thread.id());
        assert!(relaxation.own.is_some() && relaxation.asked.is_some());
        // Of a thread that this session has not loaded nothing is known, so nothing is proved.
        let stranger = codex.thread("01900000-0000-7000-8000-000000000000");
        let unknown = wait!(stranger.run(TurnRequest::new("Go.").sandbox(Sandbox::read_only())));
        assert!(matches!(unknown, Err(TurnError::Relaxes(_))), "{unknown:?}");
        assert_eq!(params(&server.received(), "turn/start"), Vec::<Value>::new());
        wait!(thread.run(more.allow_relaxing())).expect("somebody said so");
        wait!(codex.close());
    }
}

scenario! {
    fn sb_02_a_turns_workspace_keeps_the_threads_folders_and_network_unless_it_replaces_them() {
        let server = scripted(&Script::new());
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let own = json!({"type": "workspaceWrite", "writableRoots": ["/more"], "networkAccess": true,
            "excludeTmpdirEnvVar": false, "excludeSlashTmp": false});
        let update = json!({"threadId": thread.id().as_str(), "sandboxPolicy": own});
        wait!(codex.request_raw("thread/settings/update", update)).expect("changed");
        wait!(thread.run(TurnRequest::new("Merge.").sandbox(Sandbox::workspace_write()))).expect("merged");
        wait!(thread.run(TurnRequest::new("Replace.").sandbox(Sandbox::workspace_write().replace()))).expect("tighter");
        wait!(thread.run("After.")).expect("completed");
        wait!(codex.close());
        let received = server.received();
        let turns = params(&received, "turn/start");
        assert_eq!(turns[0]["sandboxPolicy"]["writableRoots"], json!(["/more"]));
        assert_eq!(turns[0]["sandboxPolicy"]["networkAccess"], true);
        assert_ne!(turns[1]["sandboxPolicy"]["writableRoots"], json!(["/more"]));
        assert_ne!(turns[1]["sandboxPolicy"]["networkAccess"], true);
        // What the replacing turn took away is there again for the next one, whoever starts it.
        let restored = params(&received, "thread/settings/update");
        assert_eq!(restored.last().expect("a restoring")["sandboxPolicy"]["writableRoots"], json!(["/more"]));
    }
}

scenario! {
    fn sb_04_an_approval_mode_goes_out_as_the_words_it_stands_for_and_stays() {
        let server = scripted(&Script::new());
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let start = ThreadStart::new().approval_mode(ApprovalMode::deny_all());
        let thread = wait!(codex.thread_start(start)).expect("a thread");
        wait!(thread.run("Inherited.")).expect("completed");
        wait!(thread.run(TurnRequest::new("Changed.").approval_mode(ApprovalMode::auto_review()))).expect("completed");
        wait!(thread.run("It stays.")).expect("completed");
        wait!(codex.close());
        let received = server.received();
        assert_eq!(params(&received, "thread/start")[0]["approvalPolicy"], "never");
        let turns = params(&received, "turn/start");
        assert_eq!((&turns[0]["approvalPolicy"], &turns[2]["approvalPolicy"]), (&Value::Null, &Value::Null));
        let changed = (&turns[1]["approvalPolicy"], &turns[1]["approvalsReviewer"]);
        assert_eq!(changed, (&json!("on-request"), &json!("auto_review")));
        assert!(params(&received, "thread/settings/update").is_empty(), "nothing is taken back");
    }
}

scenario! {
    fn sb_05_without_approval_arguments_there_is_no_approval_member_on_the_wire() {
        let server = scripted(&Script::new());
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        wait!(thread.run(TurnRequest::new("Go.").sandbox(Sandbox::read_only()))).expect("completed");
        wait!(codex.thread_resume(rt::protocol::ThreadResume::new(thread.id().clone()))).expect("resumed");
        let _ = wait!(codex.request(ThreadFork::new(thread.id().clone())));
        wait!(codex.close());
        for line in server.received() {
            let members = line["params"].as_object().cloned().unwrap_or_default();
            assert!(!members.contains_key("approvalPolicy") && !members.contains_key("approvalsReviewer"), "{line}");
        }
    }
}

#[derive(Debug, Deserialize, PartialEq, schemars::JsonSchema)]
struct Finding {
    file: String,
    line: Option<u32>,
}

#[derive(Debug, Deserialize, PartialEq, schemars::JsonSchema)]
struct Findings {
    findings: Vec<Finding>,
}

scenario! {
    fn in_07_a_rust_type_is_sent_as_a_schema_for_that_turn_only_and_the_answer_is_read_into_it() {
        let answer = r#"{"findings":[{"file":"a.rs","line":7},{"file":"b.rs","line":null}]}"#;
        let script = Script::new().turn(TurnPlan::when("typed").text(answer)).turn(TurnPlan::new().text("No JSON."));
        let server = scripted(&script);
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let typed = wait!(thread.run_typed::<Findings>("typed, please")).expect("it fits");
        let finding = |file: &str, line| Finding { file: file.into(), line };
        assert_eq!(typed.value.findings, [finding("a.rs", Some(7)), finding("b.rs", None)]);
        assert_eq!(typed.result.final_response.as_deref(), Some(answer));
        wait!(thread.run("Something else.")).expect("completed");
        let error = wait!(thread.run_typed::<Findings>("Once more.")).expect_err("that is no JSON");
        let TypedError::Mismatch(mismatch) = &error else { panic!("{error:?}") };
        assert_eq!(mismatch.result.final_response.as_deref(), Some("No JSON."));
        assert!(mismatch.result.usage.is_some() && error.result().is_some());
        assert!(!format!("{error} {error:?}").contains("No JSON"), "the agent's text is not in it");
        wait!(codex.close());
        let turns = params(&server.received(), "turn/start");
        assert_eq!(turns[0]["outputSchema"]["required"], json!(["findings"]));
        assert_eq!(turns[0]["outputSchema"]["additionalProperties"], false);
        assert_eq!(turns[1]["outputSchema"], Value::Null);
    }
}

scenario! {
    fn in_09_an_optional_field_is_required_and_nullable_and_null_is_none() {
        let script = Script::new().turn(TurnPlan::new().text(r#"{"file":"a.rs","line":null}"#));
        let server = scripted(&script);
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let turn = wait!(thread.turn(TurnRequest::new("Go.").output_type::<Finding>().expect("strict"))).expect("a turn");
        let typed = wait!(turn.result_typed::<Finding>()).expect("it fits");
        assert_eq!(typed.value, Finding { file: "a.rs".into(), line: None });
        // What has no strict form is told before anything is sent.
        let open = wait!(thread.run_typed::<std::collections::BTreeMap<String, u32>>("Go.")).expect_err("no schema");
        let TypedError::Schema(error) = &open else { panic!("{open:?}") };
        assert!(error.faults.iter().all(|fault| fault.path.starts_with('$')), "{error}");
        wait!(codex.close());
        let turns = params(&server.received(), "turn/start");
        assert_eq!(turns.len(), 1);
        let schema = &turns[0]["outputSchema"];
        assert_eq!(schema["required"], json!(["file", "line"]));
        let line = schema["properties"]["line"].to_string();
        assert!(line.contains("null") && line.contains("integer"), "{line}");
    }
}
