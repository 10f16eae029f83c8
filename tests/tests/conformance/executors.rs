//! Executors that have but one thread, and handles that outlive their runtime.

use crate::support::{self, scripted};
use std::{
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};
use turnwire_testkit::scripted::{Script, TurnPlan};

#[test]
fn a_tokio_runtime_of_one_thread_is_enough() {
    support::bounded("a_tokio_runtime_of_one_thread_is_enough", || {
        let server = scripted(&Script::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let codex = turnwire_tokio::spawn(&server.command()).await.expect("connects");
            let thread = codex.thread_start(Default::default()).await.expect("a thread");
            assert!(thread.run("Hello.").await.is_ok());
            codex.close().await;
        });
        server.assert_gone();
    });
}

#[test]
fn a_smol_executor_of_ones_own_is_enough() {
    support::bounded("a_smol_executor_of_ones_own_is_enough", || {
        let (reader, writer) = crate::pipe::scripted(Script::new().turn(TurnPlan::new().text("Local.")));
        let executor = smol::LocalExecutor::new();
        smol::block_on(executor.run(async {
            let (codex, driver) = turnwire_smol::prepare(reader, writer, turnwire_smol::Config::default());
            let driver = executor.spawn(driver);
            codex.ready().await.expect("connects");
            let thread = codex.thread_start(Default::default()).await.expect("a thread");
            assert_eq!(thread.run("Go.").await.expect("completed").final_response.as_deref(), Some("Local."));
            codex.close().await;
            driver.await;
        }));
    });
}

/// A turn whose command is approved by a handler that asks the server and steers the turn before it accepts. Where there is
/// but one thread, none of that may wait for the thread itself.
fn steered_script() -> Script {
    let plan = TurnPlan::when("list").command("ls", "a\n", 0).with_approval().text("Listed.");
    Script::new().turn(TurnPlan::when("Wait").text("Waiting.").hold()).turn(plan)
}

/// Plays it. `serve` has the handlers run on the one thread.
async fn ask_within_a_handler(codex: &turnwire_smol::Codex, serve: impl FnOnce(turnwire_smol::Serving)) {
    let (steered, said): (Arc<OnceLock<turnwire_smol::Turn>>, Arc<Mutex<Vec<_>>>) = Default::default();
    let handlers = turnwire_smol::Handlers::new().command({
        let (codex, steered, said) = (codex.clone(), Arc::clone(&steered), Arc::clone(&said));
        move |request| {
            let (codex, steered, said) = (codex.clone(), Arc::clone(&steered), Arc::clone(&said));
            async move {
                let turn = steered.get().expect("it is known before it is steered").clone();
                let models = codex.models().await.expect("answered within a handler").data.len();
                let taken_by = turn.steer("And hurry.").await.expect("taken within a handler");
                said.lock().expect("no poison").push((models > 0, Some(taken_by) == turn.id()));
                request.accept()
            }
        }
    });
    serve(codex.serve(handlers));
    let thread = codex.thread_start(Default::default()).await.expect("a thread");
    let turn = thread.turn("Wait.").await.expect("a turn");
    steered.set(turn.clone()).expect("it is the first");
    turn.steer("list").await.expect("taken");
    let result = turn.result().await.expect("completed");
    assert_eq!(result.final_response.as_deref(), Some("You also said: And hurry."));
    let ran = result.items.iter().any(|item| match item {
        turnwire_smol::protocol::ThreadItem::CommandExecution(item) => item.exit_code == Some(0),
        _ => false,
    });
    assert!(ran, "{:?}", result.items);
    assert_eq!(*said.lock().expect("no poison"), [(true, true)]);
    assert_eq!(codex.counters().refused, 0);
}

#[test]
fn sr_03_on_the_one_thread_of_a_tokio_runtime_a_handler_may_ask_the_server_itself() {
    support::bounded("sr_03_on_the_one_thread_of_a_tokio_runtime", || {
        let server = scripted(&steered_script());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let codex = turnwire_tokio::spawn(&server.command()).await.expect("connects");
            ask_within_a_handler(&codex, |serving| drop(tokio::spawn(serving))).await;
            codex.close().await;
        });
        server.assert_gone();
    });
}

#[test]
fn sr_03_on_the_one_thread_of_a_smol_executor_a_handler_may_ask_the_server_itself() {
    support::bounded("sr_03_on_the_one_thread_of_a_smol_executor", || {
        let (reader, writer) = crate::pipe::scripted(steered_script());
        let executor = smol::LocalExecutor::new();
        smol::block_on(executor.run(async {
            let (codex, driver) = turnwire_smol::prepare(reader, writer, turnwire_smol::Config::default());
            let driver = executor.spawn(driver);
            codex.ready().await.expect("connects");
            let mut handling = None;
            ask_within_a_handler(&codex, |serving| handling = Some(executor.spawn(serving))).await;
            codex.close().await;
            driver.await;
            // The handlers are done with the session.
            handling.expect("they were served").await;
        }));
    });
}

#[test]
fn ad_10_when_tokio_shuts_down_calls_fail_typed_and_no_process_is_left() {
    support::bounded("ad_10_when_tokio_shuts_down", || {
        let server = scripted(&Script::new().turn(TurnPlan::new().text("Half").hold()));
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        let (codex, turn) = runtime.block_on(async {
            let codex = turnwire_tokio::spawn(&server.command()).await.expect("connects");
            let thread = codex.thread_start(Default::default()).await.expect("a thread");
            let turn = thread.turn("Go.").await.expect("a turn");
            (codex, turn)
        });
        runtime.shutdown_timeout(Duration::from_secs(5));
        // On another executor altogether: the handles need none of their own.
        assert!(smol::block_on(codex.models()).expect_err("closed").is_closed());
        assert!(smol::block_on(turn.result()).expect_err("lost").is_closed());
        smol::block_on(codex.close());
        drop((codex, turn));
        server.assert_gone();
    });
}

#[test]
fn ad_09_a_driver_that_is_dropped_fails_everybody_who_waits() {
    support::bounded("ad_09_a_driver_that_is_dropped", || {
        let (reader, writer) = crate::pipe::scripted(Script::new().turn(TurnPlan::new().text("Half").hold()));
        let (codex, driver) = turnwire_smol::prepare(reader, writer, turnwire_smol::Config::default());
        let driver = smol::spawn(driver);
        smol::block_on(async {
            codex.ready().await.expect("connects");
            let thread = codex.thread_start(Default::default()).await.expect("a thread");
            let turn = thread.turn("Go.").await.expect("a turn");
            let waiting = smol::spawn({
                let turn = turn.clone();
                async move { turn.result().await }
            });
            driver.cancel().await;
            assert!(waiting.await.expect_err("lost").is_closed());
            assert!(codex.models().await.expect_err("closed").is_closed());
            codex.close().await;
        });
    });
}

#[test]
fn pr_04_dropping_everything_outside_of_a_runtime_ends_the_process() {
    support::bounded("pr_04_dropping_everything_outside", || {
        let server = scripted(&Script::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let codex = runtime.block_on(turnwire_tokio::spawn(&server.command())).expect("connects");
        drop(runtime);
        drop(codex);
        server.assert_gone();

        let codex = smol::block_on(turnwire_smol::spawn(&server.command())).expect("connects");
        drop(codex);
        server.assert_gone();

        let codex = turnwire_blocking::spawn(&server.command()).expect("connects");
        drop(codex);
        server.assert_gone();
    });
}

#[test]
fn handlers_that_nobody_runs_hold_up_the_agent_for_a_moment_only() {
    support::bounded("handlers_that_nobody_runs", || {
        let script = Script::new().turn(TurnPlan::new().command("make", "", 0).with_approval().text("Refused."));
        let (reader, writer) = crate::pipe::scripted(script);
        let mut config = turnwire_smol::Config::default();
        config.timeouts.take_ask = Duration::from_millis(100);
        smol::block_on(async {
            let codex = turnwire_smol::connect_with(reader, writer, config).await.expect("connects");
            // Made, and not spawned.
            let serving = codex.serve(turnwire_smol::Approvals::accept_for(|_| true));
            let thread = codex.thread_start(Default::default()).await.expect("a thread");
            let turn = thread.turn("Go.").await.expect("a turn");
            let mut refused = None;
            while let Some(event) = turn.next().await {
                if let turnwire_smol::Event::Refused(request) = event {
                    refused = Some(request.why);
                }
            }
            assert_eq!(refused, Some(turnwire_smol::RefusedWhy::NotTaken));
            assert!(turn.result().await.is_ok());
            drop(serving);
            codex.close().await;
        });
    });
}

#[test]
fn handlers_are_done_when_no_further_server_can_come() {
    support::bounded("handlers_are_done", || {
        let server = scripted(&Script::new());
        let mut config = turnwire_tokio::Config::default();
        config.restart = Some(turnwire_tokio::RestartPolicy::new());
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        let codex = runtime.block_on(turnwire_tokio::spawn_with(&server.command(), config)).expect("connects");
        let serving = codex.serve(turnwire_tokio::Approvals::accept_for(|_| false));
        // What ran its driver is gone, and so is whatever could run another.
        runtime.shutdown_timeout(Duration::from_secs(5));
        smol::block_on(serving);
        assert!(smol::block_on(codex.models()).expect_err("closed").is_closed());
    });
}

#[test]
fn a_turn_is_a_stream_for_who_has_the_feature() {
    use smol::stream::StreamExt;
    support::bounded("a_turn_is_a_stream", || {
        let (reader, writer) =
            crate::pipe::scripted(Script::new().turn(TurnPlan::new().text("Piece by piece.").deltas(3)));
        smol::block_on(async {
            let codex = turnwire_smol::connect(reader, writer).await.expect("connects");
            let thread = codex.thread_start(Default::default()).await.expect("a thread");
            let turn = thread.turn("Go.").await.expect("a turn");
            let pieces = turn.clone().filter_map(|event| match event {
                turnwire_smol::Event::Delta(delta) => Some(delta.text),
                _ => None,
            });
            assert_eq!(pieces.collect::<Vec<String>>().await.concat(), "Piece by piece.");
            assert!(turn.result().await.is_ok());
            codex.close().await;
        });
    });
}
