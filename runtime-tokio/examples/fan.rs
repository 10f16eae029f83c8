//! `fan`: one question about each of many files, all at once, each in a thread of its own, with a line of progress for
//! each. One server, one connection, one process; on tokio.
//!
//!     cargo run -p turnwire-tokio --example fan [-- --real [CODEX]] [FILE …]

use std::{
    error::Error,
    io::{self, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, task::JoinSet};
use turnwire_testkit::{
    scripted::{Script, TurnPlan},
    stand_in::{self, Server},
};
use turnwire_tokio::{
    Codex, DeltaKind, Event, TurnError, TurnRequest, TurnResult,
    protocol::{SandboxMode, ThreadStart},
    spawn,
};

/// Longer than this no file may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// How many files there are when none is named.
const FILES: usize = 8;

fn main() -> ExitCode {
    let script = Script::new()
        .delta_delay(15)
        .turn(TurnPlan::when("file-5").fail("the model has had enough", "other".into(), 0))
        .turn(
            TurnPlan::new().phase("final_answer").text("It holds a few helpers that nobody has looked at for years."),
        );
    stand_in::main("fan", script, |server| {
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(fan(server))
    })
}

async fn fan(server: &Server) -> Result<(), Box<dyn Error>> {
    let mut files: Vec<PathBuf> = server.arguments().iter().map(PathBuf::from).collect();
    if files.is_empty() {
        files = (0..FILES).map(|number| format!("src/file-{number}.rs").into()).collect();
    }
    let codex = spawn(server.command()).await?;
    let (tell, mut told) = mpsc::unbounded_channel();
    let mut answers = JoinSet::new();
    for (number, file) in files.iter().enumerate() {
        let (codex, tell) = (codex.clone(), tell.clone());
        let question = format!("In one sentence: what is {} for?", file.display());
        answers.spawn(async move { (number, ask(&codex, number, question, &tell).await) });
    }
    drop(tell);

    let mut board = Board::new(&files);
    while let Some((number, progress)) = told.recv().await {
        board.show(number, progress);
    }
    board.finish();

    let (mut good, mut bad, mut tokens) = (0, 0, 0);
    while let Some(answer) = answers.join_next().await {
        let (number, answer) = answer?;
        match answer {
            Ok(result) => {
                good += 1;
                tokens += result.usage.map_or(0, |usage| usage.total_tokens);
                assert!(result.final_response.is_some(), "{} has an answer", files[number].display());
            }
            // One that fails is no reason for the others to.
            Err(error) => {
                bad += 1;
                board.say(&format!("{}: {error}", files[number].display()));
            }
        }
    }
    board.say(&format!("{good} answered, {bad} failed, {tokens} tokens, {:.1} s", board.start.elapsed().as_secs_f64()));
    codex.close().await;
    assert_eq!(good + bad, files.len());
    if !server.is_real() && server.arguments().is_empty() {
        assert_eq!((good, bad), (FILES - 1, 1), "one of the fake's files fails");
    }
    Ok(())
}

/// Asks about one file. Every step is told; the answer is the turn's.
async fn ask(
    codex: &Codex,
    number: usize,
    question: String,
    tell: &mpsc::UnboundedSender<(usize, Progress)>,
) -> Result<TurnResult, TurnError> {
    // Nothing is to be changed, and nobody is there to be asked.
    let start = ThreadStart::new().ephemeral(true).sandbox(SandboxMode::ReadOnly);
    let thread = codex.thread_start(start).await.map_err(TurnError::Start)?;
    let turn = thread.turn(TurnRequest::new(question).deadline(PATIENCE)).await?;
    let mut text = String::new();
    while let Some(event) = turn.next().await {
        match event {
            Event::Delta(delta) if delta.kind == DeltaKind::AgentMessage => {
                text.push_str(&delta.text);
                let _ = tell.send((number, Progress::Writes(text.clone())));
            }
            Event::ItemStarted(_) => drop(tell.send((number, Progress::Works))),
            Event::Ended(state) => drop(tell.send((number, Progress::Over(state.to_string())))),
            _ => {}
        }
    }
    turn.result().await
}

/// How far one file is.
enum Progress {
    Works,
    Writes(String),
    Over(String),
}

/// A line for each file. On a terminal they stay in place; elsewhere only ends are shown.
struct Board {
    start: Instant,
    lines: Vec<(String, String)>,
    is_drawn: bool,
    is_terminal: bool,
}

impl Board {
    fn new(files: &[PathBuf]) -> Self {
        let lines = files.iter().map(|file| (file.display().to_string(), "waits".to_owned())).collect();
        Self { start: Instant::now(), lines, is_drawn: false, is_terminal: io::stderr().is_terminal() }
    }

    fn show(&mut self, number: usize, progress: Progress) {
        let Some((file, line)) = self.lines.get_mut(number) else { return };
        *line = match &progress {
            Progress::Works => "works …".into(),
            Progress::Writes(text) => text.chars().rev().take(48).collect::<Vec<_>>().into_iter().rev().collect(),
            Progress::Over(state) => state.clone(),
        };
        if self.is_terminal {
            self.draw();
        } else if let Progress::Over(state) = progress {
            let line = format!("{file}: {state}");
            self.say(&line);
        }
    }

    fn draw(&mut self) {
        let up = if self.is_drawn { format!("\x1b[{}A", self.lines.len()) } else { String::new() };
        let lines: String = self.lines.iter().map(|(file, line)| format!("\x1b[2K{file:<24} {line}\n")).collect();
        self.is_drawn = true;
        let _ = write!(io::stderr(), "{up}{lines}");
    }

    fn finish(&mut self) {
        if self.is_terminal {
            self.draw();
        }
    }

    fn say(&self, line: &str) {
        let _ = writeln!(io::stderr(), "{line}");
    }
}
