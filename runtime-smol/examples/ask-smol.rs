//! `ask-smol`: one question to the Codex agent, on smol. `--help` says how.
//!
//! The same program as `ask` of `turnwire-blocking`, with which it shares the words on the command line and the lines on
//! the screen. This file is what it takes to run a turn on smol.

#[path = "../../runtime-blocking/examples/ask/common/mod.rs"]
mod common;

use common::{Happening, Next, Options, Outcome, Screen};
use smol::{channel, future};
use std::process::ExitCode;
use turnwire_smol::{Codex, spawn};

fn main() -> ExitCode {
    common::run("ask-smol", |options| smol::block_on(ask(options)))
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
    let (tell, told) = channel::unbounded();
    let press = tell.clone();
    ctrlc::set_handler(move || drop(press.try_send(Happening::CtrlC)))?;

    loop {
        let event = async { turn.next().await.map_or(Happening::Over, |event| Happening::Event(Box::new(event))) };
        let other = async { told.recv().await.unwrap_or(Happening::Over) };
        let happening = future::or(other, event).await;
        let (turn, tell) = (turn.clone(), tell.clone());
        match screen.show(happening) {
            Next::Finish => return Ok(screen.finish(turn.result().await)),
            Next::Interrupt => {
                let interrupt = async move { tell.send(Happening::Interrupted(turn.interrupt().await)).await };
                smol::spawn(interrupt).detach();
            }
            Next::Kill => return Ok(screen.killed()),
            Next::Steer(text) => {
                let steer = async move { tell.send(Happening::Steered(turn.steer(text).await)).await };
                smol::spawn(steer).detach();
            }
            Next::Wait => {}
        }
    }
}
