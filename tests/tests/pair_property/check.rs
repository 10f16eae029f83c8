//! What must hold: after each step, and of everything once the world is quiet.

use crate::app::{App, Asked};
use serde_json::Value;
use std::collections::BTreeMap;
use turnwire_core::{
    connection::Scope,
    error::{CallError, TurnError},
    id::TurnId,
    turn::{RawEvent, State, SubscriptionKey, TurnKey, table::TRANSITIONS},
};
use turnwire_testkit::sim::Direction;

/// What was seen after the step before.
#[derive(Default)]
pub(crate) struct Watch {
    turns: BTreeMap<TurnKey, (State, Option<TurnId>, bool)>,
    /// How much of the trace was looked at.
    crossings: usize,
    /// Bytes of lines that arrived and are no deltas, with the end of the line before, and the longest line.
    must_keep: usize,
    line: Vec<u8>,
    longest: usize,
    /// What of that had arrived when the readers that have fallen behind last had nothing to read.
    kept_before: BTreeMap<SubscriptionKey, usize>,
    /// How many events of each listener were looked at.
    heard: BTreeMap<usize, usize>,
}

impl Watch {
    /// What must hold after each step.
    pub(crate) fn check(&mut self, app: &mut App) {
        self.check_bounds(app);
        for turn in &app.turns {
            let (Some(state), id) = (app.pair.client.turn_state(turn.key), app.pair.client.turn_id(turn.key)) else {
                if !turn.released {
                    app.pair.fail(&format!("{:?} is gone, and was not released", turn.key));
                }
                continue;
            };
            let is_settled = app.pair.client.interrupt_outcome(turn.key).is_some();
            let before = self.turns.insert(turn.key, (state, id.cloned(), is_settled));
            let (was, had_id, _) = before.unwrap_or((State::Starting, None, false));
            if had_id.is_some() && had_id.as_ref() != id {
                app.pair.fail(&format!("{:?} changed its name", turn.key));
            }
            if !leads_to(was, state) {
                app.pair.fail(&format!("{:?} went from {was} to {state}", turn.key));
            }
            // Its end, seen by who reads at once, is its state.
            if turn.is_over && !turn.released && !state.is_end() {
                app.pair.fail(&format!("{:?} is over for its reader, and {state}", turn.key));
            }
        }
        for (n, listener) in app.listeners.iter().enumerate() {
            let heard = self.heard.insert(n, listener.events.len()).unwrap_or(0);
            for event in &listener.events[heard..] {
                let is_own = match &listener.scope {
                    Scope::Thread(thread) | Scope::Tree(thread) => {
                        matches!(event, RawEvent::Gap(_)) || event.thread() == Some(thread)
                    }
                    _ => true,
                };
                if !is_own {
                    app.pair.fail(&format!("{:?} heard {event:?}", listener.scope));
                }
            }
        }
    }

    /// What is held is bounded, apart from what is promised to be kept: that is bounded by what came.
    fn check_bounds(&mut self, app: &App) {
        let must_keep_before = self.must_keep;
        let trace = app.pair.trace();
        for crossing in &trace[self.crossings..] {
            if crossing.direction == Direction::ToServer {
                continue;
            }
            for byte in &crossing.bytes {
                self.line.push(*byte);
                if *byte == b'\n' {
                    self.longest = self.longest.max(self.line.len());
                    let is_delta = self.line.windows(5).any(|part| part == b"elta\"");
                    // A request is told when it comes, and once more when it ends.
                    let is_request = self.line.windows(16).any(|part| part == b"requestApproval\"");
                    if !is_delta {
                        let times = if is_request { 2 } else { 1 };
                        self.must_keep += times * (self.line.len() + size_of::<RawEvent>());
                    }
                    self.line.clear();
                }
            }
        }
        self.crossings = trace.len();
        let counters = app.pair.client.counters();
        let limits = &app.plan.config.limits;
        // Who reads at once has read. Of the others each holds what is promised to be kept since it last had nothing, and as
        // much beside as it may; an event is taken before it is too much. And there is what no tree has claimed yet.
        let behind = app.behind();
        self.kept_before.retain(|reader, _| behind.contains(reader));
        let may_hold = limits.max_unread_bytes.min(1 << 20);
        let mut most = may_hold;
        for reader in behind {
            let before = *self.kept_before.entry(reader).or_insert(must_keep_before);
            most += may_hold + self.longest + size_of::<RawEvent>() + self.must_keep - before;
        }
        if counters.unread_bytes > most {
            app.pair.fail(&format!("{} bytes are held, more than {most}", counters.unread_bytes));
        }
        if app.pair.client.diagnostics().count() > limits.max_diagnostics {
            app.pair.fail("more diagnostics than may be");
        }
        // One for the handshake; and those that are done stay until they are fetched, which was at once.
        if counters.requests > app.made + 1 {
            app.pair.fail("more requests than were made");
        }
        let queue = limits.max_queued_requests.saturating_add(3 * limits.max_in_flight);
        let interrupts = app.turns.iter().filter(|turn| turn.interrupted).count();
        if counters.requests > queue.saturating_add(interrupts + app.turns.len() + 1) {
            app.pair.fail("more requests than may be");
        }
        if counters.turns > app.turns.len() || counters.subscriptions > app.turns.len() + app.listeners.len() {
            app.pair.fail("more turns or subscriptions than were made");
        }
    }
}

/// Whether the table of a turn has a way, of several steps if need be.
fn leads_to(from: State, to: State) -> bool {
    let mut reached = vec![from];
    let mut at = 0;
    while let Some(state) = reached.get(at).copied() {
        at += 1;
        for (before, _, after) in TRANSITIONS {
            if *before == state && !reached.contains(after) {
                reached.push(*after);
            }
        }
    }
    reached.contains(&to)
}

impl App {
    /// Once all is quiet nobody waits.
    pub(crate) fn assert_one_outcome_each(&mut self) {
        if let Some(pending) = self.starting.first() {
            self.pair.fail(&format!("{pending:?} has no outcome"));
        }
        for (key, asked) in &self.asked {
            if matches!(asked, Asked::Open(..)) {
                self.pair.fail(&format!("{key:?} has no outcome"));
            }
        }
        for steered in &self.steered {
            if steered.outcome.is_none() && !self.turns[steered.turn].released {
                self.pair.fail(&format!("a steer {:?} has no outcome", steered.pending));
            }
        }
        for n in 0..self.turns.len() {
            if !self.turns[n].released {
                self.assert_turn(n);
            }
        }
        for listener in &self.listeners {
            for ((method, of), times) in Self::beginnings_and_ends(&listener.events) {
                if times > 1 {
                    self.pair.fail(&format!("{:?} heard {method} of {of} {times} times", listener.scope));
                }
            }
        }
    }

    /// What must hold of each turn that was read to its end.
    fn assert_turn(&mut self, n: usize) {
        let turn = &self.turns[n];
        let state = self.pair.client.turn_state(turn.key).expect("known");
        let fail = |what: &str| -> ! { self.pair.fail(&format!("turn {n} {state}: {what}: {:?}", turn.events)) };
        if self.pair.client.turn_id(turn.key).is_some_and(|id| *id == "who") {
            // A made up answer has given it a name that the server does not know: it runs as long as the connection.
            return;
        }
        let timed_out = |outcome: Result<_, CallError>| outcome.is_err_and(|error| error.is_timeout());
        let is_deaf = self.pair.client.interrupt_outcome(turn.key).is_some_and(timed_out);
        if !state.is_end() && is_deaf && self.plan.refuses_interrupts() {
            // The refusal came too late to be heard, and the server is not asked twice when it may have heard the first.
            return;
        }
        if !state.is_end() || !turn.is_over {
            fail("it has not ended");
        }
        let ends: Vec<_> = turn.events.iter().filter(|event| matches!(event, RawEvent::Ended(_))).collect();
        if ends.len() != 1 || !matches!(turn.events.last(), Some(RawEvent::Ended(last)) if *last == state) {
            fail("not one end, last and the same");
        }
        if turn.interrupted && self.pair.client.interrupt_outcome(turn.key).is_none() {
            fail("an interrupt without outcome");
        }
        let id = self.pair.client.turn_id(turn.key).cloned();
        // A start that was given up while it was on its way may run on the server, and the next start on its thread joins
        // it in the middle. Of such a turn only the end is compared.
        let starts_late = !turn
            .events
            .first()
            .is_some_and(|event| matches!(event, RawEvent::Notification(first) if &*first.method == "turn/started"));
        let lost_a_start = self.turns[..n].iter().any(|before| {
            let state = self.pair.client.turn_state(before.key);
            let gave_up = before.released || matches!(state, Some(State::NotStarted | State::TimedOut));
            before.thread == turn.thread && gave_up
        });
        // If nobody heard the answer, the turn may even begin only after it was joined.
        let was_unheard = self.turns[..n].iter().any(|before| {
            let name = self.pair.client.turn_id(before.key);
            before.thread == turn.thread && name.is_none_or(|name| *name == "who")
        });
        let joins = ((starts_late && lost_a_start) || was_unheard) && id.is_some();
        // The items: started, deltas, completed, in this order and once.
        let has_gap = turn.events.iter().any(|event| matches!(event, RawEvent::Gap(_)));
        let mut items: BTreeMap<String, (String, Option<String>, bool)> = BTreeMap::new();
        for event in turn.events.iter().filter(|_| !joins) {
            let (thread, named) = match event {
                RawEvent::Delta(delta) => {
                    match items.get_mut(delta.item.as_str()) {
                        Some((text, None, true)) => text.push_str(&delta.text),
                        // What was kept for it before it had its name may lack its beginning.
                        _ if has_gap => {}
                        _ => fail("a delta outside its item"),
                    }
                    (Some(&delta.thread), Some(&delta.turn))
                }
                RawEvent::Notification(notification) => {
                    let params: Value = serde_json::from_str(notification.params_text()).expect("JSON");
                    let item = params["item"]["id"].as_str().unwrap_or("").to_owned();
                    match &*notification.method {
                        "item/started" if items.insert(item.clone(), (String::new(), None, true)).is_some() => {
                            fail("an item started twice")
                        }
                        "item/completed" => {
                            let whole = match params["item"]["type"].as_str() {
                                Some("agentMessage") => params["item"]["text"].as_str().map(String::from),
                                Some("commandExecution") => {
                                    Some(params["item"]["aggregatedOutput"].as_str().unwrap_or("").into())
                                }
                                _ => Some(String::from("?")),
                            };
                            match items.get_mut(&item) {
                                Some((_, completed @ None, true)) => *completed = whole,
                                None if has_gap => {
                                    items.insert(item, (String::new(), whole, true));
                                }
                                _ => fail("an item completed twice or before it started"),
                            }
                        }
                        _ => {}
                    }
                    (notification.thread.as_ref(), notification.turn.as_ref())
                }
                RawEvent::Refused(refused) => {
                    (refused.notification.thread.as_ref(), refused.notification.turn.as_ref())
                }
                RawEvent::Gap(_) if !self.plan.is_tight => fail("a gap, though the bounds are far"),
                _ => continue,
            };
            if thread != Some(&turn.thread) || named != id.as_ref() {
                fail("an event of another turn");
            }
        }
        let mut said = Vec::new();
        for (id, (text, completed, _)) in &items {
            if let Some(whole) = completed.as_ref().filter(|whole| *whole != "?") {
                // A refused command has no output.
                if whole != text && !has_gap {
                    fail(&format!("the deltas of {id} are not its text"));
                }
            }
            if id.starts_with("msg") {
                said.push((text.clone(), completed.is_some()));
            }
        }
        for (text, is_whole) in said.iter().filter(|_| !has_gap) {
            let planned = turn.prompts.iter().filter_map(|prompt| self.plan.texts[*prompt].as_ref());
            let mut planned = planned.filter(|planned| match is_whole {
                true => *planned == text,
                false => planned.starts_with(text.as_str()),
            });
            if planned.next().is_none() {
                fail("it says what nobody planned");
            }
        }
        let report = self.pair.client.take_report(turn.key);
        if self.pair.client.take_report(turn.key).is_some() {
            self.pair.fail("a report was fetched twice");
        }
        let turn = &self.turns[n];
        match report {
            None => self.pair.fail(&format!("turn {n} {state}: no report")),
            Some(Err(_)) if state == State::NotStarted => {}
            Some(Err(error)) => self.pair.fail(&format!("turn {n} {state}: {error}")),
            Some(Ok(report)) => {
                let (result, is_good) = match report.into_result() {
                    Ok(result) => (result, true),
                    Err(TurnError::Failed(report)) if state == State::Failed => (*report, false),
                    Err(TurnError::Lost { report, .. }) if state == State::Lost => (*report, false),
                    Err(TurnError::TimedOut { report, .. }) if state == State::TimedOut => (*report, false),
                    Err(error) => self.pair.fail(&format!("turn {n} {state}: {error}")),
                };
                let completed = items.values().filter(|(_, completed, _)| completed.is_some()).count();
                assert_eq!(is_good, matches!(state, State::Completed | State::Interrupted));
                if joins {
                    return;
                }
                assert!(result.items.len() == completed || has_gap, "turn {n}: the items of the report");
                if state == State::Completed && !has_gap {
                    let first = &self.plan.texts[turn.prompts[0]];
                    let is_said = first.as_ref().is_some_and(|text| said.iter().any(|(said, _)| said == text));
                    if !is_said {
                        self.pair.fail(&format!("turn {n}: the planned text was not said"));
                    }
                }
            }
        }
    }
}
