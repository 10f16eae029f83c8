// Recorded talks, cut off, over a pipe in memory. Included once for each runtime.

use crate::{
    cut::{self, Pieces, Step, Talk},
    feed::Feed,
};

/// How many of the seeded cuts one normal run makes; all 1,000 with `TURNWIRE_CUTS=every`.
const SEEDED: usize = 60;

/// Plays a talk up to a cut and says what each wait ended with.
macro_rules! play {
    ($talk:expr, $cut:expr) => {{
        let (talk, feed): (&Talk, _) = ($talk, Feed::new());
        let mut steps = talk.until($cut).peekable();
        let mut said = 0;
        let mut say = |bytes: &[u8]| {
            feed.say(bytes);
            said += bytes.len();
            said as u64
        };
        let mut sum = 0;
        while let Some((Step::Say(bytes), take)) = steps.peek() {
            sum = say(&bytes[..*take]);
            steps.next();
        }
        if steps.peek().is_none() {
            feed.end();
        }
        let mut outcomes = Vec::new();
        // When it is cut within the handshake there is nothing else that waits.
        if let Ok(codex) = wait!(connect_to_feed(&feed, cut::config())) {
            let mut waits: Vec<Joined<String>> = Vec::new();
            for (step, take) in steps {
                match step {
                    Step::Say(bytes) => sum = say(&bytes[..take]),
                    Step::Ask { method, params, id } => {
                        // Not in a tight loop: whoever looks holds the lock that the driver wants.
                        while codex.counters().bytes < sum {
                            std::thread::sleep(std::time::Duration::from_micros(20));
                        }
                        let (method, params) = (method.clone(), params.clone());
                        let thread = params["threadId"].as_str().map(|id| codex.thread(id));
                        waits.push(match thread.filter(|_| method == "turn/start") {
                            Some(thread) => go!([thread] cut::of_turn(&wait!(thread.run("x")))),
                            None => go!([codex] cut::of_call(&wait!(codex.request_raw(method, params)))),
                        });
                        assert_eq!(feed.wait_for_requests(waits.len() + 1), *id, "{}: the same ids", talk.name);
                    }
                }
            }
            feed.end();
            for wait in waits {
                outcomes.push(join!(wait));
            }
            assert!(wait!(codex.closed()).exit().is_none());
            let counters = codex.counters();
            assert_eq!((counters.requests, counters.turns), (0, 0), "{} at {}: {counters:?}", talk.name, $cut);
        }
        outcomes
    }};
}

scenario! {
    fn fr_01_a_talk_that_is_cut_at_a_line_or_beside_it_ends_every_wait_as_in_the_core() {
        let talks = cut::talks();
        let chosen = ["interrupt", "eof_mid_turn", "login_api_key"];
        let mut cuts = 0;
        for talk in talks.iter().filter(|talk| cut::every() || chosen.contains(&talk.name.as_str())) {
            for edge in talk.edges() {
                for at in [edge - 1, edge, edge + 1] {
                    let at = at.min(talk.len());
                    assert_eq!(play!(talk, at), cut::play(talk, at, Pieces::Lines), "{} at {at}", talk.name);
                    cuts += 1;
                }
            }
            eprintln!("{}: {cuts} places so far", talk.name);
        }
    }
}

scenario! {
    fn fr_01_a_talk_that_is_cut_anywhere_ends_every_wait_as_in_the_core() {
        let talks = cut::talks();
        let mut number = cut::numbers(163);
        for _ in 0..if cut::every() { 1_000 } else { SEEDED } {
            let talk = &talks[number(talks.len())];
            if talk.len() > 60_000 && !cut::every() {
                continue;
            }
            let at = number(talk.len() + 1);
            assert_eq!(play!(talk, at), cut::play(talk, at, Pieces::Lines), "{} at {at}", talk.name);
        }
    }
}
