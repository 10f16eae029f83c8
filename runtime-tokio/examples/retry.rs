//! `retry`: what the server refuses under load is tried again, and nothing else is, on tokio.
//!
//!     cargo run -p turnwire-tokio --example retry [-- --real [CODEX]]

use std::{error::Error, process::ExitCode, time::Duration};
use turnwire_testkit::{
    scripted::{Rule, Script},
    stand_in::{self, Server},
};
use turnwire_tokio::{RetryPolicy, protocol::ThreadStart, spawn};

fn main() -> ExitCode {
    // The fake is overloaded three times, and then for ever for one method.
    let mut script = Script::new();
    for n in 1..=3 {
        script = script.rule(Rule::on("thread/start").nth(n).reply_error(-32001, "Server overloaded; retry later."));
    }
    let script = script.rule(Rule::on("model/list").reply_error(-32001, "Server overloaded; retry later."));
    stand_in::main("retry", script, |server| {
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(retry(server))
    })
}

#[allow(clippy::print_stdout, reason = "showing is what this is about")]
async fn retry(server: &Server) -> Result<(), Box<dyn Error>> {
    let codex = spawn(server.command()).await?;
    let policy = RetryPolicy::new().base(Duration::from_millis(20)).max_attempts(5).total(Duration::from_secs(30));

    let mut attempts = 0;
    let thread = codex
        .retry_on_overload(&policy, || {
            attempts += 1;
            codex.thread_start(ThreadStart::new())
        })
        .await?;
    println!("a thread after {attempts} attempts: {}", thread.id());
    let result = codex.retry_on_overload(&policy, || thread.run("Say hello.")).await?;
    println!("{}: {}", result.status, result.final_response.unwrap_or_default());

    // A mistake is not tried again, and says whether it can have had an effect.
    let wrong = codex.retry_on_overload(&policy, || codex.request_raw("no/such", ())).await;
    let wrong = wrong.err().ok_or("there is no such method")?;
    println!("given up after {} attempt: {wrong}", wrong.attempts);
    assert_eq!((wrong.attempts, wrong.may_have_effect(), wrong.is_exhausted()), (1, false, false));

    if !server.is_real() {
        assert_eq!(attempts, 4);
        let error = codex.retry_on_overload(&policy, || codex.models()).await.err().ok_or("always overloaded")?;
        println!("given up after {} attempts: {error}", error.attempts);
        assert_eq!((error.attempts, error.is_exhausted(), error.may_have_effect()), (5, true, false));
    }
    codex.close().await;
    Ok(())
}
