//! `ask-tokio`: one question to the Codex agent, on tokio. `--help` says how.
//!
//! The same program as `ask` of `turnwire-blocking`, with which it shares the words on the command line and the lines on
//! the screen. This file is what it takes to run a turn on tokio.

#[path = "../../runtime-blocking/examples/ask/common/mod.rs"]
mod common;

use common::{Happening, Next, Options, Outcome, Screen};
use std::{pin::pin, process::ExitCode};
use tokio::{runtime, signal, sync::mpsc};
use turnwire_tokio::{Codex, spawn};

fn main() -> ExitCode {
    common::run("ask-tokio", |options| {
        runtime::Builder::new_current_thread().enable_all().build()?.block_on(ask(options))
    })
}

async fn ask(options: &Options) -> Outcome {
    let codex = match spawn(&options.command()).await {
        Ok(codex) => codex,
        Err(error) => spawn(&options.stand_in(error)?).await?,
    };
    let outcome = converse(&codex, options).await;
    // However it went: the server is gone before this program is.
    codex.close().await;
    outcome
}

async fn converse(codex: &Codex, options: &Options) -> Outcome {
    let turn = codex.thread_start(options.thread_start()).await?.turn(options.turn_request()).await?;
    let mut screen = Screen::new(options);

    // From here on Ctrl-C is this program's own affair; until now it has just ended it.
    let mut press = pin!(signal::ctrl_c());
    let (tell, mut told) = mpsc::unbounded_channel();

    loop {
        let happening = tokio::select! {
            event = turn.next() => event.map_or(Happening::Over, |event| Happening::Event(Box::new(event))),
            pressed = &mut press => {
                pressed?;
                press.set(signal::ctrl_c());
                Happening::CtrlC
            }
            Some(happening) = told.recv() => happening,
        };
        let (turn, told) = (turn.clone(), tell.clone());
        match screen.show(happening) {
            Next::Finish => return Ok(screen.finish(turn.result().await)),
            Next::Interrupt => drop(tokio::spawn(async move {
                let _ = told.send(Happening::Interrupted(turn.interrupt().await));
            })),
            Next::Kill => return Ok(screen.killed()),
            Next::Steer(text) => drop(tokio::spawn(async move {
                let _ = told.send(Happening::Steered(turn.steer(text).await));
            })),
            Next::Wait => {}
        }
    }
}
