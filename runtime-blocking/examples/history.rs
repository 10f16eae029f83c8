//! `history`: a conversation that is taken up again, and what was said in it, on plain threads.
//!
//!     cargo run -p turnwire-blocking --example history [-- --real [CODEX]]

use std::{error::Error, process::ExitCode};
use turnwire_blocking::{
    Resume, ThreadError,
    protocol::{ThreadItem, ThreadList, ThreadStart, UserInput},
    spawn,
};
use turnwire_testkit::{
    scripted::{Script, TurnPlan},
    stand_in::{self, Server},
};

const NAME: &str = "A word to remember";

fn main() -> ExitCode {
    let script = Script::new()
        .turn(TurnPlan::when("Remember").text("I shall remember it."))
        .turn(TurnPlan::when("Which").text("Heron."));
    stand_in::main("history", script, history)
}

#[allow(clippy::print_stdout, reason = "showing is what this is about")]
fn history(server: &Server) -> Result<(), Box<dyn Error>> {
    let codex = spawn(server.command())?;
    let thread = codex.thread_start(ThreadStart::new())?;

    // A thread that has never run a turn is not stored, and cannot be resumed. Nothing is started in its place.
    let too_early = codex
        .thread_resume(Resume::new("01a00000-0000-7000-8000-000000000000"))
        .err()
        .ok_or("there is no such thread")?;
    assert!(!matches!(too_early, ThreadError::Call(_)), "it is known which kind of failure that is: {too_early}");
    println!("not there: {too_early}");

    thread.run("Remember this word: heron.")?;
    thread.set_name(NAME)?;
    let id = thread.id().clone();
    thread.unsubscribe()?;
    drop(thread);

    // Some other day: find it by its name, in pages that are fetched as they are needed.
    let mut found = None;
    for stored in codex.thread_pages(ThreadList::default()) {
        let stored = stored?;
        if stored.name.as_deref() == Some(NAME) {
            found = Some(stored.id);
            break;
        }
    }
    assert_eq!(found.as_ref(), Some(&id), "a thread that has run is in the list");

    let resumed = codex.thread_resume(Resume::new(id))?;
    assert!(resumed.running.is_none(), "nothing runs there now");
    let thread = resumed.thread;
    let answer = thread.run("Which word was it?")?;

    // What was said, the latest first, without loading all of it at once.
    let mut said = Vec::new();
    for turn in thread.history().with(|params| params.items_view("full")) {
        for item in turn?.items.iter().rev() {
            match item {
                ThreadItem::UserMessage(message) => {
                    for part in &message.content {
                        if let UserInput::Text(text) = part {
                            said.push(format!("you: {}", text.text));
                        }
                    }
                }
                ThreadItem::AgentMessage(message) => said.push(format!("codex: {}", message.text)),
                _ => {}
            }
        }
    }
    said.reverse();
    said.iter().for_each(|line| println!("{line}"));
    codex.close();

    assert!(said.first().is_some_and(|first| first.contains("Remember")), "{said:?}");
    assert!(said.iter().filter(|line| line.starts_with("you: ")).count() == 2, "{said:?}");
    if !server.is_real() {
        assert_eq!(answer.final_response.as_deref(), Some("Heron."));
    }
    Ok(())
}
