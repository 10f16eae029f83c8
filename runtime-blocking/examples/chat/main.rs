//! `chat`: the agent in a terminal, on plain threads.
//!
//!     cargo run -p turnwire-blocking --example chat [-- --real [CODEX]]
//!
//! What you type starts a turn. What you type while it runs steers it. Where the agent asks whether it may run a command,
//! change a file, call a tool or have more permissions, `y` says yes, `a` yes and always for the same, `n` no, and `s` no
//! and stop. Ctrl-C interrupts the turn; a second one, or one between turns, ends the program, as the end of the input does.
//!
//! Everything that happens, keys included, comes in by one channel, and [`Chat`] decides what follows. What waits does so
//! on a thread of its own, so that the chat never does.

mod screen;

use screen::Screen;
use std::{
    collections::{BTreeMap, VecDeque},
    error::Error,
    io,
    process::ExitCode,
    sync::mpsc::{self, Sender},
    thread,
};
use turnwire_blocking::{
    AgentRequest, CallError, Codex, Event, InterruptOutcome, Json, SteerError, Thread, Turn, TurnError, TurnId,
    TurnRequest, TurnResult, UserInput, protocol::ThreadStart, spawn,
};
use turnwire_testkit::{
    scripted::{Script, TurnPlan},
    stand_in::{self, Server},
};

fn main() -> ExitCode {
    let script = Script::new()
        .delta_delay(20)
        .turn(TurnPlan::when("test").command("cargo test", "all of them passed\n", 0).with_approval().text("It works."))
        .turn(TurnPlan::when("note").file_change("/workspace/NOTES.md", "A note.\n").with_approval().text("Noted."))
        .turn(TurnPlan::when("wait").text("I wait until you say something. ").hold());
    stand_in::main("chat", script, chat)
}

fn chat(server: &Server) -> Result<(), Box<dyn Error>> {
    let codex = spawn(server.command())?;
    let outcome = Chat::new(&codex).and_then(Chat::run);
    // However it went: the server is gone before this program is.
    codex.close();
    outcome
}

/// What can happen.
enum Happening {
    CtrlC,
    EndOfInput,
    Event(Box<Event>),
    Interrupted(Result<InterruptOutcome, CallError>),
    Line(String),
    Over(Box<Result<TurnResult, TurnError>>),
    Steered(Result<TurnId, SteerError>),
}

struct Chat {
    thread: Thread,
    screen: Screen,
    turn: Option<Turn>,
    /// What the agent asked and nobody has answered yet, the oldest first.
    asked: VecDeque<AgentRequest>,
    /// The answers to the questions of the first of `asked`, so far.
    answers: BTreeMap<String, [String; 1]>,
    tell: Sender<Happening>,
    happenings: mpsc::Receiver<Happening>,
    /// Whether the turn was interrupted already.
    is_interrupted: bool,
    is_ending: bool,
}

impl Chat {
    fn new(codex: &Codex) -> Result<Self, Box<dyn Error>> {
        let thread = codex.thread_start(ThreadStart::new())?;
        let (tell, happenings) = mpsc::channel();
        let press = tell.clone();
        ctrlc::set_handler(move || drop(press.send(Happening::CtrlC)))?;
        let typed = tell.clone();
        thread::spawn(move || {
            for line in io::stdin().lines().map_while(Result::ok) {
                if typed.send(Happening::Line(line)).is_err() {
                    return;
                }
            }
            let _ = typed.send(Happening::EndOfInput);
        });
        Ok(Self {
            thread,
            screen: Screen::new(),
            turn: None,
            asked: VecDeque::new(),
            answers: BTreeMap::new(),
            tell,
            happenings,
            is_interrupted: false,
            is_ending: false,
        })
    }

    fn run(mut self) -> Result<(), Box<dyn Error>> {
        self.screen.prompt();
        while let Ok(happening) = self.happenings.recv() {
            match happening {
                Happening::CtrlC => match &self.turn {
                    Some(turn) if !self.is_interrupted => {
                        self.wait_for(turn, |turn| Happening::Interrupted(turn.interrupt()));
                        self.is_interrupted = true;
                        self.screen.say("(interrupting; once more to leave)");
                    }
                    _ => {
                        self.screen.end_asking();
                        return Ok(());
                    }
                },
                Happening::EndOfInput => self.is_ending = true,
                Happening::Event(event) => self.show(*event),
                Happening::Interrupted(Err(error)) => self.screen.say(&format!("it was not interrupted: {error}")),
                Happening::Interrupted(Ok(_)) => {}
                Happening::Line(line) => {
                    self.screen.typed();
                    self.line(line.trim())?;
                }
                Happening::Over(result) => self.over(*result),
                Happening::Steered(Err(error)) => self.screen.say(&format!("that did not reach the turn: {error}")),
                Happening::Steered(Ok(_)) => self.screen.say("(the agent has it)"),
            }
            if self.is_ending {
                // Nobody is left to answer.
                self.asked.clear();
                if self.turn.is_none() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Something was typed: the answer to a question, more for the turn that runs, or the next turn.
    fn line(&mut self, line: &str) -> Result<(), TurnError> {
        if let Some(request) = self.asked.pop_front() {
            if self.answer(&request, line) {
                self.ask_next();
            } else {
                self.asked.push_front(request);
                self.ask();
            }
        } else if line.is_empty() {
            self.screen.prompt();
        } else if let Some(turn) = &self.turn {
            let line = line.to_owned();
            self.wait_for(turn, move |turn| Happening::Steered(turn.steer(line)));
        } else {
            // The requests of this turn come with its events, to be answered here.
            let turn = match self.thread.turn(TurnRequest::new(line).asks_in_stream()) {
                Ok(turn) => turn,
                Err(error) if error.is_closed() => return Err(error),
                // Nothing runs; the user may try again.
                Err(error) => {
                    self.screen.say(&format!("({error})"));
                    self.screen.prompt();
                    return Ok(());
                }
            };
            let (events, tell) = (turn.clone(), self.tell.clone());
            thread::spawn(move || {
                for event in events.events() {
                    let _ = tell.send(Happening::Event(Box::new(event)));
                }
                let _ = tell.send(Happening::Over(Box::new(events.result())));
            });
            (self.turn, self.is_interrupted) = (Some(turn), false);
        }
        Ok(())
    }

    /// Does something that waits, on a thread of its own.
    fn wait_for(&self, turn: &Turn, what: impl FnOnce(&Turn) -> Happening + Send + 'static) {
        let (turn, tell) = (turn.clone(), self.tell.clone());
        thread::spawn(move || tell.send(what(&turn)));
    }

    fn show(&mut self, event: Event) {
        match event {
            Event::Request(request) => {
                self.asked.push_back(request);
                if self.asked.len() == 1 {
                    self.ask();
                }
            }
            Event::AskEnded(..) => {
                // Interrupted, or answered elsewhere.
                let first = self.asked.front().map(|request| request.id().clone());
                self.asked.retain(|request| request.is_open());
                if first != self.asked.front().map(|request| request.id().clone()) {
                    self.answers.clear();
                    self.ask();
                }
            }
            event => self.screen.show(&event),
        }
    }

    fn over(&mut self, result: Result<TurnResult, TurnError>) {
        self.turn = None;
        self.is_interrupted = false;
        self.asked.clear();
        self.answers.clear();
        self.screen.finish(result);
        self.screen.prompt();
    }

    fn ask_next(&mut self) {
        self.answers.clear();
        self.ask();
    }

    /// Puts the first of the open requests to the user. What nobody here can decide is refused, by being dropped.
    fn ask(&mut self) {
        while let Some(request) = self.asked.front() {
            let question = match request {
                AgentRequest::Command(approval) => {
                    let command = approval.command().unwrap_or("(a command that is not shown)");
                    let reason = approval.reason().map_or(String::new(), |reason| format!("\n  {reason}"));
                    let folder = approval.cwd().map_or(String::new(), |cwd| format!("\n  in {cwd}"));
                    format!("may this run?{reason}\n  $ {command}{folder}\n{CHOICES}")
                }
                AgentRequest::FileChange(approval) => {
                    let changes = approval.changes().unwrap_or_default();
                    let changes: String = changes.iter().map(screen::diff).collect();
                    let reason = approval.reason().map_or(String::new(), |reason| format!("\n  {reason}"));
                    let root = approval.params().grant_root.as_deref();
                    let root = root.map_or(String::new(), |root| format!("\n  and all below {root} from now on"));
                    format!("may these files be changed?{reason}{root}\n{changes}{CHOICES}")
                }
                AgentRequest::McpTool(approval) => {
                    let arguments = approval.arguments().as_str();
                    format!("{}\n  {} {arguments}\n{CHOICES}", approval.message(), approval.server_name())
                }
                AgentRequest::Permissions(approval) => {
                    let wanted = Json::encode(&approval.params().permissions).unwrap_or_default();
                    let reason = approval.params().reason.as_deref().unwrap_or_default();
                    format!("may it have more permissions?\n  {reason}\n  {}\n[y]es, [a]lways, [n]o", wanted.as_str())
                }
                AgentRequest::UserInput(asked) => match next_question(asked, &self.answers) {
                    Some((_, question)) => question,
                    None => String::new(),
                },
                _ => String::new(),
            };
            if !question.is_empty() {
                return self.screen.ask(&question);
            }
            self.screen.say(&format!("refused: {}", request.method()));
            self.asked.pop_front();
        }
    }

    /// Takes an answer to a request. Says whether the request is done with; if not, it is put again.
    fn answer(&mut self, request: &AgentRequest, line: &str) -> bool {
        // A word or its first letter. Nothing else is a yes.
        let choice = match &*line.to_lowercase() {
            "y" | "yes" => 'y',
            "a" | "always" => 'a',
            "n" | "no" => 'n',
            "s" | "stop" => 's',
            _ => '?',
        };
        let outcome = match (request, choice) {
            (AgentRequest::Command(approval), 'y') => approval.accept(),
            (AgentRequest::Command(approval), 'a') => approval.accept_for_session(),
            (AgentRequest::Command(approval), 'n') => approval.decline(),
            (AgentRequest::Command(approval), 's') => approval.cancel(),
            (AgentRequest::FileChange(approval), 'y') => approval.accept(),
            (AgentRequest::FileChange(approval), 'a') => approval.accept_for_session(),
            (AgentRequest::FileChange(approval), 'n') => approval.decline(),
            (AgentRequest::FileChange(approval), 's') => approval.cancel(),
            (AgentRequest::McpTool(approval), 'y') => approval.accept(),
            (AgentRequest::McpTool(approval), 'a') => approval.accept_for_session(),
            (AgentRequest::McpTool(approval), 'n') => approval.decline(),
            (AgentRequest::McpTool(approval), 's') => approval.cancel(),
            (AgentRequest::Permissions(approval), 'y') => approval.accept(),
            (AgentRequest::Permissions(approval), 'a') => approval.accept_for_session(),
            (AgentRequest::Permissions(approval), 'n') => approval.decline(),
            (AgentRequest::UserInput(asked), _) => {
                if let Some((id, _)) = next_question(asked, &self.answers) {
                    self.answers.insert(id, [line.to_owned()]);
                }
                if next_question(asked, &self.answers).is_some() {
                    return false;
                }
                asked.answer(std::mem::take(&mut self.answers))
            }
            _ => return false,
        };
        if let Err(error) = outcome {
            self.screen.say(&format!("too late: {error}"));
        }
        true
    }
}

/// What may be said to most questions. Always: until the thread is closed.
const CHOICES: &str = "[y]es, [a]lways, [n]o, [s]top";

/// The first question that has no answer yet: its id, and how it is put.
fn next_question(asked: &UserInput, answers: &BTreeMap<String, [String; 1]>) -> Option<(String, String)> {
    let question = asked.questions().iter().find(|question| !answers.contains_key(&question.id))?;
    let options = question.options.iter().flatten().map(|option| format!("\n  - {}", option.label));
    Some((question.id.clone(), format!("{}{}", question.question, options.collect::<String>())))
}
