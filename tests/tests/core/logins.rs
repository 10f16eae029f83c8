//! Logins that are waited for.

use crate::lab::Lab;
use serde_json::{Value, json};
use std::time::Duration;
use turnwire_core::connection::{Event, LoginEnd};

fn ended(lab: &mut Lab, id: Value, error: Option<&str>) {
    lab.notify("account/login/completed", json!({"loginId": id, "success": error.is_none(), "error": error}));
}

#[test]
fn au_02_an_end_that_comes_before_anybody_waits_is_not_missed() {
    let mut lab = Lab::ready();
    ended(&mut lab, json!("other"), Some("no"));
    ended(&mut lab, json!("L"), None);
    let key = lab.connection.watch_login(lab.now, Some("L"), None);
    assert!(matches!(lab.connection.login_end(key), Some(LoginEnd::Succeeded)));
    lab.connection.release_login(key);
    assert_eq!(lab.connection.counters().logins, 0);
}

#[test]
fn au_02_only_the_end_of_its_own_login_ends_a_wait() {
    let mut lab = Lab::ready();
    let key = lab.connection.watch_login(lab.now, Some("L"), Some(Duration::from_secs(60)));
    ended(&mut lab, json!("M"), None);
    ended(&mut lab, Value::Null, None);
    assert!(lab.connection.login_end(key).is_none());
    ended(&mut lab, json!("L"), Some("wrong code"));
    assert!(lab.events.contains(&Event::Login(key)));
    assert!(matches!(lab.connection.login_end(key), Some(LoginEnd::Failed(text)) if &**text == "wrong code"));
    assert!(lab.connection.poll_timeout().is_none(), "its timer is gone");
}

#[test]
fn au_04_a_cancelled_login_ends_as_cancelled_whoever_cancelled_it() {
    let mut lab = Lab::ready();
    let first = lab.connection.watch_login(lab.now, Some("L"), None);
    ended(&mut lab, json!("L"), Some("Login server error: Login cancelled"));
    assert!(matches!(lab.connection.login_end(first), Some(LoginEnd::Cancelled)));
    // In words that are not known, but asked for here.
    let second = lab.connection.watch_login(lab.now, Some("M"), None);
    lab.connection.cancel_login(second, false);
    ended(&mut lab, json!("M"), Some("gone"));
    assert!(matches!(lab.connection.login_end(second), Some(LoginEnd::Cancelled)));
    // Or with no word at all.
    let third = lab.connection.watch_login(lab.now, Some("N"), None);
    lab.connection.cancel_login(third, true);
    assert!(matches!(lab.connection.login_end(third), Some(LoginEnd::Cancelled)));
}

#[test]
fn a_login_ends_at_its_deadline_and_with_the_connection() {
    let mut lab = Lab::ready();
    let timed = lab.connection.watch_login(lab.now, Some("L"), Some(Duration::from_secs(60)));
    let open = lab.connection.watch_login(lab.now, Some("M"), None);
    lab.pass(Duration::from_secs(60));
    assert!(matches!(lab.connection.login_end(timed), Some(LoginEnd::TimedOut)));
    assert!(lab.connection.login_end(open).is_none());
    lab.connection.handle_eof(lab.now);
    assert!(matches!(lab.connection.login_end(open), Some(LoginEnd::Disconnected(_))));
}

#[test]
fn ends_that_nobody_waits_for_are_forgotten_in_the_end() {
    let mut lab = Lab::ready();
    for n in 0..1000 {
        ended(&mut lab, json!(format!("L{n}")), None);
    }
    let old = lab.connection.watch_login(lab.now, Some("L0"), None);
    let new = lab.connection.watch_login(lab.now, Some("L999"), None);
    assert!(lab.connection.login_end(old).is_none() && lab.connection.login_end(new).is_some());
}

#[test]
fn a_login_may_be_given_its_deadline_later_and_the_last_one_counts() {
    let mut lab = Lab::ready();
    let unbounded = lab.connection.watch_login(lab.now, Some("L"), None);
    let bounded = lab.connection.watch_login(lab.now, Some("M"), Some(Duration::from_secs(20)));
    lab.connection.set_login_deadline(lab.now, unbounded, Duration::from_secs(10));
    lab.connection.set_login_deadline(lab.now, bounded, Duration::from_secs(30));
    lab.pass(Duration::from_secs(10));
    assert!(matches!(lab.connection.login_end(unbounded), Some(LoginEnd::TimedOut)));
    lab.pass(Duration::from_secs(10));
    assert!(lab.connection.login_end(bounded).is_none());
    lab.pass(Duration::from_secs(10));
    assert!(matches!(lab.connection.login_end(bounded), Some(LoginEnd::TimedOut)));
    assert!(lab.connection.poll_timeout().is_none());
}
