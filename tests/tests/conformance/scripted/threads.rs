// Scenarios against the scripted server, a fake: threads: their options, their history, their lists. Included once for each runtime.

use crate::support::{self, scripted};
use rt::{
    ResumedBy, ThreadError, Unsubscribed,
    protocol::{
        CustomReviewTarget, ReviewTarget, SandboxMode, SandboxPolicy, ThreadFork, ThreadItem, ThreadList, ThreadResume, ThreadSortKey,
        ThreadStart, TurnStart, TurnStatus, UserInput,
    },
};
use serde_json::{Value, json};
use std::time::Duration;
use turnwire_testkit::scripted::{Rule, Script, TurnPlan};

const ABSENT: &str = "01a00000-0000-7000-8000-000000000000";

scenario! {
    fn th_01_the_name_is_shown_by_read_and_list() {
        let server = scripted(&Script::new());
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        wait!(thread.run("Hello")).expect("completed");
        wait!(thread.set_name("A name")).expect("named");
        assert_eq!(wait!(thread.read(false)).expect("read").thread.name.as_deref(), Some("A name"));
        let list = wait!(codex.thread_list(ThreadList::new())).expect("listed");
        assert_eq!(list.data.iter().map(|thread| thread.name.as_deref()).collect::<Vec<_>>(), [Some("A name")]);
        assert_eq!(server.received_of("thread/list", 1)[0]["sortKey"], "updated_at", "so that paging loses nothing");
        wait!(codex.thread_list(ThreadList::new().sort_key(ThreadSortKey::CreatedAt))).expect("listed");
        assert_eq!(server.received_of("thread/list", 2)[1]["sortKey"], "created_at", "unless the caller says otherwise");
        assert_eq!(wait!(codex.loaded_list()).expect("listed"), [thread.id().clone()]);
        wait!(codex.close());
    }
}

scenario! {
    fn th_02_th_03_archiving_moves_a_thread_between_the_lists_and_back() {
        let server = scripted(&Script::new());
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let kept = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let gone = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        wait!(kept.run("Hello")).expect("completed");
        wait!(gone.run("Hello")).expect("completed");
        wait!(gone.archive()).expect("archived");
        for (archived, id) in [(false, kept.id()), (true, gone.id())] {
            let listed = wait!(codex.thread_pages(ThreadList::new().archived(archived)).all()).expect("listed");
            assert_eq!(listed.iter().map(|thread| &thread.id).collect::<Vec<_>>(), [id]);
        }
        let error = wait!(codex.thread_resume(ThreadResume::new(gone.id()))).expect_err("archived");
        assert!(matches!(error, ThreadError::Archived { .. }), "{error:?}");
        let back = wait!(codex.thread_unarchive(gone.id())).expect("unarchived");
        assert_eq!(back.id(), gone.id());
        let back = wait!(codex.thread_resume(ThreadResume::new(gone.id()))).expect("resumed").thread;
        assert!(wait!(back.run("Again")).is_ok());
        wait!(back.delete()).expect("deleted");
        let error = wait!(codex.thread_resume(ThreadResume::new(gone.id()))).expect_err("deleted");
        assert!(matches!(error, ThreadError::NotFound { .. }), "{error:?}");
        wait!(codex.close());
    }
}

scenario! {
    fn th_04_what_needs_a_stored_thread_says_that_none_of_it_is() {
        let server = scripted(&Script::new());
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let errors = [
            wait!(thread.archive()).expect_err("never ran"),
            wait!(thread.fork()).expect_err("never ran"),
            wait!(thread.read(true)).expect_err("never ran"),
        ];
        for error in errors {
            assert!(matches!(&error, ThreadError::NotMaterialized { thread: id, .. } if id == thread.id()), "{error:?}");
            assert!(error.call().and_then(|call| call.rpc()).is_some(), "the server's words are kept");
        }
        wait!(codex.close());
    }
}

scenario! {
    fn th_05_th_06_th_07_forks_keep_the_source_and_end_where_they_are_told() {
        let server = scripted(&Script::new().turn(TurnPlan::when("wait").hold()));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let source = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let first = wait!(source.run("one")).expect("completed").turn_id.expect("named");
        wait!(source.run("two")).expect("completed");
        let before = wait!(source.read(true)).expect("read").thread.turns;
        assert_eq!(before.len(), 2);
        assert!(before.iter().all(|turn| matches!(turn.items.last(), Some(ThreadItem::AgentMessage(_)))));
        let fork = wait!(source.fork()).expect("forked");
        assert_ne!(fork.id(), source.id());
        wait!(fork.run("three")).expect("completed");
        assert_eq!(wait!(source.read(true)).expect("read").thread.turns, before);
        assert_eq!(wait!(fork.history().all()).expect("turns").len(), 3);
        let cut = wait!(codex.thread_fork(ThreadFork::new(source.id()).last_turn_id(first.clone()))).expect("forked");
        let ids: Vec<_> = wait!(cut.history().all()).expect("turns").into_iter().map(|turn| turn.id).collect();
        assert_eq!(ids, [first]);
        let running = wait!(source.turn("wait")).expect("a turn");
        let fork = wait!(source.fork()).expect("forked");
        let latest = wait!(fork.history().next()).expect("one").expect("a turn");
        assert_eq!((Some(latest.id), latest.status), (running.id(), TurnStatus::Interrupted));
        assert_eq!(server.received_of("thread/fork", 3)[0]["excludeTurns"], true);
        wait!(running.interrupt()).expect("taken");
        wait!(codex.close());
    }
}

scenario! {
    fn th_08_start_followed_by_run_resumes_nothing_and_a_resume_of_what_never_ran_is_typed() {
        let server = scripted(&Script::new());
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let error = wait!(codex.thread_resume(ThreadResume::new(thread.id()))).expect_err("never ran");
        assert!(matches!(&error, ThreadError::NotMaterialized { thread: id, .. } if id == thread.id()), "{error:?}");
        let error = wait!(codex.thread_resume(ThreadResume::new(ABSENT))).expect_err("not there");
        assert!(matches!(&error, ThreadError::NotFound { thread, .. } if *thread == ABSENT), "{error:?}");
        let other = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        wait!(other.run("Hello")).expect("completed");
        wait!(codex.close());
        let methods: Vec<Value> = server.received().iter().map(|line| line["method"].clone()).collect();
        let end = &methods[methods.len() - 2..];
        assert_eq!(end, ["thread/start", "turn/start"], "no resume between them");
        assert_eq!(methods.iter().filter(|method| **method == "thread/resume").count(), 2);
    }
}

scenario! {
    fn th_09_a_resume_that_fails_for_any_reason_starts_nothing_unless_a_named_option_says_so() {
        for (code, message) in [
            (-32600, format!("no rollout found for thread id {ABSENT}")),
            (-32600, format!("thread {ABSENT} already has an active writer")),
            (-32600, "the moon is full".to_owned()),
            (-32601, "not here".to_owned()),
            (-32603, "failed late".to_owned()),
            (-32001, "Server overloaded; retry later.".to_owned()),
        ] {
            let server = scripted(&Script::new().rule(Rule::on("thread/resume").reply_error(code, message.clone())));
            let codex = wait!(rt::spawn(&server.command())).expect("connects");
            let error = wait!(codex.thread_resume(ThreadResume::new(ABSENT))).expect_err("refused");
            let rpc = error.call().and_then(|call| call.rpc()).expect("the server's own");
            assert_eq!((rpc.code, &rpc.message), (code, &message));
            // Only where there is nothing to resume does the option count.
            let optional = rt::Resume::new(ABSENT).or_start(ThreadStart::new());
            match wait!(codex.thread_resume(optional)) {
                Ok(resumed) => {
                    assert!(message.starts_with("no rollout"), "{message}");
                    assert_eq!(resumed.by, ResumedBy::Starting);
                }
                Err(_) => assert!(!message.starts_with("no rollout"), "{message}"),
            }
            wait!(codex.close());
            let started = server.received().iter().filter(|line| line["method"] == "thread/start").count();
            assert_eq!(started, usize::from(message.starts_with("no rollout")), "{message}");
        }
    }
}

scenario! {
    fn th_11_an_active_writer_is_waited_for_only_when_asked_and_only_so_long() {
        let busy = || Rule::on("thread/resume").reply_error(-32600, format!("thread {ABSENT} already has an active writer"));
        let server = scripted(&Script::new().stored_thread(ABSENT).rule(busy().once()).rule(busy().nth(2)).rule(busy().nth(3)));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let error = wait!(codex.thread_resume(ThreadResume::new(ABSENT))).expect_err("in use");
        assert!(matches!(&error, ThreadError::ActiveWriter { thread, .. } if *thread == ABSENT), "{error:?}");
        assert_eq!(server.received_of("thread/resume", 1).len(), 1, "no blind retry");
        let patient = rt::Resume::new(ABSENT).wait_for_writer(Duration::from_secs(20));
        assert_eq!(wait!(codex.thread_resume(patient)).expect("free at last").by, ResumedBy::Resuming);
        assert_eq!(server.received_of("thread/resume", 4).len(), 4);
        wait!(codex.close());
    }
}

scenario! {
    fn th_13_two_hundred_and_fifty_threads_come_in_pages_of_fifty_and_whoever_stops_reading_stops_asking() {
        let mut script = Script::new();
        for n in 0..250 {
            script = script.stored_thread(format!("01a00000-0000-7000-8000-{n:012}"));
        }
        let server = scripted(&script);
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let mut pages = codex.thread_pages(ThreadList::new().limit(50));
        let mut ids = Vec::new();
        while let Some(thread) = wait!(pages.next()) {
            ids.push(thread.expect("a thread").id.to_string());
        }
        let expected: Vec<String> = (0..250).rev().map(|n| format!("01a00000-0000-7000-8000-{n:012}")).collect();
        assert_eq!(ids, expected);
        assert_eq!(server.received_of("thread/list", 5).len(), 5);

        let mut pages = codex.thread_pages(ThreadList::new().limit(50));
        for _ in 0..60 {
            assert!(wait!(pages.next()).is_some_and(|thread| thread.is_ok()));
        }
        drop(pages);
        let mut pages = codex.thread_pages(ThreadList::new().limit(100));
        let page = wait!(pages.next_page()).expect("one").expect("a page");
        assert_eq!(page.data.len(), 100);
        wait!(codex.models()).expect("answered");
        assert_eq!(server.received_of("thread/list", 8).len(), 8, "two for the sixty, one for the page");
        wait!(codex.close());
    }
}

scenario! {
    fn th_13_a_server_whose_cursors_go_in_a_circle_is_found_out() {
        let page = |next: &str| json!({"data": [{"id": "T", "status": {"type": "idle"}, "turns": []}], "nextCursor": next});
        let script = Script::new()
            .rule(Rule::on("thread/list").when("cursor", "b").reply(page("a")))
            .rule(Rule::on("thread/list").when("cursor", "a").reply(page("b")))
            .rule(Rule::on("thread/list").reply(page("a")));
        let server = scripted(&script);
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let mut pages = codex.thread_pages(ThreadList::new());
        let mut count = 0;
        let error = loop {
            match wait!(pages.next_page()).expect("a page or an error") {
                Ok(_) => count += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, rt::PageError::CursorLoop { pages: 3 }), "{error:?}");
        assert_eq!(count, 2);
        assert!(wait!(pages.next()).is_none());
        wait!(codex.close());
    }
}

scenario! {
    fn th_15_a_cursor_that_is_none_is_an_error_and_the_end() {
        let server = scripted(&Script::new());
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let mut pages = codex.thread_pages(ThreadList::new().cursor("garbage"));
        let error = wait!(pages.next()).expect("an answer").expect_err("no such page");
        assert!(matches!(error, rt::PageError::InvalidCursor(_)), "{error:?}");
        assert!(wait!(pages.next()).is_none() && wait!(pages.next_page()).is_none());
        wait!(codex.close());
    }
}

scenario! {
    fn th_17_unsubscribing_ends_streams_and_is_refused_here_while_a_turn_runs() {
        let server = scripted(&Script::new().turn(TurnPlan::when("wait").hold()));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let turn = wait!(thread.turn("wait")).expect("a turn");
        let error = wait!(thread.unsubscribe()).expect_err("a turn runs");
        assert!(matches!(&error, ThreadError::Busy(id) if id == thread.id()), "{error:?}");
        wait!(codex.models()).expect("answered");
        assert!(server.received().iter().all(|line| line["method"] != "thread/unsubscribe"), "nothing was sent");
        wait!(turn.interrupt()).expect("taken");
        wait!(turn.result()).expect("interrupted");
        let mut events = thread.events();
        assert_eq!(wait!(thread.unsubscribe()).expect("answered"), Unsubscribed::Done);
        let mut last = None;
        while let Some(event) = wait!(events.next()) {
            last = Some(event);
        }
        assert!(matches!(last, Some(rt::Event::Unsubscribed)), "{last:?}");
        assert_eq!(wait!(thread.unsubscribe()).expect("answered"), Unsubscribed::NotSubscribed);
        assert_eq!(wait!(codex.thread(ABSENT).unsubscribe()).expect("answered"), Unsubscribed::NotLoaded);
        wait!(codex.close());
    }
}

scenario! {
    fn th_17_unsubscribing_is_refused_here_while_a_turn_of_somebody_else_runs() {
        let turn = |status: &str| json!({"threadId": "$params.threadId", "turn": {"id": "G", "status": status, "items": []}});
        let script = Script::new()
            .rule(Rule::on("begin").notify("turn/started", turn("inProgress")).reply(json!({})))
            .rule(Rule::on("end").notify("turn/completed", turn("completed")).reply(json!({})));
        let server = scripted(&script);
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let its = json!({"threadId": thread.id().as_str()});
        wait!(codex.request_raw("begin", its.clone())).expect("answered");
        assert!(matches!(wait!(thread.unsubscribe()), Err(ThreadError::Busy(_))));
        wait!(codex.request_raw("end", its)).expect("answered");
        assert_eq!(wait!(thread.unsubscribe()).expect("answered"), Unsubscribed::Done);
        wait!(codex.close());
    }
}

scenario! {
    fn th_17_unsubscribing_all_the_same_leaves_the_turn_without_a_status_and_not_for_ever() {
        let server = scripted(&Script::new().turn(TurnPlan::when("wait").hold()));
        let mut config = rt::Config::default();
        config.timeouts.idle = Duration::from_millis(50);
        let codex = wait!(rt::spawn_with(&server.command(), config)).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let turn = wait!(thread.turn("wait")).expect("a turn");
        // Its beginning was seen.
        while !matches!(wait!(turn.next()), Some(rt::Event::Started(_))) {}
        assert_eq!(wait!(thread.unsubscribe_anyway()).expect("answered"), Unsubscribed::Done);
        wait!(turn.interrupt()).expect("taken");
        let error = wait!(turn.result()).expect_err("nobody told how it ended");
        assert!(matches!(error, rt::TurnError::UnknownStatus { .. }), "{error:?}");
        wait!(codex.close());
    }
}

scenario! {
    fn th_19_a_compaction_is_not_ended_by_what_is_late_of_the_turn_before() {
        let turn = |id: &str, status: &str| json!({"threadId": "$params.threadId", "turn": {"id": id, "status": status, "items": []}});
        let item = |id: &str| {
            json!({"threadId": "$params.threadId", "turnId": id, "item": {"type": "contextCompaction", "id": format!("item-{id}")}})
        };
        let compact = Rule::on("thread/compact/start")
            .reply(json!({}))
            .notify("item/completed", item("earlier"))
            .notify("turn/completed", turn("earlier", "completed"))
            .notify("turn/started", turn("own", "inProgress"))
            .notify("item/started", item("own"))
            .notify("turn/completed", turn("earlier", "failed"))
            .notify("item/completed", item("own"))
            .notify("turn/completed", turn("own", "completed"));
        let server = scripted(&Script::new().rule(compact));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        wait!(thread.run("Hello")).expect("completed");
        let compacted = wait!(thread.compact()).expect("compacted");
        assert_eq!(compacted.turn_id.expect("named").as_str(), "own");
        assert_eq!(compacted.items.len(), 1);
        assert!(wait!(thread.run("Again")).is_ok());
        wait!(codex.close());
    }
}

scenario! {
    fn th_21_settings_change_between_turns_and_during_one_and_null_is_not_absent() {
        let server = scripted(&Script::new().turn(TurnPlan::when("wait").hold()));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let mut events = thread.events();
        wait!(thread.update_settings(|settings| settings.effort("high"))).expect("updated");
        let turn = wait!(thread.turn("wait")).expect("a turn");
        wait!(thread.update_settings(|settings| settings.model("other").service_tier(rt::protocol::Settable::Null))).expect("updated");
        wait!(turn.interrupt()).expect("taken");
        wait!(turn.result()).expect("interrupted");
        let mut told = Vec::new();
        while told.len() < 2 {
            if let rt::Event::Other(raw) = wait!(events.next()).expect("an event") {
                if &*raw.method == "thread/settings/updated" {
                    let params: Value = serde_json::from_str(raw.params_text()).expect("JSON");
                    told.push((params["threadSettings"]["effort"].clone(), params["threadSettings"]["model"].clone()));
                }
            }
        }
        assert_eq!(told[0].0, "high");
        assert_eq!(told[1], (json!("high"), json!("other")));
        let sent = server.received_of("thread/settings/update", 2);
        assert!(sent[0].get("serviceTier").is_none() && sent[0].get("model").is_none(), "{}", sent[0]);
        assert_eq!(sent[1].get("serviceTier"), Some(&Value::Null), "{}", sent[1]);
        wait!(codex.close());
    }
}

scenario! {
    fn tu_21_reviews_run_inline_and_detached() {
        let on = |thread: &str, id: &str, root: &str, status: &str| {
            json!({"threadId": thread, "turn": {"id": id, "rootTurnId": root, "status": status, "items": []}})
        };
        let reply = |thread: &str| json!({"reviewThreadId": thread, "turn": {"id": "R", "status": "inProgress", "items": []}});
        let inline = Rule::on("review/start").when("delivery", "inline").reply(reply("$params.threadId"))
            .notify("turn/started", on("$params.threadId", "S", "R", "inProgress"))
            .notify("turn/completed", on("$params.threadId", "R", "R", "completed"));
        let detached = Rule::on("review/start").when("delivery", "detached")
            .notify("turn/started", on("N", "R", "R", "inProgress"))
            .reply(reply("N"))
            .notify("turn/completed", on("N", "R", "R", "completed"));
        let server = scripted(&Script::new().rule(inline).rule(detached));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let target = || ReviewTarget::Custom(CustomReviewTarget::new("Look."));
        let review = wait!(thread.review(target())).expect("a review");
        assert_eq!(review.thread_id(), thread.id());
        assert_eq!(wait!(review.result()).expect("completed").turn_id, review.id());
        let review = wait!(thread.review_detached(target())).expect("a review");
        assert_eq!(review.thread_id().as_str(), "N");
        let mut methods = Vec::new();
        while let Some(event) = wait!(review.next()) {
            methods.push(matches!(event, rt::Event::Started(_)));
        }
        assert!(methods.contains(&true), "what came before the answer was kept");
        assert_eq!(wait!(review.result()).expect("completed").thread_id.as_str(), "N");
        wait!(codex.close());
    }
}

scenario! {
    fn rt_07_resuming_a_thread_whose_turn_runs_gives_the_turn_and_its_end() {
        let server = scripted(&Script::new().turn(TurnPlan::when("wait").hold()));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let mut events = codex.events();
        let params = TurnStart::new(thread.id(), [UserInput::text("wait")]);
        let started = wait!(codex.request(params)).expect("started").turn.id;
        while !matches!(wait!(events.next()), Some(rt::Event::Started(_))) {}
        let resumed = wait!(codex.thread_resume(ThreadResume::new(thread.id()))).expect("resumed");
        let running = resumed.running.expect("a turn runs");
        assert_eq!(running.id().as_ref(), Some(&started));
        let asked = server.received_of("thread/resume", 1);
        assert_eq!((&asked[0]["excludeTurns"], &asked[0]["initialTurnsPage"]["limit"]), (&json!(true), &json!(1)));
        assert!(matches!(wait!(thread.turn("Me too")), Err(rt::TurnError::Busy(_))));
        assert_eq!(wait!(running.interrupt()).expect("taken"), rt::InterruptOutcome::Acknowledged);
        assert_eq!(wait!(running.result()).expect("interrupted").status, rt::State::Interrupted);
        assert!(wait!(thread.run("Now me")).is_ok());
        wait!(codex.close());
    }
}

scenario! {
    fn th_a_resume_passes_the_sandbox_and_says_what_is_in_force() {
        let server = scripted(&Script::new().stored_thread(ABSENT));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let ask = |mode: SandboxMode| rt::Resume::new(ABSENT).with(|params| params.sandbox(mode));
        let resumed = wait!(codex.thread_resume(ask(SandboxMode::WorkspaceWrite))).expect("resumed");
        assert!(matches!(resumed.settings.sandbox, SandboxPolicy::WorkspaceWrite(_)) && resumed.sandbox_not_taken.is_none());
        // It is loaded now, and what is asked for is ignored without a word.
        let error = wait!(codex.thread_resume(ask(SandboxMode::ReadOnly))).expect_err("looser than asked for");
        assert!(matches!(error, ThreadError::Sandbox { effective: SandboxPolicy::WorkspaceWrite(_), .. }), "{error:?}");
        let resumed = wait!(codex.thread_resume(ask(SandboxMode::DangerFullAccess))).expect("tighter than asked for");
        assert_eq!(resumed.sandbox_not_taken, Some(SandboxMode::DangerFullAccess));
        wait!(codex.close());
    }
}

scenario! {
    fn th_goals_are_kept_and_their_turns_are_followed() {
        let turn = |id: &str, status: &str| json!({"threadId": "$params.threadId", "turn": {"id": id, "status": status, "items": []}});
        let set = Rule::on("thread/goal/set").when("objective", "Go on").default_reply()
            .notify("turn/started", turn("G1", "inProgress"))
            .notify("turn/completed", turn("G1", "completed"))
            .notify("turn/started", turn("G2", "inProgress"))
            .notify("turn/completed", turn("G2", "failed"));
        let server = scripted(&Script::new().rule(set));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        assert!(wait!(thread.goal_get()).expect("answered").is_none());
        let mut turns = thread.turns();
        let goal = wait!(thread.goal_set(|goal| goal.objective("Go on").token_budget(1000))).expect("set");
        assert_eq!((goal.objective.as_str(), goal.token_budget), ("Go on", Some(1000)));
        let first = wait!(turns.next()).expect("a turn");
        assert_eq!(wait!(first.result()).expect("completed").turn_id.expect("named").as_str(), "G1");
        let second = wait!(turns.next()).expect("a turn");
        assert!(matches!(wait!(second.result()), Err(rt::TurnError::Failed(_))));
        assert!(wait!(thread.goal_clear()).expect("answered"));
        wait!(codex.close());
        assert!(wait!(turns.next()).is_none(), "it ends with the connection");
    }
}

scenario! {
    fn rq_05_rq_07_overload_is_tried_again_and_nothing_else_is() {
        let overloaded = |nth: u64| Rule::on("model/list").nth(nth).reply_error(-32001, "Server overloaded; retry later.");
        let script = (1..=4).fold(Script::new(), |script, nth| script.rule(overloaded(nth)));
        let server = scripted(&script.rule(Rule::on("thread/list").reply_error(-32602, "no")));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let quick = rt::RetryPolicy::new().base(Duration::from_millis(2)).cap(Duration::from_millis(8));
        let error = wait!(codex.retry_on_overload(&quick.clone().max_attempts(3), || codex.models())).expect_err("too few");
        assert!(error.is_exhausted() && error.attempts == 3 && error.gave_up == rt::GaveUp::Attempts, "{error:?}");
        assert_eq!(error.last.rpc().map(|rpc| rpc.code), Some(-32001), "the last cause is kept");
        assert!(!error.may_have_effect());
        wait!(codex.retry_on_overload(&quick, || codex.models())).expect("the fifth time it works");
        assert_eq!(server.received_of("model/list", 5).len(), 5);
        let error = wait!(codex.retry_on_overload(&quick, || codex.thread_list(ThreadList::new()))).expect_err("refused");
        assert!(!error.is_exhausted() && error.attempts == 1 && error.gave_up == rt::GaveUp::NotRetryable, "{error:?}");
        assert_eq!(server.received_of("thread/list", 1).len(), 1);
        wait!(codex.close());
    }
}

scenario! {
    fn rq_07_what_was_lost_is_not_sent_again_and_a_pause_ends_with_the_connection() {
        let server = scripted(&Script::new().rule(Rule::on("model/list").exit(0)));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let long = rt::RetryPolicy::new().base(Duration::from_secs(3600)).cap(Duration::from_secs(3600));
        let error = wait!(codex.retry_on_overload(&long, || codex.models())).expect_err("lost");
        assert!(error.attempts == 1 && error.last.is_closed() && error.may_have_effect(), "{error:?}");
        assert!(!wait!(codex.pause(Duration::from_secs(3600))), "nothing to wait for any more");
    }
}
