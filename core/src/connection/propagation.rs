//! Trace contexts in requests.

use super::Connection;
use alloc::{boxed::Box, string::String};
use core::fmt;
use serde::Serialize;

/// A W3C trace context: the member `trace` of a request, by which a server that traces continues the caller's trace.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TraceContext {
    /// `traceparent`: version, trace id, parent id and flags.
    pub traceparent: String,
    /// `tracestate`: what systems that trace have to say to each other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracestate: Option<String>,
}

impl TraceContext {
    /// The context with this `traceparent`, such as `00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01`. It is not checked.
    #[must_use]
    pub fn new(traceparent: impl Into<String>) -> Self {
        Self { traceparent: traceparent.into(), tracestate: None }
    }

    /// Sets `tracestate`.
    #[must_use]
    pub fn tracestate(mut self, tracestate: impl Into<String>) -> Self {
        self.tracestate = Some(tracestate.into());
        self
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceContext").field("traceparent", &self.traceparent).finish_non_exhaustive()
    }
}

impl Connection {
    /// Sets the trace context that requests made from now on carry. `None`, which it is at first: they carry none.
    pub fn set_trace_context(&mut self, context: Option<TraceContext>) {
        self.requests.trace = context.map(Box::new);
    }
}
