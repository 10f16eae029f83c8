//! A consumer that is slow, or asleep: what is kept, what gives way, and what says so.

use crate::lab::Lab;
use serde_json::json;
use turnwire_core::{
    connection::{Config, Scope},
    protocol::FsReadFile,
    turn::{Next, RawEvent},
};

fn delta(lab: &mut Lab, text: &str) {
    let params = json!({"threadId": "T", "turnId": "U", "itemId": "I", "delta": text});
    lab.notify("item/agentMessage/delta", params);
}

#[test]
fn bp_01_a_slow_consumer_gets_every_completion_the_end_and_the_text_exactly() {
    const DELTAS: usize = 100_000;
    const BOUND: usize = 1 << 20;
    let mut config = Config::default();
    config.limits.max_unread_bytes = 8 << 20;
    let mut lab = Lab::ready_with(config);
    let (_key, reader) = lab.turn("T", "U");
    let (mut sent, mut read, mut completions, mut most) = (String::new(), String::new(), 0, 0);
    let mut take = |lab: &mut Lab| match lab.connection.next_event(reader) {
        Next::Event(RawEvent::Delta(delta)) => read.push_str(&delta.text),
        Next::Event(RawEvent::Notification(event)) if &*event.method == "item/completed" => completions += 1,
        Next::Event(RawEvent::Gap(count)) => panic!("{count} left out"),
        Next::Event(_) => {}
        Next::Finished => panic!("it is read for longer than it lasts"),
        _ => panic!("nothing to read"),
    };
    for n in 0..DELTAS {
        let text = format!("piece {n}, ");
        delta(&mut lab, &text);
        sent.push_str(&text);
        // Every thousandth a tool ran in between, and every thousandth the consumer comes to read one event.
        if n % 1000 == 999 {
            let item =
                json!({"type": "commandExecution", "id": format!("c{n}"), "command": "x", "status": "completed"});
            lab.notify("item/completed", json!({"threadId": "T", "turnId": "U", "item": item}));
            take(&mut lab);
        }
        most = most.max(lab.connection.counters().unread_bytes.saturating_sub(sent.len()));
    }
    lab.notify("turn/completed", json!({"threadId": "T", "turn": {"id": "U", "status": "completed", "items": []}}));
    let merged = lab.connection.counters().merged;
    assert!(merged > DELTAS as u64 / 2, "{merged} merged");
    assert!(most < BOUND, "{most} bytes more than the text");
    loop {
        match lab.connection.next_event(reader) {
            Next::Event(RawEvent::Delta(delta)) => read.push_str(&delta.text),
            Next::Event(RawEvent::Notification(event)) if &*event.method == "item/completed" => completions += 1,
            Next::Event(RawEvent::Gap(count)) => panic!("{count} left out"),
            Next::Event(RawEvent::Ended(state)) => assert_eq!(format!("{state:?}"), "Completed"),
            Next::Event(_) => {}
            _ => break,
        }
    }
    assert_eq!((read == sent, completions), (true, DELTAS / 1000));
    assert_eq!(lab.connection.counters().left_out, 0);
}

#[test]
fn bp_02_a_gap_with_its_count_comes_before_the_next_event_and_nothing_that_counts_is_in_it() {
    let mut config = Config::default();
    config.limits.merge_after = None;
    config.limits.max_unread_bytes = 4096;
    let mut lab = Lab::ready_with(config);
    let (_key, reader) = lab.turn("T", "U");
    let connection = lab.connection.subscribe(Scope::Connection);
    let request = lab.connection.request(lab.now, &FsReadFile::new("/x")).expect("a request");
    let sent = lab.sent_one();
    for n in 0..200 {
        delta(&mut lab, &format!("piece {n:03}"));
    }
    let usage = json!({"totalTokens": 1, "inputTokens": 1, "cachedInputTokens": 0, "outputTokens": 0,
        "reasoningOutputTokens": 0});
    lab.notify(
        "item/completed",
        json!({"threadId": "T", "turnId": "U", "item": {"type": "plan", "id": "P", "text": ""}}),
    );
    lab.notify(
        "thread/tokenUsage/updated",
        json!({"threadId": "T", "turnId": "U",
        "tokenUsage": {"total": usage, "last": usage}}),
    );
    for n in 200..300 {
        delta(&mut lab, &format!("piece {n:03}"));
    }
    let asked = json!({"threadId": "T", "turnId": "U", "itemId": "C"});
    lab.say(json!({"method": "item/commandExecution/requestApproval", "id": 70, "params": asked}));
    lab.say(json!({"id": sent["id"], "result": {"dataBase64": ""}}));
    lab.notify("turn/completed", json!({"threadId": "T", "turn": {"id": "U", "status": "completed", "items": []}}));

    // What is asked and what is answered does not pass through the queue at all.
    assert_eq!(lab.sent_one()["result"], json!({"decision": "decline"}));
    lab.connection.take_response(&request).expect("an outcome").expect("a reply");

    let (mut kept, mut left_out, mut others) = (0, Vec::new(), Vec::new());
    while let Next::Event(event) = lab.connection.next_event(reader) {
        match event {
            RawEvent::Delta(delta) => {
                assert!(left_out.is_empty(), "{delta:?} after a gap, though there is no room yet");
                assert_eq!(delta.text, format!("piece {kept:03}"));
                kept += 1;
            }
            RawEvent::Gap(count) => {
                assert!(!matches!(others.last(), Some(&"gap")), "two gaps in a row");
                left_out.push(count);
                others.push("gap");
            }
            RawEvent::Notification(event) if &*event.method == "item/completed" => others.push("item"),
            RawEvent::Notification(event) if &*event.method == "thread/tokenUsage/updated" => others.push("usage"),
            RawEvent::Notification(event) if &*event.method == "turn/completed" => others.push("completed"),
            RawEvent::Refused(_) => others.push("request"),
            RawEvent::Ended(_) => others.push("end"),
            event => panic!("{event:?}"),
        }
    }
    assert_eq!(others, ["gap", "item", "usage", "gap", "request", "completed", "end"]);
    assert_eq!(left_out, [200 - kept, 100]);
    assert_eq!(lab.connection.counters().left_out, 300 - kept);
    assert!(matches!(lab.connection.next_event(connection), Next::Pending), "the turn's events are the turn's");
}

#[test]
fn fr_07_a_reply_of_sixty_four_mebibytes_is_decoded_with_the_default_limits() {
    let mut lab = Lab::ready();
    let request = lab.connection.request(lab.now, &FsReadFile::new("/x")).expect("a request");
    let id = &lab.sent_one()["id"];
    let text = "A".repeat(64 << 20);
    let line = format!("{{\"id\":{id},\"result\":{{\"dataBase64\":\"{text}\"}}}}\n");
    for piece in line.as_bytes().chunks(64 * 1024) {
        lab.connection.handle_input(lab.now, piece);
    }
    let file = lab.connection.take_response(&request).expect("an outcome").expect("it is decoded");
    assert!(file.data_base64 == text, "{} bytes", file.data_base64.len());
}
