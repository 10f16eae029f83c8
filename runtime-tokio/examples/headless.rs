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
use turnwire_tokio::{
    Approval, ApprovalMode, Approvals, AskEnd, Codex, Event, Handlers, TurnRequest,
    protocol::{ApprovalsReviewer, ThreadStart},
    spawn,
};

/// What may run: exactly these words. Options that may come after them can name other programs to run.
const COMMANDS: [&[&str]; 3] = [&["cargo", "test"], &["cargo", "fmt", "--check"], &["git", "status"]];

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

/// `folder`: in it commands may run, and below it files may be changed.
fn is_allowed(asked: &Approval, folder: &Path) -> bool {
    // Only a command that is nothing but words has any: a pipe, a variable or a second command has none.
    if let Some(words) = asked.words() {
        return asked.cwd.as_deref().map(Path::new) == Some(folder) && COMMANDS.iter().any(|allowed| words == *allowed);
    }
    let is_inside = |path: &String| {
        let path = Path::new(path);
        // Hidden files configure the programs that may run.
        let is_plain = |part: Component<'_>| match part {
            Component::ParentDir => false,
            Component::Normal(name) => !name.to_string_lossy().starts_with('.'),
            _ => true,
        };
        path.strip_prefix(folder).is_ok_and(|below| below.components().all(is_plain))
    };
    !asked.paths.is_empty() && asked.paths.iter().all(is_inside)
}

async fn headless(server: &Server) -> Result<(), Box<dyn Error>> {
    let folder = std::env::current_dir()?.canonicalize()?;
    let codex = spawn(server.command()).await?;
    // Served beside everything else, until the session is closed.
    let below = folder.clone();
    let approvals = Approvals::accept_for(move |asked| is_allowed(asked, &below));
    drop(tokio::spawn(codex.serve(Handlers::new().approvals(approvals))));
    let outcome = work(&codex, &folder).await;
    codex.close().await;
    let (accepted, declined) = outcome?;
    if !server.is_real() {
        assert_eq!((accepted, declined), (1, 1));
    } else if declined > 0 {
        return Err(format!("{declined} requests were declined").into());
    }
    Ok(())
}

/// Does the tasks. Says how much of what was asked was accepted, and how much was not.
async fn work(codex: &Codex, folder: &Path) -> Result<(usize, usize), Box<dyn Error>> {
    let (mut accepted, mut declined) = (0, 0);
    for task in ["Run the tests, and say whether they pass.", "Then clean up."] {
        // Said here, so that no configuration of the server makes it less.
        let asking = ApprovalMode::on_request().reviewer(ApprovalsReviewer::User);
        let start = ThreadStart::new().cwd(folder.display().to_string()).sandbox("read-only").approval_mode(asking);
        let thread = codex.thread_start(start).await?;
        let turn = thread.turn(TurnRequest::new(task).deadline(PATIENCE)).await?;
        while let Some(event) = turn.next().await {
            match event {
                Event::AskEnded(asked, AskEnd::Answered(word)) => {
                    say(&format!("{}: {word}", asked.request.method));
                    *(if &*word == "accept" { &mut accepted } else { &mut declined }) += 1;
                }
                // What the list says nothing of, as questions, permissions and tools; and what nobody was asked about.
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
    Ok((accepted, declined))
}

fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}
