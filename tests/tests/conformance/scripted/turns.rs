// Scenarios against the scripted server, a fake: turns: what they are started with, how they end, what they come to. Included once for each runtime.

use crate::support::{self, scripted};
use rt::{
    DropPolicy, Event, ExternalMessage, Input, InputError, InterruptOutcome, State, SteerError, SteerOrStart, TurnError,
    TurnRequest, WhenBusy,
    protocol::{
        FileChangePatchUpdatedNotification, GuardianWarningNotification, ModelReroutedNotification,
        ModelVerificationNotification, ReasoningSummary, ThreadStart, TurnDiffUpdatedNotification,
        TurnModerationMetadataNotification, TurnPlanUpdatedNotification, UserInput,
    },
};
use serde_json::{Value, json};
use std::time::Duration;
use turnwire_testkit::scripted::{Rule, Script, TurnPlan};

const BRIEFLY: Duration = Duration::from_millis(200);

scenario! {
    fn tu_15_a_server_that_falls_silent_is_an_idle_time_out_and_the_thread_goes_on() {
        let script = Script::new().turn(TurnPlan::when("silent").hold()).turn(TurnPlan::when("next").text("Fine."));
        let server = scripted(&script);
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let request = TurnRequest::new("silent").idle_deadline(BRIEFLY);
        let error = wait!(thread.run(request)).expect_err("silence");
        let TurnError::IdleTimedOut { limit, age, report } = &error else { panic!("{error}") };
        assert_eq!(*limit, BRIEFLY);
        assert!(*age >= BRIEFLY && error.is_timeout(), "{error}");
        assert_eq!(report.items.len(), 1, "what was asked is known");
        assert_eq!(server.received_of("turn/interrupt", 1).len(), 1, "it is told to stop");
        let next = wait!(thread.run(TurnRequest::new("next").when_busy(WhenBusy::Queue))).expect("completed");
        assert_eq!(next.final_response.as_deref(), Some("Fine."));
        wait!(codex.close());
    }
}

scenario! {
    fn tu_17_dropping_the_last_handle_leaves_the_turn_running_or_interrupts_it_as_it_was_told() {
        let server = scripted(&Script::new().turn(TurnPlan::when("hold").text("Working.").hold()));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let left = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let stopped = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let other = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let beside = wait!(other.turn("hold")).expect("a turn");
        drop(wait!(left.turn("hold")).expect("a turn"));
        let turn = wait!(stopped.turn(TurnRequest::new("hold").on_drop(DropPolicy::Interrupt))).expect("a turn");
        let id = turn.id().expect("named");
        let clone = turn.clone();
        drop(turn);
        drop(clone);
        let interrupts = server.received_of("turn/interrupt", 1);
        assert_eq!(interrupts, [json!({"threadId": stopped.id().as_str(), "turnId": id.as_str()})]);
        let next = wait!(stopped.run(TurnRequest::new("short").when_busy(WhenBusy::Queue))).expect("it runs again");
        assert_eq!(next.status, State::Completed);
        // The first still runs, and can be taken up and stopped.
        assert!(matches!(wait!(left.run("more")), Err(TurnError::Busy(_))));
        let again = left.attach(left.running_turn().expect("it runs")).expect("attaches");
        let stop = wait!(left.stop()).expect("stops");
        assert_eq!((stop.turn, stop.outcome), (again.id(), InterruptOutcome::Acknowledged));
        assert_eq!(wait!(again.result()).expect("no error").status, State::Interrupted);
        assert_eq!(beside.state(), State::Running);
        assert_eq!(server.received_of("turn/interrupt", 2).len(), 2);
        wait!(codex.close());
    }
}

scenario! {
    fn st_16_of_two_tasks_on_one_thread_one_proceeds_and_the_other_is_refused_or_waits() {
        let script = Script::new().turn(TurnPlan::when("first").text("One.").hold()).turn(TurnPlan::when("second").text("Two."));
        let server = scripted(&script);
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let first = wait!(thread.turn("first")).expect("a turn");
        let refused = wait!(thread.turn("second")).expect_err("busy");
        assert!(matches!(&refused, TurnError::Busy(busy) if busy == thread.id()), "{refused}");
        let waiting: Vec<Joined<Option<String>>> = (0..3).map(|n| {
            let queued = go!([thread] {
                let request = TurnRequest::new(format!("second {n}")).when_busy(WhenBusy::Queue);
                wait!(thread.run(request)).expect("completed").final_response
            });
            // One after the other, so that their order is known.
            assert!(support::eventually(|| thread.queued_turns() == n + 1));
            queued
        }).collect();
        let late = TurnRequest::new("second").when_busy(WhenBusy::Queue).deadline(BRIEFLY);
        assert!(matches!(wait!(thread.run(late)), Err(TurnError::TimedOut { .. })), "the wait counts");
        assert_eq!(server.received_of("turn/start", 1).len(), 1, "nothing is sent while it is busy");
        wait!(first.interrupt()).expect("acknowledged");
        for queued in waiting {
            assert_eq!(join!(queued).as_deref(), Some("Two."));
        }
        let starts = server.received_of("turn/start", 4);
        let texts: Vec<&Value> = starts.iter().map(|start| &start["input"][0]["text"]).collect();
        assert_eq!(texts, ["first", "second 0", "second 1", "second 2"]);
        wait!(codex.close());
    }
}

scenario! {
    fn st_11_stopping_a_thread_ends_the_turn_that_the_server_names_once() {
        let mismatch = Rule::on("turn/interrupt").nth(1).reply_error(-32600, "expected active turn id U but found X");
        let taken = Rule::on("turn/interrupt").nth(2).reply(json!({}));
        let server = scripted(&Script::new().turn(TurnPlan::when("hold").text("Working.").hold()).rule(mismatch).rule(taken));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let turn = wait!(thread.turn("hold")).expect("a turn");
        let stopped = wait!(thread.stop()).expect("stops");
        assert_eq!(stopped.turn.as_ref().map(|id| id.as_str()), Some("X"));
        assert_eq!(stopped.outcome, InterruptOutcome::Acknowledged);
        let asked = server.received_of("turn/interrupt", 2);
        assert_eq!((asked[0]["turnId"].as_str(), asked[1]["turnId"].as_str()), (turn.id().as_ref().map(|id| id.as_str()), Some("X")));
        wait!(codex.close());

        // A turn's own interrupt says so and asks for nothing else.
        let mismatch = Rule::on("turn/interrupt").reply_error(-32600, "expected active turn id U but found X");
        let server = scripted(&Script::new().turn(TurnPlan::when("hold").text("Working.").hold()).rule(mismatch));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let turn = wait!(thread.turn("hold")).expect("a turn");
        let error = wait!(turn.interrupt()).expect_err("refused");
        assert!(matches!(&error.fault, rt::Fault::OtherTurn { actual, .. } if *actual == "X"), "{error}");
        assert_eq!(server.received_of("turn/interrupt", 1).len(), 1);
        wait!(codex.close());
    }
}

scenario! {
    fn st_11_a_turn_of_somebody_else_is_asked_to_end_once_however_many_stop_its_thread() {
        let turn = |status: &str| json!({"threadId": "$params.threadId", "turn": {"id": "G", "status": status, "items": []}});
        let script = Script::new()
            .rule(Rule::on("begin").notify("turn/started", turn("inProgress")).reply(json!({})))
            .rule(Rule::on("turn/interrupt").delay(100).reply(json!({})))
            .rule(Rule::on("end").notify("turn/completed", turn("interrupted")).reply(json!({})));
        let server = scripted(&script);
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let its = json!({"threadId": thread.id().as_str()});
        wait!(codex.request_raw("begin", its.clone())).expect("answered");
        let stops: Vec<Joined<_>> = (0..3).map(|_| go!([thread] wait!(thread.stop()).expect("stops"))).collect();
        let last = wait!(thread.stop()).expect("stops");
        let mut all = vec![last];
        for stop in stops {
            all.push(join!(stop));
        }
        for stopped in all {
            assert_eq!(stopped.turn.as_ref().map(|id| id.as_str()), Some("G"));
            assert_eq!(stopped.outcome, InterruptOutcome::Acknowledged);
        }
        // Nor is it asked later, for as long as it has not ended.
        assert_eq!(wait!(thread.stop()).expect("stops").turn.as_ref().map(|id| id.as_str()), Some("G"));
        assert_eq!(server.received_of("turn/interrupt", 1).len(), 1, "a second one would never be answered");
        assert!(matches!(wait!(thread.run("more")), Err(TurnError::Busy(_))));
        wait!(codex.request_raw("end", its)).expect("answered");
        assert!(wait!(thread.run("more")).is_ok());
        wait!(codex.close());
    }
}

scenario! {
    fn stopping_a_thread_pauses_its_active_goal_first_and_takes_back_what_waits() {
        let goal = json!({"threadId": "T", "objective": "o", "status": "active", "tokensUsed": 0, "timeUsedSeconds": 0,
            "createdAt": 1, "updatedAt": 1});
        let script = Script::new()
            .turn(TurnPlan::when("hold").text("Working.").hold())
            .rule(Rule::on("thread/goal/get").reply(json!({"goal": goal})))
            .rule(Rule::on("thread/goal/set").reply(json!({"goal": goal})));
        let server = scripted(&script);
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let turn = wait!(thread.turn("hold")).expect("a turn");
        let waiting = go!([thread] wait!(thread.run(TurnRequest::new("more").when_busy(WhenBusy::Queue))));
        assert!(support::eventually(|| thread.queued_turns() == 1));
        let stopped = wait!(thread.stop()).expect("stops");
        assert!(stopped.goal_paused);
        assert_eq!(stopped.turn, turn.id());
        let error = join!(waiting).expect_err("it was taken back");
        assert!(matches!(&error, TurnError::Start(error) if matches!(error.fault, rt::Fault::Withdrawn)), "{error}");
        assert_eq!(wait!(turn.result()).expect("no error").status, State::Interrupted);
        let order: Vec<String> = server.received().iter().filter_map(|line| line["method"].as_str().map(String::from)).collect();
        assert_eq!(order[order.len() - 3..], ["thread/goal/get", "thread/goal/set", "turn/interrupt"]);
        assert_eq!(server.received_of("thread/goal/set", 1)[0]["status"], "paused");
        // Where nothing is known to run, whatever runs is meant.
        let idle = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        assert_eq!(wait!(idle.stop()).expect("stops").turn, None);
        wait!(codex.close());
    }
}

scenario! {
    fn steer_or_start_gives_the_input_to_the_turn_that_runs_or_starts_one_and_never_both() {
        let ended = Rule::on("turn/steer").nth(2).reply_error(-32600, "no active turn to steer");
        let mismatch = Rule::on("turn/steer").nth(3).reply_error(-32600, "expected active turn id `U` but found `X`");
        let taken = Rule::on("turn/steer").nth(4).reply(json!({"turnId": "X"}));
        let script = Script::new().turn(TurnPlan::when("hold").text("Working.").hold()).rule(ended).rule(mismatch).rule(taken);
        let server = scripted(&script);
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let SteerOrStart::Started(turn) = wait!(thread.steer_or_start("hold")).expect("starts") else { panic!("nothing ran") };
        let SteerOrStart::Steered(id) = wait!(thread.steer_or_start("more")).expect("steers") else { panic!("a turn ran") };
        assert_eq!(Some(id), turn.id());
        assert_eq!((server.received_of("turn/start", 1).len(), server.received_of("turn/steer", 1).len()), (1, 1));
        wait!(turn.result()).expect("completed");
        // It ends just then: the start waits for that.
        let holding = wait!(thread.turn("hold")).expect("a turn");
        let starting = go!([thread] wait!(thread.steer_or_start("and this")));
        assert!(support::eventually(|| thread.queued_turns() == 1));
        wait!(holding.interrupt()).expect("acknowledged");
        let SteerOrStart::Started(turn) = join!(starting).expect("starts") else { panic!("it had ended") };
        wait!(turn.result()).expect("completed");
        // Another turn runs than was known.
        let _holding = wait!(thread.turn("hold")).expect("a turn");
        let SteerOrStart::Steered(id) = wait!(thread.steer_or_start("on")).expect("steers") else { panic!("a turn ran") };
        assert_eq!(id.as_str(), "X");
        let steers = server.received_of("turn/steer", 4);
        assert_eq!((steers.len(), steers[3]["expectedTurnId"].as_str()), (4, Some("X")));
        assert_eq!(server.received_of("turn/start", 4).len(), 4);
        wait!(codex.close());
    }
}

scenario! {
    fn st_03_a_steer_that_meets_another_turn_says_so_or_goes_there_once_if_told_to() {
        let mismatch = || Rule::on("turn/steer").reply_error(-32600, "expected active turn id `U` but found `X`");
        let server = scripted(&Script::new().turn(TurnPlan::when("hold").text("Working.").hold()).rule(mismatch()));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let turn = wait!(thread.turn("hold")).expect("a turn");
        let error = wait!(turn.steer("more")).expect_err("another runs");
        assert!(matches!(&error, SteerError::Mismatch { actual, .. } if *actual == "X"), "{error}");
        assert_eq!(server.received_of("turn/steer", 1).len(), 1);
        let error = wait!(turn.steer_or_next("more")).expect_err("another still");
        assert!(matches!(&error, SteerError::Mismatch { expected, .. } if *expected == "X"), "{error}");
        assert_eq!(server.received_of("turn/steer", 3).len(), 3, "once more, and not for ever");
        wait!(codex.close());
    }
}

scenario! {
    fn turns_that_nobody_asked_for_are_followed_from_the_thread() {
        let server = scripted(&Script::new().rule(
            Rule::on("goal")
                .notify("turn/started", json!({"threadId": "$params.threadId", "turn": {"id": "G", "status": "inProgress"}}))
                .notify("item/completed", json!({"threadId": "$params.threadId", "turnId": "G",
                    "item": {"type": "agentMessage", "id": "m", "text": "On my own."}}))
                .notify("turn/completed", json!({"threadId": "$params.threadId", "turn": {"id": "G", "status": "completed", "items": []}}))
                .reply(json!({})),
        ));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let mut turns = thread.turns();
        wait!(thread.run("ours")).expect("completed");
        wait!(codex.request_raw("goal", json!({"threadId": thread.id().as_str()}))).expect("answered");
        let turn = wait!(turns.next()).expect("a turn");
        assert_eq!(turn.id().as_ref().map(|id| id.as_str()), Some("G"));
        assert!(matches!(wait!(turn.next()), Some(Event::Started(_))));
        assert_eq!(wait!(turn.result()).expect("completed").final_response.as_deref(), Some("On my own."));
        // One that nobody takes is let go of with the rest.
        wait!(codex.request_raw("goal", json!({"threadId": thread.id().as_str()}))).expect("answered");
        assert_eq!(codex.counters().turns, 2);
        drop(turns);
        drop(turn);
        assert_eq!(codex.counters().turns, 0);
        wait!(codex.close());
    }
}

scenario! {
    fn in_01_a_text_an_item_a_list_and_nothing_go_over_as_they_are() {
        let server = scripted(&Script::new());
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let inputs: [Input; 5] = [
            "one".into(),
            UserInput::text("two").into(),
            [UserInput::text("three"), UserInput::text("four")].into(),
            Input::new(),
            Input::new().image("data:image/png;base64,AA==").text("five"),
        ];
        for input in inputs {
            wait!(thread.run(input)).expect("completed");
        }
        let sent: Vec<Value> = server.received_of("turn/start", 5).iter().map(|start| start["input"].clone()).collect();
        let text = |text: &str| json!({"type": "text", "text": text});
        let image = json!({"type": "image", "url": "data:image/png;base64,AA=="});
        assert_eq!(sent, [json!([text("one")]), json!([text("two")]), json!([text("three"), text("four")]), json!([]), json!([image, text("five")])]);
        wait!(codex.close());
    }
}

scenario! {
    fn in_02_a_remote_image_is_refused_here_where_the_server_would_and_by_type_where_it_does() {
        let server = scripted(&Script::new());
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let input = || Input::new().image("HTTPS://example.com/a.png");
        let error = wait!(thread.run(input())).expect_err("refused");
        assert!(matches!(error, TurnError::Input(InputError::RemoteImage)), "{error}");
        assert!(server.received().iter().all(|line| line["method"] != "turn/start"));
        wait!(codex.close());
        // Of an old server it is not known, and it may say so itself.
        let refusal = Rule::on("turn/start").reply_error(-32600, "remote image URLs are not supported; use an inline data URL instead");
        let server = scripted(&Script::new().version("0.133.0").rule(refusal));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let error = wait!(thread.run(input())).expect_err("refused");
        assert!(matches!(error, TurnError::Input(InputError::RemoteImage)), "{error}");
        wait!(codex.close());
    }
}

scenario! {
    fn in_03_paths_are_absolute_utf_8_and_those_of_windows_stay_as_they_are() {
        let server = scripted(&Script::new());
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let here = std::env::current_dir().expect("a directory");
        let windows = ["C:\\pictures\\a.png", "\\\\server\\share\\a.png", "d:/a.png"];
        let mut input = Input::new().local_image("a.png").local_image("/tmp/b.png").skill("s", "skills/SKILL.md");
        for path in windows {
            input = input.local_image(path);
        }
        wait!(thread.run(TurnRequest::new(input).cwd("work"))).expect("completed");
        let start = server.received_of("turn/start", 1).remove(0);
        let paths: Vec<&str> = start["input"].as_array().expect("a list").iter().filter_map(|item| item["path"].as_str()).collect();
        let absolute = |path: &str| here.join(path).to_str().expect("UTF-8").to_string();
        let mut expected = vec![absolute("a.png"), "/tmp/b.png".into(), absolute("skills/SKILL.md")];
        expected.extend(windows.map(String::from));
        assert_eq!(paths, expected);
        assert_eq!(start["cwd"], absolute("work").as_str());
        #[cfg(unix)]
        {
            use std::os::unix::ffi::OsStrExt;
            let path = std::path::Path::new(std::ffi::OsStr::from_bytes(b"/tmp/\xff.png"));
            let requests = [TurnRequest::new(Input::new().local_image(path)), TurnRequest::new("x").cwd(path)];
            for request in requests {
                let error = wait!(thread.run(request)).expect_err("not UTF-8");
                assert!(matches!(error, TurnError::Input(InputError::PathNotUtf8)), "{error}");
            }
        }
        wait!(codex.close());
    }
}

scenario! {
    fn in_04_a_text_that_is_too_long_is_refused_here_and_the_servers_own_limit_by_type() {
        let refusal = Rule::on("turn/start").reply_error_data(-32602, "Input exceeds the maximum length of 7 characters.",
            json!({"input_error_code": "input_too_large", "max_chars": 7, "actual_chars": 9}));
        let server = scripted(&Script::new().turn(TurnPlan::when("hold").hold()).turn(TurnPlan::when("ü").text("Long.")).rule(refusal.once()));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let error = wait!(thread.run("ninechars")).expect_err("refused there");
        assert!(matches!(error, TurnError::Input(InputError::TooLarge { maximum: 7, actual: 9 })), "{error}");
        // Characters and not bytes, over all texts together.
        let half = "ü".repeat(524_288);
        let just = [UserInput::text(half.clone()), UserInput::text(half.clone())];
        wait!(thread.run(just)).expect("as much as there may be");
        let over = || [UserInput::text(half.clone()), UserInput::text(half.clone()), UserInput::text("ü")];
        let error = wait!(thread.run(over())).expect_err("refused here");
        assert!(matches!(error, TurnError::Input(InputError::TooLarge { maximum: 1_048_576, actual: 1_048_577 })), "{error}");
        let turn = wait!(thread.turn("hold")).expect("a turn");
        let error = wait!(turn.steer(over())).expect_err("refused here");
        assert!(matches!(error, SteerError::Input(InputError::TooLarge { .. })), "{error}");
        assert_eq!(server.received_of("turn/start", 3).len(), 3);
        wait!(codex.close());
    }
}

scenario! {
    fn in_06_skills_mentions_and_external_messages_have_their_form_and_old_servers_are_not_asked() {
        let message = || ExternalMessage::new("mailbox", "You have mail.").namespace("post");
        let server = scripted(&Script::new());
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        wait!(thread.run(Input::new().skill("tidy", "/skills/tidy/SKILL.md").mention("calendar", "app://calendar"))).expect("completed");
        wait!(thread.run(message())).expect("completed");
        let starts = server.received_of("turn/start", 2);
        assert_eq!(starts[0]["input"], json!([{"type": "skill", "name": "tidy", "path": "/skills/tidy/SKILL.md"},
            {"type": "mention", "name": "calendar", "path": "app://calendar"}]));
        assert_eq!(starts[1]["input"], json!([]));
        assert_eq!(starts[1]["toolOutput"], json!({"name": "mailbox", "namespace": "post", "output": "You have mail."}));
        let error = wait!(thread.run(ExternalMessage::new(" ", "x"))).expect_err("no name");
        assert!(matches!(error, TurnError::Input(InputError::NoToolName)), "{error}");
        let error = wait!(thread.steer("U", message())).expect_err("it starts a turn");
        assert!(matches!(error, SteerError::Input(InputError::NotForSteering)), "{error}");
        wait!(codex.close());
        let old = scripted(&Script::new().version("0.144.4"));
        let codex = wait!(rt::spawn(&old.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let error = wait!(thread.run(message())).expect_err("too old");
        assert!(matches!(&error, TurnError::Start(error) if matches!(error.fault, rt::Fault::NeedsNewer { .. })), "{error}");
        assert!(old.received().iter().all(|line| line["method"] != "turn/start"));
        wait!(codex.close());
    }
}

scenario! {
    fn sb_08_words_that_are_known_and_words_that_are_not_are_passed_through() {
        let server = scripted(&Script::new());
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let request = TurnRequest::new("x").model("gpt-next").effort("high").service_tier("flex").service_tier_for_turn("priority")
            .personality("friendly").summary(ReasoningSummary::Auto).source("schedule").client_user_message_id("mine")
            .output_schema(rt::Json::parse("{\"type\":\"object\"}").expect("JSON"));
        wait!(thread.run(request)).expect("completed");
        let unknown = TurnRequest::new("x").effort("galactic").personality("grumpy").summary("poetic").service_tier("golden");
        wait!(thread.run(unknown)).expect("completed");
        let starts = server.received_of("turn/start", 2);
        let words = ["model", "effort", "serviceTier", "serviceTierForTurn", "personality", "summary", "turnTrigger", "clientUserMessageId"];
        let sent = |start: &Value| words.map(|word| start[word].as_str().map(String::from));
        let some = |word: &str| Some(word.to_string());
        assert_eq!(sent(&starts[0]), ["gpt-next", "high", "flex", "priority", "friendly", "auto", "schedule", "mine"].map(some));
        assert_eq!(starts[0]["outputSchema"], json!({"type": "object"}));
        assert_eq!(sent(&starts[1]), [None, some("galactic"), some("golden"), None, some("grumpy"), some("poetic"), None, None]);
        assert!(starts[1].get("model").is_none(), "what is not set is left out");
        wait!(codex.close());
    }
}

scenario! {
    fn tu_19_tu_20_news_of_plans_diffs_patches_and_models_has_its_types_and_changes_no_outcome() {
        let turn = |more: Value| {
            let mut params = json!({"threadId": "T", "turnId": "U"});
            params.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            params
        };
        let news = Rule::on("turn/start")
            .reply(json!({"turn": {"id": "U", "status": "inProgress", "items": []}}))
            .notify("turn/plan/updated", turn(json!({"plan": [{"step": "look", "status": "completed"}], "explanation": null})))
            .notify("turn/diff/updated", turn(json!({"diff": "+new"})))
            .notify("item/fileChange/patchUpdated", turn(json!({"itemId": "f", "changes": []})))
            .notify("item/reasoning/summaryTextDelta", turn(json!({"itemId": "r", "delta": "Hm.", "summaryIndex": 0})))
            .notify("model/rerouted", turn(json!({"fromModel": "a", "toModel": "b", "reason": "highRiskCyberActivity"})))
            .notify("model/verification", turn(json!({"verifications": []})))
            .notify("turn/moderationMetadata", turn(json!({"metadata": {}})))
            .notify("guardianWarning", json!({"threadId": "T", "message": "careful"}))
            .notify("turn/completed", json!({"threadId": "T", "turn": {"id": "U", "status": "completed", "items": []}}));
        let server = scripted(&Script::new().rule(news));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = codex.thread("T");
        let mut events = thread.events();
        let turn = wait!(thread.turn("x")).expect("a turn");
        assert_eq!(wait!(turn.result()).expect("completed").status, State::Completed);
        wait!(codex.close());
        let mut seen = Vec::new();
        while let Some(event) = wait!(events.next()) {
            if let Some(plan) = event.notification::<TurnPlanUpdatedNotification>() {
                seen.push(format!("plan {}", plan.plan.len()));
            }
            if let Some(diff) = event.notification::<TurnDiffUpdatedNotification>() {
                seen.push(format!("diff {}", diff.diff));
            }
            if let Event::Delta(delta) = &event {
                seen.push(format!("{:?} {}", delta.kind, delta.text));
            }
            if let Some(rerouted) = event.notification::<ModelReroutedNotification>() {
                seen.push(format!("{} to {}", rerouted.from_model, rerouted.to_model));
            }
            if event.notification::<FileChangePatchUpdatedNotification>().is_some() {
                seen.push("patch".into());
            }
            if event.notification::<ModelVerificationNotification>().is_some() {
                seen.push("verification".into());
            }
            if event.notification::<TurnModerationMetadataNotification>().is_some() {
                seen.push("moderation".into());
            }
            if let Some(warning) = event.notification::<GuardianWarningNotification>() {
                seen.push(format!("warning {}", warning.message));
                assert!(event.raw().is_some_and(|raw| raw.params_text().contains("careful")));
            }
        }
        assert_eq!(seen, ["plan 1", "diff +new", "patch", "ReasoningSummary Hm.", "a to b", "verification", "moderation", "warning careful"]);
    }
}

scenario! {
    fn several_readers_of_a_turn_each_begin_where_they_are_documented_to() {
        let server = scripted(&Script::new().turn(TurnPlan::when("hold").text("Working.").hold()));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let turn = wait!(thread.turn("hold")).expect("a turn");
        // The handle's own position begins with the turn; run to the end after a part of the stream, as often as liked.
        assert!(matches!(wait!(turn.next()), Some(Event::Started(_))));
        while !matches!(wait!(turn.next()), Some(Event::ItemCompleted(_))) {}
        let mut late = turn.subscribe();
        wait!(turn.steer("go on")).expect("taken");
        let result = wait!(turn.result()).expect("completed");
        assert_eq!(result.final_response.as_deref(), Some("You also said: go on"));
        assert_eq!(wait!(turn.result()).expect("again").final_response.as_deref(), Some("You also said: go on"));
        let mut seen = Vec::new();
        while let Some(event) = wait!(late.next()) {
            seen.push(event);
        }
        assert!(!seen.iter().any(|event| matches!(event, Event::Started(_))), "{seen:?}");
        assert!(seen.iter().any(|event| matches!(event, Event::Delta(_))), "{seen:?}");
        assert!(matches!(seen.last(), Some(Event::Ended(State::Completed))), "{seen:?}");
        assert!(turn.state().is_end());
        wait!(codex.close());
    }
}
