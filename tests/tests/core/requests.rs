use crate::lab::Lab;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use turnwire_core::{
    connection::{Config, Scope},
    error::{Delivery, Fault, RpcErrorKind},
    protocol::{ModelList, ThreadStart},
};

#[test]
fn rq_01_answers_in_reverse_order_find_their_callers() {
    let mut config = Config::default();
    config.limits.max_in_flight = 100;
    let mut lab = Lab::ready_with(config);
    let pending: Vec<_> =
        (0..100).map(|n| lab.connection.request_raw(lab.now, "echo", &json!({"n": n})).expect("queued")).collect();
    let sent = lab.sent();
    for line in sent.iter().rev() {
        lab.say(json!({"id": line["id"], "result": line["params"]["n"]}));
    }
    for (n, pending) in pending.iter().enumerate() {
        let json = lab.connection.take_raw(pending).expect("answered").expect("a result");
        assert_eq!(json.as_str(), n.to_string());
    }
    lab.assert_quiet();
}

#[test]
fn no_more_requests_are_in_flight_than_may_be() {
    let mut config = Config::default();
    config.limits.max_in_flight = 3;
    let mut lab = Lab::ready_with(config);
    for n in 0..10 {
        let _ = lab.connection.request_raw(lab.now, "echo", &json!({"n": n})).expect("queued");
    }
    let mut order = Vec::new();
    let mut open = lab.sent();
    assert_eq!(open.len(), 3);
    while let Some(line) = open.pop() {
        order.push(line["params"]["n"].as_i64().expect("a number"));
        lab.say(json!({"id": line["id"], "result": null}));
        let more = lab.sent();
        assert_eq!(more.len(), usize::from(order.len() <= 7), "one more for each answer");
        open.splice(0..0, more);
    }
    order.sort_unstable();
    assert_eq!(order, (0..10).collect::<Vec<_>>());
}

#[test]
fn rq_02_a_late_answer_is_counted_and_ignored() {
    let mut config = Config::default();
    config.timeouts.reply = Duration::from_secs(5);
    let mut lab = Lab::ready_with(config);
    let slow = lab.connection.request(lab.now, &ModelList::default()).expect("queued");
    let id = lab.sent_one()["id"].clone();
    lab.pass(Duration::from_secs(6));
    let error = lab.connection.take_response(&slow).expect("has its outcome").expect_err("timed out");
    assert!(error.is_timeout());
    assert_eq!(error.method, "model/list");
    let Fault::TimedOut { delivery: Delivery::Sent, elapsed, .. } = error.fault else { panic!("{error}") };
    assert_eq!(elapsed, Duration::from_secs(6));
    lab.say(json!({"id": id, "result": {"data": []}}));
    assert_eq!(lab.connection.counters().late, 1);

    let next = lab.connection.request(lab.now, &ModelList::default()).expect("queued");
    let id = lab.sent_one()["id"].clone();
    lab.say(json!({"id": id, "result": {"data": []}}));
    assert!(lab.connection.take_response(&next).expect("answered").is_ok());
    lab.assert_quiet();
}

#[test]
fn a_request_that_was_never_sent_says_so_when_its_time_is_up() {
    let mut lab = Lab::ready();
    let unsent = lab.connection.request(lab.now, &ModelList::default()).expect("queued");
    assert!(lab.jump());
    let error = lab.connection.take_response(&unsent).expect("has its outcome").expect_err("timed out");
    assert!(matches!(error.fault, Fault::TimedOut { delivery: Delivery::NotSent, .. }));
    assert!(lab.sent().is_empty(), "and it is not sent after all");
}

#[test]
fn rq_04_each_code_is_a_kind_and_everything_is_kept() {
    let kinds = [
        (-32700, RpcErrorKind::Parse),
        (-32600, RpcErrorKind::InvalidRequest),
        (-32601, RpcErrorKind::MethodNotFound),
        (-32602, RpcErrorKind::InvalidParams),
        (-32603, RpcErrorKind::Internal),
        (-32001, RpcErrorKind::Overloaded),
        (-32050, RpcErrorKind::Server),
        (12345, RpcErrorKind::Other),
    ];
    for (code, kind) in kinds {
        let mut lab = Lab::ready();
        let pending = lab.connection.request(lab.now, &ModelList::default()).expect("queued");
        let id = lab.sent_one()["id"].clone();
        lab.say(json!({"error": {"code": code, "message": "m", "data": {"a": [1]}}, "id": id}));
        let error = lab.connection.take_response(&pending).expect("answered").expect_err("an error");
        let rpc = error.rpc().expect("the server's own");
        assert_eq!((rpc.code, rpc.kind(), rpc.message.as_str()), (code, kind, "m"));
        assert_eq!(rpc.data.as_ref().map(|data| data.as_str()), Some("{\"a\":[1]}"));
        assert_eq!(error.method, "model/list");
        assert_eq!(error.is_retryable(), code == -32001);
    }
}

#[test]
fn rq_10_unknown_and_double_answers_are_diagnostics_only() {
    let mut lab = Lab::ready();
    let reader = lab.connection.subscribe(Scope::Connection);
    let pending = lab.connection.request(lab.now, &ModelList::default()).expect("queued");
    let id = lab.sent_one()["id"].clone();
    lab.say(json!({"id": 999, "result": {"data": ["not yours"]}}));
    lab.say(json!({"id": "text", "result": {}}));
    lab.say(json!({"id": id, "result": {"data": []}}));
    lab.say(json!({"id": id, "result": {"data": "second"}}));
    let models = lab.connection.take_response(&pending).expect("answered").expect("the first answer");
    assert!(models.data.is_empty());
    lab.say(json!({"id": id, "error": {"code": 1, "message": "third"}}));
    assert!(lab.connection.take_response(&pending).is_none(), "an answer is fetched once");
    let unknown = "diagnostic UnknownResponse";
    let double = "diagnostic DuplicateResponse";
    assert_eq!(lab.read(reader), [unknown, unknown, double, double]);
    let counters = lab.connection.counters();
    assert_eq!((counters.unknown_responses, counters.duplicate), (2, 2));
    lab.assert_quiet();
}

#[test]
fn an_answer_to_a_request_that_was_not_sent_yet_answers_nothing() {
    let mut lab = Lab::ready();
    let pending = lab.connection.request(lab.now, &ModelList::default()).expect("queued");
    lab.say(json!({"id": 2, "result": {"data": []}}));
    assert_eq!(lab.connection.counters().unknown_responses, 1);
    assert!(lab.connection.take_response(&pending).is_none());
    assert_eq!(lab.sent().len(), 1);
}

#[test]
fn rq_11_a_method_without_a_type_goes_the_same_way() {
    #[derive(Deserialize)]
    struct Mine {
        answer: u8,
    }
    let mut lab = Lab::ready();
    let good = lab.connection.request_raw(lab.now, "brand/new", &json!({"any": ["thing"]})).expect("queued");
    let bad = lab.connection.request_raw(lab.now, String::from("brand/new"), &json!({})).expect("queued");
    let slow = lab.connection.request_raw(lab.now, "brand/new", &json!({})).expect("queued");
    let sent = lab.sent();
    assert_eq!((&sent[0]["method"], &sent[0]["params"]), (&json!("brand/new"), &json!({"any": ["thing"]})));
    lab.say(json!({"id": sent[0]["id"], "result": {"answer": 42, "extra": {}}}));
    lab.say(json!({"id": sent[1]["id"], "error": {"code": -32600, "message": "unknown variant `brand/new`"}}));
    let mine: Mine = lab.connection.take_raw(&good).expect("answered").expect("a result").decode().expect("mine");
    assert_eq!(mine.answer, 42);
    let error = lab.connection.take_raw(&bad).expect("answered").expect_err("an error");
    assert_eq!((&*error.method, error.rpc().map(|rpc| rpc.code)), ("brand/new", Some(-32600)));
    while lab
        .connection
        .take_raw(&slow)
        .map(|outcome| assert!(outcome.is_err_and(|error| error.is_timeout())))
        .is_none()
    {
        assert!(lab.jump(), "a request ends at its deadline");
    }
}

#[test]
fn rq_12_a_result_that_does_not_fit_is_told_apart_and_kept() {
    let mut lab = Lab::ready();
    let pending = lab.connection.request(lab.now, &ModelList::default()).expect("queued");
    let id = lab.sent_one()["id"].clone();
    lab.say(json!({"id": id, "result": "hunter2 is no list"}));
    let error = lab.connection.take_response(&pending).expect("answered").expect_err("no fit");
    assert!(!error.to_string().contains("hunter2") && !format!("{error:?}").contains("hunter2"), "{error}");
    let Fault::Decode { raw, .. } = error.fault else { panic!("{error}") };
    assert_eq!(raw.as_str(), "\"hunter2 is no list\"");

    let pending = lab.connection.request(lab.now, &ThreadStart::new()).expect("queued");
    let id = lab.sent_one()["id"].clone();
    lab.say(json!({"id": id, "result": {"thread": {"id": ["hunter2"]}}}));
    let error = lab.connection.take_response(&pending).expect("answered").expect_err("no fit");
    assert_eq!(error.method, "thread/start");
    assert!(error.to_string().contains("thread.id") && !error.to_string().contains("hunter2"), "{error}");
    let Fault::Decode { path, raw, .. } = error.fault else { panic!("{error}") };
    assert_eq!((path.as_str(), raw.as_str()), ("thread.id", r#"{"thread":{"id":["hunter2"]}}"#));

    assert!(lab.connection.is_ready());
    let next = lab.connection.request(lab.now, &ModelList::default()).expect("queued");
    let id = lab.sent_one()["id"].clone();
    lab.say(json!({"id": id, "result": {"data": []}}));
    assert!(lab.connection.take_response(&next).expect("answered").is_ok());
}

#[test]
fn an_abandoned_request_is_not_sent_or_its_answer_is_dropped() {
    let mut lab = Lab::ready();
    let unsent = lab.connection.request(lab.now, &ModelList::default()).expect("queued");
    lab.connection.abandon(unsent.key());
    assert!(lab.sent().is_empty());
    let sent = lab.connection.request(lab.now, &ModelList::default()).expect("queued");
    let id: Value = lab.sent_one()["id"].clone();
    lab.connection.abandon(sent.key());
    lab.say(json!({"id": id, "result": {"data": []}}));
    assert!(lab.connection.take_response(&sent).is_none());
    lab.assert_quiet();
    assert!(lab.connection.poll_timeout().is_none(), "no timer is left");
}

#[test]
fn ten_thousand_dropped_requests_leave_nothing() {
    let mut lab = Lab::ready();
    for _ in 0..10_000 {
        let pending = lab.connection.request(lab.now, &ModelList::default()).expect("queued");
        lab.connection.abandon(pending.key());
    }
    lab.assert_quiet();
    assert!(lab.sent().is_empty());
}

#[test]
fn past_the_bound_a_call_fails_at_once_and_may_be_retried() {
    let mut config = Config::default();
    config.limits.max_queued_requests = 2;
    let mut lab = Lab::ready_with(config);
    for _ in 0..2 {
        let _ = lab.connection.request(lab.now, &ModelList::default()).expect("queued");
    }
    let error = lab.connection.request(lab.now, &ModelList::default()).expect_err("full");
    assert!(matches!(error.fault, Fault::QueueFull { limit: 2 }) && error.is_retryable());
}

#[test]
fn dr_06_a_retired_value_is_named_with_a_hint() {
    let mut lab = Lab::ready();
    let pending = lab.connection.request_raw(lab.now, "thread/start", &json!({"approvalPolicy": "on-failure"}));
    let pending = pending.expect("any value can be passed through");
    let line = lab.sent_one();
    assert_eq!(line["params"]["approvalPolicy"], "on-failure");
    lab.say(json!({"id": line["id"], "error": {"code": -32600,
        "message": "Invalid request: unknown variant `on-failure`, expected one of `untrusted`, `on-request`, `never`"}}));
    let error = lab.connection.take_raw(&pending).expect("answered").expect_err("refused");
    assert_eq!(error.rpc().and_then(|rpc| rpc.refused_value()), Some("on-failure"));
    let text = error.to_string();
    assert!(text.contains("does not any more") && text.contains("`never`"), "{text}");
}

#[test]
fn a_request_that_times_out_before_it_was_sent_leaves_nothing_in_the_queue() {
    let mut config = Config::default();
    config.limits.max_in_flight = 1;
    config.limits.max_queued_requests = 1;
    config.timeouts.call = Duration::from_secs(5);
    config.timeouts.reply = Duration::from_secs(5);
    let mut lab = Lab::ready_with(config);
    let first = lab.connection.request(lab.now, &ModelList::default()).expect("queued");
    assert_eq!(lab.sent().len(), 1);
    let second = lab.connection.request(lab.now, &ModelList::default()).expect("queued");
    lab.pass(Duration::from_secs(6));
    let outcome = lab.connection.take_response(&second).expect("has its outcome");
    assert!(matches!(outcome.expect_err("timed out").fault, Fault::TimedOut { delivery: Delivery::NotSent, .. }));
    assert!(lab.connection.take_response(&first).expect("has its outcome").is_err());
    assert!(!lab.connection.has_transmit(), "there is nothing to send");
    let third = lab.connection.request(lab.now, &ModelList::default()).expect("the queue has room again");
    assert_eq!(lab.sent().len(), 1);
    lab.connection.abandon(third.key());
}
