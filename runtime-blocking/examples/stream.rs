//! `stream`: a turn as it happens, on plain threads. Every kind of event that a display needs has its line here.
//!
//!     cargo run -p turnwire-blocking --example stream [-- --real [CODEX]]

use std::{collections::BTreeMap, error::Error, process::ExitCode};
use turnwire_blocking::{
    DeltaKind, Event, ItemId, State, Turn, TurnResult,
    protocol::{ThreadItem, ThreadStart},
    spawn,
};
use turnwire_testkit::{
    scripted::{Script, TurnPlan},
    stand_in::{self, Server},
};

const ANSWER: &str = "The build broke because the lock file is stale. I have brought it up to date.";

fn main() -> ExitCode {
    let plan = TurnPlan::new()
        .reasoning("The lock file is older than the manifest.")
        .command("cargo build", "error: the lock file needs to be updated\n", 101)
        .file_change("/workspace/Cargo.lock", "# brought up to date\n")
        .phase("final_answer")
        .text(ANSWER);
    stand_in::main("stream", Script::new().delta_delay(10).turn(plan), stream)
}

#[allow(clippy::print_stdout, reason = "showing is what this is about")]
fn stream(server: &Server) -> Result<(), Box<dyn Error>> {
    let codex = spawn(server.command())?;
    let turn = codex.thread_start(ThreadStart::new())?.turn("Why does the build fail? Repair it.")?;
    let mut seen = Seen::default();
    for event in turn.events() {
        for line in seen.take(event) {
            println!("{line}");
        }
    }
    let result = turn.result()?;
    codex.close();
    check(server, &turn, &seen, &result);
    Ok(())
}

/// What the events have told so far.
#[derive(Default)]
struct Seen {
    /// The text of each item as it was put together from its pieces.
    texts: BTreeMap<ItemId, String>,
    completed: usize,
    end: Option<State>,
    other: usize,
}

impl Seen {
    /// Takes an event, and says what is to be shown of it.
    fn take(&mut self, event: Event) -> Vec<String> {
        match event {
            Event::Started(_) => vec!["the turn runs".into()],
            Event::ItemStarted(started) => match &started.item {
                ThreadItem::CommandExecution(command) => vec![format!("$ {}", command.command)],
                _ => Vec::new(),
            },
            Event::Delta(delta) if delta.kind == DeltaKind::AgentMessage => {
                let line = format!("… {}", delta.text.escape_debug());
                self.texts.entry(delta.origin.item.clone()).or_default().push_str(&delta.text);
                vec![line]
            }
            Event::ItemCompleted(completed) => {
                self.completed += 1;
                match completed.item {
                    ThreadItem::Reasoning(reasoning) => {
                        reasoning.summary.iter().flatten().map(|thought| format!("thought: {thought}")).collect()
                    }
                    ThreadItem::CommandExecution(command) => {
                        let output = command.aggregated_output.unwrap_or_default();
                        let code = command.exit_code.map_or("none".into(), |code| code.to_string());
                        vec![format!("exit code {code}: {}", output.trim_end())]
                    }
                    ThreadItem::FileChange(change) => {
                        change.changes.iter().map(|change| format!("changed {}", change.path)).collect()
                    }
                    ThreadItem::AgentMessage(message) => {
                        // What counts is the message when it is complete; its pieces were for the eye.
                        self.texts.insert(message.id, message.text.to_string());
                        Vec::new()
                    }
                    _ => Vec::new(),
                }
            }
            Event::Error(met) => {
                vec![format!("{}: {}", if met.will_retry { "again" } else { "failed" }, met.error.message)]
            }
            Event::Usage(report) => vec![format!("tokens so far: {}", report.usage.total.total_tokens)],
            Event::Refused(refused) => vec![format!("refused: {}", refused.notification.method)],
            Event::Gap(count) => vec![format!("{count} events were left out, because this was too slow")],
            Event::Ended(state) => {
                self.end = Some(state);
                vec![format!("the turn is over: {state}")]
            }
            // Anything that has no event of its own yet is here, with its JSON.
            Event::Other(_) => {
                self.other += 1;
                Vec::new()
            }
            _ => Vec::new(),
        }
    }
}

fn check(server: &Server, turn: &Turn, seen: &Seen, result: &TurnResult) {
    assert_eq!(seen.end, Some(State::Completed));
    assert_eq!(seen.completed, result.items.len(), "each item came by as an event");
    assert!(turn.id().is_some() && result.usage.is_some());
    let answer = result.final_response.as_deref().expect("an answer");
    assert!(seen.texts.values().any(|text| text == answer), "the events add up to the answer");
    if !server.is_real() {
        assert_eq!((answer, result.items.len()), (ANSWER, 5));
    }
}
