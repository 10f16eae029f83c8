// Scenarios against the scripted server, a fake: a reader that comes late, over the real pipes. Included once for each runtime.

use crate::support::{self, scripted};
use rt::{Event, State};
use serde_json::{Value, json};
use turnwire_testkit::scripted::{Rule, Script};

/// So often a burst comes for the turn that nobody reads, and a few deltas for the one that is read.
const ROUNDS: usize = 30;
const BURST: usize = 700;
const FEW: usize = 10;
/// After so many rounds each time, a command is done in the turn that nobody reads, tokens are counted and something is asked.
const COMMAND_EVERY: usize = 10;

const DELTA: &str = "item/agentMessage/delta";

/// The text of one delta of the turn that nobody reads.
fn piece(n: usize) -> String {
    format!("{}:{} ", n / BURST, n % BURST + 1)
}

/// The whole text of it.
fn text() -> String {
    (0..ROUNDS * BURST).map(piece).collect()
}

/// A server with a turn that floods, `slow`, which goes on when the client has read what came for the other one, `quick`.
fn two_turns() -> Script {
    let turn = |id: &str| json!({"turn": {"id": id, "status": "inProgress"}});
    let of = |thread: &str, turn: &str, more: Value| {
        let mut params = json!({"threadId": thread, "turnId": turn});
        params.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        params
    };
    let ended = |thread: &str, id: &str| json!({"threadId": thread, "turn": {"id": id, "status": "completed", "items": []}});
    let tokens = json!({"totalTokens": 5, "inputTokens": 3, "cachedInputTokens": 0, "outputTokens": 2, "reasoningOutputTokens": 0});
    let slow = Rule::on("turn/start").when("threadId", "slow").reply(turn("S"));
    let mut both = Rule::on("turn/start").when("threadId", "quick").reply(turn("Q"));
    for round in 0..ROUNDS {
        let delta = |text: &str| json!({"itemId": "m", "delta": format!("{round}:{text}")});
        both = both.flood(BURST as u64, DELTA, of("slow", "S", delta("${n} ")));
        if round % COMMAND_EVERY == COMMAND_EVERY - 1 {
            let item = json!({"type": "commandExecution", "id": format!("c{round}"), "command": "ls", "status": "completed"});
            both = both.notify("item/completed", of("slow", "S", json!({"item": item})))
                .notify("thread/tokenUsage/updated", of("slow", "S", json!({"tokenUsage": {"total": tokens, "last": tokens}})))
                .ask("item/commandExecution/requestApproval", round, of("slow", "S", json!({"itemId": format!("a{round}")})));
        }
        both = both.flood(FEW as u64, DELTA, of("quick", "Q", delta("${n} "))).take("go on").reply(json!({}));
    }
    let message = json!({"type": "agentMessage", "id": "m", "text": text()});
    let both = both.notify("turn/completed", ended("quick", "Q"))
        .notify("item/completed", of("slow", "S", json!({"item": message})))
        .notify("turn/completed", ended("slow", "S"));
    Script::new().rule(slow).rule(both)
}

/// What was found by who read late.
#[derive(Debug, Default)]
struct Found {
    /// How many deltas of the server are behind the reader, left out or not.
    at: usize,
    /// How many events had them.
    deltas: usize,
    left_out: u64,
    /// What else there was, and where among the deltas.
    others: Vec<(usize, &'static str)>,
    /// The text of the message when it was completed.
    message: Option<String>,
    ends: Vec<State>,
}

impl Found {
    /// Takes the next event, which has to go on exactly where the one before ended.
    fn take(&mut self, event: Event) {
        assert!(self.ends.is_empty(), "{event:?} after the end");
        match event {
            Event::Delta(delta) => {
                let next = self.at + 1 + usize::try_from(delta.merged).expect("few");
                let expected: String = (self.at..next).map(piece).collect();
                assert!(delta.text == expected, "after {}: {} merged", self.at, delta.merged);
                self.at = next;
                self.deltas += 1;
            }
            Event::Gap(count) => {
                self.at += usize::try_from(count).expect("few");
                self.left_out += count;
            }
            Event::ItemCompleted(done) => match done.item {
                rt::protocol::ThreadItem::AgentMessage(item) => self.message = Some(item.text),
                _ => self.others.push((self.at, "command")),
            },
            Event::Usage(_) => self.others.push((self.at, "tokens")),
            Event::Refused(_) => self.others.push((self.at, "refused")),
            Event::Other(raw) if &*raw.method == "turn/completed" => {}
            Event::Ended(state) => self.ends.push(state),
            other => panic!("{other:?}"),
        }
    }
}

/// Has both turns come, the quick one read and the slow one not; reads the slow one then, and checks what must hold of it
/// with whatever limits. `$limit`: how many bytes may be unread after each round.
macro_rules! read_late {
    ($config:expr, $limit:expr) => {{
        let server = scripted(&two_turns());
        let codex = wait!(rt::spawn_with(&server.command(), $config)).expect("connects");
        let slow = wait!(codex.thread("slow").turn("Go.")).expect("a turn");
        let quick = wait!(codex.thread("quick").turn("Go.")).expect("a turn");
        let (mut read, mut rounds, mut is_over) = (String::new(), 0, false);
        let expected: String = (0..ROUNDS * FEW).map(|n| format!("{}:{} ", n / FEW, n % FEW + 1)).collect();
        let end_of = |round: usize| expected.split_inclusive(' ').take(round * FEW).map(str::len).sum::<usize>();
        while let Some(event) = wait!(quick.next()) {
            match event {
                Event::Delta(delta) => {
                    read.push_str(&delta.text);
                    if read.len() == end_of(rounds + 1) {
                        rounds += 1;
                        let unread = codex.counters().unread_bytes;
                        assert!(unread <= $limit, "{unread} bytes unread after {rounds} rounds");
                        assert!(!slow.state().is_end(), "it comes all the while");
                        wait!(codex.request_raw("go on", json!({}))).expect("answered");
                    }
                }
                Event::Other(raw) if &*raw.method == "turn/completed" => {}
                Event::Ended(state) => is_over = state == State::Completed,
                other => panic!("{other:?}"),
            }
        }
        assert!(read == expected && rounds == ROUNDS && is_over, "{rounds} rounds, {} of {}", read.len(), expected.len());
        assert!(support::eventually(|| slow.state().is_end()), "{:?}", slow.state());

        let mut found = Found::default();
        while let Some(event) = wait!(slow.next()) {
            found.take(event);
        }
        assert_eq!((found.at, &found.ends[..]), (ROUNDS * BURST, &[State::Completed][..]));
        let places = (1..=ROUNDS / COMMAND_EVERY).map(|n| n * COMMAND_EVERY * BURST);
        let others: Vec<_> = places.flat_map(|at| ["command", "tokens", "refused"].map(|what| (at, what))).collect();
        assert_eq!(found.others, others, "all of it is kept, and where it belongs");
        let received = server.received();
        let answers = received.iter().filter(|line| line.get("method").is_none() && line["result"]["decision"] == "decline");
        assert_eq!(answers.count(), ROUNDS / COMMAND_EVERY, "what is asked is answered, whoever reads");
        assert!(found.message.as_ref() == Some(&text()), "the message is whole when it is completed");
        let result = wait!(slow.result()).expect("completed");
        assert!(result.final_response.as_ref() == Some(&text()), "and so is the result");
        let counters = codex.counters();
        assert_eq!((counters.left_out, counters.unread_bytes), (found.left_out, 0), "{counters:?}");
        assert!(wait!(codex.models()).is_ok());
        wait!(codex.close());
        (found, counters)
    }};
}

scenario! {
    fn bp_01_bp_05_who_reads_late_finds_all_of_the_text_in_few_deltas_and_the_other_turn_lost_nothing() {
        let mut config = rt::Config::default();
        config.limits.merge_after = Some(8);
        let (found, counters) = read_late!(config, text().len() + 8192);
        assert_eq!(found.left_out, 0);
        // Eight as they came, and one more up to each command.
        assert!(found.deltas <= 8 + ROUNDS / COMMAND_EVERY, "{} deltas", found.deltas);
        assert!(counters.merged >= (ROUNDS * BURST - found.deltas) as u64, "{counters:?}");
    }
}

scenario! {
    fn bp_02_past_the_bound_a_gap_says_how_much_is_left_out_and_the_other_turn_lost_nothing() {
        const BOUND: usize = 32 * 1024;
        for merge_after in [None, Some(8)] {
            let mut config = rt::Config::default();
            config.limits.merge_after = merge_after;
            config.limits.max_unread_bytes = BOUND;
            let (found, counters) = read_late!(config, BOUND + 8192);
            assert!(found.left_out > 0 && found.deltas > 0, "{found:?}");
            assert_eq!(counters.merged > 0, merge_after.is_some(), "{counters:?}");
            let whole = ROUNDS * BURST - usize::try_from(found.left_out).expect("few");
            assert_eq!(whole > found.deltas, merge_after.is_some(), "{found:?}");
        }
    }
}

scenario! {
    fn bp_06_notifications_that_nobody_reads_take_no_more_room_than_they_may() {
        const BOUND: usize = 64 * 1024;
        const FLOOD: u64 = 10_000;
        let news = Rule::on("flood").flood(FLOOD, "brand/new", json!({"n": "$n", "text": "x".repeat(50)})).reply(json!(1));
        let last = Rule::on("last").notify("brand/new", json!({"n": "the last"})).reply(json!(1));
        let server = scripted(&Script::new().startup_notices(false).rule(news).rule(last));
        let mut config = rt::Config::default();
        config.limits.max_unread_bytes = BOUND;
        let codex = wait!(rt::spawn_with(&server.command(), config)).expect("connects");
        let mut events = codex.events();
        wait!(codex.request_raw("flood", json!({}))).expect("answered");
        let full = codex.counters();
        assert!(full.unread_bytes >= BOUND && full.unread_bytes < BOUND + 1024 && full.left_out > 0, "{full:?}");
        wait!(codex.request_raw("flood", json!({}))).expect("answered");
        let still = codex.counters();
        assert_eq!(still.unread_bytes, full.unread_bytes, "not a byte more");
        assert_eq!(still.left_out, full.left_out + FLOOD);
        let (mut read, mut gap) = (0, None);
        while gap.is_none() {
            match wait!(events.next()).expect("an event") {
                Event::Other(raw) => {
                    read += 1;
                    let params: Value = serde_json::from_str(raw.params_text()).expect("JSON");
                    assert_eq!(params["n"], read, "what was kept is the beginning");
                }
                Event::Gap(count) => gap = Some(count),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((gap, codex.counters().unread_bytes), (Some(2 * FLOOD - read), 0));
        wait!(codex.request_raw("last", json!({}))).expect("answered");
        let Some(Event::Other(raw)) = wait!(events.next()) else { panic!("a notification") };
        assert!(raw.params_text().contains("the last"), "there is room again");
        wait!(codex.close());
        assert!(wait!(events.next()).is_none());
    }
}
