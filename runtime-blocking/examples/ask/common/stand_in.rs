//! What runs in place of codex on a machine that has none: this very program, started again as the scripted server of
//! turnwire's test kit. It talks the protocol over its stdin and stdout like the real one; what it says was written
//! beforehand.

use std::{io, path::PathBuf};
use turnwire_testkit::scripted::{Script, TurnPlan, serve_stdio};

/// Set for the program in its second life.
pub(super) const VARIABLE: &str = "TURNWIRE_ASK_STAND_IN";

/// The first thing to say when it runs.
pub(super) const NOTICE: &str = "\
no codex found: this is the scripted server that ships with turnwire, a fake
for the real one: npm install -g @openai/codex
              or: pip install openai-codex-cli-bin, and set CODEX_BIN to the program in that package";

const ANSWER: &str = "\
This answer was written beforehand: no model has read your question, no command was run and no file was changed.
- It came from a child process, line by line, by the same protocol that the real server speaks.
- While it is being written you can press Ctrl-C to interrupt it.
- What you give by --steer is sent now, and answered at the end.
";

/// Milliseconds between two pieces of the answer: slow enough to watch, and to interrupt.
const PACE: u64 = 30;

/// The program to start.
pub(super) fn program() -> io::Result<PathBuf> {
    std::env::current_exe()
}

/// Whether this process is to be the server.
pub(super) fn is_wanted() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

/// Is the server, until its input ends.
pub(super) fn serve() -> ! {
    let plan = TurnPlan::new()
        .command("ls", "Cargo.toml\nREADME.md\nsrc\n", 0)
        .file_change("/workspace/NOTES.md", "Three bullets, as asked.\n")
        .phase("final_answer")
        .text(ANSWER);
    serve_stdio(Script::new().delta_delay(PACE).turn(plan), Box::new(io::stdout()))
}
