//! Drivers that are dropped, runtimes that end, callers that give up: what only one runtime can do.

use crate::{
    pipe,
    support::{self, Scripted, scripted},
};
use serde_json::json;
use std::{
    future::{Future, poll_fn},
    io::{self, Read},
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};
use turnwire_blocking::{Config, ConnectError, DisconnectReason};
use turnwire_testkit::scripted::{Rule, Script, TurnPlan};

/// Polls a future once and drops it.
fn begin_and_give_up<F: Future>(future: F) {
    let mut future = pin!(future);
    assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

#[test]
fn hs_08_the_caller_who_started_the_server_may_give_up_and_the_others_go_on() {
    support::bounded("hs_08_the_caller_who_started_the_server_may_give_up", || {
        let server = scripted(&Script::new().reply_delay(50));
        smol::block_on(async {
            let codex = turnwire_smol::lazy(&server.command(), Config::default());
            begin_and_give_up(codex.models());
            begin_and_give_up(codex.ready());
            assert!(codex.request_raw("thread/loaded/list", json!({})).await.is_ok());
            codex.close().await;
        });
        let received = server.received();
        let methods: Vec<_> = received.iter().filter_map(|line| line["method"].as_str()).collect();
        assert_eq!(methods, ["initialize", "initialized", "thread/loaded/list"], "what was given up is not sent");

        let server = scripted(&Script::new().reply_delay(50));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let codex = turnwire_tokio::lazy(&server.command(), Config::default());
            begin_and_give_up(codex.models());
            assert!(codex.models().await.is_ok());
            codex.close().await;
        });
        assert_eq!(server.received_of("initialize", 1).len(), 1);
    });
}

#[test]
fn hs_08_without_a_tokio_runtime_the_first_call_fails_typed() {
    let server = scripted(&Script::new());
    let codex = turnwire_tokio::lazy(&server.command(), Config::default());
    let error = smol::block_on(codex.ready()).expect_err("no runtime");
    assert!(matches!(&error, ConnectError::Wire(_)) && error.to_string().contains("no tokio runtime"), "{error}");
    assert!(smol::block_on(codex.models()).expect_err("no runtime").is_closed());
    assert!(server.processes().is_empty());
    // And over a reader and a writer.
    let error = smol::block_on(turnwire_tokio::connect(tokio::io::empty(), tokio::io::sink())).expect_err("no runtime");
    assert!(matches!(&error, ConnectError::Wire(_)) && error.to_string().contains("no tokio runtime"), "{error}");
}

#[test]
fn ad_10_a_lazy_session_whose_runtime_is_gone_fails_typed_and_starts_nothing() {
    support::bounded("ad_10_a_lazy_session_whose_runtime_is_gone", || {
        let server = scripted(&Script::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let codex = runtime.block_on(async { turnwire_tokio::lazy(&server.command(), Config::default()) });
        drop(runtime);
        let error = smol::block_on(codex.models()).expect_err("nothing drives it");
        assert!(error.is_closed(), "{error}");
        assert_eq!(smol::block_on(codex.close()).reason(), &DisconnectReason::DriverDropped);
        assert!(server.processes().is_empty());
    });
}

#[test]
fn ad_09_whoever_waits_on_tokio_when_its_runtime_ends_fails_with_closed() {
    support::bounded("ad_09_whoever_waits_on_tokio", || {
        let server = scripted(&Script::new().rule(Rule::on("mute")).turn(TurnPlan::new().text("Half").hold()));
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        let (codex, turn) = runtime.block_on(async {
            let codex = turnwire_tokio::spawn(&server.command()).await.expect("connects");
            let thread = codex.thread_start(Default::default()).await.expect("a thread");
            let turn = thread.turn("Go.").await.expect("a turn");
            (codex, turn)
        });
        let waiting = [
            std::thread::spawn({
                let turn = turn.clone();
                move || smol::block_on(turn.result()).expect_err("lost").is_closed()
            }),
            std::thread::spawn({
                let codex = codex.clone();
                move || smol::block_on(codex.request_raw("mute", json!({}))).expect_err("lost").is_closed()
            }),
            std::thread::spawn({
                let codex = codex.clone();
                move || matches!(smol::block_on(codex.closed()).reason(), DisconnectReason::DriverDropped)
            }),
        ];
        server.received_of("mute", 1);
        runtime.shutdown_timeout(Duration::from_secs(5));
        for waiter in waiting {
            assert!(waiter.join().expect("no panic"));
        }
        // Though the handles live on.
        server.assert_gone();
        drop((codex, turn));
    });
}

#[test]
fn ad_10_a_smol_executor_that_is_dropped_ends_its_sessions_typed() {
    support::bounded("ad_10_a_smol_executor_that_is_dropped", || {
        let (reader, writer) = pipe::scripted(Script::new().turn(TurnPlan::new().text("Half").hold()));
        let executor = smol::Executor::new();
        let (codex, driver) = turnwire_smol::prepare(reader, writer, Config::default());
        executor.spawn(driver).detach();
        let turn = smol::block_on(executor.run(async {
            let thread = codex.thread_start(Default::default()).await.expect("a thread");
            thread.turn("Go.").await.expect("a turn")
        }));
        drop(executor);
        assert!(smol::block_on(turn.result()).expect_err("lost").is_closed());
        assert!(smol::block_on(codex.models()).expect_err("closed").is_closed());
        assert_eq!(smol::block_on(codex.close()).reason(), &DisconnectReason::DriverDropped);
    });
}

/// Polls a future so often, with a pause after each time, and drops it; what it came to, if it was done before.
async fn give_up_after<F: Future, P: Future>(future: F, polls: usize, pause: impl Fn() -> P) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..polls {
        if let Poll::Ready(output) = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await {
            return Some(output);
        }
        pause().await;
    }
    None
}

/// Before the first poll, while the program is looked for and started, during the handshake, and about when it is done.
const POLLS: [usize; 13] = [0, 1, 2, 3, 4, 5, 6, 8, 11, 15, 20, 30, 45];

const BETWEEN_POLLS: Duration = Duration::from_millis(1);

/// A server that takes its time for the handshake.
fn slow_to_answer() -> Scripted {
    scripted(&Script::new().rule(Rule::on("initialize").delay(20).default_reply()))
}

/// Asserts that none of these servers is left, nor comes yet: a start that was under way may have been let go of before there
/// was a process.
fn assert_all_gone(servers: &[Scripted]) {
    servers.iter().for_each(Scripted::assert_gone);
    std::thread::sleep(Duration::from_millis(300));
    servers.iter().for_each(Scripted::assert_gone);
    assert!(servers[0].received().is_empty(), "what was never polled starts nothing");
}

#[test]
fn pr_04_a_spawn_on_tokio_that_is_dropped_at_any_moment_leaves_no_process() {
    support::bounded("pr_04_a_spawn_on_tokio_that_is_dropped", || {
        let several = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let one = tokio::runtime::Builder::new_current_thread().enable_all().build();
        for runtime in [several.expect("a runtime"), one.expect("a runtime")] {
            let servers: Vec<Scripted> = POLLS.iter().map(|_| slow_to_answer()).collect();
            let pause = || tokio::time::sleep(BETWEEN_POLLS);
            let servers = runtime.block_on(async {
                for (server, polls) in servers.iter().zip(POLLS) {
                    let command = server.command();
                    // What was done before is dropped as well.
                    drop(give_up_after(turnwire_tokio::spawn(&command), polls, pause).await);
                }
                // The runtime goes on meanwhile.
                let looking = tokio::task::spawn_blocking(move || {
                    assert_all_gone(&servers);
                    servers
                });
                looking.await.expect("no panic")
            });
            // A process that waits for its handshake is ended too.
            let mute = scripted(&Script::new().rule(Rule::on("initialize")));
            runtime.block_on(async {
                let command = mute.command();
                let mut spawning = Box::pin(turnwire_tokio::spawn(&command));
                while mute.received().is_empty() {
                    assert!(give_up_after(spawning.as_mut(), 1, pause).await.is_none(), "it is never answered");
                }
                assert_eq!(mute.processes().len(), 1);
                drop(spawning);
                tokio::task::spawn_blocking(move || mute.assert_gone()).await.expect("no panic");
            });
            drop(servers);
        }
    });
}

#[test]
fn pr_04_a_spawn_on_smol_that_is_dropped_at_any_moment_leaves_no_process() {
    support::bounded("pr_04_a_spawn_on_smol_that_is_dropped", || {
        let servers: Vec<Scripted> = POLLS.iter().map(|_| slow_to_answer()).collect();
        let mute = scripted(&Script::new().rule(Rule::on("initialize")));
        let pause = || async {
            smol::Timer::after(BETWEEN_POLLS).await;
        };
        smol::block_on(async {
            for (server, polls) in servers.iter().zip(POLLS) {
                let command = server.command();
                drop(give_up_after(turnwire_smol::spawn(&command), polls, pause).await);
            }
            let command = mute.command();
            let mut spawning = Box::pin(turnwire_smol::spawn(&command));
            while mute.received().is_empty() {
                assert!(give_up_after(spawning.as_mut(), 1, pause).await.is_none(), "it is never answered");
            }
            assert_eq!(mute.processes().len(), 1);
        });
        mute.assert_gone();
        assert_all_gone(&servers);
    });
}

#[test]
fn ad_09_a_connect_on_tokio_that_is_dropped_at_any_moment_ends_the_connection() {
    support::bounded("ad_09_a_connect_on_tokio_that_is_dropped", || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            for polls in 0..5 {
                let (ours, mut peer) = tokio::io::duplex(4096);
                let (reader, writer) = tokio::io::split(ours);
                let connecting = turnwire_tokio::connect(reader, writer);
                let outcome = give_up_after(connecting, polls, || tokio::time::sleep(BETWEEN_POLLS)).await;
                assert!(outcome.is_none(), "nobody answers");
                let mut said = String::new();
                let over = tokio::io::AsyncReadExt::read_to_string(&mut peer, &mut said);
                tokio::time::timeout(support::PATIENCE, over).await.expect("it ends").expect("UTF-8");
                assert_eq!(said.contains("initialize"), polls > 0, "{polls}: {said}");
            }
        });
    });
}

#[test]
fn ad_09_a_connect_on_smol_that_is_dropped_at_any_moment_ends_the_connection() {
    use smol::{io::AsyncReadExt, net::unix::UnixStream};
    support::bounded("ad_09_a_connect_on_smol_that_is_dropped", || {
        let pause = || async {
            smol::Timer::after(BETWEEN_POLLS).await;
        };
        smol::block_on(async {
            for polls in 0..5 {
                let (ours, mut peer) = UnixStream::pair().expect("a pair");
                let connecting = turnwire_smol::connect(ours.clone(), ours);
                assert!(give_up_after(connecting, polls, pause).await.is_none(), "nobody answers");
                let mut said = String::new();
                // What hangs here is ended by the bound of the test.
                peer.read_to_string(&mut said).await.expect("UTF-8");
                assert!(polls > 0 || said.is_empty(), "what was never polled says nothing: {said}");
            }
            // And in the middle of the handshake.
            let (ours, mut peer) = UnixStream::pair().expect("a pair");
            let mut connecting = Box::pin(turnwire_smol::connect(ours.clone(), ours));
            let mut said = Vec::new();
            while !said.ends_with(b"\n") {
                assert!(give_up_after(connecting.as_mut(), 1, pause).await.is_none(), "nobody answers");
                let mut piece = [0; 1024];
                let polled = smol::future::poll_once(peer.read(&mut piece)).await;
                said.extend(&piece[..polled.map_or(0, |count| count.expect("it can be read"))]);
            }
            drop(connecting);
            let mut rest = String::new();
            peer.read_to_string(&mut rest).await.expect("it ends");
            assert!(String::from_utf8_lossy(&said).contains("initialize") && rest.is_empty(), "{rest}");
        });
    });
}

/// Reads what a scripted server says, and panics in the middle of it.
struct Panicking<R>(R, usize);

impl<R: Read> Read for Panicking<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        assert!(self.1 > 0, "a reader of the application's panics, as this test wants it");
        let count = self.0.read(buffer)?;
        self.1 = self.1.saturating_sub(count);
        Ok(count)
    }
}

#[test]
fn ad_09_a_thread_that_panics_fails_everybody_who_waits() {
    support::bounded("ad_09_a_thread_that_panics", || {
        let hold = Script::new().turn(TurnPlan::new().text("word ".repeat(500)).deltas(500).hold());
        let (reader, writer, _serving) = turnwire_testkit::scripted::serve_duplex(hold);
        let codex = turnwire_blocking::connect(Panicking(reader, 6_000), writer).expect("connects");
        let thread = codex.thread_start(Default::default()).expect("a thread");
        assert!(thread.run("Go.").expect_err("lost").is_closed());
        assert!(codex.models().expect_err("closed").is_closed());
        assert!(matches!(codex.closed().reason(), DisconnectReason::Io(_)), "{}", codex.closed());
    });
}

/// Runs the scenarios for the real server on older versions of it.
///
/// `TURNWIRE_REQUIRE_VERSIONS` names the versions, parted by spaces. They are looked for where `real.rs` says.
#[test]
fn lv_03_the_real_lane_holds_on_each_version_that_is_required() {
    const FORK: &str = "its forks have the approval policy of the configuration instead of the thread's";
    /// What an old server does not have, and so what is not asked of it: version, test, why.
    const DIFFERENCES: [(&str, &str, &str); 4] = [
        (
            "0.133.0",
            "pr_16_a_real_server_that_is_killed",
            "its turns bear no mark of the client's, so a start that was sent is never made again",
        ),
        (
            "0.133.0",
            "sr_08_an_mcp_tool_is_approved_as_one",
            "it offers the tools of MCP servers to the model under other names than the scripted model calls",
        ),
        ("0.133.0", "sb_05_without_approval_arguments", FORK),
        ("0.144.4", "sb_05_without_approval_arguments", FORK),
    ];

    let versions = std::env::var("TURNWIRE_REQUIRE_VERSIONS").unwrap_or_default();
    let only = std::env::var("TURNWIRE_LANE").unwrap_or_else(|_| "::real::".into());
    for version in versions.split_whitespace() {
        let program = turnwire_testkit::real::find_version(version).unwrap_or_else(|missing| panic!("{missing}"));
        let mut command = std::process::Command::new(std::env::current_exe().expect("this program"));
        command.args([&only, "--ignored"]).env("TURNWIRE_CODEX", program).env("TURNWIRE_REQUIRE_REAL", "1");
        command.env_remove("TURNWIRE_REQUIRE_VERSIONS");
        for (of, test, _) in DIFFERENCES.iter().filter(|(of, ..)| *of == version) {
            assert_eq!(*of, version);
            command.args(["--skip", test]);
        }
        let output = command.output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout);
        let passed = said.lines().filter(|line| line.starts_with("test ") && line.ends_with(" ok")).count();
        let failed: Vec<&str> = said.lines().filter(|line| line.ends_with("FAILED")).collect();
        // What they said of it, without the stack.
        let why: Vec<&str> =
            said.lines().skip_while(|line| *line != "failures:").filter(|line| !line.starts_with("  ")).collect();
        assert!(
            output.status.success() && passed >= 150,
            "{version}: {passed} passed; {failed:#?}\n{}",
            why.join("\n")
        );
    }
    if versions.is_empty() {
        use std::io::Write;
        drop(io::stderr().write_all(b"SKIPPED lv_03: TURNWIRE_REQUIRE_VERSIONS names no version\n"));
    }
}

#[test]
fn pr_04_a_session_that_is_dropped_beside_its_runtime_ends_its_server_though_nobody_polls() {
    support::bounded("pr_04_a_session_that_is_dropped_beside_its_runtime", || {
        let server = scripted(&Script::new());
        let ladder = turnwire_blocking::core::launch::CloseLadder::new().eof_grace(Duration::from_millis(100));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let codex = runtime.block_on(turnwire_tokio::spawn(&server.command().close_ladder(ladder))).expect("connects");
        drop(codex);
        // Nobody polls the driver from here on, which holds the server's input open.
        server.assert_gone();
        drop(runtime);
    });
}

#[test]
fn sr_10_what_a_handler_has_that_is_taken_back_while_it_begins_is_refused_at_once() {
    support::bounded("sr_10_what_a_handler_has_that_is_taken_back", || {
        smol::block_on(async {
            let plan = TurnPlan::new().command("ls", "", 0).with_approval().text("Done.");
            let server = scripted(&Script::new().turn(plan));
            let codex = turnwire_smol::spawn(&server.command()).await.expect("connects");
            let stop = Arc::new(Mutex::new(None::<turnwire_smol::StopServing>));
            let taken_back = Arc::clone(&stop);
            let handlers = turnwire_smol::Handlers::new().command(move |request| {
                // Before the future that is to answer is polled.
                taken_back.lock().expect("a lock").take().expect("asked once").stop();
                async move {
                    std::future::pending::<()>().await;
                    drop(request);
                    Ok::<(), String>(())
                }
            });
            let serving = codex.serve(handlers);
            *stop.lock().expect("a lock") = Some(serving.stopper());
            smol::spawn(serving).detach();
            let thread = codex.thread_start(turnwire_smol::protocol::ThreadStart::new()).await.expect("a thread");
            let request = turnwire_smol::TurnRequest::new("Go.").deadline(Duration::from_secs(20));
            let result = thread.run(request).await.expect("it does not wait for the answer");
            assert_eq!(result.final_response.as_deref(), Some("Done."));
            codex.close().await;
        });
    });
}
