//! Tools that the application offers the agent, in plain closures.

use super::handlers::off_thread;
use std::{fmt, sync::Arc};
use turnwire_core::{
    client::{self, ToolArguments, ToolFailure, ToolOutput},
    json::Json,
};

pub use turnwire_core::client::Tools;

/// A tool that the agent may call. See [`turnwire_core::client::Tool`]; here it is a plain closure that may block, and each
/// call runs on a thread of its own.
#[derive(Clone, Debug)]
#[must_use = "a tool is offered as one of some Tools"]
pub struct Tool {
    inner: client::Tool,
}

impl Tool {
    /// A tool. The schema is a JSON schema of the arguments, an object. An error of `run` is given to the model as a failed
    /// result, with its text, and the turn goes on.
    pub fn new<F, O, E>(
        name: impl Into<String>,
        description: impl Into<String>,
        schema: impl Into<Json>,
        run: F,
    ) -> Self
    where
        F: Fn(ToolArguments) -> Result<O, E> + Send + Sync + 'static,
        O: Into<ToolOutput> + 'static,
        E: fmt::Display + 'static,
    {
        let run = Arc::new(run);
        let inner = client::Tool::new(name, description, schema, move |arguments| {
            let run = Arc::clone(&run);
            output_of(move || run(arguments))
        });
        Self { inner }
    }

    /// A tool whose schema and arguments are a Rust type. Arguments that do not fit are answered with a failed result that
    /// says so, and `run` is not called.
    #[cfg(feature = "schemars")]
    pub fn typed<T, F, O, E>(name: impl Into<String>, description: impl Into<String>, run: F) -> Self
    where
        T: schemars::JsonSchema + serde::de::DeserializeOwned + Send + 'static,
        F: Fn(T) -> Result<O, E> + Send + Sync + 'static,
        O: Into<ToolOutput> + 'static,
        E: fmt::Display + 'static,
    {
        let run = Arc::new(run);
        let inner = client::Tool::typed(name, description, move |arguments: T| {
            let run = Arc::clone(&run);
            output_of(move || run(arguments))
        });
        Self { inner }
    }

    /// Puts the tool into a namespace, with a description of that. The first description of a namespace counts.
    pub fn namespace(self, name: impl Into<String>, description: impl Into<String>) -> Self {
        Self { inner: self.inner.namespace(name, description) }
    }

    /// The tool's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.inner.name()
    }
}

impl From<Tool> for client::Tool {
    fn from(tool: Tool) -> Self {
        tool.inner
    }
}

fn output_of<O, E>(
    run: impl FnOnce() -> Result<O, E> + Send + 'static,
) -> impl Future<Output = Result<ToolOutput, ToolFailure>> + Send
where
    O: Into<ToolOutput> + 'static,
    E: fmt::Display + 'static,
{
    let output = off_thread(move || match run() {
        Ok(output) => Ok(output.into()),
        Err(error) => Err(ToolFailure::new(error.to_string())),
    });
    async move { output.await.unwrap_or_else(|_| Err(ToolFailure::new("the tool failed"))) }
}
