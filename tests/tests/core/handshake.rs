use crate::lab::{Lab, report};
use serde_json::json;
use std::time::Duration;
use turnwire_core::{
    connection::{Config, Event, TurnOptions},
    error::{Disconnect, DisconnectReason, Fault, Phase},
    protocol::{MemoryReset, ModelList, Request, ThreadDelete, ThreadStart, TurnStart, UserInput},
};

#[test]
fn hs_01_initialize_goes_alone_and_initialized_follows_its_answer() {
    let mut config = Config::new("gui", "1.2.3");
    config.client_title = Some("My GUI".into());
    let mut lab = Lab::new(config);
    let models = lab.connection.request(lab.now, &ModelList::default()).expect("queued");
    let first = lab.sent_one();
    assert_eq!(first["method"], "initialize");
    assert_eq!(first["params"]["clientInfo"], json!({"name": "gui", "title": "My GUI", "version": "1.2.3"}));
    assert_eq!(first["params"]["capabilities"]["experimentalApi"], true);
    assert!(!lab.connection.has_transmit(), "nothing else before the answer");

    // The server may talk before it answers; that opens nothing.
    lab.notify("configWarning", json!({"summary": "no bubblewrap"}));
    assert!(lab.sent().is_empty());

    lab.say(json!({"id": first["id"], "result": {"userAgent": "gui/0.163.0 (Debian; x86_64) unknown (gui; 1.2.3)",
        "codexHome": "/home/user/.codex", "platformFamily": "unix", "platformOs": "linux"}}));
    assert_eq!(lab.events, [Event::Ready]);
    let server = lab.connection.server().expect("a server");
    assert_eq!(server.version.as_deref(), Some("0.163.0"));
    assert_eq!(server.user_agent, "gui/0.163.0 (Debian; x86_64) unknown (gui; 1.2.3)");
    assert_eq!(server.platform_family, "unix");
    assert_eq!((server.codex_home.as_str(), server.platform_os.as_str()), ("/home/user/.codex", "linux"));

    let sent = lab.sent();
    assert_eq!(sent[0], json!({"method": "initialized"}));
    assert_eq!(sent[1]["method"], "model/list");
    assert_eq!(sent.len(), 2, "exactly one `initialized`, then what was queued");
    lab.say(json!({"id": sent[1]["id"], "result": {"data": []}}));
    assert!(lab.connection.take_response(&models).expect("answered").is_ok());
    lab.assert_quiet();
}

#[test]
fn hs_03_a_server_that_never_answers_initialize_ends_in_a_named_timeout_with_the_evidence() {
    let mut config = Config::default();
    config.expects_exit = true;
    config.timeouts.initialize = Duration::from_secs(3);
    let mut lab = Lab::new(config);
    let models = lab.connection.request(lab.now, &ModelList::default()).expect("queued");
    lab.sent();
    lab.pass(Duration::from_secs(2));
    assert!(lab.connection.closed().is_none());
    lab.connection.handle_evidence(report(None, None, "still thinking"));
    assert!(lab.jump());
    let cause = lab.connection.closed().expect("closed at the deadline").clone();
    assert!(matches!(cause.reason(), DisconnectReason::InitializeTimedOut { elapsed } if elapsed.as_secs() == 3));
    assert_eq!(cause.stderr_tail(), "still thinking");
    let error = lab.connection.take_response(&models).expect("has its outcome").expect_err("failed");
    assert!(matches!(error.fault, Fault::Disconnected { .. }), "{error}");
    assert!(lab.connection.wants_close_write());
    lab.assert_quiet();
}

#[test]
fn the_search_for_the_program_and_its_start_have_a_time_each() {
    let seconds = Duration::from_secs;
    for (phase, limit) in [(Phase::Resolve, seconds(4)), (Phase::Spawn, seconds(5))] {
        let mut config = Config::default();
        config.timeouts.resolve = seconds(4);
        config.timeouts.spawn = seconds(5);
        let mut lab = Lab::new(config);
        let models = lab.connection.request(lab.now, &ModelList::default()).expect("queued");
        lab.connection.handle_launching(lab.now, Phase::Resolve);
        if phase == Phase::Spawn {
            lab.pass(seconds(3));
            lab.connection.handle_launching(lab.now, Phase::Spawn);
        }
        assert!(lab.jump());
        let cause = lab.connection.closed().expect("closed at the deadline").clone();
        assert_eq!(cause.reason(), &DisconnectReason::LaunchTimedOut { phase, elapsed: limit });
        assert!(lab.connection.take_response(&models).expect("has its outcome").is_err());
        lab.assert_quiet();
    }
    // Once there is a transport, only the time of the handshake is left.
    let mut lab = Lab::new(Config::default());
    lab.connection.handle_launching(lab.now, Phase::Spawn);
    lab.connection.handle_launched(false);
    lab.sent();
    assert!(lab.jump());
    assert!(matches!(
        lab.connection.closed().map(Disconnect::reason),
        Some(DisconnectReason::InitializeTimedOut { .. })
    ));
}

#[test]
fn hs_05_an_exit_before_the_answer_is_told_at_once_with_status_and_stderr() {
    let mut config = Config::default();
    config.expects_exit = true;
    let mut lab = Lab::new(config);
    lab.sent();
    lab.connection.handle_eof(lab.now);
    assert!(lab.connection.closed().is_none(), "the exit status is worth a moment");
    let last_words = "error: unexpected argument '--listen'\n";
    lab.connection.handle_exit(lab.now, report(Some(2), None, last_words));
    let cause = lab.connection.closed().expect("closed without any time passing");
    assert_eq!(cause.exit().and_then(|exit| exit.status).and_then(|status| status.code), Some(2));
    assert!(cause.to_string().contains("unexpected argument"), "{cause}");
}

#[test]
fn hs_06_a_refused_initialize_is_the_servers_own_error() {
    let mut lab = Lab::new(Config::default());
    let models = lab.connection.request(lab.now, &ModelList::default()).expect("queued");
    let id = lab.sent_one()["id"].clone();
    lab.say(json!({"error": {"code": -32600, "message": "Invalid request: bad client name"}, "id": id}));
    assert!(lab.connection.wants_close_write(), "the server is let go");
    lab.connection.handle_eof(lab.now);
    lab.collect();
    let reason = lab.connection.closed().expect("closed").reason().clone();
    assert!(matches!(reason, DisconnectReason::InitializeRefused(error) if error.code == -32600));
    assert!(lab.connection.take_response(&models).expect("has its outcome").is_err());
    assert_eq!(lab.events.last(), Some(&Event::Closed));
    assert!(lab.connection.poll_timeout().is_none(), "no timer is left");
    lab.assert_quiet();
}

#[test]
fn hs_10_an_opt_out_names_the_exact_method() {
    let mut config = Config::default();
    config.opt_out_notifications = vec!["thread/status/changed".into()];
    let mut lab = Lab::new(config);
    let capabilities = lab.sent_one()["params"]["capabilities"].clone();
    assert_eq!(capabilities["optOutNotificationMethods"], json!(["thread/status/changed"]));
}

fn fault<R: Request>(lab: &mut Lab, params: &R) -> Fault {
    let error = lab.connection.request(lab.now, params).expect_err("refused");
    assert_eq!(error.method, R::METHOD);
    error.fault
}

#[test]
fn hs_11_without_the_capability_what_is_experimental_is_refused_by_name_and_not_sent() {
    let mut config = Config::default();
    config.experimental_api = false;
    let mut lab = Lab::ready_with(config);
    let method = fault(&mut lab, &MemoryReset::new());
    assert!(matches!(method, Fault::NeedsExperimental { what } if what == "memory/reset"));
    let member = fault(&mut lab, &ThreadStart::new().experimental_raw_events(true));
    assert!(matches!(member, Fault::NeedsExperimental { what } if what == "experimentalRawEvents"));
    assert!(lab.sent().is_empty());
    let _ = lab.connection.request(lab.now, &ThreadStart::new()).expect("stable");
    let mut lab = Lab::ready();
    let _ = lab.connection.request(lab.now, &MemoryReset::new()).expect("with the capability it goes");
}

fn connect_to(lab: &mut Lab, version: &str) {
    let id = lab.sent_one()["id"].clone();
    lab.say(json!({"id": id, "result": {"userAgent": format!("lab/{version} (Linux)")}}));
}

#[test]
fn hs_12_what_a_server_is_too_old_for_is_refused_with_both_versions_and_not_sent() {
    let mut lab = Lab::new(Config::default());
    // Before the handshake nobody knows how old it is.
    let early = lab.connection.request(lab.now, &ThreadDelete::new("T")).expect("queued");
    connect_to(&mut lab, "0.133.0");
    let error = lab.connection.take_response(&early).expect("has its outcome").expect_err("too old");
    assert!(matches!(&error.fault, Fault::NeedsNewer { actual, .. } if actual == "0.133.0"), "{error}");
    let method = fault(&mut lab, &ThreadDelete::new("T"));
    assert!(matches!(method, Fault::NeedsNewer { what, required: "0.144.4", .. } if what == "thread/delete"));
    let params = TurnStart::new("T", [UserInput::text("x")]).service_tier_for_turn("fast");
    let member = lab.connection.start_turn(lab.now, &params, &TurnOptions::default()).expect_err("too old");
    assert!(member.to_string().contains("serviceTierForTurn") && member.to_string().contains("0.154.0"), "{member}");
    assert_eq!(lab.sent(), [json!({"method": "initialized"})], "nothing of all that was sent");
    lab.assert_quiet();
}

#[test]
fn hs_12_a_server_between_two_known_ones_is_asked_for_methods_that_it_may_have_and_not_for_members() {
    // The schema of 0.144.4 has the method, and that of 0.133.0 has not; and so it is with the member and 0.154.0.
    let params = TurnStart::new("T", [UserInput::text("x")]).service_tier_for_turn("fast");
    for (version, method, member) in [
        ("0.99.0", false, false),
        ("0.133.0", false, false),
        ("0.133.1", true, false),
        ("0.149.0", true, false),
        ("0.154.0", true, true),
        ("1.0.0", true, true),
    ] {
        let mut lab = Lab::new(Config::default());
        let _ = lab.connection.request(lab.now, &ThreadDelete::new("T")).expect("queued");
        let _ = lab.connection.start_turn(lab.now, &params, &TurnOptions::default()).expect("queued");
        connect_to(&mut lab, version);
        let sent = lab.sent();
        let is_sent = |method: &str| sent.iter().any(|line| line["method"] == method);
        assert_eq!((is_sent("thread/delete"), is_sent("turn/start")), (method, member), "{version}");
    }
}

#[test]
fn hs_12_an_unnumbered_server_is_believed_and_any_can_be_overridden() {
    let mut lab = Lab::new(Config::default());
    connect_to(&mut lab, "0.0.0");
    let _ = lab.connection.request(lab.now, &ThreadDelete::new("T")).expect("nothing is known against it");
    let mut config = Config::default();
    config.assume_version = Some("0.163.0".into());
    let mut lab = Lab::new(config);
    connect_to(&mut lab, "0.133.0");
    let _ = lab.connection.request(lab.now, &ThreadDelete::new("T")).expect("the caller knows better");
}

#[test]
fn an_answer_to_initialize_that_comes_after_the_exit_does_not_bring_the_connection_back() {
    let mut config = Config::default();
    config.expects_exit = true;
    let mut lab = Lab::new(config);
    let id = lab.sent_one()["id"].clone();
    lab.connection.handle_exit(lab.now, report(Some(2), None, "bad option\n"));
    lab.say(json!({"id": id, "result": {"userAgent": "lab/0.163.0 (Linux) lab", "codexHome": "/h"}}));
    assert!(!lab.connection.is_ready() && lab.events.is_empty(), "{:?}", lab.events);
    assert!(lab.sent().is_empty());
    lab.connection.handle_eof(lab.now);
    let cause = lab.connection.closed().expect("closed");
    assert_eq!((cause.reason(), cause.stderr_tail()), (&DisconnectReason::Exited, "bad option\n"));
}
