//! The sandbox of a turn is the turn's, and allows no more than the thread's.

use crate::lab::{Lab, completed};
use serde_json::{Value, json};
use std::time::Duration;
use turnwire_core::{
    connection::{Config, TurnOptions},
    error::{Fault, TurnError},
    id::ThreadId,
    protocol::{
        AskForApproval, SandboxMode, SandboxPolicy, ThreadFork, ThreadResume, ThreadSettingsUpdate, ThreadStart,
        TurnEnvironmentParams, TurnStart, WorkspaceWriteSandboxPolicy,
    },
    sandbox::{ApprovalMode, Sandbox},
    turn::{DiagnosticKind, State, TurnKey, WhenBusy},
};

fn read_only() -> Value {
    json!({"type": "readOnly", "networkAccess": false})
}

fn workspace() -> Value {
    json!({"type": "workspaceWrite", "writableRoots": ["/extra"], "networkAccess": true, "excludeTmpdirEnvVar": false,
        "excludeSlashTmp": false})
}

fn full() -> Value {
    json!({"type": "dangerFullAccess"})
}

fn started(thread: &str, sandbox: &Value, profile: Option<&str>) -> Value {
    json!({"thread": {"id": thread}, "sandbox": sandbox, "approvalPolicy": "on-request", "approvalsReviewer": "user",
        "activePermissionProfile": profile.map(|id| json!({"id": id, "extends": null}))})
}

impl Lab {
    /// A thread whose own sandbox is this.
    fn with_thread(sandbox: &Value) -> Self {
        Self::with_thread_of(Config::default(), sandbox, None)
    }

    fn with_thread_of(config: Config, sandbox: &Value, profile: Option<&str>) -> Self {
        let mut lab = Self::ready_with(config);
        let pending = lab.connection.request(lab.now, &ThreadStart::new()).expect("a request");
        let id = lab.sent_one()["id"].clone();
        lab.say(json!({"id": id, "result": started("t", sandbox, profile)}));
        drop(lab.connection.take_json(pending.key()));
        lab
    }

    fn begin(&mut self, sandbox: Option<Sandbox>) -> Result<(TurnKey, Value), TurnError> {
        let mut options = TurnOptions::default();
        options.sandbox = sandbox;
        let key = self.connection.start_turn(self.now, &TurnStart::new("t", ["Go."]), &options)?;
        let line = self.sent_one();
        assert_eq!(line["method"], "turn/start");
        Ok((key, line))
    }

    fn accept(&mut self, line: &Value, turn: &str) {
        self.say(json!({"id": line["id"], "result": {"turn": {"id": turn, "status": "inProgress", "items": []}}}));
    }

    fn run_to_its_end(&mut self, line: &Value, turn: &str) {
        self.accept(line, turn);
        self.end(turn);
    }

    fn end(&mut self, turn: &str) {
        let (method, params) = completed("t", turn, "completed");
        self.notify(method, params);
    }

    fn settings_updated(&mut self, sandbox: &Value) {
        self.notify(
            "thread/settings/updated",
            json!({"threadId": "t", "threadSettings": {"sandboxPolicy": sandbox, "approvalPolicy": "never",
                "approvalsReviewer": "user", "activePermissionProfile": null, "model": "m", "cwd": "/"}}),
        );
    }

    fn known(&self) -> (Option<SandboxPolicy>, bool) {
        let known = self.connection.thread_settings(&ThreadId::from("t")).expect("something is known");
        (known.sandbox, known.is_overridden)
    }

    fn unrestored(&self) -> Vec<String> {
        let kind = DiagnosticKind::SandboxNotRestored;
        let found = self.connection.diagnostics().filter(|diagnostic| diagnostic.kind == kind);
        found.map(|diagnostic| diagnostic.head.to_string()).collect()
    }
}

fn policy(value: &Value) -> SandboxPolicy {
    serde_json::from_value(value.clone()).expect("a policy")
}

#[test]
fn sb_01_each_preset_is_a_mode_on_a_thread_and_a_policy_on_a_turn() {
    for (sandbox, mode, on_turn) in [
        (Sandbox::read_only(), "read-only", json!({"type": "readOnly"})),
        (Sandbox::workspace_write(), "workspace-write", json!({"type": "workspaceWrite"})),
        (Sandbox::full_access(), "danger-full-access", json!({"type": "dangerFullAccess"})),
        (
            Sandbox::external().network(true),
            "external-sandbox",
            json!({"type": "externalSandbox", "networkAccess": "enabled"}),
        ),
        (
            Sandbox::workspace_write().writable_root("/a").network(true).exclude_tmpdir(true).exclude_slash_tmp(false),
            "workspace-write",
            json!({"type": "workspaceWrite", "writableRoots": ["/a"], "networkAccess": true, "excludeTmpdirEnvVar": true,
                "excludeSlashTmp": false}),
        ),
    ] {
        let start = serde_json::to_value(ThreadStart::new().with_sandbox(&sandbox)).expect("JSON");
        let resume = serde_json::to_value(ThreadResume::new("t").with_sandbox(&sandbox)).expect("JSON");
        let fork = serde_json::to_value(ThreadFork::new("t").with_sandbox(&sandbox)).expect("JSON");
        assert_eq!([&start["sandbox"], &resume["sandbox"], &fork["sandbox"]], [&json!(mode); 3]);
        let roots = on_turn.get("writableRoots");
        assert_eq!(start.pointer("/config/sandbox_workspace_write.writable_roots"), roots, "a mode has no folders");
        let mut lab = Lab::with_thread(&read_only());
        let (_, line) = lab.begin(Some(sandbox.replace().allow_relaxing())).expect("a turn");
        assert_eq!(line["params"]["sandboxPolicy"], on_turn);
        assert!(line["params"].get("sandbox").is_none());
    }
}

#[test]
fn sb_02_a_turns_workspace_keeps_the_threads_folders_and_network_unless_it_replaces_them() {
    let mut lab = Lab::with_thread(&workspace());
    let (_, line) = lab.begin(Some(Sandbox::workspace_write())).expect("no looser than the thread");
    assert_eq!(line["params"]["sandboxPolicy"], workspace());
    lab.run_to_its_end(&line, "u1");
    let (_, line) = lab.begin(Some(Sandbox::workspace_write().replace())).expect("tighter than the thread");
    assert_eq!(line["params"]["sandboxPolicy"], json!({"type": "workspaceWrite"}));
    lab.run_to_its_end(&line, "u2");
    let sent = lab.sent_one();
    lab.say(json!({"id": sent["id"], "result": {}}));
    let more = Sandbox::workspace_write().writable_root("/more").writable_root("/extra/");
    let error = lab.begin(Some(more.clone())).expect_err("a folder more");
    assert!(matches!(error, TurnError::Relaxes(_)), "{error}");
    let (_, line) = lab.begin(Some(more.allow_relaxing())).expect("allowed");
    assert_eq!(line["params"]["sandboxPolicy"]["writableRoots"], json!(["/extra", "/more"]));
    assert_eq!(line["params"]["sandboxPolicy"]["networkAccess"], true);
}

#[test]
fn sb_01_a_turn_that_may_allow_more_than_its_thread_is_refused_here_with_both_named() {
    let mut lab = Lab::with_thread(&read_only());
    for sandbox in
        [Sandbox::workspace_write(), Sandbox::full_access(), Sandbox::external(), Sandbox::read_only().network(true)]
    {
        let error = lab.begin(Some(sandbox)).expect_err("refused");
        let TurnError::Relaxes(relaxation) = &error else { panic!("{error}") };
        assert_eq!(relaxation.own, Some(policy(&read_only())));
        assert!(error.to_string().contains("`readOnly`") && error.to_string().contains("thread t"), "{error}");
    }
    // However the policy is given.
    let given = TurnStart::new("t", ["Go."]).sandbox_policy(SandboxPolicy::DangerFullAccess);
    let error = lab.connection.start_turn(lab.now, &given, &TurnOptions::default()).expect_err("refused");
    assert!(matches!(error, TurnError::Relaxes(_)));
    let given = TurnStart::new("t", ["Go."]).permissions(":workspace");
    let error = lab.connection.start_turn(lab.now, &given, &TurnOptions::default()).expect_err("refused");
    assert!(matches!(error, TurnError::Relaxes(relaxation) if relaxation.asked.is_none()));
    assert_eq!(lab.sent(), [] as [Value; 0], "nothing was sent");
    // Of another thread nothing is known, so nothing can be proved.
    let given = TurnStart::new("other", ["Go."]).sandbox_policy(policy(&read_only()));
    let error = lab.connection.start_turn(lab.now, &given, &TurnOptions::default()).expect_err("refused");
    assert!(error.to_string().contains("not known"), "{error}");
    // Elsewhere the same words allow other things.
    let mut lab = Lab::with_thread(&workspace());
    let given = || TurnStart::new("t", ["Go."]).sandbox_policy(policy(&workspace()));
    let environment = TurnEnvironmentParams::new("elsewhere", "/");
    for given in [given().cwd("/"), given().runtime_workspace_roots(["/"]), given().environments([environment])] {
        let error = lab.connection.start_turn(lab.now, &given, &TurnOptions::default()).expect_err("refused");
        assert!(matches!(error, TurnError::Relaxes(_)), "{given:?}");
    }
}

#[test]
fn sb_02_after_a_tighter_turn_the_threads_own_sandbox_is_sent_again_at_its_end() {
    let mut lab = Lab::with_thread(&workspace());
    let (_, line) = lab.begin(Some(Sandbox::read_only().network(false))).expect("tighter");
    lab.settings_updated(&read_only());
    lab.accept(&line, "u1");
    lab.notify("turn/started", json!({"threadId": "t", "turn": {"id": "u1", "status": "inProgress", "items": []}}));
    assert_eq!(lab.sent(), [] as [Value; 0], "while it runs the thread keeps the turn's");
    assert_eq!(lab.known(), (Some(policy(&workspace())), true), "the echo is no change of the thread's own");
    lab.end("u1");
    assert!(lab.connection.has_transmit());
    let sent = lab.sent_one();
    assert_eq!(sent["method"], "thread/settings/update");
    assert_eq!(sent["params"], json!({"threadId": "t", "sandboxPolicy": workspace()}));
    lab.say(json!({"id": sent["id"], "result": {}}));
    lab.settings_updated(&workspace());
    assert_eq!(lab.known(), (Some(policy(&workspace())), false));
    let (_, line) = lab.begin(None).expect("a turn");
    assert!(line["params"].get("sandboxPolicy").is_none(), "nothing is left to take back");
    assert!(lab.unrestored().is_empty());
}

#[test]
fn sb_02_what_one_turn_was_allowed_is_taken_back_as_soon_as_that_turn_runs() {
    let mut lab = Lab::with_thread(&read_only());
    let (key, line) = lab.begin(Some(Sandbox::full_access().allow_relaxing())).expect("allowed");
    lab.settings_updated(&full());
    lab.accept(&line, "u1");
    assert_eq!(lab.sent(), [] as [Value; 0], "nothing proves yet that it runs");
    lab.notify("turn/started", json!({"threadId": "t", "turn": {"id": "u1", "status": "inProgress", "items": []}}));
    let sent = lab.sent_one();
    assert_eq!(sent["params"], json!({"threadId": "t", "sandboxPolicy": read_only()}));
    lab.say(json!({"id": sent["id"], "result": {}}));
    lab.settings_updated(&read_only());
    assert_eq!(lab.connection.turn_state(key), Some(State::Running));
    lab.end("u1");
    assert_eq!(lab.sent(), [] as [Value; 0], "once is enough");
    assert_eq!(lab.known(), (Some(policy(&read_only())), false));
}

#[test]
fn sb_02_until_the_restoring_is_answered_every_start_carries_the_threads_own() {
    let mut lab = Lab::with_thread(&workspace());
    let (_, line) = lab.begin(Some(Sandbox::read_only())).expect("tighter");
    lab.run_to_its_end(&line, "u1");
    let restore = lab.sent_one();
    let (_, line) = lab.begin(None).expect("a turn");
    assert_eq!(line["params"]["sandboxPolicy"], workspace());
    // A start that is none of the machine's own too.
    let raw = lab.connection.request(lab.now, &TurnStart::new("t", ["Raw."])).expect("a request");
    assert_eq!(lab.sent_one()["params"]["sandboxPolicy"], workspace());
    let said = TurnStart::new("t", ["Raw."]).sandbox_policy(SandboxPolicy::DangerFullAccess);
    let also = lab.connection.request(lab.now, &said).expect("a request");
    assert_eq!(lab.sent_one()["params"]["sandboxPolicy"], full(), "who says it has it");
    lab.accept(&line, "u2");
    assert!(!lab.known().1, "the start carried it");
    lab.say(json!({"id": restore["id"], "result": {}}));
    lab.end("u2");
    assert_eq!(lab.sent(), [] as [Value; 0]);
    lab.connection.abandon(raw.key());
    lab.connection.abandon(also.key());
}

#[test]
fn sb_02_a_sandbox_that_cannot_be_restored_is_a_diagnostic_that_names_the_thread() {
    // Refused.
    let mut lab = Lab::with_thread(&workspace());
    let (_, line) = lab.begin(Some(Sandbox::read_only())).expect("tighter");
    lab.run_to_its_end(&line, "u1");
    let restore = lab.sent_one();
    lab.say(json!({"id": restore["id"], "error": {"code": -32600, "message": "no"}}));
    assert_eq!(lab.unrestored(), ["t"]);
    let (_, line) = lab.begin(None).expect("a turn");
    assert_eq!(line["params"]["sandboxPolicy"], workspace(), "the start carries it all the same");
    // Not answered.
    let mut lab = Lab::with_thread(&workspace());
    let (_, line) = lab.begin(Some(Sandbox::read_only())).expect("tighter");
    lab.run_to_its_end(&line, "u1");
    lab.sent_one();
    while lab.jump() {}
    assert_eq!(lab.unrestored(), ["t"]);
    // Lost, before and after it was sent.
    for is_sent in [false, true] {
        let mut lab = Lab::with_thread(&workspace());
        let (_, line) = lab.begin(Some(Sandbox::read_only())).expect("tighter");
        lab.accept(&line, "u1");
        if is_sent {
            lab.end("u1");
            lab.sent_one();
        }
        lab.connection.handle_eof(lab.now);
        lab.jump();
        assert_eq!(lab.unrestored(), ["t"]);
        assert_eq!(lab.connection.unrestored().len(), 1);
    }
    // The server has no such request for this client.
    let mut config = Config::default();
    config.experimental_api = false;
    let mut lab = Lab::with_thread_of(config, &workspace(), None);
    let (_, line) = lab.begin(Some(Sandbox::read_only())).expect("tighter");
    lab.run_to_its_end(&line, "u1");
    assert_eq!((lab.sent(), lab.unrestored()), (Vec::new(), vec!["t".to_string()]));
    let (_, line) = lab.begin(None).expect("a turn");
    assert_eq!(line["params"]["sandboxPolicy"], workspace());
}

#[test]
fn sb_02_handles_that_are_dropped_deadlines_and_ambiguous_starts_restore_too() {
    // Dropped.
    let mut lab = Lab::with_thread(&workspace());
    let (key, line) = lab.begin(Some(Sandbox::read_only())).expect("tighter");
    lab.accept(&line, "u1");
    lab.connection.release_turn(key);
    lab.end("u1");
    assert_eq!(lab.sent_one()["method"], "thread/settings/update");
    // A start that was not answered may have had its effect.
    let mut lab = Lab::with_thread(&workspace());
    lab.begin(Some(Sandbox::read_only())).expect("tighter");
    lab.pass(Duration::from_secs(300));
    assert_eq!(lab.sent_one()["method"], "thread/settings/update");
    // One that was refused has none.
    let mut lab = Lab::with_thread(&workspace());
    let (_, line) = lab.begin(Some(Sandbox::read_only())).expect("tighter");
    lab.say(json!({"id": line["id"], "error": {"code": -32602, "message": "too large"}}));
    assert_eq!((lab.sent(), lab.known().1), (Vec::new(), false));
    // And one that was never sent neither.
    let mut lab = Lab::with_thread(&workspace());
    let mut options = TurnOptions::default();
    options.sandbox = Some(Sandbox::read_only());
    let key = lab.connection.start_turn(lab.now, &TurnStart::new("t", ["Go."]), &options).expect("a turn");
    lab.connection.release_turn(key);
    assert_eq!((lab.sent(), lab.known().1), (Vec::new(), false));
    // Past its deadline a turn is told to stop; the sandbox follows when it has stopped.
    let mut lab = Lab::with_thread(&workspace());
    options.deadline = Some(Duration::from_secs(1));
    lab.connection.start_turn(lab.now, &TurnStart::new("t", ["Go."]), &options).expect("a turn");
    let line = lab.sent_one();
    lab.accept(&line, "u1");
    lab.notify("turn/started", json!({"threadId": "t", "turn": {"id": "u1", "status": "inProgress", "items": []}}));
    lab.pass(Duration::from_secs(2));
    assert_eq!(lab.sent_one()["method"], "turn/interrupt");
    let (method, params) = completed("t", "u1", "interrupted");
    lab.notify(method, params);
    assert_eq!(lab.sent_one()["method"], "thread/settings/update");
}

#[test]
fn sb_02_what_somebody_else_changes_is_the_threads_own_from_then_on() {
    // While a turn of ours has its own sandbox in force.
    let mut lab = Lab::with_thread(&workspace());
    let (_, line) = lab.begin(Some(Sandbox::read_only().network(false))).expect("tighter");
    lab.settings_updated(&read_only());
    lab.accept(&line, "u1");
    lab.settings_updated(&full());
    assert_eq!(lab.known(), (Some(SandboxPolicy::DangerFullAccess), false));
    lab.end("u1");
    assert_eq!(lab.sent(), [] as [Value; 0], "it is not undone");
    // By this client.
    let mut lab = Lab::with_thread(&workspace());
    let (_, line) = lab.begin(Some(Sandbox::read_only().network(false))).expect("tighter");
    lab.settings_updated(&read_only());
    lab.accept(&line, "u1");
    let keep = ThreadSettingsUpdate::new("t").sandbox_policy(policy(&read_only()));
    let keep = lab.connection.request(lab.now, &keep).expect("a request");
    let sent = lab.sent_one();
    lab.say(json!({"id": sent["id"], "result": {}}));
    lab.connection.take_response(&keep).expect("answered").expect("taken");
    assert_eq!(lab.known(), (Some(policy(&read_only())), false), "the turn's is made the thread's");
    lab.end("u1");
    assert_eq!(lab.sent(), [] as [Value; 0]);
    // An unknown policy in the echo of a looser turn does not become the thread's own.
    let mut lab = Lab::with_thread(&read_only());
    let loose = SandboxPolicy::WorkspaceWrite(WorkspaceWriteSandboxPolicy::new().writable_roots(["/a/../b"]));
    let (_, line) = lab.begin(Some(Sandbox::from(loose).allow_relaxing())).expect("allowed");
    lab.settings_updated(&json!({"type": "workspaceWrite", "writableRoots": ["/b"]}));
    lab.accept(&line, "u1");
    lab.end("u1");
    assert_eq!(lab.sent_one()["params"]["sandboxPolicy"], read_only());
}

#[test]
fn sb_02_a_thread_with_a_permission_profile_gets_its_profile_again() {
    let mut lab = Lab::with_thread_of(Config::default(), &workspace(), Some(":workspace"));
    let (_, line) = lab.begin(Some(Sandbox::workspace_write())).expect("the same");
    lab.accept(&line, "u1");
    lab.end("u1");
    let sent = lab.sent_one();
    assert_eq!(sent["params"], json!({"threadId": "t", "permissions": ":workspace"}));
    let (_, line) = lab.begin(None).expect("a turn");
    assert_eq!(line["params"]["permissions"], ":workspace");
    assert!(line["params"].get("sandboxPolicy").is_none(), "never both");
}

#[test]
fn sb_02_the_connection_after_a_crash_restores_what_the_one_before_could_not() {
    let mut lab = Lab::with_thread(&read_only());
    let (_, line) = lab.begin(Some(Sandbox::full_access().allow_relaxing())).expect("allowed");
    lab.accept(&line, "u1");
    lab.connection.handle_eof(lab.now);
    lab.jump();
    let left = lab.connection.unrestored();
    assert!(left[&ThreadId::from("t")].is_overridden);
    let mut lab = Lab::ready();
    lab.connection.adopt_unrestored(left);
    let resume = lab.connection.request(lab.now, &ThreadResume::new("t")).expect("a request");
    let id = lab.sent_one()["id"].clone();
    lab.say(json!({"id": id, "result": started("t", &full(), None)}));
    drop(lab.connection.take_json(resume.key()));
    let sent = lab.sent_one();
    assert_eq!(sent["params"], json!({"threadId": "t", "sandboxPolicy": read_only()}));
    let (_, line) = lab.begin(None).expect("a turn");
    assert_eq!(line["params"]["sandboxPolicy"], read_only());
}

#[test]
fn sb_02_a_thread_that_is_loaded_with_a_looser_sandbox_than_asked_for_is_an_error() {
    for (asked, effective, is_fault) in [
        (SandboxMode::ReadOnly, full(), true),
        (SandboxMode::ReadOnly, workspace(), true),
        (SandboxMode::WorkspaceWrite, full(), true),
        (SandboxMode::WorkspaceWrite, json!({"type": "externalSandbox"}), true),
        (SandboxMode::WorkspaceWrite, read_only(), false),
        (SandboxMode::ReadOnly, read_only(), false),
        (SandboxMode::DangerFullAccess, workspace(), false),
    ] {
        let mut lab = Lab::ready();
        let pending = lab.connection.request(lab.now, &ThreadResume::new("t").sandbox(asked)).expect("a request");
        let id = lab.sent_one()["id"].clone();
        lab.say(json!({"id": id, "result": started("t", &effective, None)}));
        let outcome = lab.connection.take_json(pending.key()).expect("answered");
        assert_eq!(outcome.is_err(), is_fault, "{outcome:?}");
        if let Err(error) = outcome {
            assert!(matches!(error.fault, Fault::SandboxLooser { .. }) && error.may_have_effect(), "{error}");
        }
        assert_eq!(lab.known().0, Some(policy(&effective)), "what it has is known all the same");
    }
}

#[test]
fn sb_04_an_approval_mode_is_sent_as_the_words_it_stands_for() {
    for (mode, asks, reviewer) in [
        (ApprovalMode::deny_all(), json!("never"), Value::Null),
        (ApprovalMode::auto_review(), json!("on-request"), json!("auto_review")),
        (ApprovalMode::untrusted(), json!("untrusted"), Value::Null),
        (ApprovalMode::on_request().reviewer("user"), json!("on-request"), json!("user")),
        (ApprovalMode::policy("on-failure"), json!("on-failure"), Value::Null),
    ] {
        let all = [
            serde_json::to_value(ThreadStart::new().approval_mode(mode.clone())).expect("JSON"),
            serde_json::to_value(ThreadResume::new("t").approval_mode(mode.clone())).expect("JSON"),
            serde_json::to_value(ThreadFork::new("t").approval_mode(mode.clone())).expect("JSON"),
        ];
        for params in all {
            assert_eq!((&params["approvalPolicy"], &params["approvalsReviewer"]), (&asks, &reviewer));
        }
    }
    // What the server says is kept.
    let mut lab = Lab::with_thread(&read_only());
    let known = |lab: &Lab| lab.connection.thread_settings(&ThreadId::from("t")).expect("known").approval_policy;
    assert_eq!(known(&lab), Some(AskForApproval::OnRequest));
    lab.settings_updated(&read_only());
    assert_eq!(known(&lab), Some(AskForApproval::Never));
}

#[test]
fn sb_05_without_approval_arguments_there_is_no_approval_member() {
    let all = [
        serde_json::to_value(ThreadStart::new()).expect("JSON"),
        serde_json::to_value(ThreadResume::new("t")).expect("JSON"),
        serde_json::to_value(ThreadFork::new("t")).expect("JSON"),
        serde_json::to_value(ThreadStart::new().with_sandbox(&Sandbox::read_only())).expect("JSON"),
        Lab::with_thread(&read_only()).begin(None).expect("a turn").1["params"].clone(),
        Lab::with_thread(&workspace()).begin(Some(Sandbox::read_only())).expect("a turn").1["params"].clone(),
    ];
    for params in all {
        for member in ["approvalPolicy", "approvalsReviewer"] {
            assert!(params.get(member).is_none(), "{member}");
        }
    }
}

#[test]
fn sb_02_what_is_remembered_of_threads_is_bounded_and_what_is_to_be_restored_stays() {
    let mut config = Config::default();
    config.limits.max_thread_settings = 3;
    let mut lab = Lab::with_thread_of(config, &workspace(), None);
    let (_, line) = lab.begin(Some(Sandbox::read_only())).expect("tighter");
    lab.accept(&line, "u1");
    for n in 0..10 {
        let pending = lab.connection.request(lab.now, &ThreadStart::new()).expect("a request");
        let id = lab.sent_one()["id"].clone();
        lab.say(json!({"id": id, "result": started(&format!("t{n}"), &workspace(), None)}));
        drop(lab.connection.take_json(pending.key()));
    }
    let known = |lab: &Lab, thread: &str| lab.connection.thread_settings(&ThreadId::from(thread)).is_some();
    assert!(known(&lab, "t") && known(&lab, "t9") && known(&lab, "t8") && !known(&lab, "t7") && !known(&lab, "t0"));
    lab.end("u1");
    assert_eq!(lab.sent_one()["params"]["sandboxPolicy"], workspace());
}

#[test]
fn sb_02_what_was_said_of_a_turns_sandbox_and_comes_late_does_not_make_it_the_threads_own() {
    for (own, sandbox, told) in [
        (read_only(), Sandbox::full_access().allow_relaxing(), full()),
        (workspace(), Sandbox::read_only().network(false), read_only()),
    ] {
        let mut lab = Lab::with_thread(&own);
        let (_, line) = lab.begin(Some(sandbox)).expect("allowed");
        lab.run_to_its_end(&line, "u1");
        let id = lab.sent_one()["id"].clone();
        lab.say(json!({"id": id, "result": {}}));
        assert_eq!(lab.known(), (Some(policy(&own)), false));
        lab.settings_updated(&told);
        assert_eq!(lab.known().0, Some(policy(&own)), "the thread's own stays its own");
        let again = lab.sent_one();
        assert_eq!(again["params"], json!({"threadId": "t", "sandboxPolicy": own}), "and is in force, whoever said so");
        let refused = lab.connection.start_turn(lab.now, &TurnStart::new("t", ["Go."]), &{
            let mut options = TurnOptions::default();
            options.sandbox = Some(Sandbox::full_access());
            options
        });
        assert!(matches!(refused, Err(TurnError::Relaxes(_))));
        lab.say(json!({"id": again["id"], "result": {}}));
        lab.settings_updated(&told);
        assert_eq!(lab.sent(), [] as [Value; 0], "once: a server may say the same for ever");
        assert_eq!((lab.known(), lab.unrestored()), ((Some(policy(&own)), true), vec!["t".to_owned()]));
        let (_, line) = lab.begin(None).expect("a turn");
        assert_eq!(line["params"]["sandboxPolicy"], own, "and every start carries it");
    }
    // The same in the answer to a resume, which may have been written before.
    let mut lab = Lab::with_thread(&read_only());
    let (_, line) = lab.begin(Some(Sandbox::full_access().allow_relaxing())).expect("allowed");
    lab.run_to_its_end(&line, "u1");
    let id = lab.sent_one()["id"].clone();
    let resume = lab.connection.request(lab.now, &ThreadResume::new("t")).expect("a request");
    let resume_id = lab.sent_one()["id"].clone();
    lab.say(json!({"id": id, "result": {}}));
    lab.say(json!({"id": resume_id, "result": started("t", &full(), None)}));
    drop(lab.connection.take_json(resume.key()));
    assert_eq!(lab.known().0, Some(policy(&read_only())), "the thread's own stays its own");
    assert_eq!(lab.sent_one()["params"], json!({"threadId": "t", "sandboxPolicy": read_only()}));
    // What the server says after the thread's own is in force again is somebody's change.
    let mut lab = Lab::with_thread(&workspace());
    let (_, line) = lab.begin(Some(Sandbox::read_only().network(false))).expect("tighter");
    lab.settings_updated(&read_only());
    lab.run_to_its_end(&line, "u1");
    let id = lab.sent_one()["id"].clone();
    lab.say(json!({"id": id, "result": {}}));
    lab.settings_updated(&workspace());
    lab.settings_updated(&read_only());
    assert_eq!(lab.known(), (Some(policy(&read_only())), false));
    assert_eq!(lab.sent(), [] as [Value; 0]);
}

#[test]
fn a_profile_that_one_turn_has_is_known_by_its_name_and_its_sandbox_is_not_the_threads_own() {
    let mut lab = Lab::with_thread(&workspace());
    let mut options = TurnOptions::default();
    options.may_relax = true;
    let given = TurnStart::new("t", ["Go."]).permissions(":read-only");
    lab.connection.start_turn(lab.now, &given, &options).expect("allowed");
    let line = lab.sent_one();
    lab.notify(
        "thread/settings/updated",
        json!({"threadId": "t", "threadSettings": {"sandboxPolicy": read_only(),
            "activePermissionProfile": {"id": ":read-only", "extends": null}}}),
    );
    assert_eq!(lab.known(), (Some(policy(&workspace())), true));
    lab.run_to_its_end(&line, "u1");
    assert_eq!(lab.sent_one()["params"], json!({"threadId": "t", "sandboxPolicy": workspace()}));
}

#[test]
fn what_is_being_taken_back_is_not_taken_back_a_second_time_at_the_turns_end() {
    let mut lab = Lab::with_thread(&read_only());
    let (_, line) = lab.begin(Some(Sandbox::full_access().allow_relaxing())).expect("allowed");
    lab.accept(&line, "u1");
    lab.notify("turn/started", json!({"threadId": "t", "turn": {"id": "u1", "status": "inProgress", "items": []}}));
    let restore = lab.sent_one();
    lab.end("u1");
    assert_eq!(lab.sent(), [] as [Value; 0], "it is under way");
    lab.say(json!({"id": restore["id"], "result": {}}));
    assert_eq!(lab.known(), (Some(policy(&read_only())), false));
}

#[test]
fn a_sandbox_that_a_resume_tells_of_and_no_turn_has_asked_for_is_the_threads_own() {
    let mut lab = Lab::with_thread(&workspace());
    let (_, line) = lab.begin(Some(Sandbox::read_only().network(false))).expect("tighter");
    lab.accept(&line, "u1");
    let resume = lab.connection.request(lab.now, &ThreadResume::new("t")).expect("a request");
    let id = lab.sent_one()["id"].clone();
    lab.say(json!({"id": id, "result": started("t", &full(), None)}));
    drop(lab.connection.take_json(resume.key()));
    assert_eq!(lab.known(), (Some(SandboxPolicy::DangerFullAccess), false));
    lab.end("u1");
    assert_eq!(lab.sent(), [] as [Value; 0], "it is not undone");
}

#[test]
fn of_two_turns_with_sandboxes_of_their_own_the_second_has_waited_and_is_taken_back_like_the_first() {
    let mut lab = Lab::with_thread(&workspace());
    let (_, line) = lab.begin(Some(Sandbox::read_only())).expect("tighter");
    lab.accept(&line, "u1");
    let mut options = TurnOptions::default().when_busy(WhenBusy::Queue);
    options.sandbox = Some(Sandbox::read_only());
    lab.connection.start_turn(lab.now, &TurnStart::new("t", ["Go on."]), &options).expect("it waits");
    lab.end("u1");
    let sent = lab.sent();
    let methods: Vec<&Value> = sent.iter().map(|line| &line["method"]).collect();
    assert_eq!(methods, ["thread/settings/update", "turn/start"]);
    lab.say(json!({"id": sent[0]["id"], "result": {}}));
    assert!(lab.known().1, "that was the first one's, and the second has its own in force by now");
    lab.run_to_its_end(&sent[1], "u2");
    assert_eq!(lab.sent_one()["params"], json!({"threadId": "t", "sandboxPolicy": workspace()}));
}
