//! The futures of the client that may be dropped at any time.

use crate::server::{ABSENT, MODELS, STORED, WRITTEN};
use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    time::Duration,
};
use turnwire_core::{
    client::{Codex, Event, Handlers, Resume, Serving, Thread, Turn, TurnRequest},
    protocol::{CustomReviewTarget, ModelList, ReviewTarget, ThreadList, ThreadStart, TurnStart, UserInput},
    retry::RetryPolicy,
};

pub(crate) type Boxed = Pin<Box<dyn Future<Output = ()>>>;

/// One of the futures.
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    /// Makes it. The turn is one that holds, where one runs beside it.
    pub(crate) make: fn(Codex, Option<Turn>) -> Boxed,
    /// Whether a turn that holds runs beside it.
    pub(crate) with_turn: bool,
    /// Whether it ends when the session does, and not before.
    pub(crate) is_endless: bool,
}

pub(crate) fn operations() -> Vec<Operation> {
    let with_turn = |operation| Operation { with_turn: true, ..operation };
    let mut all = of_a_session();
    all.extend(of_lists_and_logins());
    all.extend(of_a_thread());
    all.extend(of_streams_and_handlers());
    all.extend(of_a_running_turn().into_iter().map(with_turn));
    all
}

fn operation(name: &'static str, make: fn(Codex, Option<Turn>) -> Boxed) -> Operation {
    Operation { name, make, with_turn: false, is_endless: false }
}

fn endless(operation: Operation) -> Operation {
    Operation { is_endless: true, ..operation }
}

fn running(turn: Option<Turn>) -> Turn {
    turn.expect("a turn that holds")
}

async fn a_thread(codex: &Codex) -> Thread {
    codex.thread_start(ThreadStart::new()).await.expect("a thread")
}

fn of_a_session() -> Vec<Operation> {
    vec![
        operation("ready", |codex, _| Box::pin(async move { drop(codex.ready().await) })),
        operation("request", |codex, _| Box::pin(async move { drop(codex.models().await) })),
        operation("request_raw", |codex, _| Box::pin(async move { drop(codex.request_raw("model/list", ()).await) })),
        operation("thread_start", |codex, _| Box::pin(async move { drop(a_thread(&codex).await) })),
        operation("thread_resume", |codex, _| {
            Box::pin(async move { drop(codex.thread_resume(Resume::new(STORED)).await.expect("resumed")) })
        }),
        operation("thread_resume, or a start", |codex, _| {
            let resume = Resume::new(ABSENT).or_start(ThreadStart::new());
            Box::pin(async move { drop(codex.thread_resume(resume).await.expect("started")) })
        }),
        operation("thread_resume, when the writer is gone", |codex, _| {
            let resume = Resume::new(WRITTEN).wait_for_writer(Duration::from_secs(5));
            Box::pin(async move { drop(codex.thread_resume(resume).await.expect("resumed")) })
        }),
        operation("pause", |codex, _| Box::pin(async move { assert!(codex.pause(Duration::from_millis(50)).await) })),
        endless(operation("closed", |codex, _| Box::pin(async move { drop(codex.closed().await) }))),
    ]
}

fn of_lists_and_logins() -> Vec<Operation> {
    vec![
        operation("all_models", |codex, _| {
            Box::pin(async move { assert_eq!(codex.all_models(true).await.expect("listed").len(), MODELS.len()) })
        }),
        operation("the next of some pages", |codex, _| {
            Box::pin(async move {
                let mut pages = codex.model_pages(ModelList::new().include_hidden(true));
                while let Some(model) = pages.next().await {
                    drop(model.expect("a model"));
                }
            })
        }),
        operation("retry_on_overload", |codex, _| {
            Box::pin(async move {
                let policy = RetryPolicy::new();
                let list = || codex.thread_list(ThreadList::new());
                drop(codex.retry_on_overload(&policy, list).await.expect("listed"));
            })
        }),
        operation("a login with a key", |codex, _| {
            Box::pin(async move { codex.login_api_key("sk-none").await.expect("taken") })
        }),
        operation("a login by a browser", |codex, _| {
            Box::pin(async move { codex.login_browser().await.expect("begun").wait().await.expect("logged in") })
        }),
    ]
}

fn target() -> ReviewTarget {
    ReviewTarget::Custom(CustomReviewTarget::new("Look."))
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Answer {
    count: u32,
}

fn of_a_thread() -> Vec<Operation> {
    vec![
        operation("run", |codex, _| {
            Box::pin(async move { drop(a_thread(&codex).await.run("short").await.expect("completed")) })
        }),
        operation("turn, next, result", |codex, _| {
            Box::pin(async move {
                let thread = a_thread(&codex).await;
                let mut events = thread.events();
                let turn = thread.turn("short").await.expect("a turn");
                while turn.next().await.is_some() {}
                drop(events.next().await);
                drop(turn.result().await);
            })
        }),
        operation("run_typed", |codex, _| {
            Box::pin(async move {
                let typed = a_thread(&codex).await.run_typed::<Answer>("typed").await;
                assert_eq!(typed.expect("it fits").value.count, 3);
            })
        }),
        operation("result_typed", |codex, _| {
            Box::pin(async move {
                let turn = a_thread(&codex).await.turn("typed").await.expect("a turn");
                assert_eq!(turn.result_typed::<Answer>().await.expect("it fits").value.count, 3);
            })
        }),
        operation("steer_or_start that starts", |codex, _| {
            Box::pin(async move { drop(a_thread(&codex).await.steer_or_start("short").await.expect("a turn")) })
        }),
        operation("compact", |codex, _| {
            Box::pin(async move { drop(a_thread(&codex).await.compact().await.expect("compacted")) })
        }),
        operation("review", |codex, _| {
            Box::pin(async move {
                let review = a_thread(&codex).await.review(target()).await.expect("a review");
                drop(review.result().await.expect("completed"));
            })
        }),
        operation("review_detached", |codex, _| {
            Box::pin(async move {
                let thread = a_thread(&codex).await;
                let review = thread.review_detached(target()).await.expect("a review");
                assert_ne!(review.thread_id(), thread.id());
                drop(review.result().await.expect("completed"));
            })
        }),
        operation("unsubscribe", |codex, _| {
            Box::pin(async move { drop(a_thread(&codex).await.unsubscribe().await.expect("answered")) })
        }),
        operation("stop where nothing runs", |codex, _| {
            Box::pin(async move { drop(a_thread(&codex).await.stop().await.expect("answered")) })
        }),
    ]
}

/// Whether a stream that goes on has told of the end of its turn.
pub(crate) fn tells_of_end(event: &Event) -> bool {
    matches!(event, Event::Ended(_)) || event.raw().is_some_and(|raw| &*raw.method == "turn/completed")
}

fn of_streams_and_handlers() -> Vec<Operation> {
    vec![
        endless(operation("events", |codex, _| {
            Box::pin(async move {
                let mut events = codex.events();
                while events.next().await.is_some() {}
            })
        })),
        operation("the next of a tree", |codex, _| {
            Box::pin(async move {
                let thread = a_thread(&codex).await;
                let mut tree = thread.tree();
                let _turn = thread.turn("short").await.expect("a turn");
                while !tells_of_end(&tree.next().await.expect("an event").event) {}
            })
        }),
        operation("the next of the turns that others start", |codex, _| {
            Box::pin(async move {
                let thread = a_thread(&codex).await;
                let mut turns = thread.turns();
                let start = TurnStart::new(thread.id(), [UserInput::text("short")]);
                drop(codex.request(start).await.expect("started"));
                let turn = turns.next().await.expect("a turn");
                while turn.next().await.is_some() {}
            })
        }),
        operation("serve", |codex, _| {
            Box::pin(async move {
                let (thread, own) = (a_thread(&codex).await, codex.clone());
                let serving = codex.serve(Handlers::new().command(move |asked| {
                    let codex = own.clone();
                    async move {
                        drop(codex.models().await);
                        codex.pause(Duration::from_millis(10)).await;
                        asked.accept()
                    }
                }));
                drop(beside(serving, thread.run("asks")).await.expect("completed"));
            })
        }),
        operation("an answer from a stream", |codex, _| {
            Box::pin(async move {
                let thread = a_thread(&codex).await;
                let request = TurnRequest::new("asks").asks_in_stream();
                let turn = thread.turn(request).await.expect("a turn");
                while let Some(event) = turn.next().await {
                    if let Event::Request(asked) = event {
                        codex.pause(Duration::from_millis(10)).await;
                        asked.refuse();
                        drop(asked.closed().await);
                    }
                }
            })
        }),
    ]
}

/// Runs handlers for as long as something else takes.
async fn beside<T>(mut serving: Serving, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    poll_fn(|cx| {
        let _ = Pin::new(&mut serving).poll(cx);
        work.as_mut().poll(cx)
    })
    .await
}

/// Those that are for a turn that holds, or for its thread.
fn of_a_running_turn() -> Vec<Operation> {
    vec![
        operation("a second reader", |_, long| {
            Box::pin(async move {
                let mut events = running(long).subscribe();
                drop(events.next().await);
            })
        }),
        operation("steer", |_, long| Box::pin(async move { drop(running(long).steer("And this.").await) })),
        operation("steer_or_next", |_, long| {
            Box::pin(async move { drop(running(long).steer_or_next("And this.").await) })
        }),
        operation("steer_or_start that steers", |codex, long| {
            Box::pin(async move {
                let thread = codex.thread(running(long).thread_id().clone());
                drop(thread.steer_or_start("And this.").await);
            })
        }),
        operation("interrupt", |_, long| Box::pin(async move { drop(running(long).interrupt().await) })),
        operation("stop", |codex, long| {
            Box::pin(async move {
                let thread = codex.thread(running(long).thread_id().clone());
                drop(thread.stop().await);
            })
        }),
        operation("thread_resume of a thread that is busy", |codex, long| {
            Box::pin(async move {
                let thread = running(long).thread_id().clone();
                drop(codex.thread_resume(Resume::new(thread)).await.expect("resumed"));
            })
        }),
        operation("unsubscribe_anyway", |codex, long| {
            Box::pin(async move {
                let long = running(long);
                // Of one that has not begun nothing would be known, and it could not be interrupted.
                while !matches!(long.next().await, Some(Event::Started(_))) {}
                let thread = codex.thread(long.thread_id().clone());
                drop(thread.unsubscribe_anyway().await.expect("answered"));
            })
        }),
        endless(operation("result", |_, long| Box::pin(async move { drop(running(long).result().await) }))),
    ]
}
