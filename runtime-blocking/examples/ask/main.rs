//! `ask`: one question to the Codex agent, on plain threads. `--help` says how.
//!
//! This file is what it takes to run a turn: start a server, start a thread, start a turn, and go through its events while
//! it can be steered and interrupted. The words on the command line and the lines on the screen are in `common`, which
//! the same program on tokio (`ask-tokio`) and on smol (`ask-smol`) shares.

mod common;

use common::{Happening, Next, Options, Outcome, Screen};
use std::{process::ExitCode, sync::mpsc, thread};
use turnwire_blocking::{Codex, spawn};

fn main() -> ExitCode {
    common::run("ask", ask)
}

fn ask(options: &Options) -> Outcome {
    let codex = match spawn(&options.command()) {
        Ok(codex) => codex,
        Err(error) => spawn(&options.stand_in(error)?)?,
    };
    let outcome = converse(&codex, options);
    // However it went: the server is gone before this program is.
    codex.close();
    outcome
}

fn converse(codex: &Codex, options: &Options) -> Outcome {
    let turn = codex.thread_start(options.thread_start())?.turn(options.turn_request())?;
    let mut screen = Screen::new(options);

    // Everything that happens comes in by one channel. From here on Ctrl-C is this program's own affair; until now it
    // has just ended it.
    let (tell, happenings) = mpsc::channel();
    let press = tell.clone();
    ctrlc::set_handler(move || drop(press.send(Happening::CtrlC)))?;
    let (events, told) = (turn.clone(), tell.clone());
    thread::spawn(move || {
        while let Some(event) = events.next() {
            let _ = told.send(Happening::Event(Box::new(event)));
        }
        let _ = told.send(Happening::Over);
    });

    for happening in happenings {
        let (turn, told) = (turn.clone(), tell.clone());
        match screen.show(happening) {
            Next::Finish => return Ok(screen.finish(turn.result())),
            Next::Interrupt => drop(thread::spawn(move || told.send(Happening::Interrupted(turn.interrupt())))),
            Next::Kill => return Ok(screen.killed()),
            Next::Steer(text) => drop(thread::spawn(move || told.send(Happening::Steered(turn.steer(text))))),
            Next::Wait => {}
        }
    }
    Ok(screen.finish(turn.result()))
}
