//! A clock that is paused: deadlines of hours come at once, and are told as they were set.

use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::{Instant, sleep_until, timeout},
};
use turnwire_testkit::scripted::{Script, ScriptedServer, TurnPlan};
use turnwire_tokio::{Codex, TurnRequest, protocol::ThreadStart};

/// The scripted server as a task, by the runtime's own clock.
async fn play(script: Script, mut wire: DuplexStream) {
    let (mut server, start) = (ScriptedServer::new(script), Instant::now());
    let mut buffer = vec![0; 4096];
    while !server.state().is_over() {
        let output = server.drain_output(start.elapsed());
        if wire.write_all(&output).await.is_err() {
            return;
        }
        let due = start + server.poll_timeout().unwrap_or(Duration::from_secs(1 << 30));
        tokio::select! {
            read = wire.read(&mut buffer) => match read {
                Ok(0) | Err(_) => server.handle_eof(start.elapsed()),
                Ok(count) => server.handle_input(start.elapsed(), &buffer[..count]),
            },
            () = sleep_until(due) => {}
        }
    }
}

async fn connect(script: Script) -> Codex {
    let (ours, theirs) = duplex(4096);
    drop(tokio::spawn(play(script, theirs)));
    let (reader, writer) = tokio::io::split(ours);
    turnwire_tokio::connect(reader, writer).await.expect("connects")
}

#[tokio::test(start_paused = true)]
async fn a_deadline_of_an_hour_comes_when_the_paused_clock_gets_there() {
    let codex = connect(Script::new().turn(TurnPlan::new().hold())).await;
    let thread = codex.thread_start(ThreadStart::new()).await.expect("a thread");
    let (begun, hour) = (Instant::now(), Duration::from_secs(3600));
    let error = thread.run(TurnRequest::new("Take your time.").deadline(hour)).await.expect_err("it is held");
    assert!(error.is_timeout(), "{error}");
    assert!(begun.elapsed() >= hour && begun.elapsed() < 2 * hour, "{:?}", begun.elapsed());
    timeout(hour, codex.close()).await.expect("it closes");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_takes_its_time_does_so_by_the_same_clock() {
    let codex = connect(Script::new().delta_delay(60_000).turn(TurnPlan::new().text("Slowly.").deltas(3))).await;
    let begun = Instant::now();
    let thread = codex.thread_start(ThreadStart::new()).await.expect("a thread");
    let result = thread.run("Hello").await.expect("no deadline");
    assert_eq!(result.final_response.as_deref(), Some("Slowly."));
    assert!(begun.elapsed() >= Duration::from_secs(120), "{:?}", begun.elapsed());
    codex.close().await;
}
