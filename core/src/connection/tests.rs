//! What only the client does with a connection.

use super::*;
use crate::{
    protocol::{TurnStart, TurnSteer, UserInput},
    turn::{State, TurnOptions},
};
use alloc::{string::String, vec::Vec};

const NOW: Time = Time::ZERO;

/// Everything that the connection wants to write.
fn sent(connection: &mut Connection) -> String {
    let mut bytes = Vec::new();
    while connection.poll_transmit(NOW, &mut bytes) {}
    String::from_utf8(bytes).expect("UTF-8")
}

fn say(connection: &mut Connection, line: &str) {
    connection.handle_input(NOW, line.as_bytes());
    connection.handle_input(NOW, b"\n");
}

/// A connection with a server of the version 0.150.0.
fn ready(config: Config) -> Connection {
    let mut connection = Connection::new(NOW, config);
    assert!(sent(&mut connection).contains("initialize"));
    say(&mut connection, r#"{"id":1,"result":{"userAgent":"test/0.150.0 (Linux)"}}"#);
    assert!(connection.is_ready());
    connection
}

#[test]
fn a_server_is_known_to_be_of_its_version_or_a_later_one_once_it_has_said_so() {
    assert!(!Connection::new(NOW, Config::default()).is_at_least("0.1.0"));
    let connection = ready(Config::default());
    assert!(connection.is_at_least("0.150.0") && !connection.is_at_least("0.150.1"));
}

#[test]
fn what_is_experimental_is_for_a_server_that_is_ready_and_new_enough_and_a_client_that_wants_it() {
    let takes = |connection: &Connection, since| connection.takes_experimental("something", since);
    let connection = ready(Config::default());
    assert!(takes(&connection, "0.150.0") && !takes(&connection, "0.150.1"));
    assert!(!takes(&Connection::new(NOW, Config::default()), "0.150.0"), "nothing is known yet");
    let config = Config { experimental_api: false, ..Config::default() };
    assert!(!takes(&ready(config), "0.150.0"));
}

#[test]
fn requests_that_go_before_all_others_are_bounded_as_others_are() {
    let mut config = Config::default();
    config.limits.max_queued_requests = 1;
    config.limits.max_in_flight = 1;
    let mut connection = ready(config);
    let mut enter = || {
        let steer = TurnSteer::new("T", "U", [UserInput::text("More.")]);
        connection.enter_urgent(NOW, Prepared::new(&steer).expect("JSON"))
    };
    assert!(enter().is_ok() && enter().is_ok());
    assert!(matches!(enter().expect_err("no room").fault, Fault::QueueFull { limit: 1 }));
}

#[test]
fn a_turn_that_is_held_once_more_is_there_until_it_is_let_go_once_more() {
    let mut connection = ready(Config::default());
    let start = TurnStart::new("T", [UserInput::text("Go.")]);
    let key = connection.start_turn(NOW, &start, &TurnOptions::default()).expect("it starts");
    assert!(sent(&mut connection).contains("turn/start"));
    say(&mut connection, r#"{"id":2,"result":{"turn":{"id":"U"}}}"#);
    connection.hold_turn(key);
    connection.release_turn(key);
    // Nobody has missed anything of it yet.
    assert!(connection.turns.get(&key).is_some_and(|turn| turn.is_held() && !turn.is_partial));
    connection.release_turn(key);
    connection.hold_turn(key);
    assert!(connection.turns.get(&key).is_some_and(|turn| turn.is_held() && turn.is_partial));
    say(
        &mut connection,
        r#"{"method":"turn/completed","params":{"threadId":"T","turn":{"id":"U","status":"completed"}}}"#,
    );
    assert_eq!(connection.turn_state(key), Some(State::Completed));
    assert!(connection.take_report(key).is_some());
    connection.release_turn(key);
    assert_eq!(connection.turn_state(key), None);
}
