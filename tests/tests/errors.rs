//! Every error of the library becomes the union of all, so that `?` works in a function that returns it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};
use turnwire_blocking::{
    AccountError, AnswerError, CallError, Codex, ConnectError, Disconnect, Error, InputError, LaunchError, LoginError,
    Mismatch, PageError, RetryError, RetryPolicy, RpcError, SteerError, Thread, ThreadError, ToolError, ToolFailure,
    TurnError, TypedError,
    core::{error::UsageError, launch::ConfigValueError, protocol::DecodeError, record::FormatError},
    pinned::InstallError,
    schema::SchemaError,
};

/// Asserts for the compiler that each becomes an [`Error`], and gives their names.
macro_rules! that_convert {
    ($($error:ident $(<$of:ident>)?),* $(,)?) => {{
        fn converts<E: Into<Error>>() {}
        $(converts::<$error $(<$of>)?>();)*
        BTreeSet::from([$(stringify!($error)),*])
    }};
}

#[test]
fn every_public_error_becomes_the_union() {
    let converted = that_convert![
        AccountError,
        AnswerError,
        CallError,
        ConfigValueError,
        ConnectError,
        DecodeError,
        Disconnect,
        Error,
        FormatError,
        InputError,
        InstallError,
        LaunchError,
        LoginError,
        Mismatch,
        PageError,
        RetryError<TypedError>,
        RpcError,
        SchemaError,
        SteerError,
        ThreadError,
        ToolError,
        ToolFailure,
        TurnError,
        TypedError,
        UsageError,
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut written = BTreeSet::new();
    for folder in ["core/src", "runtime-blocking/src", "runtime-smol/src", "runtime-tokio/src"] {
        for source in sources(&root.join(folder)) {
            let source = fs::read_to_string(source).expect("a source file is read");
            written.extend(source.lines().filter_map(implementor).map(str::to_owned));
        }
    }
    assert_eq!(written.iter().map(String::as_str).collect::<BTreeSet<_>>(), converted);
}

/// The type that a line says is an error.
fn implementor(line: &str) -> Option<&str> {
    let (head, name) = line.strip_prefix("impl")?.split_once("Error for ")?;
    let is_trait = head.ends_with("error::") || head == " ";
    is_trait.then(|| name.split([' ', '<', '{']).next().unwrap_or_default())
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder is there").map(|entry| entry.expect("an entry").path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    files.into_iter().chain(folders.iter().flat_map(|folder| sources(folder))).collect()
}

#[derive(schemars::JsonSchema, serde::Deserialize)]
struct Answer {
    _line: u32,
}

/// For the compiler: what a program does in one function, with `?` alone.
#[allow(dead_code)]
fn on_threads(codex: &Codex, thread: &Thread) -> Result<(), Error> {
    use turnwire_blocking::{Command, Tool, Tools, pinned::Installer, protocol::ThreadList};

    Installer::new()?.install()?;
    turnwire_blocking::spawn(&Command::new())?;
    codex.login_browser()?.wait()?;
    codex.rate_limits()?;
    codex.all_models(false)?;
    codex.thread_list(ThreadList::new())?;
    for listed in codex.thread_pages(ThreadList::new()) {
        listed?;
    }
    thread.run_typed::<Answer>("Which line?")?;
    codex.retry_on_overload(&RetryPolicy::new(), || thread.read(true))?;
    codex.retry_on_overload(&RetryPolicy::new(), || thread.run_typed::<Answer>("Which line?"))?;
    codex.retry_on_overload(&RetryPolicy::new(), || codex.login_api_key("key"))?;
    codex.retry_on_overload(&RetryPolicy::new(), || codex.rate_limits())?;
    codex.retry_on_overload(&RetryPolicy::new(), || Ok::<_, Error>(thread.run("Go.")?.decode::<Answer>()?))?;
    let turn = thread.turn("Go.")?;
    turn.steer("Faster.")?;
    turn.result_typed::<Answer>()?;
    turn.result()?.decode::<Answer>()?;
    Tools::new([] as [Tool; 0])?;
    Ok(())
}

/// The same where there is a runtime.
#[allow(dead_code)]
async fn on_a_runtime(codex: &turnwire_tokio::Codex, thread: &turnwire_tokio::Thread) -> Result<(), Error> {
    use turnwire_tokio::{Command, protocol::ThreadList};

    turnwire_tokio::spawn(&Command::new()).await?;
    codex.login_browser().await?.wait().await?;
    codex.rate_limits().await?;
    codex.all_models(false).await?;
    let mut pages = codex.thread_pages(ThreadList::new());
    while let Some(listed) = pages.next().await {
        listed?;
    }
    pages.next_page().await.transpose()?;
    thread.run_typed::<Answer>("Which line?").await?;
    codex.retry_on_overload(&RetryPolicy::new(), || thread.read(true)).await?;
    codex.retry_on_overload(&RetryPolicy::new(), || thread.run_typed::<Answer>("Which line?")).await?;
    let turn = thread.turn("Go.").await?;
    turn.steer("Faster.").await?;
    turn.result_typed::<Answer>().await?;
    Ok(())
}
