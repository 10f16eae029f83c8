//! `steer`: a running turn is given more to do, and another one is ended early, on tokio.
//!
//!     cargo run -p turnwire-tokio --example steer [-- --real [CODEX]]

use std::{error::Error, process::ExitCode};
use turnwire_testkit::{
    scripted::{Script, TurnPlan},
    stand_in::{self, Server},
};
use turnwire_tokio::{Event, InterruptOutcome, State, SteerError, Turn, protocol::ThreadStart, spawn};

fn main() -> ExitCode {
    // Both turns of the fake go on until somebody steers or interrupts them.
    let script = Script::new()
        .turn(TurnPlan::when("every file").text("I have read the first of them. ").hold())
        .turn(TurnPlan::when("for ever").text("One. Two. Three. ").hold());
    stand_in::main("steer", script, |server| {
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(steer(server))
    })
}

#[allow(clippy::print_stdout, reason = "showing is what this is about")]
async fn steer(server: &Server) -> Result<(), Box<dyn Error>> {
    let codex = spawn(server.command()).await?;
    let thread = codex.thread_start(ThreadStart::new()).await?;

    let turn = thread.turn("Read every file here, one after the other, and tell me what each is for.").await?;
    wait_for_text(&turn).await;
    match turn.steer("Stop after the first one.").await {
        Ok(id) => {
            println!("turn {id} has taken it");
            assert_eq!(Some(id), turn.id(), "the same turn goes on");
        }
        // A real model may be faster than this program.
        Err(SteerError::Ended) => assert!(server.is_real(), "the fake waits"),
        Err(error) => return Err(error.into()),
    }
    let result = turn.result().await?;
    println!("{}: {}", result.status, result.final_response.unwrap_or_default());
    assert_eq!(result.status, State::Completed);

    let turn = thread.turn("Count for ever.").await?;
    wait_for_text(&turn).await;
    // Ctrl-C in a terminal, a button in a window: whoever has the handle may interrupt, from any task.
    let interrupt = tokio::spawn({
        let turn = turn.clone();
        async move { turn.interrupt().await }
    });
    let outcome = interrupt.await??;
    let result = turn.result().await?;
    println!("{}, after {:?}", result.status, result.duration_ms);
    match outcome {
        InterruptOutcome::Acknowledged => assert_eq!(result.status, State::Interrupted),
        _ => assert!(server.is_real(), "the fake does not end by itself"),
    }

    // The thread is as good as before.
    let result = thread.run("Thank you.").await?;
    println!("{}: {}", result.status, result.final_response.unwrap_or_default());
    assert_eq!(result.status, State::Completed);
    // A turn that is over takes no more.
    assert!(matches!(turn.steer("Too late.").await, Err(SteerError::Ended)));
    codex.close().await;
    Ok(())
}

/// Waits until the agent has begun to answer.
async fn wait_for_text(turn: &Turn) {
    while let Some(event) = turn.next().await {
        if matches!(event, Event::Delta(_)) {
            return;
        }
    }
}
