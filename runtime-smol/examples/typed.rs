//! `typed`: an answer that is a Rust value, on smol. The type makes the schema that the model answers by.
//!
//!     cargo run -p turnwire-smol --features schemars --example typed [-- --real [CODEX]]

use schemars::JsonSchema;
use serde::Deserialize;
use std::{collections::BTreeMap, error::Error, process::ExitCode};
use turnwire_smol::{TypedError, protocol::ThreadStart, spawn};
use turnwire_testkit::{
    scripted::{Script, TurnPlan},
    stand_in::{self, Server},
};

/// What is asked for. The comments become the descriptions that the model reads.
#[derive(Debug, Deserialize, JsonSchema)]
struct Review {
    /// One sentence.
    summary: String,
    findings: Vec<Finding>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Finding {
    /// Relative to the project.
    file: String,
    /// Not every finding has one.
    line: Option<u32>,
    severity: Severity,
}

#[derive(Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Severity {
    Low,
    High,
}

const ANSWER: &str = r#"{"summary":"Two things.","findings":[
    {"file":"src/lib.rs","line":7,"severity":"high"},{"file":"README.md","line":null,"severity":"low"}]}"#;

fn main() -> ExitCode {
    let script = Script::new()
        .turn(TurnPlan::when("Review").phase("final_answer").text(ANSWER))
        .turn(TurnPlan::new().text("I would rather talk about it."));
    stand_in::main("typed", script, |server| smol::block_on(typed(server)))
}

#[allow(clippy::print_stdout, reason = "showing is what this is about")]
async fn typed(server: &Server) -> Result<(), Box<dyn Error>> {
    let codex = spawn(server.command()).await?;
    let thread = codex.thread_start(ThreadStart::new()).await?;

    let review = thread.run_typed::<Review>("Review this project.").await?;
    println!("{}", review.value.summary);
    for Finding { file, line, severity } in &review.value.findings {
        println!("{severity:?}: {file}:{}", line.map_or("-".into(), |line| line.to_string()));
    }
    assert!(!review.value.summary.is_empty() && review.result.usage.is_some());

    // What has no strict schema is told before anything is sent, with the path of each fault.
    match thread.run_typed::<BTreeMap<String, String>>("Anything.").await {
        Err(TypedError::Schema(error)) => println!("not sent: {error}"),
        other => return Err(format!("a map has keys that are not known: {other:?}").into()),
    }

    if !server.is_real() {
        assert_eq!(review.value.findings[1].line, None);
        assert_eq!(review.value.findings[0].severity, Severity::High);
        // An answer that does not fit is an error that keeps the answer, and what it cost.
        match thread.run_typed::<Review>("Talk to me.").await {
            Err(error @ TypedError::Mismatch(_)) => {
                let result = error.result().ok_or("the turn ran")?;
                println!("{error}; it said: {}", result.final_response.as_deref().unwrap_or_default());
                assert!(result.usage.is_some());
            }
            other => return Err(format!("that is no review: {other:?}").into()),
        }
    }
    codex.close().await;
    Ok(())
}
