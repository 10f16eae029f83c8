// Scenarios against the real server with a scripted model behind it: threads: their options, their history, their lists. Included once for each runtime.

use crate::support::{self, real_server};
use rt::{
    ResumedBy, ThreadError, Unsubscribed,
    protocol::{
        AskForApproval, CustomReviewTarget, ReviewTarget, SandboxMode, SandboxPolicy, SortDirection, ThreadFork, ThreadGoalStatus, ThreadHistoryMode,
        ThreadItem, ThreadList, ThreadStart, TurnStart, TurnStatus, UserInput,
    },
};
use serde_json::json;
use std::time::{Duration, Instant};
use turnwire_testkit::model::{Gate, Message, Reply};

real_scenario! {
    fn th_01_a_name_is_shown_by_read_and_by_list() {
        let Some(server) = real_server("th_01_a_name_is_shown_by_read_and_by_list") else { return };
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        wait!(thread.run("Hello.")).expect("completed");
        wait!(thread.set_name("The first one")).expect("named");
        assert_eq!(wait!(thread.read(false)).expect("read").thread.name.as_deref(), Some("The first one"));
        let list = wait!(codex.thread_list(ThreadList::new())).expect("listed");
        let found = list.data.iter().find(|entry| entry.id == *thread.id()).expect("it is in the list");
        assert_eq!(found.name.as_deref(), Some("The first one"));
        let error = wait!(thread.set_name("  ")).expect_err("a blank name");
        assert!(matches!(error, ThreadError::Call(_)), "{error:?}");
        assert!(wait!(codex.loaded_list()).expect("listed").contains(thread.id()));
        wait!(codex.close());
    }
}

real_scenario! {
    fn th_03_th_02_an_archived_thread_is_listed_as_such_and_comes_back_usable() {
        let Some(server) = real_server("th_03_th_02_an_archived_thread_comes_back_usable") else { return };
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let kept = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        let put_away = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        wait!(kept.run("Stay.")).expect("completed");
        wait!(put_away.run("Go.")).expect("completed");
        wait!(put_away.archive()).expect("archived");
        for (archived, expected) in [(false, kept.id()), (true, put_away.id())] {
            let listed = wait!(codex.thread_pages(ThreadList::new().archived(archived)).all()).expect("listed");
            let ids: Vec<_> = listed.iter().map(|thread| &thread.id).collect();
            assert_eq!(ids, [expected], "archived: {archived}");
        }
        // The oldest server resumes it all the same.
        if server.version() == "0.133.0" {
            return;
        }
        let error = wait!(codex.thread_resume(rt::Resume::new(put_away.id()))).expect_err("archived");
        assert!(matches!(&error, ThreadError::Archived { thread, .. } if thread == put_away.id()), "{error:?}");
        let error = wait!(put_away.archive()).expect_err("twice");
        assert!(matches!(error, ThreadError::Archived { .. }), "{error:?}");
        let back = wait!(codex.thread_unarchive(put_away.id())).expect("unarchived");
        assert_eq!(back.id(), put_away.id());
        let error = wait!(codex.thread_unarchive(put_away.id())).expect_err("twice");
        assert!(matches!(error, ThreadError::NotFound { .. } | ThreadError::ActiveWriter { .. }), "{error:?}");
        let resumed = wait!(codex.thread_resume(rt::Resume::new(back.id()))).expect("resumed");
        assert!(wait!(resumed.thread.run("And again.")).is_ok());
        wait!(codex.close());
    }
}

real_scenario! {
    fn th_04_th_08_a_thread_that_never_ran_says_so_and_one_that_is_not_there_too() {
        let Some(server) = real_server("th_04_th_08_a_thread_that_never_ran_says_so") else { return };
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        let never = |error: ThreadError| {
            assert!(matches!(&error, ThreadError::NotMaterialized { thread: id, .. } if id == thread.id()), "{error:?}");
            assert!(error.call().is_some_and(|call| call.rpc().is_some()), "the server's own words are kept");
        };
        never(wait!(thread.fork()).expect_err("nothing to copy"));
        never(wait!(thread.read(true)).expect_err("no turns to read"));
        never(wait!(codex.thread_resume(rt::Resume::new(thread.id()))).expect_err("nothing to resume"));
        assert_eq!(wait!(codex.loaded_list()).expect("listed").len(), 1, "nothing was started instead");
        assert!(wait!(thread.run("Run all the same.")).is_ok());

        let unknown = "01a00000-0000-7000-8000-000000000000";
        let absent = wait!(codex.thread_resume(rt::Resume::new(unknown))).expect_err("not there");
        assert!(matches!(&absent, ThreadError::NotFound { thread, .. } if *thread == unknown), "{absent:?}");
        assert!(!absent.is_retryable() && !absent.may_have_effect());
        let started = wait!(codex.thread_resume(rt::Resume::new(unknown).or_start(ThreadStart::new()))).expect("started");
        assert_eq!(started.by, ResumedBy::Starting);
        assert!(wait!(started.thread.run("Hello.")).is_ok());

        // Older servers refuse to archive it, newer ones do it.
        let other = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        match wait!(other.archive()) {
            Ok(()) => assert!(server.version().as_str() > "0.154.0"),
            Err(error) => assert!(matches!(error, ThreadError::NotMaterialized { .. }), "{error:?}"),
        }
        wait!(codex.close());
    }
}

real_scenario! {
    fn th_07_th_05_a_fork_is_a_thread_of_its_own_and_read_has_both_turns_in_order() {
        let Some(server) = real_server("th_07_th_05_a_fork_is_a_thread_of_its_own") else { return };
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let source = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        for n in ["one", "two"] {
            server.model.push(Reply::text(format!("answer {n}")));
            wait!(source.run(format!("question {n}"))).expect("completed");
        }
        let texts = |turns: &[rt::protocol::Turn]| -> Vec<String> {
            let items = turns.iter().flat_map(|turn| turn.items.iter());
            items.filter_map(|item| match item {
                ThreadItem::AgentMessage(message) => Some(message.text.clone()),
                _ => None,
            }).collect()
        };
        let before = wait!(source.read(true)).expect("read").thread;
        assert_eq!(texts(&before.turns), ["answer one", "answer two"]);
        assert!(before.turns.iter().all(|turn| turn.status == TurnStatus::Completed));

        let fork = wait!(source.fork()).expect("forked");
        assert_ne!(fork.id(), source.id());
        server.model.push(Reply::text("answer three"));
        wait!(fork.run("question three")).expect("completed");
        assert_eq!(texts(&wait!(fork.read(true)).expect("read").thread.turns), ["answer one", "answer two", "answer three"]);
        let after = wait!(source.read(true)).expect("read").thread;
        assert_eq!(after.turns, before.turns, "the source is unchanged");
        assert_eq!(wait!(fork.read(false)).expect("read").thread.forked_from_id.as_ref(), Some(source.id()));

        let ids: Vec<_> = wait!(source.history().with(|list| list.limit(1)).all()).expect("turns").into_iter().map(|turn| turn.id).collect();
        let mut reversed: Vec<_> = before.turns.iter().map(|turn| turn.id.clone()).collect();
        reversed.reverse();
        assert_eq!(ids, reversed, "page by page, the latest first");
        // Servers before 0.154 have no list of items, or do not support it yet.
        if server.version().as_str() < "0.154.0" {
            return;
        }
        let items = wait!(source.items().all()).expect("items");
        assert_eq!(items.len(), 4, "two questions and two answers");
        wait!(codex.close());
    }
}

real_scenario! {
    fn th_06_a_fork_ends_at_the_named_turn_and_has_a_running_one_as_interrupted() {
        let Some(server) = real_server("th_06_a_fork_ends_at_the_named_turn") else { return };
        // The oldest server cannot cut a fork.
        if server.version() == "0.133.0" {
            return;
        }
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let source = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        let first = wait!(source.run("one")).expect("completed").turn_id.expect("named");
        wait!(source.run("two")).expect("completed");
        let cut = ThreadFork::new(source.id()).last_turn_id(first.clone());
        let cut = wait!(codex.thread_fork(cut)).expect("forked");
        let turns = wait!(cut.history().all()).expect("turns");
        assert_eq!(turns.iter().map(|turn| &turn.id).collect::<Vec<_>>(), [&first]);

        let gate = Gate::new();
        server.model.push(Reply::new().message(Message::new("Working.")).hold(&gate));
        let running = wait!(source.turn("three")).expect("a turn");
        assert!(gate.wait_reached(support::PATIENCE), "the model is asked");
        let fork = wait!(source.fork()).expect("forked in the middle of it");
        let copied = wait!(fork.history().with(|list| list.limit(1)).next()).expect("one").expect("a turn");
        assert_eq!(Some(&copied.id), running.id().as_ref());
        assert_eq!(copied.status, TurnStatus::Interrupted);
        gate.open();
        assert_eq!(wait!(running.result()).expect("completed").status, rt::State::Completed);

        // Servers before 0.154 cannot revert.
        if server.version().as_str() < "0.154.0" {
            return;
        }
        wait!(fork.revert(copied.id)).expect("reverted");
        assert_eq!(wait!(fork.history().all()).expect("turns").len(), 2);
        wait!(codex.close());
    }
}

real_scenario! {
    fn th_11_a_thread_in_use_elsewhere_is_told_waited_for_or_forked_as_asked() {
        let Some(server) = real_server("th_11_a_thread_in_use_elsewhere") else { return };
        // Servers before 0.154 do not say that a thread is in use.
        if server.version().as_str() < "0.154.0" {
            return;
        }
        let holder = wait!(rt::spawn(&server.command())).expect("the server starts");
        let held = wait!(holder.thread_start(server.thread_start())).expect("a thread");
        wait!(held.run("Mine.")).expect("completed");
        let codex = wait!(rt::spawn(&server.command())).expect("a second server on the same home");
        let error = wait!(codex.thread_resume(rt::Resume::new(held.id()))).expect_err("in use");
        assert!(matches!(&error, ThreadError::ActiveWriter { thread, .. } if thread == held.id()), "{error:?}");
        assert!(!error.is_retryable(), "not blindly");
        let start = Instant::now();
        let wait_a_bit = rt::Resume::new(held.id()).wait_for_writer(Duration::from_millis(300));
        let error = wait!(codex.thread_resume(wait_a_bit)).expect_err("still in use");
        assert!(matches!(error, ThreadError::ActiveWriter { .. }), "{error:?}");
        assert!(start.elapsed() >= Duration::from_millis(300), "it was waited for");
        assert!(wait!(held.run("Still mine.")).is_ok(), "whoever has it is not disturbed");

        let forked = wait!(codex.thread_resume(rt::Resume::new(held.id()).or_fork())).expect("forked instead");
        assert_eq!(forked.by, ResumedBy::Forking);
        assert_ne!(forked.thread.id(), held.id());
        assert!(wait!(forked.thread.run("On the copy.")).is_ok());

        let resuming = {
            let id = held.id().clone();
            go!([codex] {
                wait!(codex.thread_resume(rt::Resume::new(id).wait_for_writer(Duration::from_secs(20))))
            })
        };
        wait!(holder.close());
        let resumed = join!(resuming).expect("resumed once it was free");
        assert_eq!((resumed.by, resumed.thread.id()), (ResumedBy::Resuming, held.id()));
        assert!(resumed.running.is_none());
        assert!(wait!(resumed.thread.run("Mine now.")).is_ok());
        wait!(codex.close());
    }
}

real_scenario! {
    fn th_13_th_15_pages_lose_nothing_and_a_wrong_cursor_is_an_error_that_ends_the_list() {
        let Some(server) = real_server("th_13_th_15_pages_lose_nothing") else { return };
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let mut made = Vec::new();
        for n in 0..7 {
            let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
            wait!(thread.run(format!("Hello {n}"))).expect("completed");
            made.push(thread.id().clone());
        }
        made.reverse();
        for limit in [1, 3] {
            let mut pages = codex.thread_pages(ThreadList::new().limit(limit));
            let mut listed = Vec::new();
            while let Some(thread) = wait!(pages.next()) {
                listed.push(thread.expect("a thread").id);
            }
            assert_eq!(listed, made, "{limit} at a time, the last used first");
        }
        let mut wrong = codex.thread_pages(ThreadList::new().cursor("garbage"));
        let error = wait!(wrong.next()).expect("an answer").expect_err("no such page");
        assert!(matches!(error, rt::PageError::InvalidCursor(_)), "{error:?}");
        assert!(wait!(wrong.next()).is_none(), "the list ends");
        let error = wait!(codex.thread_list(ThreadList::new().cursor("garbage"))).expect_err("no such page");
        assert!(matches!(error, rt::PageError::InvalidCursor(_)), "{error:?}");

        let models = wait!(codex.all_models(false)).expect("models");
        let all = wait!(codex.all_models(true)).expect("models");
        let one_by_one = codex.model_pages(rt::protocol::ModelList::new().include_hidden(true).limit(1));
        assert_eq!(wait!(one_by_one.all()).expect("models").len(), all.len());
        assert!(!models.is_empty() && all.len() > models.len(), "{} of {}", models.len(), all.len());
        wait!(codex.close());
    }
}

real_scenario! {
    fn th_17_unsubscribing_has_three_answers_ends_the_streams_and_is_refused_while_a_turn_runs() {
        let Some(server) = real_server("th_17_unsubscribing_has_three_answers") else { return };
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        let gate = Gate::new();
        server.model.push(Reply::new().message(Message::new("Working.")).hold(&gate));
        let turn = wait!(thread.turn("Work.")).expect("a turn");
        let error = wait!(thread.unsubscribe()).expect_err("a turn runs");
        assert!(matches!(&error, ThreadError::Busy(id) if id == thread.id()), "{error:?}");
        gate.open();
        wait!(turn.result()).expect("completed, and heard of");

        let mut events = thread.events();
        assert_eq!(wait!(thread.unsubscribe()).expect("answered"), Unsubscribed::Done);
        let mut last = None;
        while let Some(event) = wait!(events.next()) {
            last = Some(event);
        }
        assert!(matches!(last, Some(rt::Event::Unsubscribed)), "{last:?}");
        assert_eq!(wait!(thread.unsubscribe()).expect("answered"), Unsubscribed::NotSubscribed);
        let unknown = codex.thread("01a00000-0000-7000-8000-000000000000");
        assert_eq!(wait!(unknown.unsubscribe()).expect("answered"), Unsubscribed::NotLoaded);

        // To listen again, resume.
        let resumed = wait!(codex.thread_resume(rt::Resume::new(thread.id()))).expect("resumed");
        let mut events = resumed.thread.events();
        assert!(wait!(resumed.thread.run("And again.")).is_ok());
        assert!(wait!(events.next()).is_some());
        wait!(codex.close());
    }
}

real_scenario! {
    fn th_19_a_compaction_ends_with_its_own_turn() {
        let Some(server) = real_server("th_19_a_compaction_ends_with_its_own_turn") else { return };
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        let before = wait!(thread.run("Hello.")).expect("completed");
        server.model.push(Reply::text("A summary."));
        let compacted = wait!(thread.compact()).expect("compacted");
        assert_eq!(compacted.status, rt::State::Completed);
        assert_ne!(compacted.turn_id, before.turn_id);
        assert!(
            compacted.items.iter().any(|item| matches!(item, ThreadItem::ContextCompaction(_))),
            "{:?}",
            compacted.items.iter().map(ThreadItem::kind).collect::<Vec<_>>()
        );
        let after = wait!(thread.run("And now?")).expect("completed");
        assert!(after.turn_id != compacted.turn_id && !after.joined);

        // While a turn runs, it is refused here.
        let gate = Gate::new();
        server.model.push(Reply::new().hold(&gate));
        let turn = wait!(thread.turn("Work.")).expect("a turn");
        assert!(matches!(wait!(thread.compact()), Err(rt::TurnError::Busy(_))));
        gate.open();
        wait!(turn.result()).expect("completed");

        // One that fails is an error of its own.
        server.model.set_default(Reply::http_error(400, "bad_request", "no summary today"));
        let error = wait!(thread.compact()).expect_err("failed");
        assert!(matches!(&error, rt::TurnError::Failed(report) if report.error.is_some()), "{error:?}");
        server.model.set_default(Reply::text("On we go."));
        assert!(wait!(thread.run("And now?")).is_ok());
        wait!(codex.close());
    }
}

real_scenario! {
    fn th_21_settings_change_between_turns_and_during_one() {
        let Some(server) = real_server("th_21_settings_change_between_turns_and_during_one") else { return };
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        wait!(thread.run("Hello.")).expect("completed");
        let mut events = thread.events();
        wait!(thread.update_settings(|settings| settings.effort("low"))).expect("updated");
        let told = loop {
            if let rt::Event::Other(raw) = wait!(events.next()).expect("an event") {
                if &*raw.method == "thread/settings/updated" {
                    break raw.params_text().to_owned();
                }
            }
        };
        assert!(told.contains("\"effort\":\"low\""), "{told}");
        wait!(thread.run("With little effort.")).expect("completed");
        let requests = server.model.requests();
        assert_eq!(requests.last().expect("asked").body()["reasoning"]["effort"], json!("low"));

        let gate = Gate::new();
        server.model.push(Reply::new().message(Message::new("Working.")).hold(&gate));
        let turn = wait!(thread.turn("Work.")).expect("a turn");
        assert!(gate.wait_reached(support::PATIENCE), "the model is asked");
        wait!(thread.update_settings(|settings| settings.effort("high"))).expect("updated in the middle");
        gate.open();
        wait!(turn.result()).expect("completed");
        wait!(thread.run("With more effort.")).expect("completed");
        let requests = server.model.requests();
        assert_eq!(requests.last().expect("asked").body()["reasoning"]["effort"], json!("high"));
        wait!(codex.close());
    }
}

real_scenario! {
    fn tu_21_a_review_runs_on_the_thread_or_on_one_of_its_own() {
        let Some(server) = real_server("tu_21_a_review_runs_on_the_thread_or_on_one_of_its_own") else { return };
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        wait!(thread.run("Hello.")).expect("completed");
        let target = || ReviewTarget::Custom(CustomReviewTarget::new("Check the error handling."));
        server.model.push(Reply::text("Looks fine."));
        let inline = wait!(thread.review(target())).expect("a review");
        assert_eq!(inline.thread_id(), thread.id());
        let mut ended = 0;
        while let Some(event) = wait!(inline.next()) {
            ended += usize::from(matches!(event, rt::Event::Ended(rt::State::Completed)));
        }
        assert_eq!(ended, 1);
        let result = wait!(inline.result()).expect("completed");
        let kinds: Vec<String> = result.items.iter().map(|item| item.kind().to_string()).collect();
        assert!(kinds.iter().any(|kind| kind == "exitedReviewMode"), "{kinds:?}");

        if server.version() == "0.133.0" {
            // It has no kinds of threads.
            return;
        }
        // The server does this for threads of the older kind only.
        let start = server.thread_start().history_mode(ThreadHistoryMode::Legacy);
        let thread = wait!(codex.thread_start(start)).expect("a thread");
        wait!(thread.run("Hello.")).expect("completed");
        server.model.push(Reply::text("Looks fine from afar."));
        let detached = wait!(thread.review_detached(target())).unwrap_or_else(|error| panic!("{error}"));
        assert_ne!(detached.thread_id(), thread.id());
        let result = wait!(detached.result()).expect("completed");
        assert_eq!(&result.thread_id, detached.thread_id());
        assert_eq!(result.final_response.as_deref(), Some("Looks fine from afar."));
        assert!(wait!(thread.run("And now?")).is_ok(), "this thread is free");
        wait!(codex.close());
    }
}

real_scenario! {
    fn rt_07_a_thread_that_is_resumed_while_its_turn_runs_gives_that_turn_and_its_end() {
        let Some(server) = real_server("rt_07_a_thread_that_is_resumed_while_its_turn_runs") else { return };
        let gate = Gate::new();
        server.model.push(Reply::new().message(Message::new("Working on it.").text(" Done.").hold(&gate)));
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        // Started past turnwire, so that it knows nothing of it.
        let start = TurnStart::new(thread.id(), [UserInput::text("Work.")]);
        let started = wait!(codex.request(start)).expect("started").turn.id;
        assert!(gate.wait_reached(support::PATIENCE), "the model is asked");
        let resumed = wait!(codex.thread_resume(rt::Resume::new(thread.id()))).expect("resumed");
        let running = resumed.running.expect("a turn runs");
        assert_eq!(running.id(), Some(started));
        assert!(matches!(wait!(resumed.thread.turn("Me too.")), Err(rt::TurnError::Busy(_))), "the thread is busy");
        gate.open();
        let mut ended = 0;
        while let Some(event) = wait!(running.next()) {
            ended += usize::from(matches!(event, rt::Event::Ended(rt::State::Completed)));
        }
        assert_eq!(ended, 1);
        assert_eq!(wait!(running.result()).expect("completed").final_response.as_deref(), Some("Working on it. Done."));
        assert!(wait!(thread.run("Next.")).is_ok());
        wait!(codex.close());
    }
}

real_scenario! {
    fn th_goals_start_turns_that_can_be_followed_to_the_last() {
        let Some(server) = real_server("th_goals_start_turns_that_can_be_followed") else { return };
        server.model.push(Reply::text("First step done."));
        server.model.push(Reply::new().function_call("update_goal", &json!({"status": "complete"})));
        server.model.push(Reply::text("All done."));
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        assert!(wait!(thread.goal_get()).expect("answered").is_none());
        let error = wait!(thread.goal_set(|goal| goal.status(ThreadGoalStatus::Paused))).expect_err("there is none");
        assert!(matches!(error, ThreadError::Call(_)), "{error:?}");
        let mut turns = thread.turns();
        let goal = wait!(thread.goal_set(|goal| goal.objective("Make it so."))).expect("set");
        assert_eq!(goal.objective, "Make it so.");
        let mut answers = Vec::new();
        for _ in 0..2 {
            let turn = wait!(turns.next()).expect("a turn");
            let mut began = 0;
            while let Some(event) = wait!(turn.next()) {
                began += usize::from(matches!(event, rt::Event::Started(_)));
            }
            assert_eq!(began, 1, "from its first event on");
            answers.push(wait!(turn.result()).expect("completed").final_response);
        }
        assert_eq!(answers, [Some("First step done.".to_owned()), Some("All done.".to_owned())]);
        let goal = wait!(thread.goal_get()).expect("answered").expect("still there");
        assert_eq!(goal.status, ThreadGoalStatus::Complete);
        assert!(wait!(thread.goal_clear()).expect("cleared"));
        assert!(!wait!(thread.goal_clear()).expect("nothing left"));
        assert!(wait!(thread.run("On our own again.")).is_ok());
        wait!(codex.close());
    }
}

real_scenario! {
    fn th_09_resume_in_a_new_process_passes_the_sandbox_and_checks_it() {
        let Some(server) = real_server("th_09_resume_in_a_new_process_passes_the_sandbox") else { return };
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let start = ThreadStart::new().sandbox(SandboxMode::DangerFullAccess).approval_policy(AskForApproval::Never);
        let thread = wait!(codex.thread_start(start)).expect("a thread");
        wait!(thread.run("Hello.")).expect("completed");
        // Loaded, it keeps what it has: looser than asked for is an error.
        let asked = rt::Resume::new(thread.id()).with(|params| params.sandbox(SandboxMode::ReadOnly));
        let error = wait!(codex.thread_resume(asked.clone())).expect_err("looser than asked for");
        assert!(matches!(&error, ThreadError::Sandbox { effective: SandboxPolicy::DangerFullAccess, .. }), "{error:?}");
        wait!(codex.close());

        let codex = wait!(rt::spawn(&server.command())).expect("another server");
        let resumed = wait!(codex.thread_resume(asked)).expect("resumed");
        assert!(matches!(resumed.settings.sandbox, SandboxPolicy::ReadOnly(_)));
        assert!(resumed.sandbox_not_taken.is_none());
        // The oldest server has no page of the latest turn, and sends all of them.
        assert_eq!(resumed.info.turns.is_empty(), server.version() != "0.133.0", "the history is read by pages");
        assert_eq!(wait!(resumed.thread.history().with(|list| list.sort_direction(SortDirection::Asc)).all()).expect("turns").len(), 1);
        // Loaded now: a tighter one than asked for is told.
        let asked = rt::Resume::new(thread.id()).with(|params| params.sandbox(SandboxMode::WorkspaceWrite)).include_turns();
        let again = wait!(codex.thread_resume(asked)).expect("resumed");
        assert_eq!(again.sandbox_not_taken, Some(SandboxMode::WorkspaceWrite));
        assert_eq!(again.info.turns.len(), 1);
        wait!(codex.close());
    }
}

real_scenario! {
    fn values_of_the_configuration_are_read_as_they_were_written() {
        let Some(server) = real_server("values_of_the_configuration_are_read_as_they_were_written") else { return };
        let provider = rt::ConfigValue::table([
            ("name", rt::ConfigValue::from("say \"5\\\" é \u{7f}")),
            ("base_url", "http://127.0.0.1:1/v1".into()),
            ("wire_api", "responses".into()),
            ("stream_max_retries", 3.into()),
            ("http_headers", rt::ConfigValue::table([("X-A b.c", "1"), ("empty", "")])),
        ]);
        let command = server
            .command()
            .config_value("model_providers", rt::ConfigValue::table([("my.own provider", provider)]))
            .config_value("project_doc_max_bytes", 123)
            .config_value("model_verbosity", "low");
        let codex = wait!(rt::spawn(&command)).expect("the server starts");
        let config = wait!(codex.request_raw("config/read", json!({"includeLayers": false}))).expect("read");
        let config: serde_json::Value = config.decode().expect("JSON");
        let config = &config["config"];
        let provider = &config["model_providers"]["my.own provider"];
        assert_eq!(provider["name"], "say \"5\\\" é \u{7f}");
        assert_eq!(provider["http_headers"], json!({"X-A b.c": "1", "empty": ""}));
        assert_eq!((&provider["stream_max_retries"], &config["project_doc_max_bytes"]), (&json!(3), &json!(123)));
        assert_eq!(config["model_verbosity"], "low");
        wait!(codex.close());
    }
}
