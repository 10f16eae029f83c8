use crate::lab::{Lab, delta, report};
use serde_json::json;
use std::time::Duration;
use turnwire_core::{
    connection::{Config, Event, Scope, TurnOptions},
    error::{Delivery, DisconnectReason, Fault, TurnError},
    protocol::{ModelList, TurnStart, UserInput},
    turn::State,
};

fn with_process() -> Config {
    let mut config = Config::default();
    config.expects_exit = true;
    config
}

#[test]
fn pr_06_a_server_killed_in_mid_turn_gives_every_waiter_one_error_with_the_evidence() {
    let mut lab = Lab::ready_with(with_process());
    let (key, reader) = lab.turn("T", "U");
    let (method, params) = delta("T", "U", "m", "half of it");
    lab.notify(method, params);
    let answered = lab.connection.request(lab.now, &ModelList::default()).expect("queued");
    let open = lab.connection.request(lab.now, &ModelList::default()).expect("queued");
    let sent = lab.sent();
    let unsent = lab.connection.request(lab.now, &ModelList::default()).expect("queued");
    lab.events.clear();

    // The exit is seen first; an answer that is still in the pipe counts.
    lab.connection.handle_exit(lab.now, report(None, Some(9), "thread 'main' panicked\n"));
    lab.say(json!({"id": sent[0]["id"], "result": {"data": []}}));
    assert!(lab.connection.closed().is_none());
    lab.connection.handle_eof(lab.now);
    lab.collect();

    assert!(lab.connection.take_response(&answered).expect("answered").is_ok());
    for (pending, expected) in [(&open, Delivery::Sent), (&unsent, Delivery::NotSent)] {
        let error = lab.connection.take_response(pending).expect("has its outcome").expect_err("lost");
        let Fault::Disconnected { delivery, cause } = error.fault else { panic!("{error}") };
        assert_eq!(delivery, expected);
        assert_eq!(cause.exit().and_then(|exit| exit.status).and_then(|status| status.signal), Some(9));
        assert!(cause.to_string().contains("panicked"), "{cause}");
        assert!(lab.connection.take_response(pending).is_none(), "one error for each waiter");
    }
    assert_eq!(lab.read(reader), ["delta m half of it", "ended Lost", "finished"]);
    let taken = lab.connection.take_report(key).expect("ended").expect("started");
    let Err(TurnError::Lost { cause, report }) = taken.into_result() else { panic!("lost") };
    assert_eq!((report.status, cause.stderr_tail()), (State::Lost, "thread 'main' panicked\n"));
    assert_eq!(lab.events.last(), Some(&Event::Closed));
    assert_eq!(lab.events.iter().filter(|event| **event == Event::Closed).count(), 1);
    lab.connection.release_turn(key);
    lab.assert_quiet();
}

#[test]
fn pr_09_a_request_after_death_fails_at_once_with_the_original_cause() {
    let mut lab = Lab::ready_with(with_process());
    lab.connection.handle_exit(lab.now, report(Some(3), None, "boom\n"));
    lab.connection.handle_eof(lab.now);
    let error = lab.connection.request(lab.now, &ModelList::default()).expect_err("closed");
    let Fault::Disconnected { delivery: Delivery::NotSent, cause } = error.fault else { panic!("{error}") };
    assert_eq!((cause.reason(), cause.stderr_tail()), (&DisconnectReason::Exited, "boom\n"));
    let params = TurnStart::new("T", [UserInput::text("x")]);
    let error = lab.connection.start_turn(lab.now, &params, &TurnOptions::default()).expect_err("closed");
    assert!(error.is_closed(), "{error}");
    let reader = lab.connection.subscribe(Scope::Thread("T".into()));
    assert_eq!(lab.read(reader), ["finished"]);
    lab.assert_quiet();
}

#[test]
fn an_exit_status_that_never_comes_is_not_waited_for_longer_than_the_bound() {
    let mut lab = Lab::ready_with(with_process());
    let (key, _) = lab.turn("T", "U");
    lab.connection.handle_eof(lab.now);
    assert!(lab.connection.closed().is_none());
    lab.pass(Duration::from_secs(2));
    assert_eq!(lab.connection.closed().map(|cause| cause.reason().clone()), Some(DisconnectReason::Eof));
    assert_eq!(lab.connection.turn_state(key), Some(State::Lost));
}

#[test]
fn ad_09_when_the_driver_is_dropped_all_waiters_fail_at_once() {
    let mut lab = Lab::ready_with(with_process());
    let (key, reader) = lab.turn("T", "U");
    let open = lab.connection.request(lab.now, &ModelList::default()).expect("queued");
    lab.connection.handle_disconnect(lab.now, DisconnectReason::DriverDropped);
    assert!(lab.connection.take_response(&open).expect("has its outcome").is_err());
    assert_eq!(lab.connection.turn_state(key), Some(State::Lost));
    assert_eq!(lab.read(reader).last().map(String::as_str), Some("finished"));
}

#[test]
fn closing_fails_what_waits_at_once_and_then_waits_for_the_server() {
    let mut lab = Lab::ready_with(with_process());
    let (key, reader) = lab.turn("T", "U");
    let open = lab.connection.request(lab.now, &ModelList::default()).expect("queued");
    lab.connection.close(lab.now, Duration::from_secs(9));
    assert!(lab.connection.wants_close_write());
    assert!(lab.connection.take_response(&open).expect("has its outcome").is_err());
    assert_eq!(lab.read(reader), ["ended Lost", "finished"]);
    assert_eq!(lab.connection.turn_state(key), Some(State::Lost));
    assert!(lab.connection.closed().is_none(), "not before the server is gone");
    lab.connection.handle_eof(lab.now);
    lab.connection.handle_exit(lab.now, report(Some(0), None, ""));
    let cause = lab.connection.closed().expect("closed");
    assert_eq!(cause.reason(), &DisconnectReason::ClosedByCaller);
    assert_eq!(cause.exit().and_then(|exit| exit.status).and_then(|status| status.code), Some(0));
}

#[test]
fn whatever_order_the_ends_come_in_everything_is_told_once() {
    let ends: [fn(&mut Lab); 4] = [
        |lab| lab.connection.handle_eof(lab.now),
        |lab| lab.connection.handle_exit(lab.now, report(Some(0), None, "")),
        |lab| lab.connection.handle_disconnect(lab.now, DisconnectReason::Io("broken pipe".into())),
        |lab| lab.connection.close(lab.now, Duration::from_secs(1)),
    ];
    for first in 0..ends.len() {
        for second in 0..ends.len() {
            for third in 0..ends.len() {
                let mut lab = Lab::ready_with(with_process());
                let (key, reader) = lab.turn("T", "U");
                lab.connection.interrupt(lab.now, key).expect("known");
                let open = lab.connection.request(lab.now, &ModelList::default()).expect("queued");
                lab.events.clear();
                for end in [first, second, third] {
                    ends[end](&mut lab);
                }
                while lab.connection.closed().is_none() {
                    assert!(lab.jump(), "something ends it");
                }
                lab.collect();
                assert_eq!(lab.events.iter().filter(|event| **event == Event::Closed).count(), 1);
                assert_eq!(lab.read(reader), ["ended Lost", "finished"]);
                assert!(lab.connection.take_response(&open).expect("has its outcome").is_err());
                assert!(lab.connection.interrupt_outcome(key).is_some());
                lab.connection.release_turn(key);
                lab.assert_quiet();
                assert!(lab.connection.poll_timeout().is_none());
            }
        }
    }
}

#[test]
fn what_comes_after_the_end_changes_nothing() {
    let mut lab = Lab::ready();
    lab.connection.handle_eof(lab.now);
    lab.collect();
    let cause = lab.connection.closed().expect("closed").to_string();
    let told = lab.events.len();
    lab.connection.handle_disconnect(lab.now, DisconnectReason::DriverDropped);
    lab.connection.handle_exit(lab.now, report(Some(0), None, ""));
    lab.connection.handle_eof(lab.now);
    lab.connection.close(lab.now, Duration::from_secs(1));
    lab.say_bytes(b"{\"id\":1,\"result\":{}}\n");
    lab.pass(Duration::from_secs(1000));
    assert_eq!(lab.connection.closed().expect("still closed").to_string(), cause);
    assert_eq!(lab.events.len(), told);
}

#[test]
fn a_server_that_asks_without_end_and_reads_nothing_ends_the_connection_at_the_bound() {
    let mut config = Config::default();
    config.limits.max_unsent_bytes = 10_000;
    let mut lab = Lab::ready_with(config);
    let mut asked = 0;
    while !lab.connection.wants_close_write() {
        lab.say(json!({"id": asked, "method": "item/tool/call", "params": {"threadId": "T"}}));
        asked += 1;
        assert!(asked < 1_000, "the bound does not hold");
    }
    assert!(asked > 10, "ended after {asked} already");
    assert!(lab.sent().is_empty(), "what waited is given up");
    lab.connection.handle_eof(lab.now);
    let cause = lab.connection.closed().expect("closed");
    assert!(matches!(cause.reason(), DisconnectReason::Protocol(_)), "{cause:?}");
}
