// Servers that break in ways of their own: each wait ends all the same, and nothing is left. Included once for each runtime.

use crate::support::{self, scripted, series, shell};
use rt::core::error::{Delivery, DisconnectReason, Fault, Phase};
use serde_json::json;
use std::time::{Duration, Instant};
use turnwire_testkit::scripted::{Rule, Script};

/// Short bounds, so that a wait that is one shows.
fn hasty() -> rt::Config {
    let mut config = rt::Config::default();
    config.timeouts.call = Duration::from_millis(700);
    config.timeouts.drain = Duration::from_millis(400);
    config
}

scenario! {
    fn hs_01_a_second_answer_to_initialize_is_a_diagnostic() {
        let twice = Rule::on("initialize").default_reply().raw_line("{\"id\":1,\"result\":{\"userAgent\":\"y/1.0.0\"}}");
        let server = scripted(&Script::new().rule(twice));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        assert!(wait!(codex.models()).is_ok());
        assert_eq!(codex.counters().duplicate, 1);
        assert_ne!(codex.server().expect("a server").user_agent, "y/1.0.0");
        let received = server.received();
        assert_eq!(received.iter().filter(|line| line["method"] == "initialized").count(), 1);
        wait!(codex.close());
    }
}

scenario! {
    fn fr_02_a_banner_without_an_end_of_line_and_what_a_terminal_does_not_show_hide_no_message() {
        // A title and a colour around the first answer; a banner before it; a mark of the byte order.
        for before in ["printf '\\033]0;codex\\007\\033[2m'", "printf 'Loading {config} ... '", "printf '\\357\\273\\277'"] {
            let server = shell(&format!("{before}; hello; read -r line; printf '\\033[0m{{\"id\":2,\"result\":{{\"data\":[]}}}}\\033[0m\\n'; read -r line"));
            let codex = wait!(rt::spawn_with(&server.shell_command(), hasty())).expect("connects");
            assert!(wait!(codex.models()).expect("answered").data.is_empty());
            assert_eq!((codex.counters().noise, codex.counters().malformed), (2, 0), "{before}");
            wait!(codex.close());
        }
    }
}

scenario! {
    fn a_server_that_closes_its_output_and_lives_is_over_within_the_bound_and_ended() {
        let server = shell("hello; exec 1>&-; trap '' TERM; while :; do sleep 0.05; done");
        let codex = wait!(rt::spawn_with(&server.shell_command(), hasty())).expect("connects");
        let start = Instant::now();
        let error = wait!(codex.models()).expect_err("no answer can come");
        assert!(error.is_closed() && start.elapsed() < Duration::from_secs(5), "{error}");
        assert_eq!(wait!(codex.closed()).reason(), &DisconnectReason::Eof);
        assert!(wait!(codex.models()).expect_err("closed").is_closed());
        server.assert_gone();
    }
}

scenario! {
    fn pr_02_closing_waits_for_a_server_that_outlives_its_connection() {
        // It has closed its output, and heeds neither the end of its input nor a word.
        let server = shell("hello; trap '' TERM; exec 1>&-; while :; do sleep 0.05; done");
        let mut config = hasty();
        config.timeouts.call = Duration::from_secs(20);
        let codex = wait!(rt::spawn_with(&server.shell_command(), config)).expect("connects");
        assert!(wait!(codex.models()).expect_err("no answer can come").is_closed());
        let end = wait!(codex.close());
        assert!(server.processes().is_empty(), "left: {:?}", server.processes());
        assert_eq!(end.reason(), &DisconnectReason::Eof);
        let forced = end.exit().expect("the end of the process is known").forced;
        assert_eq!(forced, rt::core::launch::Forced::Killed);
        // The same while it is not known yet that the connection is over.
        let server = shell("hello; trap '' TERM; exec 1>&-; while :; do sleep 0.05; done");
        let codex = wait!(rt::spawn_with(&server.shell_command(), hasty())).expect("connects");
        wait!(codex.close());
        assert!(server.processes().is_empty(), "left: {:?}", server.processes());
    }
}

scenario! {
    fn pr_16_a_restart_waits_until_the_server_before_is_gone() {
        // The second is refused while the first is there.
        let server = shell(
            "if mkdir \"${TURNWIRE_SCRIPT%/*}/first\" 2>/dev/null; then \
               hello; trap '' TERM; exec 1>&-; for n in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 0.1; done; mkdir \"${TURNWIRE_SCRIPT%/*}/gone\"; \
             elif test -d \"${TURNWIRE_SCRIPT%/*}/gone\"; then \
               hello; read -r line; echo '{\"id\":2,\"result\":{\"data\":[]}}'; read -r line; \
             else exit 9; fi",
        );
        let mut config = hasty();
        config.timeouts.drain = Duration::from_millis(100);
        config.timeouts.call = Duration::from_secs(20);
        config.restart = Some(rt::RestartPolicy::new().backoff(Duration::from_millis(1), Duration::from_millis(1)));
        let ladder = rt::core::launch::CloseLadder::new().eof_grace(Duration::from_secs(20));
        let codex = wait!(rt::spawn_with(&server.shell_command().close_ladder(ladder), config)).expect("connects");
        assert_eq!(wait!(codex.closed()).reason(), &DisconnectReason::Eof);
        wait!(codex.ready()).expect("the second is there");
        wait!(codex.models()).expect("the second answers");
        wait!(codex.close());
        server.assert_gone();
    }
}

scenario! {
    fn pr_02_closing_waits_for_the_servers_before_too() {
        let server = shell("hello; trap '' TERM; exec 1>&-; while :; do sleep 0.05; done");
        let mut config = hasty();
        config.restart = Some(rt::RestartPolicy::new().backoff(Duration::from_millis(1), Duration::from_millis(1)));
        let codex = wait!(rt::spawn_with(&server.shell_command(), config)).expect("connects");
        assert_eq!(wait!(codex.closed()).reason(), &DisconnectReason::Eof);
        // From here on there is another, of which nothing was asked yet.
        let _events = codex.events();
        assert_eq!(codex.generation().number(), 2);
        wait!(codex.close());
        assert!(server.processes().is_empty(), "left: {:?}", server.processes());
    }
}

scenario! {
    fn pr_16_what_a_server_gave_before_it_died_stays_with_it() {
        for _ in 0..4 {
            let dying = Script::new().rule(Rule::on("thread/start").default_reply().exit(3));
            let server = series(&[dying, Script::new()]);
            let mut config = hasty();
            config.timeouts.call = Duration::from_secs(20);
            config.restart = Some(rt::RestartPolicy::new().backoff(Duration::from_millis(1), Duration::from_millis(1)));
            let codex = wait!(rt::spawn_with(&server.series_command(), config)).expect("connects");
            let thread = wait!(codex.thread_start(rt::protocol::ThreadStart::new())).expect("the answer came");
            assert_eq!(thread.generation().number(), 1);
            // What only looks replaces nobody.
            assert_ne!(wait!(codex.closed()).reason(), &DisconnectReason::ClosedByCaller);
            assert!(codex.timings().initialize.is_some());
            assert_eq!((codex.generation().number(), server.starts()), (1, 1));
            wait!(codex.close());
        }
    }
}

scenario! {
    fn pr_02_closing_does_not_wait_for_who_holds_the_output_of_a_server_that_is_gone() {
        let server = shell("hello; setsid sleep 30 & read -r line");
        let mut config = hasty();
        config.timeouts.close = Duration::from_secs(25);
        let codex = wait!(rt::spawn_with(&server.shell_command(), config)).expect("connects");
        let start = Instant::now();
        let end = wait!(codex.close());
        assert!(start.elapsed() < Duration::from_secs(15), "it waited for the other: {:?}", start.elapsed());
        assert!(end.exit().is_some_and(|exit| exit.status.is_some()), "{end}");
        for process in server.processes() {
            let _ = std::process::Command::new("kill").args(["-9", &process]).status();
        }
        server.assert_gone();
    }
}

scenario! {
    fn pr_11_a_server_that_closes_its_input_and_lives_is_over_with_the_next_request() {
        let server = shell("hello; exec 0<&-; echo '{\"method\":\"deaf\"}'; while :; do sleep 0.05; done");
        let codex = wait!(rt::spawn_with(&server.shell_command(), hasty())).expect("connects");
        assert!(support::eventually(|| codex.counters().lines >= 2));
        let start = Instant::now();
        let error = wait!(codex.models()).expect_err("nobody reads");
        assert!(error.is_closed() && start.elapsed() < Duration::from_secs(5), "{error}");
        assert!(matches!(wait!(codex.closed()).reason(), DisconnectReason::Io(_)));
        server.assert_gone();
    }
}

scenario! {
    fn a_server_that_never_ends_its_line_holds_up_nobody_longer_than_the_deadline() {
        for endless in ["while :; do printf '{\"id\":2,'; sleep 0.01; done", "exec cat /dev/zero"] {
            let server = shell(&format!("hello; {endless}"));
            let mut config = hasty();
            config.limits.max_line = 1 << 20;
            let codex = wait!(rt::spawn_with(&server.shell_command(), config)).expect("connects");
            let start = Instant::now();
            let error = wait!(codex.models()).expect_err("no answer");
            assert!(error.is_timeout(), "{error}");
            wait!(codex.close());
            assert!(start.elapsed() < Duration::from_secs(15));
            server.assert_gone();
        }
    }
}

scenario! {
    fn a_helper_that_left_the_group_and_keeps_the_pipes_open_does_not_hold_up_the_end() {
        let server = shell("hello; exec 3<&0; setsid sleep 20 <&3 & read -r line; exit 3");
        let codex = wait!(rt::spawn_with(&server.shell_command(), hasty())).expect("connects");
        let start = Instant::now();
        let error = wait!(codex.models()).expect_err("dead");
        let Fault::Disconnected { delivery: Delivery::Sent, cause } = &error.fault else { panic!("{error}") };
        assert_eq!(cause.exit().and_then(|exit| exit.status).and_then(|status| status.code), Some(3), "{error}");
        assert!(start.elapsed() < Duration::from_secs(10));
        assert!(error.to_string().contains("after its start"), "{error}");
        drop(codex);
        // Nothing of ours may end it, so this test does.
        server.processes().iter().for_each(|pid| support::kill(pid));
    }
}

scenario! {
    fn pr_16_a_server_that_dies_in_the_handshake_of_a_restart_is_an_end_for_those_who_wait_and_is_replaced_in_its_turn() {
        let scripts = [Rule::on("model/list").exit(5), Rule::on("initialize").exit(6)].map(|rule| Script::new().rule(rule));
        let [first, second] = scripts;
        let server = series(&[first, second, Script::new()]);
        let mut config = rt::Config::default();
        config.restart = Some(rt::RestartPolicy::new().backoff(Duration::from_millis(20), Duration::from_millis(20)));
        let codex = wait!(rt::spawn_with(&server.series_command(), config)).expect("connects");
        for code in [5, 6] {
            let error = wait!(codex.models()).expect_err("dies");
            let Fault::Disconnected { cause, .. } = &error.fault else { panic!("{error}") };
            assert_eq!(cause.exit().and_then(|exit| exit.status).and_then(|status| status.code), Some(code), "{error}");
        }
        assert!(wait!(codex.models()).is_ok());
        assert_eq!((server.starts(), codex.generation().number()), (3, 3));
        wait!(codex.close());
    }
}

scenario! {
    fn pr_16_who_waits_for_a_restart_waits_no_longer_than_the_own_deadline() {
        let server = series(&[Script::new().rule(Rule::on("model/list").exit(5))]);
        let mut config = hasty();
        config.restart = Some(rt::RestartPolicy::new().backoff(Duration::from_secs(20), Duration::from_secs(20)));
        let codex = wait!(rt::spawn_with(&server.series_command(), config)).expect("connects");
        for _ in 0..2 {
            assert!(wait!(codex.models()).expect_err("dies").is_closed());
        }
        let start = Instant::now();
        let error = wait!(codex.models()).expect_err("the next server is not due yet");
        assert!(matches!(error.fault, Fault::TimedOut { delivery: Delivery::NotSent, .. }), "{error}");
        assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
        wait!(codex.close());
        assert_eq!(server.starts(), 2, "and none is started for nobody");
    }
}

scenario! {
    fn a_program_that_is_not_found_or_not_started_in_time_is_a_timeout_of_that_phase() {
        let server = scripted(&Script::new());
        let mut config = rt::Config::default();
        config.timeouts.resolve = Duration::ZERO;
        // What is found before anybody looks at the time is found.
        let mut found = 0;
        let error = loop {
            match wait!(rt::spawn_with(&server.command(), config.clone())) {
                Ok(codex) => drop(wait!(codex.close())),
                Err(error) => break error,
            }
            found += 1;
            assert!(found < 50, "it is always found in no time at all");
        };
        assert!(error.is_timeout() && error.phase() == Phase::Resolve, "{error}");
        assert!(error.to_string().contains("was not found within"), "{error}");

        // The system starts nothing that somebody is writing, and that is tried again for two tenths of a second.
        let program = server.path("busy");
        std::fs::copy("/bin/true", &program).expect("a copy");
        let held = std::fs::OpenOptions::new().append(true).open(&program).expect("opens");
        let mut config = rt::Config::default();
        config.timeouts.spawn = Duration::from_millis(20);
        let error = wait!(rt::spawn_with(&server.command().program(&program), config)).expect_err("too late");
        assert!(matches!(&error, rt::ConnectError::TimedOut { phase: Phase::Spawn, .. }), "{error}");
        assert!(error.is_timeout() && error.phase() == Phase::Spawn, "{error}");
        drop(held);

        // A call of a lazy session hears it too.
        let mut config = rt::Config::default();
        config.timeouts.resolve = Duration::ZERO;
        let error = loop {
            let codex = rt::lazy(&server.command(), config.clone());
            match wait!(codex.models()) {
                Ok(_) => drop(wait!(codex.close())),
                Err(error) => break error,
            }
            found += 1;
            assert!(found < 100, "it is always found in no time at all");
        };
        let Fault::Disconnected { delivery: Delivery::NotSent, cause } = &error.fault else { panic!("{error}") };
        assert!(matches!(cause.reason(), DisconnectReason::LaunchTimedOut { phase: Phase::Resolve, .. }), "{error}");
        server.assert_gone();
    }
}

scenario! {
    fn a_request_of_the_server_that_is_longer_than_a_line_may_be_is_refused_and_not_left_open() {
        let long = format!("{{\"method\":\"item/tool/call\",\"id\":7,\"params\":{{\"text\":\"{}\"}}}}", "x".repeat(300_000));
        let server = scripted(&Script::new().rule(Rule::on("model/list").raw_line(long.as_bytes()).default_reply()));
        let mut config = rt::Config::default();
        config.limits.max_line = 64 * 1024;
        let codex = wait!(rt::spawn_with(&server.command(), config)).expect("connects");
        assert!(wait!(codex.models()).is_ok());
        let refused = || server.received().into_iter().any(|line| line["id"] == json!(7) && line.get("method").is_none());
        assert!(support::eventually(refused));
        assert_eq!(codex.counters().oversized, 1);
        wait!(codex.close());
    }
}
