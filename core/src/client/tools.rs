//! Tools that the application offers the agent.

use super::answers::ToolCall;
use crate::{
    id::{ThreadId, TurnId},
    json::Json,
    protocol::{
        DynamicToolCallOutputContentItem, DynamicToolCallResponse, DynamicToolNamespaceTool, DynamicToolSpec,
        FunctionDynamicToolNamespaceTool, FunctionDynamicToolSpec, InputImageDynamicToolCallOutputContentItem,
        InputTextDynamicToolCallOutputContentItem, NamespaceDynamicToolSpec, ThreadStart,
    },
};
use serde::de::DeserializeOwned;
use std::{collections::BTreeMap, fmt, future::Future, pin::Pin, sync::Arc};

/// What a tool gave: texts and images, and whether it worked.
#[derive(Clone, Default, PartialEq)]
pub struct ToolOutput {
    items: Vec<DynamicToolCallOutputContentItem>,
    failed: bool,
}

impl ToolOutput {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// That the tool failed, with a text for the model.
    pub fn failure(message: impl Into<String>) -> Self {
        Self { failed: true, ..Self::new().text(message) }
    }

    /// Adds a text.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Self {
        let text = InputTextDynamicToolCallOutputContentItem::new(text);
        self.items.push(DynamicToolCallOutputContentItem::InputText(text));
        self
    }

    /// Adds an image: an address, or the image itself as a `data:` address.
    #[must_use]
    pub fn image(mut self, url: impl Into<String>) -> Self {
        let image = InputImageDynamicToolCallOutputContentItem::new(url);
        self.items.push(DynamicToolCallOutputContentItem::InputImage(image));
        self
    }

    /// Adds an item of any kind.
    #[must_use]
    pub fn item(mut self, item: DynamicToolCallOutputContentItem) -> Self {
        self.items.push(item);
        self
    }

    pub(crate) fn into_response(self) -> DynamicToolCallResponse {
        DynamicToolCallResponse::new(self.items, !self.failed)
    }
}

impl fmt::Debug for ToolOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToolOutput").field("items", &self.items.len()).field("failed", &self.failed).finish()
    }
}

impl From<&str> for ToolOutput {
    fn from(text: &str) -> Self {
        Self::new().text(text)
    }
}

impl From<String> for ToolOutput {
    fn from(text: String) -> Self {
        Self::new().text(text)
    }
}

/// What a tool is called with.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ToolArguments {
    /// The arguments, which the model wrote: they need not fit the schema.
    pub json: Json,
    /// The server's name for the call.
    pub call_id: String,
    /// The thread.
    pub thread_id: ThreadId,
    /// The turn.
    pub turn_id: TurnId,
}

impl ToolArguments {
    pub(crate) fn of(call: &ToolCall) -> Self {
        let params = call.params();
        Self {
            json: params.arguments.clone(),
            call_id: params.call_id.clone(),
            thread_id: params.thread_id.clone(),
            turn_id: params.turn_id.clone(),
        }
    }

    /// The arguments as a type.
    ///
    /// # Errors
    /// When they do not fit. A tool that passes this on as its own error tells the model what was wrong.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, ToolFailure> {
        self.json.decode().map_err(|error| ToolFailure::new(format!("the arguments do not fit: {error}")))
    }
}

/// A tool failed. The text is for the model.
#[derive(Clone, PartialEq, Eq)]
pub struct ToolFailure(String);

impl ToolFailure {
    /// A failure with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for ToolFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ToolFailure({} bytes)", self.0.len())
    }
}

impl fmt::Display for ToolFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ToolFailure {}

/// A tool cannot be offered: the server would refuse it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ToolError {
    /// Two tools have this name.
    Duplicate(String),
    /// A name must have 1 to 64 characters of `a-z`, `A-Z`, `0-9`, `_` and `-`.
    Name(String),
    /// The name is kept for the server's own use: it is `mcp`, or begins with `mcp__`.
    Reserved(String),
    /// The schema of the tool of this name is no JSON object.
    Schema(String),
}

impl fmt::Display for ToolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duplicate(name) => write!(f, "two tools are named `{name}`"),
            Self::Name(name) => {
                write!(f, "`{name}` is no name for a tool: it takes 1 to 64 letters, digits, `_` and `-`")
            }
            Self::Reserved(name) => write!(f, "the server keeps the name `{name}` for itself"),
            Self::Schema(name) => write!(f, "the schema of the tool `{name}` is no JSON object"),
        }
    }
}

impl std::error::Error for ToolError {}

pub(crate) type Running<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Run = Arc<dyn Fn(ToolArguments) -> Running<ToolOutput> + Send + Sync>;

/// A tool that the agent may call: a name, a description, the schema of its arguments, and what it does.
#[derive(Clone)]
#[must_use = "a tool is offered as one of some Tools"]
pub struct Tool {
    namespace: Option<(String, String)>,
    name: String,
    description: String,
    schema: Json,
    run: Run,
}

impl fmt::Debug for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tool").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Tool {
    /// A tool. The schema is a JSON schema of the arguments, an object. An error of `run` is given to the model as a failed
    /// result, with its text, and the turn goes on.
    pub fn new<F, Fut, O, E>(
        name: impl Into<String>,
        description: impl Into<String>,
        schema: impl Into<Json>,
        run: F,
    ) -> Self
    where
        F: Fn(ToolArguments) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, E>> + Send + 'static,
        O: Into<ToolOutput>,
        E: fmt::Display,
    {
        let run: Run = Arc::new(move |arguments| {
            let running = run(arguments);
            Box::pin(async move {
                match running.await {
                    Ok(output) => output.into(),
                    Err(error) => ToolOutput::failure(error.to_string()),
                }
            })
        });
        Self { namespace: None, name: name.into(), description: description.into(), schema: schema.into(), run }
    }

    /// A tool whose schema and arguments are a Rust type. Arguments that do not fit are answered with a failed result that
    /// says so, and `run` is not called.
    #[cfg(feature = "schemars")]
    pub fn typed<T, F, Fut, O, E>(name: impl Into<String>, description: impl Into<String>, run: F) -> Self
    where
        T: schemars::JsonSchema + DeserializeOwned + Send + 'static,
        F: Fn(T) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, E>> + Send + 'static,
        O: Into<ToolOutput> + Send + 'static,
        E: fmt::Display + Send + 'static,
    {
        let run = Arc::new(run);
        let schema = Json::from(schemars::schema_for!(T).to_value());
        Self::new(name, description, schema, move |arguments: ToolArguments| {
            let run = Arc::clone(&run);
            async move {
                let running = match arguments.decode::<T>() {
                    Ok(arguments) => run(arguments),
                    Err(error) => return Err(error),
                };
                drop(arguments);
                running.await.map(Into::<ToolOutput>::into).map_err(|error| ToolFailure::new(error.to_string()))
            }
        })
    }

    /// Puts the tool into a namespace, with a description of that. The first description of a namespace counts.
    pub fn namespace(mut self, name: impl Into<String>, description: impl Into<String>) -> Self {
        self.namespace = Some((name.into(), description.into()));
        self
    }

    /// The tool's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Tools that are offered together: to threads, with [`ThreadStart::tools`], and answered with
/// [`Handlers::tools`](super::Handlers::tools).
#[derive(Clone, Debug, Default)]
pub struct Tools {
    tools: Arc<BTreeMap<(Option<String>, String), Tool>>,
}

impl Tools {
    /// Some tools.
    ///
    /// # Errors
    /// When the server would refuse one of them for its name or its schema.
    pub fn new(tools: impl IntoIterator<Item: Into<Tool>>) -> Result<Self, ToolError> {
        let mut known = BTreeMap::new();
        for tool in tools {
            let tool: Tool = tool.into();
            check_name(&tool.name)?;
            if let Some((namespace, _)) = &tool.namespace {
                check_name(namespace)?;
            }
            if !tool.schema.as_str().starts_with('{') {
                return Err(ToolError::Schema(tool.name));
            }
            let name = (tool.namespace.as_ref().map(|(name, _)| name.clone()), tool.name.clone());
            if known.contains_key(&name) {
                return Err(ToolError::Duplicate(tool.name));
            }
            known.insert(name, tool);
        }
        Ok(Self { tools: Arc::new(known) })
    }

    /// As `thread/start` takes them.
    #[must_use]
    pub fn specs(&self) -> Vec<DynamicToolSpec> {
        let mut specs = Vec::new();
        let mut namespaces: BTreeMap<&str, (&str, Vec<DynamicToolNamespaceTool>)> = BTreeMap::new();
        for Tool { namespace, name, description, schema, .. } in self.tools.values() {
            match namespace {
                None => {
                    let spec = FunctionDynamicToolSpec::new(name.clone(), description.clone(), schema.clone());
                    specs.push(DynamicToolSpec::Function(spec));
                }
                Some((namespace, about)) => {
                    let tool = FunctionDynamicToolNamespaceTool::new(name.clone(), description.clone(), schema.clone());
                    let entry = namespaces.entry(namespace).or_insert((about, Vec::new()));
                    entry.1.push(DynamicToolNamespaceTool::Function(tool));
                }
            }
        }
        let namespaces = namespaces.into_iter().map(|(name, (description, tools))| {
            DynamicToolSpec::Namespace(NamespaceDynamicToolSpec::new(name, description, tools))
        });
        specs.extend(namespaces);
        specs
    }

    /// Runs a call. An unknown tool is a failed result.
    pub(crate) fn run(&self, call: &ToolCall) -> Running<ToolOutput> {
        let name = (call.namespace().map(String::from), call.tool().to_owned());
        match self.tools.get(&name) {
            Some(tool) => (tool.run)(ToolArguments::of(call)),
            None => {
                let output = ToolOutput::failure(format!("This client has no tool `{}`.", call.tool()));
                Box::pin(std::future::ready(output))
            }
        }
    }
}

impl ThreadStart {
    /// Offers these tools to the agent (`dynamicTools`, experimental). They stay with the thread, and with what is resumed or
    /// forked from it.
    #[must_use]
    pub fn tools(self, tools: &Tools) -> Self {
        self.dynamic_tools(tools.specs())
    }
}

/// The rules of the server.
fn check_name(name: &str) -> Result<(), ToolError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if name.is_empty() || name.len() > 64 || !name.bytes().all(fits) {
        return Err(ToolError::Name(name.into()));
    }
    if name == "mcp" || name.starts_with("mcp__") {
        return Err(ToolError::Reserved(name.into()));
    }
    Ok(())
}
