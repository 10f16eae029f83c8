//! The threads of sub-agents: whose they are, and who hears of them.

use crate::lab::{Lab, completed, delta, message};
use serde_json::{Value, json};
use turnwire_core::{
    connection::{Config, Scope},
    turn::{Next, RawEvent, SubscriptionKey},
};

/// What a follower of a tree has now: thread, and the event in a few words.
fn read(lab: &mut Lab, key: SubscriptionKey) -> Vec<(String, String)> {
    let mut seen = Vec::new();
    while let Next::Event(event) = lab.connection.next_event(key) {
        let thread = event.thread().map(|thread| thread.to_string()).unwrap_or_default();
        let what = match &event {
            RawEvent::Delta(delta) => delta.text.clone(),
            RawEvent::Notification(notification) => notification.method.to_string(),
            RawEvent::Refused(refused) => format!("refused {}", refused.notification.method),
            other => format!("{other:?}"),
        };
        seen.push((thread, what));
    }
    seen
}

fn seen(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(thread, what)| ((*thread).to_owned(), (*what).to_owned())).collect()
}

fn parent(lab: &Lab, child: &str) -> Option<String> {
    lab.connection.parent_of(child).map(|parent| parent.to_string())
}

fn item(thread: &str, turn: &str, item: Value) -> Value {
    json!({"threadId": thread, "turnId": turn, "item": item})
}

fn spawned(id: &str, sender: &str, children: &[&str]) -> Value {
    json!({"type": "collabAgentToolCall", "id": id, "tool": "spawnAgent", "status": "completed", "senderThreadId": sender,
        "receiverThreadIds": children, "agentsStates": {}})
}

fn activity(id: &str, kind: &str, agent: &str) -> Value {
    json!({"type": "subAgentActivity", "id": id, "kind": kind, "agentThreadId": agent, "agentPath": "/root/a"})
}

#[test]
fn rt_02_who_follows_the_tree_hears_parent_child_and_grandchild_and_the_parent_hears_itself() {
    let mut lab = Lab::ready();
    let tree = lab.connection.subscribe(Scope::Tree("P".into()));
    let own = lab.connection.subscribe(Scope::Thread("P".into()));
    let one = lab.connection.subscribe(Scope::Thread("C".into()));
    let session = lab.connection.subscribe(Scope::Connection);
    let (_, turn) = lab.turn("P", "U");
    lab.notify("item/completed", item("P", "U", spawned("s", "P", &["C"])));
    lab.notify(
        "turn/started",
        json!({"threadId": "C", "turn": {"id": "V", "rootTurnId": "U", "status": "inProgress"}}),
    );
    lab.notify("item/completed", item("C", "V", activity("a", "started", "G")));
    let (method, params) = delta("G", "W", "m", "grandchild");
    lab.notify(method, params);
    let (method, params) = completed("C", "V", "completed");
    lab.notify(method, params);
    let (method, params) = delta("stranger", "X", "m", "unrelated");
    lab.notify(method, params);
    assert_eq!(
        read(&mut lab, tree),
        seen(&[
            ("P", "item/completed"),
            ("C", "turn/started"),
            ("C", "item/completed"),
            ("G", "grandchild"),
            ("C", "turn/completed")
        ])
    );
    assert_eq!((parent(&lab, "C"), parent(&lab, "G"), parent(&lab, "P")), (Some("P".into()), Some("C".into()), None));
    assert_eq!(lab.connection.children_of("P"), ["C"]);
    assert_eq!(read(&mut lab, own), seen(&[("P", "item/completed")]));
    assert_eq!(lab.read(turn), ["item/completed s"], "a child's end is not the parent's");
    assert_eq!(read(&mut lab, one).len(), 3, "one child can be followed alone");
    assert_eq!(read(&mut lab, session), seen(&[("stranger", "unrelated")]), "a followed child is no stranger");
}

#[test]
fn rt_02_every_kind_of_evidence_says_whose_child_a_thread_is_and_a_certain_one_replaces_a_hint() {
    let mut lab = Lab::ready();
    lab.turn("P", "U");
    lab.notify("thread/started", json!({"thread": {"id": "A", "parentThreadId": "P"}}));
    let source = json!({"subAgent": {"thread_spawn": {"parent_thread_id": "P", "depth": 1}}});
    lab.notify("thread/started", json!({"thread": {"id": "B", "source": source}}));
    lab.notify("item/started", item("P", "U", activity("1", "started", "C")));
    lab.notify("item/completed", item("P", "U", spawned("2", "P", &["D", "E"])));
    lab.notify("turn/started", json!({"threadId": "F", "turn": {"id": "V", "rootTurnId": "U"}}));
    lab.notify("item/completed", item("P", "U", activity("3", "completed", "G")));
    assert_eq!(lab.connection.children_of("P"), ["A", "B", "C", "D", "E", "F", "G"]);
    // That G and F hang below P was all that was known; now it is known how.
    lab.notify("item/completed", item("A", "W", spawned("4", "A", &["F"])));
    lab.notify("item/completed", item("A", "W", activity("5", "interacted", "B")));
    assert_eq!((parent(&lab, "F"), parent(&lab, "B")), (Some("A".into()), Some("P".into())));
    // Nobody is its own ancestor, whatever a peer says.
    lab.notify("item/completed", item("F", "W", spawned("6", "F", &["P", "A", "F"])));
    assert_eq!((parent(&lab, "P"), parent(&lab, "A"), parent(&lab, "F")), (None, Some("P".into()), Some("A".into())));
    // A review says the same words of a turn on the same thread.
    lab.notify("turn/started", json!({"threadId": "P", "turn": {"id": "R", "rootTurnId": "U"}}));
    assert_eq!(parent(&lab, "P"), None);
}

#[test]
fn rt_02_what_a_child_says_before_it_is_known_whose_it_is_comes_when_that_is_known() {
    let mut lab = Lab::ready();
    let tree = lab.connection.subscribe(Scope::Tree("P".into()));
    lab.turn("P", "U");
    lab.notify("thread/status/changed", json!({"threadId": "G", "status": {"type": "idle"}}));
    lab.notify("thread/status/changed", json!({"threadId": "C", "status": {"type": "idle"}}));
    let (method, params) = delta("C", "V", "m", "early");
    lab.notify(method, params);
    let ask = json!({"threadId": "C", "turnId": "V", "itemId": "i"});
    lab.say(json!({"id": 7, "method": "item/fileChange/requestApproval", "params": ask}));
    lab.notify("item/completed", item("C", "V", spawned("g", "C", &["G"])));
    assert_eq!(read(&mut lab, tree), []);
    lab.notify("item/completed", item("P", "U", spawned("c", "P", &["C"])));
    let said = read(&mut lab, tree);
    let by =
        |thread: &str| said.iter().filter(|(by, _)| by == thread).map(|(_, what)| what.as_str()).collect::<Vec<_>>();
    assert_eq!(
        by("C"),
        ["thread/status/changed", "early", "refused item/fileChange/requestApproval", "item/completed"]
    );
    assert_eq!((by("G"), by("P")), (vec!["thread/status/changed"], vec!["item/completed"]));
    assert_eq!(said.last().map(|(thread, _)| thread.as_str()), Some("P"), "nothing overtakes its own evidence");
}

#[test]
fn rt_02_what_is_kept_of_families_is_bounded_and_goes_with_its_follower() {
    let mut config = Config::default();
    config.limits.max_known_children = 3;
    config.limits.max_parked_events = 4;
    let mut lab = Lab::ready_with(config);
    for child in ["A", "B", "C", "D"] {
        lab.notify("thread/started", json!({"thread": {"id": child, "parentThreadId": "P"}}));
    }
    assert_eq!(lab.connection.children_of("P"), ["B", "C", "D"]);
    let tree = lab.connection.subscribe(Scope::Tree("P".into()));
    for text in ["1", "2", "3", "4", "5", "6"] {
        let (method, params) = delta("S", "V", "m", text);
        lab.notify(method, params);
    }
    assert_eq!(lab.connection.counters().left_out, 2);
    lab.notify("thread/started", json!({"thread": {"id": "S", "parentThreadId": "P"}}));
    let texts: Vec<_> = read(&mut lab, tree).into_iter().map(|(_, what)| what).collect();
    assert_eq!(texts, ["3", "4", "5", "6", "thread/started"]);
    let (method, params) = delta("T", "V", "m", "nobody knows whose");
    lab.notify(method, params);
    assert!(lab.connection.counters().unread_bytes > 0);
    lab.connection.unsubscribe(tree);
    assert_eq!(lab.connection.counters().unread_bytes, 0);
    let (method, params) = delta("T", "V", "m", "and nobody listens");
    lab.notify(method, params);
    assert_eq!(lab.connection.counters().unread_bytes, 0);
    let late = lab.connection.subscribe(Scope::Tree("P".into()));
    lab.connection.handle_eof(lab.now);
    assert!(matches!(lab.connection.next_event(late), Next::Finished), "a tree ends with the connection");
    let after = lab.connection.subscribe(Scope::Tree("P".into()));
    assert!(matches!(lab.connection.next_event(after), Next::Finished));
    let (method, params) = ("item/completed", item("P", "U", message("m", "", None)));
    lab.notify(method, params);
}

#[test]
fn rt_02_two_who_follow_one_tree_both_hear_it() {
    let mut lab = Lab::ready();
    let [first, second] = [0; 2].map(|_| lab.connection.subscribe(Scope::Tree("P".into())));
    let (method, params) = delta("P", "U", "m", "said");
    lab.notify(method, params);
    for follower in [first, second] {
        assert_eq!(read(&mut lab, follower), seen(&[("P", "said")]));
    }
}
