// Scenarios against the real server with a scripted model behind it: turns: what they are started with, how they end, what they come to. Included once for each runtime.

use crate::support::{PATIENCE, real_server};
use rt::{
    DropPolicy, ExternalMessage, Input, InputError, InterruptOutcome, State, SteerOrStart, TurnError, TurnRequest, WhenBusy,
    core::turn::TurnOptions,
    protocol::{
        ReviewStart, ReviewTarget, ThreadCompactStart, ThreadGoalGet, ThreadGoalSet, ThreadGoalStatus, ThreadItem,
        ThreadResume, TurnStart, UserInput,
    },
};
use std::time::{Duration, Instant};
use turnwire_testkit::model::{ExecCommand, GATE_BOUND, Gate, Message, Reply, Usage};

/// Whether the server is older than this: all that there are have versions of one length.
fn is_older(codex: &rt::Codex, than: &str) -> bool {
    codex.server().and_then(|server| server.version).is_some_and(|version| version.as_str() < than)
}

real_scenario! {
    fn tu_15_a_silent_model_is_an_idle_time_out_and_the_thread_goes_on_on_the_real_server() {
        let Some(server) = real_server("tu_15_a_silent_model_is_an_idle_time_out") else { return };
        let gate = Gate::new();
        server.model.push(Reply::new().message(Message::new("Thinking.")).hold(&gate));
        server.model.push(Reply::text("Here again."));
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        let limit = Duration::from_secs(2);
        let error = wait!(thread.run(TurnRequest::new("Think.").idle_deadline(limit))).expect_err("silence");
        let TurnError::IdleTimedOut { age, report, .. } = &error else { panic!("{error}") };
        assert!(*age >= limit);
        assert_eq!(report.final_response.as_deref(), Some("Thinking."));
        let next = wait!(thread.run(TurnRequest::new("And now?").when_busy(WhenBusy::Queue))).expect("completed");
        assert_eq!(next.final_response.as_deref(), Some("Here again."));
        gate.open();
        wait!(codex.close());
    }
}

real_scenario! {
    fn tu_15_a_command_that_is_quiet_for_longer_than_the_idle_deadline_is_waited_for_on_the_real_server() {
        let Some(server) = real_server("tu_15_a_command_that_is_quiet_is_waited_for") else { return };
        server.model.push(Reply::new().exec(ExecCommand::new("sleep 4; echo done").yield_time_ms(20_000)));
        server.model.push(Reply::text("It is done."));
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        let request = TurnRequest::new("Sleep.").idle_deadline(Duration::from_secs(2));
        assert_eq!(wait!(thread.run(request)).expect("completed").final_response.as_deref(), Some("It is done."));
        wait!(codex.close());
    }
}

real_scenario! {
    fn tu_17_a_dropped_turn_is_interrupted_on_the_real_server_or_runs_on_and_is_taken_up_again() {
        let Some(server) = real_server("tu_17_a_dropped_turn_is_interrupted") else { return };
        let (first, second) = (Gate::new(), Gate::new());
        server.model.push_for("for ever", Reply::new().message(Message::new("One.")).hold(&first));
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        let turn = wait!(thread.turn(TurnRequest::new("Go on for ever.").on_drop(DropPolicy::Interrupt))).expect("a turn");
        // At once, so most likely before the server would take an interrupt.
        drop(turn);
        let start = Instant::now();
        server.model.push_for("Stay", Reply::new().message(Message::new("Two.")).hold(&second));
        let left = wait!(thread.turn(TurnRequest::new("Stay.").when_busy(WhenBusy::Queue))).expect("it runs again");
        assert!(second.wait_reached(PATIENCE), "the model is asked");
        assert!(start.elapsed() < GATE_BOUND / 2, "the first was interrupted, and did not end when the model let go");
        let id = left.id().expect("named");
        drop(left);
        assert_eq!(thread.running_turn(), Some(id.clone()));
        let again = thread.attach(id.clone()).expect("it runs still");
        second.open();
        let result = wait!(again.result()).expect("completed");
        assert_eq!((result.turn_id, result.status), (Some(id), State::Completed));
        assert!(result.usage.is_none_or(|usage| usage.is_lower_bound));
        first.open();
        wait!(codex.close());
    }
}

real_scenario! {
    fn st_16_starts_that_wait_run_one_after_the_other_on_the_real_server() {
        let Some(server) = real_server("st_16_starts_that_wait_run_one_after_the_other") else { return };
        let gate = Gate::new();
        server.model.push_for("number 0", Reply::new().message(Message::new("Answer 0.")).hold(&gate));
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        let first = wait!(thread.turn("number 0")).expect("a turn");
        assert!(matches!(wait!(thread.turn("no")), Err(TurnError::Busy(_))));
        let mut waiting: Vec<Joined<rt::TurnResult>> = Vec::new();
        for n in 1..4 {
            waiting.push(go!([thread] {
                let request = TurnRequest::new(format!("number {n}")).when_busy(WhenBusy::Queue);
                wait!(thread.run(request)).expect("completed")
            }));
            assert!(crate::support::eventually(|| thread.queued_turns() == n));
        }
        assert!(gate.wait_reached(PATIENCE));
        gate.open();
        let mut ids = vec![wait!(first.result()).expect("completed").turn_id];
        for handle in waiting {
            let result = join!(handle);
            assert!(!result.joined);
            ids.push(result.turn_id);
        }
        ids.dedup();
        assert_eq!(ids.len(), 4, "a turn for each: {ids:?}");
        let asked: Vec<String> = server.model.requests().iter().map(|request| request.last_text().to_string()).collect();
        assert_eq!(asked, ["number 0", "number 1", "number 2", "number 3"]);
        wait!(codex.close());
    }
}

real_scenario! {
    fn st_16_a_turn_that_was_not_started_by_the_handles_makes_the_thread_busy_and_can_be_joined_on_the_real_server() {
        let Some(server) = real_server("st_16_a_turn_of_others_makes_the_thread_busy") else { return };
        let gate = Gate::new();
        server.model.push(Reply::new().message(Message::new("For somebody.")).hold(&gate));
        server.model.push(Reply::text("For both."));
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        let mut turns = thread.turns();
        let start = TurnStart::new(thread.id().clone(), [UserInput::text("Somebody asks.")]);
        let theirs = wait!(codex.request(start)).expect("started").turn.id;
        assert!(gate.wait_reached(PATIENCE));
        let followed = wait!(turns.next()).expect("it is told of");
        assert_eq!(followed.id().as_ref(), Some(&theirs));
        drop(followed);
        drop(turns);
        assert!(matches!(wait!(thread.turn("no")), Err(TurnError::Busy(_))));
        let waiting = go!([thread] wait!(thread.run(TurnRequest::new("Later.").when_busy(WhenBusy::Queue))));
        assert!(crate::support::eventually(|| thread.queued_turns() == 1));
        gate.open();
        assert!(join!(waiting).expect("completed").final_response.is_some());
        wait!(codex.close());
    }
}

real_scenario! {
    fn a_start_that_the_real_server_puts_into_a_running_turn_says_that_it_joined_by_whatever_name() {
        let Some(server) = real_server("a_start_that_the_real_server_puts_into_a_running_turn") else { return };
        let gate = Gate::new();
        server.model.push(Reply::new().message(Message::new("For somebody.")).hold(&gate));
        server.model.push(Reply::text("For both."));
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        let start = TurnStart::new(thread.id().clone(), [UserInput::text("Somebody asks.")]);
        let theirs = wait!(codex.request(start)).expect("started").turn.id;
        assert!(gate.wait_reached(PATIENCE));
        let ours = wait!(thread.turn(TurnRequest::new("And so do we.").when_busy(WhenBusy::Join))).expect("taken");
        // Old ones answer with a name of which nothing is ever heard: 0.144.4 still does, 0.149.0 does not.
        let is_dead = ours.id().as_ref() != Some(&theirs);
        assert!(is_dead || !is_older(&codex, "0.144.5"), "an old server named the turn that runs");
        assert!(!is_dead || is_older(&codex, "0.154.0"), "a newer server named a turn that never was");
        gate.open();
        let result = wait!(ours.result()).expect("it ends, though its name may have been a dead one");
        assert_eq!((result.turn_id.as_ref(), result.joined), (Some(&theirs), true));
        assert_eq!(result.final_response.as_deref(), Some("For both."));
        assert!(ours.has_joined());
        wait!(codex.close());
    }
}

real_scenario! {
    fn stopping_a_thread_of_the_real_server_pauses_its_goal_and_nothing_follows() {
        let Some(server) = real_server("stopping_a_thread_of_the_real_server_pauses_its_goal") else { return };
        let gate = Gate::new();
        server.model.set_default(Reply::new().message(Message::new("On my way.")).hold(&gate));
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        let mut turns = thread.turns();
        let goal = ThreadGoalSet::new(thread.id().clone()).objective("Count the stars.").status(ThreadGoalStatus::Active);
        wait!(codex.request(goal)).expect("set");
        let turn = wait!(turns.next()).expect("a turn of the goal's");
        let stopped = wait!(thread.stop()).expect("stops");
        assert!(stopped.goal_paused);
        assert_eq!((stopped.turn, stopped.outcome), (turn.id(), InterruptOutcome::Acknowledged));
        assert_eq!(wait!(turn.result()).expect("no error").status, State::Interrupted);
        let goal = wait!(codex.request(ThreadGoalGet::new(thread.id().clone()))).expect("answered").goal.expect("a goal");
        assert_eq!(goal.status, ThreadGoalStatus::Paused);
        gate.open();
        assert_eq!(wait!(thread.run("Hello?")).expect("it is free").status, State::Completed);
        // An ephemeral thread can have no goal, and where nothing runs nothing is to be stopped.
        let ephemeral = wait!(codex.thread_start(server.thread_start().ephemeral(true))).expect("a thread");
        let stopped = wait!(ephemeral.stop()).expect("stops");
        assert_eq!((stopped.turn, stopped.goal_paused), (None, false));
        wait!(codex.close());
    }
}

real_scenario! {
    fn st_11_a_turns_interrupt_that_meets_another_turn_of_the_real_server_names_it() {
        let Some(server) = real_server("st_11_a_turns_interrupt_that_meets_another_turn") else { return };
        let gate = Gate::new();
        server.model.push(Reply::new().message(Message::new("Working.")).hold(&gate));
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        // It is not known that this one is not the one that runs.
        let wrong = thread.attach("01890000-0000-7000-8000-000000000000").expect("nothing runs that is known");
        let start = TurnStart::new(thread.id().clone(), [UserInput::text("Go.")]);
        let right = wait!(codex.request(start)).expect("started").turn.id;
        assert!(gate.wait_reached(PATIENCE));
        if !wrong.state().is_end() {
            let error = wait!(wrong.interrupt()).expect_err("another runs");
            assert!(matches!(&error.fault, rt::Fault::OtherTurn { actual, .. } if *actual == right), "{error}");
        }
        let stopped = wait!(thread.stop()).expect("stops");
        assert_eq!((stopped.turn, stopped.outcome), (Some(right), InterruptOutcome::Acknowledged));
        gate.open();
        wait!(codex.close());
    }
}

real_scenario! {
    fn steer_or_start_on_the_real_server_starts_and_then_steers() {
        let Some(server) = real_server("steer_or_start_on_the_real_server") else { return };
        let gate = Gate::new();
        server.model.push(Reply::new().message(Message::new("Thinking.")).hold(&gate));
        server.model.push(Reply::text("Both, then."));
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        let SteerOrStart::Started(turn) = wait!(thread.steer_or_start("This.")).expect("starts") else { panic!("idle") };
        assert!(gate.wait_reached(PATIENCE));
        let SteerOrStart::Steered(id) = wait!(thread.steer_or_start("And that.")).expect("steers") else { panic!("busy") };
        assert_eq!(Some(id), turn.id());
        gate.open();
        assert_eq!(wait!(turn.result()).expect("completed").final_response.as_deref(), Some("Both, then."));
        let requests = server.model.requests();
        assert_eq!(requests.len(), 2);
        let times = requests[1].texts().iter().filter(|text| **text == "And that.").count();
        assert_eq!(times, 1, "the input arrives once");
        wait!(codex.close());
    }
}

real_scenario! {
    fn in_11_three_calls_a_compaction_and_a_resume_are_billed_to_their_own_turns_on_the_real_server() {
        let Some(server) = real_server("in_11_three_calls_a_compaction_and_a_resume") else { return };
        let usage = |n: u64| Usage { input: 10 * n, cached_input: 4 * n, output: 2 * n, reasoning_output: n };
        for n in 1..=2 {
            server.model.push(Reply::new().exec(ExecCommand::new("true")).usage(usage(n)));
        }
        server.model.push(Reply::text("Done.").usage(usage(3)));
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        let used = wait!(thread.run("Three calls.")).expect("completed").usage.expect("reported");
        assert_eq!((used.input_tokens, used.cached_input_tokens, used.output_tokens, used.reports), (60, 24, 12, 3));
        assert_eq!((used.total_tokens, used.is_lower_bound), (72, false));
        // A compaction is a turn that nobody started.
        let mut turns = thread.turns();
        server.model.push(Reply::text("A summary.").usage(usage(5)));
        wait!(codex.request(ThreadCompactStart::new(thread.id().clone()))).expect("begun");
        let compaction = wait!(turns.next()).expect("a turn");
        let used = wait!(compaction.result()).expect("completed").usage.expect("reported");
        assert_eq!((used.input_tokens, used.output_tokens, used.is_lower_bound), (50, 10, false));
        server.model.push(Reply::text("After it.").usage(usage(1)));
        let request = TurnRequest::new("Go on.").when_busy(WhenBusy::Queue);
        let used = wait!(thread.run(request)).expect("completed").usage.expect("reported");
        assert_eq!((used.input_tokens, used.total_tokens, used.reports), (10, 12, 1));
        wait!(codex.close());
        // Another process tells what the thread had used before.
        server.model.push(Reply::text("Resumed.").usage(usage(2)));
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_resume(ThreadResume::new(thread.id().clone()))).expect("resumes").thread;
        let used = wait!(thread.run("Once more.")).expect("completed").usage.expect("reported");
        assert_eq!((used.input_tokens, used.total_tokens, used.reports, used.is_lower_bound), (20, 24, 1, false));
        wait!(codex.close());
    }
}

real_scenario! {
    fn in_13_a_failed_turn_of_the_real_server_has_no_usage() {
        let Some(server) = real_server("in_13_a_failed_turn_of_the_real_server_has_no_usage") else { return };
        server.model.push(Reply::http_error(400, "bad_request", "no such thing"));
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        let error = wait!(thread.run("Fail.")).expect_err("failed");
        let TurnError::Failed(report) = &error else { panic!("{error}") };
        assert!(report.usage.is_none(), "none, not zero");
        assert!(report.error_info().is_some() && report.http_status().is_none());
        server.model.set_default(Reply::http(503, "unavailable"));
        let error = wait!(thread.run("Fail again.")).expect_err("failed");
        let TurnError::Failed(report) = &error else { panic!("{error}") };
        // Older ones say it in their text only.
        match report.http_status() {
            Some(status) => assert!(status == 503 && !is_older(&codex, "0.154.1"), "{error}"),
            None => assert!(is_older(&codex, "0.163.0"), "{error}"),
        }
        wait!(codex.close());
    }
}

real_scenario! {
    fn what_a_background_command_of_the_real_server_says_after_the_end_is_for_the_thread() {
        let Some(server) = real_server("what_a_background_command_says_after_the_end") else { return };
        let command = ExecCommand::new("sleep 3; echo late").yield_time_ms(300);
        server.model.push(Reply::new().exec(command));
        server.model.push(Reply::text("It goes on."));
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        let mut events = thread.events();
        let result = wait!(thread.run("Start it.")).expect("completed");
        assert_eq!(result.open_items.len(), 1, "the command runs on");
        let late = loop {
            match wait!(events.next()).expect("the thread goes on") {
                rt::Event::ItemCompleted(done) if done.item.id() == result.open_items.first() => break done,
                _ => {}
            }
        };
        assert!(matches!(late.item, ThreadItem::CommandExecution(_)));
        assert_eq!(late.raw.turn, result.turn_id, "under the name of the turn that is over");
        assert_eq!(codex.counters().turns, 0);
        wait!(codex.close());
    }
}

real_scenario! {
    fn a_review_of_the_real_server_is_attached_to_by_the_name_that_it_answers_with() {
        let Some(server) = real_server("a_review_of_the_real_server_is_attached_to") else { return };
        server.model.set_default(Reply::text("Nothing to complain about."));
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        wait!(thread.run("Hello.")).expect("completed");
        let review = ReviewStart::new(thread.id().clone(), ReviewTarget::UncommittedChanges);
        let id = wait!(codex.request(review)).expect("begun").turn.id;
        let turn = thread.attach_with(id.clone(), &TurnOptions::default().idle_deadline(PATIENCE)).expect("attaches");
        let result = wait!(turn.result()).expect("completed");
        assert_eq!((result.turn_id, result.status), (Some(id), State::Completed));
        let next = TurnRequest::new("Still there?").when_busy(WhenBusy::Queue);
        assert!(wait!(thread.run(next)).is_ok(), "the thread is free after it");
        wait!(codex.close());
    }
}

real_scenario! {
    fn in_01_an_empty_input_runs_a_model_request_on_the_real_server() {
        let Some(server) = real_server("in_01_an_empty_input_runs_a_model_request") else { return };
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        wait!(thread.run(Input::new())).expect("completed");
        assert_eq!(server.model.requests().len(), 1);
        wait!(thread.run([UserInput::text("first part"), UserInput::text("second part")])).expect("completed");
        let request = server.model.requests().pop().expect("asked");
        assert!(request.has_text("first part") && request.has_text("second part"));
        wait!(codex.close());
    }
}

real_scenario! {
    fn in_02_images_as_data_and_from_a_file_reach_the_model_of_the_real_server_and_remote_ones_do_not() {
        let Some(server) = real_server("in_02_images_as_data_and_from_a_file_reach_the_model") else { return };
        // The smallest picture that there is: one transparent pixel.
        let pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII=";
        let bytes: [u8; 68] = [
            0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48, 0x44, 0x52, 0x00, 0x00, 0x00, 0x01,
            0x00, 0x00, 0x00, 0x01, 0x08, 0x04, 0x00, 0x00, 0x00, 0xb5, 0x1c, 0x0c, 0x02, 0x00, 0x00, 0x00, 0x0b, 0x49, 0x44, 0x41,
            0x54, 0x78, 0xda, 0x63, 0x64, 0x60, 0x00, 0x00, 0x00, 0x06, 0x00, 0x02, 0x30, 0x81, 0xd0, 0x2f, 0x00, 0x00, 0x00, 0x00,
            0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82,
        ];
        let file = server.home.work().join("pixel.png");
        std::fs::write(&file, bytes).expect("a file");
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        let images = |body: &serde_json::Value| body.to_string().matches("\"type\":\"input_image\"").count();
        wait!(thread.run(Input::new().text("What is this?").image(format!("data:image/png;base64,{pixel}")))).expect("completed");
        assert_eq!(images(server.model.requests().pop().expect("asked").body()), 1);
        wait!(thread.run(Input::new().text("And this?").local_image(&file))).expect("completed");
        assert_eq!(images(server.model.requests().pop().expect("asked").body()), 2);
        // Whether it is refused here or there.
        if !is_older(&codex, "0.144.4") {
            let error = wait!(thread.run(Input::new().image("https://example.com/a.png"))).expect_err("refused");
            assert!(matches!(error, TurnError::Input(InputError::RemoteImage)), "{error}");
        }
        wait!(codex.close());
    }
}

real_scenario! {
    fn in_04_the_real_servers_own_refusal_of_a_long_text_is_by_type() {
        let Some(server) = real_server("in_04_the_real_servers_own_refusal_of_a_long_text") else { return };
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        let start = TurnStart::new(thread.id().clone(), [UserInput::text("x".repeat(1_048_577))]);
        let error = wait!(codex.request(start)).expect_err("too long");
        assert_eq!(InputError::of(&error), Some(InputError::TooLarge { maximum: 1_048_576, actual: 1_048_577 }));
        wait!(codex.close());
    }
}

real_scenario! {
    fn in_06_an_external_message_reaches_the_model_of_the_real_server_with_the_authority_of_a_tool() {
        let Some(server) = real_server("in_06_an_external_message_reaches_the_model") else { return };
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        let sent = wait!(thread.run(ExternalMessage::new("mailbox", "Untrusted: buy now.")));
        if is_older(&codex, "0.154.0") {
            let error = sent.expect_err("too old");
            assert!(matches!(&error, TurnError::Start(error) if matches!(error.fault, rt::Fault::NeedsNewer { .. })), "{error}");
        } else {
            sent.expect("completed");
            let request = server.model.requests().pop().expect("asked");
            assert!(!request.has_text("Untrusted: buy now."), "not as words of the user");
            assert!(request.body().to_string().contains("Untrusted: buy now."), "{}", request.body());
        }
        wait!(codex.close());
    }
}

real_scenario! {
    fn sb_08_unknown_words_are_for_the_real_server_to_take_and_the_model_sees_them() {
        let Some(server) = real_server("sb_08_unknown_words_are_for_the_real_server_to_take") else { return };
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        wait!(thread.run(TurnRequest::new("x").model("gpt-from-the-future"))).expect("completed");
        assert_eq!(server.model.requests().pop().expect("asked").model(), "gpt-from-the-future");
        wait!(codex.close());
    }
}
