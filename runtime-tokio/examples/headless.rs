//! `headless`: the agent where nobody watches, as in CI. It may do what a list allows, on tokio; all else is declined, told, and
//! counted, and the program fails if anything was.
//!
//!     cargo run -p turnwire-tokio --example headless [-- --real [CODEX]]

use std::{
    error::Error,
    io::{self, Write},
    path::{Component, Path},
    process::ExitCode,
    time::Duration,
};
use turnwire_testkit::{
    scripted::{Script, TurnPlan},
    stand_in::{self, Server},
};
use turnwire_tokio::{Approval, Approvals, AskEnd, Event, Handlers, TurnRequest, protocol::ThreadStart, spawn};

/// What may run: these words, whatever comes after them.
const COMMANDS: [&[&str]; 3] = [&["cargo", "test"], &["cargo", "fmt", "--check"], &["git", "status"]];

/// Below this folder files may be changed.
const FOLDER: &str = "/workspace";

/// The turn, questions included, takes no longer.
const PATIENCE: Duration = Duration::from_secs(600);

fn main() -> ExitCode {
    let script = Script::new()
        .turn(TurnPlan::when("test").command("cargo test", "all of them passed\n", 0).with_approval().text("It works."))
        .turn(TurnPlan::when("clean").command("rm -rf /", "", 0).with_approval().text("I was not allowed to."));
    stand_in::main("headless", script, |server| {
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(headless(server))
    })
}

fn is_allowed(asked: &Approval) -> bool {
    // Only a command that is nothing but words has any: a pipe, a variable or a second command has none.
    if let Some(words) = asked.words() {
        return COMMANDS
            .iter()
            .any(|allowed| words.len() >= allowed.len() && words.iter().zip(*allowed).all(|(a, b)| a == b));
    }
    let is_inside = |path: &String| {
        let path = Path::new(path);
        path.starts_with(FOLDER) && path.components().all(|part| !matches!(part, Component::ParentDir))
    };
    !asked.paths.is_empty() && asked.paths.iter().all(is_inside)
}

async fn headless(server: &Server) -> Result<(), Box<dyn Error>> {
    let codex = spawn(server.command()).await?;
    // Served beside everything else, as long as the task runs.
    let serving = tokio::spawn(codex.serve(Handlers::new().approvals(Approvals::accept_for(is_allowed))));
    let (mut accepted, mut declined) = (0, 0);
    for task in ["Run the tests, and say whether they pass.", "Then clean up."] {
        let thread = codex.thread_start(ThreadStart::new()).await?;
        let turn = thread.turn(TurnRequest::new(task).deadline(PATIENCE)).await?;
        while let Some(event) = turn.next().await {
            match event {
                Event::AskEnded(asked, AskEnd::Answered(word)) => {
                    say(&format!("{}: {word}", asked.request.method));
                    *(if &*word == "accept" { &mut accepted } else { &mut declined }) += 1;
                }
                // What the list says nothing of: questions, permissions, tools.
                Event::Refused(refused) => {
                    say(&format!("{}: refused", refused.notification.method));
                    declined += 1;
                }
                _ => {}
            }
        }
        let result = turn.result().await?;
        say(&format!("{task}\n  {}: {}", result.status, result.final_response.unwrap_or_default()));
    }
    serving.abort();
    codex.close().await;
    if !server.is_real() {
        assert_eq!((accepted, declined), (1, 1));
    } else if declined > 0 {
        return Err(format!("{declined} requests were declined").into());
    }
    Ok(())
}

fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}
