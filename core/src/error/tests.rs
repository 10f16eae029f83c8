//! What each error says of its cause.

use super::*;
use crate::{
    connection::{AnswerError, AskEnd},
    launch::ConfigValueError,
    protocol::{self, DecodeError},
    record::FormatError,
    retry::{GaveUp, Retry, RetryError},
    schema::SchemaError,
    turn::{InputError, State, TurnResult},
};
use alloc::{boxed::Box, string::ToString, sync::Arc, vec::Vec};
use core::{any::type_name, error::Error as StdError, time::Duration};

fn rpc() -> RpcError {
    RpcError::new(-32600, "no")
}

fn call() -> CallError {
    CallError::new("model/list", Fault::Rpc(rpc()))
}

fn disconnect() -> Disconnect {
    Disconnect::new(DisconnectReason::Eof, None)
}

fn result() -> Box<TurnResult> {
    Box::new(TurnResult {
        thread_id: "T".into(),
        turn_id: None,
        status: State::Completed,
        items: Vec::new(),
        open_items: Vec::new(),
        final_response: None,
        usage: None,
        error: None,
        started_at: None,
        completed_at: None,
        duration_ms: None,
        joined: false,
        raw: None,
    })
}

/// Asserts that an error has a source of a type.
#[track_caller]
fn has<T: StdError + 'static>(error: impl StdError) {
    let source = error.source().unwrap_or_else(|| panic!("`{error}` has a source"));
    assert!(source.is::<T>(), "the source of `{error}` is no {}: {source:?}", type_name::<T>());
}

/// Asserts that the sentence of an error says that of its source.
#[track_caller]
fn says<T: StdError + 'static>(error: impl StdError) {
    let source = error.source().map(ToString::to_string).unwrap_or_default();
    assert!(error.to_string().contains(&source), "`{error}` says `{source}`");
    has::<T>(error);
}

#[test]
fn an_error_gives_the_one_inside_as_its_source() {
    let other_turn = Fault::OtherTurn { actual: "t".into(), error: rpc() };
    let stale = Fault::Stale { handle: 1, current: 2, cause: disconnect() };
    let lost = Fault::Disconnected { delivery: Delivery::Sent, cause: disconnect() };
    says::<RpcError>(call());
    has::<RpcError>(CallError::new("turn/steer", other_turn));
    says::<Disconnect>(CallError::new("model/list", stale));
    says::<Disconnect>(CallError::new("model/list", lost));

    says::<RpcError>(Disconnect::new(DisconnectReason::InitializeRefused(rpc()), None));
    says::<Disconnect>(ConnectError::Initialize(disconnect()));

    says::<CallError>(TurnError::Start(call()));
    says::<Disconnect>(TurnError::Lost { cause: disconnect(), report: result() });
    says::<InputError>(TurnError::Input(InputError::RemoteImage));

    says::<CallError>(SteerError::Call(call()));
    says::<InputError>(SteerError::Input(InputError::RemoteImage));

    says::<CallError>(ThreadError::Call(call()));
    says::<CallError>(ThreadError::Unsupported { thread: "T".into(), error: call() });
    for error in [
        ThreadError::ActiveWriter { thread: "T".into(), error: call() },
        ThreadError::Archived { thread: "T".into(), error: call() },
        ThreadError::NotFound { thread: "T".into(), error: call() },
        ThreadError::NotLoaded { thread: "T".into(), error: call() },
        ThreadError::NotMaterialized { thread: "T".into(), error: call() },
    ] {
        has::<CallError>(error);
    }

    says::<Disconnect>(AnswerError::Closed(AskEnd::Disconnected(disconnect())));
    says::<CallError>(RetryError::new(3, Duration::ZERO, GaveUp::Attempts, call()));
}

#[cfg(feature = "std")]
#[test]
fn what_kept_a_server_from_being_started_is_a_source() {
    use crate::launch::LaunchError;

    let launch = || LaunchError::NotFound { tried: Vec::new() };
    says::<LaunchError>(ConnectError::Launch(launch()));
    says::<LaunchError>(Disconnect::new(DisconnectReason::Launch(launch()), None));
}

#[cfg(feature = "client")]
#[test]
fn an_error_of_the_client_gives_the_one_inside_as_its_source() {
    use crate::client::{AccountError, LoginError, Mismatch, PageError, TypedError};

    says::<CallError>(AccountError::Call(call()));
    says::<RpcError>(AccountError::NeedsLogin(rpc()));
    says::<CallError>(LoginError::Call(call()));
    says::<Disconnect>(LoginError::Disconnected(disconnect()));
    says::<CallError>(PageError::Call(call()));
    says::<CallError>(PageError::InvalidCursor(call()));
    says::<Mismatch>(TypedError::Mismatch(mismatch()));
    says::<SchemaError>(TypedError::Schema(SchemaError { faults: Vec::new() }));
    says::<TurnError>(TypedError::Turn(TurnError::Start(call())));
}

#[cfg(feature = "client")]
fn mismatch() -> crate::client::Mismatch {
    result().decode::<bool>().expect_err("there is no answer")
}

#[test]
fn the_union_gives_the_error_that_it_is_made_of_as_its_source() {
    says::<AnswerError>(Error::Answer(AnswerError::AlreadyAnswered));
    says::<CallError>(Error::Call(call()));
    says::<ConfigValueError>(Error::ConfigValue(ConfigValueError::NoDateTime));
    says::<ConnectError>(Error::Connect(ConnectError::Wire("no pipe".into())));
    says::<DecodeError>(Error::Decode(protocol::decode::<bool>("1").expect_err("a number")));
    says::<Disconnect>(Error::Disconnected(disconnect()));
    says::<FormatError>(Error::Format(FormatError::Newer { format: 9 }));
    says::<InputError>(Error::Input(InputError::RemoteImage));
    says::<InputError>(Error::Other(Arc::new(InputError::RemoteImage)));
    says::<RetryError<Error>>(Error::from(RetryError::new(3, Duration::ZERO, GaveUp::Attempts, call())));
    says::<RpcError>(Error::Rpc(rpc()));
    says::<SchemaError>(Error::Schema(SchemaError { faults: Vec::new() }));
    says::<SteerError>(Error::Steer(SteerError::Ended));
    says::<ThreadError>(Error::Thread(ThreadError::Busy("T".into())));
    says::<TurnError>(Error::Turn(TurnError::Busy("T".into())));
    says::<UsageError>(Error::Usage(UsageError::NoSuchTurn));
    #[cfg(feature = "client")]
    {
        use crate::client::{AccountError, LoginError, Mismatch, PageError, ToolError, ToolFailure};

        says::<AccountError>(Error::Account(AccountError::NeedsLogin(rpc())));
        says::<LoginError>(Error::Login(LoginError::Cancelled));
        says::<Mismatch>(Error::Mismatch(mismatch()));
        says::<PageError>(Error::Page(PageError::CursorLoop { pages: 3 }));
        says::<ToolError>(Error::Tool(ToolError::Name("a b".into())));
        says::<ToolFailure>(Error::ToolFailure(ToolFailure::new("no")));
    }
}

#[test]
fn the_servers_refusal_is_found_by_walking_the_chain_of_any_error() {
    let error = Error::Turn(TurnError::Start(call()));
    let chain = core::iter::successors(error.source(), |&cause| cause.source());
    assert_eq!(chain.filter_map(|cause| cause.downcast_ref::<RpcError>()).count(), 1);
}

#[test]
fn the_union_answers_as_the_error_that_it_is_made_of() {
    let overloaded = || CallError::new("model/list", Fault::Rpc(RpcError::new(-32001, "Server overloaded")));
    let late = || {
        let (delivery, elapsed) = (Delivery::Sent, Duration::ZERO);
        CallError::new("model/list", Fault::TimedOut { delivery, elapsed, process: None })
    };
    let closed = || CallError::new("model/list", Fault::Disconnected { delivery: Delivery::Sent, cause: disconnect() });
    let retried = |gave_up, last: CallError| Error::from(RetryError::new(3, Duration::ZERO, gave_up, last));
    for (error, is_retryable, is_timeout, is_closed, may_have_effect) in [
        (retried(GaveUp::Attempts, overloaded()), true, false, false, false),
        (retried(GaveUp::Closed, overloaded()), true, false, true, false),
        (retried(GaveUp::NotRetryable, late()), false, true, false, true),
        (retried(GaveUp::NotRetryable, closed()), false, false, true, true),
        (RpcError::new(-32001, "Server overloaded").into(), true, false, false, false),
        (RpcError::new(-32603, "it broke").into(), false, false, false, true),
        (disconnect().into(), false, false, true, true),
        (InputError::RemoteImage.into(), false, false, false, false),
        (SchemaError { faults: Vec::new() }.into(), false, false, false, false),
    ] {
        assert_eq!(error.is_retryable(), is_retryable, "{error}");
        assert_eq!(error.is_timeout(), is_timeout, "{error}");
        assert_eq!(error.is_closed(), is_closed, "{error}");
        assert_eq!(Retry::may_have_effect(&error), may_have_effect, "{error}");
    }
    #[cfg(feature = "client")]
    {
        use crate::client::PageError;

        assert!(Error::from(PageError::Call(overloaded())).is_retryable());
        assert!(Error::from(PageError::Call(late())).is_timeout());
        assert!(Error::from(PageError::Call(closed())).is_closed());
        assert!(!Retry::may_have_effect(&Error::from(PageError::Call(late()))), "reading changes nothing");
        assert!(Retry::may_have_effect(&Error::from(mismatch())), "the turn ran");
    }
}

#[cfg(feature = "client")]
#[test]
fn a_typed_answers_error_is_that_of_its_turn_its_schema_or_its_answer() {
    use crate::client::TypedError;

    assert!(matches!(TypedError::Turn(TurnError::Busy("T".into())).into(), Error::Turn(TurnError::Busy(_))));
    assert!(matches!(TypedError::Schema(SchemaError { faults: Vec::new() }).into(), Error::Schema(_)));
    assert!(matches!(TypedError::Mismatch(mismatch()).into(), Error::Mismatch(_)));
}
