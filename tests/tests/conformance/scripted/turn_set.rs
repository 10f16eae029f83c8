// Scenarios against the scripted server, a fake: many turns that are read by one. Included once for each runtime.

use crate::support::scripted;
use rt::protocol::ThreadStart;
use serde_json::json;
use turnwire_testkit::scripted::{Rule, Script};

scenario! {
    fn a_set_of_turns_has_the_events_of_each_in_order_and_is_over_with_the_last() {
        let mut script = Script::new();
        let mut turn = Rule::on("turn/start").reply(json!({"turn": {"id": "$new_turn", "status": "inProgress"}}));
        for piece in ["a", "b", "c"] {
            let said = json!({"threadId": "$thread", "turnId": "$turn", "itemId": "m", "delta": piece});
            turn = turn.notify("item/agentMessage/delta", said);
        }
        script = script.rule(
            turn.notify("turn/completed", json!({"threadId": "$thread", "turn": {"id": "$turn", "status": "completed"}})),
        );
        let server = scripted(&script);
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let mut set = rt::TurnSet::new();
        assert!(wait!(set.next()).is_none(), "there is nothing to wait for");
        let mut text = std::collections::BTreeMap::new();
        for n in 0..16 {
            let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
            set.push(wait!(thread.turn("Spell.")).expect("a turn"));
            // Some are read before the others are there.
            if n % 5 == 0 {
                let Some((turn, event)) = wait!(set.next()) else { panic!("there is a turn") };
                if let rt::Event::Delta(delta) = event {
                    text.entry(turn.id()).or_insert_with(String::new).push_str(&delta.text);
                }
            }
        }
        let mut ended = 0;
        while let Some((turn, event)) = wait!(set.next()) {
            match event {
                rt::Event::Delta(delta) => text.entry(turn.id()).or_insert_with(String::new).push_str(&delta.text),
                rt::Event::Ended(state) => {
                    assert_eq!(state, rt::State::Completed);
                    ended += 1;
                }
                _ => {}
            }
        }
        assert_eq!((set.is_empty(), set.len()), (true, 0));
        assert_eq!((ended, text.len()), (16, 16));
        assert!(text.values().all(|text| text == "abc"), "{text:?}");
        assert_eq!(codex.counters().turns, 0, "nothing is held any more");
        wait!(codex.close());
    }
}

scenario! {
    fn a_turn_that_is_taken_out_of_a_set_is_read_on_by_itself_and_the_others_in_the_set() {
        let mut turn = Rule::on("turn/start").reply(json!({"turn": {"id": "$new_turn", "status": "inProgress"}}));
        for piece in ["a", "b", "c"] {
            let said = json!({"threadId": "$thread", "turnId": "$turn", "itemId": "m", "delta": piece});
            turn = turn.notify("item/agentMessage/delta", said);
        }
        let server = scripted(&Script::new().rule(
            turn.notify("turn/completed", json!({"threadId": "$thread", "turn": {"id": "$turn", "status": "completed"}})),
        ));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let (mut set, mut turns) = (rt::TurnSet::new(), Vec::new());
        for _ in 0..4 {
            let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
            turns.push(wait!(thread.turn("Spell.")).expect("a turn"));
        }
        assert!(set.remove(&turns[0]).is_none(), "it is not there");
        set.extend(turns.iter().cloned());
        let mut text = std::collections::BTreeMap::new();
        // One is taken out before anything is read, one in between, one at the end.
        for (out, reads) in [(1, 0), (2, 1), (3, 3)] {
            for _ in 0..reads {
                let Some((turn, event)) = wait!(set.next()) else { panic!("there are turns") };
                if let rt::Event::Delta(delta) = event {
                    text.entry(turn.id()).or_insert_with(String::new).push_str(&delta.text);
                }
            }
            let taken = set.remove(&turns[out]).expect("it is there");
            assert!(taken == turns[out] && taken != turns[0]);
            assert!(set.remove(&taken).is_none(), "it is not there any more");
            while let Some(event) = wait!(taken.next()) {
                if let rt::Event::Delta(delta) = event {
                    text.entry(taken.id()).or_insert_with(String::new).push_str(&delta.text);
                }
            }
        }
        assert_eq!(set.len(), 1);
        // A place that was free is taken again.
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        set.push(wait!(thread.turn("Spell.")).expect("a turn"));
        while let Some((turn, event)) = wait!(set.next()) {
            if let rt::Event::Delta(delta) = event {
                text.entry(turn.id()).or_insert_with(String::new).push_str(&delta.text);
            }
        }
        assert_eq!(text.len(), 5);
        assert!(text.values().all(|text| text == "abc"), "{text:?}");
        wait!(codex.close());
    }
}

scenario! {
    fn a_set_of_turns_is_woken_by_what_comes_later_and_by_the_end_of_the_server() {
        let held = Rule::on("turn/start").reply(json!({"turn": {"id": "$new_turn", "status": "inProgress"}}));
        let server = scripted(&Script::new().rule(held));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let mut set = rt::TurnSet::new();
        for _ in 0..3 {
            let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
            set.push(wait!(thread.turn("Wait.")).expect("a turn"));
        }
        let closing = go!([codex] { wait!(codex.close()); });
        let mut lost = 0;
        while let Some((_, event)) = wait!(set.next()) {
            lost += usize::from(matches!(event, rt::Event::Ended(rt::State::Lost)));
        }
        assert_eq!(lost, 3);
        join!(closing);
    }
}
